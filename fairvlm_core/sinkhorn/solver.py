"""The solver: entropic optimal transport between distributions on a line, many at once.

For masses a on x and b on y, cost C = (x − y)²/2 and ε > 0,

    OT(a, b) = min_P <P, C> + ε KL(P | a⊗b) = max_{f, g} <a, f> + <b, g> − ε Σ a_i b_j (e^{(f_i + g_j − C_ij)/ε} − 1).

Everything below is in units of ε (u = f/ε, v = g/ε). Four things make it fast and stable at small ε:

* On a line the unregularised potentials are known in closed form from the cumulative masses (an initialisation proposed by
  Thornton & Cuturi, AISTATS 2023); with the symmetric potential of b added they are the entropic ones up to O(ε). This
  replaces the annealing of ε that other solvers use.
* u is eliminated exactly, so the first marginal always holds. The concave problem in v is solved by Newton's method with
  backtracking: four to eight evaluations at any ε, where Sinkhorn's iteration needs hundreds to millions. Far from the
  second marginal a Sinkhorn step, which always ascends, is taken instead.
* OT(a, a) has one potential; averaging an update with its predecessor contracts by a factor of 3 in every step, because
  the linearised update −M has its spectrum in [−1, 0]: (1/3) I − (2/3) M lies within [−1/3, 1/3].
* Exponentials of n × m numbers are computed once. Where e^{−C/ε} fits in a double it is the kernel; elsewhere the kernel is
  e^{v_j − C_ij/ε} divided by its row's largest entry, and changing potentials only rescale it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEWTON_WITHIN = 2.0  # |log(q/b)| above which a Sinkhorn step comes first
_ARMIJO, _SHRINK = 0.2, 0.3  # a full Newton step on a quadratic gains 0.5 of slope times step
_RIDGE = 1e-12
_TINY = 1e-300  # in place of 0 under a logarithm
_NOTHING = -300.0  # e to this is 0
_REACH = 100.0  # change of a potential after which exponentials are recomputed
_PLAIN = 250.0  # largest C/ε up to which e^{−C/ε}, and sums of it times potentials, keep well within a double


@dataclass(frozen=True)
class Cross:
    """A solved OT(a, b) for G distributions: potentials in units of ε, and values for the gradients.

    `f` (G, n) and `g` (G, m) are also defined off the support; `to_y` (G, n) is the mean of y given x_i, `to_x` (G, m)
    that of x given y_j; `error` (G,) the L1 error of the marginals, `value` (G,) is OT in the unit of the cost.
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


def _exp_(logarithm: Tensor) -> Tensor:
    """exp in place, with 0 below e^−300: products of smaller numbers are denormal, and slow."""
    return torch.threshold_(logarithm, _NOTHING, -torch.inf).exp_()


def _fits(minus_cost: Tensor) -> bool:
    """e^{−C/ε} and its sums times e^{potentials} keep within a double."""
    return float(minus_cost.min()) > -_PLAIN


