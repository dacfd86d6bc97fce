"""Printing: tables for people on standard output, progress on standard error, one JSON document where it is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document; a value without a number is null, never NaN."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers_from: int = 1) -> None:
    """A table; columns from `numbers_from` on are right-aligned."""
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        grid.add_column(column, justify="right" if i >= numbers_from else "left", overflow="fold")
    for row in rows:
        grid.add_row(*("–" if cell is None else str(cell) for cell in row))
    # A pipe has no width: print whole rows there.
    console = out if out.is_terminal else Console(width=200, highlight=False)
    if title:  # as a line of its own: rich would squeeze a long title into the width of a narrow table
        console.print(title, style="bold", markup=False)
    console.print(grid)
    out.print()


@contextmanager
def progress(quiet: bool = False):
    """A progress display on standard error; silent where it is not a terminal or not wanted."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        yield bar


def watch(bar: Progress, label: str):
    """A callback ``(done, total)`` that moves one bar of `progress`."""
    task = bar.add_task(label, total=None)

    def move(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return move
