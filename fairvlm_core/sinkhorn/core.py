"""S_ε and its derivatives for G distributions at once, from the solver's three problems."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .solver import exponent, first_potential, solve_cross, solve_symmetric

_SYMMETRIC_TOL = 1e-2  # times the tolerance: these problems converge fast and are solved more tightly
_ROUNDING = 1e-13  # of −C/ε, relative


@dataclass(frozen=True)
class Solution:
    """S_ε(a, b) of every row, shape (G,), and its derivatives.

    `by_a` (G, n) and `by_b` (G, m) are the debiased potentials f − h_a, g − h_b (cost units, also defined off the support);
    `slope_x`, `slope_y` are their derivatives by position, `by_x`, `by_y` those of the value. `tol` is the tolerance used.
    """

    value: Tensor
    by_a: Tensor
    by_b: Tensor
    slope_x: Tensor
    slope_y: Tensor
    error: Tensor
    tol: float
    iterations: int

    def by_x(self, a: Tensor) -> Tensor:
        return a * self.slope_x

    def by_y(self, b: Tensor) -> Tensor:
        return b * self.slope_y


def solve(x: Tensor, y: Tensor, a: Tensor, b: Tensor, eps: float, *, tol: float, max_iter: int) -> Solution:
    """S_ε(a, b) for rows of a (G or 1, n) on ascending x and b (G, m) on ascending y; all detached float64.

    Newton's method works on y, which should be the smaller or sparser side.
    """
    groups, shared = len(b), x is y
    # The exponent itself is rounded, which limits the accuracy that iterations can reach.
    extent = float(torch.maximum(x[-1], y[-1]) - torch.minimum(x[0], y[0]))
    tol = max(tol, _ROUNDING * extent**2 / eps)
    if shared:
        minus_cost = exponent(x, x, eps)
        both = solve_symmetric(x, torch.cat([a, b]), minus_cost, eps, _SYMMETRIC_TOL * tol, max_iter)
        self_a, self_b = _rows(both, slice(0, len(a))), _rows(both, slice(len(a), None))
        self_iterations = both.iterations
    else:
        minus_cost = exponent(x, y, eps)
        one = solve_symmetric(x, a, exponent(x, x, eps), eps, _SYMMETRIC_TOL * tol, max_iter)
        other = solve_symmetric(y, b, exponent(y, y, eps), eps, _SYMMETRIC_TOL * tol, max_iter)
        self_a, self_b = _rows(one, slice(None)), _rows(other, slice(None))
        self_iterations = max(one.iterations, other.iterations)
    a_rows = a.expand(groups, -1)
    start = first_potential(x, y, a_rows, b) / eps + self_b.h
    cross = solve_cross(x, y, a_rows, b, minus_cost, start, eps, tol, max_iter)
    value = cross.value - 0.5 * self_a.value - 0.5 * self_b.value
    error = torch.stack([cross.error, self_a.error.expand(groups), self_b.error]).amax(0)
    return Solution(
        value=value.clamp_min(0.0),
        by_a=eps * (cross.f - self_a.h),
        by_b=eps * (cross.g - self_b.h),
        slope_x=self_a.to_self - cross.to_y,
        slope_y=self_b.to_self - cross.to_x,
        error=torch.where(torch.isfinite(value), error, math.inf),
        tol=tol,
        iterations=max(cross.iterations, self_iterations),
    )


@dataclass(frozen=True)
class _Self:
    h: Tensor
    to_self: Tensor
    value: Tensor
    error: Tensor


def _rows(solved, part: slice) -> _Self:
    return _Self(solved.h[part], solved.to_self[part], solved.value[part], solved.error[part])
