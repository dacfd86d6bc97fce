"""Reading foreign .npz files: nothing is unpickled, and sizes are checked before anything is allocated.

An .npz is a zip of .npy members. A member's header states type and shape, the zip states how many bytes it unpacks to.
Both are read first; they must agree and stay under a limit. Only then the numbers are read, and the zip's checksum is
verified. Members with Python objects, which numpy would unpickle and so execute, are refused by their type.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from ..errors import InputError
from .files import DamagedFile, damage, open_inside, shown

MAX_MEMBERS = 200
MAX_DIRECTORY_BYTES = 2**20
MAX_MEMBER_BYTES = 512 * 2**20
MAX_NOTE_BYTES = 32 * 2**20
_KINDS = "biufUS"  # booleans, integers, floats, text; never objects ("O") or records ("V")


@dataclass(frozen=True)
class Member:
    """What the header of a member says, before any of its numbers are read."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    nbytes: int
    checksum: int


class NpzFile:
    """An open .npz below a data folder; a context manager.

    Errors do not name the file; the caller adds the name.

    Raises
    ------
    InputError
        Not to be used at all: the path leaves the folder, a member holds Python objects, or claims to be huge.
    DamagedFile
        Missing, empty, truncated, or failing its checksum.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.savez(Path(folder.name) / "a.npz", age=np.array(61), note=np.array("stable"))
    >>> with NpzFile(folder.name, "a.npz") as file:
    ...     file.names, file.scalar("age"), file.scalar("note")
    (('age', 'note'), '61', 'stable')
    >>> folder.cleanup()
    """

    def __init__(self, root: Path, path: str):
        self._file: BinaryIO = open_inside(Path(root), path)
        try:
            with damage("the file"):
                bounded = _Bounded(self._file)
                self._zip = zipfile.ZipFile(bounded)
                bounded.limit = -1
                infos = self._zip.infolist()
            if len(infos) > MAX_MEMBERS:
                raise InputError(f"it holds {len(infos)} members, more than {MAX_MEMBERS}")
            self._infos = {info.filename.removesuffix(".npy"): info for info in infos}
            if len(self._infos) != len(infos):
                raise InputError("two members have the same name")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(self._infos)

    def member(self, name: str) -> Member:
        """Type and shape of a member, from its header alone."""
        return self._open(name)[0]

    def array(self, name: str, *, max_bytes: int = MAX_MEMBER_BYTES) -> np.ndarray:
        """A member's values, checked against the zip's checksum."""
        facts, stream = self._open(name, max_bytes=max_bytes)
        with damage(f"member {name!r}"), stream:
            data = stream.read(facts.nbytes)
            # The zip compares its checksum when the end is reached.
            if len(data) != facts.nbytes or stream.read(1):
                raise DamagedFile(f"member {name!r} is truncated")
            return np.frombuffer(data, facts.dtype).reshape(facts.shape, order="F" if facts.fortran_order else "C")

    def verify(self, name: str) -> Member:
        """Run a member through its checksum in small pieces; nothing of its size is allocated."""
        facts, stream = self._open(name)
        with damage(f"member {name!r}"), stream:
            left = facts.nbytes
            while piece := stream.read(min(left, 1 << 18) or 1):
                left -= len(piece)
            if left:
                raise DamagedFile(f"member {name!r} is truncated")
        return facts

    def scalar(self, name: str) -> str:
        """A member of one value as text; whole numbers without a decimal point, not-a-number as empty text."""
        facts = self.member(name)
        if math.prod(facts.shape) != 1:
            raise DamagedFile(f"member {name!r} has shape {facts.shape} where one value is expected")
        value = self.array(name, max_bytes=MAX_NOTE_BYTES).reshape(())[()]
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, np.floating):
            if not np.isfinite(value):
                return ""
            return str(int(value)) if float(value).is_integer() else str(float(value))
        if isinstance(value, np.bool_):
            return str(int(value))
        # A string array may hold code points that are no text (surrogates): they become replacement characters.
        return str(value).encode("utf-8", "replace").decode("utf-8")

    def _open(self, name: str, *, max_bytes: int = MAX_MEMBER_BYTES) -> tuple[Member, IO[bytes]]:
        if name not in self._infos:
            raise DamagedFile(
                f"no member {name!r}; there are {', '.join(shown(n, 30) for n in list(self._infos)[:12])}"
            )
        info = self._infos[name]
        if info.flag_bits & 0x1:
            raise InputError(f"member {name!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"member {name!r} is packed in a way that .npz does not use")
        if info.file_size > max_bytes:
            raise InputError(
                f"member {name!r} unpacks to {info.file_size / 2**20:.0f} MiB, more than {max_bytes // 2**20} MiB"
            )
        with damage(f"member {name!r}"):
            stream = self._zip.open(info)
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(stream)
            header_bytes = stream.tell()
        try:
            # Python integers do not overflow, so a shape chosen to overflow 64 bits is found out.
            nbytes = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise InputError(
                    f"member {name!r} holds pickled Python objects, which are never loaded; store it as "
                    f"numbers or as fixed-width text"
                )
            if dtype.kind not in _KINDS:
                raise InputError(f"member {name!r} is of type {shown(dtype.str)}; numbers or text are expected")
            if nbytes > max_bytes:
                raise InputError(f"member {name!r} claims {nbytes / 2**20:.0f} MiB, more than {max_bytes // 2**20} MiB")
            if nbytes != info.file_size - header_bytes or any(side < 0 for side in shape):
                held = info.file_size - header_bytes
                raise DamagedFile(f"member {name!r} says it holds {nbytes} bytes and has {held}")
        except InputError:
            stream.close()
            raise
        return Member(name, dtype, shape, fortran_order, nbytes, info.CRC), stream


def scalars(file: NpzFile, names: Iterable[str]) -> dict[str, str]:
    """Those of the named members that are there, as text."""
    return {name: file.scalar(name) for name in names if name in file.names}


class _Bounded:
    """A file for `zipfile`, which reads a zip's directory in one piece: a piece too long for `MAX_MEMBERS` is refused."""

    limit = MAX_DIRECTORY_BYTES

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        if 0 <= self.limit < size:
            raise InputError(f"its directory is longer than {MAX_MEMBERS} members need")
        return self._file.read(size)
