"""The Sinkhorn divergence over training, by method, run and group, and beside it the ES-AUC.

Groups differ by chance alone, small ones more than large ones. What is shown is the distance above that level, and
`group_divergences` is the only place that reads it.

Runs are given by method: a mapping of the method's name to its runs. `metrics` are the lines of metrics.jsonl by run id; a
run without lines has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd

from ..fairness import Undefined
from .comparison import MethodDifference
from .entries import RunEntry
from .group_order import group_order

MEAN = ""  # stands for the mean over an attribute's groups, which the objective minimises
Runs = Mapping[str, Sequence[RunEntry]]
Metrics = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Effect:
    """Divergence and ES-AUC of one method compared with a reference method.

    Attributes
    ----------
    before, after : float
        Mean divergence over groups of the reference and of the compared method.
    difference, low, high : float
        ES-AUC on the test split, compared minus reference, with its 95 % interval; NaN where there is none.
    reliable : bool
        Whether the difference is more than chance, corrected over attributes (Holm).
    seeds, n : int
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    reliable: bool
    seeds: int
    n: int


class Counted(Enum):
    """How pairs count: by the weight that the miner gave them at the start of the epoch, or all alike."""

    WEIGHTED = "weighted"
    ALL = "all"


@dataclass(frozen=True)
class GroupDivergence:
    """One group in one epoch: its divergence from everyone, and the level by chance (None where it was not recorded)."""

    attribute: str
    group: str
    n: int
    value: float
    chance: float | None

    @property
    def distance(self) -> float:
        """The divergence above chance, about 0 for groups that do not differ; where no level is known, all of it.

        >>> GroupDivergence("sex", "F", 90, 0.5, 0.125).distance, GroupDivergence("sex", "F", 90, 0.5, None).distance
        (0.375, 0.5)
        """
        return self.value if self.chance is None else self.value - self.chance


def group_divergences(line: Mapping[str, Any], quantity: str, counted: Counted) -> list[GroupDivergence]:
    """Every group in a line of metrics.

    Runs of version 0.1 recorded the value of all pairs only. It is also that by the weights where all weights were 1;
    elsewhere such a line has no groups by the weights. A group whose pairs all have weight 0 is left out, too.
    """
    found = []
    unweighted = line.get("mean_weight") == 1
    for entry in line["sinkhorn"]:
        value, chance = entry["value"], entry.get("chance")
        if counted is Counted.WEIGHTED and not ("weighted" not in entry and unweighted):
            value, chance = entry.get("weighted"), entry.get("weighted_chance")
        if entry["quantity"] == quantity and value is not None:
            found.append(GroupDivergence(entry["attribute"], entry["group"], int(entry["n"]), float(value), chance))
    return found


def recorded(lines: Sequence[Mapping[str, Any]]) -> Counted:
    """By the weights where every epoch has recorded that, else all pairs alike."""
    complete = all(group_divergences(line, "loss", Counted.WEIGHTED) or not line["sinkhorn"] for line in lines)
    return Counted.WEIGHTED if complete else Counted.ALL


def _lines(runs: Runs, metrics: Metrics) -> Iterator[tuple[str, RunEntry, Mapping[str, Any]]]:
    for method, members in runs.items():
        for run in members:
            for line in metrics.get(run.id, ()):
                yield method, run, line


def divergences(
    runs: Runs, metrics: Metrics, attribute: str, quantity: str, counted: Counted = Counted.ALL
) -> pd.DataFrame:
    """One row a run, epoch and group (`MEAN` for the mean over groups), with `GroupDivergence`'s numbers.

    Columns: method, run, seed, epoch, group, n, value, chance, distance.
    """
    rows: list[tuple[Any, ...]] = []
    for method, run, line in _lines(runs, metrics):
        head = (method, run.id, run.seed, int(line["epoch"]))
        found = [one for one in group_divergences(line, quantity, counted) if one.attribute == attribute]
        numbers = [(one.n, one.value, np.nan if one.chance is None else one.chance, one.distance) for one in found]
        rows += [(*head, one.group, *values) for one, values in zip(found, numbers, strict=True)]
        if found:
            rows.append((*head, MEAN, sum(one.n for one in found), *np.mean(numbers, axis=0)[1:].tolist()))
    names = ["method", "run", "seed", "epoch", "group", "n", "value", "chance", "distance"]
    return pd.DataFrame(rows, columns=names)


