"""Ways to choose decision thresholds, by group or for all, and what they do; curves of every group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..fairness import (
    AttributeReport,
    FairnessReport,
    PrecisionRecallCurve,
    RocCurve,
    ThresholdEffect,
    Undefined,
    equalized_odds_what_if,
    precision_recall_by_group,
    roc_by_group,
    threshold_effect,
    thresholds_at_specificity,
)
from ..fairness.cohort import check_groups
from .group_order import group_order

_GAPS = (
    "true_positive_rate_gap",
    "false_positive_rate_gap",
    "equalized_odds_difference",
    "demographic_parity_difference",
)
# With fewer validation negatives a group cannot choose a threshold of its own.
FEWEST_NEGATIVES = 10
_POINT = (
    "threshold",
    "n",
    "n_positive",
    "true_positive_rate",
    "false_positive_rate",
    "accuracy",
    "selection_rate",
)


@dataclass(frozen=True)
class Extras:
    """What `fairvlm metrics` is asked for in addition to the report.

    Attributes
    ----------
    exclude : mapping of attribute to group names
    specificity : float or None
    group_thresholds : mapping of attribute to mapping of group to threshold
        Groups that are not named keep the threshold for all.
    what_if, curves : bool
    """

    exclude: Mapping[str, Sequence[str]] = field(default_factory=dict)
    specificity: float | None = None
    group_thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    what_if: bool = False
    curves: bool = False


@dataclass(frozen=True)
class Rule:
    """One way to choose thresholds, and what it does; Undefined with its reason where it is not possible."""

    key: str
    title: str
    effect: ThresholdEffect | Undefined

    def to_dict(self) -> dict[str, Any]:
        if isinstance(self.effect, Undefined):
            return {"rule": self.title, "undefined": self.effect.reason}
        effect = self.effect
        return {
            "rule": self.title,
            **{name: _plain(getattr(effect, name)) for name in _GAPS},
            "partial": effect.partial,
            "undefined_groups": dict(effect.undefined),
            "overall": _fields(effect.overall, _POINT),
            "groups": {name: _fields(point, _POINT) for name, point in effect.groups.items()},
        }


@dataclass(frozen=True)
class Curves:
    """ROC and precision-recall curve of one group."""

    roc: RocCurve | Undefined
    precision_recall: PrecisionRecallCurve | Undefined

    def to_dict(self) -> dict[str, Any]:
        """Arrays as lists; the first ROC threshold, which is infinite, is None."""
        wanted = (
            ("roc", self.roc, ("false_positive_rate", "true_positive_rate", "thresholds")),
            ("precision_recall", self.precision_recall, ("precision", "recall", "thresholds")),
        )
        out: dict[str, Any] = {}
        for key, curve, names in wanted:
            if isinstance(curve, Undefined):
                out[key] = {"undefined": curve.reason}
                continue
            out[key] = {name: [_plain(v) for v in getattr(curve, name).tolist()] for name in names}
            if isinstance(curve, PrecisionRecallCurve):
                out[key]["average_precision"] = curve.average_precision
        return out


def rules_of(
    label: np.ndarray, score: np.ndarray, groups: Mapping[str, np.ndarray], report: FairnessReport, extras: Extras
) -> dict[str, list[Rule]]:
    """Every rule that was asked for, by attribute; always the report's own threshold, where it has one.

    Raises
    ------
    InputError
        A threshold for an unknown attribute or group, or a group without one; a specificity outside [0, 1]; for the
        what-if, fairlearn is missing or the scores are not probabilities.
    """
    for name in extras.group_thresholds:
        if name not in groups:
            raise InputError(f"--group-threshold: no attribute {name!r}; there are {', '.join(groups) or 'none'}")
    if extras.what_if and report.threshold is None:
        raise InputError("--what-if: it needs scores from 0 to 1; map them there first (a sigmoid for logits)")
    out = {}
    for name, values in groups.items():
        rows, of_rows = _kept(values, extras.exclude.get(name, ()))
        facts = report.attributes[name]
        out[name] = list(_rules(label[rows], score[rows], of_rows, facts, report.threshold, extras))
    return out


def _rules(
    label: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    facts: AttributeReport,
    threshold: float | None,
    extras: Extras,
) -> Iterator[Rule]:
    data = (label, score, groups)
    if threshold is not None:
        yield Rule("at_threshold", f"threshold {threshold:g} for all", threshold_effect(*data, threshold))
    own = extras.group_thresholds.get(facts.name)
    if own:
        cuts = dict(own) if threshold is None else dict.fromkeys(facts.groups, threshold) | dict(own)
        yield Rule("group_thresholds", "the thresholds given by group", threshold_effect(*data, cuts))
    if (share := extras.specificity) is not None:
        target = f"specificity of at least {share:g}"
        yield Rule("specificity", f"{target}, one threshold for all", thresholds_at_specificity(*data, share))

        def per_group() -> ThresholdEffect:
            return thresholds_at_specificity(*data, share, per_group=True)

        without = {name: f"n- = {g.n_negative}" for name, g in facts.groups.items() if g.n_negative == 0}
        yield Rule("specificity_by_group", f"{target}, one threshold per group", _unless(without, per_group))
    if extras.what_if:
        yield Rule(
            "what_if",
            "what if: equalised odds by random thresholds per group",
            _unless(facts.undefined, lambda: equalized_odds_what_if(*data)),
        )


def _unless(missing: Mapping[str, str], effect: Callable[[], ThresholdEffect]) -> ThresholdEffect | Undefined:
    """The effect, or Undefined where a group cannot have this rule: it is named, not left out."""
    if missing:
        name, reason = next(iter(missing.items()))
        return Undefined(f"{name}: {reason}; --exclude it")
    return effect()


def curves_of(
    label: np.ndarray, score: np.ndarray, groups: Mapping[str, np.ndarray], exclude: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Curves]]:
    """Curves by attribute and group; the curves of everyone are under "", as the group "overall"."""
    out = {}
    for name, values in {"": np.full(len(label), "overall"), **groups}.items():
        rows, of_rows = _kept(values, exclude.get(name, ()))
        roc = roc_by_group(label[rows], score[rows], of_rows)
        precision = precision_recall_by_group(label[rows], score[rows], of_rows)
        out[name] = {group: Curves(roc[group], precision[group]) for group in roc}
    return out


def _kept(values: np.ndarray, exclude: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(rows outside the excluded groups, their group names as in the report)."""
    grouping = check_groups(values, len(values))
    names = np.array(grouping.names)[grouping.code]
    rows = np.flatnonzero(~np.isin(names, list(exclude)))
    return rows, names[rows]


