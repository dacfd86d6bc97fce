"""Decoded images and embeddings on disk, computed once and shared by all runs of a workspace.

```
workspace/cache/pixels-81ad…/              pixels.npy, a manifest with its SHA-256; read through a memory map
workspace/cache/embeddings-3f0c…/          image.npy, text.npy, cut.npy and a manifest with their SHA-256
workspace/cache/….parts/                   results of an interrupted pass, from which the next one continues
```

The name is a hash of everything that determines the content. For pixels: the preprocessing and the image files, in the
order of the table. For embeddings, in addition: the model's configuration and weights and the table's fingerprint. A
change of any of these gives another folder, so the cache is never stale. The folders may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from . import safeio
from .adapt import towers
from .config import RunConfig
from .errors import InputError
from .features import PairArrays, PairEmbeddings, decode_into
from .hf_models import ADAPTER
from .intake.files import open_inside
from .models import Clip
from .pairs import PairTable
from .safeio import StorageError

VERSION = 3  # counts up when images or notes become other arrays than before
_NAMES = ("image", "text", "cut")
_PIXELS = "pixels.npy"


def run_input(
    table: PairTable,
    clip: Clip,
    config: RunConfig,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PairArrays:
    """A run's input, from the cache in `folder`: embeddings for ``trainable=head``, else images and tokens."""
    if config.trainable == "head":
        return cached_embeddings(table, clip, folder, progress=progress)
    return cached_arrays(table, clip, folder, progress=progress)


