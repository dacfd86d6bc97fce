"""The Sinkhorn divergence over training: frames from a run's metrics, and what it says about fairness, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.group_order import group_order

from .compare import Method
from .words import NOTHING, figure, many

MEAN = ""  # the mean over an attribute's groups, which is what the objective adds up
COLUMNS = ("method", "run", "seed", "epoch", "group", "n", "value")
_EQUAL = 0.005  # a relative change that is shown as 0 or 1 %
_FOLDS = 2.0  # a rise by more is told as a multiple


def divergences(
    methods: Sequence[Method], metrics: Mapping[str, Sequence[Mapping[str, Any]]], attribute: str, quantity: str
) -> pd.DataFrame:
    """One row a run, epoch and group: method, run, seed, epoch, group ("" for the mean over groups), n, value.

    `metrics` are the lines of metrics.jsonl by run id; a run without lines has no rows.
    """
    rows: list[tuple[Any, ...]] = []
    for method in methods:
        for entry in method.runs:
            for line in metrics.get(entry.id, ()):
                found = [s for s in line["sinkhorn"] if s["attribute"] == attribute and s["quantity"] == quantity]
                head = (method.name, entry.id, entry.seed, int(line["epoch"]))
                rows += [(*head, s["group"], int(s["n"]), float(s["value"])) for s in found]
                if found:
                    total = sum(int(s["n"]) for s in found)
                    rows.append((*head, MEAN, total, float(np.mean([s["value"] for s in found]))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def bands(frame: pd.DataFrame) -> pd.DataFrame:
    """Over seeds: method, group, epoch, mean, low, high (smallest and largest seed), n_runs, n.

    >>> one = pd.DataFrame([("clip", "r", 0, 1, "A", 9, 0.2), ("clip", "s", 1, 1, "A", 9, 0.4)], columns=list(COLUMNS))
    >>> bands(one)[["mean", "low", "high", "n_runs"]].round(3).to_numpy().tolist()
    [[0.3, 0.2, 0.4, 2.0]]
    """
    grouped = frame.groupby(["method", "group", "epoch"], sort=False)
    out = grouped.agg(
        mean=("value", "mean"), low=("value", "min"), high=("value", "max"), n_runs=("run", "nunique"), n=("n", "first")
    )
    return out.reset_index()


def groups_of(frame: pd.DataFrame) -> list[str]:
    """The mean over groups first, then the groups in their order."""
    return [MEAN, *group_order(set(frame["group"]) - {MEAN})] if len(frame) else []


def paths(
    methods: Sequence[Method], metrics: Mapping[str, Sequence[Mapping[str, Any]]], attribute: str, quantity: str
) -> pd.DataFrame:
    """One row a run and epoch: method, run, seed, epoch, divergence (mean over groups), es_auc (validation), chosen.

    `chosen` marks the epoch that validation selected so far: the last whose line says `best`. Epochs without a validation
    ES-AUC are left out.
    """
    means = divergences(methods, metrics, attribute, quantity)
    means = means[means["group"] == MEAN].set_index(["run", "epoch"])["value"]
    rows = []
    for method in methods:
        for entry in method.runs:
            lines = metrics.get(entry.id, ())
            best = max((int(line["epoch"]) for line in lines if line["best"]), default=None)
            for line in lines:
                epoch = int(line["epoch"])
                value = line["val"]["attributes"].get(attribute, {}).get("es_auc")
                if value is not None and (entry.id, epoch) in means.index:
                    rows.append(
                        (
                            method.name, entry.id, entry.seed, epoch, float(means[(entry.id, epoch)]), float(value),
                            epoch == best,
                        )
                    )  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "run", "seed", "epoch", "divergence", "es_auc", "chosen"])


def ends(
    methods: Sequence[Method], walked: pd.DataFrame, reports: Mapping[str, Mapping[str, Any]], attribute: str
) -> pd.DataFrame:
    """One row a finished run: method, run, seed, divergence, es_auc (test), low, high, chance, n.

    The divergence is that of the selected epoch, whose model the test split was scored by.
    """
    chosen = walked[walked["chosen"]].set_index("run")
    rows = []
    for method in methods:
        for entry in method.runs:
            facts = reports.get(entry.id, {}).get("attributes", {}).get(attribute)
            if facts is None or facts["es_auc"] is None or entry.id not in chosen.index:
                continue
            interval = facts.get("intervals", {}).get("es_auc") or {"low": np.nan, "high": np.nan}
            chance = facts.get("chance", {}).get("es_auc", {}).get("expected", np.nan)
            rows.append(
                {
                    "method": method.name,
                    "run": entry.id,
                    "seed": entry.seed,
                    "divergence": float(chosen.loc[entry.id, "divergence"]),
                    "es_auc": float(facts["es_auc"]),
                    "low": interval["low"],
                    "high": interval["high"],
                    "chance": chance,
                    "n": facts["n"],
                }
            )
    return pd.DataFrame(
        rows, columns=["method", "run", "seed", "divergence", "es_auc", "low", "high", "chance", "n"]
    )  # fmt: skip


# In words -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What a change of training did to the distance and to ES-AUC.

    Attributes
    ----------
    before, after : float
        Mean divergence over groups, reference and compared.
    difference, low, high : float
        ES-AUC of the test split, compared minus reference, with its 95 % interval; NaN where there is none.
    reliable : bool
        Whether the difference is more than chance, corrected over attributes (Holm).
    seeds, n : int
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    reliable: bool
    seeds: int
    n: int


def answer(effect: Effect) -> str:
    """Did the distance fall, and did fairness improve? One sentence, from numbers alone.

    >>> answer(Effect(0.0100, 0.0066, 0.004, -0.011, 0.019, False, 3, 600))
    'The distance fell by 34 %; ES-AUC changed by +0.004 (95 % interval −0.011 to +0.019, 3 seeds, n = 600): no evidence \
that fairness improved.'
    >>> answer(Effect(0.0100, 0.0066, 0.020, 0.004, 0.036, True, 3, 600)).split(": ")[1]
    'fairness improved by more than chance explains.'
    >>> answer(Effect(0.0100, 0.0120, -0.020, -0.036, -0.004, True, 3, 600)).split("; ")[0]
    'The distance rose by 20 %'
    """
    distance = f"The distance {moved(effect.before, effect.after)}"
    if not np.isfinite(effect.difference):
        return f"{distance}; ES-AUC is undefined for one of them, so nothing can be said about fairness."
    change = f"ES-AUC changed by {signed(effect.difference)}"
    about = f"{many(effect.seeds, 'seed')}, n = {effect.n:,}"
    if not (np.isfinite(effect.low) and np.isfinite(effect.high)):
        return f"{distance}; {change} (no interval, {about}): nothing can be said beyond this one comparison."
    if effect.reliable:
        way = "improved" if effect.difference > 0 else "became worse"
        verdict = f"fairness {way} by more than chance explains"
    elif effect.low > 0 or effect.high < 0:
        verdict = "no evidence about fairness that survives the correction over attributes"
    else:
        verdict = "no evidence that fairness improved"
    reach = f"{signed(effect.low)} to {signed(effect.high)}"
    return f"{distance}; {change} (95 % interval {reach}, {about}): {verdict}."


def moved(before: float, after: float) -> str:
    """
    >>> moved(0.1, 0.066), moved(0.1, 0.1002), moved(0.0, 0.1)
    ('fell by 34 %', 'stayed the same (0.1 to 0.1002)', 'went from 0 to 0.1')
    >>> moved(0.08, 1.4)
    'rose 17.5-fold (0.08 to 1.4)'
    """
    if not (np.isfinite(before) and np.isfinite(after)):
        return "is not known for both"
    if before <= 0:
        return f"went from {before:.3g} to {after:.3g}"
    change = after / before - 1
    if change > _FOLDS:
        return f"rose {after / before:.3g}-fold ({before:.3g} to {after:.3g})"
    if abs(change) < _EQUAL:
        return f"stayed the same ({before:.4g} to {after:.4g})"
    return f"{'fell' if change < 0 else 'rose'} by {abs(change):.0%}".replace("%", " %")


def signed(value: float) -> str:
    """
    >>> signed(0.004), signed(-0.0111), signed(0.0)
    ('+0.004', '−0.011', '0.000')
    """
    text = figure(abs(value))
    return text if text.strip("0.") == "" else f"{'+' if value > 0 else '−'}{text}"


def within_run(walked: pd.DataFrame) -> str:
    """What happened inside one run, from its first epoch to the selected one, on validation; "" where there is no path."""
    if len(walked) < 2 or not walked["chosen"].any():
        return ""
    first, last = walked.iloc[0], walked[walked["chosen"]].iloc[0]
    if first["epoch"] == last["epoch"]:
        return f"Validation selected epoch {int(first['epoch'])}, the first: there is no path to judge."
    return (
        f"Inside run {last['run']}, from epoch {int(first['epoch'])} to the selected epoch {int(last['epoch'])}: "
        f"the distance {moved(first['divergence'], last['divergence'])}; validation ES-AUC changed by "
        f"{signed(last['es_auc'] - first['es_auc'])} (no interval: scores of single epochs are not kept)."
    )


def effect_of(compared: Mapping[str, Any], end: pd.DataFrame, attribute: str, a: str, b: str) -> Effect:
    """The effect of method `b` against `a`: mean end divergence of each, and the paired difference of test ES-AUC."""
    before, after = (float(end.loc[end["method"] == name, "divergence"].mean()) for name in (a, b))
    facts = compared["attributes"][attribute]
    interval = facts["interval"] or {"low": np.nan, "high": np.nan}
    difference = np.nan if facts["difference"] is None else float(facts["difference"])
    n = int(facts["n_positive"] + facts["n_negative"])
    return Effect(
        before, after, difference, interval["low"], interval["high"], bool(facts["reliable"]), int(facts["n_seeds"]), n
    )


def divergence_table(band: pd.DataFrame) -> pd.DataFrame:
    """Method, Group, n, Seeds, First epoch, Last epoch, Epochs, Change: the ends of every curve."""
    rows = []
    for (method, group), part in band.groupby(["method", "group"], sort=False):
        first, last = part.iloc[0], part.iloc[-1]
        rows.append(
            {
                "Method": method,
                "Group": group or "mean over groups",
                "n": int(last["n"]),
                "Seeds": int(last["n_runs"]),
                "First epoch": figure(first["mean"], 4),
                "Last epoch": figure(last["mean"], 4),
                "Epochs": int(last["epoch"]),
                "Change": moved(first["mean"], last["mean"]) if len(part) > 1 else NOTHING,
            }
        )
    return pd.DataFrame(rows)
