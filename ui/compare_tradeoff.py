"""AUC against fairness: where methods lie, which are not beaten on both, and the way along a grid of λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.config import RunConfig

from .compare import Method
from .words import figure, listed, many

MEASURES = {"es_auc": "ES-AUC", "worst_group_auc": "AUC of the worst group"}
_NOT_COMPARED = ("schema_version", "seed", "device", "preset", "fairness.weight")


def plane(
    methods: Sequence[Method], reports: Mapping[str, Mapping[str, Any]], attribute: str, measure: str
) -> pd.DataFrame:
    """One row a method: method, n_runs, auc, auc_sd, fair, fair_sd, n, front; means and standard deviations over seeds.

    `fair` is a key of `MEASURES`; a method for which it is undefined is left out. `front` marks the Pareto front.
    """
    rows = []
    for method in methods:
        facts = [reports[entry.id]["attributes"][attribute] for entry in method.runs]
        pairs = [(f["overall"]["auc"], f[measure]) for f in facts if f[measure] is not None]
        if not pairs:
            continue
        auc, fair = np.array(pairs, float).T
        spread = [float(v.std(ddof=1)) if len(v) > 1 else np.nan for v in (auc, fair)]
        n = facts[0]["n"]
        rows.append((method.name, len(pairs), auc.mean(), spread[0], fair.mean(), spread[1], n))
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
    return ~(as_good & better).any(axis=0)


@dataclass(frozen=True)
class WeightGrid:
    """Methods that differ by λ (fairness.weight) alone, by rising λ."""

    name: str
    weights: tuple[float, ...]
    methods: tuple[str, ...]


def weight_grids(methods: Sequence[Method], configs: Mapping[str, Mapping[str, Any]]) -> list[WeightGrid]:
    """The grids among methods, two or more values of λ each; `configs` are plain configurations by run id.

    >>> from fairvlm_core.analysis.entries import RunEntry
    >>> methods = [Method(f"robustfair ({w})", (RunEntry(f"000{i}-robustfair-s0", "finished", preset="robustfair"),))
    ...            for i, w in enumerate([0.1, 0.0, 1.0], start=1)]
    >>> settings = [{"fairness.weight": w} for w in (0.1, 0.0, 1.0)]
    >>> configs = {m.runs[0].id: RunConfig.build("robustfair", s).to_dict() for m, s in zip(methods, settings, strict=True)}
    >>> weight_grids(methods, configs)[0].weights
    (0.0, 0.1, 1.0)
    """
    found: dict[tuple[Any, ...], list[tuple[float, Method]]] = {}
    for method in methods:
        flat = RunConfig.read(configs[method.runs[0].id]).flat()
        key = tuple((name, repr(value)) for name, value in sorted(flat.items()) if name not in _NOT_COMPARED)
        key += (("verdicts", method.runs[0].verdicts),)
        found.setdefault(key, []).append((float(flat["fairness.weight"]), method))
    grids = []
    for members in found.values():
        by_weight = dict(sorted(members, key=lambda pair: pair[0]))
        if len(by_weight) > 1:
            name = members[0][1].runs[0].method
            grids.append(WeightGrid(name, tuple(by_weight), tuple(method.name for method in by_weight.values())))
    return grids


def front_line(frame: pd.DataFrame, measure: str) -> str:
    """A sentence on the front.

    >>> frame = pd.DataFrame({"method": ["clip", "dbpm"], "front": [True, False], "n_runs": [2, 2]})
    >>> front_line(frame, "es_auc")
    'clip is not beaten on both AUC and ES-AUC. Means of 2 seeds: a front of so few can change with other seeds.'
    """
    best = frame.loc[frame["front"], "method"].tolist()
    beaten = f"{listed(best)} {'is' if len(best) == 1 else 'are'} not beaten on both AUC and {MEASURES[measure]}."
    fewest = int(frame["n_runs"].min())
    if fewest < 5:
        beaten += f" Means of {many(fewest, 'seed')}: a front of so few can change with other seeds."
    return beaten


def walk_line(frame: pd.DataFrame, grid: WeightGrid, weight: float, measure: str) -> str:
    """What a step of the grid gives, against the smallest λ."""
    by_name = frame.set_index("method")
    names = dict(zip(grid.weights, grid.methods, strict=True))
    if names[weight] not in by_name.index:
        return f"λ = {weight:g}: {MEASURES[measure]} is undefined."
    row = by_name.loc[names[weight]]
    line = f"λ = {weight:g}: AUC {_with_sd(row['auc'], row['auc_sd'])}, "
    line += f"{MEASURES[measure]} {_with_sd(row['fair'], row['fair_sd'])} ({many(int(row['n_runs']), 'seed')})"
    first = grid.weights[0]
    if weight == first or names[first] not in by_name.index:
        return f"{line}."
    base = by_name.loc[names[first]]
    steps = [row[key] - base[key] for key in ("auc", "fair")]
    signs = [f"{'+' if step >= 0 else '−'}{figure(abs(step))}" for step in steps]
    line += f"; against λ = {first:g}: {signs[0]} and {signs[1]}"
    return f"{line}. The paired difference above says whether that is chance."


def _with_sd(value: float, sd: float) -> str:
    return figure(value) + (f" ± {figure(sd)}" if np.isfinite(sd) else "")
