"""Neighbours of a pair among the embeddings, and notes that fit its image better than its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError

_TIE = 1e-5  # cosines closer than this are equal: embeddings are stored in half precision


@dataclass(frozen=True)
class Ranked:
    """Rows in decreasing order of similarity.

    Attributes
    ----------
    rows : int64 ndarray of shape (k,)
    similarity : float32 ndarray of shape (k,)
        Cosine, -1 to 1.
    """

    rows: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class BetterFits:
    """Candidates that fit one side of a pair better than the other side does.

    Attributes
    ----------
    own : float
        Cosine of image and note of the pair itself, -1 to 1.
    n_better, n_others : int
        Number of other candidates that fit better, and number of other candidates.
    best : Ranked
        The best of those that fit better, at most k.
    """

    own: float
    n_better: int
    n_others: int
    best: Ranked


def nearest(features: Any, row: int, k: int = 6, among: Any = None) -> Ranked:
    """The k rows most similar to `row`, without itself.

    Parameters
    ----------
    features : float array of shape (N, D)
        Unit norm.
    row : int
        0 to N - 1.
    k : int
        Fewer are returned where there are fewer.
    among : bool array of shape (N,), optional
        Rows to search; all by default.

    Raises
    ------
    InputError
        A row, k or mask out of range.

    Examples
    --------
    >>> features = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]])
    >>> nearest(features, 0, k=2).rows
    array([3, 1])
    """
    features = _features("features", features)
    mask = _others(len(features), row, k, among)
    return _top(features @ features[row], mask, k)


def better_fits(queries: Any, candidates: Any, row: int, k: int = 6, among: Any = None) -> BetterFits:
    """Candidates that are more similar to query `row` than its own candidate is.

    With images as queries and notes as candidates: notes that fit this image better than its own. With notes as queries and
    images as candidates: images that fit this note better.

    Parameters
    ----------
    queries, candidates : float array of shape (N, D)
        Unit norm; row i of both belongs to pair i.
    row, k, among
        As in `nearest`; the pair itself is never searched.

    Raises
    ------
    InputError
        Shapes that do not match, or a row, k or mask out of range.

    Examples
    --------
    >>> images = np.eye(3)
    >>> notes = np.eye(3)[[1, 0, 2]]  # the notes of the first two pairs are exchanged
    >>> fits = better_fits(images, notes, 0)
    >>> fits.own, fits.n_better, fits.best.rows
    (0.0, 1, array([1]))
    """
    queries, candidates = _features("queries", queries), _features("candidates", candidates)
    if queries.shape != candidates.shape:
        raise InputError(
            f"candidates: shape {candidates.shape} does not match queries {queries.shape}; row i of both must be pair i"
        )
    mask = _others(len(queries), row, k, among)
    similarity = candidates @ queries[row]
    own = float(similarity[row])
    better = mask & (similarity > own + _TIE)
    return BetterFits(own, int(better.sum()), int(mask.sum()), _top(similarity, better, k))


def _top(similarity: np.ndarray, mask: np.ndarray, k: int) -> Ranked:
    rows = np.flatnonzero(mask)
    values = similarity[rows]
    if len(rows) > k:
        part = np.argpartition(-values, k - 1)[:k]
        rows, values = rows[part], values[part]
    order = np.argsort(-values, kind="stable")
    return Ranked(rows[order], values[order].astype(np.float32))


def _features(name: str, values: Any) -> np.ndarray:
    features = np.asarray(values)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise InputError(f"{name}: must be numbers of shape (pairs, width) (got shape {features.shape})")
    return features


def _others(n: int, row: int, k: int, among: Any) -> np.ndarray:
    if not 0 <= row < n:
        raise InputError(f"row: must be from 0 to {n - 1} (got {row})")
    if k < 1:
        raise InputError(f"k: must be 1 or more (got {k})")
    mask = np.ones(n, bool) if among is None else np.array(among, bool)
    if mask.shape != (n,):
        raise InputError(f"among: must have one value for each of {n} rows (got shape {mask.shape})")
    mask[row] = False
    return mask
