"""How good the miner is, from verdicts: precision, recall, and how many bad pairs it missed.

When the queue was drawn, the miner had flagged N_f pairs and left N_c unflagged. The random part of a queue is a simple
random sample of each stratum, so with p_f and p_c the shares of bad pairs among its judged members

    bad flagged   F = N_f p_f        precision = p_f
    bad missed    M = N_c p_c        recall    = F / (F + M)

which weights every judged pair by the inverse of its probability to be drawn. A stratum in which every pair is judged is
known, not estimated. Intervals of a share are Wilson's; the interval of the ratio M / F is made from them by the method of
variance estimates recovery.

References
----------
Donner & Zou, Closed-form confidence intervals for functions of the normal mean and standard deviation, Statistical Methods
in Medical Research 21 (2012) 347-359.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..fairness.intervals import rate_interval
from ..fairness.results import Interval
from .events import VERDICTS
from .queue import FLAGGED, QueueItem
from .results import Missing, VerdictSet

_OF_ITEM = ("pair_id", "position", "stratum", "control")
_OF_VERDICT = ("verdict", "standing", "bad")


@dataclass(frozen=True)
class Estimate:
    """An estimate from `n` judged pairs; where it cannot be known yet, `value` is None and `missing` says why."""

    value: float | None = None
    interval: Interval | None = None
    n: int = 0
    missing: Missing | None = None

    @property
    def message(self) -> str:
        """Why there is no value; empty where there is one."""
        return self.missing.value if self.missing else ""

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
        Judged pairs of the random part that are left out: no reader could tell, or readers disagree.
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
    """A number of bad pairs with its limits, from `n` judged pairs."""

    value: float
    low: float
    high: float
    n: int


def miner_quality(
    items: Sequence[QueueItem], population: Mapping[str, int], verdicts: VerdictSet, *, confidence: float = 0.95
) -> MinerQuality:
    """Estimate precision and recall without bias from the random part of a queue.

    Parameters
    ----------
    items, population
        Of the queue: `ReviewStore.items`, `Queue.population`.
    verdicts
        `ReviewStore.verdicts(queue_id=…)`.
    confidence
        Above 0, below 1.

    Notes
    -----
    Readers who know why a pair is shown, or who make mistakes, bias the estimates. A blind queue prevents the first; second
    readings show the size of the second.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence: must be between 0 and 1 (got {confidence})")
    bad = {v.pair_id: v.bad for v in verdicts.verdicts if v.bad is not None}
    unsure = {v.pair_id for v in verdicts.verdicts if v.bad is None}

    def total(*strata: str) -> _Total | None:
        """Bad pairs of these strata; None without a judged random pair."""
        members = [item for item in items if item.stratum in strata and item.pair_id in bad]
        size = sum(population[stratum] for stratum in strata)
        if len(members) == size:
            n_bad = float(sum(bad[item.pair_id] for item in members))
            return _Total(n_bad, n_bad, n_bad, size)
        judged = np.array([bad[item.pair_id] for item in members if item.control], bool)
        if len(judged) == 0:
            return None
        interval = rate_interval(judged, None, confidence)
        low, high = (0.0, 1.0) if interval is None else (interval.low, interval.high)
        return _Total(size * float(judged.mean()), size * low, size * high, len(judged))

    def share(*kinds: str) -> Estimate:
        found, size = total(*kinds), sum(population[kind] for kind in kinds)
        if size == 0:
            return Estimate(missing=Missing.NOT_FLAGGED)
        if found is None:
            return Estimate(missing=Missing.NOT_JUDGED)
        interval = Interval(found.low / size, found.high / size, confidence, "Wilson")
        return Estimate(found.value / size, interval, found.n)

    clean = total("clean")
    missed = Estimate(missing=Missing.NOT_JUDGED)
    if clean is not None:
        missed = Estimate(clean.value, Interval(clean.low, clean.high, confidence, "Wilson"), clean.n)
    return MinerQuality(
        precision=share(*FLAGGED),
        by_kind={kind: share(kind) for kind in FLAGGED},
        recall=_recall(total(*FLAGGED), clean, confidence),
        missed=missed,
        n_unsure=sum(item.control and item.pair_id in unsure for item in items),
    )


