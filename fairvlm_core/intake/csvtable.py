"""Tables of text from CSV and Parquet, strictly: every cell as it was written, or one error that names the row.

There are two CSV parsers. The standard library's reader in strict mode is exact but takes about 7 s for a million pairs.
Arrow's takes under 1 s, but merges rows silently where a quote is not closed. So the quotes are checked first, on the
bytes. Where each one opens or closes a cell as RFC 4180 requires, Arrow reads the file. The strict reader reads all others
and every file with an error, because it knows the row.

Rows are counted as a spreadsheet does: the header is row 1, the first pair row 2.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from ..errors import InputError
from ..words import many
from .files import named, open_regular, shown

MAX_TABLE_BYTES = 8 * 2**30
MAX_ROWS = 20_000_000  # of a Parquet file, where a row may take less than a bit
MAX_EXPANSION = 50  # bytes of text that a byte of a Parquet file may stand for, beyond the first GiB
MAX_CELL_CHARS = 8_000_000
_BATCH = 20_000
_TEXT = pa.large_string()
NO_NAME = "\ufeffcolumn "  # no name in a file begins so
_UNNAMED = re.compile(rf"{NO_NAME}\d+|Unnamed: \d+(?:_level_\d+)?|Unnamed: 0(?:\.\d+)+|__index_level_\d+__")


@dataclass(frozen=True)
class StringTable:
    """A table whose cells are all text.

    Attributes
    ----------
    columns
        Name to Arrow large_string array of length `n`; a missing cell is the empty string.
    n
        Number of rows, the header not counted.
    file
        The file's name, for messages.
    first_row
        The number of the first row: 2 in a CSV (1 is the header), 1 in a Parquet file.
    """

    columns: dict[str, pa.Array]
    n: int
    file: str
    first_row: int = 2
    passed_over: tuple[str, ...] = ()
    """What is not in the table: index columns, columns and rows without content."""
    skipped: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), repr=False)
    """Index of the following row for each blank line or row."""

    def row(self, index: int) -> int:
        """The row number that a person finds in the file, for the row at `index` (0-based)."""
        return int(index) + self.first_row + int(np.searchsorted(self.skipped, int(index), side="right"))

    def where(self, index: int) -> str:
        """The file and row number of the row at `index`."""
        return f"{self.file} row {self.row(index)}"

    def tidied(self) -> StringTable:
        """The table without what spreadsheets and pandas add: index columns, unnamed empty columns, blank rows."""
        columns = dict(self.columns)
        said = []
        for title in [title for title in columns if _UNNAMED.fullmatch(title)]:
            cells = pa.compute.utf8_trim_whitespace(columns[title])
            for pattern, what in ((r"^$", "empty unnamed column"), (r"^(?:\d+(?:\.0)?)?$", "row-number column")):
                if pa.compute.all(pa.compute.match_substring_regex(cells, pattern), min_count=0).as_py():
                    del columns[title]
                    said.append(what)
                    break
            else:
                if title.startswith(NO_NAME):
                    raise InputError(_no_name(self.file, title))
        blank = np.ones(self.n, bool)
        for column in columns.values():
            if not blank.any():
                break
            blank &= pa.compute.match_substring_regex(column, r"^\s*$").to_numpy(zero_copy_only=False)
        if not said and not blank.any():
            return self
        kept = np.flatnonzero(~blank)
        skipped = self.skipped
        if blank.any():
            numbers = kept + np.searchsorted(skipped, kept, side="right")
            skipped = np.repeat(np.arange(len(kept)), np.diff(numbers - np.arange(len(kept)), prepend=0))
            columns = {title: column.take(pa.array(kept)) for title, column in columns.items()}
            said += ["blank row"] * int(blank.sum())
        counts = tuple(many(said.count(what), what) for what in dict.fromkeys(said))
        return replace(self, columns=columns, n=len(kept), passed_over=self.passed_over + counts, skipped=skipped)

    def need(self, names: dict[str, str]) -> None:
        """Refuse the table unless it has every column; `names` maps what it is for to the column's name."""
        missing = [
            f"{column!r} (the {role})" if role != column else repr(column)
            for role, column in names.items()
            if column not in self.columns
        ]
        if missing:
            raise InputError(
                f"{self.file}: no column {' and no column '.join(missing)}; there are "
                f"{', '.join(shown(name, 30) for name in list(self.columns)[:20])}; rename the column, or say in "
                f'dataset.json under "columns" what it is called'
            )


