"""Tables in other formats than plain CSV, several tables, and rows that are no pairs yet."""

from __future__ import annotations

import csv
import gzip
import json

import pandas as pd
import pytest

from fairvlm_core.errors import InputError
from fairvlm_core.intake.tablefile import read_any_table
from fairvlm_core.pairs import PairTable

ROWS = [["id", "note", "label"], ["007", "large cup, thin rim", "1"], ["8", 'said "fine"', "0"], ["9", "", "0"]]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_any_separator(tmp_path, mark, ending):
    path = tmp_path / f"a.{ending}"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=mark).writerows([*ROWS, [" " * 0] * 3])
    table = read_any_table(path)
    assert {name: cells.to_pylist() for name, cells in table.columns.items()} == {
        name: [row[i] for row in ROWS[1:]] for i, name in enumerate(ROWS[0])
    }
    assert table.row(2) == 4


def test_excel(tmp_path):
    path = tmp_path / "a.xlsx"
    frame = pd.DataFrame(
        {"id": ["007", "8"], "age": [61.0, None], "seen": pd.to_datetime(["2020-01-02", "2021-03-04"])}
    )
    with pd.ExcelWriter(path) as book:
        pd.DataFrame().to_excel(book, sheet_name="empty", index=False)
        frame.to_excel(book, sheet_name="data", index=True)
    table = read_any_table(path)
    assert {name: cells.to_pylist() for name, cells in table.columns.items()} == {
        "id": ["007", "8"], "age": ["61", ""], "seen": ["2020-01-02", "2021-03-04"],
    }  # fmt: skip
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"^a\.xlsx: not a readable Excel file"):
        read_any_table(path)


def test_packed(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"id;note\n007;fine\n"))
    assert {name: cells.to_pylist() for name, cells in read_any_table(path).columns.items()} == {
        "id": ["007"], "note": ["fine"],
    }  # fmt: skip
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"^a\.csv\.gz: not a readable gzip file"):
        read_any_table(path)


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"id": "7", "age": 61.0, "tags": ["a", "b"]}, {"id": "8", "sex": "F"}, {"id": None}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert {name: cells.to_pylist() for name, cells in read_any_table(path).columns.items()} == {
        "id": ["7", "8", ""], "age": ["61", "", ""], "tags": ["a; b", "", ""], "sex": ["", "F", ""],
    }  # fmt: skip
    path.write_text('{"id": 1}\n[1]\n')
    with pytest.raises(InputError, match=r"a\.jsonl line 2: one object"):
        read_any_table(path)


def read(folder, **described) -> PairTable:
    return PairTable.read(folder, description=described, check_images=False)


def test_several_tables(tmp_path):
    for split, rows in (("train", 20), ("valid", 10), ("test", 10)):
        (tmp_path / split).mkdir()
        frame = pd.DataFrame(
            {"file_name": [f"{i}.png" for i in range(rows)], "text": "a", "label": [0, 1] * (rows // 2)}
        )
        frame.to_csv(tmp_path / split / "metadata.csv", index=False)
    table = read(
        tmp_path,
        table=["train/metadata.csv", "valid/metadata.csv", "test/metadata.csv"],
        columns={"image": "{folder}/{file_name}", "split": "folder"},
        attributes={"part": "table"},
    )
    assert table.frame["split"].value_counts().to_dict() == {"train": 20, "val": 10, "test": 10}
    assert table.frame["image"][20] == "valid/0.png"
    assert list(table.frame["part"].cat.categories) == ["test/metadata", "train/metadata", "valid/metadata"]
    bad = pd.DataFrame({"file_name": ["0.png"], "text": ["a"], "label": ["x"]})
    bad.to_csv(tmp_path / "valid" / "metadata.csv", index=False)
    with pytest.raises(InputError, match=r"^valid/metadata\.csv row 2, column label: the label is 'x'"):
        read(tmp_path, table=["train/metadata.csv", "valid/metadata.csv"], columns={"image": "file_name"})


def test_two_images_in_a_row(tmp_path):
    frame = pd.DataFrame(
        {"id": range(20), "left": [f"{i}_l.png" for i in range(20)], "right": [f"{i}_r.png" for i in range(20)]}
    )
    frame["left said"], frame["right said"] = "normal fundus", ["normal fundus", "glaucoma"] * 10
    frame.loc[3, "right"] = ""
    frame.to_excel(tmp_path / "eyes.xlsx", index=False)
    table = read(
        tmp_path,
        table="eyes.xlsx",
        columns=[
            {"image": side, "text": f"{side} said", "label": f"{side} said", "patient_id": "id"}
            for side in ("left", "right")
        ],
        label={"lacks": "normal"},
    )
    assert (len(table), table.report.n_patients, int(table.labels.sum())) == (39, 20, 9)
    assert table.frame["image"][[0, 20, 23]].tolist() == ["0_l.png", "0_r.png", "4_r.png"]
    assert (table.frame.groupby("patient_id")["split"].nunique() == 1).all()


def test_several_rows_of_one_image(tmp_path):
    rows = [
        ["b", "No finding"],
        ["a", "No finding"],
        ["b", "Effusion"],
        ["b", "Effusion"],
        ["c", "Mass"],
        ["a", ""],
    ] * 2
    pd.DataFrame(rows, columns=["image_id", "class"]).to_csv(tmp_path / "train.csv", index=False)
    table = read(
        tmp_path,
        table="train.csv",
        group_by="image_id",
        columns={"image": "{image_id}.dcm", "text": "class", "label": "class"},
        label={"negative": ["No finding"]},
        splits={"train": 1, "val": 0, "test": 0},
    )
    assert table.frame[["image", "text", "label"]].to_numpy().tolist() == [
        ["b.dcm", "No finding; Effusion", 1], ["a.dcm", "No finding", 0], ["c.dcm", "Mass", 1],
    ]  # fmt: skip


def test_part_of_a_cell(tmp_path):
    frame = pd.DataFrame({"ID": [f"#{i:03d}" for i in range(20)], "text": "a", "label": [0, 1] * 10})
    frame.to_csv(tmp_path / "a.csv", index=False)
    columns = {"image": "RET{ID:[0-9]+}OD.jpg", "patient_id": "{ID:[1-9].*}"}
    table = read(tmp_path, table="a.csv", columns=columns)
    assert (table.frame["image"][12], table.frame["patient_id"][12]) == ("RET012OD.jpg", "12")
    with pytest.raises(InputError, match="is no regular expression"):
        read(tmp_path, table="a.csv", columns={"image": "{ID:[0-9}"})
