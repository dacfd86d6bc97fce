"""Sharded archives of image-note pairs (WebDataset): .tar files whose members are ``KEY.jpg``, ``KEY.txt``, ``KEY.json``.

Nothing is unpacked to the disk: an image is read from its place in the archive. Paths in an archive must meet the rules of
`files`; links, devices and sparse members are refused, and every size is checked before it is read.
The format is https://github.com/webdataset/webdataset: members with the same name up to the first dot are one pair.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ..errors import InputError
from .csvtable import MAX_ROWS, MAX_TABLE_BYTES, StringTable
from .description import Description
from .files import (
    MAX_FILE_BYTES,
    DamagedFile,
    member_path,
    named,
    open_regular,
    path_fault,
    resolve_inside,
    shown,
    shown_name,
    tidy_path,
)
from .rows import RawRows
from .tables import rows_of
from .template import is_template

MAX_ARCHIVE_BYTES = 2**40
MAX_SIDE_BYTES = 4 * 2**20  # of a note, or of the JSON of a pair
MAX_FIELDS = 200
_HEADER_BYTES = 2**20  # of a name or of extended headers, which tarfile reads in one piece
_OPEN = 16  # archives whose directory is kept; a pass in order needs as many as there are threads
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
_SPLIT = re.compile(r"(train|training|val|valid|validation|dev|test|testing)(?![a-z])", re.IGNORECASE)
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class _Pair:
    """Names of one pair's members."""

    key: str
    image: str
    note: str | None
    fields: str | None


def archives(folder: Path) -> list[str]:
    """Paths of the .tar files in a folder and its subfolders, sorted; an error if there are only compressed ones."""
    names = [
        path.relative_to(folder).as_posix()
        for depth in ("*", "*/*")
        for path in folder.glob(depth)
        if not path.is_dir()
    ]
    names = sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
    found = [name for name in names if name.endswith(".tar")]
    if not found and any(name.endswith(_COMPRESSED) for name in names):
        raise InputError(
            "folder: compressed archives cannot be read in place; unpack each to a plain .tar (as gunzip does)"
        )
    return found


def webdataset_rows(folder: Path, description: Description) -> RawRows:
    """The pairs of all archives of a folder, in the order of their names.

    The label comes from ``label`` of a pair's JSON, as do ``split``, ``patient_id`` and ``pair_id`` where they are given;
    every further plain value is an attribute, by the rules of a manifest. Where no JSON names a split, the archives' own
    names may (``train-0000.tar``, ``val/0000.tar``).

    Raises
    ------
    InputError
        One line that names the archive, and the member by its number: damaged or truncated, a path that leaves the archive,
        a link or device, a member too large or given twice, invalid JSON.
    """
    names = archives(folder)
    columns = description.column_sets[0]
    role = {key: getattr(columns, key) or key for key in ("pair_id", "split", "image", "text")}
    if not isinstance(role["text"], str) or is_template(role["text"]):  # composed later, from all fields
        role["text"] = "text"
    pairs = _read_pairs(folder, names, role["text"])
    n = len(pairs.images)
    cells = {
        title: column + [""] * (n - len(column)) for title, column in pairs.columns.items() if title not in pairs.nested
    }
    cells |= {role["image"]: pairs.images, role["text"]: pairs.notes}
    if role["pair_id"] not in cells:
        cells[role["pair_id"]] = _ids(pairs.places)
    if role["split"] not in cells:
        splits = {name: split for name in names if (split := _split_of(name))}
        if len(splits) == len(names):
            cells[role["split"]] = [splits[name] for name, _ in pairs.places]
    table = StringTable(
        {title: pa.array(column, pa.large_string()) for title, column in cells.items()},
        n,
        f"{len(names)} archives",
        first_row=1,
    )
    places = pairs.places
    return replace(
        rows_of(table, description, manifest=True),
        row=lambda _: None,
        place=lambda index, what: f"{shown_name(places[index][0])}, pair {shown(places[index][1])}, {what}",
        left_out=pairs.left_out,
        columns_left_out=pairs.nested,
        n_found=n + len(pairs.left_out),
    )


