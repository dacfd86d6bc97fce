"""Samples of any size on a common grid: a million values cost as much to solve as a thousand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

_FEWEST, _MOST = 256, 768  # cells of the bulk
_GROWTH = 1.15  # of the cells in far tails
_SAMPLED = 16_384


@dataclass(frozen=True)
class Binned:
    """A sample on K knots: `mass` (K,), and `excess` (K−1,) = Σ w t(1 − t) of the points in each cell."""

    mass: Tensor
    excess: Tensor
    cell: Tensor
    place: Tensor

    def read(self, at_knots: Tensor) -> Tensor:
        """A function of the knots, linearly interpolated at the sample's points."""
        return torch.lerp(at_knots[self.cell], at_knots[self.cell + 1], self.place)


def required_knots(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """As `knots_for`; `InputError` where there are too many."""
    knots = knots_for(x, y, eps)
    if knots is None:
        raise InputError(
            f"method: a grid for blur {eps**0.5:.3g} on these values needs more than {_MOST} cells; use method='exact' or "
            "a larger blur"
        )
    return knots


def knots_for(x: Tensor, y: Tensor, eps: float) -> Tensor | None:
    """Ascending knots that hold both samples: even in the bulk (99.9 %), growing by 15 % a cell beyond it.

    The spacing is below blur, so that the Gaussian kernel is sampled finely enough. None where that takes more than 768
    cells.
    """
    blur = eps**0.5
    low, high = float(torch.minimum(x.min(), y.min())), float(torch.maximum(x.max(), y.max()))
    inner = torch.stack([_bulk(s[:: max(1, len(s) // _SAMPLED)]) for s in (x, y)])
    start, end = float(inner[:, 0].min()), float(inner[:, 1].max())
    if end <= start:
        start, end = low, max(high, low + blur)
    cells = int(max(_FEWEST, 1.5 * (end - start) / blur))
    if cells > 1.5 * _MOST:
        return None
    cells = min(cells, _MOST)
    step = (end - start) / cells
    bulk = torch.linspace(start, end, cells + 1, dtype=torch.float64)
    parts = [start - _tail(start - low, step).flip(0), bulk, end + _tail(high - end, step)]
    return torch.cat(parts).to(x.device)


def _bulk(sample: Tensor) -> Tensor:
    outside = min(0.25, max(0.0005, 2 / len(sample)))  # outliers must not determine the spacing
    return torch.quantile(sample, sample.new_tensor([outside, 1 - outside]))


def _tail(length: float, step: float) -> Tensor:
    """Distances of knots beyond the bulk, the last at least `length` away."""
    distances, width = [], step
    reached = 0.0
    while reached < length * (1 + 1e-12):
        width = width * _GROWTH
        reached += width
        distances.append(reached)
    return torch.tensor(distances, dtype=torch.float64)


def bin_linearly(values: Tensor, masses: Tensor, knots: Tensor) -> Binned:
    """Split each point's mass between its two knots so that its mean is kept."""
    cell = (torch.searchsorted(knots, values, right=True) - 1).clamp_(0, len(knots) - 2)
    left = knots[cell]
    place = ((values - left) / (knots[cell + 1] - left)).clamp_(0.0, 1.0)
    to_right = masses * place
    right = torch.bincount(cell, to_right, len(knots) - 1)
    both = torch.bincount(cell, masses, len(knots) - 1)
    squares = torch.bincount(cell, to_right * place, len(knots) - 1)
    mass = torch.zeros_like(knots)
    mass[:-1] += both - right
    mass[1:] += right
    return Binned(mass.clamp_min_(0.0), (right - squares).clamp_min_(0.0), cell, place)
