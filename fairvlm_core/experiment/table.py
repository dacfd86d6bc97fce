"""The table of an experiment: every metric of every method with its interval, and its difference from the baseline.

Values, intervals and differences are those of `analysis.comparison`, as `fairvlm compare` prints them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import safeio
from ..analysis.comparison import RunComparison, compare_methods
from ..analysis.entries import read_entry
from ..analysis.methods import Method
from ..errors import InputError
from ..fairness import METRICS, Outcome, PairedDifference, holm
from ..runs import Run
from .plan import SCORES, Cell, Experiment

SCHEMA_VERSION = 1
CONFIDENCE = 0.95
TEST_CHOSEN = "auc_chosen_on_test"  # AUC of the epoch with the highest test AUC, as the released code chooses it


@dataclass(frozen=True)
class Entry:
    """One number of the table.

    Attributes
    ----------
    model, score, method : str
    attribute : str
        Whose methods stand together; empty where the data have none.
    metric : str
        A name in METRICS, or `TEST_CHOSEN`.
    group : str
        Empty for a metric of everyone, or one that compares groups.
    seeds : int
        Runs with a value.
    n, n_positive : int
        Test pairs.
    mean, sd, low, high : float or None
        Over runs; 95 % interval over seeds and patients (one run: over patients).
    chance : float or None
        Expected value if groups of these sizes did not differ.
    difference, difference_low, difference_high, p : float or None
        Minus the baseline on the same patients; p after Holm's correction over attributes.
    outcome : str
        Of the difference: better, worse, no reliable difference, ...; empty for the baseline.
    undefined : str
        Why there is no value.
    """

    model: str
    score: str
    attribute: str
    method: str
    metric: str
    group: str
    seeds: int
    n: int
    n_positive: int
    mean: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    outcome: str = ""
    undefined: str = ""


@dataclass(frozen=True)
class ExperimentTable:
    """All entries of an experiment.

    Attributes
    ----------
    name, title, baseline, data : str
    entries : tuple of Entry
    runs : tuple of dict
        method, model, attribute, seed and run id of every run in the table.
    missing : tuple of str
        Cells without a finished run, which the entries lack.
    """

    name: str
    title: str
    baseline: str
    data: str
    entries: tuple[Entry, ...]
    runs: tuple[dict[str, Any], ...]
    missing: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row an entry."""
        return pd.DataFrame([asdict(entry) for entry in self.entries], columns=list(Entry.__dataclass_fields__))

    def blocks(self) -> Iterator[tuple[str, str, str, list[Entry]]]:
        """(model, score, attribute, entries) of methods that stand together, in the order of the experiment."""
        found: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault((entry.model, entry.score, entry.attribute), []).append(entry)
        for key, entries in found.items():
            yield *key, entries

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"schema_version": SCHEMA_VERSION}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExperimentTable:
        rest = {name: values[name] for name in ("name", "title", "baseline", "data")}
        entries = tuple(Entry(**entry) for entry in values["entries"])
        return cls(**rest, entries=entries, runs=tuple(values["runs"]), missing=tuple(values["missing"]))


def make_table(
    experiment: Experiment, cells: Sequence[Cell], runs: Mapping[Cell, Run], folder: Path
) -> ExperimentTable:
    """The table of the finished runs; read from `folder` where it was made of the same runs before.

    Parameters
    ----------
    cells : sequence of Cell
        All of the experiment.
    runs : mapping of Cell to Run
        The finished ones.
    folder : Path
        Where ``table.json`` is kept.

    Raises
    ------
    InputError
        No run is finished, or one lacks a column of scores.
    """
    if not runs:
        raise InputError(f"experiment {experiment.name}: no run is finished, so there is no table")
    key = _key(experiment, runs)
    path = folder / "table.json"
    if (stored := read_table(path)) is not None and stored[0] == key:
        return stored[1]
    missing = tuple(str(cell) for cell in cells if cell not in runs)
    made = ExperimentTable(
        name=experiment.name,
        title=experiment.title,
        baseline=experiment.baseline,
        data=str(next(iter(runs.values())).data["name"]),
        entries=tuple(_entries(experiment, runs)),
        runs=tuple(cell.facts | {"run": run.id} for cell, run in runs.items()),
        missing=missing,
    )
    with safeio.storing(path):
        safeio.make_folder(folder)
        safeio.write_json(path, made.to_dict() | {"key": key})
    return made


def read_table(path: Path) -> tuple[str, ExperimentTable] | None:
    """The key and the table of a file; None where there is none that this version reads."""
    try:
        values = safeio.read_versioned(path, SCHEMA_VERSION)
        return str(values["key"]), ExperimentTable.from_dict(values)
    except (InputError, FileNotFoundError, KeyError, TypeError):
        return None


def _key(experiment: Experiment, runs: Mapping[Cell, Run]) -> str:
    what = [experiment.model_dump(mode="json"), [[str(cell), run.id] for cell, run in runs.items()]]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _entries(experiment: Experiment, runs: Mapping[Cell, Run]) -> Iterator[Entry]:
    attributes = experiment.attributes or tuple(next(iter(runs.values())).data["attributes"])
    each = any(method.each_attribute for method in experiment.methods.values())
    together = [(name,) for name in attributes] if each else [attributes]
    for model in dict.fromkeys(cell.model for cell in runs):
        for score in experiment.scores:
            found: list[Entry] = []
            for names in together or [()]:
                methods = _methods(experiment, runs, model, names)
                if methods:
                    found += _compared(experiment, methods, runs, model, score, names)
            yield from _corrected(found) if each else found