def cached_arrays(
    table: PairTable,
    clip: Clip,
    folder: Path,
    *,
    part_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> PairArrays:
    """Images and tokens of a table for a model. Images are memory-mapped, so a data set may be larger than memory.

    Parameters
    ----------
    folder : Path
        Of the cache. A second process that needs the same images waits for the first.
    part_size : int
        Images that are decoded and written at a time: an interrupted pass loses at most so many.
    progress : callable (images done, number of images)

    Raises
    ------
    InputError
        An image cannot be read.
    StorageError
        The disk is too small for the images or cannot be written; the next pass uses what was decoded.
    """
    place = Path(folder) / f"pixels-{pixels_key(table, clip)}"
    with _alone(place):
        if not _whole(place):
            parts = place.with_name(f"{place.name}.parts")
            _decode(table, clip, parts / _PIXELS, part_size, progress)
            with safeio.new_folder(place) as new:
                (parts / _PIXELS).rename(new / _PIXELS)
            shutil.rmtree(parts, ignore_errors=True)
        os.utime(place / _PIXELS)  # the time of last use, for cleaning up
        pixels = np.load(place / _PIXELS, mmap_mode="c", allow_pickle=False)
    tokens, cut = clip.tokens(list(table.frame["text"]))
    return PairArrays(torch.from_numpy(pixels), tokens, cut, clip.preprocess)


def cached_embeddings(
    table: PairTable,
    clip: Clip,
    folder: Path,
    *,
    part_size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> PairEmbeddings:
    """Outputs of a model's towers for every pair of a table, read from the cache in `folder` or computed and stored there.

    Parameters
    ----------
    folder, part_size, progress
        As in `cached_arrays`, for pairs instead of images.

    Raises
    ------
    InputError
        An image cannot be read.
    StorageError
        The disk is full or cannot be written; finished parts are kept.
    """
    place = Path(folder) / f"embeddings-{cache_key(table, clip)}"
    with _alone(place):
        if _whole(place):
            return _read(place)
        parts = place.with_name(f"{place.name}.parts")
        arrays = _compute(table, clip, parts, part_size, progress)
        with safeio.new_folder(place) as new:
            for name, values in zip(_NAMES, arrays, strict=True):
                np.save(new / f"{name}.npy", values)
        shutil.rmtree(parts, ignore_errors=True)
        return _embeddings(*arrays)


def cache_key(table: PairTable, clip: Clip) -> str:
    """32 hex digits that identify one model on one set of pairs."""
    digest = hashlib.sha256(json.dumps([VERSION, clip.config, clip.preprocess], sort_keys=True, default=str).encode())
    for name, value in clip.module.state_dict().items():
        if not name.startswith(ADAPTER):  # it is applied after the cached outputs
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    digest.update(table.fingerprint.encode())
    for found in _digests(table).values():
        digest.update(found)
    return digest.hexdigest()[:32]


def pixels_key(table: PairTable, clip: Clip) -> str:
    """32 hex digits that identify the images of a table, in its order, as one model takes them."""
    digest = hashlib.sha256(json.dumps([VERSION, "pixels", clip.preprocess], sort_keys=True, default=str).encode())
    digests = _digests(table)
    for path in table.frame["image"]:
        digest.update(digests[path])
    return digest.hexdigest()[:32]


def _digests(table: PairTable) -> dict[str, bytes]:
    """SHA-256 of each image file; `b"missing"` for unreadable files, whose error decoding reports."""

    def digest(path: str) -> bytes:
        try:
            with open_inside(table.image_root, path) as file:
                return hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        except (InputError, OSError):
            return b"missing"

    paths = list(dict.fromkeys(table.frame["image"]))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(paths, pool.map(digest, paths, chunksize=64), strict=True))


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time makes or reads a folder of the cache."""
    lock = FileLock(place.with_name(f".{place.name}.lock"), mode=safeio.PRIVATE_FILE)
    with safeio.storing(place):  # on a full disk the lock cannot be written either
        safeio.make_folder(place.parent)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _whole(place: Path) -> bool:
    return place.is_dir() and safeio.check_folder(place) is None


def _decode(table: PairTable, clip: Clip, file: Path, size: int, progress: Callable[[int, int], None] | None) -> None:
    """Complete `file`, a .npy that may contain a part of the images.

    Plain writes are used because on a full disk they raise an error, while writing to a memory map ends the process.
    """
    n, shape = len(table), (3, *clip.image_size)
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    row = int(np.prod(shape))
    with safeio.storing(file):
        safeio.make_folder(file.parent)
        with _private(file) as handle:
            np.lib.format.write_array_header_1_0(handle, header)
            start = handle.tell()
            done = max(0, (file.stat().st_size - start) // row)
            wanted, free = (n - done) * row, shutil.disk_usage(file.parent).free
            if wanted > free:
                raise StorageError(
                    f"the decoded images take {wanted / 2**30:.1f} GiB and the disk has {free / 2**30:.1f} GiB left: free "
                    "some space, choose a --workspace on another disk, or set trainable=head, which stores embeddings only"
                )
            handle.seek(start + done * row)
            handle.truncate()
            for first in range(done, n, size):
                rows = range(first, min(first + size, n))
                pixels = np.empty((len(rows), *shape), np.uint8)
                decode_into(pixels, table, clip, rows)
                handle.write(pixels.data)
                handle.flush()
                os.fsync(handle.fileno())
                if progress is not None:
                    progress(rows.stop, n)


@contextmanager
def _private(file: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, safeio.PRIVATE_FILE), "r+b") as handle:
        yield handle


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
                np.savez(handle, image=values[0], text=values[1], cut=values[2])
            if progress is not None:
                progress(min(start + size, len(table)), len(table))
    found = [part for start in starts if (part := _part(parts / f"{start:09d}.npz")) is not None]
    return tuple(np.concatenate([part[i] for part in found]) for i in range(len(_NAMES)))


def _decoded(table: PairTable, clip: Clip, starts: list[int], size: int) -> Iterator[tuple[int, Tensor]]:
    """Images of one part after the other; the next part is decoded while the model encodes this one."""

    def load(start: int) -> Tensor:
        rows = range(start, min(start + size, len(table)))
        pixels = np.empty((len(rows), 3, *clip.image_size), np.uint8)
        decode_into(pixels, table, clip, rows)
        return torch.from_numpy(pixels)

    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(load, start) for start in starts[:1]]
        for i, start in enumerate(starts):
            pixels = coming.pop().result()
            coming += [pool.submit(load, next_start) for next_start in starts[i + 1 : i + 2]]
            yield start, pixels


def _forward(encode: Callable[[Tensor], Tensor], values: Tensor, batch_size: int = 64) -> np.ndarray:
    starts = range(0, len(values), batch_size)
    return torch.cat([encode(values[start : start + batch_size]).float().cpu() for start in starts]).numpy()


def _part(path: Path) -> tuple[np.ndarray, ...] | None:
    """A finished part, or None where it is missing or damaged (the file has checksums)."""
    try:
        with np.load(path, allow_pickle=False) as values:
            return tuple(values[name] for name in _NAMES)
    except Exception:  # numpy and zipfile raise errors of many types on foreign bytes; the part is computed again
        return None


def _read(place: Path) -> PairEmbeddings:
    for name in _NAMES:
        os.utime(place / f"{name}.npy")  # the time of last use, for cleaning up
    return _embeddings(*(np.load(place / f"{name}.npy", allow_pickle=False) for name in _NAMES))


def _embeddings(image: np.ndarray, text: np.ndarray, cut: np.ndarray) -> PairEmbeddings:
    return PairEmbeddings(torch.from_numpy(image), torch.from_numpy(text), cut)
