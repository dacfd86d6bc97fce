"""How per-pair values are distributed by group and epoch: densities, quantiles, and quantile differences.

Values are counted in bins, so a million pairs take no more to draw than a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from ..errors import InputError
from ..ledger import PairLossLedger
from ..runs import Run
from .group_order import group_order

SMALL = 10  # groups with fewer pairs have no density and no quantile differences
EVERYONE = ""
PROBABILITIES = np.linspace(0.02, 0.98, 49)
SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 160  # of a density
_FINER = 12  # the quantiles of a density use bins this much narrower
_SHIFT_BINS = 1024  # of quantile differences
_TAIL = 0.005
_MARGIN = 0.06


@dataclass(frozen=True)
class History:
    """One quantity of every training pair of a run.

    Attributes
    ----------
    values : float32 ndarray of shape (E, N)
        NaN where a pair was not seen.
    epochs : tuple of int
        Counted from 1, of length E; only closed epochs.
    groups : mapping of attribute to str ndarray of shape (N,)
    """

    values: np.ndarray
    epochs: tuple[int, ...]
    groups: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Distribution:
    """The values of one group by epoch.

    Attributes
    ----------
    group : str
        `EVERYONE` for all pairs.
    n : int
    density : float32 ndarray of shape (E, bins), or None
        Integrates to 1 over the grid; None where n < `SMALL`.
    points : float32 ndarray of shape (E, n), or None
        The values themselves where n < `SMALL`.
    mean : float ndarray of shape (E,)
    quantiles : float ndarray of shape (E, 5)
        At `SHOWN`; exact to 1/1920 of the grid's width.
    """

    group: str
    n: int
    density: np.ndarray | None
    points: np.ndarray | None
    mean: np.ndarray
    quantiles: np.ndarray

    @property
    def median(self) -> np.ndarray:
        return self.quantiles[:, SHOWN.index(0.5)]


@dataclass(frozen=True)
class Distributions:
    """The distributions of everyone (first) and of each group, on one grid.

    `grid` holds the bin centres; `outside` is the largest share of an epoch's values beyond the grid.
    """

    grid: np.ndarray
    epochs: tuple[int, ...]
    rows: tuple[Distribution, ...]
    outside: float


@dataclass(frozen=True)
class QuantileShift:
    """How a group's quantiles differ from everyone's at one epoch.

    Attributes
    ----------
    group : str
    n : int
    shift, low, high : float ndarray of shape (len(PROBABILITIES),), or None
        Group quantile minus everyone's with a 95 % bootstrap band; None where n < `SMALL`.
    wasserstein : float
        1-Wasserstein distance, ∫ |F_g − F| dx, in the unit of the values.
    """

    group: str
    n: int
    shift: np.ndarray | None
    low: np.ndarray | None
    high: np.ndarray | None
    wasserstein: float

    @property
    def median(self) -> tuple[float, float, float] | None:
        """Difference of medians with its 95 % interval."""
        if self.shift is None or self.low is None or self.high is None:
            return None
        middle = int(np.abs(PROBABILITIES - 0.5).argmin())
        return float(self.shift[middle]), float(self.low[middle]), float(self.high[middle])


def run_history(run: Run, quantity: str) -> History:
    """One quantity ("loss" or "similarity") of a run; the other quantities of its ledger are not read.

    Raises
    ------
    InputError
        The ledger is missing or damaged, has no closed epoch, or does not have the quantity.
    """
    found = history(run.ledger(quantity), run.pairs(), run.data["attributes"], quantity)
    if not found.epochs:
        raise InputError(f"run {run.id}: its ledger holds no whole epoch yet; open the page again after the first one")
    return found


def history(ledger: PairLossLedger, pairs: pd.DataFrame, attributes: Sequence[str], quantity: str) -> History:
    """A ledger's quantity with the groups of its pairs, in the ledger's order.

    Raises
    ------
    InputError
        The ledger does not have the quantity.
    """
    closed = [epoch for epoch in range(ledger.n_epochs) if ledger.is_closed(epoch)]
    train = pairs[pairs["split"].astype(str) == "train"]
    train = train.set_index(train["pair_id"].astype(str)).reindex(ledger.pair_ids)
    groups = {name: train[name].astype(str).to_numpy() for name in attributes}
    return History(ledger.channel(quantity)[closed], tuple(epoch + 1 for epoch in closed), groups)


def distributions(values: History, attribute: str) -> Distributions:
    """Densities of everyone and of each group of an attribute, all epochs on one grid.

    The grid spans the 0.5 % to 99.5 % quantiles over all epochs, and starts at 0 where no value is below 0. A density is a
    histogram smoothed by a Gaussian kernel of Silverman's width; at 0 it is reflected, so that none of it lies below.
    """
    edges = _grid(values.values)
    names, code = _coded(values.groups[attribute])
    counts = np.stack([_counts(line, code, len(names), edges) for line in values.values])
    sums = np.stack([np.bincount(code, weights=line, minlength=len(names)) for line in values.values])
    sizes = counts[0].sum(1)
    rows = [_distribution(EVERYONE, counts.sum(1), sums.sum(1), edges)]
    for g, name in enumerate(names):
        if sizes[g] < SMALL:
            points = values.values[:, code == g]
            quantiles = np.quantile(points, SHOWN, axis=1).T
            rows.append(Distribution(name, int(sizes[g]), None, points, points.mean(1), quantiles))
        else:
            rows.append(_distribution(name, counts[:, g], sums[:, g], edges))
    outside = float((counts[:, :, [0, -1]].sum((1, 2)) / sizes.sum()).max())
    coarse = edges[::_FINER]
    return Distributions((coarse[:-1] + coarse[1:]) / 2, values.epochs, tuple(rows), outside)


def quantile_shifts(
    values: History, attribute: str, epoch: int, *, n_resamples: int = 300, seed: int = 0
) -> list[QuantileShift]:
    """Quantiles of each group minus everyone's at `PROBABILITIES`, in the order of the groups.

    Values are counted in 1,024 bins between the smallest and the largest value of the epoch. A bootstrap draw resamples the
    counts of each group, and everyone is their sum, so a draw takes the same time for any number of pairs.
    """
    line = values.values[values.epochs.index(epoch)].astype(np.float64)
    low, high = float(line.min()), float(line.max())
    edges = np.linspace(low, high if high > low else low + 1.0, _SHIFT_BINS + 1)
    names, code = _coded(values.groups[attribute])
    counts = _counts(line, code, len(names), edges)
    counts[:, -2] += counts[:, -1]  # the largest value belongs to the last bin
    counts[:, -1] = 0
    random = np.random.default_rng(seed)
    draws = np.stack([_resampled(own, n_resamples, random) for own in counts])
    everyone = counts.sum(0)
    base = _quantiles(everyone, edges, PROBABILITIES)
    base_draws = np.array([_quantiles(draw, edges, PROBABILITIES) for draw in draws.sum(0)])
    found = []
    for name, own, drawn in zip(names, counts, draws, strict=True):
        n = int(own.sum())
        gap = np.cumsum(own) / n - np.cumsum(everyone) / len(line)
        distance = float(np.abs(gap[1:-1]).sum() * (edges[1] - edges[0]))
        if n < SMALL:
            found.append(QuantileShift(name, n, None, None, None, distance))
            continue
        own_draws = np.array([_quantiles(draw, edges, PROBABILITIES) for draw in drawn])
        bounds = np.quantile(own_draws - base_draws, (0.025, 0.975), axis=0)
        shift = _quantiles(own, edges, PROBABILITIES) - base
        found.append(QuantileShift(name, n, shift, bounds[0], bounds[1], distance))
    return found


def _coded(groups: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Group names in their order, and the place of each row's group among them."""
    names = group_order(groups)
    return names, pd.Categorical(groups, categories=names).codes.astype(np.intp)


