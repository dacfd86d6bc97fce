"""Files that are old or new, never in between.

A file is written beside its place, flushed to the disk and renamed over it. A folder is written under a temporary name,
gets a manifest with sizes and SHA-256 last, and is renamed as a whole; who reads it checks the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

MANIFEST = "manifest.json"


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there takes its place when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """JSON without NaN: an undefined figure is null and carries its reason."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """`InputError` naming the file where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent.name}/{path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path.parent.name}/{path.name} cannot be read ({type(error).__name__})") from error


@contextmanager
def new_folder(path: Path, *, manifest: bool = True) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends without an error, with a manifest unless told not to."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        files = {}
        for file in sorted(p for p in temporary.rglob("*") if p.is_file()):
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
            if manifest:
                files[file.relative_to(temporary).as_posix()] = {"size": file.stat().st_size, "sha256": sha256(file)}
        if manifest:
            write_json(temporary / MANIFEST, {"files": files})
        old = None
        if path.exists():
            old = path.with_name(f".{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        temporary.rename(path)
        sync_folder(path.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_folder(path: Path) -> str | None:
    """None where every file of the manifest is there and whole, else what is wrong."""
    try:
        files = read_json(path / MANIFEST)["files"]
    except (InputError, KeyError, TypeError):
        return "its manifest is missing or damaged"
    for name, facts in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != facts["size"] or sha256(file) != facts["sha256"]:
            return f"{name} is damaged"
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