@dataclass(frozen=True)
class MiningRise:
    """A method whose groups move apart over all pairs, but not by the weights: mean over groups of all attributes.

    `first` and `last` are the distances of all pairs in the first and the last epoch, `weighted` that by the weights in the
    last epoch; means over runs.
    """

    method: str
    first: float
    last: float
    weighted: float


def mining_rises(runs: Runs, metrics: Metrics, attribute: str, quantity: str) -> list[MiningRise]:
    """Methods whose distance over all pairs has grown, and is more than twice that by the weights in the last epoch."""
    found = []
    for method, members in runs.items():
        ends = []
        for run in members:
            lines = metrics.get(run.id, ())
            asked = [(lines[0], Counted.ALL), (lines[-1], Counted.ALL), (lines[-1], Counted.WEIGHTED)] if lines else []
            means = [
                [g.distance for g in group_divergences(line, quantity, counted) if g.attribute == attribute]
                for line, counted in asked
            ]
            if asked and all(means):
                ends.append([float(np.mean(values)) for values in means])
        if ends:
            first, last, weighted = np.mean(ends, axis=0).tolist()
            if last > first and last > 2 * weighted and last > 0:
                found.append(MiningRise(method, first, last, weighted))
    return found


def bands(frame: pd.DataFrame) -> pd.DataFrame:
    """Distances of `divergences` over seeds: method, group, epoch, mean, low and high (smallest and largest seed), chance
    (mean level by chance), n_runs, n.

    >>> rows = [("clip", "r", 0, 1, "A", 9, 0.3, 0.1, 0.2), ("clip", "s", 1, 1, "A", 9, 0.5, 0.1, 0.4)]
    >>> names = ["method", "run", "seed", "epoch", "group", "n", "value", "chance", "distance"]
    >>> bands(pd.DataFrame(rows, columns=names))[["mean", "low", "high", "chance", "n_runs"]].round(3).to_numpy().tolist()
    [[0.3, 0.2, 0.4, 0.1, 2.0]]
    """
    grouped = frame.groupby(["method", "group", "epoch"], sort=False)
    out = grouped.agg(
        mean=("distance", "mean"), low=("distance", "min"), high=("distance", "max"), chance=("chance", "mean"),
        n_runs=("run", "nunique"), n=("n", "first"),
    )  # fmt: skip
    return out.reset_index()


def groups_of(frame: pd.DataFrame) -> list[str]:
    """`MEAN` first, then the groups in their order."""
    return [MEAN, *group_order(set(frame["group"]) - {MEAN})] if len(frame) else []


def paths(runs: Runs, metrics: Metrics, attribute: str, quantity: str, counted: Counted = Counted.ALL) -> pd.DataFrame:
    """One row a run and epoch: method, run, seed, epoch, divergence, es_auc (validation), chosen.

    The divergence is the distance above chance, mean over groups.

    `chosen` marks the epoch that validation has selected so far. Epochs without a validation ES-AUC are left out.
    """
    means = divergences(runs, metrics, attribute, quantity, counted)
    means = means[means["group"] == MEAN].set_index(["run", "epoch"])["distance"]
    best = {
        run: max((int(line["epoch"]) for line in lines if line["best"]), default=None) for run, lines in metrics.items()
    }
    rows = []
    for method, run, line in _lines(runs, metrics):
        epoch = int(line["epoch"])
        value = line["val"]["attributes"].get(attribute, {}).get("es_auc")
        if value is not None and (run.id, epoch) in means.index:
            chosen = epoch == best[run.id]
            rows.append((method, run.id, run.seed, epoch, float(means[run.id, epoch]), float(value), chosen))
    return pd.DataFrame(rows, columns=["method", "run", "seed", "epoch", "divergence", "es_auc", "chosen"])


