"""Fairness figures that can be trusted: each with its n, its interval and what chance would give.

`FairnessReport.from_predictions` is where to start; `compare_paired` and `compare_seeds` compare models; docs/fairness.md
explains every figure. numpy in, named frozen results out.
"""

from __future__ import annotations

from .delong import DeLong, delong
from .figures import EquityScaled, Undefined, equity_scaled_accuracy, equity_scaled_auc, roc_auc
from .intervals import auc_score_interval, holm
from .paired import PairedComparison, PairedDifference, compare_paired, compare_seeds
from .report import FairnessReport
from .results import AttributeReport, Chance, GroupReport, Interval
from .sample import COMPARES, METRICS
from .seeds import SeedMean, SeedMeans, mean_over_seeds
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
    "COMPARES",
    "METRICS",
    "AttributeReport",
    "Chance",
    "DeLong",
    "EquityScaled",
    "FairnessReport",
    "GroupReport",
    "Interval",
    "OperatingPoint",
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
    "equalized_odds_what_if",
    "equity_scaled_accuracy",
    "equity_scaled_auc",
    "holm",
    "mean_over_seeds",
    "precision_recall_by_group",
    "roc_auc",
    "roc_by_group",
    "threshold_effect",
    "thresholds_at_specificity",
]
