"""Both CSV readers give what the standard library gives; Parquet gives the same table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairvlm_core.errors import InputError
from fairvlm_core.intake import csvtable
from fairvlm_core.intake.csvtable import read_csv_table, read_parquet_table

cells = st.text(alphabet="ab ,\"\n\r'=é漢😀", max_size=6)


def cells_of(table: csvtable.StringTable) -> list[list[str]]:
    return [list(row) for row in zip(*(column.to_pylist() for column in table.columns.values()), strict=True)]


def by_the_standard_library(data: bytes) -> list[list[str]] | None:
    """Rows after the header; None where the file is not sound."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if row]
    except csv.Error:
        return None
    return rows[1:] if rows and all(len(row) == len(rows[0]) for row in rows) else None


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), max_size=6), end=st.sampled_from(["\n", "\r\n"]), quote_all=st.booleans())
def test_what_was_written_is_read(tmp_path, rows, end, quote_all):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerows([("x", "y"), *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(text.getvalue().encode())
    expected = by_the_standard_library(path.read_bytes())
    if expected is None:
        with pytest.raises(InputError, match=r"a\.csv row"):
            read_csv_table(path)
    else:
        assert cells_of(read_csv_table(path)) == expected


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.text(alphabet='a,"\n\r é', max_size=24), mark=st.booleans())
def test_any_text_is_read_as_by_the_strict_standard_reader_or_refused(tmp_path, body, mark):
    path = tmp_path / "a.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + b"x,y\n" + body.encode())
    expected = by_the_standard_library(path.read_bytes())
    if expected is None:
        with pytest.raises(InputError, match=r"^a\.csv row \d+: "):
            read_csv_table(path)
    else:
        assert cells_of(read_csv_table(path)) == expected


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_give_a_table_or_one_clear_line(tmp_path, data):
    for name, read in (("a.csv", read_csv_table), ("a.parquet", read_parquet_table)):
        path = tmp_path / name
        path.write_bytes(data)
        try:
            table = read(path)
        except InputError as error:
            assert str(error).startswith(name)  # noqa: PT017 - an error is one of two right outcomes
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert all(len(column) == table.n for column in table.columns.values())


def test_the_fast_reader_is_used_where_it_may_be_and_only_there(tmp_path, monkeypatch):
    used = []
    strict = csvtable._read_strict
    monkeypatch.setattr(csvtable, "_read_strict", lambda *args: used.append(args[1]) or strict(*args))
    for name, body in (
        ("plain", "1,2\n"), ("quoted", '"1\n\n2","a ""b"""\n'), ("loose", '1,a "b"\n'), ("blank", "1,2\n\n3,4\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text("x,y\n" + body)
        read_csv_table(tmp_path / name)
    assert used == ["loose", "blank"]


def test_quotes_are_followed_over_the_borders_of_pieces(tmp_path):
    """A note longer than the pieces in which the file is checked, with line breaks and quotes in it."""
    note = 'he said "so", \n\n' * 600_000
    pd.DataFrame({"a": [note, "b"], "b": ["1", "2"]}).to_csv(tmp_path / "a.csv", index=False)
    table = read_csv_table(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").stat().st_size > 2 * (1 << 22)
    assert cells_of(table) == [[note, "1"], ["b", "2"]]


def test_rows_are_counted_as_in_a_spreadsheet_blank_lines_too(tmp_path):
    (tmp_path / "a.csv").write_text('x,y\n1,"a\nb"\n\n\n2,c\n3,d\n')
    table = read_csv_table(tmp_path / "a.csv")
    assert [table.row(i) for i in range(table.n)] == [2, 5, 6]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\n\n", "the file is empty"),
        (b"x;y\n1;2\n", "not separated by commas"),
        (b"x,\n1,2\n", "row 1: column 2 has no name"),
        (b"x,x\n1,2\n", "row 1: two columns are named 'x'"),
        (b"\xff\xfex\x00", "UTF-16"),
        (b"PK\x03\x04", "spreadsheet"),
        (b'x,y\n1,"' + b"a" * 9_000_000 + b"\n", "row 2: a cell is longer than 8,000,000 characters"),
    ],
)
def test_files_that_are_no_table(tmp_path, data, reason):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(InputError, match=reason) as error:
        read_csv_table(tmp_path / "a.csv")
    assert str(error.value).startswith("a.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^a\.csv: .*cannot be opened"):
        read_csv_table(tmp_path / "a.csv")


def test_parquet_gives_text_as_csv_would(tmp_path: Path):
    frame = pd.DataFrame({"id": ["001", "NA"], "n": [1, 0], "flag": [True, False], "text": ["a", None]})
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_parquet_table(tmp_path / "a.parquet")
    assert cells_of(table) == [["001", "1", "true", "a"], ["NA", "0", "false", ""]]
    assert table.row(0) == 1


@pytest.mark.parametrize(
    ("values", "reason"), [([[1], [2]], "nested or binary"), ([b"\xff", b"a"], "nested or binary")]
)
def test_parquet_columns_that_are_no_text(tmp_path, values, reason):
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"^a\.parquet: column 'x' is {reason}"):
        read_parquet_table(tmp_path / "a.parquet")


def test_parquet_with_flipped_bits_is_read_or_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"x": [f"note {i}" for i in range(50)], "y": range(50)}).to_parquet(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        try:
            table = read_parquet_table(path)
        except InputError as error:
            refused += 1
            assert str(error).startswith("a.parquet")  # noqa: PT017 - an error is one of two right outcomes
        else:
            assert all(len(column) == table.n for column in table.columns.values())
    assert refused > 20


def test_what_spreadsheets_and_pandas_add_is_passed_over_and_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbf\xef\xbb\xbf,a,Unnamed: 0,b,,\r\n0,1,7,2,,\r\n1,3,8,4\r\n,,,,,\r\n2,5,9,6,,,,\r\n,,,,,\r\n"
    )
    table = read_csv_table(path, tidy=True)
    assert cells_of(table) == [["1", "2"], ["3", "4"], ["5", "6"]]
    assert list(table.columns) == ["a", "b"]
    assert [table.row(i) for i in range(3)] == [2, 3, 5]
    assert table.passed_over == ("2 row-number columns", "2 empty unnamed columns", "2 blank rows")
    with pytest.raises(InputError, match=r"a\.csv row 1: column 1 has no name"):
        read_csv_table(path)
    path.write_bytes(b"a,,b\n1,x,2\n")
    with pytest.raises(InputError, match=r"a\.csv row 1: column 2 has no name"):
        read_csv_table(path, tidy=True)
    path.write_bytes(b"a,b\n1,2,x\n")
    with pytest.raises(InputError, match="3 cells where the header has 2"):
        read_csv_table(path, tidy=True)
    path.write_bytes(b"sep=,\na,b\n1,2\n")
    with pytest.raises(InputError, match="a hint to a spreadsheet"):
        read_csv_table(path, tidy=True)
