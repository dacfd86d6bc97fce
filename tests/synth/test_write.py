"""Both layouts on disk: what is read back equals what was made, and nothing is left half-written."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairvlm_core.errors import InputError
from fairvlm_core.synth import SynthConfig, SynthData, synthesize, write_synth
from fairvlm_core.synth import write as write_module

CODES = {"race": ["Asian", "Black", "White"], "gender": ["Female", "Male"]}


@pytest.fixture(scope="module")
def small() -> SynthData:
    return synthesize(SynthConfig(n_train=40, n_val=6, n_test=8, size=64, seed=9, shortcut_rate=0.1), workers=1)


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype="str", keep_default_na=False)


def test_the_manifest_layout_holds_every_pair_and_its_bytes(small: SynthData, tmp_path: Path) -> None:
    out = write_synth(small, tmp_path / "demo")
    manifest = _table(out / "manifest.csv")
    assert list(manifest) == [
        "pair_id", "patient_id", "image", "text", "label", "split", "race", "gender", "ethnicity", "language",
    ]  # fmt: skip
    for name in ("pair_id", "patient_id", "text", "split", "race", "gender", "ethnicity", "language"):
        assert manifest[name].tolist() == small.frame[name].tolist(), name
    assert manifest["label"].astype(int).tolist() == small.frame["label"].tolist()
    for path, image in zip(manifest["image"], small.images, strict=True):
        with Image.open(out / path) as opened:
            assert opened.mode == "L"
            np.testing.assert_array_equal(np.asarray(opened), image)
    description = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert description["prompts"] == ["A photo of non-glaucoma", "A photo of glaucoma"]
    assert description["attributes"] == ["race", "gender", "ethnicity", "language"]


@pytest.mark.parametrize("layout", ["manifest", "fairvlmed"])
def test_planted_csv_begins_with_pair_id_and_kind(small: SynthData, tmp_path: Path, layout: str) -> None:
    out = write_synth(small, tmp_path / layout, layout=layout)
    planted = _table(out / "planted.csv")
    assert list(planted)[:2] == ["pair_id", "kind"]
    assert set(planted["kind"]) == {"clean", "mismatch", "shortcut"}
    for name in planted:
        assert planted[name].tolist() == small.planted[name].tolist(), name


def test_the_fairvlmed_layout_has_the_fields_codes_and_frames_of_the_real_set(small: SynthData, tmp_path: Path) -> None:
    out = write_synth(small, tmp_path / "slo", layout="fairvlmed")
    assert {path.name for path in out.iterdir()} == {
        "Training", "Validation", "Test", "data_summary.csv", "gpt-4_summarized_notes.csv", "original_notes.csv",
        "planted.csv", "dataset.json",
    }  # fmt: skip
    assert json.loads((out / "dataset.json").read_text()) == {"schema": 1, "name": "SynthFundus"}
    folder = {"train": "Training", "val": "Validation", "test": "Test"}
    with (out / "gpt-4_summarized_notes.csv").open(encoding="utf-8", newline="") as file:
        notes = {row[0]: row[2] for row in list(csv.reader(file))[1:]}
    summary = _table(out / "data_summary.csv").set_index("filename")
    for i, row in enumerate(small.frame.itertuples()):
        with np.load(out / folder[row.split] / f"{row.pair_id}.npz", allow_pickle=False) as fields:
            assert set(fields) == {
                "slo_fundus", "md", "tds", "age", "gender", "race", "ethnicity", "language", "maritalstatus", "glaucoma",
                "note", "note_extra",
            }  # fmt: skip
            frame = fields["slo_fundus"]
            assert frame.shape == (664, 512)
            assert frame.dtype == np.uint8
            np.testing.assert_array_equal(_from_frame(frame, 64), small.images[i])
            assert int(fields["glaucoma"]) == row.label
            assert CODES["race"][int(fields["race"])] == row.race
            assert CODES["gender"][int(fields["gender"])] == row.gender
            assert {"Non-Hispanic": 0, "Hispanic": 1, "Unknown": -1}[row.ethnicity] == int(fields["ethnicity"])
            assert {"English": 0, "Spanish": 1, "Other": 2, "Unknown": -1}[row.language] == int(fields["language"])
            assert float(fields["age"]) == row.age
            assert str(fields["note"]) == row.text
            assert fields["tds"].shape == (52,)
            assert fields["tds"].mean() == pytest.approx(float(fields["md"]), abs=0.06)
        assert notes[f"{row.pair_id}.npz"] == row.text
        assert summary.loc[f"{row.pair_id}.npz", "patient_id"] == row.patient_id


def _from_frame(frame: np.ndarray, size: int) -> np.ndarray:
    """The square image of side `size` back from its 664 x 512 frame."""
    square = frame[76:-76]
    if 512 % size == 0:
        return square[:: 512 // size, :: 512 // size].copy()
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", [32, 128, 256, 512])
def test_frames_give_the_image_back_exactly_where_the_size_divides_512(size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    frame = write_module.to_frame(image)
    assert frame.shape == (664, 512)
    np.testing.assert_array_equal(_from_frame(frame, size), image)


def test_frames_of_other_sizes_are_close(small: SynthData) -> None:
    smooth = np.asarray(Image.fromarray(small.images[0]).resize((100, 100), Image.Resampling.BICUBIC))
    back = _from_frame(write_module.to_frame(smooth), 100)
    assert np.abs(back.astype(int) - smooth).mean() < 2


def test_both_layouts_are_read_as_the_same_table(small: SynthData, tmp_path: Path) -> None:
    pytest.importorskip("fairvlm_core.intake", reason="the intake is not there")
    from fairvlm_core import PairTable

    manifest = PairTable.read(write_synth(small, tmp_path / "m"))
    slo = PairTable.read(write_synth(small, tmp_path / "f", layout="fairvlmed"))
    columns = ["pair_id", "patient_id", "split", "label", "text", "race", "gender", "ethnicity", "language"]
    left, right = (
        table.frame[columns].astype("str").sort_values("pair_id").reset_index(drop=True) for table in (manifest, slo)
    )
    pd.testing.assert_frame_equal(left, right)
    assert manifest.attributes == ("race", "gender", "ethnicity", "language")
    np.testing.assert_array_equal(np.asarray(manifest.image(3).convert("L")), small.images[3])


@pytest.mark.parametrize("layout", ["manifest", "fairvlmed"])
def test_writing_the_same_set_twice_gives_the_same_files(small: SynthData, tmp_path: Path, layout: str) -> None:
    first, second = (write_synth(small, tmp_path / name, layout=layout) for name in ("a", "b"))
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


def test_a_folder_in_use_is_refused_and_left_alone(small: SynthData, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"^out: "):
            write_synth(small, out, overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.tex"]
    with pytest.raises(InputError, match="not a folder"):
        write_synth(small, out / "thesis.tex")


def test_overwrite_replaces_an_earlier_set_as_a_whole(small: SynthData, tmp_path: Path) -> None:
    out = write_synth(small, tmp_path / "set")
    with pytest.raises(InputError, match="not empty"):
        write_synth(small, out)
    write_synth(small, out, layout="fairvlmed", overwrite=True)
    assert (out / "Training").is_dir()
    assert not (out / "manifest.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_empty_folder_is_filled(small: SynthData, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (write_synth(small, tmp_path / "empty") / "manifest.csv").is_file()


def test_a_full_disk_leaves_the_old_set_and_no_debris(
    small: SynthData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_synth(small, tmp_path / "set")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write_module, "_write_csv", full)
    with pytest.raises(InputError, match="No space left") as caught:
        write_synth(small, out, overwrite=True)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_interrupt_leaves_no_debris(small: SynthData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write_module, "_write_csv", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_synth(small, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_layout_is_refused(small: SynthData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^layout: got 'zip'; choose one of manifest, fairvlmed$"):
        write_synth(small, tmp_path / "x", layout="zip")
    assert list(tmp_path.iterdir()) == []
