"""What a threshold does to each group: one for all, or one a group, chosen on validation and judged on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.fairness import ThresholdEffect, threshold_effect, thresholds_at_specificity

from .groups import wilson
from .words import figure, listed, span, undefined

RULES = {
    "threshold": "One threshold",
    "common": "One threshold, by specificity",
    "group": "One a group, by specificity",
}
FEWEST_NEGATIVES = 10
_SWEEP = 81


@dataclass(frozen=True)
class Chosen:
    """Thresholds of all groups, and the groups that got the common one because validation has too few negatives."""

    thresholds: Mapping[str, float]
    borrowed: tuple[str, ...] = ()


def choose(val: pd.DataFrame, test: pd.DataFrame, attribute: str, rule: str, value: float) -> Chosen:
    """Thresholds of the test split's groups by a rule of `RULES`.

    `value` is the threshold itself, or the share of validation negatives that must stay below it. A group with fewer than
    10 negatives on validation cannot choose its own and gets the threshold of everyone.

    Raises
    ------
    InputError
        Validation has no negatives at all.
    """
    names = group_order(test[attribute].astype(str))
    if rule == "threshold":
        return Chosen(dict.fromkeys(names, value))
    groups = val[attribute].astype(str)
    label, score = val["label"].to_numpy(), val["score"].to_numpy(float)
    common = thresholds_at_specificity(label, score, groups.to_numpy(), value).overall.threshold
    if rule == "common":
        return Chosen(dict.fromkeys(names, common))
    negatives = groups[label == 0].value_counts()
    able = [name for name in names if negatives.get(name, 0) >= FEWEST_NEGATIVES]
    own: dict[str, float] = {}
    for name in able:
        mine = (groups == name).to_numpy()
        alone = np.full(int(mine.sum()), name)
        own[name] = thresholds_at_specificity(label[mine], score[mine], alone, value).overall.threshold
    return Chosen({name: own.get(name, common) for name in names}, tuple(name for name in names if name not in own))


def effect_of(test: pd.DataFrame, attribute: str, chosen: Chosen) -> ThresholdEffect:
    """What the thresholds do on the test split."""
    groups = test[attribute].astype(str).to_numpy()
    return threshold_effect(test["label"].to_numpy(), test["score"].to_numpy(float), groups, chosen.thresholds)


def sweep(test: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """threshold, sensitivity, specificity, dpd, deodds of the test split at 81 common thresholds over the scores' range."""
    label, score = test["label"].to_numpy(), test["score"].to_numpy(float)
    groups = test[attribute].astype(str).to_numpy()
    rows = []
    for cut in np.linspace(score.min(), score.max(), _SWEEP):
        effect = threshold_effect(label, score, groups, float(cut))
        rows.append(
            (
                float(cut),
                _number(effect.overall.true_positive_rate),
                1 - _number(effect.overall.false_positive_rate),
                _number(effect.demographic_parity_difference),
                _number(effect.equalized_odds_difference),
            )
        )
    return pd.DataFrame(rows, columns=["threshold", "sensitivity", "specificity", "dpd", "deodds"])


def effect_table(effect: ThresholdEffect) -> pd.DataFrame:
    """Group, Threshold, Sensitivity, 95 % interval, Specificity, 95 % interval, Called positive, n+, n−; everyone first."""
    rows = []
    points = {"everyone": effect.overall} | {name: effect.groups[name] for name in group_order(effect.groups)}
    for name, point in points.items():
        n, n_positive = point.n, point.n_positive
        true, false = _number(point.true_positive_rate), _number(point.false_positive_rate)
        nothing = undefined(n_positive, n - n_positive)
        rows.append(
            {
                "Group": name,
                "Threshold": figure(point.threshold) if np.isfinite(point.threshold) else "by group",
                "Sensitivity": figure(true) if np.isfinite(true) else nothing,
                "95 % of sensitivity": _reach(true, n_positive),
                "Specificity": figure(1 - false) if np.isfinite(false) else nothing,
                "95 % of specificity": _reach(1 - false, n - n_positive),
                "Called positive": figure(point.selection_rate),
                "n+": n_positive,
                "n−": n - n_positive,
            }
        )
    return pd.DataFrame(rows)


def gap_line(effect: ThresholdEffect, chosen: Chosen) -> str:
    """The two differences, and who they do not speak for."""
    dpd, deodds = (_number(v) for v in (effect.demographic_parity_difference, effect.equalized_odds_difference))
    line = f"DPD {figure(dpd)}, DEOdds {figure(deodds)}."
    if effect.undefined:
        line += f" DEOdds leaves out {listed(list(effect.undefined))}: one label only."
    if chosen.borrowed:
        line += (
            f" {listed(list(chosen.borrowed))}: fewer than {FEWEST_NEGATIVES} validation negatives, so the threshold of "
            "everyone."
        )
    return line


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan


def _reach(rate: float, n: int) -> str:
    if not np.isfinite(rate) or n == 0:
        return span(None, None)
    low, high = wilson(np.array([round(rate * n)]), np.array([n]))
    return span(float(low[0]), float(high[0]))
