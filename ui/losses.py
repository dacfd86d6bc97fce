"""Per-pair values of a run by group and epoch: densities and quantiles on a fixed grid, so that a million pairs is no more
to draw than a thousand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.ledger import PairLossLedger

from .words import NOTHING, figure

SMALL = 10
QUANTITIES = {"loss": "Loss", "similarity": "Similarity"}
EVERYONE = ""
_BINS = 160
_FINER = 12  # quantiles are read off bins this much narrower than those of a density
_SHIFT_BINS = 1024
_TAIL = 0.005
_SPARE = 0.06
_SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)
PROBABILITIES = np.linspace(0.02, 0.98, 49)


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
class Ridge:
    """A group's density by epoch, or its single values where it is small.

    Attributes
    ----------
    group : str
        "" for everyone.
    n : int
    density : float32 ndarray of shape (E, bins), or None
        Integrates to 1 over the grid; None where n < 10.
    points : float32 ndarray of shape (E, n), or None
        The values themselves where n < 10.
    mean : float ndarray of shape (E,)
    quantiles : float ndarray of shape (E, 5)
        At 5, 25, 50, 75 and 95 %; exact to 1/1920 of the grid's width.
    """

    group: str
    n: int
    density: np.ndarray | None
    points: np.ndarray | None
    mean: np.ndarray
    quantiles: np.ndarray

    @property
    def median(self) -> np.ndarray:
        return self.quantiles[:, 2]


@dataclass(frozen=True)
class Ridges:
    """Everyone first, then the groups; `grid` holds bin centres; `outside` is the largest share of an epoch beyond it."""

    grid: np.ndarray
    epochs: tuple[int, ...]
    rows: tuple[Ridge, ...]
    outside: float


def history(ledger: PairLossLedger, pairs: pd.DataFrame, attributes: Sequence[str], quantity: str) -> History:
    """A ledger's quantity with the groups of its pairs, in the ledger's order.

    Raises
    ------
    InputError
        The ledger does not have the quantity.
    """
    closed = [epoch for epoch in range(ledger.n_epochs) if ledger.is_closed(epoch)]
    train = pairs[pairs["split"].astype(str) == "train"]
    if not np.array_equal(train["pair_id"].astype(str).to_numpy(), ledger.pair_ids):
        train = train.set_index(train["pair_id"].astype(str)).reindex(ledger.pair_ids)
    groups = {name: train[name].astype(str).to_numpy() for name in attributes}
    return History(ledger.channel(quantity)[closed], tuple(epoch + 1 for epoch in closed), groups)


def ridges(kept: History, attribute: str) -> Ridges:
    """Densities of everyone and of each group of an attribute, all epochs on one grid.

    The grid spans the 0.5 % to 99.5 % quantiles over all epochs. A density is a histogram smoothed by a Gaussian kernel of
    Silverman's width, so that pairs are only counted, however many there are.
    """
    values = kept.values
    low, high = _reach(values)
    fine = np.linspace(low, high, _BINS * _FINER + 1)
    names, code = _coded(kept.groups[attribute])
    shape = (len(values), len(names), _BINS * _FINER + 2)  # one more at either end, for what lies outside
    counts, sums = np.empty(shape, np.int64), np.empty(shape[:2])
    for e, line in enumerate(values):
        place = np.floor((line - low) / (fine[1] - fine[0])).clip(-1, _BINS * _FINER).astype(np.intp) + 1
        counts[e] = np.bincount(code * shape[2] + place, minlength=shape[1] * shape[2]).reshape(shape[1:])
        sums[e] = np.bincount(code, weights=line, minlength=len(names))
    sizes = counts[0].sum(1)
    rows = [_ridge(EVERYONE, None, counts.sum(1), sums.sum(1), fine)]
    for g, name in enumerate(names):
        points = values[:, code == g] if sizes[g] < SMALL else None
        rows.append(_ridge(name, points, counts[:, g], sums[:, g], fine))
    outside = float((counts[:, :, [0, -1]].sum((1, 2)) / sizes.sum()).max())
    edges = fine[::_FINER]
    return Ridges((edges[:-1] + edges[1:]) / 2, kept.epochs, tuple(rows), outside)


def _coded(groups: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Group names in their order, and the place of each row's group among them."""
    found, code = np.unique(groups, return_inverse=True)
    names = group_order(found)
    return names, np.array([names.index(name) for name in found], np.intp)[code]


