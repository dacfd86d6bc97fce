"""From arrays to named results: group reports, their intervals, and what chance gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .cohort import Cohort, Grouping
from .figures import Undefined
from .intervals import auc_interval, es_large_sample_interval, holm, normal_interval, rate_interval
from .resample import Draws
from .results import AttributeReport, Chance, Figure, GroupReport, Interval
from .summaries import GROUP_FIGURES

_FIGURES = (*GROUP_FIGURES, "calibration_error_by_chance")
# Figures of which a small value is the unequal one.
LOW_IS_UNEQUAL = frozenset({"es_auc", "es_accuracy", "worst_group_auc"})


def group_reports(
    cohort: Cohort,
    score: np.ndarray,
    grouping: Grouping,
    figures: Mapping[str, np.ndarray],
    threshold: float | None,
    draws: Mapping[str, np.ndarray] | None,
    confidence: float,
) -> dict[str, GroupReport]:
    """A :class:`GroupReport` for each group; with intervals where there are draws."""
    n, n_positive = figures["n"].tolist(), figures["n_positive"].tolist()
    patients = n if cohort.patient is None else _patients_by_group(cohort, grouping)
    columns = {name: figures[name].tolist() for name in _FIGURES if name in figures}
    reports = {}
    for i, group in enumerate(grouping.names):
        reason = f"n+ = {n_positive[i]}, n- = {n[i] - n_positive[i]}"
        values = {name: _value(columns[name][i] if name in columns else None, reason) for name in _FIGURES}
        intervals = {}
        if draws is not None and patients[i] > 1:
            rows = np.flatnonzero(grouping.code == i)
            rows = rows if grouping.rows is None else grouping.rows[rows]
            mine = {name: values[i] for name, values in draws.items()}
            intervals = _group_intervals(cohort, score, rows, values, threshold, mine, confidence)
        reports[group] = GroupReport(
            name=group, n=n[i], n_positive=n_positive[i], n_patients=patients[i], intervals=intervals, **values
        )
    return reports


def summary_intervals(
    overall: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
    summary: Mapping[str, np.ndarray],
    draws: Draws,
    confidence: float,
) -> dict[str, Interval]:
    """Intervals of an attribute's figures, at groups of these sizes; and of ES-AUC for groups of any size."""
    found = {
        name: normal_interval(float(value), draws.summary[name], confidence)
        for name, value in summary.items()
        # Labels are resampled within their class: the draws do not speak about prevalence.
        if not np.isnan(value) and name != "prevalence_gap"
    }
    keep = ~np.isnan(groups["auc"])
    if keep.any():
        found["es_auc_large_sample"] = es_large_sample_interval(
            float(overall["auc"][0]), groups["auc"][keep], draws.overall["auc"], draws.groups["auc"][keep], confidence
        )
    return {name: interval for name, interval in found.items() if interval is not None}


def chance_levels(
    reports: Mapping[str, AttributeReport], shuffled: Mapping[str, Mapping[str, np.ndarray]], confidence: float
) -> dict[str, dict[str, Chance]]:
    """What shuffled groups give for every figure of every attribute; Holm's correction over the attributes of a figure."""
    p_values: dict[str, dict[str, float]] = {}
    for attribute, figures in shuffled.items():
        if attribute not in reports or len(reports[attribute].groups) < 2:
            continue
        for name, values in figures.items():
            observed = getattr(reports[attribute], name)
            if not isinstance(observed, Undefined) and not np.isnan(values).any():
                p_values.setdefault(name, {})[attribute] = _p_value(observed, values, name in LOW_IS_UNEQUAL)
    out: dict[str, dict[str, Chance]] = {}
    tail = (1 - confidence) / 2
    for name, by_attribute in p_values.items():
        corrected = holm(np.array(list(by_attribute.values()))).tolist()
        for (attribute, p_value), p_holm in zip(by_attribute.items(), corrected, strict=True):
            values = shuffled[attribute][name]
            low, high = np.quantile(values, [tail, 1 - tail]).tolist()
            expected = float(values.mean())
            beyond = getattr(reports[attribute], name) - expected
            out.setdefault(attribute, {})[name] = Chance(expected, low, high, p_value, p_holm, beyond)
    return out


def _p_value(observed: float, shuffled: np.ndarray, low_is_unequal: bool) -> float:
    # A hair's breadth of tolerance: equal values differ in their last bits when sums are taken in another order.
    far = shuffled <= observed + 1e-12 if low_is_unequal else shuffled >= observed - 1e-12
    return float(1 + np.count_nonzero(far)) / (1 + len(shuffled))


def _group_intervals(
    cohort: Cohort,
    score: np.ndarray,
    rows: np.ndarray,
    values: Mapping[str, Figure],
    threshold: float | None,
    draws: Mapping[str, np.ndarray],
    confidence: float,
) -> dict[str, Interval]:
    label = cohort.label[rows]
    patient = None if cohort.patient is None else cohort.patient[rows]
    found: dict[str, Interval | None] = {}
    if not isinstance(values["auc"], Undefined):
        classes = [np.count_nonzero(label), np.count_nonzero(~label)]
        if patient is not None:
            classes = [len(np.unique(patient[label])), len(np.unique(patient[~label]))]
        found["auc"] = auc_interval(values["auc"], *classes, draws["auc"], confidence)
    of_rate = {"prevalence": label}
    if threshold is not None:
        predicted = score[rows] >= threshold
        of_rate |= {"accuracy": predicted == label, "selection_rate": predicted}
        found["calibration_error"] = normal_interval(
            values["calibration_error"], draws["calibration_error"], confidence
        )
        for name, part in (("true_positive_rate", label), ("false_positive_rate", ~label)):
            found[name] = rate_interval(predicted[part], None if patient is None else patient[part], confidence)
    for name, hits in of_rate.items():
        found[name] = rate_interval(hits, patient, confidence)
    return {name: interval for name, interval in found.items() if interval is not None}


def _value(value: float | None, reason: str) -> Figure:
    if value is None:
        return Undefined("no threshold")
    return Undefined(reason) if value != value else value


def _patients_by_group(cohort: Cohort, grouping: Grouping) -> list[int]:
    patient = grouping.of(cohort.patient)
    pairs = np.unique(grouping.code * cohort.n_patients + patient)
    return np.bincount(pairs // cohort.n_patients, minlength=len(grouping.names)).tolist()
