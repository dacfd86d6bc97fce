"""The table of faults: `table.py REPORT.xml` reads what pytest wrote with --junitxml and exits 1 unless all are green.

A test belongs to fault NN by its name, `test_fault_NN_…`, in any folder. A fault without a test that ran is red.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

FAULTS = (
    "NaN or infinite loss stops the run and names step and pairs",
    "A group with one class: AUC undefined, shown, ES-AUC partial",
    "A group of one: n, no interval",
    "A missing attribute is the counted group Unknown",
    "An empty split or no label is refused before launch",
    "A missing or unreadable image is listed, or the set refused",
    "A truncated, empty or bit-flipped npz is named",
    "Pickled objects in an npz are refused",
    "An npz or PNG bomb is refused before allocating",
    "Bad CSV names the row; text stays text",
    "Duplicate pair ids or column names are refused",
    "A patient in two splits is refused or recorded",
    "Identical losses flag nothing",
    "Ten pairs or fewer: nothing can be flagged, and it says so",
    "Unusual images come in by defined rules",
    "A path out of the data folder is refused unseen",
    "Odd notes: truncation is counted and reported",
    "Hostile notes are shown literally, nothing is fetched",
    "Formulas are neutralised in CSV and come back",
    "kill -9 at any moment: resumed bit for bit",
    "A full or failing disk: old or new, never neither",
    "Two reviewers, a double click: both kept, the conflict shown",
    "A run removed or half-written under an open page",
    "Ctrl-C, reused pid, closed tab, two launches: jobs survive",
    "Malicious checkpoint, newer schema, read-only, clock set back",
)
_NAME = re.compile(r"test_fault_(\d+)_")


@dataclass
class Count:
    """Outcomes of a fault's tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def result(self) -> str:
        if self.failed:
            return "RED"
        return "green" if self.passed else "RED (no test ran)"


def count_outcomes(*reports: Path) -> tuple[dict[int, Count], list[str]]:
    """Outcomes by fault number, and the names of whatever failed."""
    counts: dict[int, Count] = defaultdict(Count)
    failures = []
    for case in (case for report in reports for case in ElementTree.parse(report).iter("testcase")):
        name = case.get("name", "")
        failed = case.find("failure") is not None or case.find("error") is not None
        if failed:
            failures.append(f"{case.get('classname')}::{name}")
        if match := _NAME.match(name):
            count = counts[int(match[1])]
            if failed:
                count.failed += 1
            elif case.find("skipped") is not None:
                count.skipped += 1
            else:
                count.passed += 1
    return dict(counts), failures


def lines_of(counts: dict[int, Count]) -> list[str]:
    """The table as text, one line a fault, and the sum."""
    width = max(map(len, FAULTS))
    lines = [f"{'':>2}  {'fault':<{width}}  {'passed':>6}  {'failed':>6}  {'skipped':>7}  result"]
    green = 0
    for number, what in enumerate(FAULTS, 1):
        count = counts.get(number, Count())
        green += count.result == "green"
        lines.append(
            f"{number:>2}  {what:<{width}}  {count.passed:>6}  {count.failed:>6}  {count.skipped:>7}  {count.result}"
        )
    return [*lines, f"{green} of {len(FAULTS)} faults green"]


def main(*reports: Path) -> int:
    missing = [report for report in reports if not report.is_file()]
    if missing:
        print(f"{missing[0]} is missing: the tests did not run to their end", file=sys.stderr)
        return 1
    counts, failures = count_outcomes(*reports)
    print("\n".join(lines_of(counts)))
    for failure in failures:
        print(f"failed: {failure}")
    all_green = all(counts.get(number, Count()).result == "green" for number in range(1, len(FAULTS) + 1))
    return 0 if all_green and not failures else 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