@dataclass
class _Pairs:
    """What was read of the pairs: one entry a pair, and what was left out."""

    images: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    places: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    nested: dict[str, str] = field(default_factory=dict)

    def add(self, image: str, note: str, fields: dict[str, str], place: tuple[str, str]) -> None:
        for title, value in fields.items():
            column = self.columns.setdefault(title, [])
            column += [""] * (len(self.images) - len(column))
            column.append(value)
        self.images.append(image)
        self.notes.append(note)
        self.places.append(place)


def _read_pairs(folder: Path, names: list[str], text_field: str) -> _Pairs:
    pairs, free = _Pairs(), MAX_TABLE_BYTES
    for name in names:
        with _archive(folder, name) as file:
            for pair in _pairs(_directory(file), name, pairs.left_out):
                fields = _fields(file, name, pair, pairs.nested)
                note = _text(file, name, pair.note) if pair.note else fields.get(text_field, "")
                free -= len(note) + sum(map(len, fields.values()))
                if free < 0 or len(pairs.images) >= MAX_ROWS:
                    raise InputError(f"{shown_name(name)}: more pairs or text than fit one table; split the folder")
                pairs.add(f"{name}/{pair.image}", note, fields, (name, pair.key))
                if len(pairs.columns) > MAX_FIELDS:
                    raise InputError(
                        f"{shown_name(name)}: the JSON of its pairs has more than {MAX_FIELDS} different fields"
                    )
    return pairs


def open_member(root: Path, path: str, *, max_bytes: int = MAX_FILE_BYTES) -> BinaryIO:
    """A member of an archive below `root`, as a file in memory; `path` is ``SHARD.tar/MEMBER``.

    Raises
    ------
    InputError
        The path leaves the folder, the archive cannot be used, or the member is too large.
    DamagedFile
        There is no such archive or member, or it is empty.
    """
    archive, member = member_path(path) or (path, "")
    with _archive(root, archive) as file:
        place = _directory(file).get(member)
        if place is None:
            raise DamagedFile("the archive has no such member")
        return io.BytesIO(_read(file, place, max_bytes))


@contextmanager
def _archive(root: Path, name: str) -> Iterator[BinaryIO]:
    """An open archive below a folder; errors inside the block begin with its name."""
    with (
        named(shown_name(name)),
        open_regular(resolve_inside(Path(root), name), max_bytes=MAX_ARCHIVE_BYTES) as file,
    ):
        yield file


def _directory(file: BinaryIO) -> dict[str, tuple[int, int]]:
    """Name to place and size of the members of an open archive, in their order; kept while the file is the same."""
    facts = os.fstat(file.fileno())
    return _scan(_Handle(file, (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)))


class _Handle:
    """A file that counts as equal to another of the same identity, for the cache."""

    def __init__(self, file: BinaryIO, identity: tuple[int, ...]):
        self.file, self.identity = file, identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handle) and self.identity == other.identity


@lru_cache(maxsize=_OPEN)
def _scan(handle: _Handle) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    end = -1
    try:
        bounded: Any = _Bounded(handle.file)
        tar: Any
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            for number, info in enumerate(tar, 1):
                if info.size < 0 or info.offset_data <= end:
                    raise InputError(f"member {number}: its size or place is impossible; write the archive again")
                end = info.offset_data
                tar.members = []  # tarfile would keep them all
                if info.isdir():
                    continue
                name = tidy_path(info.name)
                if fault := path_fault(info.name):
                    raise InputError(f"member {number}: {fault}")
                if not info.isreg() or info.issparse():
                    raise InputError(f"member {number}: a link, device or sparse file; only plain files are taken")
                if name in found:
                    raise InputError(f"member {number}: its name is given twice; keep one")
                found[name] = (info.offset_data, info.size)
    except InputError:
        raise
    except Exception as error:  # what tarfile raises on foreign bytes is not one family
        raise InputError(f"truncated, or no plain .tar archive ({type(error).__name__}); copy it again") from None
    return found


