"""What a presenter shows of two methods: the trade-off along λ, and pairs that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .comparison import MethodValue, RunComparison
from .group_order import group_order
from .methods import Method
from .mined_pairs import PAIR_KINDS, MinedPairs
from .tradeoff import WeightGrid, weight_grids


@dataclass(frozen=True)
class FrontPoint:
    """One value of λ: AUC of everyone, ES-AUC of an attribute, and AUC of each of its groups."""

    weight: float
    method: str
    auc: MethodValue
    es_auc: MethodValue
    groups: dict[str, MethodValue]


@dataclass(frozen=True)
class Front:
    """Methods that differ only in λ, by rising λ, all with the same seeds where they share any."""

    name: str
    seeds: tuple[int, ...]
    points: tuple[FrontPoint, ...]


def front_methods(methods: Sequence[Method], preferred: Sequence[str]) -> tuple[WeightGrid, list[Method]] | None:
    """The methods along λ, limited to the seeds that all of them have; None where λ was not varied.

    `preferred` are names of methods: a grid with one of them is preferred, the first one most, else that with most values.
    """
    grids = weight_grids(methods)
    if not grids:
        return None

    def rank(grid: WeightGrid) -> tuple[int, int]:
        places = [place for place, name in enumerate(preferred) if name in grid.methods]
        return -min(places, default=len(preferred)), len(grid.weights)

    grid = max(grids, key=rank)
    members = [method for name in grid.methods for method in methods if method.name == name]
    shared = set.intersection(*(set(method.seeds) for method in members))
    kept = [
        Method(method.name, tuple(run for run in method.runs if run.seed in shared) if shared else method.runs)
        for method in members
    ]
    return grid, kept


def front_of(result: RunComparison, grid: WeightGrid, attribute: str) -> Front:
    """The values of a grid from the comparison of its methods."""
    scored = {method.name: method for method in result.methods}
    points = []
    for weight, name in zip(grid.weights, grid.methods, strict=True):
        method = scored[name]
        groups = {g: method.value(attribute, "es_auc", g) for g in group_order(result.groups(attribute))}
        points.append(FrontPoint(weight, name, method.value(None), method.value(attribute), groups))
    return Front(grid.name, tuple(result.methods[0].method.seeds), tuple(points))


def rows_of_kind(now: MinedPairs, kind: str) -> np.ndarray:
    """Rows of one kind of `PAIR_KINDS`, most suspicious first."""
    return now.order[now.kind[now.order] == PAIR_KINDS.index(kind)]


def found_pairs(now: MinedPairs, n: int = 3) -> list[int]:
    """Rows of `n` flagged pairs to show: the most suspicious wrong notes, and one shared marker where there is one."""
    wrong, shared = rows_of_kind(now, "faulty").tolist(), rows_of_kind(now, "noisy").tolist()
    one = shared[:1] if n > 1 else []
    chosen = wrong[: n - len(one)] + one
    return chosen + shared[1 : 1 + n - len(chosen)]