def validation_es_auc(runs: Runs, metrics: Metrics, attribute: str) -> pd.DataFrame:
    """Validation ES-AUC by method and epoch: method, epoch, mean, low and high (smallest and largest seed), n_runs."""
    rows = []
    for method, run, line in _lines(runs, metrics):
        value = line["val"]["attributes"].get(attribute, {}).get("es_auc")
        if value is not None:
            rows.append((method, run.id, int(line["epoch"]), float(value)))
    frame = pd.DataFrame(rows, columns=["method", "run", "epoch", "value"]).groupby(["method", "epoch"], sort=False)
    return frame.agg(
        mean=("value", "mean"), low=("value", "min"), high=("value", "max"), n_runs=("run", "nunique")
    ).reset_index()


def at_selected_epoch(runs: Runs, metrics: Metrics, attributes: Sequence[str], quantity: str = "loss") -> pd.DataFrame:
    """Distances above chance at the epoch that validation selected, mean over groups and runs.

    One row a method and attribute: method, attribute, n_runs, weighted (by the miner's weights), all (pairs alike), chance
    (level by chance of all pairs). NaN where a run did not record it.
    """
    rows: list[tuple[Any, ...]] = []
    for method, members in runs.items():
        chosen = [[line for line in metrics.get(run.id, ()) if line["best"]][-1:] for run in members]
        lines = [line for found in chosen for line in found]
        for attribute in attributes:
            means = []
            for line in lines:
                by = {c: [g for g in group_divergences(line, quantity, c) if g.attribute == attribute] for c in Counted}
                weighted, every = ([g.distance for g in by[c]] or [np.nan] for c in (Counted.WEIGHTED, Counted.ALL))
                chance = [np.nan if g.chance is None else g.chance for g in by[Counted.ALL]] or [np.nan]
                means.append((np.mean(weighted), np.mean(every), np.mean(chance)))
            if means:
                rows.append((method, attribute, len(means), *np.mean(means, axis=0).tolist()))
    return pd.DataFrame(rows, columns=["method", "attribute", "n_runs", "weighted", "all", "chance"])


def ends(walked: pd.DataFrame, reports: Mapping[str, Mapping[str, Any]], attribute: str) -> pd.DataFrame:
    """One row a finished run of `paths`: method, run, seed, divergence, es_auc (test), low, high, chance, n.

    The divergence is that of the selected epoch, whose model scored the test split. `reports` are fairness reports by run.
    """
    rows = []
    for row in walked[walked["chosen"]].itertuples():
        facts = reports.get(row.run, {}).get("attributes", {}).get(attribute)
        if facts is not None and facts["es_auc"] is not None:
            interval = facts.get("intervals", {}).get("es_auc") or {"low": np.nan, "high": np.nan}
            chance = facts.get("chance", {}).get("es_auc", {}).get("expected", np.nan)
            measured = (float(facts["es_auc"]), interval["low"], interval["high"], chance, facts["n"])
            rows.append((row.method, row.run, row.seed, row.divergence, *measured))
    names = ["method", "run", "seed", "divergence", "es_auc", "low", "high", "chance", "n"]
    return pd.DataFrame(rows, columns=names)


def effect_of(found: MethodDifference, end: pd.DataFrame, attribute: str) -> Effect:
    """The effect of method `found.b` against `found.a`; their divergences are the means over the compared runs in `end`."""
    before, after = (
        float(end.loc[end["run"].isin([run.id for run in method.runs]), "divergence"].mean())
        for method in (found.a, found.b)
    )
    es_auc = found.comparison[attribute]
    low, high = (np.nan, np.nan) if es_auc.interval is None else (es_auc.interval.low, es_auc.interval.high)
    difference = np.nan if isinstance(es_auc.difference, Undefined) else float(es_auc.difference)
    return Effect(before, after, difference, low, high, es_auc.reliable, es_auc.n_seeds, es_auc.n)
