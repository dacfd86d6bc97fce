"""Projections of two towers that were not trained together, from ridge regressions.

The image projection predicts the embedding of a pair's note; notes are only centred. The penalty is chosen by the error on
pairs of other patients. Array-level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 5
_INTERCEPT = 100.0  # the constant feature: so large that the penalty hardly acts on it


class ProjectionFit:
    """Ridge regressions of notes' embeddings on image features (Hoerl and Kennard, Technometrics 12, 55, 1970).

    Parameters
    ----------
    images : ndarray of shape (N, P)
        Outputs of the image tower; standardised inside.
    notes : ndarray of shape (N, D)
        Outputs of the text tower of the same pairs.
    patients : sequence of str, length N
        Pairs of a patient stay in one of five folds.

    Attributes
    ----------
    centre : float64 ndarray of shape (D,)
        Mean of the notes' embeddings, by which notes are shifted.
    fold : int ndarray of shape (N,), 1 to 5
    penalty : float
        The one of `PENALTIES` with the smallest error on pairs of other folds, as a multiple of the mean variance of the
        standardised features.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> found = ProjectionFit(x, x @ [[1.0], [3.0], [2.0]] + 5, [str(i) for i in range(200)])
    >>> weights = found.weights()
    >>> weights.shape, weights[0, :3].round(1).ravel().tolist(), found.centre.round().tolist()
    ((6, 4, 1), [1.0, 2.9, 1.9], [5.0])
    """

    def __init__(self, images: np.ndarray, notes: np.ndarray, patients: Sequence[str]):
        self._mean, spread = images.mean(0, dtype=float), images.std(0, dtype=float)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._x = np.full((len(images), images.shape[1] + 1), _INTERCEPT, np.float32)
        self._x[:, :-1] = (images - self._mean) / self._spread
        self.centre, self.fold = notes.mean(0, dtype=float), _folds(patients)
        self._y = notes - self.centre
        errors, everyone = np.zeros(len(PENALTIES)), _Ridge.of(self._x, self._y)
        for k in np.unique(self.fold):
            out = self.fold == k
            others = everyone.without(out)
            errors += [((self._y[out] - self._x[out] @ others(one)) ** 2).sum() for one in PENALTIES]
        self.penalty = PENALTIES[int(errors.argmin())]

    def weights(self, counts: np.ndarray | None = None) -> np.ndarray:
        """Weights (6, P + 1, D) that predict centred notes, intercept last: of all pairs, then of those outside each fold.

        The weights of a pair's own fold predict its note without having seen it.

        Parameters
        ----------
        counts : ndarray of shape (N,), optional
            How much each pair counts, 0 or more; 1 by default.
        """
        root = np.sqrt(np.ones(len(self._x)) if counts is None else counts).astype(np.float32)[:, None]
        everyone = _Ridge.of(root * self._x, root * self._y)
        parts = [everyone, *(everyone.without(self.fold == k) for k in range(1, FOLDS + 1))]
        found = np.stack([part(self.penalty) for part in parts])
        slopes = found[:, :-1] / self._spread[:, None]
        return np.concatenate([slopes, found[:, -1:] * _INTERCEPT - self._mean @ slopes[:, None]], axis=1)


def _folds(patients: Sequence[str]) -> np.ndarray:
    """Fold of each pair, by patient; patients are dealt out in an order that does not depend on that of the pairs."""
    names, patient = np.unique(np.asarray(patients, str), return_inverse=True)
    return 1 + np.random.default_rng(0).permutation(len(names))[patient] % FOLDS


class _Ridge:
    """Ridge regressions on rows x (N, P), y (N, D) and on parts of them, by the smaller of the two equivalent systems."""

    def __init__(self, x: np.ndarray, y: np.ndarray, gram: np.ndarray, cross: np.ndarray):
        self._x, self._y, self._gram, self._cross = x, y, gram, cross
        self._dual = cross is y

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> _Ridge:
        if len(x) < x.shape[1]:
            return cls(x, y, np.asarray(x, float) @ x.T, y)
        return cls(x, y, _product(x, x), _product(x, y))

    def without(self, out: np.ndarray) -> _Ridge:
        """The regressions on the other rows."""
        x, y = self._x[~out], self._y[~out]
        if self._dual:
            return _Ridge(x, y, self._gram[np.ix_(~out, ~out)], y)
        left = self._x[out]
        return _Ridge(x, y, self._gram - _product(left, left), self._cross - _product(left, self._y[out]))

    def __call__(self, penalty: float) -> np.ndarray:
        """Weights (P, D)."""
        total = (self._x[:, -1].astype(float) ** 2).sum() / _INTERCEPT**2  # sum of what the rows count
        system = self._gram + penalty * max(1.0, total) * np.eye(len(self._gram))
        solved = cho_solve(cho_factor(system, overwrite_a=True), self._cross)
        return self._x.T @ solved if self._dual else solved


def _product(a: np.ndarray, b: np.ndarray, rows: int = 4096) -> np.ndarray:
    """aᵀ b in double precision, a few rows at a time: all at once would take twice the memory of the rows."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), rows):
        total += a[start : start + rows].astype(float).T @ b[start : start + rows].astype(float)
    return total