def read_csv_table(path: Path, *, name: str | None = None, tidy: bool = False) -> StringTable:
    """Read a CSV file (comma, UTF-8 with or without a byte order mark, RFC 4180 quotes) as text.

    ``001`` and ``NA`` stay what they are. Cells may hold line breaks inside quotes. Blank lines are passed over; with
    `tidy` so are blank rows, row-number columns and empty columns without a name, which `passed_over` counts.

    Raises
    ------
    InputError
        Naming the row: not UTF-8, a NUL byte, too few or too many cells, a quote that is never closed or stands inside
        a cell. Naming the file: missing, empty, no header, two columns of one name, another separator than the comma.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "a.csv"
    >>> _ = path.write_text('pair_id,text\\n001,"NA, ""quoted"" word"\\n')
    >>> table = read_csv_table(path)
    >>> {name: column.to_pylist() for name, column in table.columns.items()}
    {'pair_id': ['001'], 'text': ['NA, "quoted" word']}
    >>> _ = path.write_text('pair_id,text\\n001,fine\\n002\\n')
    >>> read_csv_table(path)
    Traceback (most recent call last):
        ...
    fairvlm_core.errors.InputError: a.csv row 3: 1 cell where the header has 2; add or quote what is missing
    >>> folder.cleanup()
    """
    path = Path(path)
    name = name or path.name
    with named(name), open_regular(path, max_bytes=MAX_TABLE_BYTES) as file:
        data = np.memmap(file, np.uint8, "r")
        header, plain = _check_bytes(data, path, name)
        unnamed = [title for title in header if title.startswith(NO_NAME)]
        if unnamed and not tidy:
            raise InputError(_no_name(name, unnamed[0]))
        if plain:
            table = _read_arrow(data, header)
            if table is not None:
                read = StringTable(table, len(next(iter(table.values()))), name)
                return read.tidied() if tidy else read
        read = _read_strict(path, name, header, tidy)
        return read.tidied() if tidy else read


def _no_name(file: str, title: str) -> str:
    return f"{file} row 1: column {title.removeprefix(NO_NAME)} has no name; name it or delete it"


def csv_header(path: Path) -> list[str]:
    """The column names of a CSV file; empty where it is no readable CSV. Never raises."""
    try:
        return _header(Path(path), "table")
    except (InputError, UnicodeDecodeError):
        return []


def _check_bytes(data: np.ndarray, path: Path, name: str) -> tuple[list[str], bool]:
    """The header, and whether Arrow may read the rest; refuses files that are not UTF-8 CSV."""
    start = data[:4].tobytes()
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{name}: the file is UTF-16; save it as UTF-8 CSV")
    if start[:2] == b"PK":
        raise InputError(f"{name}: this is a spreadsheet or zip file, not CSV; save it as UTF-8 CSV")
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(data), 1 << 22):
        piece = data[at : at + (1 << 22)].tobytes()
        nul = piece.find(b"\0")
        if nul >= 0:
            raise InputError(f"{name} row {_row_of_byte(path, at + nul)}: a NUL byte; the file is damaged or binary")
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(piece, at + len(piece) >= len(data))
        except UnicodeDecodeError as error:
            byte = at - pending + error.start
            raise InputError(
                f"{name} row {_row_of_byte(path, byte)}: not UTF-8 (byte 0x{data[byte]:02x}, perhaps Latin-1); "
                f"save the file as UTF-8"
            ) from None
    return _header(path, name), _is_plain(data)


def _header(path: Path, name: str) -> list[str]:
    _, record = next(_records(path, name), (0, []))
    header = [cell.strip().strip("\ufeff").strip() for cell in record]
    if header[:1] == ["sep="]:
        raise InputError(f'{name} row 1: the line "sep=" is a hint to a spreadsheet, not a header; delete it')
    if not any(header):
        raise InputError(f"{name}: the file is empty; it needs a header row and one row a pair")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(f"{name}: the cells are not separated by commas; save it as comma-separated CSV")
    header = [cell or f"{NO_NAME}{column}" for column, cell in enumerate(header, 1)]
    for column, cell in enumerate(header, 1):
        if header.index(cell) != column - 1:
            raise InputError(
                f"{name} row 1: two columns are named {shown(cell)} ({header.index(cell) + 1} and {column}); rename one"
            )
    return header


