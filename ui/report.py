"""For the report page: possible baselines, cached contents, and what is hidden."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import streamlit as st

from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.report import ReportOptions, build_content
from fairvlm_core.runs import Run

from .reads import Stamp, stamp


def baselines(entry: RunEntry, entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Finished runs on the same data: other methods before other seeds, the same seed before others.

    >>> runs = [RunEntry(f"000{i}-x-s{s}", "finished", seed=s, method_key=m, fingerprint="f")
    ...         for i, (m, s) in enumerate([("a", 0), ("a", 1), ("b", 1), ("b", 0)], start=1)]
    >>> [other.id for other in baselines(runs[0], runs)]
    ['0004-x-s0', '0003-x-s1', '0002-x-s1']
    """
    same = [o for o in entries if o.state == "finished" and o.fingerprint == entry.fingerprint and o.id != entry.id]
    return sorted(same, key=lambda o: (o.method_key == entry.method_key, o.seed != entry.seed))


def other_method(entry: RunEntry, ordered: Iterable[RunEntry]) -> bool:
    """Whether the first of `baselines` is of another method."""
    first = next(iter(ordered), None)
    return first is not None and first.method_key != entry.method_key


def report_content(
    run: Run, baseline: Run | None, options: ReportOptions, finished: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A report's content; content with notes or images is not kept in memory.

    `finished` are the ids of the finished runs: a further seed of one of the methods changes the comparison.
    """
    if options.notes or options.images:
        return build_content(run, baseline=baseline, options=options)
    if baseline is None:
        return _content(_key(run), None, tuple(asdict(options).items()), ())
    return _content(_key(run), _key(baseline), tuple(asdict(options).items()), finished)


def _key(run: Run) -> tuple[str, tuple[Stamp, ...]]:
    f = run.files
    return str(run.path), tuple(map(stamp, (f.status, f.config, f.data, f.predictions, f.ledger, f.metrics)))


@st.cache_data(max_entries=32, show_spinner=False)
def _content(
    run: tuple[str, tuple[Stamp, ...]],
    baseline: tuple[str, tuple[Stamp, ...]] | None,
    options: tuple[tuple[str, Any], ...],
    finished: tuple[str, ...],  # noqa: ARG001 - part of the key
) -> dict[str, Any]:
    other = None if baseline is None else Run(Path(baseline[0]))
    return build_content(Run(Path(run[0])), baseline=other, options=ReportOptions(**dict(options)))


def json_of(content: Mapping[str, Any]) -> str:
    """The same content for programs."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def hidden_line(content: Mapping[str, Any]) -> str:
    """How many rows of the data card are hidden.

    >>> hidden_line({"privacy": {"min_cell": 5}, "data": {"groups": [{"hidden": "small"}, {"hidden": ""}]}})
    '1 of 2 rows of the data card are hidden: cells of fewer than 5 people, and rows from which they could be computed.'
    """
    rows = content["data"]["groups"]
    hidden = sum(bool(row["hidden"]) for row in rows)
    if not hidden:
        return "No group is small enough to be hidden." if content["privacy"]["min_cell"] > 1 else "No group is hidden."
    return (
        f"{hidden} of {len(rows)} rows of the data card are hidden: cells of fewer than "
        f"{content['privacy']['min_cell']} people, and rows from which they could be computed."
    )
