"""Any bytes at all: a table or one clear line, in bounded time and memory (benchmarks/fuzz.py, and properties)."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairvlm_core.errors import InputError
from fairvlm_core.intake.csvtable import read_csv_table, read_parquet_table
from fairvlm_core.intake.description import Description, read_description
from fairvlm_core.intake.images import inspect_image, read_image
from fairvlm_core.intake.npz import NpzFile

_spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parents[2] / "benchmarks" / "fuzz.py")
fuzz = sys.modules["fuzz"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)

LONG = os.environ.get("FAIRVLM_FAULTS") == "long"
INPUTS = -(-(10_000 if LONG else 1_000) // len(fuzz.KINDS))
MEMORY = 600 * 2**20
many = settings(
    max_examples=500 if LONG else 100,
    deadline=5000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_survived(kind: str) -> None:
    found = fuzz.fuzz(kind, INPUTS)
    assert found.faults == []
    assert found.n == INPUTS
    assert found.outcomes["table"] > 0, "a fuzzer that never gets through tests the first check only"
    assert found.outcomes["error"] > 0
    assert found.slowest < fuzz.SECONDS
    assert found.peak < MEMORY


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_fault_06_mutated_images(kind):
    assert_survived(kind)


def test_fault_07_mutated_npz_files():
    assert_survived("npz")


@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "planted", "notes"])
def test_fault_10_mutated_tables_and_descriptions(kind):
    assert_survived(kind)


def one_line(call, *arguments):
    """The result, or None where it is refused in one line."""
    try:
        return call(*arguments)
    except InputError as error:
        line = str(error)
        assert line.isprintable(), repr(line)
        assert 0 < len(line) < 1000
        return None


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
)


@many
@given(rows=tables)
def test_fault_10_whatever_a_csv_writer_writes_comes_back_as_it_was(tmp_path, rows):
    header = [f"c{i}" for i in range(len(rows[0]))]
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    table = read_csv_table(tmp_path / "a.csv")
    kept = [
        row for row in rows if row != [""]
    ]  # a single empty cell is written as "", kept; a blank line is passed over
    read = [list(row) for row in zip(*(column.to_pylist() for column in table.columns.values()), strict=True)]
    assert read in (rows, kept)


@many
@given(data=st.binary(max_size=300) | cells.map(str.encode))
def test_fault_10_any_bytes_as_a_table_or_description(tmp_path, data):
    for name, read in (("a.csv", read_csv_table), ("a.parquet", read_parquet_table), ("a.json", read_description)):
        (tmp_path / name).write_bytes(data)
        one_line(read, tmp_path / name)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | cells,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(cells, inner, max_size=4),
    max_leaves=8,
)
entries = st.dictionaries(st.sampled_from([*Description.model_fields, "schema"]) | cells, json_values, max_size=6)


@many
@given(content=entries)
def test_fault_10_any_json_as_a_description(tmp_path, content):
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    description = one_line(read_description, tmp_path / "dataset.json")
    assert description is None or isinstance(description, Description)


headers = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(["|u1", "<f8", "|O", "<U4", "|V8", "<M8[s]", "<c16", "|S0", "<U0", "nonsense"])
        | st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.sampled_from(["<i4", "|O"])), max_size=3),
        "fortran_order": st.booleans() | st.integers(),
        "shape": st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 9), max_size=4).map(tuple),
    }
)


@many
@given(header=headers, content=st.binary(max_size=200), version=st.sampled_from([(1, 0), (2, 0), (3, 0), (0, 7)]))
def test_fault_07_any_npy_header_in_a_sound_zip(tmp_path, header, content, version):
    text = repr(header).encode() + b"\n"
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("slo_fundus.npy", b"\x93NUMPY" + bytes(version) + length + text + content)

    def use() -> np.ndarray:
        with NpzFile(tmp_path, "a.npz") as file:
            file.verify("slo_fundus")
            return file.array("slo_fundus")

    array = one_line(use)
    if array is not None:
        assert array.shape == header["shape"]
        assert array.nbytes == len(content)
        assert not array.dtype.hasobject
    one_line(inspect_image, tmp_path, "a.npz")


@many
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF89a", b"RIFF", b"P6"]
    ),
)
def test_fault_06_any_bytes_as_an_image(tmp_path, data, start):
    (tmp_path / "a.png").write_bytes(start + data)
    facts = one_line(inspect_image, tmp_path, "a.png")
    image = one_line(read_image, tmp_path, "a.png")
    assert (facts is None) == (image is None), "what the check lets in can be read"
    if image is not None:
        assert image.size == (facts.width, facts.height)


def test_fault_10_a_mutated_input_can_be_made_again():
    assert all(fuzz.mutated(kind, 7) == fuzz.mutated(kind, 7) for kind in fuzz.KINDS)
    assert len({fuzz.mutated("csv", number) for number in range(50)}) > 40
    with zipfile.ZipFile(io.BytesIO(fuzz.sound_npz())) as archive:
        assert "slo_fundus.npy" in archive.namelist()


def limited_peak(code: str, *arguments: object) -> tuple[str, int]:
    """What a process of its own prints, and the peak of its memory in bytes."""
    script = f"import sys\n{code}\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    *lines, peak = done.stdout.strip().splitlines()
    return "\n".join(lines), int(peak) * 1024


_READ = """
from pathlib import Path
from fairvlm_core.errors import InputError
from fairvlm_core.intake.csvtable import read_parquet_table
from fairvlm_core.intake.npz import NpzFile
path = Path(sys.argv[1])
try:
    read_parquet_table(path) if path.suffix == ".parquet" else NpzFile(path.parent, path.name)
except InputError as error:
    print(error)
"""


def test_fault_09_a_parquet_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """Two million times the same 10,000 letters: 20 GB in a file of 200 KB."""
    cells = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000_000, np.int32)), pa.array(["a" * 10_000]))
    pyarrow.parquet.write_table(pa.table({"text": cells}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 500_000
    said, peak = limited_peak(_READ, tmp_path / "bomb.parquet")
    assert said == "bomb.parquet: column 'text' unpacks to far more than the file holds; split it"
    assert peak < MEMORY


def test_fault_09_too_many_rows_are_refused_by_the_header(tmp_path):
    pyarrow.parquet.write_table(pa.table({"label": np.zeros(20_000_001, np.int8)}), tmp_path / "rows.parquet")
    said, peak = limited_peak(_READ, tmp_path / "rows.parquet")
    assert said == "rows.parquet: more than 20,000,000 rows; split it"
    assert peak < MEMORY


def test_fault_09_a_zip_that_lists_a_million_members_is_refused_unread(tmp_path):
    listed = b"PK\1\2" + bytes(42)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 1_000_000 * len(listed), 30, 0)
    (tmp_path / "a.npz").write_bytes(b"PK\3\4" + bytes(26) + listed * 1_000_000 + end)
    said, peak = limited_peak(_READ, tmp_path / "a.npz")
    assert said == "its directory is longer than 200 members need"
    assert peak < MEMORY


def test_packed_text_comes_out_as_it_was(tmp_path):
    """Dictionary columns, plain ones, missing cells and several row groups."""
    words = ["a", None, "", "b" * 50, "ü"] * 200
    table = pa.table({"packed": pa.array(words).dictionary_encode(), "plain": [f"n{i}" for i in range(1000)],
                      "number": [None, *range(999)]})  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=130)
    read = read_parquet_table(tmp_path / "a.parquet").columns
    assert read["packed"].to_pylist() == [word or "" for word in words]
    assert read["plain"].to_pylist() == table["plain"].to_pylist()
    assert read["number"].to_pylist() == ["", *map(str, range(999))]