def _is_plain(data: np.ndarray) -> bool:
    """Whether quotes stand only where they open or close a cell, and no blank line stands between rows.

    Quotes are counted from the start of the file: even ones (0, 2, ...) must open a cell, odd ones must close it. A
    doubled quote inside a cell closes and opens at once, so a neighbouring quote is right for both. A line break that
    follows a line break is part of a note where the count of quotes before it is odd, a blank line where it is even.
    """
    quote, comma, feed, back = b'",\n\r'
    bom = 3 if data[:3].tobytes() == codecs.BOM_UTF8 else 0
    if len(data) > bom and data[bom] in (feed, back):
        return False
    count = 0
    for at in range(0, len(data), 1 << 22):
        piece = data[at : at + (1 << 22)]
        following = data[at + 1 : at + 1 + len(piece)]
        where = at + np.flatnonzero(piece == quote)
        breaks = at + np.flatnonzero(
            ((piece[: len(following)] == feed) & ((following == feed) | (following == back)))
            | ((piece[: len(following)] == back) & (following == back))
        )
        if ((count + np.searchsorted(where, breaks)) % 2 == 0).any():
            return False
        opens, closes = where[count % 2 :: 2], where[1 - count % 2 :: 2]
        count += len(where)
        for neighbour in (data[opens[opens > bom] - 1], data[closes[closes < len(data) - 1] + 1]):
            if not ((neighbour == comma) | (neighbour == feed) | (neighbour == back) | (neighbour == quote)).all():
                return False
    return count % 2 == 0


