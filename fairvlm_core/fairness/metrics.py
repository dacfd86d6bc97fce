"""Values of metrics: AUC, rates and calibration of every group at once, and the equity-scaled metrics made of them.

The functions by group take arrays that :mod:`.cohort` has checked. NaN means undefined in arrays; named results have
:class:`Undefined` with the reason instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .cohort import GroupCodes, check_groups, check_label, check_score

N_BINS = 10


@dataclass(frozen=True)
class Undefined:
    """A value that does not exist, with the reason. In JSON it is null, with the reason under "undefined".

    >>> print(Undefined("n+ = 0, n- = 12"))
    undefined (n+ = 0, n- = 12)
    >>> bool(Undefined("one group only"))
    False
    """

    reason: str

    def __str__(self) -> str:
        return f"undefined ({self.reason})"

    def __bool__(self) -> bool:
        return False


class EquityScaled(float):
    """An equity-scaled metric: a float with the values it is made of.

    Attributes
    ----------
    overall : float
        The metric over everyone.
    groups : dict of group name to float or Undefined
    undefined : dict of group name to reason
        Groups without a value; they are not in the sum.
    partial : bool
        Whether there are such groups.
    """

    overall: float
    groups: Mapping[str, float | Undefined]
    undefined: Mapping[str, str]

    def __new__(cls, overall: float, groups: Mapping[str, float | Undefined]) -> EquityScaled:
        values = [value for value in groups.values() if not isinstance(value, Undefined)]
        self = super().__new__(cls, overall / (1 + sum(abs(overall - value) for value in values)))
        self.overall = float(overall)
        self.groups = dict(groups)
        self.undefined = {name: v.reason for name, v in groups.items() if isinstance(v, Undefined)}
        return self

    def __getnewargs__(self) -> tuple[float, Mapping[str, float | Undefined]]:  # type: ignore[override]
        return self.overall, self.groups

    @property
    def partial(self) -> bool:
        return bool(self.undefined)


def roc_auc(label: Any, score: Any) -> float:
    r"""Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    .. math:: \mathrm{AUC} = \frac{1}{n_+ n_-}\sum_{i:y_i=1}\sum_{j:y_j=0} [s_i > s_j] + \tfrac12 [s_i = s_j]

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score : array-like of shape (n,), finite; any scale

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    InputError
        Lengths differ, a label is not 0 or 1, a score is not finite, or there is one class only.

    References
    ----------
    Hanley & McNeil, Radiology 143 (1982) 29-36.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    label = check_label(label)
    score = check_score(score, len(label), probabilities=False)
    return float(auc_by_group(label, score, np.zeros(len(label), np.intp), 1)[0])


def equity_scaled_auc(label: Any, score: Any, groups: Any) -> EquityScaled:
    r"""Equity-scaled AUC (ES-AUC): the overall AUC, lowered by the distances of the groups' AUCs from it.

    .. math:: \text{ES-AUC} = \frac{\mathrm{AUC}}{1 + \sum_g |\mathrm{AUC} - \mathrm{AUC}_g|}

    Every small group lowers it by chance alone; :class:`FairnessReport` shows by how much.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score : array-like of shape (n,), finite; any scale
    groups : array-like of shape (n,)
        Group of each row; blank, None, NaN and -1 are the group "Unknown".

    Returns
    -------
    EquityScaled
        A float in [0, 1] with `.overall`, `.groups`, `.partial` and `.undefined`. A group with one class has no AUC: it is
        not in the sum, and the value is marked partial.

    Raises
    ------
    InputError
        As in :func:`roc_auc`; or no group has both classes.

    References
    ----------
    Luo et al., FairCLIP, CVPR 2024, arXiv 2403.19949.

    Examples
    --------
    >>> es = equity_scaled_auc([0, 1, 0, 1, 0, 1, 1], [0.1, 0.8, 0.7, 0.4, 0.2, 0.9, 0.3], list("aabbaac"))
    >>> round(es, 4), round(es.overall, 4), es.partial, es.undefined
    (0.4167, 0.8333, True, {'c': 'n+ = 1, n- = 0'})
    """
    label = check_label(label)
    score = check_score(score, len(label), probabilities=False)
    grouping = check_groups(groups, len(label))
    values = auc_by_group(label, score, grouping.code, len(grouping.names))
    if np.isnan(values).all():
        raise InputError("groups: no group has both classes, so none has an AUC; use larger groups")
    reasons = class_reasons(label, grouping)
    return EquityScaled(roc_auc(label, score), named(values, grouping.names, reasons))


