"""From arrays to named results: group reports, their intervals, and chance levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .cohort import Cohort, GroupCodes
from .definitions import GROUP_METRICS, METRICS, Metric
from .intervals import auc_interval, es_large_sample_interval, holm, normal_interval, rate_interval
from .metrics import Undefined
from .resample import Draws
from .results import AttributeReport, Chance, GroupReport, Interval, Value

_BUILT_IN = (*GROUP_METRICS, "calibration_error_by_chance")


def group_reports(
    cohort: Cohort,
    score: np.ndarray,
    grouping: GroupCodes,
    values: Mapping[str, np.ndarray],
    threshold: float | None,
    draws: Mapping[str, np.ndarray] | None,
    confidence: float,
) -> dict[str, GroupReport]:
    """A :class:`GroupReport` for each group; with intervals where there are draws."""
    n, n_positive = values["n"].tolist(), values["n_positive"].tolist()
    patients = n if cohort.patient is None else _patients_by_group(cohort, grouping)
    columns = {name: column.tolist() for name, column in values.items()}
    own = [name for name in columns if name not in ("n", "n_positive", *_BUILT_IN)]
    reports = {}
    for i, group in enumerate(grouping.names):
        reason = f"n+ = {n_positive[i]}, n- = {n[i] - n_positive[i]}"
        known = {name: _value(columns[name][i] if name in columns else None, reason) for name in (*_BUILT_IN, *own)}
        intervals = {}
        if draws is not None and patients[i] > 1:
            rows = np.flatnonzero(grouping.code == i)
            rows = rows if grouping.rows is None else grouping.rows[rows]
            mine = {name: column[i] for name, column in draws.items()}
            intervals = _group_intervals(cohort, score, rows, known, threshold, mine, confidence)
        reports[group] = GroupReport(
            name=group, n=n[i], n_positive=n_positive[i], n_patients=patients[i], intervals=intervals,
            own={name: known.pop(name) for name in own}, **known,
        )  # fmt: skip
    return reports


def summary_intervals(
    overall: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
    summary: Mapping[str, np.ndarray],
    draws: Draws,
    confidence: float,
) -> dict[str, Interval]:
    """Intervals of an attribute's metrics, for groups of these sizes; and of ES-AUC for groups of any size."""
    found = {
        name: normal_interval(float(value), draws.summary[name], confidence, high=METRICS[name].largest)
        for name, value in summary.items()
        # Labels are resampled within their class, so the draws say nothing about prevalence.
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
    """Chance levels of every metric of every attribute; Holm's correction over the attributes of a metric."""
    found: dict[str, dict[str, Chance]] = {}
    for attribute, values in shuffled.items():
        if attribute not in reports or len(reports[attribute].groups) < 2:
            continue
        for name, drawn in values.items():
            observed = reports[attribute].value(name)
            if not isinstance(observed, Undefined) and not np.isnan(drawn).any():
                metric = METRICS[name] if name != "prevalence_gap" else None
                found.setdefault(name, {})[attribute] = chance_level(metric, observed, drawn, confidence)
    out: dict[str, dict[str, Chance]] = {}
    for name, by_attribute in found.items():
        corrected = holm(np.array([level.p_value for level in by_attribute.values()])).tolist()
        for (attribute, level), p_holm in zip(by_attribute.items(), corrected, strict=True):
            out.setdefault(attribute, {})[name] = replace(level, p_holm=p_holm)
    return out


def chance_level(metric: Metric | None, observed: float, shuffled: np.ndarray, confidence: float) -> Chance:
    """Chance level of a metric (None: the gap of prevalence) from its shuffled values; p is not yet corrected."""
    # The tolerance is for equal values whose last bits differ because sums were taken in another order.
    low_is_unequal = metric is not None and metric.better == "higher"
    far = shuffled <= observed + 1e-12 if low_is_unequal else shuffled >= observed - 1e-12
    p_value = float(1 + np.count_nonzero(far)) / (1 + len(shuffled))
    tail = (1 - confidence) / 2
    low, high = np.quantile(shuffled, [tail, 1 - tail]).tolist()
    expected = float(shuffled.mean())
    return Chance(expected, low, high, p_value, p_value, observed - expected)


def _group_intervals(
    cohort: Cohort,
    score: np.ndarray,
    rows: np.ndarray,
    values: Mapping[str, Value],
    threshold: float | None,
    draws: Mapping[str, np.ndarray],
    confidence: float,
) -> dict[str, Interval]:
    label = cohort.label[rows]
    patient = None if cohort.patient is None else cohort.patient[rows]
    found: dict[str, Interval | None] = {}
    units = np.arange(len(label)) if patient is None else patient
    if not isinstance(values["auc"], Undefined):
        n_positive, n_negative = (len(np.unique(units[part])) for part in (label, ~label))
        found["auc"] = auc_interval(values["auc"], n_positive, n_negative, draws["auc"], confidence)
    for name in draws.keys() - {*GROUP_METRICS}:
        value = values[name]
        if not isinstance(value, Undefined):
            found[name] = normal_interval(value, draws[name], confidence, -np.inf, np.inf)
    of_rate = {"prevalence": label}
    if threshold is not None:
        predicted = score[rows] >= threshold
        of_rate |= {"accuracy": predicted == label, "selection_rate": predicted}
        error = float(values["calibration_error"])  # type: ignore[arg-type]  # every group with a threshold has one
        found["calibration_error"] = normal_interval(error, draws["calibration_error"], confidence)
        if not isinstance(values["f1"], Undefined):
            found["f1"] = normal_interval(values["f1"], draws["f1"], confidence)
        for name, part in (("true_positive_rate", label), ("false_positive_rate", ~label)):
            found[name] = rate_interval(predicted[part], None if patient is None else patient[part], confidence)
    for name, hits in of_rate.items():
        found[name] = rate_interval(hits, patient, confidence)
    return {name: interval for name, interval in found.items() if interval is not None}


def _value(value: float | None, reason: str) -> Value:
    if value is None:
        return Undefined("no threshold")
    return Undefined(reason) if value != value else value


def _patients_by_group(cohort: Cohort, grouping: GroupCodes) -> list[int]:
    assert cohort.patient is not None
    pairs = np.unique(grouping.code * cohort.n_patients + grouping.of(cohort.patient))
    return np.bincount(pairs // cohort.n_patients, minlength=len(grouping.names)).tolist()