def _weigh(minus_cost: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """e^{v_j − C_ij/ε} (G, n, m) over its largest entry in a row, and the logarithm of that (G, n)."""
    weight = minus_cost + potential[:, None, :]
    largest = weight.amax(2, keepdim=True)
    return _exp_(weight.sub_(largest)), largest[:, :, 0]


def _over_y(kernel: Tensor, w: Tensor) -> Tensor:
    """Σ_j kernel_ij w_j (G, n), of one kernel (n, m) or of one each (G, n, m)."""
    return w @ kernel.mT if kernel.ndim == 2 else (kernel @ w[:, :, None])[:, :, 0]


def _over_x(kernel: Tensor, w: Tensor) -> Tensor:
    """Σ_i w_i kernel_ij (G, m), likewise."""
    return w @ kernel if kernel.ndim == 2 else (w[:, None, :] @ kernel)[:, 0]


def _from_x(x: Tensor, a: Tensor, minus_cost: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The potential (G, m) that u (G, n) gives and the mean of x given y_j (G, m), in logarithms: nothing underflows."""
    weight, largest = _weigh(minus_cost.mT, u + a.log())
    total = weight.sum(2)
    return -(largest + total.log()), (weight @ x) / total


def solve_symmetric(x: Tensor, a: Tensor, minus_cost: Tensor, eps: float, tol: float, max_iter: int) -> Symmetric:
    """OT(a, a) for every row of a (G, n) on x (n,)."""
    kernel = _exp_(minus_cost.clone())
    h = (a @ kernel).clamp_min_(_TINY).log_().mul_(-0.5)
    iterations, error = 0, torch.inf
    while iterations < max_iter and error > tol:
        for _ in range(4):
            # Nothing underflows on the support: the kernel is 1 on its diagonal.
            h = (h / 3).sub_(((a * h.exp()) @ kernel).clamp_min_(_TINY).log_(), alpha=2 / 3)
        iterations += 4
        scaled = h.exp()
        error = float((a * (scaled * ((a * scaled) @ kernel) - 1)).abs().sum(1).max())
    # One last update also gives the potential at points without mass. The plan's rows are then exact; its columns give the
    # error.
    if _fits(minus_cost):
        scaled = a * h.exp()
        total = scaled @ kernel
        extended, to_self = -total.log(), ((scaled * x) @ kernel) / total
        columns = scaled * ((a / total) @ kernel)
    else:
        weight, largest = _weigh(minus_cost, h + a.log())
        total = weight.sum(2)
        extended, to_self = -(largest + total.log()), (weight @ x) / total
        columns = ((a / total)[:, None, :] @ weight)[:, 0]
    value = eps * ((a * extended).sum(1) + (a * h).sum(1))
    return Symmetric(extended, to_self, value, (columns - a).abs().sum(1), iterations)


def first_potential(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The unregularised potential g (G, m) on ascending y; x ascends as well.

    The optimal plan is monotone. Where it steps from y_j to y_{j+1} it is at x_i, the quantile of a at the cumulative mass
    of b, and both cells are in the plan: g_{j+1} − g_j = C(x_i, y_{j+1}) − C(x_i, y_j).
    """
    level = b.cumsum(1)[:, :-1].expand(len(a), -1)
    reached = a.cumsum(1)
    slack = 1e-9 / len(x)
    # Where both supports step at the same level any x in between is optimal; the limit ε → 0 is the middle.
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
    log_b, carried, root_a = b.log(), b > 0, a.sqrt()
    plain = _fits(minus_cost)
    # In both cases −u = row + log Σ_j kernel_ij e^{v_j − anchor_j}, and n × m exponentials are computed once.
    kernel, row, anchor = (minus_cost.exp(), 0.0, -log_b) if plain else (*_weigh(minus_cost, v + log_b), v)

    # What the last accepted step started from: potential, direction, expected and old value, and the share of it taken.
    base, direction = v, torch.zeros_like(v)
    ascent, old_value, taken = (v.new_zeros(groups) for _ in range(3))
    iterations = 0
    while True:
        if not plain and float((v - anchor).abs().max()) > _REACH:
            kernel, row, anchor = *_weigh(minus_cost, v + log_b), v
        w = (v - anchor).exp()
        total = _over_y(kernel, w)
        u = -(row + total.log())
        spread = _over_x(kernel, a / total)
        q = w * spread
        gap = b - q
        error = gap.abs().sum(1)
        iterations += 1
        if float(error.max()) <= tol or iterations >= max_iter:
            break
        value = (a * u).sum(1) + (b * v).sum(1)
        root = q.sqrt()
        inverse = torch.where(carried & (q > 0), 1 / root, 0.0)
        scaled = (kernel * (root_a / total)[:, :, None]).mul_((w * inverse)[:, None, :])
        hessian = (root[:, :, None] * root[:, None, :]).baddbmm_(scaled.mT, scaled, alpha=-1)
        hessian.diagonal(dim1=1, dim2=2).add_(1.0 + _RIDGE)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        fresh = torch.cholesky_solve((gap * inverse)[:, :, None], factor)[:, :, 0] * inverse
        rise = (fresh * gap).sum(1)
        sinkhorn = torch.where(carried, (b / q).log(), 0.0)
        trusted = (failed == 0) & torch.isfinite(rise) & (sinkhorn.abs().amax(1) <= _NEWTON_WITHIN)
        if not bool(trusted.all()):
            if not bool(torch.isfinite(sinkhorn).all()):
                # A single point far from all others: its q underflows, its logarithm does not.
                sinkhorn = torch.where(carried, _from_x(x, a, minus_cost, u)[0] - v, 0.0)
            fresh = torch.where(trusted[:, None], fresh, sinkhorn)
            rise = (fresh * gap).sum(1)
        slack = 1e-13 * (1 + value.abs())
        risen = (value >= old_value + _ARMIJO * taken * ascent - slack) | (error <= tol) | (iterations == 1)
        if bool(risen.all()):
            base, direction, ascent, old_value, taken = v, fresh, rise, value, torch.ones_like(value)
        else:  # step back along the last direction in the rows whose value did not rise
            base = torch.where(risen[:, None], v, base)
            direction = torch.where(risen[:, None], fresh, direction)
            ascent = torch.where(risen, rise, ascent)
            old_value = torch.where(risen, value, old_value)
            taken = torch.where(risen, 1.0, taken * _SHRINK)
        v = base + taken[:, None] * direction
    # One last update gives the potential and the conditional means where there is no mass, and corrects them where there is
    # very little.
    g = -spread.log() if plain else anchor + log_b - spread.log()
    to_x = _over_x(kernel, a * x / total) / spread
    lost = ~(torch.isfinite(g) & torch.isfinite(to_x))
    if bool(lost.any()):
        g, to_x = (torch.where(lost, *pair) for pair in zip(_from_x(x, a, minus_cost, u), (g, to_x), strict=True))
    value = eps * ((a * u).sum(1) + (b * v).sum(1))
    return Cross(u, g, _over_y(kernel, w * y) / total, to_x, value, error, iterations)
