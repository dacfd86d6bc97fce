"""What `fairvlm metrics` says beyond the report: thresholds of a group, a fixed specificity, the what-if, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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

_GAPS = (
    "true_positive_rate_gap",
    "false_positive_rate_gap",
    "equalized_odds_difference",
    "demographic_parity_difference",
)
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
    """What is asked for beyond the report.

    Attributes
    ----------
    exclude : mapping of attribute to group names
    specificity : float or None
    group_thresholds : mapping of attribute to mapping of group to threshold
        A group that is not named keeps the threshold for all.
    what_if, curves : bool
    """

    exclude: Mapping[str, Sequence[str]] = field(default_factory=dict)
    specificity: float | None = None
    group_thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    what_if: bool = False
    curves: bool = False


@dataclass(frozen=True)
class Rule:
    """One way to choose thresholds, and what it does; Undefined with its reason where it cannot be had."""

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


def parse_exclude(items: Sequence[str]) -> dict[str, list[str]]:
    """
    >>> parse_exclude(["race=Unknown", "race=Asian"])
    {'race': ['Unknown', 'Asian']}
    """
    found: dict[str, list[str]] = {}
    for item in items:
        name, sign, group = item.partition("=")
        if not (sign and name.strip() and group.strip()):
            raise InputError(f"--exclude: {item!r} is not ATTRIBUTE=GROUP, such as race=Unknown")
        found.setdefault(name.strip(), []).append(group.strip())
    return found


def parse_group_thresholds(items: Sequence[str]) -> dict[str, dict[str, float]]:
    """
    >>> parse_group_thresholds(["race=Black:0.4", "race=Asian:0.45"])
    {'race': {'Black': 0.4, 'Asian': 0.45}}
    """
    found: dict[str, dict[str, float]] = {}
    for item in items:
        name, _, rest = item.partition("=")
        group, _, cut = rest.rpartition(":")
        try:
            value = float(cut)
        except ValueError:
            value = np.nan
        if not (name.strip() and group.strip() and np.isfinite(value)):
            raise InputError(f"--group-threshold: {item!r} is not ATTRIBUTE=GROUP:NUMBER, such as race=Black:0.4")
        found.setdefault(name.strip(), {})[group.strip()] = value
    return found


def rules_of(
    label: np.ndarray, score: np.ndarray, groups: Mapping[str, np.ndarray], report: FairnessReport, extras: Extras
) -> dict[str, list[Rule]]:
    """Every rule that was asked for, by attribute; the report's own threshold always, where it has one.

    Raises
    ------
    InputError
        A threshold for an attribute or a group that is not there, or a group without one; a specificity that is no share;
        for the what-if, fairlearn is missing or the scores are no probabilities.
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
):
    data = (label, score, groups)
    if threshold is not None:
        yield Rule("at_threshold", f"threshold {threshold:g} for all", threshold_effect(*data, threshold))
    own = extras.group_thresholds.get(facts.name)
    if own:
        cuts = dict(own) if threshold is None else dict.fromkeys(facts.groups, threshold) | dict(own)
        yield Rule("group_thresholds", "the thresholds given by group", threshold_effect(*data, cuts))
    if extras.specificity is not None:
        target = f"specificity of at least {extras.specificity:g}"
        yield Rule(
            "specificity", f"{target}, one threshold for all", thresholds_at_specificity(*data, extras.specificity)
        )

        def per_group() -> ThresholdEffect:
            return thresholds_at_specificity(*data, extras.specificity, per_group=True)

        without = {name: f"n- = {g.n_negative}" for name, g in facts.groups.items() if g.n_negative == 0}
        yield Rule("specificity_by_group", f"{target}, a threshold a group", _unless(without, per_group))
    if extras.what_if:
        yield Rule(
            "what_if",
            "what if: equalised odds by random thresholds a group",
            _unless(facts.undefined, lambda: equalized_odds_what_if(*data)),
        )


def _unless(missing: Mapping[str, str], effect: Callable[[], ThresholdEffect]) -> ThresholdEffect | Undefined:
    """A rule needs every group; one that cannot have it is named instead of dropped."""
    if missing:
        name, reason = next(iter(missing.items()))
        return Undefined(f"{name}: {reason}; --exclude it")
    return effect()


def curves_of(
    label: np.ndarray, score: np.ndarray, groups: Mapping[str, np.ndarray], exclude: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Curves]]:
    """Curves by attribute and group; under "" those of everyone, as the group "overall"."""
    out = {}
    for name, values in {"": np.full(len(label), "overall"), **groups}.items():
        rows, of_rows = _kept(values, exclude.get(name, ()))
        roc = roc_by_group(label[rows], score[rows], of_rows)
        precision = precision_recall_by_group(label[rows], score[rows], of_rows)
        out[name] = {group: Curves(roc[group], precision[group]) for group in roc}
    return out


def _kept(values: np.ndarray, exclude: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(rows that no excluded group holds, their group names as the report has them)."""
    grouping = check_groups(values, len(values))
    names = np.array(grouping.names)[grouping.code]
    rows = np.flatnonzero(~np.isin(names, list(exclude)))
    return rows, names[rows]


def _fields(holder: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: _plain(getattr(holder, name)) for name in names}


def _plain(value: Any) -> Any:
    """JSON has neither Undefined nor numbers that are not finite."""
    if isinstance(value, Undefined) or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value