def _grid(values: np.ndarray) -> np.ndarray:
    """Edges of the fine bins; the range is taken from an even selection of at most 100,000 pairs."""
    every = max(1, values.shape[1] // 50_000)
    low, high = (float(v) for v in np.quantile(values[:, ::every], (_TAIL, 1 - _TAIL)))
    margin = _MARGIN * (high - low) or 0.5
    start = max(low - margin, 0.0) if float(np.nanmin(values)) >= 0 else low - margin
    return np.linspace(start, high + margin, _BINS * _FINER + 1)


def _counts(values: np.ndarray, code: np.ndarray, n_groups: int, edges: np.ndarray) -> np.ndarray:
    """Values by group and bin, int array of shape (n_groups, bins + 2): the first and last count what lies outside."""
    bins = len(edges) - 1
    place = np.floor((values - float(edges[0])) / (edges[1] - edges[0])).clip(-1, bins).astype(np.intp) + 1
    return np.bincount(code * (bins + 2) + place, minlength=n_groups * (bins + 2)).reshape(n_groups, bins + 2)


def _quantiles(counts: np.ndarray, edges: np.ndarray, probabilities: Sequence[float] | np.ndarray) -> np.ndarray:
    """Quantiles of values counted by `_counts`, linear inside a bin."""
    reached = np.cumsum(counts)
    return np.interp(probabilities, reached[:-1] / reached[-1], edges)


def _distribution(name: str, counts: np.ndarray, sums: np.ndarray, edges: np.ndarray) -> Distribution:
    n = int(counts[0].sum())
    quantiles = np.array([_quantiles(line, edges, SHOWN) for line in counts])
    step = _FINER * (edges[1] - edges[0])
    centres = (edges[:-1] + edges[1:]) / 2
    lines = []
    for line, found in zip(counts[:, 1:-1], quantiles, strict=True):
        kept = max(int(line.sum()), 1)
        sd = float(np.sqrt(max((line @ centres**2) / kept - ((line @ centres) / kept) ** 2, 0.0)))
        width = 0.9 * (min(sd, float(found[3] - found[1]) / 1.34) or sd) * n**-0.2 / step
        coarse = line.reshape(_BINS, _FINER).sum(1).astype(float)
        mirrored = coarse[::-1] if edges[0] == 0 else np.zeros(_BINS)
        both = np.concatenate([mirrored, coarse])
        smooth = gaussian_filter1d(both, max(width, 0.6), mode="constant")[_BINS:]
        lines.append(smooth / (max(smooth.sum(), 1.0) * step))
    return Distribution(name, n, np.array(lines, np.float32), None, sums / n, quantiles)


def _resampled(counts: np.ndarray, n_resamples: int, random: np.random.Generator) -> np.ndarray:
    """Bootstrap draws of binned values, shape (n_resamples, bins)."""
    held = np.flatnonzero(counts)
    draws = np.zeros((n_resamples, len(counts)), np.int64)
    draws[:, held] = random.multinomial(counts.sum(), counts[held] / counts.sum(), size=n_resamples)
    return draws