def equity_scaled_accuracy(label: Any, score: Any, groups: Any, *, threshold: float = 0.5) -> EquityScaled:
    r"""Equity-scaled accuracy: accuracy / (1 + Σ_g |accuracy - accuracy_g|), predicting 1 where score >= threshold.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score : array-like of shape (n,), finite; any scale that `threshold` is on
    groups : array-like of shape (n,)
    threshold : float

    Returns
    -------
    EquityScaled
        A float in [0, 1]; never partial, as every group has an accuracy.

    Raises
    ------
    InputError
        As in :func:`roc_auc`.

    Examples
    --------
    >>> es = equity_scaled_accuracy([0, 1, 0, 1], [0.1, 0.8, 0.7, 0.9], ["a", "a", "b", "b"])
    >>> float(es), es.overall, es.groups
    (0.5, 0.75, {'a': 1.0, 'b': 0.5})
    """
    label = check_label(label)
    score = check_score(score, len(label), probabilities=False)
    grouping = check_groups(groups, len(label))
    right = (score >= threshold) == label
    sizes = np.bincount(grouping.code)
    values = np.bincount(grouping.code, weights=right) / sizes
    return EquityScaled(float(right.mean()), named(values, grouping.names, {}))


def auc_by_group(
    label: np.ndarray, score: np.ndarray, code: np.ndarray, n_groups: int, order: np.ndarray | None = None
) -> np.ndarray:
    """AUC of every group, float64 (n_groups,), NaN where a group lacks a class; checked input, O(n) after the sort.

    `order` is argsort(score), for callers that need several groupings of the same score.

    >>> auc_by_group(np.array([False, True, True]), np.array([0.2, 0.2, 0.9]), np.zeros(3, int), 1)
    array([0.75])
    """
    order = np.argsort(score) if order is None else order
    if n_groups > 1:  # a stable sort of small integers is a radix sort: linear
        small = np.uint16 if n_groups < 2**16 else np.int64
        order = order[np.argsort(code[order].astype(small), kind="stable")]
    label, score, code = label[order], score[order], code[order]
    # A block holds equal scores of one group: a positive beats the negatives of its group's earlier blocks and ties with
    # those of its own block.
    new = np.empty(len(code), bool)
    new[0] = True
    np.logical_or(code[1:] != code[:-1], score[1:] != score[:-1], out=new[1:])
    start = np.flatnonzero(new)
    positives = np.add.reduceat(label.astype(np.float64), start)
    negatives = np.diff(start, append=len(code)) - positives
    block_code = code[start]
    below = np.cumsum(negatives) - negatives
    n_positive = np.bincount(block_code, weights=positives, minlength=n_groups)
    n_negative = np.bincount(block_code, weights=negatives, minlength=n_groups)
    before_group = np.cumsum(n_negative) - n_negative
    wins = np.bincount(block_code, weights=positives * (below + 0.5 * negatives), minlength=n_groups)
    wins -= n_positive * before_group
    return ratio(wins, n_positive * n_negative)


def confusion_by_group(label: np.ndarray, predicted: np.ndarray, code: np.ndarray, n_groups: int) -> np.ndarray:
    """Counts, int64 (n_groups, 2, 2): [group, label, predicted]."""
    cell = 4 * code + 2 * label + predicted
    return np.bincount(cell, minlength=4 * n_groups).reshape(n_groups, 2, 2)


def calibration_bin(score: np.ndarray) -> np.ndarray:
    """Bin 0 .. N_BINS - 1 of each probability: equal width, the last one closed."""
    return np.minimum((score * N_BINS).astype(np.intp), N_BINS - 1)


def calibration_error_by_group(
    label: np.ndarray, score: np.ndarray, code: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    r"""Expected calibration error of every group, and what it would be by chance.

    ECE = Σ_b |Σ_{i in b} (s_i - y_i)| / n over ten bins of equal width (Naeini et al., AAAI 2015). Even a perfectly
    calibrated model has ECE > 0 in a small group; with y_i ~ Bernoulli(s_i) the sum in a bin is nearly normal, so its
    expected size is sqrt(2/π Σ s_i (1 - s_i)).

    Returns
    -------
    error, by_chance : float64 ndarray of shape (n_groups,)
    """
    cell = code * N_BINS + calibration_bin(score)
    size = N_BINS * n_groups
    off = np.bincount(cell, weights=score - label, minlength=size).reshape(n_groups, N_BINS)
    noise = np.bincount(cell, weights=score * (1 - score), minlength=size).reshape(n_groups, N_BINS)
    n = np.bincount(code, minlength=n_groups)
    return ratio(np.abs(off).sum(1), n), ratio(np.sqrt(2 / np.pi * np.maximum(noise, 0)).sum(1), n)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0; without a warning."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def class_reasons(label: np.ndarray, grouping: GroupCodes) -> dict[str, str]:
    """Why a group has no AUC, for the groups that have none."""
    n = np.bincount(grouping.code, minlength=len(grouping.names))
    n_positive = np.bincount(grouping.code[label], minlength=len(grouping.names))
    return {
        name: f"n+ = {p}, n- = {size - p}"
        for name, size, p in zip(grouping.names, n.tolist(), n_positive.tolist(), strict=True)
        if p in (0, size)
    }


def named(values: np.ndarray, names: tuple[str, ...], reasons: Mapping[str, str]) -> dict[str, float | Undefined]:
    """Group name to value, NaN replaced by :class:`Undefined` with its reason."""
    return {
        name: Undefined(reasons.get(name, "not computable")) if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }
