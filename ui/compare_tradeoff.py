"""Sentences about the trade-off between AUC and fairness."""

from __future__ import annotations

import pandas as pd

from fairvlm_core.analysis.tradeoff import WeightGrid
from fairvlm_core.words import listed, many, mean_sd, signed

METRIC_NAMES = {"es_auc": "ES-AUC", "worst_group_auc": "AUC of the worst group"}


def front_line(frame: pd.DataFrame, metric: str) -> str:
    """A sentence on the Pareto front.

    >>> frame = pd.DataFrame({"method": ["clip", "dbpm"], "front": [True, False], "n_runs": [2, 2]})
    >>> front_line(frame, "es_auc")
    'Best trade-off: clip. No method beats it on both AUC and ES-AUC. Means of 2 seeds: other seeds may change it.'
    """
    best = frame.loc[frame["front"], "method"].tolist()
    them = "it" if len(best) == 1 else "them"
    line = f"Best trade-off: {listed(best)}. No method beats {them} on both AUC and {METRIC_NAMES[metric]}."
    fewest = int(frame["n_runs"].min())
    if fewest < 5:
        line += f" Means of {many(fewest, 'seed')}: other seeds may change it."
    return line


def weight_line(frame: pd.DataFrame, grid: WeightGrid, weight: float, metric: str) -> str:
    """What one value of λ gives, compared with the smallest λ."""
    by_name = frame.set_index("method")
    names = dict(zip(grid.weights, grid.methods, strict=True))
    if names[weight] not in by_name.index:
        return f"λ = {weight:g}: {METRIC_NAMES[metric]} is undefined."
    row = by_name.loc[names[weight]]
    line = f"λ = {weight:g}: AUC {mean_sd(row['auc'], row['auc_sd'])}, "
    line += f"{METRIC_NAMES[metric]} {mean_sd(row['fair'], row['fair_sd'])} ({many(int(row['n_runs']), 'seed')})"
    first = grid.weights[0]
    if weight == first or names[first] not in by_name.index:
        return f"{line}."
    base = by_name.loc[names[first]]
    steps = [signed(row[key] - base[key]) for key in ("auc", "fair")]
    return (
        f"{line}; compared with λ = {first:g}: {steps[0]} and {steps[1]}. "
        "The paired difference above shows whether this is more than chance."
    )
