"""Where images and note files lie: below the data folder, or in a folder elsewhere that the user has declared."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .files import DamagedFile, OutsideFolder, resolve_inside, shown

HOW_TO_DECLARE = 'declare the folder that it is in: --images FOLDER, or "images": "FOLDER" in dataset.json'
IMAGE_ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".dcm",
     ".dicom", ".npz")
)  # fmt: skip
NOTE_ENDINGS = frozenset((".txt",))
SAMPLE = 200
MAX_FILES = 5_000_000


@dataclass(frozen=True)
class FileFolder:
    """The folder that paths start from: `below` `root`, which no file may leave.

    Attributes
    ----------
    root
        The data folder, or a folder that the user has declared.
    below
        Path below `root`; empty for `root` itself.
    links
        Folder whose symbolic links may lead below `root`; None where no links are followed out of `root`.
    """

    root: Path
    below: str = ""
    links: Path | None = None

    @classmethod
    def of(cls, folder: Path, named: str, declared: Path | str | None = None, what: str = "images") -> FileFolder:
        """The folder that a description names; one that the user declared replaces it.

        Raises
        ------
        InputError
            The folder elsewhere does not exist.
        """
        place = Path(named).expanduser() if declared is None else Path(declared).expanduser().absolute()
        if not place.is_absolute():
            return cls(folder, named.strip("/"))
        if not place.is_dir():
            raise InputError(f"{what}: there is no folder {shown(str(place), 200)}; correct the path")
        return cls(place, "", folder if declared is None or Path(named).is_absolute() else folder / named)

    @property
    def start(self) -> Path:
        """The folder that paths start from."""
        return self.root / self.below if self.below else self.root

    def inside(self, path: str) -> str:
        """An absolute path that lies below the folder as a path below it; any other path as it is."""
        for start in dict.fromkeys((str(self.start), str(self.start.resolve()))):
            if path.startswith(f"{start.rstrip('/')}/"):
                return path[len(start.rstrip("/")) + 1 :].lstrip("/")
        return path

    def files(self) -> list[str]:
        """Paths of all files below the folder, sorted; hidden folders and links to folders are passed over."""
        return list(_files(resolve_inside(self.root, self.below or ".")))

    def places(self, paths: Iterable[str], endings: frozenset[str], files: Sequence[str]) -> dict[str, str]:
        """Where the files are that the first 200 paths name, directly or as in `found`; `files` as from `files()`."""
        sample = [path for path in dict.fromkeys(paths) if path][:SAMPLE]
        there = {path: path for path in sample if (self.start / path).is_file() and _ending(path) in endings}
        return there or self.found(sample, endings, files)

    def found(
        self, paths: Iterable[str], endings: frozenset[str] = IMAGE_ENDINGS, files: Sequence[str] | None = None
    ) -> dict[str, str]:
        """Paths that name no file, and where their files are; empty where the first paths do name files.

        Only where none of the first 200 paths is a file, files are looked for: behind the links of the data folder, with
        one of `endings` added, without the first folders of the path (as many for every path), and by the end of their
        path or their name in subfolders, at last in any case. A name that two files have is not found.

        Parameters
        ----------
        paths
            Paths below the folder, with forward slashes.
        """
        distinct = [path for path in dict.fromkeys(paths) if path]
        sample = distinct[:SAMPLE]
        if not sample or not self.start.is_dir() or any((self.start / path).is_file() for path in sample):
            return {}
        ways: list[Callable[[str], str | None]] = [self._linked] if self.links is not None else []
        files = self.files() if files is None else files
        for names in ({name: name for name in files}, _stems(files, endings)):
            ways += [_shorter(names, drop) for drop in range(_depth(sample))]
        right = [path for path in files if _ending(path) in endings]
        for whole in (True, False):
            ways += [_by_tail(files, str, whole=whole), _by_tail(right, _stem, whole=whole)]
            ways += [_by_tail(right, lambda path: path.casefold(), whole=whole)]
        hits = [sum(way(path) is not None for path in sample) for way in ways]
        if not max(hits):
            return {}
        best = ways[hits.index(max(hits))]
        return {path: place for path in distinct if (place := best(path)) is not None}

    def _linked(self, path: str) -> str | None:
        try:
            real = (self.links or self.root).joinpath(path).resolve(strict=True)
            return real.relative_to(self.root.resolve()).as_posix() if real.is_file() else None
        except (OSError, RuntimeError, ValueError):
            return None


def checked(folder: FileFolder, what: str = "images") -> FileFolder:
    """Refuse a named folder that is missing, or a link out of the data folder.

    Raises
    ------
    InputError
        As above; the message says how to declare the folder.
    """
    if folder.below:
        try:
            resolve_inside(folder.root, folder.below)
        except OutsideFolder as error:
            raise InputError(f"{what}: {error}; {HOW_TO_DECLARE.replace('images', what)}") from None
        except DamagedFile:
            pass  # each of its files is missing, which is counted and listed
    return folder


def _files(folder: Path) -> Iterable[str]:
    """Paths of the files below a folder; links to folders are not followed."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        base = Path(place).relative_to(folder).as_posix()
        for name in sorted(names):
            count += 1
            if count > MAX_FILES:
                return
            yield name if base == "." else f"{base}/{name}"


def _depth(paths: Iterable[str]) -> int:
    return max(path.count("/") for path in paths) + 1


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _stem(path: str) -> str:
    return path[: -len(ending)] if (ending := _ending(path)) else path


def _stems(files: Iterable[str], endings: frozenset[str]) -> dict[str, str]:
    """Path without its ending to path, where one file only has it."""
    with_ending = [name for name in files if _ending(name) in endings]
    counts = Counter(map(_stem, with_ending))
    return {_stem(name): name for name in with_ending if counts[_stem(name)] == 1}


def _shorter(names: dict[str, str], drop: int) -> Callable[[str], str | None]:
    def way(path: str) -> str | None:
        parts = path.split("/", drop)
        return names.get(parts[-1]) if len(parts) > drop else None

    return way


def _by_tail(files: Iterable[str], key: Callable[[str], str], *, whole: bool) -> Callable[[str], str | None]:
    """Files by the end of their path: as many parts as the path that is looked for has, or its name alone."""
    by_parts: dict[int, dict[str, list[str]]] = {}

    def way(path: str) -> str | None:
        parts = path.count("/") + 1 if whole else 1
        if parts not in by_parts:
            by_tail = by_parts[parts] = defaultdict(list)
            for file in files:
                by_tail[key("/".join(file.split("/")[-parts:]))].append(file)
        places = by_parts[parts].get(key("/".join(path.split("/")[-parts:])), [])
        return places[0] if len(places) == 1 else None

    return way
