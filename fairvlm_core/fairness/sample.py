"""What comparisons share: several scores of the same rows, their metrics, and the resamples that all scores use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError
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
from .definitions import METRICS, POSITIVES, Metric, defined, find_metric, group_values, summarise
from .metrics import Undefined
from .resample import Draws, bootstrap

# With fewer patients a standard error is not trustworthy: nominal 95 % intervals of an AUC difference cover 29 to 84 %
# with 2 patients of a class, 74 to 94 % with 5, 86 to 95 % with 8 (docs/fairness.md).
MIN_PATIENTS = 8
# A standard error below this is rounding.
ROUNDING = 1e-12
NEVER_VARIES = "the same in every resample of the patients"
FEW_RESAMPLES = "too few resamples have a value"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cell:
    """One metric of every score, on the rows that it is computed on.

    Attributes
    ----------
    metric : str
    attribute, group : str or None
        Both None for everyone; group None for a metric that compares groups.
    rows : intp ndarray of shape (n,)
        Rows of the sample.
    label, patient : ndarrays of shape (n,); patient may be None
    values : float64 ndarray, one per score
    draws : list of float64 ndarrays of shape (resamples,), one per score
    """

    metric: str
    attribute: str | None
    group: str | None
    rows: np.ndarray
    label: np.ndarray
    patient: np.ndarray | None
    values: np.ndarray
    draws: list[np.ndarray]

    @property
    def names(self) -> dict[str, Any]:
        """What every result says about its cell."""
        names = {name: getattr(self, name) for name in ("metric", "attribute", "group")}
        return names | {"n": len(self.rows), "n_positive": int(self.label.sum())}

    @property
    def n_patients(self) -> int:
        return len(self.rows) if self.patient is None else int(self.patient.max()) + 1

    def undefined(self) -> Undefined | None:
        """The reason where a score has no value."""
        if not np.isnan(self.values).any():
            return None
        if METRICS[self.metric].compares_groups:
            return Undefined("too few groups have a value")
        n_positive = int(self.label.sum())
        return Undefined(f"n+ = {n_positive}, n- = {len(self.rows) - n_positive}")

    def too_few(self) -> str | None:
        """The reason where there are too few patients for an interval.

        A metric that compares groups is about groups of these sizes, however small; it only needs two patients.
        """
        metric = METRICS[self.metric]
        if metric.compares_groups:
            return None if self.n_patients > 1 else "a single patient"
        for name in metric.needs or ("",):
            rows = np.ones(len(self.rows), bool) if not name else self.label == (name == POSITIVES)
            n = int(rows.sum()) if self.patient is None else len(np.unique(self.patient[rows]))
            if n < MIN_PATIENTS:
                who = f"{name} patient" if name else "patient"
                return f"{n} {who}{'' if n == 1 else 's'}, an interval needs {MIN_PATIENTS}"
        return None


@dataclass(frozen=True)
class Sample:
    """Checked input of a comparison, every metric of every score, and its bootstrap draws.

    Attributes
    ----------
    metric : Metric
    cohort : Cohort
    scores : list of float64 ndarray of shape (n,)
    threshold : float or None
    confidence : float
    groupings : list of GroupCodes
        The first is everyone as one group.
    points, draws : list (scores) of lists (groupings)
        Group metrics and summaries: of the data, and of the resamples.
    """

    metric: Metric
    cohort: Cohort
    scores: list[np.ndarray]
    threshold: float | None
    confidence: float
    groupings: list[GroupCodes]
    points: list[list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]]
    draws: list[list[Draws]]

    def cell(self, place: int, group: int | None, metric: str) -> Cell:
        """One metric of grouping `place`: of its group number `group`, or (None) one that compares its groups."""
        grouping = self.groupings[place]
        every = range(len(self.scores))
        if group is None:
            values = [float(self.points[s][place][1].get(metric, np.nan)) for s in every]
            draws = [self.draws[s][place].summary[metric] for s in every]
            rows = np.arange(len(grouping.code))
        else:
            values = [float(self.points[s][place][0][metric][group]) for s in every]
            draws = [self.draws[s][place].groups[metric][group] for s in every]
            rows = np.flatnonzero(grouping.code == group)
        rows = rows if grouping.rows is None else grouping.rows[rows]
        patient = self.cohort.patient
        return Cell(
            metric,
            None if place == 0 else grouping.name,
            None if place == 0 or group is None else grouping.names[group],
            rows,
            self.cohort.label[rows],
            None if patient is None else np.unique(patient[rows], return_inverse=True)[1],
            np.array(values),
            draws,
        )

    def arranged(
        self, result_of: Callable[[Cell], Result]
    ) -> tuple[Result, dict[str, Result], dict[str, dict[str, Result]]]:
        """(everyone's result, by attribute where the metric compares groups, by attribute and group)."""
        base = self.metric.base
        places = list(enumerate(self.groupings))[1:]
        by_attribute = {}
        if self.metric.compares_groups:
            by_attribute = {g.name: result_of(self.cell(place, None, self.metric.name)) for place, g in places}
        by_group = {
            grouping.name: {name: result_of(self.cell(place, g, base)) for g, name in enumerate(grouping.names)}
            for place, grouping in places
        }
        return result_of(self.cell(0, 0, base)), by_attribute, by_group


def prepare(
    label: Any,
    scores: Sequence[Any],
    names: Sequence[str],
    attributes: Mapping[str, Any],
    *,
    metric: str,
    patients: Any,
    threshold: float | None,
    n_resamples: int,
    confidence: float,
    seed: int,
    exclude: Mapping[str, Sequence[str]] | None,
) -> Sample:
    """Check the input, compute the metrics of every score, and draw the resamples that all scores share."""
    found = find_metric(metric)
    check_counts(n_resamples=n_resamples, seed=seed)
    if n_resamples < 2:
        raise InputError(f"n_resamples: {n_resamples} is too few for an interval; use 1000 or more")
    check_confidence(confidence)
    threshold = check_threshold(threshold) if found.needs_threshold else None
    if found.needs_threshold and threshold is None:
        raise InputError(f"threshold: {metric} needs one; pass a probability such as 0.5")
    own = [METRICS[found.base]] if found.own else []
    cohort = check_cohort(label, attributes, patients=patients, exclude=exclude)
    checked = [
        check_score(score, cohort.n, probabilities=threshold is not None, name=name)
        for score, name in zip(scores, names, strict=True)
    ]
    groupings = [one_group(cohort.n), *cohort.groupings]
    draws = bootstrap(cohort, checked, groupings, threshold=threshold, n_resamples=n_resamples, seed=seed, own=own)
    points = [[_values(cohort, score, grouping, threshold, own) for grouping in groupings] for score in checked]
    return Sample(found, cohort, checked, threshold, confidence, groupings, points, draws)


def _values(
    cohort: Cohort, score: np.ndarray, grouping: GroupCodes, threshold: float | None, own: Sequence[Metric]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(group metrics, summaries) of the data."""
    label, score = grouping.of(cohort.label), grouping.of(score)
    groups = group_values(label, score, grouping.code, len(grouping.names), threshold, own=own)
    overall = {
        name: values[0]
        for name, values in group_values(label, score, np.zeros(len(label), np.intp), 1, threshold, own=own).items()
    }
    return groups, summarise(overall, {name: groups[name][keep] for name, keep in defined(groups).items()})
