"""The cache: correct, shared, private, continued after an interruption, and never stale."""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch

from fairvlm_core import RunConfig, fit
from fairvlm_core.adapt import embeddings
from fairvlm_core.cache import cache_key, cached_arrays, cached_embeddings, run_input
from fairvlm_core.features import PairArrays, PairEmbeddings, pair_arrays
from fairvlm_core.models import load_clip
from fairvlm_core.safeio import StorageError


@pytest.fixture
def few(table):
    return table.take(np.arange(0, len(table), 10))


@pytest.fixture
def clip():
    return load_clip("tiny")


def forward_passes(clip) -> list[int]:
    """Counts the images that pass through the image tower."""
    seen: list[int] = []
    clip.module.visual.register_forward_hook(lambda _module, _input, output: seen.append(len(output)))
    return seen


def test_embeddings_equal_the_towers_outputs_and_are_computed_once(few, clip, tmp_path):
    expected = embeddings(clip, pair_arrays(few, clip))
    seen, told = forward_passes(clip), []
    first = cached_embeddings(few, clip, tmp_path, part_size=8, progress=lambda *done: told.append(done))
    assert sum(seen) == len(few)
    assert told[-1] == (len(few), len(few))
    again = cached_embeddings(few, load_clip("tiny"), tmp_path)
    for found in (first, again):
        torch.testing.assert_close(found.pixels, expected.pixels, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.tokens, expected.tokens, rtol=1e-5, atol=1e-5)
    cached_embeddings(few, clip, tmp_path)
    assert sum(seen) == len(few), "a second run reads them"


def test_an_interrupted_pass_continues_and_a_damaged_part_is_computed_again(few, clip, tmp_path):
    def stop(done: int, _total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(few, clip, tmp_path, part_size=8, progress=stop)
    parts = sorted(next(tmp_path.glob("*.parts")).glob("*.npz"))
    assert len(parts) == 2
    content = bytearray(parts[0].read_bytes())
    content[len(content) // 2] ^= 255
    parts[0].write_bytes(bytes(content))
    seen = forward_passes(clip)
    cached_embeddings(few, clip, tmp_path, part_size=8)
    assert sum(seen) == len(few) - 8
    assert not list(tmp_path.glob("*.parts"))


def test_a_damaged_cache_is_computed_again(few, clip, tmp_path):
    whole = cached_embeddings(few, clip, tmp_path)
    file = next(tmp_path.glob("embeddings-*/image.npy"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(bytes(content))
    assert torch.equal(cached_embeddings(few, clip, tmp_path).pixels, whole.pixels)


def test_the_key_depends_on_weights_preprocessing_rows_and_image_bytes(synth_folder, clip, tmp_path):
    from fairvlm_core import PairTable

    folder = shutil.copytree(synth_folder, tmp_path / "data")
    table = PairTable.read(folder, check_images=False)
    keys = [cache_key(table, clip), cache_key(table.take(np.arange(20)), clip)]
    keys.append(cache_key(table, replace(clip, preprocess=clip.preprocess | {"interpolation": "nearest"})))
    file = folder / table.frame["image"].iat[0]
    file.write_bytes(file.read_bytes() + b"\0")
    keys.append(cache_key(PairTable.read(folder, check_images=False), clip))
    with torch.no_grad():
        clip.module.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    keys.append(cache_key(table, clip))
    assert len(set(keys)) == len(keys)


def test_only_the_owner_may_read_them(few, clip, tmp_path):
    cached_embeddings(few, clip, tmp_path / "cache")
    for path in (tmp_path / "cache").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_run_on_cached_embeddings_equals_one_on_images(table, arrays, tmp_path):
    config = RunConfig.build("robustfair", {"trainable": "head", "epochs": 2, "batch_size": 32})
    clip = load_clip("tiny")
    prepared = run_input(table, clip, config, tmp_path)
    assert isinstance(prepared, PairEmbeddings)
    cached, direct = fit(table, config, arrays=prepared, clip=clip), fit(table, config, arrays=arrays)
    assert np.allclose(cached.ledger.losses, direct.ledger.losses, atol=1e-4)
    plain = run_input(table.take(np.arange(4)), clip, RunConfig(), tmp_path)
    assert type(plain) is PairArrays


def test_decoded_images_are_mapped_and_equal_those_in_memory(few, clip, tmp_path):
    told = []
    mapped = cached_arrays(few, clip, tmp_path, part_size=8, progress=lambda *done: told.append(done))
    direct = pair_arrays(few, clip)
    assert torch.equal(mapped.pixels, direct.pixels)
    assert torch.equal(mapped.tokens, direct.tokens)
    assert told[-1] == (len(few), len(few))
    batch = torch.tensor([3, 0, 7])
    assert torch.equal(mapped.pixels[batch], direct.pixels[batch])
    mapped.pixels[0] = 0  # the file is not written through
    assert torch.equal(cached_arrays(few, clip, tmp_path).pixels, direct.pixels)


def test_images_are_decoded_once_whatever_notes_labels_and_weights(few, clip, tmp_path, monkeypatch):
    cached_arrays(few, clip, tmp_path)
    with torch.no_grad():
        clip.module.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    other = replace(few, frame=few.frame.assign(text="another note"))
    monkeypatch.setattr(type(few), "image", lambda *_: pytest.fail("decoded again"))
    cached_arrays(other, clip, tmp_path)


def test_interrupted_decoding_continues_after_the_last_complete_image(few, clip, tmp_path):
    def stop(done: int, _total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_arrays(few, clip, tmp_path, part_size=4, progress=stop)
    file = next(tmp_path.glob("*.parts/pixels.npy"))
    with file.open("ab") as handle:
        handle.write(b"half an image")
    told = []
    mapped = cached_arrays(few, clip, tmp_path, part_size=4, progress=lambda *done: told.append(done[0]))
    assert told[0] == 12
    assert torch.equal(mapped.pixels, pair_arrays(few, clip).pixels)
    assert not list(tmp_path.glob("*.parts"))


def test_a_damaged_image_cache_is_made_again(few, clip, tmp_path):
    whole = cached_arrays(few, clip, tmp_path).pixels.clone()
    file = next(tmp_path.glob("pixels-*/pixels.npy"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(bytes(content))
    assert torch.equal(cached_arrays(few, clip, tmp_path).pixels, whole)


def test_too_little_disk_space_for_the_images_is_one_clear_line(few, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40 - 1, 1))
    with pytest.raises(StorageError, match=r"GiB left: free some space, choose a --workspace"):
        cached_arrays(few, clip, tmp_path)
    assert not list(tmp_path.glob("pixels-*[!s]/pixels.npy"))


def test_a_run_on_mapped_images_equals_one_on_images_in_memory(table, arrays, tmp_path):
    config = RunConfig.build("robustfair", {"epochs": 1, "batch_size": 32})
    clip = load_clip("tiny")
    mapped = fit(table, config, arrays=run_input(table, clip, config, tmp_path), clip=clip)
    direct = fit(table, config, arrays=arrays)
    assert np.array_equal(mapped.ledger.losses, direct.ledger.losses)
    assert mapped.predictions.equals(direct.predictions)
