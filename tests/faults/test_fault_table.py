"""The table of faults: red where a fault has no test that ran, and wherever something failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("table.py")


def report(cases: dict[str, str]) -> str:
    inner = "".join(f'<testcase classname="t" name="{name}">{outcome}</testcase>' for name, outcome in cases.items())
    return f"<testsuites><testsuite>{inner}</testsuite></testsuites>"


ALL = {f"test_fault_{number:02d}_x[{number}]": "" for number in range(1, 26)}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({}, 0, "25 of 25 faults green"),
        ({"test_fault_07_x[7]": "<failure/>"}, 1, "24 of 25"),
        ({"test_fault_07_x[7]": "<error/>"}, 1, "failed: t::test_fault_07_x[7]"),
        ({"test_fault_07_x[7]": "<skipped/>"}, 1, "RED (no test ran)"),
        ({"test_fault_07_x[7]": None}, 1, "RED (no test ran)"),
        ({"test_fault_07_y": "<skipped/>"}, 0, "25 of 25"),
        ({"test_something_else": "<failure/>"}, 1, "failed: t::test_something_else"),
    ],
)
def test_the_table_is_green_only_where_every_fault_was_tested(tmp_path, change, code, words):
    cases = {name: outcome for name, outcome in (ALL | change).items() if outcome is not None}
    path = tmp_path / "report.xml"
    path.write_text(report(cases))
    done = subprocess.run([sys.executable, str(TABLE), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert words in done.stdout


def test_a_report_that_was_never_written_is_red(tmp_path):
    done = subprocess.run([sys.executable, str(TABLE), str(tmp_path / "x.xml")], capture_output=True, check=False)
    assert done.returncode == 1
