"""Group figures and what is made of them, for one set of predictions or for many resamples at once.

Every figure of this package is defined here and nowhere else: point values, bootstrap and permutation all pass through
:func:`summarise`, once with one column, then with a column a resample.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .figures import auc_by_group, calibration_error_by_group, confusion_by_group, ratio

GROUP_FIGURES = (
    "auc",
    "accuracy",
    "true_positive_rate",
    "false_positive_rate",
    "selection_rate",
    "prevalence",
    "calibration_error",
)
SUMMARY_FIGURES = (
    "es_auc",
    "auc_spread",
    "auc_gap",
    "worst_group_auc",
    "es_accuracy",
    "accuracy_gap",
    "demographic_parity_difference",
    "equalized_odds_difference",
    "true_positive_rate_gap",
    "false_positive_rate_gap",
    "calibration_error_gap",
    "prevalence_gap",
)


def group_figures(
    label: np.ndarray,
    score: np.ndarray,
    code: np.ndarray,
    n_groups: int,
    threshold: float | None,
    order: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """All of GROUP_FIGURES that can be had, float64 (n_groups,) each, NaN where undefined; also `n` and `n_positive`.

    Without a threshold there is AUC and prevalence only.
    """
    figures = {"auc": auc_by_group(label, score, code, n_groups, order)}
    predicted = np.zeros(len(label), bool) if threshold is None else score >= threshold
    counts = confusion_by_group(label, predicted, code, n_groups)
    figures |= rates(counts[:, 0, 0], counts[:, 0, 1], counts[:, 1, 0], counts[:, 1, 1])
    figures["n"] = counts.sum((1, 2))
    figures["n_positive"] = counts[:, 1].sum(1)
    if threshold is None:
        return {name: figures[name] for name in ("n", "n_positive", "auc", "prevalence")}
    figures["calibration_error"], figures["calibration_error_by_chance"] = calibration_error_by_group(
        label, score, code, n_groups
    )
    return figures


def rates(tn: np.ndarray, fp: np.ndarray, fn: np.ndarray, tp: np.ndarray) -> dict[str, np.ndarray]:
    """Rates from counts (or summed weights) of any one shape; NaN where a denominator is 0."""
    positive, negative = tp + fn, tn + fp
    n = positive + negative
    return {
        "accuracy": ratio(tp + tn, n),
        "true_positive_rate": ratio(tp, positive),
        "false_positive_rate": ratio(fp, negative),
        "selection_rate": ratio(tp + fp, n),
        "prevalence": ratio(positive, n),
    }


def summarise(overall: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """SUMMARY_FIGURES of group figures; a figure whose ingredients are not given is left out.

    Parameters
    ----------
    overall : mapping of figure to array of shape (...)
    groups : mapping of figure to array of shape (groups that have it, ...)
        Only groups where the figure is defined in the data themselves: a resample in which one of them loses a class
        carries NaN, and so does everything made of it, instead of quietly being a figure of fewer groups.
    """
    out = {}
    if "auc" in groups:
        out |= _auc_summary(overall["auc"], groups["auc"])
    if "accuracy" in groups:
        out["es_accuracy"] = equity_scale(overall["accuracy"], groups["accuracy"])[0]
        out["accuracy_gap"] = gap(groups["accuracy"])
    if "selection_rate" in groups:
        out["demographic_parity_difference"] = gap(groups["selection_rate"])
    for name in ("true_positive_rate", "false_positive_rate", "calibration_error", "prevalence"):
        if name in groups:
            out[f"{name}_gap"] = gap(groups[name])
    if "true_positive_rate_gap" in out and "false_positive_rate_gap" in out:
        # fairlearn's definition: the larger of the two gaps. One that does not exist leaves the other.
        out["equalized_odds_difference"] = np.fmax(out["true_positive_rate_gap"], out["false_positive_rate_gap"])
    return out


def equity_scale(overall: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """overall / (1 + spread) and spread = Σ_g |overall - group|, over axis 0 of `groups`; NaN without a group."""
    if len(groups) == 0:
        nothing = np.full(np.shape(overall), np.nan)
        return nothing, nothing
    spread = np.abs(groups - overall).sum(0)
    return overall / (1 + spread), spread


def gap(groups: np.ndarray) -> np.ndarray:
    """Largest minus smallest over axis 0; NaN for fewer than two groups."""
    if len(groups) < 2:
        return np.full(groups.shape[1:], np.nan)
    return groups.max(0) - groups.min(0)


def defined(figures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which groups have each figure: bool (n_groups,)."""
    return {name: ~np.isnan(figures[name]) for name in GROUP_FIGURES if name in figures}


def _auc_summary(overall: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    es_auc, spread = equity_scale(overall, groups)
    worst = groups.min(0) if len(groups) else np.full(np.shape(overall), np.nan)
    return {"es_auc": es_auc, "auc_spread": spread, "auc_gap": gap(groups), "worst_group_auc": worst}
