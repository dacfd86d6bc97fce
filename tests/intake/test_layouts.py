"""The three layouts, found by themselves, and what a description may say."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairvlm_core.errors import InputError
from fairvlm_core.intake import Description, find_layout
from fairvlm_core.pairs import PairTable

CXR = Path(__file__).resolve().parents[3] / "shared" / "data" / "cxr"
needs_cxr = pytest.mark.skipif(not CXR.is_dir(), reason="the public chest X-ray sample is not beside the checkout")


# manifest ----------------------------------------------------------------------------------------------------------
def test_manifest(manifest, rows):
    folder = manifest(rows)
    assert find_layout(folder).kind == "manifest"
    table = PairTable.read(folder)
    assert (len(table), table.attributes, table.info.name) == (40, ("race",), "data")
    assert list(table.frame.columns) == ["pair_id", "patient_id", "split", "label", "text", "image", "race"]
    assert isinstance(table.frame.index, pd.RangeIndex)
    assert table.labels.dtype == np.int8
    assert table.labels.tolist() == [i % 2 for i in range(40)]
    assert table.frame["split"].value_counts().to_dict() == {"train": 28, "test": 8, "val": 4}
    assert table.image(7).getpixel((0, 0)) == (35, 35, 35)
    assert table.report.images["formats"] == {"PNG": 40}


def test_parquet_and_csv_manifests_are_the_same_table(manifest, rows):
    folder = manifest(rows)
    from_csv = PairTable.read(folder)
    pd.DataFrame(rows).astype({"label": int}).to_parquet(folder / "manifest.parquet")
    with pytest.raises(InputError, match=r"both manifest\.csv and manifest\.parquet"):
        PairTable.read(folder)
    (folder / "manifest.csv").unlink()
    assert PairTable.read(folder).fingerprint == from_csv.fingerprint


def test_words_for_splits_and_labels(manifest, rows):
    words = {
        "train": ["Training", "train", "TRAIN "],
        "val": ["valid", "Validation", "dev"],
        "test": ["testing", "Test", "test"],
    }
    for i, row in enumerate(rows):
        row["split"] = words[row["split"]][i % 3]
        row["label"] = [["0", "0.0", "False", "false"], ["1", "1.0", "True", "TRUE"]][i % 2][i // 2 % 4]
    table = PairTable.read(manifest(rows))
    assert table.frame["split"].value_counts().to_dict() == {"train": 28, "test": 8, "val": 4}
    assert table.labels.tolist() == [i % 2 for i in range(40)]


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("label", "2", r"row 6, column label: the label is '2'; write 0 or 1"),
        ("label", "", r"row 6, column label: the label is ''; write 0 or 1"),
        ("label", "0.5", r"row 6, column label: the label is '0\.5'"),
        ("split", "holdout", r"row 6, column split: the split is 'holdout'; write train, val or test"),
        ("split", "", r"row 6, column split: the split is ''"),
        ("pair_id", " ", r"row 6, column pair_id: the pair_id is empty"),
        ("pair_id", "a\tb", r"row 6, column pair_id: the pair_id holds control characters"),
        ("pair_id", "x" * 300, r"row 6, column pair_id: the pair_id is longer than 200"),
    ],
)
def test_a_wrong_cell_is_named(manifest, rows, column, cell, message):
    rows[4][column] = cell
    with pytest.raises(InputError, match=rf"^manifest\.csv {message}"):
        PairTable.read(manifest(rows))


def test_which_columns_become_attributes(manifest, rows):
    for i, row in enumerate(rows):
        row |= {
            "visit": f"v{i}",
            "empty": "",
            "site": "A",
            "weight": "1",
            "score_band": str(i % 3),
            "code": str(i % 39),
        }
    table = PairTable.read(manifest(rows))
    assert table.attributes == ("race", "site", "score_band", "code")
    left_out = table.report.columns_left_out
    assert left_out["visit"] == "every value is different"
    assert left_out["empty"] == "it is empty"
    assert "fairvlm's own results" in left_out["weight"]
    assert "attribute site has one group only (A)" in table.report.to_dict()["warnings"]
    assert any(line.startswith("many different numbers in code") for line in table.report.to_dict()["warnings"])
    chosen = PairTable.read(manifest(rows, description={"attributes": ["score_band"]}))
    assert chosen.attributes == ("score_band",)
    assert list(chosen.frame["score_band"].cat.categories) == ["0", "1", "2"]
    with pytest.raises(InputError, match="attribute 'weight' cannot be used"):
        PairTable.read(manifest(rows, description={"attributes": ["weight"]}))


def test_more_than_fifty_groups():
    frame = pd.DataFrame(
        {
            "pair_id": range(200),
            "text": "x",
            "label": [0, 1] * 100,
            "split": "train",
            "age": [i % 60 for i in range(200)],
        }
    )
    assert PairTable.from_frame(frame).report.columns_left_out == {
        "age": 'it has 60 different values, more than 50; with bands it can be one, as with "bins": [20, 30, 40]'
    }
    with pytest.raises(InputError, match="attribute 'age' has 60 groups"):
        PairTable.from_frame(frame, attributes=["age"])


# fairvlmed ---------------------------------------------------------------------------------------------------------
def test_fairvlmed(fairvlmed):
    folder = fairvlmed()
    assert find_layout(folder).kind == "fairvlmed"
    table = PairTable.read(folder)
    assert table.attributes == ("race", "gender", "ethnicity", "language")
    assert table.frame["split"].value_counts().to_dict() == {"train": 14, "test": 6, "val": 4}
    assert table.frame["text"].iloc[5] == "short note 5"
    assert table.frame["image"].iloc[0] == "Training/data_00000.npz"
    assert table.pair_ids[0] == "data_00000"
    assert table.info.patient_source == "pair"
    assert table.info.note_source == "summarized"
    assert table.image(9).size == (51, 66)
    assert table.image(9).getpixel((0, 0)) == (9, 9, 9)
    assert not any("data_summary" in line for line in table.report.to_dict()["warnings"])
    assert table.report.images["sizes"] == {"51x66": 24}


def test_fairvlmed_notes_come_from_where_one_asks(fairvlmed):
    folder = fairvlmed()
    texts = {
        source: PairTable.read(folder, description={"note_source": source}).frame["text"].iloc[3]
        for source in ("summarized", "original", "npz")
    }
    assert texts == {"summarized": "short note 3", "original": "original: short note 3", "npz": "long note 3"}
    (folder / "gpt-4_summarized_notes.csv").unlink()
    assert PairTable.read(folder).info.note_source == "original"
    with pytest.raises(InputError, match=r"gpt-4_summarized_notes\.csv: the file is missing"):
        PairTable.read(folder, description={"note_source": "summarized"})
    (folder / "original_notes.csv").unlink()
    assert PairTable.read(folder).info.note_source == "npz"


def test_fairvlmed_disagreements_are_reported(fairvlmed):
    folder = fairvlmed()
    (folder / "Test").rename(folder / "Testing")
    (folder / "Training" / "data_00000.npz").rename(folder / "Testing" / "data_00000.npz")
    (folder / "Training" / "data_00001.npz").unlink()
    lines = (
        (folder / "data_summary.csv").read_text().replace("data_00005.npz,training,yes", "data_00005.npz,training,no")
    )
    (folder / "data_summary.csv").write_text(lines)
    notes = (folder / "gpt-4_summarized_notes.csv").read_text().splitlines()
    (folder / "gpt-4_summarized_notes.csv").write_text(
        "\n".join(line for line in notes if "data_00007" not in line) + "\n"
    )
    table = PairTable.read(folder)
    said = " | ".join(table.report.to_dict()["warnings"])
    assert "files in another folder than data_summary.csv says: 1" in said
    assert "files with another label than data_summary.csv says: 1" in said
    assert "rows of data_summary.csv without a file: 1" in said
    assert [r["file"] for r in table.report.left_out] == ["Training/data_00007.npz"]
    assert (table.frame.set_index("pair_id").loc["data_00000", "split"], table.labels[4]) == ("test", 0)


def test_fairvlmed_patients_and_further_fields(fairvlmed):
    folder = fairvlmed(maritalstatus=np.array(2))
    frame = pd.read_csv(folder / "data_summary.csv")
    frame["patient_id"] = [f"q{i // 2}" for i in range(24)]
    frame.to_csv(folder / "data_summary.csv", index=False)
    table = PairTable.read(folder)
    assert table.report.n_patients == 12
    bands = {"race": {"column": "race"}, "age_band": {"column": "age", "bins": [65, 75]}}
    described = PairTable.read(folder, description={"attributes": bands})
    assert described.attribute("age_band")[[0, 5, 23]].tolist() == ["<65", "65-74", "75+"]
    assert PairTable.read(folder, description={"attributes": ["maritalstatus"]}).attribute("maritalstatus")[0] == "2"


def test_fairvlmed_images_are_not_held(fairvlmed, monkeypatch):
    """Reading touches headers and checksums of images, never their arrays."""
    from fairvlm_core.intake.npz import NpzFile

    read = []
    array = NpzFile.array
    monkeypatch.setattr(NpzFile, "array", lambda self, name, **k: read.append(name) or array(self, name, **k))
    PairTable.read(fairvlmed())
    assert "slo_fundus" not in read
    assert "glaucoma" in read


def test_fairvlmed_notes_in_the_summary(fairvlmed):
    """As the set is published: data_summary.csv alone, with columns note and gpt4_summary."""
    folder = fairvlmed()
    for name in ("gpt-4_summarized_notes.csv", "original_notes.csv"):
        (folder / name).unlink()
    rows = list(csv.DictReader((folder / "data_summary.csv").read_text(encoding="utf-8").splitlines()))
    for i, row in enumerate(rows):
        row |= {"note": f"original, with a comma {i}", "gpt4_summary": f"summary {i}"}
    with (folder / "data_summary.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = PairTable.read(folder)
    assert (table.info.note_source, table.frame["text"].iloc[3]) == ("summarized", "summary 3")
    original = PairTable.read(folder, description={"note_source": "original"})
    assert original.frame["text"].iloc[3] == "original, with a comma 3"
    rows.pop(3)
    with (folder / "data_summary.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = PairTable.read(folder)
    assert len(table) == 23
    assert "1 of 24 files have no note in data_summary.csv" in table.report.to_dict()["warnings"]


# foreign -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def foreign(tmp_path):
    folder = tmp_path / "foreign"
    (folder / "pics").mkdir(parents=True)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "file", "report", "diagnosis", "Sex", "years"])
        for i in range(30):
            diagnosis = ["Effusion, oedema", "clear", "EFFUSION", "healthy", ""][i % 5]
            writer.writerow(
                [
                    f"s{i // 2}",
                    f"{i % 28}.png",
                    f"Report {i}",
                    diagnosis,
                    "MFX"[i % 3],
                    ["", "39", "40", "old", "75.5"][i % 5],
                ]
            )
    return folder


DESCRIPTION = {
    "schema": 1,
    "name": "Cases",
    "table": "cases.csv",
    "images": "pics",
    "prompts": ["no effusion", "effusion"],
    "columns": {"image": "file", "text": "report", "label": "diagnosis", "patient_id": "subject"},
    "label": {"contains": "effusion"},
    "attributes": {
        "sex": {"column": "Sex", "names": {"M": "Male", "F": "Female"}, "unknown": ["x"]},
        "age_band": {"column": "years", "bins": [40, 60, 75]},
    },
    "splits": {"train": 0.5, "val": 0.25, "test": 0.25},
}


@pytest.mark.parametrize("way", ["in the folder", "mapping", "path", "object"])
def test_foreign(foreign, tmp_path, way):
    given = None
    if way == "in the folder":
        (foreign / "dataset.json").write_text(json.dumps(DESCRIPTION))
    elif way == "path":
        given = tmp_path / "elsewhere.json"
        given.write_text(json.dumps(DESCRIPTION))
    else:
        given = DESCRIPTION if way == "mapping" else Description.model_validate(DESCRIPTION)
    table = PairTable.read(foreign, description=given, check_images=False)
    assert (table.info.layout, table.info.name, table.info.prompts) == ("foreign", "Cases", ("no effusion", "effusion"))
    assert len(table) == 24  # every fifth row has no diagnosis
    assert {(r["row"], r["reason"]) for r in table.report.left_out} == {(6 + 5 * i, "no label") for i in range(6)}
    assert table.labels[:4].tolist() == [1, 0, 1, 0]
    assert list(table.frame["sex"].cat.categories) == ["Male", "Female", "Unknown"]
    assert list(table.frame["age_band"].cat.categories) == ["<40", "40-59", "Unknown"]
    assert "attribute age_band: 6 cells are no number and count as Unknown" in table.report.to_dict()["warnings"]
    assert table.frame["image"].iloc[0] == "pics/0.png"
    assert table.pair_ids[[0, 1]].tolist() == ["0~s0", "1~s0"]
    assert len(set(table.pair_ids)) == 24
    assert (table.frame.groupby("patient_id")["split"].nunique() == 1).all()


def test_label_rules(foreign):
    def labels(rule: dict) -> list[int]:
        return (
            PairTable.read(foreign, description=DESCRIPTION | {"label": rule}, check_images=False).labels[:4].tolist()
        )

    assert labels({"positive": ["Effusion, oedema"]}) == [1, 0, 0, 0]
    assert labels({"positive": ["effusion", "clear"]}) == [0, 1, 1, 0]
    assert labels({"contains": "EFF"}) == [1, 0, 1, 0]
    with pytest.raises(
        InputError, match=r"cases\.csv row 2, column diagnosis: the label is 'Effusion, oedema'; list it"
    ):
        labels({"positive": ["effusion"], "negative": ["clear", "healthy"]})


COMPOSED = "{diagnosis}[ of a {Sex}], {years} years old"


def test_notes_composed_from_columns(foreign):
    def read(**change) -> PairTable:
        return PairTable.read(foreign, description=DESCRIPTION | change, check_images=False)

    columns = DESCRIPTION["columns"] | {"text": COMPOSED}
    names = {"Sex": {"M": "man", "F": "woman", "X": ""}, "diagnosis": {"clear": "nothing found"}}
    table = read(columns=columns, names=names, attributes={"sex": "Sex"})
    assert table.frame["text"][:4].tolist() == [
        "Effusion, oedema of a man",  # no age
        "nothing found of a woman, 39 years old",
        "EFFUSION, 40 years old",
        "healthy of a man, old years old",
    ]
    # Names stand for an attribute of the column too; a column that is not there is named.
    assert table.attribute("sex")[:3].tolist() == ["man", "woman", "X"]
    joined = read(columns=columns | {"text": ["report", "{Sex}", "years"]}, names=names)
    assert joined.frame["text"][:3].tolist() == ["Report 0. man", "Report 1. woman. 39", "Report 2. 40"]
    with pytest.raises(InputError, match=r'cases\.csv: "text" of "columns": no column \'site\''):
        read(columns=columns | {"text": "{diagnosis}, on the {site}"})
    with pytest.raises(InputError, match=r'entry "columns\.text.*": a brace'):
        read(columns=columns | {"text": "{diagnosis}, on the {site"})
    pictures = read(columns=columns | {"image": "{subject}.png"})
    assert pictures.frame["image"][:2].tolist() == ["pics/s0.png", "pics/s0.png"]


def test_a_column_of_a_composed_note_stays_an_attribute(manifest, rows):
    table = PairTable.read(manifest(rows, description={"columns": {"text": "{text} {race}"}}), check_images=False)
    assert table.frame["text"][2] == "Note 2, cup-to-disc ratio 0.2. White"
    assert table.attributes == ("race",)


def test_notes_in_files(foreign):
    (foreign / "reports" / "deep").mkdir(parents=True)
    (foreign / "reports" / "0.txt").write_text("Report of the first\n", encoding="utf-8-sig")
    (foreign / "reports" / "1.txt").write_text("")
    (foreign / "reports" / "s1.txt").write_text("Of the second patient")
    columns = {name: column for name, column in DESCRIPTION["columns"].items() if name != "text"}
    described = DESCRIPTION | {"notes": "reports", "columns": columns}
    table = PairTable.read(foreign, description=described, check_images=False)
    assert table.frame["text"].unique().tolist() == ["Report of the first"]
    assert sum(r["reason"] == "empty note" for r in table.report.left_out) == 22
    by_patient = described | {"columns": columns | {"text": "{subject}"}}
    assert PairTable.read(foreign, description=by_patient, check_images=False).frame["image"].tolist() == [
        "pics/2.png", "pics/3.png",
    ]  # fmt: skip
    (foreign / "reports" / "s2.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"row 6, column text: the note file is not UTF-8"):
        PairTable.read(foreign, description=by_patient, check_images=False)
    with pytest.raises(InputError, match=r"row 2, column text: .*climbs out"):
        PairTable.read(foreign, description=described | {"columns": columns | {"text": "../{subject}"}})


def test_several_prompts_a_class(foreign):
    def read(prompts: list) -> PairTable:
        return PairTable.read(foreign, description=DESCRIPTION | {"prompts": prompts}, check_images=False)

    table = read(["no effusion", ["effusion", "fluid"]])
    assert table.info.class_prompts == (("no effusion",), ("effusion", "fluid"))
    assert table.info.prompts == ("no effusion", "effusion")
    assert read(["no effusion", "effusion"]).fingerprint == read([["no effusion"], ["effusion"]]).fingerprint
    assert read(["no effusion", "effusion"]).fingerprint != table.fingerprint
    with pytest.raises(InputError, match='entry "prompts'):
        read(["no effusion", []])


def test_a_label_column_in_the_rule_and_cells_to_leave_out(foreign):
    columns = {name: column for name, column in DESCRIPTION["columns"].items() if name != "label"}

    def read(rule: dict, **more) -> PairTable:
        described = DESCRIPTION | {"columns": columns, "label": rule} | more
        return PairTable.read(foreign, description=described, check_images=False)

    table = read({"column": "diagnosis", "positive": ["EFFUSION"], "left_out": ["clear"]})
    assert (len(table), table.labels[:3].tolist()) == (18, [0, 1, 0])
    with pytest.raises(InputError, match=r"column diagnosis: the label is 'Effusion, oedema'; "):
        read({"column": "diagnosis"})
    with pytest.raises(InputError, match='names another column than "columns"'):
        read({"column": "diagnosis"}, columns=columns | {"label": "Sex"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, 'entry "colour": not known'),
        ({"schema": 2}, "schema 2 is newer"),
        ({"schema": "one"}, 'entry "schema"'),
        ({"prompts": ["one"]}, 'entry "prompts'),
        ({"label": {}}, 'entry "label": give either "contains" or'),
        ({"label": {"contains": "x", "positive": ["y"]}}, 'entry "label": give either'),
        ({"attributes": {"age": {"column": "years", "bins": [60, 40]}}}, 'entry "attributes.*bins'),
        ({"attributes": {"age": {"column": "years", "bins": [40], "names": {}}}}, 'give "names" or "bins"'),
        ({"attributes": {"split": "Sex"}}, "attribute 'split' has the name of a column of every table"),
        ({"attributes": {"sex": "gender"}}, r"cases\.csv: no column 'gender' for attribute 'sex'"),
        ({"columns": {"image": "picture"}}, r"cases\.csv: no column 'picture' \(the image\)"),
        ({"table": "nothing.csv"}, r"nothing\.csv: the table is missing"),
        ({"splits": {"train": 0.9, "test": 0.2}}, 'entry "splits": shares must'),
    ],
)
def test_a_wrong_description_names_the_entry(foreign, change, message):
    with pytest.raises(InputError, match=message) as error:
        PairTable.read(foreign, description=DESCRIPTION | change, check_images=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", r"^dataset\.json line 1: not valid JSON"),
        (b"", r"^dataset\.json: the file is empty"),
        (b"[1]", r"^dataset\.json: an object \{\.\.\.\} is expected, not list"),
        (b"\xff\xfe{", r"^dataset\.json: not UTF-8"),
        (b'{"name": "a", "name": "b"}', r"^dataset\.json: not valid JSON \(entry 'name' is given twice\)"),
        (b"[" * 100_000, r"^dataset\.json"),
    ],
)
def test_a_malformed_description_file(manifest, rows, text, message):
    folder = manifest(rows)
    (folder / "dataset.json").write_bytes(text)
    with pytest.raises(InputError, match=message) as error:
        PairTable.read(folder)
    assert "\n" not in str(error.value)


# none --------------------------------------------------------------------------------------------------------------
def test_no_folder_or_nothing_known(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for path, message in (("missing", "does not exist"), ("file", "is a file"), ("empty", "no data of a known layout")):
        with pytest.raises(InputError, match=rf"^folder: .*{message}"):
            PairTable.read(tmp_path / path)
    for path in ("a\0b", None, 3):
        with pytest.raises(InputError, match=r"^folder: "):
            PairTable.read(path)


@pytest.mark.parametrize(
    ("setting", "value"), [("seed", -1), ("seed", 1.5), ("max_refused_share", 2), ("max_refused_share", "x")]
)
def test_settings_are_checked(manifest, rows, setting, value):
    with pytest.raises(InputError, match=f"^{setting}: "):
        PairTable.read(manifest(rows), **{setting: value})


def test_the_example_in_the_documentation_is_read():
    text = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", text, flags=re.S)
    assert len(examples) == 1
    described = Description.model_validate_json(examples[0])
    assert described.attributes["age_band"].bins == (40, 60, 75)
    entries = {field.alias or name for name, field in Description.model_fields.items()}
    assert entries == set(
        re.findall(r"^\| `(\w+)` \|", text.split("entry by entry")[1].split("**Templates**")[0], flags=re.M)
    )


# the public chest X-ray collection ---------------------------------------------------------------------------------
@needs_cxr
def test_the_chest_xray_collection_comes_in_with_no_option():
    with (CXR / "metadata.csv").open(encoding="utf-8", newline="") as file:
        metadata = list(csv.DictReader(file))
    table = PairTable.read(CXR)
    assert table.info.description == "built in: covid-chestxray"
    assert len(table) == len(metadata) == 141
    assert table.report.refused == table.report.left_out == []
    assert table.labels.tolist() == [int("COVID-19" in row["finding"]) for row in metadata]
    assert table.frame["text"].tolist() == [row["clinical_notes"] for row in metadata]
    sex = {"M": "Male", "F": "Female", "": "Unknown"}
    assert table.attribute("sex").tolist() == [sex[row["sex"]] for row in metadata]
    old = [row["age"] != "" and float(row["age"]) >= 75 for row in metadata]
    assert (table.attribute("age_band") == "75+").tolist() == old
    assert len(set(table.pair_ids)) == 141
    assert table.image(0).mode == "RGB"
    assert "COVID-19" in table.info.prompts[1]


@needs_cxr
@pytest.mark.parametrize("seed", range(4))
def test_the_chest_xray_splits_hold_patients_and_shared_pictures_together(seed):
    table = PairTable.read(CXR, seed=seed, check_images=False)
    frame = table.frame
    assert (frame.groupby("patient_id")["split"].nunique() == 1).all()
    # Two pictures stand under two patient ids (287 and 340): one person, who must not be on both sides.
    assert (frame.groupby("image")["split"].nunique() == 1).all()
    assert frame["image"].duplicated().sum() == 2
    assert (frame.groupby("split", observed=False)["label"].nunique() == 2).all()
    share = frame["split"].value_counts(normalize=True)
    assert np.allclose([share["train"], share["val"], share["test"]], [0.7, 0.1, 0.2], atol=0.06)
