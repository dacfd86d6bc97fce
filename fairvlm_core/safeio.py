"""Atomic writes of files and folders, readable only by their owner.

A file is written under a temporary name in the same folder, flushed to the disk and renamed. A folder is written under a
temporary name, gets a manifest with sizes and SHA-256 last, and is renamed; readers check the manifest. If a write fails,
the old content is kept. A killed process leaves temporary names, which readers ignore and `sweep` removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")
_ASIDE = ".aside"
_FIXES = (
    ((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space and try again"),
    ((errno.EACCES, errno.EPERM, errno.EROFS), "make its folder writable, or choose another --workspace"),
    (
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
        "a file is where a folder should be, or the reverse; choose another place",
    ),
)


class StorageError(InputError):
    """Something could not be written; the old content is kept."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn a failed write of `path` inside the block into one `StorageError` with the reason and the fix."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides the system error
        if not isinstance(cause, OSError):
            raise
        reason = os.strerror(cause.errno) if cause.errno else type(cause).__name__
        fix = next((fix for errors, fix in _FIXES if cause.errno in errors), "check the disk and try again")
        raise StorageError(f"{_short(path)} cannot be written ({reason}): {fix}; the old content is kept") from error


def _short(path: Path) -> str:
    return "/".join(part for part in (path.parent.name, path.name) if part)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, readable only by their owner."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends without an error.

    Raises
    ------
    StorageError
        The disk is full or fails, or the folder is not writable; the old file is kept.
    """
    path = Path(path)
    with storing(path):
        make_folder(path.parent)
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
    """Write JSON without NaN: an undefined value is null."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Add a line to a log. A failed write is ignored: only the line is lost."""

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, PRIVATE_FILE)

    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8", opener=private) as file:
        file.write(line + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; an `InputError` names a file that is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{_short(path)} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{_short(path)} cannot be read ({type(error).__name__})") from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read TOML; an `InputError` names `what` and the file where it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{what} {path.name}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{what} {path.name} is no TOML: {error}") from None


def read_versioned(path: Path, newest: int) -> dict[str, Any]:
    """Read a JSON object and check and remove its `schema_version`.

    Raises
    ------
    InputError
        The file is missing or damaged, is no object, or has a newer schema than `newest`.
    """
    values = read_json(path)
    place = f"{path.parent.name}/{path.name}"
    if not isinstance(values, dict):
        raise InputError(f"{place} cannot be read: it contains {type(values).__name__} instead of an object")
    check_version(values.pop("schema_version", 1), newest, place)
    return values


def check_version(version: object, newest: int, place: str) -> None:
    """Refuse data of a newer fairvlm, and values that are no version.

    >>> check_version(2, 1, "0007-clip-s0/status.json")
    Traceback (most recent call last):
        ...
    fairvlm_core.errors.InputError: 0007-clip-s0/status.json has schema version 2, this fairvlm reads up to 1: update it
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InputError(f"{place} is damaged: its schema version is no whole number from 1")
    if version > newest:
        raise InputError(f"{place} has schema version {version}, this fairvlm reads up to {newest}: update it")


@contextmanager
def new_folder(path: Path, *, manifest: bool = True) -> Iterator[Path]:
    """A temporary folder that replaces `path` when the block ends without an error, by default with a manifest.

    The old folder is moved aside first and put back if renaming fails.

    Raises
    ------
    StorageError
        As in `new_file`.
    """
    path = Path(path)
    with storing(path):
        make_folder(path.parent)
        put_back(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            _seal(temporary, manifest)
            old = _move_aside(path)
            temporary.rename(path)
            sync_folder(path.parent)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(OSError):
                put_back(path)
            raise


def _seal(folder: Path, manifest: bool) -> None:
    """Flush every file, make it private, and write the manifest last."""
    files = {}
    for file in sorted(folder.rglob("*")):
        if file.is_dir():
            file.chmod(PRIVATE_FOLDER)
            continue
        file.chmod(PRIVATE_FILE)
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
        if manifest:
            files[file.relative_to(folder).as_posix()] = {"size": file.stat().st_size, "sha256": sha256(file)}
    if manifest:
        write_json(folder / MANIFEST, {"schema_version": MANIFEST_VERSION, "files": files})
    sync_folder(folder)


def _move_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    old = path.with_name(f".{path.name}{_ASIDE}")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    return old


def put_back(path: Path) -> None:
    """Restore the old folder where a process was killed between moving it aside and renaming the new one."""
    old = path.with_name(f".{path.name}{_ASIDE}")
    if old.exists() and not path.exists():
        old.rename(path)


def check_folder(path: Path) -> str | None:
    """None if every file of the manifest is complete, else what is wrong."""
    try:
        if (version := read_json(path / MANIFEST).get("schema_version", 1)) > MANIFEST_VERSION:
            return f"a newer fairvlm wrote it (schema version {version})"
        files = read_json(path / MANIFEST)["files"]
        for name, facts in files.items():
            file = path / name
            if Path(name).is_absolute() or ".." in Path(name).parts:
                return "its manifest names a file outside of it"
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != facts["size"] or sha256(file) != facts["sha256"]:
                return f"{name} is damaged"
    except (InputError, KeyError, TypeError, AttributeError):
        return "its manifest is missing or damaged"
    except OSError as error:
        return f"a file cannot be read ({type(error).__name__})"
    return None


def sweep(folder: Path, *, older_than: float = 60.0) -> int:
    """Remove temporary files and folders of killed processes; returns how many.

    Those younger than `older_than` seconds are kept: they may belong to a running process.
    """
    removed = 0
    for path in folder.glob(".*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if path.name.endswith(_ASIDE):
                put_back(path.with_name(path.name[1:].removesuffix(_ASIDE)))
            elif not _TEMPORARY.fullmatch(path.name):
                continue
            if not path.exists() or time.time() - path.stat().st_mtime < older_than:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            removed += 1
    return removed


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
