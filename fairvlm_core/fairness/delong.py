"""Variance of AUCs and of their differences on the same patients (DeLong), also for patients with several rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from ..errors import InputError
from .cohort import check_label, check_patients, check_score


@dataclass(frozen=True)
class DeLong:
    """AUCs of k scores on the same rows, and their covariance.

    Attributes
    ----------
    auc : float64 ndarray of shape (k,)
    covariance : float64 ndarray of shape (k, k)
    """

    auc: np.ndarray
    covariance: np.ndarray

    def difference(self, first: int = 0, second: int = 1) -> tuple[float, float, float]:
        """(AUC of `second` minus AUC of `first`, its standard error, two-sided p); p is 1 for equal scores."""
        change = float(self.auc[second] - self.auc[first])
        c = self.covariance
        error = float(np.sqrt(max(c[first, first] + c[second, second] - 2 * c[first, second], 0.0)))
        if error == 0:
            return change, 0.0, 1.0 if change == 0 else 0.0
        return change, error, float(2 * ndtr(-abs(change) / error))


def delong(label: Any, *scores: Any, patients: Any = None) -> DeLong:
    r"""AUCs with DeLong's covariance, from sorted scores in O(n log n).

    A positive's placement V is the share of negatives below it (ties one half), a negative's the share of positives above.

    .. math:: \mathrm{Cov} = \frac{S_{10}}{n_+} + \frac{S_{01}}{n_-},

    with S the sample covariances of the placements. With `patients`, placements are first summed within a patient
    (Obuchowski), which adds the covariance of a patient's positives with its negatives.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    *scores : array-likes of shape (n,)
        One or more scores of the same rows.
    patients : array-like of shape (n,), optional

    Returns
    -------
    DeLong

    Raises
    ------
    InputError
        As in :func:`roc_auc`; or there are fewer than two rows (patients) of a class.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988) 837-845; Sun & Xu, IEEE Signal Processing Letters 21 (2014)
    1389-1393 (the O(n log n) form); Obuchowski, Biometrics 53 (1997) 567-578 (clusters).

    Examples
    --------
    >>> label = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> result = delong(label, [1, 2, 3, 6, 4, 5, 7, 8], [2, 1, 6, 7, 3, 5, 4, 8])
    >>> result.auc.tolist()
    [0.875, 0.625]
    >>> change, error, p_value = result.difference()
    >>> round(change, 4), round(error, 4), round(p_value, 3)
    (-0.25, 0.2041, 0.221)
    """
    label = check_label(label)
    if not scores:
        raise InputError("scores: at least one score is needed")
    columns = np.stack(
        [check_score(s, len(label), probabilities=False, name=f"score {i + 1}") for i, s in enumerate(scores)]
    )
    return delong_of(label, columns, check_patients(patients, len(label)))


def delong_of(label: np.ndarray, scores: np.ndarray, patient: np.ndarray | None) -> DeLong:
    """:func:`delong` of checked input; scores of shape (k, n)."""
    n_positive, n_negative = int(label.sum()), int((~label).sum())
    above = np.stack([_share_below(row[~label], row[label]) for row in scores])
    below = np.stack([1 - _share_below(row[label], row[~label]) for row in scores])
    auc = above.mean(axis=1)
    placement = np.empty(scores.shape)
    placement[:, label] = (above - auc[:, None]) / n_positive
    placement[:, ~label] = (below - auc[:, None]) / n_negative
    unit = np.arange(len(label)) if patient is None else patient
    n_units = len(label) if patient is None else int(patient.max()) + 1
    parts, counts = [], []
    for rows in (label, ~label):
        parts.append(np.stack([np.bincount(unit[rows], weights=row[rows], minlength=n_units) for row in placement]))
        counts.append(int(np.count_nonzero(np.bincount(unit[rows], minlength=n_units))))
    if min(counts) < 2:
        what = "rows" if patient is None else "patients"
        raise InputError(f"label: {counts[0]} positive and {counts[1]} negative {what}; a variance needs two of each")
    within = [part @ part.T * count / (count - 1) for part, count in zip(parts, counts, strict=True)]
    covariance = within[0] + within[1]
    if patient is not None:
        cross = parts[0] @ parts[1].T * n_units / (n_units - 1)
        covariance = covariance + cross + cross.T
    return DeLong(auc, covariance)


def _share_below(others: np.ndarray, own: np.ndarray) -> np.ndarray:
    """For each of `own` the share of `others` below it, ties one half: its midrank among them."""
    others = np.sort(others)
    return (np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / (2 * len(others))
