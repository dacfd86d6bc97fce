"""How good the miner is, from verdicts: precision, recall, and how many bad pairs it missed.

When the queue was drawn, the miner had flagged N_f pairs and left N_c unflagged. The random part of a queue is a simple
random sample of either stratum, so with p_f and p_c the shares of bad pairs among its judged members

    bad flagged   F = N_f p_f        precision = p_f
    bad missed    M = N_c p_c        recall    = F / (F + M)

which weights every judged pair by the inverse of its chance to be drawn. Where every pair of a stratum is judged, that
stratum is known, not estimated. Limits of a share are Wilson's; those of the ratio M / F come from them by the method of
variance estimates recovery.

References
----------
Donner & Zou, Closed-form confidence intervals for functions of the normal mean and standard deviation, Statistical Methods
in Medical Research 21 (2012) 347-359.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..fairness.intervals import rate_interval
from ..fairness.results import Interval
from .events import BAD, VERDICTS
from .queue import FLAGGED, QueueItem
from .results import VerdictSet


@dataclass(frozen=True)
class Estimate:
    """A figure with what it rests on.

    Attributes
    ----------
    value : float, optional
        None where it cannot be known yet; `message` says why.
    interval : Interval, optional
    n : int
        Judged pairs it rests on.
    message : str
    """

    value: float | None
    interval: Interval | None
    n: int
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        interval = None if self.interval is None else self.interval.to_dict()
        return {"value": self.value, "interval": interval, "n": self.n, "message": self.message}


@dataclass(frozen=True)
class MinerQuality:
    """Precision and recall of the miner on the pairs a queue was drawn from.

    Attributes
    ----------
    precision : Estimate
        Share of flagged pairs that are bad.
    by_kind : mapping
        The same for "faulty" and "noisy".
    recall : Estimate
        Share of bad pairs that are flagged.
    missed : Estimate
        Number of bad pairs among the unflagged.
    n_unsure : int
        Judged pairs of the random part that nobody could tell, or where readers disagree: left out.
    """

    precision: Estimate
    by_kind: Mapping[str, Estimate]
    recall: Estimate
    missed: Estimate
    n_unsure: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "precision": self.precision.to_dict(),
            "by_kind": {kind: estimate.to_dict() for kind, estimate in self.by_kind.items()},
            "recall": self.recall.to_dict(),
            "missed": self.missed.to_dict(),
            "n_unsure": self.n_unsure,
        }


@dataclass(frozen=True)
class _Total:
    """A number of bad pairs with its limits; `n` judged pairs."""

    value: float
    low: float
    high: float
    n: int


def miner_quality(
    items: Sequence[QueueItem],
    population: Mapping[str, int],
    verdicts: VerdictSet,
    *,
    bad: Collection[str] = BAD,
    confidence: float = 0.95,
) -> MinerQuality:
    """Estimate precision and recall without bias from the random part of a queue.

    Parameters
    ----------
    items, population
        Of the queue: `ReviewStore.items`, `Queue.population`.
    verdicts
        `ReviewStore.verdicts(queue_id=…)`.
    bad
        Verdicts that count as bad; by default everything but "fits" and "unsure".
    confidence
        Above 0, below 1.

    Notes
    -----
    Readers who know why a pair is shown, or who err, move the figures; a blind queue and second readings show by how much.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence: {confidence}; a number between 0 and 1 is wanted")
    told = {v.pair_id: v.verdict in bad for v in verdicts.verdicts if v.bad is not None}
    unknown = {v.pair_id for v in verdicts.verdicts if v.bad is None}

    def total(*strata: str) -> _Total | None:
        """Bad pairs of these strata."""
        members = [item for item in items if item.stratum in strata and item.pair_id in told]
        judged = np.array([told[item.pair_id] for item in members], bool)
        if len(judged) == (size := sum(population[stratum] for stratum in strata)):
            return _known(judged)
        return _expanded(judged[np.array([item.control for item in members], bool)], size, confidence)

    flagged, clean = total(*FLAGGED), total("clean")
    return MinerQuality(
        precision=_share(flagged, sum(population[kind] for kind in FLAGGED), confidence, "flagged"),
        by_kind={kind: _share(total(kind), population[kind], confidence, kind) for kind in FLAGGED},
        recall=_recall(flagged, clean, confidence),
        missed=_count(clean, confidence),
        n_unsure=sum(item.control and item.pair_id in unknown for item in items),
    )


def _known(judged: np.ndarray) -> _Total:
    n_bad = float(judged.sum())
    return _Total(n_bad, n_bad, n_bad, len(judged))


def _expanded(random: np.ndarray, size: int, confidence: float) -> _Total | None:
    """The stratum's number of bad pairs from a random sample of its members; None without one."""
    if len(random) == 0:
        return None
    interval = rate_interval(random, None, confidence)
    low, high = (0.0, 1.0) if interval is None else (interval.low, interval.high)
    return _Total(size * float(random.mean()), size * low, size * high, len(random))


def _share(total: _Total | None, size: int, confidence: float, what: str) -> Estimate:
    if size == 0:
        return Estimate(None, None, 0, f"the miner called no pair {what}")
    if total is None:
        return Estimate(None, None, 0, f"no random {what} pair is judged yet")
    interval = Interval(total.low / size, total.high / size, confidence, "Wilson")
    return Estimate(total.value / size, interval, total.n)


