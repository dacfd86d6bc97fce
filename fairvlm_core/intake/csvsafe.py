"""CSV that is safe to open in a spreadsheet.

Common spreadsheets run a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break as a formula, and
notes are free text. On writing, such a cell gets an apostrophe in front; so does a cell that begins with an apostrophe,
which makes the step reversible: on reading, one leading apostrophe is taken off. Columns of numbers are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..safeio import new_file
from .csvtable import read_csv_table

_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠")


def neutralise(cell: str) -> str:
    """The cell in a form that no spreadsheet runs as a formula.

    >>> neutralise("=1+1"), neutralise("'tis"), neutralise("fine")
    ("'=1+1", "''tis", 'fine')
    """
    return "'" + cell if cell.startswith(_RISKY) else cell


def restore(cell: str) -> str:
    """The inverse of :func:`neutralise`.

    >>> all(restore(neutralise(cell)) == cell for cell in ("=1+1", "'tis", "''", "fine", ""))
    True
    """
    return cell.removeprefix("'")


def write_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as CSV with its text neutralised; the file is the old one or the new one, never half.

    Parameters
    ----------
    frame
        Columns of numbers and booleans are written as they are; all others count as text. Missing values are empty
        cells. The index is not written.
    path
        The file to write.

    Raises
    ------
    InputError
        Two columns have the same name, or a cell holds a NUL character (no CSV reader would take it back).

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> frame = pd.DataFrame({"pair_id": ["a", "b"], "z": [-1.5, 2.0], "text": ["=HYPERLINK()", "'tis"]})
    >>> path = write_csv(frame, Path(folder.name) / "out.csv")
    >>> print(path.read_text().splitlines()[1])
    a,-1.5,'=HYPERLINK()
    >>> read_csv(path, dtypes={"z": float}).equals(frame)
    True
    >>> folder.cleanup()
    """
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        raise InputError("write_csv: two columns have the same name; rename one")
    columns = []
    for name, (_, column) in zip(names, frame.items(), strict=True):
        numeric = pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)
        missing = column.isna().to_numpy()
        values = column.astype(object).to_numpy()
        text = ["" if gone else str(value) for value, gone in zip(values, missing, strict=True)]
        if any("\0" in cell for cell in text):
            raise InputError(f"write_csv: column {name!r} holds a NUL character; remove it")
        columns.append(text if numeric else [neutralise(cell) for cell in text])
    with new_file(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        # The default line end, CR LF, also makes the writer quote a cell that holds a CR.
        writer = csv.writer(file)
        writer.writerow([neutralise(name) for name in names])
        writer.writerows(zip(*columns, strict=True))
    return Path(path)


def read_csv(path: Path, *, dtypes: Mapping[str, type | str] | None = None) -> pd.DataFrame:
    """Read back what :func:`write_csv` wrote.

    Parameters
    ----------
    path
        A CSV written by `write_csv`.
    dtypes
        Column name to the numeric type it had; every other column comes back as text, empty where it was missing.

    Raises
    ------
    InputError
        The file is no proper CSV (as in `read_csv_table`), or a column is missing or no number where `dtypes` wants it.
    """
    table = read_csv_table(Path(path))
    frame = {}
    for name, column in table.columns.items():
        text = pc.if_else(pc.starts_with(column, "'"), pc.utf8_slice_codeunits(column, 1), column)
        frame[restore(name)] = pd.Series(pd.array(text, dtype=pd.StringDtype("pyarrow"))).astype("str")
    for name, kind in (dtypes or {}).items():
        if name not in frame:
            raise InputError(f"{table.file}: no column {name!r}")
        frame[name] = _numbers(frame[name], kind, f"{table.file} column {name!r}")
    return pd.DataFrame(frame)


def _numbers(column: pd.Series, kind: type | str, place: str) -> pd.Series:
    text = pa.array(column, pa.large_string())
    if pd.api.types.is_bool_dtype(kind):
        return pd.Series(pc.equal(text, "True").to_numpy(zero_copy_only=False), dtype=kind)
    values = pd.to_numeric(column.where(column != "", "nan"), errors="coerce")
    wrong = values.isna().to_numpy() & ~np.isin(column.to_numpy(str), ["", "nan", "NaN"])
    if wrong.any():
        raise InputError(f"{place} row {int(np.argmax(wrong)) + 2}: not a number; correct the cell")
    try:
        return values.astype(kind)
    except (ValueError, TypeError):
        raise InputError(f"{place}: a cell is empty or no {kind}; fill it") from None
