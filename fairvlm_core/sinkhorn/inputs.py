"""Validation of inputs: numbers as float64 tensors, masses, and the scale of ε."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError


class ConvergenceWarning(UserWarning):
    """The iterations ended before the marginals reached the tolerance; the value may be inaccurate."""


def as_line(name: str, values: Any) -> Tensor:
    """A one-dimensional, finite, non-empty float64 tensor; keeps its graph."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: must be numbers, an array or a tensor (got {type(values).__name__})") from error
    if tensor.ndim != 1:
        raise InputError(f"{name}: must be one-dimensional (got shape {tuple(tensor.shape)}); pass one number a sample")
    if len(tensor) == 0:
        raise InputError(f"{name}: is empty; pass at least one number")
    if tensor.is_complex():
        raise InputError(f"{name}: must be real numbers (got {tensor.dtype})")
    tensor = tensor.to(torch.float64)
    if not math.isfinite(float(tensor.detach().sum())) and not bool(torch.isfinite(tensor).all()):
        place = int((~torch.isfinite(tensor)).nonzero()[0])
        raise InputError(f"{name}: entry {place} is {float(tensor[place])}; leave it out or correct it")
    return tensor


def as_masses(name: str, weights: Any, points: Tensor) -> Tensor:
    """Masses of the points that sum to 1; uniform where None."""
    if weights is None:
        return torch.full_like(points, 1.0 / len(points), requires_grad=False)
    masses = as_line(name, weights).to(points.device)
    if len(masses) != len(points):
        raise InputError(f"{name}: {len(masses)} weights for {len(points)} values; pass one each")
    return normalised(name, masses)


def normalised(name: str, masses: Tensor) -> Tensor:
    """Masses over their sum; InputError where one is negative or all are 0."""
    if bool((masses < 0).any()):
        place = int((masses < 0).nonzero()[0, 0])
        raise InputError(f"{name}: entry {place} is {float(masses[place]):g}; weights must not be negative")
    total = masses.sum()
    if not float(total.detach()) > 0:
        raise InputError(f"{name}: all weights are 0; at least one must be above 0")
    return masses / total


def regularisation(blur: float, scale: Any, spread: float) -> float:
    """ε = (blur · scale)², with scale 1, the spread of the data (``"sd"``) or a number."""
    if isinstance(blur, bool) or not isinstance(blur, (int, float)) or not (math.isfinite(blur) and blur > 0):
        raise InputError(f"blur: must be a number above 0 (got {blur!r})")
    if scale is None:
        factor = 1.0
    elif isinstance(scale, str):
        if scale != "sd":
            raise InputError(f"scale: must be None, 'sd' or a number above 0 (got {scale!r})")
        factor = spread if spread > 0 else 1.0  # without spread the divergence is 0 for any ε
    else:
        factor = float(scale)
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(f"scale: must be None, 'sd' or a number above 0 (got {scale!r})")
    return (blur * factor) ** 2


def check_effort(tol: float, max_iter: int) -> None:
    """Refuse a tolerance outside (0, 1) and less than one iteration."""
    if not 0 < tol < 1:
        raise InputError(f"tol: must be within 0 and 1 (got {tol})")
    if max_iter < 1:
        raise InputError(f"max_iter: must be 1 or more (got {max_iter})")


def warn_unless_converged(error: float, tol: float, iterations: int) -> None:
    """Warn with the error and how to reduce it."""
    if not error <= tol:
        warnings.warn(
            f"marginals are off by {error:.1e} (tolerance {tol:.0e}) after {iterations} iterations: raise blur or max_iter",
            ConvergenceWarning,
            stacklevel=4,
        )


def with_gradient(value: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """`value` carrying the given gradients: (input of shape (n,) or (G, n), derivative of shape (G, n)) each.

    The potentials are optimal, so they are constant by the envelope theorem; the rest is linear in the inputs.
    """
    value = value.detach()
    for source, derivative in terms:
        if source.requires_grad:
            value = value + (derivative.detach() * (source - source.detach())).sum(-1)
    return value