def _recall(flagged: _Total | None, missed: _Total | None, confidence: float) -> Estimate:
    if flagged is None or missed is None:
        return Estimate(missing=Missing.NOT_BOTH_JUDGED)
    n = flagged.n + missed.n
    if flagged.value + missed.value == 0:
        return Estimate(n=n, missing=Missing.NONE_BAD)
    low, high = _ratio_limits(missed, flagged)
    interval = Interval(1 / (1 + high), 1 / (1 + low), confidence, "Wilson, variance recovery")
    return Estimate(flagged.value / (flagged.value + missed.value), interval, n)


def _ratio_limits(top: _Total, bottom: _Total) -> tuple[float, float]:
    """Limits of top / bottom, which are independent (Donner & Zou; the lower one in a form without cancellation)."""
    product = top.value * bottom.value
    inner = product**2 - top.low * bottom.high * (2 * top.value - top.low) * (2 * bottom.value - bottom.high)
    divisor = product + math.sqrt(max(0.0, inner))
    low = top.low * (2 * top.value - top.low) / divisor if divisor > 0 else 0.0
    if bottom.low <= 0:
        return low, math.inf
    inner = product**2 - top.high * bottom.low * (2 * top.value - top.high) * (2 * bottom.value - bottom.low)
    return low, (product + math.sqrt(max(0.0, inner))) / (bottom.low * (2 * bottom.value - bottom.low))


def judged_frame(items: Sequence[QueueItem], verdicts: VerdictSet) -> pd.DataFrame:
    """One row for each judged pair of a queue: pair_id, position, stratum, control, verdict, standing, bad, and its groups.

    `verdict` is None in a conflict; `bad` is None where nobody could tell.
    """
    by_pair = {verdict.pair_id: verdict for verdict in verdicts.verdicts}
    rows = []
    for item in items:
        if (verdict := by_pair.get(item.pair_id)) is not None:
            facts = {name: getattr(item, name) for name in _OF_ITEM} | {n: getattr(verdict, n) for n in _OF_VERDICT}
            rows.append(facts | dict(item.facts["groups"]))
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*_OF_ITEM, *_OF_VERDICT])


def precision_table(items: Sequence[QueueItem], verdicts: VerdictSet, *, confidence: float = 0.95) -> pd.DataFrame:
    """Precision among the flagged pairs that were judged, by kind and by group, with Wilson's intervals.

    It describes what was read. Where the most suspicious pairs came first, it is above the precision over all flagged
    pairs, which `miner_quality` estimates.

    Returns
    -------
    DataFrame
        by ("all", "kind" or an attribute), group, n (judged), n_bad, n_unsure (nobody could tell: not in n), precision,
        low, high; the last three missing where n is 0 (limits: below 2).
    """
    judged = judged_frame(items, verdicts)
    flagged = judged[judged["stratum"].isin(FLAGGED)]
    parts = [("all", "flagged", flagged), *(("kind", kind, flagged[flagged["stratum"] == kind]) for kind in FLAGGED)]
    for name in flagged.columns[len(_OF_ITEM) + len(_OF_VERDICT) :]:
        parts += [(name, str(group), part) for group, part in flagged.groupby(name)]
    rows = []
    for by, group, part in parts:
        known = part["bad"].dropna().to_numpy(bool)
        interval = rate_interval(known, None, confidence)
        rows.append(
            {
                "by": by,
                "group": group,
                "n": len(known),
                "n_bad": int(known.sum()),
                "n_unsure": len(part) - len(known),
                "precision": float(known.mean()) if len(known) else math.nan,
                "low": math.nan if interval is None else interval.low,
                "high": math.nan if interval is None else interval.high,
            }
        )
    return pd.DataFrame(rows)


def verdict_counts(items: Sequence[QueueItem], verdicts: VerdictSet, attribute: str | None = None) -> pd.DataFrame:
    """How often each verdict was given, in all or by group of an attribute.

    Returns
    -------
    DataFrame
        group ("all" without an attribute), one column for each verdict, "conflict", n.
    """
    judged = judged_frame(items, verdicts)
    if attribute is not None and attribute not in judged:
        raise InputError(f"attribute {attribute!r} is not in this queue's pairs, or no pair is judged yet")
    group = pd.Series("all", index=judged.index) if attribute is None else judged[attribute]
    columns = [*VERDICTS, "conflict"]
    counts = pd.crosstab(group, judged["verdict"].fillna("conflict")).reindex(columns=columns, fill_value=0)
    counts = counts.rename_axis(index="group", columns=None).reset_index()
    return counts.assign(n=counts[columns].sum(axis=1))
