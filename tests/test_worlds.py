"""The benchmark's data sets in a small form: planted shares, right notes, and another device in one group only."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import worlds
from fairvlm_core.errors import InputError

SMALL = (120, 20, 40)
DRAWN = ("even", "device", "notes", "labels", *worlds.DISCS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


def _make(name: str, cache: Path, seed: int = 0) -> worlds.World:
    reason = worlds.why_missing(name)
    if reason is not None:
        pytest.skip(reason)
    return worlds.make_world(name, seed, SMALL, cache)


def _training(world: worlds.World) -> np.ndarray:
    return np.asarray(world.table.frame["split"], str) == "train"


@pytest.mark.parametrize("name", [*DRAWN, "derm-swapped", "cxr-swapped"])
def test_right_notes_differ_exactly_at_planted_pairs_and_only_in_training(name: str, cache: Path) -> None:
    world = _make(name, cache)
    notes, right = (table.frame["text"].to_numpy(object) for table in (world.table, world.repaired))
    np.testing.assert_array_equal(notes != right, world.kind != "clean")
    wrong_label = world.table.labels != world.repaired.labels
    assert wrong_label.any() == (name == "labels")
    assert not (wrong_label | (world.kind != "clean"))[~_training(world)].any()
    np.testing.assert_array_equal(world.table.pair_ids, world.repaired.pair_ids)
    assert world.attribute in world.table.attributes


@pytest.mark.parametrize(
    ("name", "share"),
    [("even", 0.15), ("device", 0), ("discs", 0), ("discs-device-noisy", 0.10), ("derm", 0), ("derm-swapped", 0.15),
     ("cxr-swapped", 0.15)],
)  # fmt: skip
def test_the_planted_share_is_met(name: str, share: float, cache: Path) -> None:
    world = _make(name, cache)
    assert (world.kind[_training(world)] == "mismatch").mean() == pytest.approx(share, abs=0.006)


def test_a_disparity_of_notes_or_labels_is_in_one_group(cache: Path) -> None:
    notes, labels = _make("notes", cache), _make("labels", cache)
    assert set(notes.table.attribute("race")[notes.kind == "mismatch"]) == {"Asian"}
    assert set(labels.table.attribute("race")[labels.table.labels != labels.repaired.labels]) == {"Asian"}


@pytest.mark.parametrize(
    ("usual", "other", "group"), [("discs", "discs-device-noisy", "Asian"), ("none", "device", "Asian"),
                                  ("cxr", "cxr-device", "Female")],
)  # fmt: skip
def test_another_device_is_in_one_group_in_all_splits(usual: str, other: str, group: str, cache: Path) -> None:
    before, after = _make(usual, cache), _make(other, cache)
    np.testing.assert_array_equal(before.table.pair_ids, after.table.pair_ids)
    for i, member in enumerate(after.table.attribute(after.attribute) == group):
        first, second = (np.asarray(world.table.image(i)) for world in (before, after))
        assert (first.shape != second.shape or (first != second).any()) == member
        inverted = 255 - first.mean()  # less contrast moves the mean towards the middle
        assert not member or abs(second.mean() - inverted) < 0.4 * abs(inverted - 127.5) + 3
    held = after.table.frame["split"][after.table.attribute(after.attribute) == group]
    assert set(held) == {"train", "val", "test"}


def test_half_of_the_swapped_notes_contradict_and_the_rest_are_any(cache: Path) -> None:
    world = _make("derm-swapped", cache)
    right = world.repaired.frame["text"].to_numpy(object)
    train = _training(world)
    label_of_note = {note: world.table.labels[train & (right == note)].mean() for note in set(right[train])}
    swapped = np.flatnonzero(world.kind == "mismatch")
    labels = world.table.labels[swapped]
    given = np.array([label_of_note[note] for note in world.table.frame["text"].to_numpy(object)[swapped]])
    any_other = 2 * 0.29 * 0.71  # other label by chance, with 29 % positive
    assert (given.round() != labels).mean() == pytest.approx(0.5 + 0.5 * any_other, abs=0.06)


def test_lesions_stay_in_one_split_and_notes_do_not_name_the_sex(cache: Path) -> None:
    frame = _make("derm", cache).table.frame
    assert frame.groupby("patient_id")["split"].nunique().max() == 1
    assert not frame["text"].str.contains(r"\b(?:fe)?male\b", case=False).any()


def test_the_seed_changes_a_world_and_a_stored_one_is_the_same(cache: Path) -> None:
    first, again, other = _make("discs", cache), _make("discs", cache), _make("discs", cache, seed=1)
    assert first.table.fingerprint == again.table.fingerprint != other.table.fingerprint
    folder = first.table.root
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)
    _make("discs", cache)
    assert before == {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unknown_names_and_absent_data_are_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^world: 'moon'; choose one of none, "):
        worlds.make_world("moon", 0)
    with pytest.raises(InputError, match=r"^derm: there is no folder .* set FAIRVLM_REAL_DATA$"):
        worlds.make_world("derm", 0, data=tmp_path)
