"""The solver: entropic optimal transport between distributions on a line, many at once, in the log domain.

For masses a on x and b on y, cost C = (x − y)²/2 and ε > 0,

    OT(a, b) = min_P <P, C> + ε KL(P | a⊗b) = max_{f, g} <a, f> + <b, g> − ε Σ a_i b_j (e^{(f_i + g_j − C_ij)/ε} − 1).

Everything below is in units of ε (u = f/ε, v = g/ε). Three things make it fast and safe at small ε:

* On a line the unregularised potentials are known in closed form from the cumulative masses (an initialisation proposed by
  Thornton & Cuturi, AISTATS 2023); with the symmetric potential of b added they are the entropic ones up to O(ε). This
  does for small ε what annealing does elsewhere, in one pass.
* u is eliminated exactly, so the first marginal always holds, and the concave problem in v is solved by Newton's method
  with backtracking: four to eight evaluations at any ε, where Sinkhorn's own iteration needs hundreds to millions. Where
  the second marginal is far off, a Sinkhorn step (which always ascends) is taken instead.
* OT(a, a) has one potential; averaging an update with its predecessor contracts by a factor of 3 in every step, because
  the linearised update −M has its spectrum in [−1, 0]: (1/3) I − (2/3) M lies within [−1/3, 1/3].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEWTON_WITHIN = 2.0  # |log(q/b)| above which a Sinkhorn step comes first
_ARMIJO, _SHRINK = 0.2, 0.3  # a full Newton step on a quadratic gains 0.5 of slope times step
_RIDGE = 1e-12


@dataclass(frozen=True)
class Cross:
    """A solved OT(a, b) for G distributions: potentials in units of ε and what the gradients need.

    `f` (G, n) and `g` (G, m) hold off the support as well; `to_y` (G, n) is the mean of y given x_i, `to_x` (G, m) that of
    x given y_j; `error` (G,) the L1 error of the marginals, `value` (G,) is OT in the unit of the cost.
    """

    f: Tensor
    g: Tensor
    to_y: Tensor
    to_x: Tensor
    value: Tensor
    error: Tensor
    iterations: int


@dataclass(frozen=True)
class Symmetric:
    """A solved OT(a, a): potential `h` (G, n) in units of ε, mean `to_self` (G, n) of the partner of x_i; as `Cross`."""

    h: Tensor
    to_self: Tensor
    value: Tensor
    error: Tensor
    iterations: int


def exponent(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """−C/ε of shape (n, m)."""
    return (x[:, None] - y).square_().mul_(-0.5 / eps)


def _update(minus_cost: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """A Sinkhorn update: u_i = −log Σ_j e^{v_j − C_ij/ε} (G, n), and the shares of j in that sum (G, n, m)."""
    shares = minus_cost + potential[:, None, :]
    largest = shares.amax(2, keepdim=True)
    shares = shares.sub_(largest).exp_()
    total = shares.sum(2, keepdim=True)
    return shares.div_(total), -(largest + total.log())[:, :, 0]


def solve_symmetric(x: Tensor, a: Tensor, minus_cost: Tensor, eps: float, tol: float, max_iter: int) -> Symmetric:
    """OT(a, a) for every row of a (G, n) on x (n,)."""
    kernel = minus_cost.exp()
    carried = a > 0
    h = torch.where(carried, -0.5 * (a @ kernel).log(), 0.0)
    iterations, error = 0, torch.inf
    while iterations < max_iter and error > tol:
        for _ in range(4):
            # On the support nothing underflows: a point's own kernel value is 1.
            h = torch.where(carried, h / 3 - (2 / 3) * ((a * h.exp()) @ kernel).log(), 0.0)
        iterations += 4
        marginal = h.exp() * ((a * h.exp()) @ kernel)
        error = float((a * (marginal - 1)).abs().sum(1).max())
    # One last update in the log domain gives the potential on points without mass too.
    shares, extended = _update(minus_cost, h + a.log())
    # The rows of this plan hold exactly; its columns measure what is left.
    columns = (a[:, None, :] @ shares)[:, 0]
    final_error = (columns - a).abs().sum(1)
    value = eps * ((a * extended).sum(1) + (a * h).sum(1))
    return Symmetric(extended, shares @ x, value, final_error, iterations)


def first_potential(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The unregularised potential g (G, m) on ascending y; x ascends as well.

    The optimal plan walks up both supports together. Where it steps from y_j to y_{j+1} it stands at x_i, the quantile of a
    at the level b has reached, and both cells are in the plan: g_{j+1} − g_j = C(x_i, y_{j+1}) − C(x_i, y_j).
    """
    level = b.cumsum(1)[:, :-1].expand(len(a), -1)
    reached = a.cumsum(1)
    slack = 1e-9 / len(x)
    # Where both supports step at the same level any x in between will do; the middle is what ε → 0 tends to.
    first = torch.searchsorted(reached, (level - slack).contiguous()).clamp_(max=len(x) - 1)
    last = torch.searchsorted(reached, (level + slack).contiguous()).clamp_(max=len(x) - 1)
    at = 0.5 * (x[first] + x[last])
    steps = (y[1:] - y[:-1]) * (0.5 * (y[1:] + y[:-1]) - at)
    g = torch.cat([steps.new_zeros(len(steps), 1), steps.cumsum(1)], 1)
    return g - (g * b).sum(1, keepdim=True)


