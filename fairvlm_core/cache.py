"""Embeddings computed once and kept on disk, shared by all runs of a workspace.

```
workspace/cache/embeddings-3f0c…/          image.npy, text.npy, cut.npy and a manifest with their SHA-256
workspace/cache/embeddings-3f0c….parts/    what a stopped pass had done; the next one goes on from there
```

The name is a hash of the model's configuration, weights and preprocessing, and of the data: the table's fingerprint and
the bytes of its image files. Whatever of these changes leads to another folder, so that nothing stale is ever read. The
folders may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from . import safeio
from .adapt import towers
from .config import RunConfig
from .features import PairArrays, PairEmbeddings, pair_arrays
from .models import Clip
from .pairs import PairTable

VERSION = 1
_NAMES = ("image", "text", "cut")


def run_input(
    table: PairTable,
    clip: Clip,
    config: RunConfig,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PairArrays:
    """What a run trains on: embeddings from the cache in `folder` for ``trainable=head``, else images and tokens."""
    if config.trainable == "head":
        return cached_embeddings(table, clip, folder, progress=progress)
    return pair_arrays(table, clip, progress=progress)


def cached_embeddings(
    table: PairTable,
    clip: Clip,
    folder: Path,
    *,
    part_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> PairEmbeddings:
    """What a model's towers give for every pair of a table, from `folder` where it is there, else computed and kept.

    Parameters
    ----------
    folder : Path
        Of the cache; made for its owner alone. A second process that wants the same embeddings waits for the first.
    part_size : int
        Pairs that are computed and written at a time: what an interrupted pass loses at most.
    progress : callable (pairs done, pairs in all)

    Raises
    ------
    InputError
        An image cannot be read.
    StorageError
        The disk is full or may not be written to; finished parts stay.
    """
    place = Path(folder) / f"embeddings-{cache_key(table, clip)}"
    with safeio.storing(place):
        safeio.make_folder(place.parent)
    with FileLock(place.with_name(f".{place.name}.lock"), mode=safeio.PRIVATE_FILE):
        if place.is_dir() and safeio.check_folder(place) is None:
            return _read(place)
        parts = place.with_name(f"{place.name}.parts")
        arrays = _compute(table, clip, parts, part_size, progress)
        with safeio.new_folder(place) as new:
            for name, values in zip(_NAMES, arrays, strict=True):
                np.save(new / f"{name}.npy", values)
        shutil.rmtree(parts, ignore_errors=True)
        return _embeddings(*arrays)


def cache_key(table: PairTable, clip: Clip) -> str:
    """32 hex digits that name one model on one set of pairs."""
    digest = hashlib.sha256(json.dumps([VERSION, clip.config, clip.preprocess], sort_keys=True, default=str).encode())
    for name, value in clip.module.state_dict().items():
        if not name.startswith("fairvlm_adapter."):  # it comes after what is kept here
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    digest.update(table.fingerprint.encode())
    root = Path(table.root)
    for path in dict.fromkeys(table.frame["image"]):
        file = root / path
        digest.update((safeio.sha256(file) if path and file.is_file() else "missing").encode())
    return digest.hexdigest()[:32]


def _compute(
    table: PairTable, clip: Clip, parts: Path, size: int, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, ...]:
    starts = range(0, len(table), size)
    missing = [start for start in starts if _part(parts / f"{start:09d}.npz") is None]
    with towers(clip):
        for start, pixels in _decoded(table, clip, missing, size):
            tokens, cut = clip.tokens(list(table.frame["text"].iloc[start : start + size]))
            values = (_forward(clip.raw_images, pixels), _forward(clip.raw_notes, tokens), cut)
            with safeio.new_file(parts / f"{start:09d}.npz") as file, file.open("wb") as handle:
                np.savez(handle, **dict(zip(_NAMES, values, strict=True)))
            if progress is not None:
                progress(min(start + size, len(table)), len(table))
    found = [_part(parts / f"{start:09d}.npz") for start in starts]
    return tuple(np.concatenate([part[i] for part in found]) for i in range(len(_NAMES)))


def _decoded(table: PairTable, clip: Clip, starts: list[int], size: int) -> Iterator[tuple[int, Tensor]]:
    """Images of one part after the other; the next part is decoded while the model works on this one."""

    def load(start: int) -> Tensor:
        rows = range(start, min(start + size, len(table)))
        return torch.from_numpy(np.stack([clip.pixels(table.image(row)) for row in rows]))

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, starts[0]) if starts else None
        for i, start in enumerate(starts):
            pixels = coming.result()
            coming = pool.submit(load, starts[i + 1]) if i + 1 < len(starts) else None
            yield start, pixels


def _forward(encode: Callable[[Tensor], Tensor], values: Tensor, batch_size: int = 64) -> np.ndarray:
    starts = range(0, len(values), batch_size)
    return torch.cat([encode(values[start : start + batch_size]).float().cpu() for start in starts]).numpy()


def _part(path: Path) -> tuple[np.ndarray, ...] | None:
    """A finished part, or None where it is missing or damaged (the file carries checksums)."""
    try:
        with np.load(path, allow_pickle=False) as values:
            return tuple(values[name] for name in _NAMES)
    except Exception:  # what numpy and zipfile raise on foreign bytes is not one family; all of it means: do it again
        return None


def _read(place: Path) -> PairEmbeddings:
    for name in _NAMES:
        os.utime(place / f"{name}.npy")  # when it was last of use, for who tidies up
    return _embeddings(*(np.load(place / f"{name}.npy", allow_pickle=False) for name in _NAMES))


def _embeddings(image: np.ndarray, text: np.ndarray, cut: np.ndarray) -> PairEmbeddings:
    return PairEmbeddings(torch.from_numpy(image), torch.from_numpy(text), cut)