def _methods(
    experiment: Experiment, runs: Mapping[Cell, Run], model: str, attributes: tuple[str, ...]
) -> list[tuple[Method, list[Run]]]:
    """Methods with their finished runs, the baseline first."""
    order = sorted(experiment.methods, key=lambda name: name != experiment.baseline)
    found = []
    for name in order:
        mine = [
            run
            for cell, run in runs.items()
            if (cell.method, cell.model) == (name, model) and cell.attribute in (None, *attributes)
        ]
        if mine:
            mine.sort(key=lambda run: run.config.seed)
            found.append((Method(name, tuple(read_entry(run, with_report=False) for run in mine)), mine))
    return found


def _compared(
    experiment: Experiment,
    methods: list[tuple[Method, list[Run]]],
    runs: Mapping[Cell, Run],
    model: str,
    score: str,
    attributes: tuple[str, ...],
) -> Iterator[Entry]:
    by_id = {run.id: run for run in runs.values()}
    comparisons: dict[str, RunComparison] = {}
    for metric in experiment.metrics:
        # ES-AUC contains AUC, its base metric, of everyone and of each group.
        source = "es_auc" if metric == "auc" and attributes else metric
        if source not in comparisons:
            comparisons[source] = compare_methods(
                [method for method, _ in methods], by_id, attributes=attributes, metric=source, score=SCORES[score]
            )
        compared = comparisons[source]
        for attribute in attributes or ("",):
            for place, scored in enumerate(compared.methods):
                head = {"model": model, "score": score, "attribute": attribute, "method": scored.name}
                for at, group in _places(compared, metric, attribute):
                    yield _entry(compared, experiment.baseline, place, metric, at, group, head)
    if score == "zero-shot":
        any_of_them = next(iter(comparisons.values()))
        for attribute in attributes or ("",):
            yield from _chosen_on_test(methods, model, attribute, any_of_them)


def _places(compared: RunComparison, metric: str, attribute: str) -> list[tuple[str | None, str]]:
    """(attribute or None, group or "") of the values of a metric: of the attribute, or of everyone; AUC of groups, too."""
    if METRICS[metric].compares_groups:
        return [(attribute, "")]
    groups = compared.groups(attribute) if metric == "auc" and attribute else ()
    return [(None, ""), *((attribute, group) for group in groups)]


def _chosen_on_test(
    methods: list[tuple[Method, list[Run]]], model: str, attribute: str, compared: RunComparison
) -> Iterator[Entry]:
    """The mean over runs of the highest test AUC of an epoch, where runs recorded it."""
    for method, mine in methods:
        chosen = [max(line["test_auc"] for line in lines) for run in mine if _tested(lines := run.metrics())]
        if chosen:
            yield Entry(
                model, "zero-shot", attribute, method.name, TEST_CHOSEN, "", len(chosen), compared.n,
                compared.n_positive, float(np.mean(chosen)), _sd(chosen),
            )  # fmt: skip


def _tested(lines: Sequence[Mapping[str, Any]]) -> bool:
    return bool(lines) and all(line.get("test_auc") is not None for line in lines)


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _entry(
    compared: RunComparison,
    baseline: str,
    place: int,
    metric: str,
    attribute: str | None,
    group: str,
    head: Mapping[str, Any],
) -> Entry:
    """A number of a method, with its difference if the first method is the baseline, which may lack runs."""
    scored, is_compared = compared.methods[place], place > 0 and compared.methods[0].name == baseline
    value = scored.value(attribute, metric, group or None)
    found: dict[str, Any] = {}
    if is_compared and (difference := _difference(compared, scored.name, metric, attribute, group)) is not None:
        interval = difference.interval
        found = {
            "difference": difference.difference if isinstance(difference.difference, float) else None,
            "difference_low": None if interval is None else interval.low,
            "difference_high": None if interval is None else interval.high,
            "p": difference.p,
            "outcome": difference.outcome.value,
        }
    return Entry(
        **head,
        metric=metric,
        group=group,
        seeds=value.n_runs,
        n=value.n,
        n_positive=value.n_positive,
        mean=value.mean,
        sd=value.sd,
        low=None if value.interval is None else value.interval.low,
        high=None if value.interval is None else value.interval.high,
        chance=None if value.chance is None else value.chance.expected,
        undefined=value.undefined or "",
        **found,
    )


def _difference(
    compared: RunComparison, method: str, metric: str, attribute: str | None, group: str
) -> PairedDifference | None:
    comparison = compared.differences[method].comparison
    cell = comparison.cell(attribute, group or None)
    return cell if cell.metric == metric else None


def _corrected(entries: list[Entry]) -> list[Entry]:
    """The entries with p corrected over attributes that were compared one by one."""
    families: dict[tuple[str, str], list[int]] = {}
    for place, entry in enumerate(entries):
        if entry.p is not None and METRICS[entry.metric].compares_groups:
            families.setdefault((entry.method, entry.metric), []).append(place)
    out = list(entries)
    for places in families.values():
        for place, p in zip(places, holm(np.array([entries[i].p for i in places])).tolist(), strict=True):
            reliable = p < 1 - CONFIDENCE
            outcome = entries[place].outcome if reliable else Outcome.NO_RELIABLE_DIFFERENCE.value
            out[place] = replace(entries[place], p=p, outcome=outcome)
    return out
