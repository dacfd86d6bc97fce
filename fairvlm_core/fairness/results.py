"""Named results: an interval, a chance level, a group, an attribute. Frozen; `to_dict` gives JSON-ready values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .definitions import GROUP_METRICS, SUMMARY_METRICS
from .metrics import Undefined

Value = float | Undefined


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes
    ----------
    low, high : float
    confidence : float
        0.95 for a 95 % interval.
    method : str
        How it was computed; docs/fairness.md explains each.
    """

    low: float
    high: float
    confidence: float
    method: str

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Chance:
    """What a metric would be if the groups did not matter: its distribution under shuffled group labels.

    Attributes
    ----------
    expected : float
        Mean under shuffling: what chance alone gives with these group sizes.
    low, high : float
        Range of the shuffled values, with the report's confidence.
    p_value : float in (0, 1]
        Share of shuffles that are at least as unequal as the data, counting the data: (1 + k) / (1 + shuffles).
    p_holm : float in (0, 1]
        The same after Holm's correction over the attributes of the report.
    beyond : float
        Observed minus expected: the part that chance does not explain. Negative for an ES metric that is worse than chance,
        positive for a gap that is larger.
    """

    expected: float
    low: float
    high: float
    p_value: float
    p_holm: float
    beyond: float

    def to_dict(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True)
class GroupReport:
    """Metrics of one group, or of everyone. A rate is a share from 0 to 1, or :class:`Undefined` with its reason.

    Attributes
    ----------
    name : str
    n, n_positive, n_negative, n_patients : int
    auc : float or Undefined
    accuracy, true_positive_rate, false_positive_rate, selection_rate, f1, prevalence : float or Undefined
        At the report's threshold. F1 is 2 TP / (2 TP + FP + FN), undefined without a positive. The selection rate is the
        share predicted positive, prevalence the share with label 1.
    calibration_error : float or Undefined
        Expected calibration error over ten bins of equal width.
    calibration_error_by_chance : float or Undefined
        What a perfectly calibrated model would show in a group of this size.
    intervals : mapping of metric name to Interval
        Empty without resampling; no entry where there is no interval (a group of one).
    own : mapping of name to float or Undefined
        Metrics of your own.
    """

    name: str
    n: int
    n_positive: int
    n_patients: int
    auc: Value
    accuracy: Value
    true_positive_rate: Value
    false_positive_rate: Value
    selection_rate: Value
    f1: Value
    prevalence: Value
    calibration_error: Value
    calibration_error_by_chance: Value
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    own: Mapping[str, Value] = field(default_factory=dict)

    @property
    def n_negative(self) -> int:
        return self.n - self.n_positive

    def value(self, metric: str) -> Value:
        """A metric by its name, also one of your own."""
        return self.own[metric] if metric in self.own else getattr(self, metric)

    def to_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("n", "n_positive", "n_negative", "n_patients")}
        return counts | _plain(self, (*GROUP_METRICS, "calibration_error_by_chance")) | _intervals(self.intervals)


@dataclass(frozen=True)
class AttributeReport:
    """Metrics of one attribute (or intersection): its groups, how unequal they are, and what chance would give.

    Attributes
    ----------
    name : str
    n : int
        Rows used: all of the report's without those that were left out.
    overall : GroupReport
        Everyone in these rows; the "overall" of the ES metrics.
    groups : mapping of group name to GroupReport
        In sorted order, "Unknown" last.
    es_auc, es_accuracy : float or Undefined
        Overall / (1 + Σ_g |overall - group|).
    auc_spread : float or Undefined
        Σ_g |AUC - AUC_g|, as in the denominator of ES-AUC.
    auc_gap, accuracy_gap, true_positive_rate_gap, false_positive_rate_gap, f1_gap, calibration_error_gap, prevalence_gap
        Largest minus smallest group value.
    worst_group_auc : float or Undefined
    demographic_parity_difference : float or Undefined
        Gap of the selection rate.
    equalized_odds_difference : float or Undefined
        The larger of the gaps of true and false positive rate.
    undefined : mapping of group name to reason
        Groups without an AUC.
    partial : bool
        Whether there are any: ES-AUC, gaps of AUC and of rates, and equalised odds then use fewer groups.
    left_out : mapping of group name to n
        Removed by `exclude` or, for an intersection, by the smallest cell size.
    intervals : mapping of metric name to Interval
    chance : mapping of metric name to Chance
        Groups are shuffled within label for AUC and error rates, over everyone for the rest (docs/fairness.md).
    own : mapping of name to float or Undefined
        Gaps of metrics of your own.
    """

    name: str
    n: int
    overall: GroupReport
    groups: Mapping[str, GroupReport]
    es_auc: Value
    auc_spread: Value
    auc_gap: Value
    worst_group_auc: Value
    es_accuracy: Value
    accuracy_gap: Value
    demographic_parity_difference: Value
    equalized_odds_difference: Value
    true_positive_rate_gap: Value
    false_positive_rate_gap: Value
    f1_gap: Value
    calibration_error_gap: Value
    prevalence_gap: Value
    undefined: Mapping[str, str]
    left_out: Mapping[str, int]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    chance: Mapping[str, Chance] = field(default_factory=dict)
    own: Mapping[str, Value] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        return bool(self.undefined)

    @property
    def worst_group(self) -> str | None:
        """Name of the group with the lowest AUC; None where no group has one."""
        defined = {name: group.auc for name, group in self.groups.items() if not isinstance(group.auc, Undefined)}
        return min(defined, key=defined.__getitem__) if defined else None

    def value(self, metric: str) -> Value:
        """A metric that compares groups by its name, also one of your own."""
        return self.own[metric] if metric in self.own else getattr(self, metric)

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "partial": self.partial,
            "undefined_groups": dict(self.undefined),
            "left_out": dict(self.left_out),
            "worst_group": self.worst_group,
            **_plain(self, SUMMARY_METRICS),
            **_intervals(self.intervals),
            "chance": {name: chance.to_dict() for name, chance in self.chance.items()},
            "overall": self.overall.to_dict(),
            "groups": {name: group.to_dict() for name, group in self.groups.items()},
        }


def _plain(result: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Values by name, None where undefined, with the reasons under "undefined"."""
    values = {name: getattr(result, name) for name in names} | result.own
    reasons = {name: value.reason for name, value in values.items() if isinstance(value, Undefined)}
    return {name: None if name in reasons else value for name, value in values.items()} | {"undefined": reasons}


def _intervals(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {"intervals": {name: interval.to_dict() for name, interval in intervals.items()}}
