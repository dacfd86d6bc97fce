"""What cells mean is the same everywhere: missing values, patients, codes, ages, labels, odd columns."""

from __future__ import annotations

import json
import math
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from fairvlm_core import FairnessReport, InputError, PairTable, bands
from fairvlm_core.cells import MISSING, is_missing, number
from fairvlm_core.errors import DataWarning
from fairvlm_core.intake.warning import WarningKind

SAID = [
    "",
    " ",
    "-1",
    "-1.0",
    "nan",
    "NaN",
    "None",
    "null",
    "NULL",
    "<NA>",
    "NA",
    "N/A",
    "unk",
    "UNK",
    "Unknown",
    "?",
    "-",
]


def kinds(table):
    return {warning.kind for warning in table.report.warnings}


def said(table, kind):
    (warning,) = [warning for warning in table.report.warnings if warning.kind is kind]
    return str(warning)


@pytest.mark.parametrize("cell", SAID)
def test_a_missing_cell_is_missing_in_every_role(manifest, rows, cell):
    for row in rows[:2]:
        row |= {"race": cell, "patient_id": cell}
    rows[2]["text"] = cell
    table = PairTable.read(manifest(rows), check_images=False)
    assert is_missing(cell)
    assert len(table) == 39
    assert table.report.left_out == [{"row": 4, "pair_id": "p002", "reason": "empty note"}]
    assert table.attribute("race")[:2].tolist() == ["Unknown", "Unknown"]
    assert table.frame["patient_id"].nunique() == 39
    assert WarningKind.NO_PATIENT in kinds(table)
    described = {"label": {"positive": ["yes"]}}
    for i, row in enumerate(rows):
        row["label"] = cell if i == 3 else "yes" if i % 2 else "healthy"
    table = PairTable.read(manifest(rows, description=described), check_images=False)
    assert {"row": 5, "pair_id": "p003", "reason": "no label"} in table.report.left_out
    label, score = [0, 1] * 4, [0.1, 0.8, 0.7, 0.4, 0.2, 0.9, 0.3, 0.6]
    groups = ["a", "b", cell, cell, "a", "b", "a", "b"]
    with pytest.warns(DataWarning, match="4 rows have no id; each counts as a patient of its own"):
        report = FairnessReport.from_predictions(
            label, score, {"g": groups}, patients=[cell] * 4 + list("wxyz"), n_resamples=0, n_permutations=0
        )
    assert report["g"].groups["Unknown"].n == 2
    assert report.overall.n_patients == 8


