"""Decision thresholds: their effect on every group, and ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from .cohort import GroupCodes, check_groups, check_label, check_score
from .definitions import rates, summarise
from .metrics import Undefined, class_reasons, named
from .results import Value

# A randomised rule draws its answers; averages over several draws vary less.
_WHAT_IF_DRAWS = 50


@dataclass(frozen=True)
class RocCurve:
    """A group's ROC curve, without points inside straight pieces.

    Attributes
    ----------
    n, n_positive : int
    false_positive_rate, true_positive_rate : float64 ndarray of shape (k,)
        Rising from 0 to 1.
    thresholds : float64 ndarray of shape (k,)
        A score at or above it counts as positive; the first is infinite.
    """

    n: int
    n_positive: int
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """A group's precision and recall, by falling threshold.

    Attributes
    ----------
    n, n_positive : int
    precision, recall, thresholds : float64 ndarray of shape (k,)
    average_precision : float
        Σ (recall_i - recall_{i-1}) · precision_i.
    """

    n: int
    n_positive: int
    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    average_precision: float


@dataclass(frozen=True)
class OperatingPoint:
    """The rates of one group at its threshold."""

    threshold: float
    n: int
    n_positive: int
    true_positive_rate: Value
    false_positive_rate: Value
    accuracy: float
    selection_rate: float


@dataclass(frozen=True)
class ThresholdEffect:
    """The effect of thresholds on the groups and on the gaps between them.

    Attributes
    ----------
    groups : mapping of group name to OperatingPoint
    overall : OperatingPoint
        Everyone; its threshold is NaN where the groups' thresholds differ.
    true_positive_rate_gap, false_positive_rate_gap : float or Undefined
    equalized_odds_difference, demographic_parity_difference : float or Undefined
    undefined : mapping of group name to reason
        Groups without one of the rates; they are not in the gaps.
    """

    groups: Mapping[str, OperatingPoint]
    overall: OperatingPoint
    true_positive_rate_gap: Value
    false_positive_rate_gap: Value
    equalized_odds_difference: Value
    demographic_parity_difference: Value
    undefined: Mapping[str, str] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        return bool(self.undefined)


def roc_by_group(label: Any, score: Any, groups: Any) -> dict[str, RocCurve | Undefined]:
    """ROC curve of every group; Undefined with its reason where a group has one class.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score : array-like of shape (n,), finite; any scale
    groups : array-like of shape (n,)

    Returns
    -------
    dict of group name to RocCurve or Undefined

    Raises
    ------
    InputError
        As in :func:`roc_auc`.

    Examples
    --------
    >>> curves = roc_by_group([0, 1, 0, 1, 1], [0.1, 0.8, 0.7, 0.4, 0.9], list("aaaab"))
    >>> curves["a"].true_positive_rate.tolist(), curves["a"].false_positive_rate.tolist()
    ([0.0, 0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5, 1.0])
    >>> str(curves["b"])
    'undefined (n+ = 1, n- = 0)'
    """
    label, score, grouping = _checked(label, score, groups)
    reasons = class_reasons(label, grouping)
    out: dict[str, RocCurve | Undefined] = {}
    for g, name in enumerate(grouping.names):
        if name in reasons:
            out[name] = Undefined(reasons[name])
            continue
        mine = grouping.code == g
        true, false, cuts = _steps(label[mine], score[mine])
        true, false, cuts = np.append(0, true), np.append(0, false), np.append(np.inf, cuts)
        # Points inside a straight piece are left out.
        turn = np.ones(len(cuts), bool)
        turn[1:-1] = np.diff(true, 2).astype(bool) | np.diff(false, 2).astype(bool)
        out[name] = RocCurve(
            int(mine.sum()), int(true[-1]), (false / false[-1])[turn], (true / true[-1])[turn], cuts[turn]
        )
    return out


def precision_recall_by_group(label: Any, score: Any, groups: Any) -> dict[str, PrecisionRecallCurve | Undefined]:
    """Precision and recall of every group; Undefined where a group has no positives.

    Precision depends on prevalence: groups with different prevalence have different curves even if a score separates them
    equally well.

    Parameters, errors
        As in :func:`roc_by_group`.

    Examples
    --------
    >>> curve = precision_recall_by_group([0, 1, 0, 1], [0.1, 0.8, 0.7, 0.4], list("aaaa"))["a"]
    >>> curve.recall.tolist(), curve.precision.round(2).tolist(), round(curve.average_precision, 3)
    ([0.5, 0.5, 1.0, 1.0], [1.0, 0.5, 0.67, 0.5], 0.833)
    """
    label, score, grouping = _checked(label, score, groups)
    out: dict[str, PrecisionRecallCurve | Undefined] = {}
    for g, name in enumerate(grouping.names):
        mine = grouping.code == g
        n, n_positive = int(mine.sum()), int(label[mine].sum())
        if n_positive == 0:
            out[name] = Undefined(f"n+ = 0, n- = {n}")
            continue
        true, false, cuts = _steps(label[mine], score[mine])
        precision, recall = true / (true + false), true / true[-1]
        average = float((np.diff(recall, prepend=0) * precision).sum())
        out[name] = PrecisionRecallCurve(n, n_positive, precision, recall, cuts, average)
    return out


def threshold_effect(
    label: Any, score: Any, groups: Any, thresholds: float | Mapping[str, float] = 0.5
) -> ThresholdEffect:
    """Rates of every group, and the gaps between groups, at one threshold for all or one per group.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score : array-like of shape (n,), finite; any scale that the thresholds are on
    groups : array-like of shape (n,)
    thresholds : float, or mapping of every group name to float
        A score at or above it counts as predicted positive.

    Returns
    -------
    ThresholdEffect

    Raises
    ------
    InputError
        As in :func:`roc_auc`; a group without a threshold, a threshold for an unknown group.

    Examples
    --------
    >>> label, score, sex = [0, 0, 1, 1, 0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9, 0.1, 0.2, 0.4, 0.6], list("FFFFMMMM")
    >>> threshold_effect(label, score, sex, 0.5).true_positive_rate_gap
    0.5
    >>> threshold_effect(label, score, sex, {"F": 0.7, "M": 0.4}).equalized_odds_difference
    0.0
    """
    label, score, grouping = _checked(label, score, groups)
    cuts = _cuts(thresholds, grouping)
    return _effect(label, (score >= cuts[grouping.code]).astype(np.float64), grouping, cuts)


def thresholds_at_specificity(
    label: Any, score: Any, groups: Any, specificity: float = 0.95, *, per_group: bool = False
) -> ThresholdEffect:
    """Sensitivity at a fixed specificity: the lowest threshold that keeps at least that share of negatives below it.

    With `per_group=False` the threshold is chosen on everyone, and the specificity of a group may differ; with
    `per_group=True` each group gets its own threshold. A threshold that is tested on the rows it was chosen on looks better
    than on new rows, above all in small groups: choose it on validation, then apply :func:`threshold_effect` to test.

    Parameters
    ----------
    label, score, groups
        As in :func:`threshold_effect`.
    specificity : float in [0, 1]
    per_group : bool

    Returns
    -------
    ThresholdEffect

    Raises
    ------
    InputError
        As in :func:`roc_auc`; specificity out of range; with `per_group`, a group without negatives.

    Examples
    --------
    >>> label, score, sex = [0, 0, 1, 1, 0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9, 0.1, 0.2, 0.4, 0.6], list("FFFFMMMM")
    >>> effect = thresholds_at_specificity(label, score, sex, 1.0)
    >>> {name: (g.threshold, g.true_positive_rate) for name, g in effect.groups.items()}
    {'F': (0.7, 1.0), 'M': (0.7, 0.0)}
    >>> effect = thresholds_at_specificity(label, score, sex, 1.0, per_group=True)
    >>> {name: (g.threshold, g.true_positive_rate) for name, g in effect.groups.items()}
    {'F': (0.7, 1.0), 'M': (0.4, 1.0)}
    """
    if not 0 <= specificity <= 1:
        raise InputError(f"specificity: {specificity} is not a share from 0 to 1")
    label, score, grouping = _checked(label, score, groups)
    if not per_group:
        cuts = np.full(len(grouping.names), _cut_at(label, score, specificity))
    else:
        found = []
        for g, name in enumerate(grouping.names):
            mine = grouping.code == g
            if label[mine].all():
                raise InputError(
                    f"groups: {name!r} has no negatives (n+ = {int(mine.sum())}), so no specificity; leave it out, or use "
                    "per_group=False"
                )
            found.append(_cut_at(label[mine], score[mine], specificity))
        cuts = np.array(found)
    return _effect(label, (score >= cuts[grouping.code]).astype(np.float64), grouping, cuts)


def equalized_odds_what_if(label: Any, score: Any, groups: Any, *, seed: int = 0) -> ThresholdEffect:
    """The effect of a rule by group that equalises both error rates on these rows (Hardt et al., NeurIPS 2016).

    By fairlearn's ThresholdOptimizer, which may draw at random between two thresholds; values are averages over 50 draws.
    Not a recommendation: the rule is tested on the labels it was fitted to, and needs the group for every decision.

    Parameters
    ----------
    label, score, groups
        As in :func:`threshold_effect`; scores in [0, 1].
    seed : int

    Returns
    -------
    ThresholdEffect
        Thresholds are NaN: a randomised rule has several.

    Raises
    ------
    InputError
        As in :func:`roc_auc`; fairlearn is not installed; a group has one class.
    """
    label, score, grouping = _checked(label, score, groups, probabilities=True)
    reasons = class_reasons(label, grouping)
    if reasons:
        name, reason = next(iter(reasons.items()))
        raise InputError(
            f"groups: {name!r} has {reason}; equalised odds needs both classes in every group: leave it out"
        )
    try:
        from fairlearn.postprocessing import ThresholdOptimizer
        from sklearn.base import BaseEstimator, ClassifierMixin
    except ImportError as error:
        raise InputError("fairlearn is not installed: pip install 'fairvlm[fairness]'") from error

    class Scores(ClassifierMixin, BaseEstimator):
        """A fitted model that returns the scores it is given: fairlearn needs an estimator."""

        def fit(self, rows: np.ndarray, label: np.ndarray) -> Scores:
            raise NotImplementedError("the scores are given")

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, rows: np.ndarray) -> np.ndarray:
            return np.asarray(rows)[:, 0]

    rule = ThresholdOptimizer(
        estimator=Scores(), constraints="equalized_odds", objective="balanced_accuracy_score", prefit=True,
        predict_method="predict",
    )  # fmt: skip
    names = np.array(grouping.names)[grouping.code]
    rule.fit(score[:, None], label.astype(int), sensitive_features=names)
    # Averages of draws, because fairlearn does not expose the probabilities.
    random = np.random.RandomState(seed)
    answers = [
        rule.predict(score[:, None], sensitive_features=names, random_state=random) for _ in range(_WHAT_IF_DRAWS)
    ]
    return _effect(label, np.mean(answers, axis=0), grouping, np.full(len(grouping.names), np.nan))


def _checked(
    label: Any, score: Any, groups: Any, probabilities: bool = False
) -> tuple[np.ndarray, np.ndarray, GroupCodes]:
    label = check_label(label)
    return label, check_score(score, len(label), probabilities=probabilities), check_groups(groups, len(label))


def _steps(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true positives, false positives, threshold) after each distinct score from the highest down."""
    order = np.argsort(-score, kind="stable")
    label, score = label[order], score[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    true = np.cumsum(label)[last].astype(np.float64)
    return true, last + 1 - true, score[last]


def _cuts(thresholds: float | Mapping[str, float], grouping: GroupCodes) -> np.ndarray:
    if not isinstance(thresholds, Mapping):
        return np.full(len(grouping.names), float(thresholds))
    for name in grouping.names:
        if name not in thresholds:
            raise InputError(f"thresholds: group {name!r} has none; give one for each of {', '.join(grouping.names)}")
    for name in thresholds:
        if name not in grouping.names:
            raise InputError(f"thresholds: there is no group {name!r}; there are {', '.join(grouping.names)}")
    return np.array([float(thresholds[name]) for name in grouping.names])


def _cut_at(label: np.ndarray, score: np.ndarray, specificity: float) -> float:
    """The lowest score with at least that share of negatives below it; just above all scores if there is none."""
    candidates = np.unique(score)
    below = np.searchsorted(np.sort(score[~label]), candidates, side="left") / np.count_nonzero(~label)
    enough = np.flatnonzero(below >= specificity - 1e-12)
    return float(candidates[enough[0]]) if len(enough) else float(np.nextafter(candidates[-1], np.inf))


def _effect(label: np.ndarray, positive: np.ndarray, grouping: GroupCodes, cuts: np.ndarray) -> ThresholdEffect:
    """`positive` is the probability of a positive answer for each row: 0 or 1 for plain thresholds."""
    groups = _rates(label, positive, grouping.code, len(grouping.names))
    everyone = {name: values[0] for name, values in _rates(label, positive, np.zeros(len(label), np.intp), 1).items()}
    wanted = ("accuracy", "selection_rate", "true_positive_rate", "false_positive_rate")
    summary = summarise(everyone, {name: groups[name][~np.isnan(groups[name])] for name in wanted})
    reasons = class_reasons(label, grouping)
    true = named(groups["true_positive_rate"], grouping.names, reasons)
    false = named(groups["false_positive_rate"], grouping.names, reasons)
    points = {
        name: OperatingPoint(
            float(cuts[g]),
            round(groups["n"][g]),
            round(groups["n_positive"][g]),
            true[name],
            false[name],
            float(groups["accuracy"][g]),
            float(groups["selection_rate"][g]),
        )
        for g, name in enumerate(grouping.names)
    }
    overall = OperatingPoint(
        float(cuts[0]) if len(set(cuts.tolist())) == 1 else float("nan"),
        len(label),
        int(label.sum()),
        *(
            float(everyone[name])
            for name in ("true_positive_rate", "false_positive_rate", "accuracy", "selection_rate")
        ),
    )
    gaps = {
        name: Undefined("fewer than two groups have a value") if np.isnan(summary[name]) else float(summary[name])
        for name in (
            "true_positive_rate_gap",
            "false_positive_rate_gap",
            "equalized_odds_difference",
            "demographic_parity_difference",
        )
    }
    return ThresholdEffect(points, overall, undefined=reasons, **gaps)


def _rates(label: np.ndarray, positive: np.ndarray, code: np.ndarray, n_groups: int) -> dict[str, np.ndarray]:
    counts = [
        np.bincount(code[part], weights=weight[part], minlength=n_groups)
        for part in (~label, label)
        for weight in (1 - positive, positive)
    ]
    tn, fp, fn, tp = counts
    return rates(tn, fp, fn, tp) | {"n": tn + fp + fn + tp, "n_positive": fn + tp}
