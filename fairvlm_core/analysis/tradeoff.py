"""AUC against fairness: where methods lie, which of them no other method beats, and the values of λ that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .comparison import RunComparison
from .methods import NOT_METHOD, Method

_WEIGHT = "fairness.weight"


def plane(result: RunComparison, attribute: str, metric: str) -> pd.DataFrame:
    """One row per method: method, n_runs, auc, auc_sd, fair, fair_sd, n, front; means and standard deviations over seeds.

    `fair` is a metric of the attribute for which larger is better; methods for which it is undefined are left out. `front`
    marks the Pareto front.
    """
    rows = []
    for method in result.methods:
        auc, fair = method.value(None, "auc"), method.value(attribute, metric)
        if auc.mean is not None and fair.mean is not None:
            spread = [np.nan if value.sd is None else value.sd for value in (auc, fair)]
            rows.append((method.name, fair.n_runs, auc.mean, spread[0], fair.mean, spread[1], fair.n))
    frame = pd.DataFrame(rows, columns=["method", "n_runs", "auc", "auc_sd", "fair", "fair_sd", "n"])
    frame["front"] = pareto(frame["auc"].to_numpy(float), frame["fair"].to_numpy(float))
    return frame


def pareto(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points no other point beats: as good in both and better in one. Larger is better.

    >>> pareto(np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.5, 0.6, 0.55, 0.4])).tolist()
    [True, True, False, False]
    """
    as_good = (first[:, None] >= first) & (second[:, None] >= second)
    better = (first[:, None] > first) | (second[:, None] > second)
    return np.asarray(~(as_good & better).any(axis=0))


@dataclass(frozen=True)
class WeightGrid:
    """Methods that differ only in λ (fairness.weight), by rising λ."""

    name: str
    weights: tuple[float, ...]
    methods: tuple[str, ...]


def weight_grids(methods: Sequence[Method]) -> list[WeightGrid]:
    """The grids among methods, with two or more values of λ each.

    >>> from .entries import RunEntry
    >>> methods = [Method(f"r ({w})", (RunEntry(f"{i}", "finished", preset="r", settings={"fairness.weight": w}),))
    ...            for i, w in enumerate([0.1, 0.0, 1.0])]
    >>> weight_grids(methods)[0].weights
    (0.0, 0.1, 1.0)
    """
    found: dict[tuple[Any, ...], list[Method]] = {}
    for method in methods:
        run = method.runs[0]
        same = sorted((name, repr(value)) for name, value in run.settings.items() if name not in {*NOT_METHOD, _WEIGHT})
        found.setdefault((*same, run.verdicts, run.fingerprint), []).append(method)
    grids = []
    for members in found.values():
        by_weight = {float(method.runs[0].settings[_WEIGHT]): method.name for method in members}
        if len(by_weight) > 1:
            weights = tuple(sorted(by_weight))
            grids.append(WeightGrid(members[0].runs[0].method, weights, tuple(by_weight[w] for w in weights)))
    return grids
