"""The choice of decision thresholds on the Compare page, and what they do, as a table and a sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.analysis.thresholds import FEWEST_NEGATIVES, GroupThresholds
from fairvlm_core.fairness import ThresholdEffect, Undefined
from fairvlm_core.fairness.intervals import wilson
from fairvlm_core.fairness.results import Value
from fairvlm_core.words import listed, number, span, undefined

RULES = {
    "threshold": "One threshold",
    "common": "One threshold, by specificity",
    "group": "One per group, by specificity",
}


def effect_table(effect: ThresholdEffect) -> pd.DataFrame:
    """Group, Threshold, Sensitivity, 95 % interval, Specificity, 95 % interval, Called positive, n+, n−; everyone first."""
    rows = []
    points = {"everyone": effect.overall} | {name: effect.groups[name] for name in group_order(effect.groups)}
    for name, point in points.items():
        n, n_positive = point.n, point.n_positive
        true, false = _known(point.true_positive_rate), _known(point.false_positive_rate)
        nothing = undefined(n_positive, n - n_positive)
        rows.append(
            {
                "Group": name,
                "Threshold": number(point.threshold) if np.isfinite(point.threshold) else "by group",
                "Sensitivity": number(true) if np.isfinite(true) else nothing,
                "95 % of sensitivity": _reach(true, n_positive),
                "Specificity": number(1 - false) if np.isfinite(false) else nothing,
                "95 % of specificity": _reach(1 - false, n - n_positive),
                "Called positive": number(point.selection_rate),
                "n+": n_positive,
                "n−": n - n_positive,
            }
        )
    return pd.DataFrame(rows)


def gap_line(effect: ThresholdEffect, chosen: GroupThresholds) -> str:
    """The two differences, and which groups are not in them."""
    dpd, deodds = (_known(v) for v in (effect.demographic_parity_difference, effect.equalized_odds_difference))
    line = f"DPD {number(dpd)}, DEOdds {number(deodds)}."
    if effect.undefined:
        line += f" DEOdds leaves out {listed(list(effect.undefined))}: one label only."
    if chosen.borrowed:
        line += (
            f" {listed(list(chosen.borrowed))}: fewer than {FEWEST_NEGATIVES} validation negatives, so the threshold of "
            "everyone."
        )
    return line


def _known(value: Value) -> float:
    return np.nan if isinstance(value, Undefined) else float(value)


def _reach(rate: float, n: int) -> str:
    low, high = wilson(round(rate * n) / n, n) if np.isfinite(rate) and n else (np.nan, np.nan)
    return span(float(low), float(high))
