"""Named results: an interval, what chance gives, a group, an attribute. All frozen, all JSON-ready through `to_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .figures import Undefined
from .summaries import GROUP_FIGURES, SUMMARY_FIGURES

Figure = float | Undefined


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes
    ----------
    low, high : float
    confidence : float
        0.95 for a 95 % interval.
    method : str
        How it was made; docs/fairness.md explains each.
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
        return {"low": self.low, "high": self.high, "confidence": self.confidence, "method": self.method}


@dataclass(frozen=True)
class Chance:
    """What a figure would be if the groups did not matter: its distribution under shuffled group labels.

    Attributes
    ----------
    expected : float
        Mean under shuffling: what chance alone gives with these group sizes.
    low, high : float
        Where shuffled values lie with the report's confidence.
    p_value : float in (0, 1]
        Share of shuffles that are at least as unequal as the data, the data counted in: (1 + k) / (1 + shuffles).
    p_holm : float in (0, 1]
        The same after Holm's correction over the attributes of the report.
    beyond : float
        Observed minus expected: the part that chance does not give. Negative for an ES figure that is worse than chance,
        positive for a gap that is larger.
    """

    expected: float
    low: float
    high: float
    p_value: float
    p_holm: float
    beyond: float

    def to_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("expected", "low", "high", "p_value", "p_holm", "beyond")}


@dataclass(frozen=True)
class GroupReport:
    """Figures of one group, or of everyone. A rate is a share from 0 to 1, or :class:`Undefined` with its reason.

    Attributes
    ----------
    name : str
    n, n_positive, n_negative, n_patients : int
    auc : float or Undefined
    accuracy, true_positive_rate, false_positive_rate, selection_rate, prevalence : float or Undefined
        At the report's threshold. The selection rate is the share predicted positive, prevalence the share with label 1.
    calibration_error : float or Undefined
        Expected calibration error over ten bins of equal width.
    calibration_error_by_chance : float or Undefined
        What a perfectly calibrated model would show in a group of this size.
    intervals : mapping of figure name to Interval
        Empty without resampling; no entry where there is none to be had (a group of one).
    """

    name: str
    n: int
    n_positive: int
    n_patients: int
    auc: Figure
    accuracy: Figure
    true_positive_rate: Figure
    false_positive_rate: Figure
    selection_rate: Figure
    prevalence: Figure
    calibration_error: Figure
    calibration_error_by_chance: Figure
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def n_negative(self) -> int:
        return self.n - self.n_positive

    def to_dict(self) -> dict[str, Any]:
        counts = {
            "n": self.n,
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "n_patients": self.n_patients,
        }
        return counts | _figures(self, (*GROUP_FIGURES, "calibration_error_by_chance")) | _intervals(self.intervals)


@dataclass(frozen=True)
class AttributeReport:
    """Figures of one attribute (or intersection): its groups, how unequal they are, and what chance would give.

    Attributes
    ----------
    name : str
    n : int
        Rows in these figures: all of the report's, less what was left out.
    overall : GroupReport
        Everyone in these rows; the "overall" of the ES figures.
    groups : mapping of group name to GroupReport
        In sorted order, "Unknown" last.
    es_auc, es_accuracy : float or Undefined
        Overall / (1 + Σ_g |overall - group|).
    auc_spread : float or Undefined
        Σ_g |AUC - AUC_g|, the denominator's part of ES-AUC.
    auc_gap, accuracy_gap, true_positive_rate_gap, false_positive_rate_gap, calibration_error_gap, prevalence_gap
        Largest minus smallest group value.
    worst_group_auc : float or Undefined
    demographic_parity_difference : float or Undefined
        Gap of the selection rate.
    equalized_odds_difference : float or Undefined
        The larger of the gaps of true and false positive rate.
    undefined : mapping of group name to reason
        Groups without an AUC.
    partial : bool
        Whether there are any: then ES-AUC, gaps of AUC and of the rates, and equalised odds are of fewer groups.
    left_out : mapping of group name to n
        Removed by `exclude` or, for an intersection, by the smallest cell size.
    intervals : mapping of figure name to Interval
    chance : mapping of figure name to Chance
        The null is that of docs/fairness.md: within label for AUC and error rates, over everyone for the rest.
    """

    name: str
    n: int
    overall: GroupReport
    groups: Mapping[str, GroupReport]
    es_auc: Figure
    auc_spread: Figure
    auc_gap: Figure
    worst_group_auc: Figure
    es_accuracy: Figure
    accuracy_gap: Figure
    demographic_parity_difference: Figure
    equalized_odds_difference: Figure
    true_positive_rate_gap: Figure
    false_positive_rate_gap: Figure
    calibration_error_gap: Figure
    prevalence_gap: Figure
    undefined: Mapping[str, str]
    left_out: Mapping[str, int]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    chance: Mapping[str, Chance] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        return bool(self.undefined)

    @property
    def worst_group(self) -> str | None:
        """Name of the group with the lowest AUC; None where no group has one."""
        defined = {name: group.auc for name, group in self.groups.items() if not isinstance(group.auc, Undefined)}
        return min(defined, key=defined.__getitem__) if defined else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "partial": self.partial,
            "undefined_groups": dict(self.undefined),
            "left_out": dict(self.left_out),
            "worst_group": self.worst_group,
            **_figures(self, SUMMARY_FIGURES),
            **_intervals(self.intervals),
            "chance": {name: chance.to_dict() for name, chance in self.chance.items()},
            "overall": self.overall.to_dict(),
            "groups": {name: group.to_dict() for name, group in self.groups.items()},
        }


def _figures(result: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Values by name, None for undefined ones, and the reasons of those under "undefined"."""
    values = {name: getattr(result, name) for name in names}
    reasons = {name: value.reason for name, value in values.items() if isinstance(value, Undefined)}
    return {name: None if name in reasons else value for name, value in values.items()} | {"undefined": reasons}


def _intervals(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {"intervals": {name: interval.to_dict() for name, interval in intervals.items()}}