def _reach(values: np.ndarray) -> tuple[float, float]:
    """The range of a grid; from an even selection of at most 100,000 pairs."""
    every = max(1, values.shape[1] // 50_000)
    low, high = (float(v) for v in np.quantile(values[:, ::every], (_TAIL, 1 - _TAIL)))
    spare = _SPARE * (high - low) or 0.5
    return low - spare, high + spare


def _ridge(name: str, points: np.ndarray | None, counts: np.ndarray, sums: np.ndarray, fine: np.ndarray) -> Ridge:
    n = int(counts[0].sum())
    if points is not None:
        return Ridge(name, n, None, points, points.mean(1), np.quantile(points, _SHOWN, axis=1).T)
    inside = counts[:, 1:-1]
    quantiles = np.array([_quantiles(c[0], c[1:-1], c[-1], fine, _SHOWN) for c in counts])
    step = _FINER * (fine[1] - fine[0])
    centres = (fine[:-1] + fine[1:]) / 2
    lines = []
    for line, found in zip(inside, quantiles, strict=True):
        kept = max(int(line.sum()), 1)
        sd = float(np.sqrt(max((line @ centres**2) / kept - ((line @ centres) / kept) ** 2, 0.0)))
        width = 0.9 * (min(sd, float(found[3] - found[1]) / 1.34) or sd) * n**-0.2 / step
        smooth = gaussian_filter1d(line.reshape(_BINS, _FINER).sum(1).astype(float), max(width, 0.6), mode="constant")
        lines.append(smooth / (max(smooth.sum(), 1.0) * step))
    return Ridge(name, n, np.array(lines, np.float32), None, sums / n, quantiles)


def quantile_table(found: Ridges, epoch: int) -> pd.DataFrame:
    """Group, n, Mean, and the 5 %, 25 %, 50 %, 75 % and 95 % quantiles at an epoch; everyone first."""
    e = found.epochs.index(epoch)
    names = ("5 %", "25 %", "Median", "75 %", "95 %")
    return pd.DataFrame(
        [
            {"Group": row.group or "everyone", "n": row.n, "Mean": float(row.mean[e])}
            | dict(zip(names, row.quantiles[e].tolist(), strict=True))
            for row in found.rows
        ]
    )


@dataclass(frozen=True)
class QuantileShift:
    """How a group's quantiles differ from everyone's at one epoch.

    Attributes
    ----------
    group : str
    n : int
    shift, low, high : float ndarray of shape (len(PROBABILITIES),), or None
        Group quantile minus everyone's with a 95 % bootstrap band; None where n < 10.
    wasserstein : float
        1-Wasserstein distance, ∫ |F_g − F| dx, in the unit of the values.
    """

    group: str
    n: int
    shift: np.ndarray | None
    low: np.ndarray | None
    high: np.ndarray | None
    wasserstein: float


def quantile_shifts(
    kept: History, attribute: str, epoch: int, *, n_resamples: int = 300, seed: int = 0
) -> list[QuantileShift]:
    """Group quantiles minus everyone's at each of `PROBABILITIES`, group by group.

    Values are counted on 1,024 bins between the epoch's smallest and largest value. The pairs of every group are resampled
    as counts, and everyone as their sum, so a draw costs the same for any number of pairs.
    """
    line = kept.values[kept.epochs.index(epoch)].astype(np.float64)
    low, high = float(line.min()), float(line.max())
    edges = np.linspace(low, high if high > low else low + 1.0, _SHIFT_BINS + 1)
    names, code = _coded(kept.groups[attribute])
    place = ((line - low) / (edges[1] - edges[0])).astype(np.intp).clip(max=_SHIFT_BINS - 1)
    counts = np.bincount(code * _SHIFT_BINS + place, minlength=len(names) * _SHIFT_BINS).reshape(-1, _SHIFT_BINS)
    random = np.random.default_rng(seed)
    draws = np.stack([_resampled(own, n_resamples, random) for own in counts])
    everyone, of_everyone = counts.sum(0), draws.sum(0)
    base = _quantiles(0, everyone, 0, edges, PROBABILITIES)
    base_draws = np.array([_quantiles(0, draw, 0, edges, PROBABILITIES) for draw in of_everyone])
    found = []
    for name, own, drawn in zip(names, counts, draws, strict=True):
        n = int(own.sum())
        gap = np.cumsum(own) / n - np.cumsum(everyone) / len(line)
        distance = float(np.abs(gap).sum() * (edges[1] - edges[0]))
        if n < SMALL:
            found.append(QuantileShift(name, n, None, None, None, distance))
            continue
        own_draws = np.array([_quantiles(0, draw, 0, edges, PROBABILITIES) for draw in drawn])
        bounds = np.quantile(own_draws - base_draws, (0.025, 0.975), axis=0)
        shift = _quantiles(0, own, 0, edges, PROBABILITIES) - base
        found.append(QuantileShift(name, n, shift, bounds[0], bounds[1], distance))
    return found


def _resampled(counts: np.ndarray, n_resamples: int, random: np.random.Generator) -> np.ndarray:
    """Bootstrap draws of binned values, shape (n_resamples, bins)."""
    held = np.flatnonzero(counts)
    draws = np.zeros((n_resamples, len(counts)), np.int64)
    draws[:, held] = random.multinomial(counts.sum(), counts[held] / counts.sum(), size=n_resamples)
    return draws


def _quantiles(
    below: int, counts: np.ndarray, above: int, edges: np.ndarray, probabilities: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Quantiles of binned values, linear inside a bin; `below` and `above` are how many lie outside the bins."""
    reached = np.append(0, np.cumsum(counts)) + below
    return np.interp(probabilities, reached / (reached[-1] + above), edges)


def shift_table(shifts: Sequence[QuantileShift], sinkhorn: Mapping[str, float], unit: str) -> pd.DataFrame:
    """Group, n, Median shift with its interval, Wasserstein distance, Sinkhorn divergence."""
    middle = int(np.abs(PROBABILITIES - 0.5).argmin())
    rows = []
    for s in shifts:
        known = s.shift is not None and s.low is not None and s.high is not None
        rows.append(
            {
                "Group": s.group,
                "n": s.n,
                "Median minus everyone's": figure(float(s.shift[middle])) if known else f"n < {SMALL}: not shown",
                "95 % interval": f"{figure(float(s.low[middle]))} to {figure(float(s.high[middle]))}"
                if known
                else NOTHING,
                f"Wasserstein distance ({unit})": figure(s.wasserstein),
                f"Sinkhorn divergence ({unit}²)": figure(sinkhorn.get(s.group), 4),
            }
        )
    return pd.DataFrame(rows)


def farthest(shifts: Sequence[QuantileShift], quantity: str) -> str:
    """A sentence on the group that is farthest from everyone and on which side, if its median's interval leaves zero.

    >>> one = np.full(len(PROBABILITIES), 0.4)
    >>> farthest([QuantileShift("Black", 80, one, one - 0.1, one + 0.1, 0.4)], "loss")
    "Farthest from everyone: Black (n = 80); its median loss is 0.400 above everyone's (95 % interval 0.300 to 0.500)."
    """
    known = [s for s in shifts if s.shift is not None]
    if not known:
        return f"Every group has fewer than {SMALL} pairs: nothing can be said about their distributions."
    one = max(known, key=lambda s: s.wasserstein)
    middle = int(np.abs(PROBABILITIES - 0.5).argmin())
    shift, low, high = (float(part[middle]) for part in (one.shift, one.low, one.high))
    head = f"Farthest from everyone: {one.group} (n = {one.n:,})"
    if low <= 0 <= high:
        return f"{head}; the interval of its median's difference ({figure(low)} to {figure(high)}) holds zero."
    side, bounds = ("above", (low, high)) if shift > 0 else ("below", (-high, -low))
    reach = f"{figure(bounds[0])} to {figure(bounds[1])}"
    return f"{head}; its median {quantity} is {figure(abs(shift))} {side} everyone's (95 % interval {reach})."
