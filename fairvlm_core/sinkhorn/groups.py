"""All groups of all attributes against everyone, in one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError
from .core import solve
from .inputs import as_line, as_masses, check_effort, regularisation, warn_unless_converged, with_gradient

_TRACE = 1e-12  # of a mass of 1


@dataclass(frozen=True)
class GroupSinkhorn:
    """Divergences of G groups.

    Attributes
    ----------
    value : float64 Tensor of shape (G,)
        S_ε(P_g, P), in the unit of the values squared; 0 for an empty group. Carries gradients to values and masses.
    empty : bool Tensor of shape (G,)
        Groups without mass; they contribute no gradient.
    marginal_error : Tensor of shape (G,)
        L1 error of the marginals, the largest of the three problems behind a value.
    converged : bool Tensor of shape (G,)
    iterations : int
    eps : float
    group_potential, everyone_potential : Tensor of shape (G, n)
        Derivatives of the divergence by the masses of the group and of everyone, up to a constant.
    group_slope, everyone_slope : Tensor of shape (G, n)
        Derivatives of these potentials by the value, also where there is no mass.
    """

    value: Tensor
    empty: Tensor
    marginal_error: Tensor
    converged: Tensor
    iterations: int
    eps: float
    group_potential: Tensor = field(repr=False)
    everyone_potential: Tensor = field(repr=False)
    group_slope: Tensor = field(repr=False)
    everyone_slope: Tensor = field(repr=False)


def group_sinkhorn(
    values: Any,
    masses: Any,
    total: Any | None = None,
    *,
    blur: float = 0.25,
    scale: Literal["sd"] | float | None = "sd",
    tol: float = 1e-5,
    max_iter: int = 100,
) -> GroupSinkhorn:
    """S_ε(P_g, P) of every group's distribution P_g and everyone's P over the same values.

    Parameters
    ----------
    values : array or tensor of shape (n,)
        One number a pair (a loss, a similarity), or the knots of a grid.
    masses : array or tensor of shape (G, n)
        A group's mass at each value, ≥ 0: memberships, or memberships times weights. Rows are divided by their sum.
    total : array or tensor of shape (n,), optional
        Everyone's masses, such as the weights of mined pairs; uniform by default.
    blur : float
        √ε in units of `scale`.
    scale : "sd", a number or None
        ``"sd"``: the standard deviation of the values under `total`, so that a blur means the same at any scale of the
        loss; constant in gradients. None: 1.
    tol : float
        L1 error allowed in each marginal, out of a mass of 1; more where doubles resolve less (blur below 1e-3 sd).
    max_iter : int

    Returns
    -------
    GroupSinkhorn

    Warns
    -----
    ConvergenceWarning
        A marginal is off by more than `tol`.

    Raises
    ------
    InputError
        Shapes that do not match, values that are not finite, negative masses, or no mass at all.

    Notes
    -----
    The cost matrix and the problem of everyone with themselves are shared, and the remaining problems are solved side by
    side. Time grows with G · n³, memory with G · n².

    Examples
    --------
    >>> import torch
    >>> losses = torch.tensor([0.1, 0.2, 0.3, 2.1, 2.2, 2.3], requires_grad=True)
    >>> women = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    >>> result = group_sinkhorn(losses, torch.stack([women, 1 - women, torch.ones(6)]))
    >>> result.value.detach().round(decimals=3)                # the third group is everyone
    tensor([0.9390, 0.9390, 0.0000], dtype=torch.float64)
    >>> result.value.sum().backward()
    >>> losses.grad.sign()                                     # low losses should rise, high ones fall
    tensor([-1., -1., -1.,  1.,  1.,  1.])
    """
    check_effort(tol, max_iter)
    values = as_line("values", values)
    everyone = as_masses("total", total, values)
    rows = torch.as_tensor(masses)
    if rows.ndim != 2 or rows.shape[1] != len(values):
        raise InputError(
            f"masses: must have shape (groups, {len(values)}), one column a value (got {tuple(rows.shape)})"
        )
    rows = rows.to(values)
    group_mass = rows.sum(1)
    if not bool(torch.isfinite(group_mass).all()) or bool((rows < 0).any()):
        raise InputError("masses: must be finite and not negative; pass memberships or weights")
    empty = group_mass.detach() <= 0
    # An empty group is replaced by everyone (value 0) and has no gradient.
    shares = torch.where(empty[:, None], everyone.detach(), rows / torch.where(empty, 1.0, group_mass)[:, None])
    # Masses below 1e-12 change no value, but their logarithms make Newton's steps inaccurate.
    shares, everyone = (part - torch.where(part < _TRACE, part, 0.0).detach() for part in (shares, everyone))

    with torch.no_grad():
        mean = (everyone * values).sum()
        spread = float(((everyone * (values - mean) ** 2).sum()).sqrt())
        eps = regularisation(blur, scale, spread)
        order = torch.argsort(values)
        back = torch.argsort(order)
        support = (values - mean)[order]
        a, b = everyone[order][None], shares[:, order].contiguous()
        solved = solve(support, support, a, b, eps, tol=tol, max_iter=max_iter)
        by_values = (solved.by_x(a) + solved.by_y(b))[:, back]
        live = (~empty).to(values)[:, None]
    value = with_gradient(
        torch.where(empty, 0.0, solved.value),
        (values, live * by_values),
        (shares, live * solved.by_b[:, back]),
        (everyone, live * solved.by_a[:, back]),
    )
    warn_unless_converged(float(solved.error.max()) if len(rows) else 0.0, solved.tol, solved.iterations)
    return GroupSinkhorn(
        value=value,
        empty=empty,
        marginal_error=solved.error,
        converged=solved.error <= solved.tol,
        iterations=solved.iterations,
        eps=eps,
        group_potential=solved.by_b[:, back],
        everyone_potential=solved.by_a[:, back],
        group_slope=solved.slope_y[:, back],
        everyone_slope=solved.slope_x[:, back],
    )
