"""Cached reads, keyed by the file and its modification time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fairvlm_core.analysis.comparison import MethodDifference, RunComparison, compare_methods, method_difference
from fairvlm_core.analysis.entries import RunEntry, read_entry
from fairvlm_core.analysis.held_out import RESAMPLES, fairness_of, held_out_rows
from fairvlm_core.analysis.methods import Method, with_changes
from fairvlm_core.errors import InputError
from fairvlm_core.intake.images import jpeg_address
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import Run, RunStore

Stamp = tuple[int, int]
THUMBNAIL = 144  # pixels: a list shows it smaller, hovering as it is


def stamp(path: Path) -> Stamp:
    """Modification time (ns) and size of a file; zeros where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def by_files(*names: str) -> dict[type, Callable[[Run], Any]]:
    """Hash functions for a cached function of a run: its result is kept until one of these `Run.files` changes."""
    return {Run: lambda run: (str(run.path), [stamp(getattr(run.files, name)) for name in names])}


def run_entries(store: RunStore) -> list[RunEntry]:
    """All runs, oldest first. Running ones are not cached."""
    entries = ((run, _entry(run)) for run in store.runs())
    return with_changes(
        [entry if entry.state not in ("running", "damaged") else read_entry(run) for run, entry in entries]
    )


@st.cache_data(max_entries=512, show_spinner=False, hash_funcs=by_files("status", "config", "data", "report"))
def _entry(run: Run) -> RunEntry:
    return read_entry(run)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=by_files("predictions"))
def predictions(run: Run) -> pd.DataFrame:
    """A run's validation and test predictions."""
    return run.predictions()


def tables_stamp(folder: Path) -> list[Stamp]:
    """Stamps of a data folder and of the tables that may be in it."""
    names = ("", "manifest.csv", "manifest.parquet", "dataset.json", "metadata.csv", "data_summary.csv", "planted.csv")
    return [stamp(folder / name) for name in names]


def pair_table(folder: str, options: dict[str, Any]) -> PairTable:
    """A data folder, read and checked; again only when its tables or `dataset.json` change."""
    return _pair_table(folder, options, tables_stamp(Path(folder)))


# A table is frozen and may have a million rows: one object for all sessions instead of a pickled copy for each.
@st.cache_resource(max_entries=3, show_spinner="Reading the data folder and checking its images …")
def _pair_table(folder: str, options: dict[str, Any], stamps: list[Stamp]) -> PairTable:  # noqa: ARG001
    return PairTable.read(folder, **options)


def thumbnail(table: PairTable, row: int) -> str:
    """A small image of a pair as a ``data:`` address; "" where it cannot be read."""
    path = Path(table.image_root) / str(table.frame["image"].iat[row])
    key = (str(path), stamp(path))
    if key not in _thumbnails:
        if len(_thumbnails) >= 4000:
            _thumbnails.clear()
        try:
            _thumbnails[key] = jpeg_address(table.image(row), THUMBNAIL)
        except InputError:
            _thumbnails[key] = ""
    return _thumbnails[key]


# A dictionary: a page asks for 60 at once, and a look-up in Streamlit's cache takes as long as the rest of the page.
_thumbnails: dict[tuple[str, Stamp], str] = {}


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=by_files("predictions", "report"))
def fairness_report(run: Run, n_resamples: int = RESAMPLES) -> dict[str, Any]:
    """As `fairness_of`."""
    return fairness_of(run, n_resamples)


def held_out(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A run's validation and test predictions, in the order of their ids."""
    frame = predictions(run)
    test = held_out_rows(frame, run.id)
    val = frame[frame["split"].astype(str) == "val"].sort_values("pair_id").reset_index(drop=True)
    return val, test


def comparison(root: Path, methods: Sequence[Method]) -> RunComparison:
    """As `compare_methods`, of runs in the folder `root`."""
    return _comparison(*_method_key(root, methods))


def difference(root: Path, a: Method, b: Method) -> MethodDifference:
    """As `method_difference`, of runs in the folder `root`."""
    return _difference(*_method_key(root, (a, b)))


MethodKey = tuple[tuple[str, tuple[tuple[str, Stamp, Stamp, Stamp], ...]], ...]


def _method_key(root: Path, methods: Sequence[Method]) -> tuple[str, MethodKey]:
    def key(run_id: str) -> tuple[str, Stamp, Stamp, Stamp]:
        files = Run(root / run_id).files
        return run_id, stamp(files.predictions), stamp(files.report), stamp(files.data)

    return str(root), tuple((method.name, tuple(key(run.id) for run in method.runs)) for method in methods)


def _method_of_key(root: str, key: MethodKey) -> tuple[list[Method], dict[str, Run]]:
    runs = {run_id: Run(Path(root) / run_id) for _, of_method in key for run_id, *_ in of_method}
    return [Method(name, tuple(read_entry(runs[run_id]) for run_id, *_ in of)) for name, of in key], runs


# The arrays of a comparison are never changed: one object for all sessions instead of a pickled copy for each.
@st.cache_resource(max_entries=16, show_spinner=False)
def _comparison(root: str, key: MethodKey) -> RunComparison:
    return compare_methods(*_method_of_key(root, key))


@st.cache_data(max_entries=64, show_spinner=False)
def _difference(root: str, key: MethodKey) -> MethodDifference:
    (a, b), runs = _method_of_key(root, key)
    return method_difference(a, b, runs)
