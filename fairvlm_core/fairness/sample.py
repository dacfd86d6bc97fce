"""What the comparisons share: several scores on the same rows, their figures, and the resamples they all see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .cohort import (
    Cohort,
    Grouping,
    check_cohort,
    check_confidence,
    check_counts,
    check_score,
    check_threshold,
    one_group,
)
from .figures import Undefined
from .resample import Draws, bootstrap
from .summaries import GROUP_FIGURES, defined, group_figures, summarise

# Metrics that compare groups, with the group figure that each is made of.
COMPARES = {
    "es_auc": "auc",
    "auc_spread": "auc",
    "auc_gap": "auc",
    "worst_group_auc": "auc",
    "es_accuracy": "accuracy",
    "accuracy_gap": "accuracy",
    "demographic_parity_difference": "selection_rate",
    "equalized_odds_difference": "true_positive_rate",
    "true_positive_rate_gap": "true_positive_rate",
    "false_positive_rate_gap": "false_positive_rate",
    "calibration_error_gap": "calibration_error",
}
METRICS = (*(name for name in GROUP_FIGURES if name != "prevalence"), *COMPARES)
# Which patients a group's figure rests on, where it is not all of them.
_RESTS_ON = {
    "auc": ("positive", "negative"),
    "true_positive_rate": ("positive",),
    "false_positive_rate": ("negative",),
}
# With fewer of them a standard error says little: nominal 95 % intervals of an AUC difference cover 29 to 84 % with 2
# patients of a class, 74 to 94 % with 5, 86 to 95 % with 8 (docs/fairness.md).
MIN_PATIENTS = 8
# Below this a standard error is rounding.
NOTHING = 1e-12
NEVER_VARIES = "the same in every resample of the patients"


@dataclass(frozen=True)
class Sample:
    """Checked input of a comparison, every figure of every score, and its bootstrap draws.

    Attributes
    ----------
    cohort : Cohort
    scores : list of float64 ndarray of shape (n,)
    groupings : list of Grouping
        The first is everyone as one group.
    base : str
        The group figure that the metric is made of.
    confidence : float
    points, draws : list (scores) of lists (groupings) of group figures and summaries, as they are and resampled
    """

    cohort: Cohort
    scores: list[np.ndarray]
    groupings: list[Grouping]
    base: str
    confidence: float
    points: list[list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]]
    draws: list[list[Draws]]

    def of(self, place: int, group: int | None, figure: str) -> Cell:
        """One figure of grouping `place`, of one of its groups or (None) of what compares them."""
        grouping = self.groupings[place]
        every = range(len(self.scores))
        if group is None:
            values = [float(self.points[s][place][1].get(figure, np.nan)) for s in every]
            columns = [self.draws[s][place].summary[figure] for s in every]
            rows = np.arange(len(grouping.code))
        else:
            values = [float(self.points[s][place][0][figure][group]) for s in every]
            columns = [self.draws[s][place].groups[figure][group] for s in every]
            rows = np.flatnonzero(grouping.code == group)
        rows = rows if grouping.rows is None else grouping.rows[rows]
        label = self.cohort.label[rows]
        patient = None
        if self.cohort.patient is not None:
            patient = np.unique(self.cohort.patient[rows], return_inverse=True)[1]
        place_of = {
            "metric": figure,
            "attribute": None if place == 0 else grouping.name,
            "group": None if place == 0 or group is None else grouping.names[group],
            "n": len(rows),
            "n_positive": int(label.sum()),
        }
        return Cell(place_of, rows, label, patient, np.array(values), columns, compares_groups=group is None)


@dataclass(frozen=True)
class Cell:
    """One figure of every score on the rows that it is computed on; `place` names it as the results do."""

    place: dict[str, Any]
    rows: np.ndarray
    label: np.ndarray
    patient: np.ndarray | None
    values: np.ndarray
    draws: list[np.ndarray]
    compares_groups: bool

    @property
    def n_patients(self) -> int:
        return len(self.rows) if self.patient is None else int(self.patient.max()) + 1

    def undefined(self) -> Undefined | None:
        """The reason where a score has no value."""
        if not np.isnan(self.values).any():
            return None
        if self.compares_groups:
            return Undefined("too few groups have a value")
        n, n_positive = self.place["n"], self.place["n_positive"]
        return Undefined(f"n+ = {n_positive}, n- = {n - n_positive}")

    def too_few(self) -> str | None:
        """Why a standard error over patients would say nothing, where it is so.

        A figure that compares groups is about groups of these sizes, however small; it needs two patients at all.
        """
        if self.compares_groups:
            return None if self.n_patients > 1 else "a single patient"
        for name in _RESTS_ON.get(self.place["metric"], ("",)):
            rows = np.ones(len(self.rows), bool) if not name else self.label == (name == "positive")
            n = int(rows.sum()) if self.patient is None else len(np.unique(self.patient[rows]))
            if n < MIN_PATIENTS:
                who = f"{name} patient" if name else "patient"
                return f"{n} {who}{'' if n == 1 else 's'}, an interval needs {MIN_PATIENTS}"
        return None


def prepare(
    label: Any,
    scores: Sequence[Any],
    names: Sequence[str],
    attributes: Mapping[str, Any],
    metric: str,
    patients: Any,
    threshold: float | None,
    n_resamples: int,
    confidence: float,
    seed: int,
    exclude: Mapping[str, Sequence[str]] | None,
) -> Sample:
    """Check everything, compute the figures of every score, and draw the resamples that all scores share."""
    if metric not in METRICS:
        raise InputError(f"metric: {metric!r} is not known; choose from {', '.join(METRICS)}")
    check_counts(n_resamples=n_resamples, seed=seed)
    if n_resamples < 2:
        raise InputError(f"n_resamples: {n_resamples} is too few for an interval; use 1000 or more")
    check_confidence(confidence)
    base = COMPARES.get(metric, metric)
    threshold = None if base == "auc" else check_threshold(threshold)
    if base != "auc" and threshold is None:
        raise InputError(f"threshold: {metric} needs one; pass a probability such as 0.5")
    cohort = check_cohort(label, attributes, patients=patients, exclude=exclude)
    flat = [
        check_score(score, cohort.n, probabilities=threshold is not None, name=name)
        for score, name in zip(scores, names, strict=True)
    ]
    groupings = [one_group(cohort.n), *cohort.groupings]
    draws = bootstrap(cohort, flat, groupings, threshold=threshold, n_resamples=n_resamples, seed=seed)
    points = [[_values(cohort, score, grouping, threshold) for grouping in groupings] for score in flat]
    return Sample(cohort, flat, groupings, base, confidence, points, draws)


def _values(
    cohort: Cohort, score: np.ndarray, grouping: Grouping, threshold: float | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(group figures, summaries) as they are."""
    label, score = grouping.of(cohort.label), grouping.of(score)
    groups = group_figures(label, score, grouping.code, len(grouping.names), threshold)
    overall = {
        name: values[0]
        for name, values in group_figures(label, score, np.zeros(len(label), np.intp), 1, threshold).items()
    }
    return groups, summarise(overall, {name: groups[name][keep] for name, keep in defined(groups).items()})
