"""Projections of two towers that were not trained together, from one ridge regression.

The image projection predicts the embedding of a pair's note; notes are only centred. The penalty is chosen by the error on
pairs of other patients. Array-level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FOLDS = 5


@dataclass(frozen=True)
class Projection:
    """A fitted projection from P image features to D dimensions of notes.

    Attributes
    ----------
    weight, bias : float64 ndarray of shape (P, D) and (D,)
        A centred note is predicted as ``x @ weight + bias``.
    centre : float64 ndarray of shape (D,)
        Mean of the notes' embeddings.
    out_of_fold : float64 ndarray of shape (N, D)
        For each pair the prediction by the pairs of other patients, so that it does not contain the pair's own note.
    penalty : float
        The chosen one of `PENALTIES`, as a multiple of the mean variance of the standardised features.
    """

    weight: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    out_of_fold: np.ndarray
    penalty: float


def fit_projection(images: np.ndarray, notes: np.ndarray, patients: Sequence[str]) -> Projection:
    """Ridge regression of notes' embeddings on image features (Hoerl and Kennard, Technometrics 12, 55, 1970).

    Parameters
    ----------
    images : ndarray of shape (N, P)
        Outputs of the image tower; standardised inside.
    notes : ndarray of shape (N, D)
        Outputs of the text tower of the same pairs.
    patients : sequence of str, length N
        Pairs of a patient stay in one of five folds.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> found = fit_projection(x, x @ [[1.0], [3.0], [2.0]] + 5, [str(i) for i in range(200)])
    >>> found.weight.round(1).ravel().tolist(), found.centre.round().tolist()
    ([1.0, 2.9, 1.9], [5.0])
    """
    images, notes = np.asarray(images, float), np.asarray(notes, float)
    mean, spread = images.mean(0), images.std(0)
    x, centre = (images - mean) / np.where(spread > 0, spread, 1), notes.mean(0)
    y = notes - centre
    fold = _folds(patients)
    predictions = {penalty: np.zeros_like(y) for penalty in PENALTIES}
    for k in np.unique(fold):
        out = fold == k
        solve = _Ridge(x[~out], y[~out])
        for penalty, predicted in predictions.items():
            predicted[out] = x[out] @ solve(penalty)
    errors = {penalty: float(((y - predicted) ** 2).sum()) for penalty, predicted in predictions.items()}
    best = min(errors, key=errors.__getitem__)
    weight = _Ridge(x, y)(best) / np.where(spread > 0, spread, 1)[:, None]
    return Projection(weight, -mean @ weight, centre, predictions[best], best)


def _folds(patients: Sequence[str]) -> np.ndarray:
    """Fold of each pair, by patient; patients are dealt out in an order that does not depend on that of the pairs."""
    names, patient = np.unique(np.asarray(patients, str), return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[patient] % _FOLDS


class _Ridge:
    """Weights (P, D) of ridge regressions on the same values, by the smaller of the two equivalent systems."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._x, self._dual = x, len(x) < x.shape[1]
        self._gram: np.ndarray = x @ x.T if self._dual else x.T @ x
        self._cross: np.ndarray = y if self._dual else x.T @ y

    def __call__(self, penalty: float) -> np.ndarray:
        system = self._gram + penalty * max(1, len(self._x)) * np.eye(len(self._gram))
        solved = cho_solve(cho_factor(system, overwrite_a=True), self._cross)
        return self._x.T @ solved if self._dual else solved
