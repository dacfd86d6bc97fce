"""Disadvantages of single groups: what changes, by how much, and that nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fairvlm_core import PairTable
from fairvlm_core.cli.app import app
from fairvlm_core.errors import InputError
from fairvlm_core.synth import SynthConfig, SynthData, synthesize, write_synth
from fairvlm_core.synth.disparity import other_device

PLAIN = SynthConfig(n_train=240, n_val=40, n_test=60, seed=7, size=32, proportions="balanced", shortcut_rate=0.05)


def _make(*disparity: str) -> SynthData:
    return synthesize(replace(PLAIN, disparity=disparity), workers=1)


@pytest.fixture(scope="module")
def plain() -> SynthData:
    return synthesize(PLAIN, workers=1)


def _train(data: SynthData) -> np.ndarray:
    return (data.frame["split"] == "train").to_numpy()


def test_another_device_changes_the_groups_images_in_every_split_and_nothing_else(plain: SynthData) -> None:
    data = _make("race=Asian:device")
    pd.testing.assert_frame_equal(data.frame, plain.frame)
    pd.testing.assert_frame_equal(data.planted, plain.planted)
    asian = (data.frame["race"] == "Asian").to_numpy()
    changed = (data.images != plain.images).any(axis=(1, 2))
    np.testing.assert_array_equal(changed, asian)
    assert set(data.frame["split"][asian]) == {"train", "val", "test"}
    usual = asian & (plain.planted["kind"] != "shortcut").to_numpy()  # a burned-in marker is not inverted
    for before, after in zip(plain.images[usual], data.images[usual], strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < -0.3


def test_strength_zero_of_a_device_inverts_grey_levels_and_no_more() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(other_device(image, rng, strength=0.0), 255 - image)


def test_a_stronger_device_has_less_contrast(plain: SynthData) -> None:
    spread = [other_device(plain.images[0], np.random.default_rng(0), s).std() for s in (0.0, 0.3)]
    assert spread[1] < spread[0]


def test_few_training_pairs_of_a_group_and_as_many_in_all(plain: SynthData) -> None:
    data = _make("race=Asian:few:0.2")
    train = _train(plain)
    before, after = ((d.frame["race"] == "Asian").to_numpy() for d in (plain, data))
    assert len(data.frame) == len(plain.frame)
    assert before[train].sum() * 0.13 < after[train].sum() < before[train].sum() * 0.27
    pd.testing.assert_frame_equal(data.frame[~train], plain.frame[~train])
    stays = after | ~before
    pd.testing.assert_series_equal(data.frame["race"][stays], plain.frame["race"][stays])
    assert data.frame.groupby("patient_id")["race"].nunique().max() == 1
    other = ["pair_id", "patient_id", "label", "gender", "ethnicity", "language", "age"]
    pd.testing.assert_frame_equal(data.frame[other], plain.frame[other])


def test_wrong_notes_come_from_any_other_patient_and_the_right_ones_are_kept(plain: SynthData) -> None:
    data = _make("gender=Female:notes:0.4")
    train = _train(data)
    women = train & (data.frame["gender"] == "Female").to_numpy()
    was, now = ((d.planted["kind"] == "mismatch").to_numpy() for d in (plain, data))
    new = now & ~was
    assert new.sum() == round(0.4 * women.sum())
    assert not (new & ~women).any()
    assert now[was].all()
    pd.testing.assert_series_equal(data.planted["clean_text"], plain.planted["clean_text"])
    rows = data.frame.assign(**{name: data.planted[name] for name in ("clean_text", "donor_pair_id")}).set_index(
        "pair_id"
    )
    receivers = rows[new]
    donors = rows.loc[receivers["donor_pair_id"]]
    assert (receivers["text"].to_numpy() == donors["clean_text"].to_numpy()).all()
    assert (receivers["patient_id"].to_numpy() != donors["patient_id"].to_numpy()).all()
    assert (donors["split"] == "train").all()
    same = (receivers["label"].to_numpy() == donors["label"].to_numpy()).mean()
    assert 0.2 < same < 0.8  # not only contradicting notes
    pd.testing.assert_frame_equal(data.frame[~new], plain.frame[~new])


def test_wrong_labels_are_in_the_groups_training_pairs_and_the_right_ones_are_kept(plain: SynthData) -> None:
    data = _make("race=Black:labels:0.25", "gender=Male:labels:0.1")
    train = _train(data)
    flipped = (data.frame["label"] != plain.frame["label"]).to_numpy()
    in_black = train & (data.frame["race"] == "Black").to_numpy()
    in_men = train & (data.frame["gender"] == "Male").to_numpy()
    assert not flipped[~in_black & ~in_men].any()
    assert flipped.sum() == round(0.25 * in_black.sum()) + round(0.1 * in_men.sum())  # none is flipped twice
    np.testing.assert_array_equal(data.planted["clean_label"], plain.frame["label"])
    pd.testing.assert_series_equal(data.frame["text"], plain.frame["text"])
    np.testing.assert_array_equal(data.images, plain.images)


@pytest.mark.parametrize("layout", ["manifest", "fairvlmed"])
def test_all_kinds_together_are_recorded_and_read(layout: str, tmp_path: Path) -> None:
    asked = ("race=Asian:device", "race=Asian:few:0.5", "language=Spanish:notes", "race=Black:labels")
    data = _make(*asked)
    out = write_synth(data, tmp_path / layout, layout=layout)
    record = json.loads((out / "disparity.json").read_text(encoding="utf-8"))["disparity"]
    assert [(e["attribute"], e["group"], e["kind"], e["strength"]) for e in record] == [
        ("race", "Asian", "device", 0.5), ("race", "Asian", "few", 0.5), ("language", "Spanish", "notes", 0.3),
        ("race", "Black", "labels", 0.25),
    ]  # fmt: skip
    table = PairTable.read(out)
    planted = table.planted()
    assert planted is not None
    wrong = table.frame.set_index("pair_id")["label"] != planted.set_index("pair_id")["clean_label"].astype(int)
    assert set(wrong.index[wrong]) == set(record[3]["pair_ids"])
    frame = table.frame.set_index("pair_id")
    for entry in record:
        splits = frame.loc[entry["pair_ids"], "split"].value_counts()
        assert entry["pairs"] == {name: splits[name] for name in ("train", "val", "test")}
        assert entry["pairs"]["train"] > 0
        assert (entry["pairs"]["test"] > 0) == (entry["kind"] == "device")
    kinds = planted.set_index("pair_id")["kind"]
    assert set(kinds[frame["split"] != "train"]) == {"clean"}
    assert set(kinds.loc[record[2]["pair_ids"]]) == {"mismatch"}


def test_without_a_disparity_no_file_and_no_column_is_added(plain: SynthData, tmp_path: Path) -> None:
    out = write_synth(plain, tmp_path / "plain")
    assert not (out / "disparity.json").exists()
    assert (out / "planted.csv").read_text().splitlines()[0] == "pair_id,kind,donor_pair_id,marker,clean_text"


def test_the_same_settings_give_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    config = replace(PLAIN, n_train=40, n_val=4, n_test=4, disparity=("race=Asian:device", "race=White:notes"))
    one, two = (write_synth(synthesize(config, workers=n), tmp_path / str(n)) for n in (1, 2))
    for path in sorted(path for path in one.rglob("*") if path.is_file()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path.name


@pytest.mark.parametrize(
    ("disparity", "message"),
    [
        (("race=Purple:device",), r"'Purple' is no group of race; choose one of Asian, Black, White$"),
        (("rase=Asian:device",), r"'rase' is no attribute; choose one of race, gender, ethnicity, language$"),
        (("race=Asian:camera",), r"got 'camera'; choose one of device, few, notes, labels$"),
        (("race=Asian",), r"got 'race=Asian'; write ATTRIBUTE=GROUP:KIND"),
        (("race=Asian:notes:2",), r"got 2\.0; give a number from 0 to 1$"),
        (("race=Asian:notes:much",), r"'much' in .* is no number"),
        (("race=Asian:notes:nan",), r"got nan; give a number from 0 to 1$"),
        (("race=Asian:notes", "race=Asian:notes:0.1"), r"race=Asian:notes is given twice"),
        (("gender=Male:few", "gender=Female:few"), r"no group of gender is left without `few`"),
        (("race=Asian:labels:0.001",), r"changes no pair"),
        (("race=Asian:notes:1",), r"needs more clean training pairs"),
        ("race=Asian:notes", r"give a sequence"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(disparity: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        synthesize(replace(PLAIN, disparity=disparity), workers=1)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("disparity")


def test_the_command_takes_several_disparities(tmp_path: Path) -> None:
    size = ["--n-train", "60", "--n-val", "6", "--n-test", "6", "--size", "32"]
    kinds = ["--disparity", "race=White:device:0", "--disparity", "gender=Male:labels:0.5"]
    done = CliRunner().invoke(app, ["synth", str(tmp_path / "set"), *size, *kinds])
    assert done.exit_code == 0, done.output
    assert "gender=Male:labels:0.5: 1" in done.output
    assert len(json.loads((tmp_path / "set" / "disparity.json").read_text())["disparity"]) == 2