def _read_arrow(data: np.ndarray, header: list[str]) -> dict[str, pa.Array] | None:
    names = [f"c{i}" for i in range(len(header))]  # plain names, so that nothing in the header can confuse the reader
    longest_block = 64 * 2**20
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(data),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=longest_block),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, _TEXT), strings_can_be_null=False, quoted_strings_can_be_null=False
            ),
        )
    except pa.ArrowException:
        return None  # the strict reader will find the row
    columns = {}
    for name in header:  # one by one, so that each column's pieces are freed before the next is joined
        columns[name] = _one_array(table.column(0).slice(1))
        table = table.remove_column(0)
    return columns


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _records(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Row numbers (from 1, blank lines counted) and cells, by the strict reader."""
    number = 0
    before = csv.field_size_limit(MAX_CELL_CHARS)
    try:
        with io.TextIOWrapper(open_regular(path, max_bytes=MAX_TABLE_BYTES), "utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            while True:
                number += 1
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    raise InputError(f"{name} row {number}: {_csv_reason(error, reader.line_num)}") from None
                if record:
                    yield number, record
    finally:
        csv.field_size_limit(before)


def _csv_reason(error: csv.Error, line: int) -> str:
    reason = str(error)
    if "unexpected end" in reason:
        return "a quote is opened and never closed; close it, or double a quote that belongs to the text"
    if "field larger" in reason:
        return f"a cell is longer than {MAX_CELL_CHARS:,} characters; is a quote never closed?"
    if "expected after" in reason:
        return f"a quote stands inside a cell (near line {line}); double it, and check for one that was never closed"
    return f"cannot be read near line {line}; quote the cells that hold commas, quotes or line breaks"


def _read_strict(path: Path, name: str, header: list[str], tidy: bool) -> StringTable:
    pieces: list[list[pa.Array]] = []
    skipped: list[int] = []
    rows = 0
    records = _records(path, name)
    named = [i for i, title in enumerate(header, 1) if not title.startswith(NO_NAME)]
    unnamed = len(header) - max(named, default=0)  # at the end of the header
    expected = next(records)[0] + 1
    while batch := list(islice(records, _BATCH)):
        for number, cells in batch:
            if tidy and len(cells) > len(header) and not any(cell.strip() for cell in cells[len(header) :]):
                del cells[len(header) :]  # separators that a spreadsheet adds at the end of a row
            elif tidy and len(header) - unnamed <= len(cells) < len(header):
                cells += [""] * (len(header) - len(cells))
            if len(cells) != len(header):
                what = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
                few = len(cells) < len(header)
                fix = "add or quote what is missing" if few else "quote the cell with a comma in it"
                raise InputError(f"{name} row {number}: {what} where the header has {len(header)}; {fix}")
            skipped += [rows] * (number - expected)
            expected = number + 1
            rows += 1
        pieces.append([pa.array(column, _TEXT) for column in zip(*(cells for _, cells in batch), strict=True)])
    columns = {
        title: pa.concat_arrays([piece[i] for piece in pieces]) if pieces else pa.array([], _TEXT)
        for i, title in enumerate(header)
    }
    return StringTable(columns, rows, name, skipped=np.asarray(skipped, np.int64))


def _row_of_byte(path: Path, byte: int) -> int:
    """The row in which a byte lies; a guess where quotes before it are wrong."""
    with open_regular(path, max_bytes=MAX_TABLE_BYTES) as file:
        before = file.read(byte).decode("utf-8", "replace")
    quoted = False
    row = 1
    for part in before.replace("\r\n", "\n").replace("\r", "\n").split('"'):
        if not quoted:
            row += part.count("\n")
        quoted = not quoted
    return row


def read_parquet_table(path: Path, *, name: str | None = None) -> StringTable:
    """Read a Parquet file of flat columns as text; numbers as they print, missing values as empty text.

    Raises
    ------
    InputError
        The file is damaged, too large when unpacked, or has two columns of one name or a nested column.
    """
    path = Path(path)
    name = name or path.name
    with named(name), open_regular(path, max_bytes=MAX_TABLE_BYTES) as raw:
        file, names = _open_parquet(raw, name)
        n = file.metadata.num_rows
        free = MAX_EXPANSION * path.stat().st_size + 2**30
        columns: dict[str, pa.Array] = {}
        for column in names:
            columns[column], used = _read_column(file, column, f"{name}: column {shown(column)}", free)
            free -= used
            if len(columns[column]) != n:
                raise InputError(f"{name}: column {shown(column)} is damaged (not {n} rows long)")
        return StringTable(columns, n, name, first_row=1).tidied()


def _open_parquet(raw: BinaryIO, name: str) -> tuple[pyarrow.parquet.ParquetFile, list[str]]:
    """An open file whose sizes, as its metadata state them, are within the limits, and its column names."""
    try:
        facts = pyarrow.parquet.read_metadata(raw)
        schema = facts.schema.to_arrow_schema()
        names, texts = schema.names, [field.name for field in schema if _is_text(field.type)]
        # Repeated text stays packed until its size is known: a file of 2 MB may stand for 20 GB of it.
        file = pyarrow.parquet.ParquetFile(raw, metadata=facts, page_checksum_verification=True, read_dictionary=texts)
        size = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
    except Exception as error:  # Arrow raises many kinds on damaged bytes
        raise InputError(f"{name}: not a readable Parquet file ({type(error).__name__})") from None
    if size > MAX_TABLE_BYTES:
        raise InputError(f"{name}: more than {MAX_TABLE_BYTES // 2**30} GiB when unpacked; split it")
    if facts.num_rows > MAX_ROWS:
        raise InputError(f"{name}: more than {MAX_ROWS:,} rows; split it")
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise InputError(f"{name}: two columns are named {shown(twice[0])}; rename one")
    if not names:
        raise InputError(f"{name}: no columns")
    return file, names


def _read_column(file: pyarrow.parquet.ParquetFile, column: str, place: str, free: int) -> tuple[pa.Array, int]:
    """A column as text, and how many bytes of repeated text it unpacks to; at most `free`."""
    try:
        packed = file.read(columns=[column]).column(0)
        used = sum(_text_bytes(chunk) for chunk in packed.chunks)
        if used > free:
            raise InputError(f"{place} unpacks to far more than the file holds; split it")
        return _one_array(pa.chunked_array([_as_text(chunk) for chunk in packed.chunks], _TEXT)), used
    except InputError:
        raise
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise InputError(f"{place} is nested or binary; store plain values") from None
    except Exception as error:  # as above
        raise InputError(f"{place} is damaged ({type(error).__name__})") from None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _text_bytes(column: pa.Array) -> int:
    """Bytes that a packed column unpacks to; 0 for one that is not packed."""
    if not pa.types.is_dictionary(column.type) or not len(column.dictionary):
        return 0
    times = np.bincount(column.indices.drop_null().to_numpy(), minlength=len(column.dictionary))
    lengths = pa.compute.fill_null(pa.compute.binary_length(column.dictionary), 0).to_numpy()
    return int(times @ lengths.astype(np.int64))


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return pa.compute.fill_null(_as_text(column.dictionary).take(column.indices), "")
    if pa.types.is_nested(column.type):
        raise pa.ArrowTypeError("nested")
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        raise pa.ArrowTypeError("binary")
    text = pa.compute.fill_null(column.cast(_TEXT), "")
    text.validate(full=True)  # a Parquet file may claim that any bytes are UTF-8
    return text
