"""Ranking rules of other methods, for comparison: CLIP similarity (``similarity``) and LEMoN (``lemon``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..errors import InputError
from .agreement import _features
from .rules import Evidence, Judgement, ranking_rule

if TYPE_CHECKING:
    from torch import Tensor


def lemon_scores(
    image_features: Any,
    text_features: Any,
    *,
    k: int = 30,
    beta: float = 5.0,
    gamma: float = 5.0,
    tau_image: tuple[float, float] = (0.1, 5.0),
    tau_text: tuple[float, float] = (0.1, 5.0),
) -> np.ndarray:
    """LEMoN: how badly a note fits its image and the notes of similar images (Zhang et al., ICML 2025, arXiv 2407.18941).

    With d(a, b) = 1 − cos(a, b), the k pairs n whose images are nearest to image x, and the k pairs m whose notes are
    nearest to note y,

        s     = d(x, y) + β s_n + γ s_m
        s_n   = 1/k Σ_n d(y, y_n) exp(−τ₁ d(x, x_n)) exp(−τ₂ d(x_n, y_n))      τ of `tau_image`
        s_m   = 1/k Σ_m d(x, x_m) exp(−τ₁ d(y, y_m)) exp(−τ₂ d(x_m, y_m))      τ of `tau_text`

    All pairs are the reference set; a pair is never its own neighbour. The defaults are the fixed settings that the paper
    recommends where none can be tuned (k = 30, β = γ = 5, τ₁ = 0.1, τ₂ = 5).

    Parameters
    ----------
    image_features, text_features : array or tensor of shape (N, D)
        Row i of both belongs to pair i; they are scaled to unit norm here.
    k : int
        Neighbours on each side, 1 or more; at most N − 1 are used.
    beta, gamma : float
        Weights of the neighbours of the image and of the note, 0 or more.
    tau_image, tau_text : (τ₁, τ₂)
        How fast a neighbour's weight falls with its distance, and with the distance between its own image and note.

    Returns
    -------
    float64 ndarray of shape (N,)
        Higher is worse, 0 or more. Time grows with N².

    Raises
    ------
    InputError
        Shapes that do not match, fewer than two pairs, values that are not finite, or k below 1.

    Examples
    --------
    >>> image = np.eye(4).repeat(5, 0)                                  # four kinds of images, five pairs each
    >>> text = image.copy()
    >>> text[[0, 5]] = text[[5, 0]]                                     # two notes change places
    >>> sorted(np.argsort(-lemon_scores(image, text, k=3))[:2].tolist())
    [0, 5]
    """
    sides = []
    for name, values in (("image_features", image_features), ("text_features", text_features)):
        side = _features(name, values)
        sides.append(side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12))
    image, text = sides
    if image.shape != text.shape or len(image) < 2:
        raise InputError(f"text_features: shape {text.shape}; that of image_features {image.shape}, two pairs or more")
    if k < 1:
        raise InputError(f"k: must be 1 neighbour or more (got {k})")
    own = _distance(image, text)
    score = own.copy()
    for near, far, weight, (tau, tau_own) in ((image, text, beta, tau_image), (text, image, gamma, tau_text)):
        at = NearestNeighbors(n_neighbors=min(k, len(near) - 1)).fit(near).kneighbors(return_distance=False)
        for neighbour in at.T:
            nearness = np.exp(-tau * _distance(near, near[neighbour]) - tau_own * own[neighbour])
            score += weight / at.shape[1] * _distance(far, far[neighbour]) * nearness
    return score


def _distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1 - (left * right).sum(1))


class LemonObserver:
    """Records `lemon_scores` of the training pairs, of the pretrained model and after every epoch."""

    channels = ("lemon",)

    def __init__(self, notes: Sequence[str], seed: int):
        pass

    def add(self, image: Tensor, text: Tensor) -> dict[str, np.ndarray]:
        return {"lemon": lemon_scores(image, text)}

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


def _wrong_notes(evidence: Evidence, score: np.ndarray) -> Judgement:
    """High scores are wrong notes; a low score says nothing of a shared marker."""
    return replace(evidence.by_limits(score), noisy=np.zeros(len(score), bool))


@ranking_rule("similarity", title="CLIP similarity", limits=("faulty_sd",))
def judge_similarity(evidence: Evidence) -> Judgement:
    """Low similarity of image and note in the latest epoch, as in filtering by CLIP score (arXiv 2111.02114).

    The recorded similarity is the logit s·cos(f, t); pairs below the location by β_f spreads are wrong notes.
    """
    return _wrong_notes(evidence, -evidence.latest("similarity"))


@ranking_rule("lemon", title="LEMoN", limits=("faulty_sd",), channels=("lemon",), observer=LemonObserver)
def judge_lemon(evidence: Evidence) -> Judgement:
    """High `lemon_scores` in the latest epoch, above the location by β_f spreads."""
    return _wrong_notes(evidence, evidence.latest("lemon"))
