"""The Sinkhorn divergence over training, by method, run and group, and beside it the ES-AUC.

Runs are given by method: a mapping of the method's name to its runs. `metrics` are the lines of metrics.jsonl by run id; a
run without lines has no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def _lines(runs: Runs, metrics: Metrics) -> Iterator[tuple[str, RunEntry, Mapping[str, Any]]]:
    for method, members in runs.items():
        for run in members:
            for line in metrics.get(run.id, ()):
                yield method, run, line


def divergences(runs: Runs, metrics: Metrics, attribute: str, quantity: str) -> pd.DataFrame:
    """One row a run, epoch and group (`MEAN` for the mean over groups): method, run, seed, epoch, group, n, value."""
    rows: list[tuple[Any, ...]] = []
    for method, run, line in _lines(runs, metrics):
        head = (method, run.id, run.seed, int(line["epoch"]))
        found = [s for s in line["sinkhorn"] if (s["attribute"], s["quantity"]) == (attribute, quantity)]
        rows += [(*head, s["group"], int(s["n"]), float(s["value"])) for s in found]
        if found:
            rows.append((*head, MEAN, sum(int(s["n"]) for s in found), float(np.mean([s["value"] for s in found]))))
    return pd.DataFrame(rows, columns=["method", "run", "seed", "epoch", "group", "n", "value"])


def bands(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `divergences` over seeds: method, group, epoch, mean, low and high (smallest and largest seed), n_runs, n.

    >>> rows = [("clip", "r", 0, 1, "A", 9, 0.2), ("clip", "s", 1, 1, "A", 9, 0.4)]
    >>> one = pd.DataFrame(rows, columns=["method", "run", "seed", "epoch", "group", "n", "value"])
    >>> bands(one)[["mean", "low", "high", "n_runs"]].round(3).to_numpy().tolist()
    [[0.3, 0.2, 0.4, 2.0]]
    """
    grouped = frame.groupby(["method", "group", "epoch"], sort=False)
    out = grouped.agg(
        mean=("value", "mean"), low=("value", "min"), high=("value", "max"), n_runs=("run", "nunique"), n=("n", "first")
    )
    return out.reset_index()


def groups_of(frame: pd.DataFrame) -> list[str]:
    """`MEAN` first, then the groups in their order."""
    return [MEAN, *group_order(set(frame["group"]) - {MEAN})] if len(frame) else []


def paths(runs: Runs, metrics: Metrics, attribute: str, quantity: str) -> pd.DataFrame:
    """One row a run and epoch: method, run, seed, epoch, divergence (mean over groups), es_auc (validation), chosen.

    `chosen` marks the epoch that validation has selected so far. Epochs without a validation ES-AUC are left out.
    """
    means = divergences(runs, metrics, attribute, quantity)
    means = means[means["group"] == MEAN].set_index(["run", "epoch"])["value"]
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