def solve_cross(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, minus_cost: Tensor, v: Tensor, eps: float, tol: float, max_iter: int
) -> Cross:
    """OT(a, b) for every row of a (G, n) and b (G or 1, m), from potentials v (G, m) in units of ε."""
    groups, m = len(a), len(y)
    b = b.expand(groups, m)
    log_b = b.log()
    carried = b > 0
    diagonal = torch.arange(m, device=y.device)
    direction = ascent = old_value = None
    taken = v.new_ones(groups)
    iterations = 0
    while True:
        shares, u = _update(minus_cost, v + log_b)
        q = (a[:, None, :] @ shares)[:, 0]
        error = (q - b).abs().sum(1)
        iterations += 1
        if float(error.max()) <= tol or iterations >= max_iter:
            break
        value = (a * u).sum(1) + torch.where(carried, b * v, 0.0).sum(1)
        if direction is None:
            risen = torch.ones_like(value, dtype=torch.bool)
        else:
            slack = 1e-13 * (1 + value.abs())
            risen = (value >= old_value + _ARMIJO * taken * ascent - slack) | (error <= tol)
        root = q.sqrt()
        inverse = torch.where(carried & (q > 0), 1 / root, 0.0)
        scaled = shares * (a.sqrt()[:, :, None] * inverse[:, None, :])
        hessian = scaled.mT @ scaled
        hessian = hessian.neg_().addcmul_(root[:, :, None], root[:, None, :])
        hessian[:, diagonal, diagonal] += 1.0 + _RIDGE
        factor, failed = torch.linalg.cholesky_ex(hessian)
        newton = torch.cholesky_solve(((b - q) * inverse)[:, :, None], factor)[:, :, 0] * inverse
        sinkhorn = torch.where(carried, (b / q).log(), 0.0)
        if not bool(torch.isfinite(sinkhorn).all()):  # a lone point far out: its q underflows, its logarithm does not
            sinkhorn = torch.where(carried, _update(minus_cost.mT, u + a.log())[1] - v, 0.0)
        trusted = (failed == 0) & torch.isfinite(newton).all(1) & (sinkhorn.abs().amax(1) <= _NEWTON_WITHIN)
        fresh = torch.where(trusted[:, None], newton, sinkhorn)
        if direction is None:
            direction, ascent, old_value, base = fresh, (fresh * (b - q)).sum(1), value, v
        else:
            base = torch.where(risen[:, None], v, base)
            direction = torch.where(risen[:, None], fresh, direction)
            ascent = torch.where(risen, (fresh * (b - q)).sum(1), ascent)
            old_value = torch.where(risen, value, old_value)
        taken = torch.where(risen, 1.0, taken * _SHRINK)
        v = base + taken[:, None] * direction
    # A point without mass has no term of its own: its potential, and its partners, follow from u.
    g, to_x = v, (a * x)[:, None, :] @ shares / q.clamp_min(1e-300)[:, None, :]
    if not bool(carried.all()):
        g = torch.where(carried, v, _update(minus_cost.mT, u + a.log())[1])
    total = eps * ((a * u).sum(1) + torch.where(carried, b * v, 0.0).sum(1))
    rows = (a * (shares.sum(2) - 1)).abs().sum(1)
    return Cross(u, g, shares @ y, to_x[:, 0], total, torch.maximum(error, rows), iterations)
