"""Which of the compared methods is best, and what it won against the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..fairness import Outcome, PairedDifference, Undefined
from .comparison import MethodDifference, RunComparison


@dataclass(frozen=True)
class Verdict:
    """One method against the reference: AUC of everyone and ES-AUC by attribute that are reliably better, and worse."""

    difference: MethodDifference
    won: tuple[PairedDifference, ...]
    lost: tuple[PairedDifference, ...]


def verdict_on(difference: MethodDifference) -> Verdict:
    """What a method won and lost."""
    found = [difference.comparison.overall, *difference.comparison.attributes.values()]
    won, lost = (tuple(f for f in found if f.outcome is outcome) for outcome in (Outcome.BETTER, Outcome.WORSE))
    return Verdict(difference, won, lost)


def best_method(result: RunComparison) -> Verdict | None:
    """The method that won most against the first one; None where none won more than it lost.

    Methods paired by several seeds come before those with one; equal ones are ordered by the mean gain in ES-AUC.
    """
    found = [verdict_on(difference) for difference in result.differences.values()]
    found = [one for one in found if len(one.won) > len(one.lost)]
    return max(found, key=_rank, default=None)


def _rank(one: Verdict) -> tuple[bool, int, float]:
    changes = [f.difference for f in one.difference.comparison.attributes.values()]
    known = [float(value) for value in changes if not isinstance(value, Undefined)]
    return len(one.difference.seeds) > 1, len(one.won) - len(one.lost), float(np.mean(known)) if known else 0.0