def _count(total: _Total | None, confidence: float) -> Estimate:
    if total is None:
        return Estimate(None, None, 0, "no control pair is judged yet")
    return Estimate(total.value, Interval(total.low, total.high, confidence, "Wilson"), total.n)


def _recall(flagged: _Total | None, missed: _Total | None, confidence: float) -> Estimate:
    if flagged is None or missed is None:
        return Estimate(None, None, 0, "random pairs of the flagged and of the others must be judged first")
    n = flagged.n + missed.n
    if flagged.value + missed.value == 0:
        return Estimate(None, None, n, "no bad pair was found")
    low, high = _ratio_limits(missed, flagged)
    interval = Interval(1 / (1 + high), 1 / (1 + low), confidence, "Wilson, variance recovery")
    return Estimate(flagged.value / (flagged.value + missed.value), interval, n)


def _ratio_limits(top: _Total, bottom: _Total) -> tuple[float, float]:
    """Limits of top / bottom, independent of each other (Donner & Zou; the lower one in the form that does not cancel)."""
    product = top.value * bottom.value
    inner = product**2 - top.low * bottom.high * (2 * top.value - top.low) * (2 * bottom.value - bottom.high)
    divisor = product + math.sqrt(max(0.0, inner))
    low = top.low * (2 * top.value - top.low) / divisor if divisor > 0 else 0.0
    if bottom.low <= 0:
        return low, math.inf
    inner = product**2 - top.high * bottom.low * (2 * top.value - top.high) * (2 * bottom.value - bottom.low)
    return low, (product + math.sqrt(max(0.0, inner))) / (bottom.low * (2 * bottom.value - bottom.low))


def judged_frame(items: Sequence[QueueItem], verdicts: VerdictSet) -> pd.DataFrame:
    """One row a judged pair of a queue: pair_id, position, stratum, control, verdict, standing, bad, and its groups.

    `verdict` is None in a conflict; `bad` is None where nobody could tell.
    """
    by_pair = {verdict.pair_id: verdict for verdict in verdicts.verdicts}
    rows = []
    for item in items:
        if (verdict := by_pair.get(item.pair_id)) is not None:
            facts = {
                "pair_id": item.pair_id,
                "position": item.position,
                "stratum": item.stratum,
                "control": item.control,
            }
            said = {"verdict": verdict.verdict, "standing": verdict.standing, "bad": verdict.bad}
            rows.append(facts | said | dict(item.facts["groups"]))
    columns = ["pair_id", "position", "stratum", "control", "verdict", "standing", "bad"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def precision_table(items: Sequence[QueueItem], verdicts: VerdictSet, *, confidence: float = 0.95) -> pd.DataFrame:
    """Precision among the flagged pairs that were judged, by kind and by group, with Wilson's intervals.

    It describes what was read: where the order put the most suspicious pairs first, it is above that of all flagged pairs,
    which `miner_quality` estimates.

    Returns
    -------
    DataFrame
        by ("all", "kind" or an attribute), group, n (judged), n_bad, n_unsure (could not be told: not in n), precision,
        low, high; the last three missing where n is 0 (limits: below 2).
    """
    judged = judged_frame(items, verdicts)
    flagged = judged[judged["stratum"].isin(FLAGGED)]
    attributes = list(flagged.columns[7:])
    rows = [_precision_row("all", "flagged", flagged, confidence)]
    rows += [_precision_row("kind", kind, flagged[flagged["stratum"] == kind], confidence) for kind in FLAGGED]
    for name in attributes:
        rows += [_precision_row(name, group, part, confidence) for group, part in flagged.groupby(name)]
    return pd.DataFrame(rows)


def _precision_row(by: str, group: str, part: pd.DataFrame, confidence: float) -> dict[str, Any]:
    told = part["bad"].dropna().to_numpy(bool)
    interval = rate_interval(told, None, confidence)
    return {
        "by": by,
        "group": str(group),
        "n": len(told),
        "n_bad": int(told.sum()),
        "n_unsure": len(part) - len(told),
        "precision": float(told.mean()) if len(told) else math.nan,
        "low": math.nan if interval is None else interval.low,
        "high": math.nan if interval is None else interval.high,
    }


def verdict_counts(items: Sequence[QueueItem], verdicts: VerdictSet, attribute: str | None = None) -> pd.DataFrame:
    """How often each verdict was given, in all or by group of an attribute.

    Returns
    -------
    DataFrame
        group ("all" without an attribute), one column a verdict, "conflict", n.
    """
    judged = judged_frame(items, verdicts)
    if attribute is not None and attribute not in judged:
        raise InputError(f"attribute {attribute!r} is not in this queue's pairs, or no pair is judged yet")
    group = pd.Series("all", index=judged.index) if attribute is None else judged[attribute]
    said = judged["verdict"].fillna("conflict")
    counts = pd.crosstab(group, said).reindex(columns=[*VERDICTS, "conflict"], fill_value=0)
    counts = counts.rename_axis(index="group", columns=None).reset_index()
    return counts.assign(n=counts[[*VERDICTS, "conflict"]].sum(axis=1))
