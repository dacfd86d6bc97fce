"""Opening files whose paths come from a table.

Such a path may be hostile: it may leave the folder with "..", name a device, or do either through a symbolic link. Every
file of a data folder is opened through :func:`open_inside`, which resolves the path, refuses to leave the folder and takes
regular files only. An error never repeats the path. A path may lead into a .tar archive (``shard.tar/a.jpg``); see
`webdataset`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

# One file at a time is held in memory while its image is decoded.
MAX_FILE_BYTES = 256 * 1024 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"^[A-Za-z]:")


class DamagedFile(InputError):
    """A file that is missing or broken. Its pair can be left out; the rest of the folder can still be used."""


class OutsideFolder(InputError):
    """A path that leads out of the folder that was declared."""


def shown(value: object, limit: int = 40) -> str:
    """A value as one short printable line, for error messages; unpaired surrogates are escaped.

    >>> shown("a\\nb")
    "'a\\\\nb'"
    >>> shown("x" * 100, limit=5)
    "'xxxxx'..."
    """
    text = str(value)
    printable = repr(text[:limit]).encode("utf-8", "backslashreplace").decode("utf-8")
    return printable + ("..." if len(text) > limit else "")


def shown_name(name: str) -> str:
    """A file's name at the beginning of a message: as `shown`, without quotes."""
    return shown(name, 120)[1:-1]


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put a file's name before an error that does not begin with it."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from None


@contextmanager
def damage(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into one `DamagedFile`.

    Decoders raise a dozen kinds (BadZipFile, zlib.error, EOFError, struct.error, SyntaxError, ...), which differ between
    versions; only the reading of foreign bytes belongs in this block.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise DamagedFile(f"{what} is truncated or damaged ({type(error).__name__})") from None


def in_threads(work: Callable, items: Sequence, progress: Callable[[int, int], None] | None = None) -> list:
    """The result of `work` for each item, in order; the first exception cancels the work that has not begun."""
    results: list = []
    blocks = [items[at : at + 32] for at in range(0, len(items), 32)]
    with ThreadPoolExecutor() as pool:
        try:
            for block in pool.map(lambda block: [work(item) for item in block], blocks):
                results += block
                if progress is not None:
                    progress(len(results), len(items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def tidy_path(path: str) -> str:
    """One spelling for a path below a folder: forward slashes, no ``.`` parts, no doubled slashes.

    Backslashes count as slashes, for tables that were written on Windows. ``..`` is kept, so that it can be refused.

    >>> tidy_path(".\\\\images//a.png")
    'images/a.png'
    """
    slashed = path.strip().replace("\\", "/")
    lead = "/" if slashed.startswith("/") else ""
    return lead + "/".join(part for part in slashed.split("/") if part not in ("", "."))


def path_fault(path: str) -> str | None:
    """Why a path cannot be taken as one below the data folder, judged by its text alone; None where it can.

    The reason never repeats the path.

    >>> path_fault("images/a.png") is None
    True
    >>> path_fault("../a.png")
    'the path climbs out of the data folder with ".."'
    """
    if not path:
        return "the path is empty"
    if _CONTROL.search(path):
        return "the path holds control characters"
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        return "the path is absolute; give it relative to the data folder"
    if ".." in path.replace("\\", "/").split("/"):
        return 'the path climbs out of the data folder with ".."'
    return None


def resolve_inside(root: Path, path: str) -> Path:
    """The real place of `path` below `root`.

    Raises
    ------
    InputError
        The path is absolute, holds ``..`` or control characters, or leads out of `root` through a symbolic link.
    DamagedFile
        Nothing is there.
    """
    fault = path_fault(path)
    if fault:
        raise InputError(fault)
    try:
        home = Path(root).resolve()
        real = (home / path).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        # A link to a missing file outside is refused as one that leads out, not reported as missing.
        try:
            inside = (home / path).resolve().is_relative_to(home)
        except (OSError, RuntimeError, ValueError):
            inside = False
        if not inside:
            raise OutsideFolder("the path leads out of the data folder through a symbolic link") from None
        raise DamagedFile("the file is missing") from None
    except RuntimeError:
        raise InputError("the path goes in circles through symbolic links") from None
    except (OSError, ValueError) as error:
        raise DamagedFile(f"the file cannot be reached ({type(error).__name__})") from None
    if not real.is_relative_to(home):
        raise OutsideFolder("the path leads out of the data folder through a symbolic link")
    return real


def open_inside(root: Path, path: str, *, max_bytes: int = MAX_FILE_BYTES) -> BinaryIO:
    """Open a regular file below `root` for reading.

    Parameters
    ----------
    root, path
        The folder, and the path below it as a table gives it.
    max_bytes
        Larger files are refused.

    Raises
    ------
    InputError
        The path leaves the folder, or names a folder, a device, a pipe or a socket, or the file is too large.
    DamagedFile
        The file is missing, empty or cannot be read.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> _ = (Path(folder.name) / "a.bin").write_bytes(b"12")
    >>> with open_inside(folder.name, "a.bin") as file:
    ...     file.read()
    b'12'
    >>> open_inside(folder.name, "/etc/hostname")
    Traceback (most recent call last):
        ...
    fairvlm_core.errors.InputError: the path is absolute; give it relative to the data folder
    >>> folder.cleanup()
    """
    inside = member_path(path)
    if inside is not None and not (Path(root) / inside[0]).is_dir():
        from .webdataset import open_member

        return open_member(Path(root), path, max_bytes=max_bytes)
    return open_regular(resolve_inside(Path(root), path), max_bytes=max_bytes)


def member_path(path: str) -> tuple[str, str] | None:
    """Archive and member of a path that leads into a .tar; None of one that does not.

    >>> member_path("train/0001.tar/a.jpg"), member_path("a.tar"), member_path("a.jpg")
    (('train/0001.tar', 'a.jpg'), None, None)
    """
    archive, inside, member = path.partition(".tar/")
    return (f"{archive}.tar", member) if inside and member else None


def open_regular(real: Path, *, max_bytes: int = MAX_FILE_BYTES) -> BinaryIO:
    """Open a file whose place was checked; regular and not empty, or an error as in `open_inside`."""
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        regular = stat.S_ISREG(real.stat().st_mode)
        descriptor = os.open(real, flags) if regular else -1
    except (OSError, ValueError) as error:
        raise DamagedFile(f"the file cannot be opened ({type(error).__name__})") from None
    if not regular:
        raise InputError("the path names no regular file (a folder, device, pipe or socket)")
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise InputError("the path names no regular file (a folder, device, pipe or socket)")
        if facts.st_size == 0:
            raise DamagedFile("the file is empty (0 bytes)")
        if facts.st_size > max_bytes:
            raise InputError(f"the file is larger than {max_bytes // 2**20} MiB; reduce it")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
