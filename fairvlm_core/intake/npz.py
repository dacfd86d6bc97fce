"""Reading .npz files that somebody else made: nothing is unpickled, nothing is allocated before it was measured.

An .npz is a zip of .npy members. Each member starts with a header that says type and shape; the zip says how many bytes
it unpacks to. Both are read first and must agree and stay under a limit; only then are the numbers read, and the zip's
checksum with them. Python objects in a member (which numpy would unpickle, that is, run) are refused by their type.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from .files import DamagedFile, open_inside, shown

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

    Errors do not name the file: whoever opened it knows by which name a person knows it.

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
            with _damage("the file"):
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
        with _damage(f"member {name!r}"), stream:
            data = stream.read(facts.nbytes)
            # Reading on to the end is what makes the zip compare its checksum.
            if len(data) != facts.nbytes or stream.read(1):
                raise DamagedFile(f"member {name!r} is truncated")
            return np.frombuffer(data, facts.dtype).reshape(facts.shape, order="F" if facts.fortran_order else "C")

    def verify(self, name: str) -> Member:
        """Run a member through its checksum in small pieces; nothing of its size is allocated."""
        facts, stream = self._open(name)
        with _damage(f"member {name!r}"), stream:
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
            raise DamagedFile(f"member {name!r} has shape {facts.shape} where one value is wanted")
        value = self.array(name, max_bytes=MAX_NOTE_BYTES).reshape(())[()]
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, np.floating):
            if not np.isfinite(value):
                return ""
            return str(int(value)) if float(value).is_integer() else str(float(value))
        if isinstance(value, np.bool_):
            return str(int(value))
        # A string array may hold code points that are no text (a surrogate); they are shown as damage, not passed on.
        return str(value).encode("utf-8", "replace").decode("utf-8")

    def _open(self, name: str, *, max_bytes: int = MAX_MEMBER_BYTES) -> tuple[Member, zipfile.ZipExtFile]:
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
        with _damage(f"member {name!r}"):
            stream = self._zip.open(info)
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(stream)
            header_bytes = stream.tell()
        if dtype.hasobject:
            stream.close()
            raise InputError(
                f"member {name!r} holds pickled Python objects, which are never loaded; store it as "
                f"numbers or as fixed-width text"
            )
        if dtype.kind not in _KINDS:
            stream.close()
            raise InputError(f"member {name!r} is of type {shown(dtype.str)}; numbers or text are wanted")
        # Python's whole numbers do not overflow: a shape made to wrap round in 64 bits is seen for what it is.
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > max_bytes:
            stream.close()
            raise InputError(f"member {name!r} claims {nbytes / 2**20:.0f} MiB, more than {max_bytes // 2**20} MiB")
        if nbytes != info.file_size - header_bytes or any(side < 0 for side in shape):
            stream.close()
            raise DamagedFile(f"member {name!r} says it holds {nbytes} bytes and has {info.file_size - header_bytes}")
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


class _damage:
    """Turn whatever numpy and zipfile raise on damaged bytes into one `DamagedFile`.

    They raise a dozen kinds (BadZipFile, zlib.error, EOFError, struct.error, SyntaxError, ...), which differ between
    versions; inside this block there is nothing but the reading of foreign bytes.
    """

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            raise DamagedFile(f"{self.what} is truncated or damaged ({type(error).__name__})") from None