@dataclass(frozen=True)
class GroupThresholds:
    """Thresholds by group, and the groups that got everyone's because validation has too few of their negatives."""

    thresholds: Mapping[str, float]
    borrowed: tuple[str, ...] = ()


def choose_thresholds(
    val: pd.DataFrame, test: pd.DataFrame, attribute: str, specificity: float, *, by_group: bool
) -> GroupThresholds:
    """Thresholds for the test split's groups that keep a share of validation negatives below them.

    Parameters
    ----------
    val, test : DataFrames with label, score and the attribute
    specificity : float in [0, 1]
    by_group : bool
        A threshold for each group. A group with fewer than 10 negatives on validation gets the threshold of everyone.

    Raises
    ------
    InputError
        Validation has no negatives.
    """
    names = group_order(test[attribute].astype(str))
    groups = val[attribute].astype(str).to_numpy()
    label, score = val["label"].to_numpy(), val["score"].to_numpy(float)
    common = thresholds_at_specificity(label, score, groups, specificity).overall.threshold
    own: dict[str, float] = {}
    if by_group:
        for name in names:
            mine = groups == name
            if np.count_nonzero(label[mine] == 0) >= FEWEST_NEGATIVES:
                effect = thresholds_at_specificity(label[mine], score[mine], groups[mine], specificity)
                own[name] = effect.overall.threshold
    borrowed = tuple(name for name in names if by_group and name not in own)
    return GroupThresholds({name: own.get(name, common) for name in names}, borrowed)


def effect_on(test: pd.DataFrame, attribute: str, thresholds: float | Mapping[str, float]) -> ThresholdEffect:
    """What thresholds do on the test split."""
    groups = test[attribute].astype(str).to_numpy()
    return threshold_effect(test["label"].to_numpy(), test["score"].to_numpy(float), groups, thresholds)


def threshold_sweep(test: pd.DataFrame, attribute: str, n_thresholds: int = 81) -> pd.DataFrame:
    """threshold, sensitivity, specificity, dpd, deodds of the test split at common thresholds over the scores' range."""
    rows = []
    for cut in np.linspace(test["score"].min(), test["score"].max(), n_thresholds).tolist():
        effect = effect_on(test, attribute, cut)
        everyone = effect.overall
        values = (
            everyone.true_positive_rate, everyone.false_positive_rate, effect.demographic_parity_difference,
            effect.equalized_odds_difference,
        )  # fmt: skip
        sensitivity, false_positive, dpd, deodds = (np.nan if isinstance(v, Undefined) else float(v) for v in values)
        rows.append((cut, sensitivity, 1 - false_positive, dpd, deodds))
    return pd.DataFrame(rows, columns=["threshold", "sensitivity", "specificity", "dpd", "deodds"])


def _fields(holder: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: _plain(getattr(holder, name)) for name in names}


def _plain(value: Any) -> Any:
    """JSON has neither Undefined nor numbers that are not finite."""
    if isinstance(value, Undefined) or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value