class _Bounded:
    """A file for `tarfile`, which reads extended headers in one piece of the length they claim."""

    def __init__(self, file: BinaryIO):
        self._file = file
        file.seek(0)
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise InputError(f"an extended header is longer than {_HEADER_BYTES // 2**10} KiB; write the archive again")
        return self._file.read(size)


def _read(file: BinaryIO, place: tuple[int, int], max_bytes: int) -> bytes:
    start, size = place
    if size > max_bytes:
        raise InputError(f"a member is larger than {max_bytes // 2**20} MiB; reduce it")
    if size == 0:
        raise DamagedFile("the member is empty (0 bytes)")
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise DamagedFile("the member is truncated")
    return data


def _pairs(directory: dict[str, tuple[int, int]], archive: str, left_out: list[dict[str, Any]]) -> list[_Pair]:
    """Members by key, in order; a key without an image or without anything beside it is left out and listed."""
    grouped: dict[str, dict[str, str]] = {}
    for name in directory:
        folder, _, base = name.rpartition("/")
        stem, dot, ending = base.partition(".")
        if stem and dot:
            key = f"{folder}/{stem}" if folder else stem
            grouped.setdefault(key, {})[f".{ending.lower()}"] = name
    pairs = []
    for key, members in grouped.items():
        image = next((members[ending] for ending in _IMAGES if ending in members), None)
        if image is not None and (".txt" in members or ".json" in members):
            pairs.append(_Pair(key, image, members.get(".txt"), members.get(".json")))
            continue
        reason = "no image among its members" if image is None else "neither a .txt nor a .json beside the image"
        left_out.append({"row": None, "pair_id": key, "file": f"{archive}/{key}", "reason": reason})
    return pairs


def _text(file: BinaryIO, archive: str, name: str) -> str:
    place = _directory(file)[name]
    if place[1] == 0:
        return ""
    try:
        return _read(file, place, MAX_SIDE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{shown_name(archive)}, member {shown(name)}: not UTF-8; save it as UTF-8") from None
    except InputError as error:
        raise InputError(f"{shown_name(archive)}, member {shown(name)}: {error}") from None


def _fields(file: BinaryIO, archive: str, pair: _Pair, nested: dict[str, str]) -> dict[str, str]:
    """The plain values of a pair's JSON as text; names of the others go to `nested`."""
    if pair.fields is None:
        return {}
    place = f"{shown_name(archive)}, member {shown(pair.fields)}"
    try:
        values = json.loads(_text(file, archive, pair.fields))
    except (ValueError, RecursionError):
        raise InputError(f"{place}: not readable as JSON; correct it") from None
    if not isinstance(values, dict):
        raise InputError(f'{place}: an object is expected, as in {{"label": 1}}')
    fields = {}
    for title, value in values.items():
        if isinstance(value, dict | list):
            nested[title] = "it holds lists or objects"
        elif isinstance(value, float) and not math.isfinite(value):
            fields[title] = ""
        elif isinstance(value, float) and value.is_integer():
            fields[title] = f"{value:.0f}"
        else:
            fields[title] = "" if value is None else str(value)
    try:
        "".join(fields.values()).encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: holds half a character (an unpaired surrogate); correct it") from None
    return fields


def _ids(places: list[tuple[str, str]]) -> list[str]:
    keys = [key for _, key in places]
    if len(set(keys)) == len(keys):
        return keys
    return [f"{name.removesuffix('.tar')}/{key}" for name, key in places]


def _split_of(name: str) -> str | None:
    for part in reversed(name.split("/")):
        if found := _SPLIT.match(part):
            return found[1]
    return None