def test_a_word_that_a_rule_names_is_not_missing(manifest, rows):
    for i, row in enumerate(rows):
        row |= {"race": ("NA", "EU")[i // 2 % 2], "label": ("none", "glaucoma")[i % 2]}
    described = {
        "attributes": {"region": {"column": "race", "names": {"NA": "North America", "EU": "Europe"}}},
        "label": {"positive": ["glaucoma"], "negative": ["none"]},
    }
    table = PairTable.read(manifest(rows, description=described), check_images=False)
    assert set(table.attribute("region")) == {"North America", "Europe"}
    assert table.labels[:4].tolist() == [0, 1, 0, 1]
    described["label"] = {"positive": ["glaucoma"]}
    table = PairTable.read(manifest(rows, description=described), check_images=False)
    assert len(table) == 20  # without a rule for it, "none" is no label
    assert '"negative": ["none"]' in said(table, WarningKind.LABEL_NONE)


def test_a_group_cannot_have_a_name_that_means_missing(manifest, rows):
    described = {"attributes": {"race": {"column": "race", "names": {"Black": "None"}}}}
    with pytest.raises(InputError, match="the name 'None' would count as missing"):
        PairTable.read(manifest(rows, description=described), check_images=False)


def test_codes_written_as_floats_are_one_group_everywhere(manifest, rows):
    for i, row in enumerate(rows):
        row["race"] = ("1", "2")[i // 2 % 2] + ("" if i < 20 else ".0")
        row["label"] = ("0", "1.0", "0.0", "1", "False", "True", "FALSE", "true")[i % 8]
    table = PairTable.read(manifest(rows), check_images=False)
    assert list(table.frame["race"].cat.categories) == ["1", "2"]
    assert table.labels[:8].tolist() == [0, 1] * 4
    report = FairnessReport.from_predictions(
        table.frame["label"].map({0: "False", 1: "True"}), np.linspace(0, 1, 40), {"race": [row["race"] for row in rows]},
        n_resamples=0, n_permutations=0,
    )  # fmt: skip
    assert list(report["race"].groups) == ["1", "2"]
    for form in ("1", "1.0", "True"):
        described = {"label": {"positive": [form]}}
        assert (
            PairTable.read(manifest(rows, description=described), check_images=False).labels[:4] == [0, 1, 0, 1]
        ).all()
    rows[0]["race"] = "01"
    table = PairTable.read(manifest(rows), check_images=False)
    assert "(01, 1)" in said(table, WarningKind.SAME_BUT_CASE)
    with pytest.warns(DataWarning, match=r"differ only in how they are written \(01, 1\)"):
        FairnessReport.from_predictions(
            table.labels, np.linspace(0, 1, 40), {"race": table.attribute("race")}, n_resamples=0, n_permutations=0
        )


def test_patients_written_in_several_ways_are_told_and_kept_together(manifest, rows):
    for row, patient in zip((rows[0], rows[29], rows[35]), ("100", "100.0", "00100"), strict=True):
        row["patient_id"] = patient
    table = PairTable.read(manifest(rows), check_images=False)
    line = said(table, WarningKind.PATIENTS_ALIKE_SPLIT)
    assert "1 (first: row 37, row 2 and row 31), 1 of them in several splits" in line
    assert "write each id in one way" in line
    without = tuple(name for name in rows[0] if name != "split")
    for seed in range(5):
        table = PairTable.read(manifest(rows, header=without), check_images=False, seed=seed)
        assert table.frame["split"][[0, 29, 35]].nunique() == 1
        assert said(table, WarningKind.PATIENTS_ALIKE)
    with pytest.warns(DataWarning, match="1 ids are written in several ways"):
        FairnessReport.from_predictions(
            table.labels, np.linspace(0, 1, 40), {}, patients=[row["patient_id"] for row in rows], n_resamples=0,
            n_permutations=0,
        )  # fmt: skip


def test_splits_made_without_patients_are_said_and_the_advice_works(manifest, rows):
    for i, row in enumerate(rows):
        row["image"] = f"train/patient{i // 2:05d}/study1/view{i % 2}.jpg"
    without = tuple(name for name in rows[0] if name not in ("split", "patient_id"))
    table = PairTable.read(manifest(rows, header=without), check_images=False)
    line = said(table, WarningKind.NO_PATIENT_COLUMN)
    entry = json.loads("{" + line.split("dataset.json ")[1].split(", to take")[0] + "}")
    table = PairTable.read(manifest(rows, header=without, description=entry), check_images=False)
    assert table.report.n_patients == 20
    assert WarningKind.NO_PATIENT_COLUMN not in kinds(table)
    assert (table.frame.groupby("patient_id")["split"].nunique() == 1).all()
    # With splits that are given, only what divides a folder is said.
    table = PairTable.read(manifest(rows, header=(*without, "split"), description={}), check_images=False)
    assert WarningKind.FOLDERS_ACROSS_SPLITS not in kinds(table)
    rows[0]["split"] = "test"
    table = PairTable.read(manifest(rows, header=(*without, "split"), description={}), check_images=False)
    assert "1 names" in said(table, WarningKind.FOLDERS_ACROSS_SPLITS)
    # A column with the name of patients is offered before.
    for i, row in enumerate(rows):
        row["SubjectID"] = f"s{i // 4}"
    table = PairTable.read(manifest(rows, header=(*without, "SubjectID"), description={}), check_images=False)
    line = said(table, WarningKind.NO_PATIENT_COLUMN)
    entry = json.loads("{" + line.split("dataset.json ")[1].split(", if that")[0] + "}")
    table = PairTable.read(manifest(rows, header=(*without, "SubjectID"), description=entry), check_images=False)
    assert table.report.n_patients == 10


@pytest.mark.parametrize("pattern", ["patient(", "(patient)"])
def test_a_pattern_that_cannot_be_used_is_named(manifest, rows, pattern):
    header = tuple(name for name in rows[0] if name != "patient_id")
    with pytest.raises(InputError, match='entry "patient_pattern"'):
        PairTable.read(manifest(rows, header=header, description={"patient_pattern": pattern}), check_images=False)


def test_bands_are_proposed_and_the_proposal_works(manifest, rows):
    for i, row in enumerate(rows):
        row |= {"age": str(30 + i % 30), "weight": str(50 + 0.7 * i)}
    table = PairTable.read(manifest(rows), check_images=False)
    assert table.attributes == ("race", "age")
    line = said(table, WarningKind.NEEDS_BANDS)
    entry = json.loads(line.split("with ", 1)[1].removesuffix(" in dataset.json"))
    table = PairTable.read(manifest(rows, description=entry), check_images=False)
    assert table.attributes == ("race", "age", "weight_band")  # "weight" is a column of results
    assert len(table.frame["age"].cat.categories) == 4
    assert WarningKind.NEEDS_BANDS not in kinds(table)
    many = [{**row, "pair_id": f"{k}{row['pair_id']}", "age": str(20 + i + 40 * k), "patient_id": f"{k}-{i}"}
            for k in range(2) for i, row in enumerate(rows)]  # fmt: skip
    with pytest.raises(InputError, match=r'has 80 groups, more than 50; .* "bins": \[40, 60, 80\]'):
        PairTable.read(manifest(many, description={"attributes": ["age"]}), check_images=False)


def test_the_library_asks_for_bands_and_makes_them():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 300), rng.random(300)
    for values in (rng.integers(18, 95, 300), [f"{v}" for v in rng.normal(70, 9, 300).round(1)]):
        with pytest.raises(
            InputError, match=r"more than 50 groups; cut the numbers into bands first, .*bands\(values, \["
        ) as e:
            FairnessReport.from_predictions(label, score, {"a": values}, n_resamples=0, n_permutations=0)
        edges = json.loads(str(e.value).split("bands(values, ")[1].removesuffix(")"))
        report = FairnessReport.from_predictions(
            label, score, {"a": bands(values, edges)}, n_resamples=0, n_permutations=0
        )
        assert 3 <= len(report["a"].groups) <= 4
    with pytest.raises(InputError, match="give rows of one group the same name"):
        FairnessReport.from_predictions(label, score, {"id": [f"p{i}" for i in range(300)]})
    with pytest.raises(InputError, match="rising order"):
        bands([1, 2], [3, 1])


@pytest.mark.parametrize(
    ("cell", "years"),
    [
        ("058Y", 58), ("6M", 0.5), ("006M", 0.5), ("026W", 26 / 52.18), ("010D", 10 / 365.25), ("50+", 50), (">89", 89),
        ("≥ 90", 90), ("61.0", 61), ("70,5", 70.5), ("58 years", 58), ("58 yo", 58), ("18 months", 1.5), ("1e2", 100),
        ("58-year-old", None), ("old", None), ("", None), ("inf", None), ("12/03/1960", None), ("1.75 m", 1.75),
    ],
)  # fmt: skip
def test_ages_as_the_field_writes_them(cell, years):
    found = number(cell)
    assert found is None if years is None else math.isclose(found, years)


def test_bands_of_ages_as_the_field_writes_them(manifest, rows):
    cells = ["030Y", "6M", "69Y", "70+", "40-49", "45-55", "N/A", "old"]
    for i, row in enumerate(rows):
        row["years"] = cells[i % 8]
    described = {"attributes": {"age": {"column": "years", "bins": [50, 70]}}}
    table = PairTable.read(manifest(rows, description=described), check_images=False)
    assert table.attribute("age")[:8].tolist() == ["<50", "<50", "50-69", "70+", "<50", "Unknown", "Unknown", "Unknown"]
    assert "10 cells are no number" in said(table, WarningKind.NOT_NUMBERS)


def test_notes_that_are_names_of_files_or_numbers_are_said(manifest, rows):
    for i, row in enumerate(rows):
        row["text"] = f"reports/{i}.txt" if i < 20 else f"{i}.5"
    table = PairTable.read(manifest(rows), check_images=False)
    assert said(table, WarningKind.NOTES_ARE_FILES).startswith("20 of 40 notes are names of files")
    assert said(table, WarningKind.NOTES_ARE_NUMBERS).startswith("20 of 40 notes are numbers alone")


def test_image_cells_in_quotes_or_as_addresses(manifest, rows):
    rows[0]["image"] = '"images/p000.png"'
    rows[1]["image"] = "'images/p001.png'"
    rows[2]["image"] = "file://images/p002.png"
    rows[3]["image"] = "nan"
    table = PairTable.read(manifest(rows), max_refused_share=0.1)
    assert table.frame["image"][:3].tolist() == [f"images/p00{i}.png" for i in range(3)]
    assert [entry["reason"] for entry in table.report.refused] == ["the image cell is empty"]


@pytest.mark.parametrize("form", ['"{}"', "'{}'", " {} ", "file://{}", "file://localhost{}", "“{}”", "`{}`"])
def test_folders_as_they_are_pasted(manifest, rows, form):
    folder = manifest(rows)
    named = folder.rename(folder.with_name("my data ü"))
    given = form.format(quote(str(named)) if "file:" in form else named)
    table = PairTable.read(given, check_images=False)
    assert (len(table), table.root) == (40, named)
    escaped = str(named).replace(" ", "\\ ")
    assert len(PairTable.read(escaped, check_images=False)) == 40


def test_frames_in_memory_follow_the_same_rules():
    notes, patients = ["a note"] * 57 + [None, "NaN", "?"], [100.0, np.nan, None] * 20
    frame = pd.DataFrame({"pair_id": range(60), "text": notes, "label": [0, 1] * 30, "patient_id": patients,
                          "age": range(60), "site": [1.0, 2.0, np.nan] * 20})  # fmt: skip
    table = PairTable.from_frame(frame)
    assert len(table) == 57
    assert table.frame["patient_id"].nunique() == 39
    assert list(table.frame["site"].cat.categories) == ["1", "2", "Unknown"]
    assert 'fairvlm_core.bands(frame["age"], [10, 30, 40])' in said(table, WarningKind.NEEDS_BANDS)
    banded = PairTable.from_frame(frame.assign(age=bands(frame["age"], [20, 30, 50])))
    assert list(banded.frame["age"].cat.categories) == ["<20", "20-29", "30-49", "50+"]


def test_what_means_missing_is_one_list():
    assert {word for word in map(str.strip, map(str.casefold, SAID))} - {"-1.0"} <= MISSING
