"""Sentences and the table on the Sinkhorn divergence; the numbers come from `fairvlm_core.analysis.divergences`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairvlm_core.analysis.divergences import MEAN, Effect, MiningRise
from fairvlm_core.words import MINUS, NOTHING, many, number, signed

_EQUAL = 0.005  # a relative change below this is called "the same"
_FOLDS = 2.0  # a larger rise is stated as a multiple


def first_answer(band: pd.DataFrame, attribute: str, quantity: str) -> str:
    """Which group is farthest from everyone with one method, and how its gap changed.

    Parameters
    ----------
    band
        As from `divergences.bands`, of one method.

    Examples
    --------
    >>> rows = [("m", g, e, v, v, v, 0.1, 1, 9) for g, e, v in (("", 1, .5), ("", 6, .1), ("A", 1, .9), ("A", 6, .1),
    ...                                                         ("B", 1, .1), ("B", 6, .0))]
    >>> names = ["method", "group", "epoch", "mean", "low", "high", "chance", "n_runs", "n"]
    >>> first_answer(pd.DataFrame(rows, columns=names), "race", "loss")
    'With m, the losses of A (race, n = 9) are farthest from everyone’s: the gap above chance fell from 0.90 to 0.10 over \
6 epochs.'
    """
    groups = band[band["group"] != MEAN]
    if groups.empty:
        return f"Nothing is recorded for {attribute}."
    last = groups[groups["epoch"] == groups["epoch"].max()]
    worst = last.loc[last["mean"].idxmax()]
    path = groups[groups["group"] == worst["group"]]
    first, epochs = float(path["mean"].iloc[0]), int(worst["epoch"])
    what = {"loss": "losses", "similarity": "similarities"}[quantity]
    who = f"With {worst['method']}, the {what} of {worst['group']} ({attribute}, n = {int(worst['n']):,})"
    if worst["mean"] <= 0:
        return f"With {worst['method']}, no group of {attribute} is farther from everyone than chance explains."
    if len(path) < 2:
        return f"{who} are farthest from everyone’s: {number(worst['mean'], 2)} above chance after {many(epochs, 'epoch')}."
    change = float(worst["mean"]) - first
    way = "stayed at" if abs(change) < 0.005 else "fell from" if change < 0 else "rose from"
    values = number(worst["mean"], 2) if way == "stayed at" else f"{number(first, 2)} to {number(worst['mean'], 2)}"
    return f"{who} are farthest from everyone’s: the gap above chance {way} {values} over {many(epochs, 'epoch')}."


def answer(effect: Effect) -> str:
    """Whether the divergence fell and fairness improved, in one sentence.

    >>> answer(Effect(0.0100, 0.0066, 0.004, -0.011, 0.019, False, 3, 600))
    'The divergence fell by 34 %; ES-AUC changed by +0.004 (95 % interval −0.011 to +0.019, 3 seeds, n = 600): no evidence \
that fairness improved.'
    >>> answer(Effect(0.0100, 0.0066, 0.020, 0.004, 0.036, True, 3, 600)).split(": ")[1]
    'fairness improved by more than chance explains.'
    >>> answer(Effect(0.0100, 0.0120, -0.020, -0.036, -0.004, True, 3, 600)).split("; ")[0]
    'The divergence rose by 20 %'
    """
    divergence = f"The divergence {moved(effect.before, effect.after)}"
    if not np.isfinite(effect.difference):
        return f"{divergence}; ES-AUC is undefined for one of the methods, so nothing can be said about fairness."
    change = f"ES-AUC changed by {signed(effect.difference)}"
    about = f"{many(effect.seeds, 'seed')}, n = {effect.n:,}"
    if not (np.isfinite(effect.low) and np.isfinite(effect.high)):
        return f"{divergence}; {change} (no interval, {about}): nothing can be said beyond this one comparison."
    if effect.reliable:
        way = "improved" if effect.difference > 0 else "became worse"
        verdict = f"fairness {way} by more than chance explains"
    elif effect.low > 0 or effect.high < 0:
        verdict = "no evidence about fairness that survives the correction over attributes"
    else:
        verdict = "no evidence that fairness improved"
    reach = f"{signed(effect.low)} to {signed(effect.high)}"
    return f"{divergence}; {change} (95 % interval {reach}, {about}): {verdict}."


def moved(before: float, after: float) -> str:
    """
    >>> moved(0.1, 0.066), moved(0.1, 0.1002), moved(0.0, 0.1)
    ('fell by 34 %', 'stayed the same (0.1 to 0.1002)', 'went from 0 to 0.1')
    >>> moved(0.08, 1.4)
    'rose 17.5-fold (0.08 to 1.4)'
    """
    if not (np.isfinite(before) and np.isfinite(after)):
        return "is not known for both"
    if before <= 0 or after <= 0:
        return f"went from {before:.3g} to {after:.3g}".replace("-", MINUS)
    change = after / before - 1
    if change > _FOLDS:
        return f"rose {after / before:.3g}-fold ({before:.3g} to {after:.3g})"
    if abs(change) < _EQUAL:
        return f"stayed the same ({before:.4g} to {after:.4g})"
    return f"{'fell' if change < 0 else 'rose'} by {abs(change):.0%}".replace("%", " %")


def rise_words(rise: MiningRise) -> str:
    """Why the distance over all pairs grows under mining.

    >>> rise_words(MiningRise("robustfair-plus", 0.1, 0.61, 0.002))
    "robustfair-plus: over all pairs the distance rises from 0.100 to 0.610, by the miner's weights it ends at 0.002. \
Pairs that are down-weighted are no longer fitted, so their losses stay high."
    """
    return (
        f"{rise.method}: over all pairs the distance rises from {number(rise.first)} to {number(rise.last)}, by the "
        f"miner's weights it ends at {number(rise.weighted)}. Pairs that are down-weighted are no longer fitted, so "
        "their losses stay high."
    )


def within_run(walked: pd.DataFrame) -> str:
    """How one run changed on validation, from its first epoch to the selected one; "" where there is only one epoch."""
    if len(walked) < 2 or not walked["chosen"].any():
        return ""
    first, last = walked.iloc[0], walked[walked["chosen"]].iloc[0]
    if first["epoch"] == last["epoch"]:
        return f"Validation selected epoch {int(first['epoch'])}, the first: there is nothing to compare with."
    return (
        f"In run {last['run']}, from epoch {int(first['epoch'])} to the selected epoch {int(last['epoch'])}: "
        f"the divergence {moved(first['divergence'], last['divergence'])}; validation ES-AUC changed by "
        f"{signed(last['es_auc'] - first['es_auc'])} (no interval: the scores of single epochs are not stored)."
    )


def divergence_table(band: pd.DataFrame) -> pd.DataFrame:
    """Method, Group, n, Seeds, First epoch, Last epoch, By chance, Epochs, Change: both ends of every curve."""
    rows = []
    for (method, group), part in band.groupby(["method", "group"], sort=False):
        first, last = part.iloc[0], part.iloc[-1]
        rows.append(
            {
                "Method": method,
                "Group": group or "mean over groups",
                "n": int(last["n"]),
                "Seeds": int(last["n_runs"]),
                "First epoch": number(first["mean"], 4),
                "Last epoch": number(last["mean"], 4),
                "By chance": number(last["chance"], 4),
                "Epochs": int(last["epoch"]),
                "Change": moved(first["mean"], last["mean"]) if len(part) > 1 else NOTHING,
            }
        )
    return pd.DataFrame(rows)
