"""`PairTable` itself: parts, fingerprint, planted truth, tables from memory; the report's counts and warnings."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from fairvlm_core.errors import InputError
from fairvlm_core.intake import count_identifiers, count_truncated
from fairvlm_core.pairs import PairTable


def frame(n: int = 30) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pair_id": [f"p{i}" for i in range(n)],
            "text": [f"note {i}" for i in range(n)],
            "label": [i % 2 for i in range(n)],
            "split": ["train", "val", "test"] * (n // 3),
            "race": pd.Categorical(["White", "Asian", None] * (n // 3), categories=["White", "Black", "Asian"]),
        }
    )


def test_parts_keep_categories_and_rows_align():
    table = PairTable.from_frame(frame())
    val = table.only("val")
    assert val.pair_ids.tolist() == [f"p{i}" for i in range(1, 30, 3)]
    assert list(val.frame["race"].cat.categories) == ["White", "Asian", "Unknown"]
    assert val.frame.index.tolist() == list(range(10))
    some = table.take([5, 2])
    assert some.pair_ids.tolist() == ["p5", "p2"]
    assert table.take(table.labels == 1).labels.tolist() == [1] * 15
    assert len(table.take([])) == 0
    for rows in ([30], [-1], [1, 1], np.ones(3, bool)):
        with pytest.raises(InputError, match=r"^rows: "):
            table.take(rows)
    with pytest.raises(InputError, match=r"^split: 'dev'"):
        table.only("dev")
    with pytest.raises(InputError, match=r"^attribute: 'sex' is not in the data; there are race"):
        table.attribute("sex")
    assert "30 pairs (train 10, val 10, test 10); attributes race" in repr(table)


def test_types_in_memory():
    source = frame().assign(
        pair_id=np.arange(30), label=lambda f: f["label"].astype(bool), age=[40.0, np.nan, 41.5] * 10
    )
    table = PairTable.from_frame(source)
    assert table.pair_ids[:2].tolist() == ["0", "1"]
    assert table.labels.dtype == np.int8
    assert list(table.frame["age"].cat.categories) == ["40", "41.5", "Unknown"]
    assert PairTable.from_frame(source, attributes=[]).attributes == ()
    with pytest.raises(InputError, match=r"frame row 2 \(from 0\), column label"):
        PairTable.from_frame(frame().assign(label=[0, 1, 7] * 10))
    with pytest.raises(InputError, match=r"frame: no column 'text'"):
        PairTable.from_frame(frame().drop(columns="text"))
    with pytest.raises(InputError, match="pandas DataFrame"):
        PairTable.from_frame([1])
    with pytest.raises(InputError, match="pair 'p0': the pair has no image"):
        PairTable.from_frame(frame()).image(0)


def test_the_fingerprint_follows_content_and_nothing_else(manifest, rows):
    folder = manifest(rows)
    one = PairTable.read(folder).fingerprint
    os.utime(folder / "manifest.csv", (1, 1))
    moved = folder.rename(folder.with_name("moved"))
    assert PairTable.read(moved).fingerprint == PairTable.read(moved, check_images=False).fingerprint == one
    seen = {one}
    moved.rename(folder)
    for column, cell in (("text", "other"), ("label", "1"), ("race", "Asian"), ("patient_id", "z"), ("pair_id", "z")):
        changed = [dict(row) for row in rows]
        changed[4][column] = cell
        seen.add(PairTable.read(manifest(changed)).fingerprint)
    seen.add(PairTable.read(manifest(rows, description={"prompts": ["a", "b"]})).fingerprint)
    assert len(seen) == 7
    table = PairTable.from_frame(frame())
    whole = table.take(np.arange(len(table)))
    assert whole.fingerprint == table.fingerprint
    assert table.only("val").fingerprint == PairTable.from_frame(frame()).take(np.arange(1, 30, 3)).fingerprint
    # Where one cell ends and the next begins is content too.
    a, b = frame(), frame()
    a.loc[[0, 1], "text"], b.loc[[0, 1], "text"] = ["ab", "c"], ["a", "bc"]
    assert PairTable.from_frame(a).fingerprint != PairTable.from_frame(b).fingerprint


def test_planted_truth(manifest, rows):
    folder = manifest(rows)
    assert PairTable.read(folder).planted() is None
    lines = [f"p{i:03d},{('clean', 'mismatch', 'shortcut')[i % 3]},{i}" for i in reversed(range(40))]
    (folder / "planted.csv").write_text("\n".join(["pair_id,kind,extra", *lines, "other,clean,"]))
    val = PairTable.read(folder).only("val")
    planted = val.planted()
    assert planted["pair_id"].tolist() == val.pair_ids.tolist()
    assert planted["kind"].tolist() == [("clean", "mismatch", "shortcut")[i % 3] for i in range(28, 32)]
    assert planted["extra"].tolist() == ["28", "29", "30", "31"]
    for text, message in (
        ("pair_id,kind\np000,odd\n", "row 2: the kind"), ("pair_id\np000\n", "no column 'kind'"),
        ("pair_id,kind\np000,clean\np000,clean\n", "row 3: the pair_id is given twice"),
    ):  # fmt: skip
        (folder / "planted.csv").write_text(text)
        with pytest.raises(InputError, match=rf"^planted\.csv.*{message}"):
            val.planted()


def test_the_report_counts_groups_by_split(manifest, rows):
    report = PairTable.read(manifest(rows)).report
    assert report.splits["test"] == {"n": 8, "n_positive": 4, "n_patients": 8}
    assert report.labels == {"negative": 20, "positive": 20}
    assert report.attributes["race"]["groups"]["Black"] == {"n": 20, "n_positive": 10, "positive_rate": 0.5}
    assert report.attributes["race"]["by_split"]["val"]["White"]["n"] == 2
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["n_pairs"] == 40
    assert again["truncation"] is None


def test_the_report_warns_in_sentences(manifest, rows):
    for row in rows:
        row["patient_id"] = f"q{rows.index(row) // 2}"
    rows[1]["race"] = "black"
    for row in rows[28:32]:
        row["label"] = "1"
    for row in rows[:10]:
        row["text"] = "the same note"
    rows[20]["text"] = "lost \ufffd letters"
    rows[33]["image"] = rows[3]["image"]
    said = PairTable.read(manifest(rows)).report.to_dict()["warnings"]
    for sentence in (
        "split val holds one label only (4 positive of 4)",
        "attribute race has groups that differ only in how they are written (Black, black)",
        "attribute race differs between the pairs of 1 patient",
        "attribute race, split test: nobody in group black",
        "9 of 40 pairs repeat the note of another pair",
        "images under more than one patient_id: 1",
        "images in more than one split: 1",
        "notes with the character for lost text (U+FFFD): 1",
    ):
        assert any(line.startswith(sentence) for line in said), sentence


def test_patients_without_an_id_are_people_of_their_own(manifest, rows):
    rows[0]["patient_id"] = rows[30]["patient_id"] = ""
    table = PairTable.read(manifest(rows))
    assert table.report.n_patients == 40
    assert "2 pairs have no patient_id; each counts as a patient of its own" in table.report.to_dict()["warnings"]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("dates", ["seen 03/04/2021", "on 2021-04-03", "March 3, 2021", "3rd of May 2020", "Jan 2019"]),
        ("phone-like numbers", ["call 555-123-4567", "(020) 7946 0958", "+44 20 7946 0958"]),
        ("record numbers", ["MRN: 00123456", "record no. 12-34567", "id 12345678", "123-45-6789"]),
        ("names after a title", ["Dr. Miller", "Mrs O'Neil", "Mr.Smith", "Prof. Ångström"]),
        ("e-mail addresses", ["write to a.b@c.org"]),
    ],
)
def test_likely_identifiers_are_counted(kind, texts):
    assert count_identifiers(pd.Series(texts))[kind] == len(texts)


def test_clinical_numbers_are_no_identifiers():
    notes = pd.Series(
        ["IOP 21/18 mmHg, CDR 0.7, VA 20/40 and 6/12, MD -12.34 dB", "61-year-old on latanoprost 0.005 %", "drusen"]
    )
    assert sum(count_identifiers(notes).values()) == 0


def test_count_truncated_checks_its_input():
    with pytest.raises(InputError, match="context_length"):
        count_truncated(["a"], lambda notes: np.ones(len(notes)), 0)
    with pytest.raises(InputError, match=r"shape \(2,\) for 1 notes"):
        count_truncated(["a"], lambda _: np.ones(2), 5)
    assert count_truncated([], lambda notes: np.ones(len(notes)), 5).tokens_lost == 0.0


def test_progress_is_told(manifest, rows):
    seen = []
    PairTable.read(manifest(rows), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)
    assert seen == sorted(seen)
