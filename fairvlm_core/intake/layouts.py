"""Which layout a folder has, found from what lies in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..cells import typed_path
from ..errors import InputError
from .description import Description, known_descriptions, parse_description, read_description
from .files import resolve_inside, shown
from .splits import SPLITS
from .tablefile import table_header

SPLIT_FOLDERS = {
    "training": "train", "train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
MANIFESTS = ("manifest.csv", "manifest.parquet")


@dataclass(frozen=True)
class Layout:
    """How a folder is to be read.

    Attributes
    ----------
    kind
        "fairvlmed", "manifest", "foreign" or "webdataset".
    description
        What is known beyond the files themselves; empty where nothing was given.
    origin
        Where the description comes from: "dataset.json", "given", "built in: NAME" or "none".
    table
        The table's path below the folder, or several; None for a Harvard-FairVLMed folder and for archives.
    """

    kind: str
    description: Description
    origin: str
    table: str | tuple[str, ...] | None


def find_layout(folder: Path | str, description: Description | Mapping | str | Path | None = None) -> Layout:
    """Find a data folder's layout.

    Looked for in this order: a description (passed here, else ``dataset.json`` in the folder) that names a table;
    ``manifest.csv`` or ``manifest.parquet``; the folders ``Training``, ``Validation``, ``Test`` with .npz files, or
    ``data_summary.csv``; a table whose columns are those of a collection that fairvlm knows; .tar archives of pairs.

    Parameters
    ----------
    folder
        The data folder.
    description
        A description, its content as a mapping, or the path of a JSON file anywhere; it replaces ``dataset.json``.

    Raises
    ------
    InputError
        There is no such folder, nothing in it is known, or the description is wrong.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> _ = (Path(folder.name) / "manifest.csv").write_text("pair_id,image,text,label,split\\n")
    >>> find_layout(folder.name).kind
    'manifest'
    >>> folder.cleanup()
    """
    folder = check_folder(folder)
    try:
        entries = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise InputError(
            f"folder: {folder.name} cannot be listed ({type(error).__name__}); check its permissions"
        ) from None
    content, origin = _description(folder, description, entries)
    if content.table is not None and content.table not in MANIFESTS:
        return Layout("foreign", content, origin, content.table)
    manifests = [str(content.table)] if content.table else [name for name in MANIFESTS if name in entries]
    if len(manifests) > 1:
        raise InputError(
            'folder: both manifest.csv and manifest.parquet are there; keep one, or name it as "table" in dataset.json'
        )
    if manifests:
        return Layout("manifest", content, origin, manifests[0])
    if "data_summary.csv" in entries or _has_npz_folder(folder, entries):
        return Layout("fairvlmed", content, origin, None)
    if origin == "none":
        for name, known in known_descriptions().items():
            tables = (known.table,) if isinstance(known.table, str) else known.table or ()
            if entries >= set(tables) and all(set(known.recognise) <= set(table_header(folder / t)) for t in tables):
                return Layout("foreign", known, f"built in: {name}", known.table)
    from .webdataset import archives

    if archives(folder):
        return Layout("webdataset", content, origin, None)
    raise InputError(
        f"folder: no data of a known layout in {folder.name!r}: no manifest.csv, no Harvard-FairVLMed folders, no "
        f"archives of pairs, no public set. If it holds a table, `fairvlm describe {shown(folder, 200)[1:-1]} --write` "
        "proposes what its columns mean"
    )


def check_folder(folder: Path | str) -> Path:
    """The folder as a path, or an `InputError` where there is none."""
    try:
        path = typed_path(folder)
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, ValueError, TypeError):
        raise InputError("folder: not a usable path; give the path of a data folder") from None
    what = "is a file, not a folder" if exists else "does not exist"
    raise InputError(f"folder: {str(folder)!r} {what}; give the path of a data folder")


def split_folders(folder: Path) -> dict[str, str]:
    """Names of the split folders of a Harvard-FairVLMed folder and the split each stands for; training first."""
    found = {
        path.name: SPLIT_FOLDERS[path.name.lower()]
        for path in sorted(folder.iterdir())
        if path.name.lower() in SPLIT_FOLDERS and path.is_dir()
    }
    return dict(sorted(found.items(), key=lambda item: SPLITS.index(item[1])))


def _has_npz_folder(folder: Path, entries: set[str]) -> bool:
    if not any(name.lower() in SPLIT_FOLDERS for name in entries):
        return False
    return any(entry.name.endswith(".npz") for name in split_folders(folder) for entry in os.scandir(folder / name))


def _description(folder: Path, given: object, entries: set[str]) -> tuple[Description, str]:
    if isinstance(given, str | Path):
        return read_description(Path(given)), "given"
    if given is not None:
        return parse_description(given, "description"), "given"
    if "dataset.json" in entries:
        try:
            path = resolve_inside(folder, "dataset.json")
        except InputError as error:
            raise InputError(f"dataset.json: {error}") from None
        return read_description(path, name="dataset.json"), "dataset.json"
    return Description(), "none"
