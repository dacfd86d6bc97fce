"""The fairness report: every metric with its n, its interval and its chance level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from .assemble import chance_levels, group_reports, summary_intervals
from .cohort import (
    Cohort,
    GroupCodes,
    check_cohort,
    check_confidence,
    check_counts,
    check_score,
    check_threshold,
    one_group,
)
from .definitions import SUMMARY_METRICS, Metric, defined, find_metric, group_values, summarise
from .metrics import Undefined
from .resample import Draws, bootstrap, shuffle
from .results import AttributeReport, GroupReport, Value


@dataclass(frozen=True)
class FairnessReport:
    """How good a score is overall and in each group, and whether differences between groups are more than chance.

    Made by :meth:`from_predictions`. `report["race"].groups["Black"].auc` is the AUC of a group,
    `report["race"].intervals["es_auc"]` the interval of ES-AUC, `report["race"].chance["es_auc"]` its value under shuffled
    groups; `to_dict` gives all of it as JSON-ready data.

    Attributes
    ----------
    overall : GroupReport
    attributes : mapping of attribute name to AttributeReport
    intersections : mapping of "a × b" to AttributeReport
    threshold : float or None
        A score at or above it counts as predicted positive; None: only metrics that need no threshold.
    confidence : float
    n_resamples, n_permutations, seed : int
    """

    overall: GroupReport
    attributes: Mapping[str, AttributeReport]
    intersections: Mapping[str, AttributeReport]
    threshold: float | None
    confidence: float
    n_resamples: int
    n_permutations: int
    seed: int

    @classmethod
    def from_predictions(
        cls,
        label: Any,
        score: Any,
        attributes: Mapping[str, Any],
        *,
        patients: Any = None,
        threshold: float | None = 0.5,
        n_resamples: int = 2000,
        n_permutations: int = 2000,
        confidence: float = 0.95,
        seed: int = 0,
        exclude: Mapping[str, Sequence[str]] | None = None,
        intersections: Sequence[Sequence[str]] | int = (),
        min_cell: int = 20,
        metrics: Sequence[str] = (),
    ) -> FairnessReport:
        """Compute the report.

        Parameters
        ----------
        label : array-like of shape (n,), 0 or 1
        score : array-like of shape (n,)
            Probabilities in [0, 1]; any finite numbers with `threshold=None`.
        attributes : mapping of name to array-like of shape (n,)
            Group of each row; blank, None, NaN and -1 become the group "Unknown".
        patients : array-like of shape (n,), optional
            Rows of one patient are resampled and shuffled together. Default: every row is a patient.
        threshold : float in [0, 1], or None
            Predicted positive where score >= threshold.
        n_resamples : int
            Bootstrap resamples for the intervals; 0 for none.
        n_permutations : int
            Shuffles of the groups for the chance levels; 0 for none.
        confidence : float in [0.5, 1)
        seed : int
            The same seed gives the same report, for any number of processors.
        exclude : mapping of attribute to group names, optional
            Groups that are left out of that attribute, as if their rows did not exist. Recorded in `left_out`.
        intersections : 2, 3 or a sequence of attribute names to cross
            2 crosses every pair of attributes, 3 every triple.
        min_cell : int
            Cells of an intersection with fewer rows are left out and listed.
        metrics : sequence of str
            Metrics of your own, registered with :func:`fairvlm_core.fairness.metric`.

        Raises
        ------
        InputError
            Lengths differ, labels other than 0 and 1 or of one class only, scores that are not finite or (with a threshold)
            not in [0, 1], an unknown attribute, group or metric, or a setting out of range.

        Examples
        --------
        >>> report = FairnessReport.from_predictions(
        ...     label=[0, 1, 0, 1, 0, 1, 1], score=[0.1, 0.8, 0.7, 0.4, 0.2, 0.9, 0.3],
        ...     attributes={"site": list("aabbaac")}, n_resamples=0, n_permutations=0)
        >>> site = report["site"]
        >>> round(site.es_auc, 4), site.partial, str(site.groups["c"].auc)
        (0.4167, True, 'undefined (n+ = 1, n- = 0)')
        >>> report.to_dict()["attributes"]["site"]["groups"]["c"]["auc"] is None
        True
        """
        check_counts(n_resamples=n_resamples, n_permutations=n_permutations, seed=seed)
        check_confidence(confidence)
        threshold = check_threshold(threshold)
        cohort = check_cohort(
            label, attributes, patients=patients, exclude=exclude, intersections=intersections, min_cell=min_cell
        )
        score = check_score(score, cohort.n, probabilities=threshold is not None)
        own = _own(metrics, threshold)
        order = np.argsort(score)
        whole = one_group(cohort.n)
        values = group_values(cohort.label, score, whole.code, 1, threshold, order, own)
        points = [
            _point(cohort, score, g, threshold, values, order, own) for g in (*cohort.groupings, *cohort.intersections)
        ]
        groupings = [point.grouping for point in points if point.groups]
        draws: dict[str, Draws] = {}
        everyone: Draws | None = None
        chance: dict[str, dict[str, np.ndarray]] = {}
        if n_resamples:
            # Everyone is handled as an attribute with one group.
            everyone, *rest = bootstrap(
                cohort, [score], [whole, *groupings], threshold=threshold, n_resamples=n_resamples, seed=seed, own=own
            )[0]
            draws = {g.name: d for g, d in zip(groupings, rest, strict=True)}
        if n_permutations and groupings:
            shuffled = shuffle(
                cohort, score, groupings, threshold=threshold, n_permutations=n_permutations, seed=seed, own=own
            )
            chance = {g.name: drawn for g, drawn in zip(groupings, shuffled, strict=True)}
        overall = group_reports(
            cohort, score, whole, values, threshold, everyone.groups if everyone else None, confidence
        )
        reports = {
            point.grouping.name: _attribute(cohort, score, point, threshold, draws.get(point.grouping.name), confidence)
            for point in points
        }
        n_attributes = len(cohort.groupings)
        for part in (points[:n_attributes], points[n_attributes:]):
            names = [point.grouping.name for point in part]
            for name, levels in chance_levels({n: reports[n] for n in names}, chance, confidence).items():
                reports[name] = replace(reports[name], chance=levels)
        return cls(
            overall=overall["overall"],
            attributes={g.name: reports[g.name] for g in cohort.groupings},
            intersections={g.name: reports[g.name] for g in cohort.intersections},
            threshold=threshold,
            confidence=confidence,
            n_resamples=n_resamples,
            n_permutations=n_permutations,
            seed=seed,
        )

    def __getitem__(self, name: str) -> AttributeReport:
        for results in (self.attributes, self.intersections):
            if name in results:
                return results[name]
        there = ", ".join((*self.attributes, *self.intersections)) or "none"
        raise InputError(f"attribute: there is no {name!r} in this report; there are {there}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: numbers, text, lists and None; where a value is None, "undefined" has its reason."""
        return {
            "overall": self.overall.to_dict(),
            "attributes": {name: result.to_dict() for name, result in self.attributes.items()},
            "intersections": {name: result.to_dict() for name, result in self.intersections.items()},
            "settings": {
                "threshold": self.threshold,
                "confidence": self.confidence,
                "n_resamples": self.n_resamples,
                "n_permutations": self.n_permutations,
                "seed": self.seed,
                "correction": "Holm over attributes",
            },
        }


