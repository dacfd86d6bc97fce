"""How well a pair fits compared with the whole set instead of with its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 4096  # rows at a time: 4096 × 1024 logits are 16 MB


_FEW = 20.0  # pairs of a group that count as much as no group at all


def margin(
    image_features: Any,
    text_features: Any,
    scale: float,
    *,
    reference: int | None = 1024,
    seed: int = 0,
    notes: np.ndarray | None = None,
) -> Tensor:
    """The contrastive loss of each pair against the whole set, which does not depend on the batch.

    In one direction, with s_ij = scale · f_i·t_j and R_i the reference pairs with another note than i,

        log(e^{s_ii} + (N−1)/|R_i| · Σ_{j∈R_i} e^{s_ij}) − s_ii,

    in nats; log N for a model that knows nothing. The mean of both directions (image to text, text to image) is returned.

    Parameters
    ----------
    image_features, text_features : array or tensor of shape (N, D)
        Unit-norm features; row i of both belongs to pair i.
    scale : float
        exp of the logit scale, above 0.
    reference : int or None
        Size of the random reference set that all pairs share; None takes all N pairs. Work grows with N · reference,
        memory with reference.
    seed : int
        For the choice of the reference set.
    notes : int ndarray of shape (N,), optional
        Equal numbers for pairs with the same note; by default all differ.

    Returns
    -------
    float32 Tensor of shape (N,) on the CPU

    Raises
    ------
    InputError
        Shapes that do not match, fewer than two pairs, or features that are not finite.

    Examples
    --------
    >>> import torch
    >>> swapped = torch.eye(4)[[1, 0, 2, 3]]                   # notes of the first two pairs are exchanged
    >>> margin(torch.eye(4), swapped, 10.0).round(decimals=2)
    tensor([10., 10.,  0.,  0.])
    """
    import torch

    image, text = _features("image_features", image_features), _features("text_features", text_features)
    if image.shape != text.shape:
        raise InputError(
            f"text_features: shape {tuple(text.shape)} does not match image_features {tuple(image.shape)}; row i of "
            "both must belong to pair i"
        )
    n = len(image)
    if n < 2:
        raise InputError(f"image_features: {n} pair; a margin needs at least two")
    scale = float(scale)
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale: must be a number above 0 (got {scale})")
    if reference is not None and reference < 2:
        raise InputError(f"reference: must be 2 pairs or more, or None for all (got {reference})")
    if reference is None or reference >= n:
        some = np.arange(n)
    else:
        some = np.sort(np.random.default_rng(seed).choice(n, reference, replace=False))
    chosen = torch.from_numpy(some)
    note = torch.from_numpy(np.arange(n) if notes is None else notes).to(image.device)

    own = (image * text).sum(1) * scale
    result = torch.zeros(n, dtype=torch.float32, device=image.device)
    rows_at_once = max(1, _CHUNK * 1024 // len(chosen))
    for query, candidates in ((image, text[chosen]), (text, image[chosen])):
        for start in range(0, n, rows_at_once):
            part = slice(start, min(start + rows_at_once, n))
            logits = scale * query[part] @ candidates.T
            repeated = note[part, None] == note[chosen]  # the pair itself among them
            logits.masked_fill_(repeated, -torch.inf)
            others = (len(chosen) - repeated.sum(1)).clamp(min=1)
            summed = torch.logsumexp(logits, 1) + torch.log((n - 1) / others)
            result[part] += 0.5 * (torch.logaddexp(own[part], summed) - own[part])
    return result.cpu()


def _features(name: str, values: Any) -> Tensor:
    import torch

    features = torch.as_tensor(values).detach()
    if features.ndim != 2 or not features.is_floating_point():
        raise InputError(f"{name}: must be floating point of shape (pairs, width) (got shape {tuple(features.shape)})")
    features = features.float()
    if not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise InputError(f"{name}: row {row} is not finite; look at that pair")
    return features


def within_groups(loss: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """The losses without the differences between groups, so that a pair stands out from its own groups or not at all.

    One attribute after the other, each group's median is moved to everyone's. The shift of a group of n pairs is multiplied
    by n / (n + 20), because a median of few values varies.

    Parameters
    ----------
    loss : float array of shape (N,)
    membership : bool array of shape (G, N)
        The groups, attribute by attribute.

    Returns
    -------
    float64 ndarray of shape (N,)

    Examples
    --------
    >>> two = np.repeat([[True, False], [False, True]], 200, axis=1)
    >>> within_groups(np.repeat([1.0, 3.0], 200), two).round(1)[[0, -1]]
    array([1.9, 2.1])
    """
    value = np.array(loss, np.float64)
    everyone = np.median(value)
    for member in membership:
        n = int(member.sum())
        if n:
            value[member] -= (np.median(value[member]) - everyone) * n / (n + _FEW)
    return value
