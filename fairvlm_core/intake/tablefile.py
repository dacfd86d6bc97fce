"""Tables as text, from CSV with any separator (also .csv.gz), Excel, Parquet and JSON lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ..errors import InputError
from .csvtable import (
    MAX_CELL_CHARS,
    MAX_ROWS,
    MAX_TABLE_BYTES,
    NO_NAME,
    StringTable,
    csv_header,
    read_csv_table,
    read_parquet_table,
)
from .files import named, open_regular, shown

PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")
JSON_LINES = (".jsonl", ".ndjson")
SEPARATED = (".csv", ".tsv", ".tab", ".txt", "")
PACKED = ".gz"
TABLE_ENDINGS = (*PARQUET, *EXCEL, *JSON_LINES, *SEPARATED[:3])
MAX_PACKED_BYTES = 4 * 2**30
MAX_EXCEL_BYTES = 512 * 2**20
MAX_CHARS = 2**31  # of a table that is not read by Arrow
_TEXT = pa.large_string()


def read_any_table(path: Path, *, name: str | None = None) -> StringTable:
    """Read a table by the ending of its name; CSV may be separated by commas, semicolons, tabs or bars.

    Raises
    ------
    InputError
        Names the file and row: damaged, too large, a row with too many cells, two columns of one name, nested values.
    """
    path = Path(path)
    name = name or path.name
    ending = path.suffix.lower()
    if ending == PACKED:
        return _read_packed(path, name)
    with named(name):
        wide = ending in SEPARATED and is_utf16(path)
    if wide:
        return _read_utf16(path, name)
    if ending in PARQUET:
        return read_parquet_table(path, name=name)
    with named(name):
        if ending in EXCEL:
            return _read_excel(path, name)
        if ending in JSON_LINES:
            return _read_json_lines(path, name)
        mark = separator(path)
    return read_csv_table(path, name=name, tidy=True) if mark == "," else _read_separated(path, name, mark)


def _read_packed(path: Path, name: str) -> StringTable:
    """A table packed by gzip (.csv.gz), by way of a temporary file."""
    with tempfile.NamedTemporaryFile(suffix=Path(path.stem).suffix) as plain, open_regular(path) as packed:
        try:
            with gzip.open(packed) as file:
                while piece := file.read(1 << 22):
                    plain.write(piece)
                    if plain.tell() > MAX_PACKED_BYTES:
                        raise InputError(f"{name}: more than {MAX_PACKED_BYTES // 2**30} GiB when unpacked; unpack it")
        except (OSError, EOFError, zlib.error):
            raise InputError(f"{name}: not a readable gzip file; copy it again") from None
        plain.flush()
        return read_any_table(Path(plain.name), name=name)


def is_utf16(path: Path) -> bool:
    """Whether a file begins as UTF-16 does."""
    with open_regular(path) as file:
        return file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _read_utf16(path: Path, name: str) -> StringTable:
    """What Excel saves as Unicode text, by way of a temporary file in UTF-8."""
    with tempfile.NamedTemporaryFile(suffix=".csv") as plain:
        try:
            with io.TextIOWrapper(open_regular(path, max_bytes=MAX_TABLE_BYTES), "utf-16", newline="") as text:
                while piece := text.read(1 << 22):
                    plain.write(piece.encode("utf-8"))
        except UnicodeError:
            raise InputError(f"{name}: damaged UTF-16; save the file as UTF-8") from None
        plain.flush()
        return read_any_table(Path(plain.name), name=name)


def separator(path: Path) -> str:
    """The mark between the cells of the first line of a text table: the most frequent outside quotes; a comma if none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text('"a,b";c;d\\n')
    ...     separator(Path(folder, "a.csv"))
    ';'
    """
    with open_regular(path, max_bytes=MAX_TABLE_BYTES) as file:
        first = file.read(1 << 20).decode("utf-8-sig", "replace").lstrip("\r\n").split("\n", 1)[0]
    outside = "".join(first.split('"')[::2])
    return max(",;\t|", key=lambda mark: outside.count(mark))


def table_header(path: Path) -> list[str]:
    """The column names of a table; empty where it cannot be read. Never raises."""
    try:
        ending = path.suffix.lower()
        if ending in (*EXCEL, *JSON_LINES, PACKED) or (ending in SEPARATED and is_utf16(path)):
            return list(read_any_table(path).columns)
        if ending in PARQUET:
            return pyarrow.parquet.read_schema(path).names
        mark = separator(path)
        if mark == ",":
            return csv_header(path)
        with io.TextIOWrapper(open_regular(path, max_bytes=MAX_TABLE_BYTES), "utf-8-sig", newline="") as text:
            return [cell.strip() for cell in next(csv.reader(text, delimiter=mark), [])]
    except (InputError, OSError, ValueError, csv.Error, pa.ArrowException):
        return []


def _read_separated(path: Path, name: str, mark: str) -> StringTable:
    before = csv.field_size_limit(MAX_CELL_CHARS)
    try:
        with io.TextIOWrapper(open_regular(path, max_bytes=MAX_TABLE_BYTES), "utf-8-sig", newline="") as text:
            return _table(csv.reader(text, delimiter=mark, strict=True), name)
    except csv.Error as error:
        raise InputError(f"{name}: cannot be read ({error}); save it as comma-separated UTF-8 CSV") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: not UTF-8; save the file as UTF-8 (in Excel: CSV UTF-8)") from None
    finally:
        csv.field_size_limit(before)


def _read_excel(path: Path, name: str) -> StringTable:
    """The first sheet with at least two rows. Merged headers over several rows become one row."""
    from openpyxl import load_workbook

    try:
        with open_regular(path, max_bytes=MAX_EXCEL_BYTES) as file:
            book = load_workbook(file, read_only=True, data_only=True)
            for sheet in book.worksheets:
                rows = ([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True))
                first = list(islice(rows, 5))
                if len(first) > 1:
                    header, n = _merged_header(first)
                    return _table(chain([header], first[n:], rows), name, extra=n - 1)
    except InputError:
        raise
    except Exception as error:  # openpyxl raises many kinds on damaged files
        raise InputError(
            f"{name}: not a readable Excel file ({type(error).__name__}); save it as .xlsx or CSV"
        ) from None
    raise InputError(f"{name}: no sheet has a header and a row below it")


def _merged_header(rows: list[list[str]]) -> tuple[list[str], int]:
    """The header of the first rows and how many rows it takes: further ones fill its gaps or repeat its names.

    >>> _merged_header([["", "Age", "Eye", ""], ["ID", "", "", ""], ["", "Age", "left", "right"], ["#2", "4", "1", "2"]])
    (['ID', 'Age', 'left', 'right'], 3)
    """
    header, n = list(rows[0]), 1
    while n < len(rows) - 1 and not all(header[: len(header)]):
        row = rows[n]
        filled = [cell for cell in row if cell]
        repeats = any(cell and cell == name for cell, name in zip(row, header, strict=False))
        if len(filled) > 1 and not repeats:
            break
        header = [cell or name for cell, name in zip(row, header, strict=False)]
        n += 1
    return header, n


def _read_json_lines(path: Path, name: str) -> StringTable:
    columns: dict[str, list[str]] = {}
    n = 0
    with open_regular(path, max_bytes=MAX_TABLE_BYTES) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
                json.dumps(row, ensure_ascii=False).encode()  # half a character (an unpaired surrogate) is refused
            except (ValueError, RecursionError):
                raise InputError(
                    f"{name} line {number}: not valid JSON in UTF-8; one object a line is expected"
                ) from None
            if not isinstance(row, Mapping):
                raise InputError(f"{name} line {number}: one object {{...}} a line is expected")
            for title, value in row.items():
                column = columns.setdefault(title, [])
                column += [""] * (n - len(column))
                column.append(_cell(value))
            n += 1
            if n > MAX_ROWS:
                raise InputError(f"{name}: more than {MAX_ROWS:,} rows; split it")
    filled = {title: pa.array(column + [""] * (n - len(column)), _TEXT) for title, column in columns.items()}
    if not filled:
        raise InputError(f"{name}: the file is empty; it needs one object a line")
    return StringTable(filled, n, name, first_row=1)


def _table(records: Iterable[list[str]], name: str, *, extra: int = 0) -> StringTable:
    """A table from a header and rows; short rows are filled, and what spreadsheets add is passed over."""
    rows = iter(records)
    header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise InputError(f"{name}: the file is empty; it needs a header row and one row a pair")
    lists: list[list[str]] = [[] for _ in header]
    free = MAX_CHARS
    skipped: list[int] = []
    n = 0
    for number, row in enumerate(rows, 2 + extra):
        if len(row) > len(header) and any(row[len(header) :]):
            raise InputError(
                f"{name} row {number}: {len(row)} cells where the header has {len(header)}; quote the cell"
            )
        if not any(row):
            skipped.append(n)
            continue
        for i, column in enumerate(lists):
            column.append(row[i] if i < len(row) else "")
        n += 1
        free -= sum(map(len, row)) + len(row)
        if free < 0:
            raise InputError(f"{name} row {number}: more text than fits one table; save it as CSV or split it")
    titles = [title or f"{NO_NAME}{i}" for i, title in enumerate(header, 1)]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise InputError(f"{name} row 1: two columns are named {shown(twice[0])}; rename one")
    columns = {title: pa.array(cells, _TEXT) for title, cells in zip(titles, lists, strict=True)}
    return StringTable(columns, n, name, first_row=2 + extra, skipped=np.asarray(skipped, np.int64)).tidied()


def _cell(value: object) -> str:
    """A value as text: whole floats without a decimal point, dates as in ISO 8601, lists joined by "; "."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        return value.date().isoformat()
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, list):
        return "; ".join(map(_cell, value))
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