def _own(names: Sequence[str], threshold: float | None) -> list[Metric]:
    """The metrics of your own by name, checked."""
    found = [find_metric(name) for name in names]
    for one in found:
        if one.function is None:
            raise InputError(
                f"metrics: {one.name!r} is not a metric of your own; the report has the built-in ones anyway"
            )
        if one.decision and threshold is None:
            raise InputError(f"metrics: {one.name!r} needs a threshold; pass a probability such as 0.5")
    return found


@dataclass(frozen=True)
class _Point:
    """Values of one attribute or intersection; `groups` is empty where no cell is left."""

    grouping: GroupCodes
    overall: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    summary: dict[str, np.ndarray]


def _point(
    cohort: Cohort,
    score: np.ndarray,
    grouping: GroupCodes,
    threshold: float | None,
    everyone: dict[str, np.ndarray],
    order: np.ndarray,
    own: Sequence[Metric],
) -> _Point:
    label, score = grouping.of(cohort.label), grouping.of(score)
    if not grouping.names:
        return _Point(grouping, everyone, {}, {})
    if grouping.rows is not None:
        order = np.argsort(score)
        everyone = group_values(label, score, np.zeros(len(label), np.intp), 1, threshold, order, own)
    groups = group_values(label, score, grouping.code, len(grouping.names), threshold, order, own)
    overall = {name: values[0] for name, values in everyone.items()}
    summary = summarise(overall, {name: groups[name][keep] for name, keep in defined(groups).items()})
    return _Point(grouping, everyone, groups, summary)


def _attribute(
    cohort: Cohort, score: np.ndarray, point: _Point, threshold: float | None, draws: Draws | None, confidence: float
) -> AttributeReport:
    grouping = point.grouping
    n = len(grouping.code)
    rows = grouping.rows if grouping.names else None
    whole = GroupCodes("overall", ("overall",), np.zeros(n if grouping.names else cohort.n, np.intp), rows, {})
    overall_draws = {name: values[None] for name, values in draws.overall.items()} if draws else None
    overall = group_reports(cohort, score, whole, point.overall, threshold, overall_draws, confidence)["overall"]
    reports, intervals = {}, {}
    if point.groups:
        group_draws = draws.groups if draws else None
        reports = group_reports(cohort, score, grouping, point.groups, threshold, group_draws, confidence)
    if draws is not None:
        intervals = summary_intervals(point.overall, point.groups, point.summary, draws, confidence)
    return AttributeReport(
        name=grouping.name,
        n=n,
        overall=overall,
        groups=reports,
        undefined={name: group.auc.reason for name, group in reports.items() if isinstance(group.auc, Undefined)},
        left_out=dict(grouping.left_out),
        intervals=intervals,
        own={name: _summary_value(name, point) for name in point.summary if name not in SUMMARY_METRICS},
        **{name: _summary_value(name, point) for name in SUMMARY_METRICS},  # type: ignore[arg-type]
    )


def _summary_value(name: str, point: _Point) -> Value:
    if not point.groups:
        return Undefined("no cell is large enough")
    if name not in point.summary:
        return Undefined("no threshold")
    value = float(point.summary[name])
    if value == value:
        return value
    if len(point.grouping.names) == 1:
        return Undefined("one group only")
    return Undefined("too few groups have a value")
