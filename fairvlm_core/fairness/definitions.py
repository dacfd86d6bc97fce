"""Every metric: what it is made of, which direction is better, and how it is computed.

Point values, bootstrap and permutation use the same functions, with one column or with one column per resample. A metric of
your own is added with :func:`metric`; everything else in this package reads :data:`METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from ..errors import InputError
from ..plugins import Registry
from .metrics import auc_by_group, calibration_error_by_group, confusion_by_group, ratio

Function = TypeVar("Function", bound=Callable[..., Any])
POSITIVES, NEGATIVES = "positive", "negative"


@dataclass(frozen=True)
class Metric:
    """A metric of everyone and of each group, or one that compares the groups of an attribute.

    Attributes
    ----------
    name : str
    title : str
        Short name for tables.
    base : str
        For a metric that compares groups, the group metric that it is made of (ES-AUC: AUC); else its own name.
    better : "higher", "lower" or None
        None where neither direction is better (selection rate).
    needs : tuple of "positive" and "negative"
        The patients a group must have for this metric; empty for any patients.
    largest : float
        Upper end of its range; the lower end is 0. Infinite for a metric of your own, which also has no lower end.
    function : callable, optional
        Only for a metric of your own: function(label, score) -> float, of one group's rows.
    decision : bool
        The function takes predictions (score >= threshold) in place of scores.
    """

    name: str
    title: str
    base: str
    better: Literal["higher", "lower"] | None = "higher"
    needs: tuple[str, ...] = ()
    largest: float = 1.0
    function: Callable[..., Any] | None = None
    decision: bool = False

    @property
    def compares_groups(self) -> bool:
        return self.base != self.name

    @property
    def own(self) -> bool:
        """Whether it is registered by a user, or made of such a metric."""
        return METRICS[self.base].function is not None

    @property
    def needs_threshold(self) -> bool:
        base = METRICS[self.base]
        return base.name != "auc" if base.function is None else base.decision

    def of(self, label: np.ndarray, score: np.ndarray, threshold: float | None) -> float:
        """Value of a metric of your own on some rows; NaN where it is undefined."""
        assert self.function is not None
        try:
            return float(self.function(label.astype(int), score >= threshold if self.decision else score))
        except Exception as error:
            raise InputError(
                f"metric {self.name!r} failed on {len(label)} rows ({type(error).__name__}: {error}); return NaN where "
                "it is undefined"
            ) from error


METRICS: Registry[Metric] = Registry("metric")
_BUILT_IN = (
    Metric("auc", "AUC", "auc", needs=(POSITIVES, NEGATIVES)),
    Metric("accuracy", "accuracy", "accuracy"),
    Metric("true_positive_rate", "TPR", "true_positive_rate", needs=(POSITIVES,)),
    Metric("false_positive_rate", "FPR", "false_positive_rate", "lower", needs=(NEGATIVES,)),
    Metric("selection_rate", "selection", "selection_rate", None),
    Metric("f1", "F1", "f1", needs=(POSITIVES,)),
    Metric("calibration_error", "ECE", "calibration_error", "lower"),
    Metric("es_auc", "ES-AUC", "auc"),
    Metric("auc_spread", "AUC spread", "auc", "lower", largest=np.inf),
    Metric("auc_gap", "AUC gap", "auc", "lower"),
    Metric("worst_group_auc", "worst AUC", "auc"),
    Metric("es_accuracy", "ES-accuracy", "accuracy"),
    Metric("accuracy_gap", "accuracy gap", "accuracy", "lower"),
    Metric("demographic_parity_difference", "DPD", "selection_rate", "lower"),
    Metric("equalized_odds_difference", "DEOdds", "true_positive_rate", "lower"),
    Metric("true_positive_rate_gap", "TPR gap", "true_positive_rate", "lower"),
    Metric("false_positive_rate_gap", "FPR gap", "false_positive_rate", "lower"),
    Metric("f1_gap", "F1 gap", "f1", "lower"),
    Metric("calibration_error_gap", "ECE gap", "calibration_error", "lower"),
)
for _one in _BUILT_IN:
    METRICS.add(_one.name, _one)
METRICS.close_built_in()
# Prevalence is reported, but no property of a model: it is not in METRICS.
GROUP_METRICS = (*(m.name for m in _BUILT_IN if not m.compares_groups), "prevalence")
SUMMARY_METRICS = (*(m.name for m in _BUILT_IN if m.compares_groups), "prevalence_gap")


def metric(
    name: str, *, better: Literal["higher", "lower"] | None = "higher", decision: bool = False, title: str = ""
) -> Callable[[Function], Function]:
    """Register a metric of your own; `name` and `name_gap` can then be used wherever a metric is named.

    `name_gap` is the largest minus the smallest group value. The function is called on the rows of everyone and of each
    group, and again for every resample and shuffle: a slow function makes reports slow.

    Parameters
    ----------
    name : str
    better : "higher", "lower" or None
        Which direction is better, for verdicts; None for neither.
    decision : bool
        False: the function gets scores. True: it gets predictions, True where score >= threshold.
    title : str
        Short name for tables; default: the name.

    `examples/custom_metric.py` shows one.
    """

    def register(function: Function) -> Function:
        METRICS.add(
            name, Metric(name, title or name, name, better, largest=np.inf, function=function, decision=decision)
        )
        METRICS.add(f"{name}_gap", Metric(f"{name}_gap", f"{title or name} gap", name, "lower", largest=np.inf))
        return function

    return register


def find_metric(name: str) -> Metric:
    """A registered metric; raises InputError that lists them."""
    if name not in METRICS:
        raise InputError(f"metric: {name!r} is not known; choose from {', '.join(METRICS)}")
    return METRICS[name]


def own_metrics() -> list[str]:
    """Group metrics that users registered."""
    return [name for name, one in METRICS.items() if one.function is not None]


def group_values(
    label: np.ndarray,
    score: np.ndarray,
    code: np.ndarray,
    n_groups: int,
    threshold: float | None,
    order: np.ndarray | None = None,
    own: Sequence[Metric] = (),
) -> dict[str, np.ndarray]:
    """All of GROUP_METRICS and `own`, float64 (n_groups,) each, NaN where undefined; also `n` and `n_positive`.

    Without a threshold: AUC, prevalence and own metrics of scores only.
    """
    values = {"auc": auc_by_group(label, score, code, n_groups, order)}
    predicted = np.zeros(len(label), bool) if threshold is None else score >= threshold
    counts = confusion_by_group(label, predicted, code, n_groups)
    values |= rates(counts[:, 0, 0], counts[:, 0, 1], counts[:, 1, 0], counts[:, 1, 1])
    values["n"] = counts.sum((1, 2))
    values["n_positive"] = counts[:, 1].sum(1)
    if threshold is None:
        values = {name: values[name] for name in ("n", "n_positive", "auc", "prevalence")}
    else:
        values["calibration_error"], values["calibration_error_by_chance"] = calibration_error_by_group(
            label, score, code, n_groups
        )
    for one in own:
        rows = [np.flatnonzero(code == g) for g in range(n_groups)]
        values[one.name] = np.array([one.of(label[r], score[r], threshold) if len(r) else np.nan for r in rows])
    return values


def rates(tn: np.ndarray, fp: np.ndarray, fn: np.ndarray, tp: np.ndarray) -> dict[str, np.ndarray]:
    """Rates from counts (or summed weights) of any one shape; NaN where a denominator is 0."""
    positive, negative = tp + fn, tn + fp
    n = positive + negative
    return {
        "accuracy": ratio(tp + tn, n),
        "true_positive_rate": ratio(tp, positive),
        "false_positive_rate": ratio(fp, negative),
        "selection_rate": ratio(tp + fp, n),
        "f1": ratio(2 * tp, np.where(positive > 0, 2 * tp + fp + fn, 0)),
        "prevalence": ratio(positive, n),
    }


def summarise(overall: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics that compare groups, made of group metrics; those whose group metric is not given are left out.

    Parameters
    ----------
    overall : mapping of metric to array of shape (...)
    groups : mapping of metric to array of shape (groups that have it, ...)
        Only groups where the metric is defined in the data themselves. A resample in which one of them loses a class has
        NaN, and so has every summary of it: it is never a summary of fewer groups.
    """
    out = {}
    if "auc" in groups:
        auc = groups["auc"]
        out["es_auc"], out["auc_spread"] = equity_scale(overall["auc"], auc)
        out["auc_gap"] = gap(auc)
        out["worst_group_auc"] = auc.min(0) if len(auc) else np.full(np.shape(overall["auc"]), np.nan)
    if "accuracy" in groups:
        out["es_accuracy"] = equity_scale(overall["accuracy"], groups["accuracy"])[0]
    for name in groups:
        if name == "selection_rate":
            out["demographic_parity_difference"] = gap(groups[name])
        elif name != "auc":
            out[f"{name}_gap"] = gap(groups[name])
    if "true_positive_rate_gap" in out and "false_positive_rate_gap" in out:
        # fairlearn's definition: the larger of the two gaps. If one is undefined, the other is used.
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


def defined(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which groups have each group metric: bool (n_groups,)."""
    left = ("n", "n_positive", "calibration_error_by_chance")
    return {name: ~np.isnan(column) for name, column in values.items() if name not in left}
