"""Splits that are made: by patient, seeded, in proportion, whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairvlm_core.errors import InputError
from fairvlm_core.intake.splits import SPLITS, make_splits, related_units
from fairvlm_core.pairs import PairTable

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def cohort(n: int, seed: int = 0, patients: int | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    patient = rng.integers(patients or n, size=n)
    race = rng.choice(["Asian", "Black", "White"], size=patients or n, p=[0.08, 0.15, 0.77])
    return pd.DataFrame(
        {
            "pair_id": [f"p{i}" for i in range(n)],
            "patient_id": [f"q{i}" for i in patient],
            "text": "note",
            "label": rng.integers(2, size=n),
            "race": race[patient],
        }
    )


def test_shares_hold_for_labels_and_groups():
    table = PairTable.from_frame(cohort(3000, patients=1500))
    for rows in (table.frame, *(part for _, part in table.frame.groupby("label"))):
        share = rows["split"].value_counts(normalize=True)
        assert np.allclose([share[name] for name in SPLITS], [0.7, 0.1, 0.2], atol=0.01)
    for _, rows in table.frame.groupby("race", observed=True):
        share = rows["split"].value_counts(normalize=True)
        assert np.allclose([share[name] for name in SPLITS], [0.7, 0.1, 0.2], atol=0.05)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 120), patients=st.integers(1, 60), seed=st.integers(0, 50))
def test_no_patient_in_two_splits_and_every_pair_in_one(n, patients, seed):
    table = PairTable.from_frame(cohort(n, seed, patients), seed=seed)
    assert len(table) == n
    assert (table.frame.groupby("patient_id")["split"].nunique() == 1).all()


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    frame = cohort(400, patients=200)
    first = PairTable.from_frame(frame, seed=3).frame.set_index("pair_id")["split"]
    shuffled = PairTable.from_frame(frame.sample(frac=1, random_state=1), seed=3).frame.set_index("pair_id")["split"]
    other = PairTable.from_frame(frame, seed=4).frame.set_index("pair_id")["split"]
    assert (shuffled.loc[first.index].astype(str) == first.astype(str)).all()
    assert (other.astype(str) != first.astype(str)).mean() > 0.2


@pytest.mark.parametrize("positives", [3, 5, 10])
def test_every_split_has_both_labels_where_there_are_enough(positives):
    label = np.zeros(60, int)
    label[:positives] = 1
    for seed in range(10):
        split = make_splits([f"p{i}" for i in range(60)], np.arange(60), label, [], SHARES, seed)
        table = np.array([[((split == s) & (label == v)).sum() for v in (0, 1)] for s in range(3)])
        assert (table > 0).all()


def test_one_positive_stays_in_training():
    label = np.array([1] + [0] * 30)
    split = make_splits([f"p{i}" for i in range(31)], np.arange(31), label, [], SHARES, 0)
    assert split[0] == 0


def test_related_units_against_networkx_like_search():
    rng = np.random.default_rng(5)
    for _ in range(20):
        one, two = rng.integers(30, size=40), rng.integers(-1, 30, size=40)
        unit = related_units(one, two)
        reach = (one[:, None] == one) | ((two[:, None] == two) & (two[:, None] >= 0))
        for _ in range(6):
            reach = (reach.astype(int) @ reach.astype(int)) > 0
        assert np.array_equal(unit[:, None] == unit, reach)


def test_the_same_picture_under_two_patients_keeps_them_together(manifest, rows):
    for row in rows:
        row.pop("split")
    folder = manifest(rows)
    # Six patients whose pictures are the same file content, three whose path is the same.
    for i in range(1, 6):
        (folder / "images" / f"p{i:03d}.png").write_bytes((folder / "images" / "p000.png").read_bytes())
    for i in (11, 12):
        rows[i]["image"] = rows[10]["image"]
    for check in (True, False):
        for seed in range(5):
            table = PairTable.read(manifest_again(folder, rows), seed=seed, check_images=check)
            split = np.asarray(table.frame["split"], str)
            assert len(set(split[:6])) == 1
            assert len(set(split[10:13])) == 1
            assert len(set(split)) == 3
            if check:
                checked = split
    assert np.array_equal(checked, split)
    assert table.report.duplicates["images_across_splits"] == 0


def manifest_again(folder, rows):
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def test_shares_are_checked():
    frame = cohort(20)
    for shares in (
        {"train": 0.5, "val": 0.1, "test": 0.1},
        {"train": 0, "val": 0.5, "test": 0.5},
        {"train": 1.5, "val": -0.5},
    ):
        with pytest.raises(InputError, match='splits: entry "splits"'):
            PairTable.from_frame(frame, splits=shares)
    table = PairTable.from_frame(frame, splits={"train": 1.0})
    assert (table.frame["split"] == "train").all()
    assert (table.info.split_source, table.info.split_shares["train"]) == ("made", 1.0)
