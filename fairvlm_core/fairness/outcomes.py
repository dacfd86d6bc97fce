"""What a comparison comes to, as a value, and the words for it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from .. import words
from .metrics import Undefined

if TYPE_CHECKING:
    from .paired import PairedDifference


class Outcome(Enum):
    """What a paired difference says about B against A."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"  # reliable, for a metric without a better direction
    LOWER = "lower"
    NO_RELIABLE_DIFFERENCE = "no_reliable_difference"
    NO_INTERVAL = "no_interval"
    UNDEFINED = "undefined"


def outcome_words(outcome: Outcome, name: str = "B") -> str:
    """The outcome without numbers; `name` is the method that is compared with the baseline.

    >>> outcome_words(Outcome.BETTER, "dbpm"), outcome_words(Outcome.NO_RELIABLE_DIFFERENCE)
    ('dbpm is better', 'no reliable difference')
    """
    if outcome in (Outcome.BETTER, Outcome.WORSE, Outcome.HIGHER, Outcome.LOWER):
        return f"{name} is {outcome.value}"
    return "no comparison" if outcome is Outcome.UNDEFINED else outcome.value.replace("_", " ")


def difference_words(difference: PairedDifference, name: str = "B", *, with_size: bool = True) -> str:
    """The outcome with its numbers, in percentage points; `with_size` adds the number of seeds or of rows."""
    head = outcome_words(difference.outcome, name)
    if isinstance(difference.difference, Undefined):
        return f"{head}: {difference.difference}"
    size = f", {difference.n_seeds} seeds" if difference.n_seeds > 1 else f", n = {difference.n}"
    size = size if with_size else ""
    if difference.interval is None:
        return f"{head}: {_points(difference.difference)} points{size} ({difference.no_interval})"
    return f"{head}: {_points(difference.interval.low)} to {_points(difference.interval.high)} points{size}"


def _points(value: float) -> str:
    return words.signed(100 * value, 1)
