"""Metrics of fairness, each with its n, its interval and its chance level.

Start with `FairnessReport.from_predictions`; `compare_paired` and `compare_seeds` compare models; `metric` registers a
metric of your own; docs/fairness.md explains every metric. numpy in, named frozen results out.
"""

from __future__ import annotations

from .definitions import METRICS, Metric, metric, own_metrics
from .delong import DeLong, delong
from .intervals import auc_score_interval, holm
from .metrics import EquityScaled, Undefined, equity_scaled_accuracy, equity_scaled_auc, roc_auc
from .outcomes import Outcome, difference_words, outcome_words
from .paired import (
    PairedComparison,
    PairedDifference,
    SeedMean,
    SeedMeans,
    compare_paired,
    compare_seeds,
    es_auc_standard_error,
    mean_over_seeds,
)
from .report import FairnessReport
from .results import AttributeReport, Chance, GroupReport, Interval
from .thresholds import (
    OperatingPoint,
    PrecisionRecallCurve,
    RocCurve,
    ThresholdEffect,
    equalized_odds_what_if,
    precision_recall_by_group,
    roc_by_group,
    threshold_effect,
    thresholds_at_specificity,
)

__all__ = [
    "METRICS",
    "AttributeReport",
    "Chance",
    "DeLong",
    "EquityScaled",
    "FairnessReport",
    "GroupReport",
    "Interval",
    "Metric",
    "OperatingPoint",
    "Outcome",
    "PairedComparison",
    "PairedDifference",
    "PrecisionRecallCurve",
    "RocCurve",
    "SeedMean",
    "SeedMeans",
    "ThresholdEffect",
    "Undefined",
    "auc_score_interval",
    "compare_paired",
    "compare_seeds",
    "delong",
    "difference_words",
    "equalized_odds_what_if",
    "equity_scaled_accuracy",
    "equity_scaled_auc",
    "es_auc_standard_error",
    "holm",
    "mean_over_seeds",
    "metric",
    "outcome_words",
    "own_metrics",
    "precision_recall_by_group",
    "roc_auc",
    "roc_by_group",
    "threshold_effect",
    "thresholds_at_specificity",
]
