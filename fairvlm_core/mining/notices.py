"""Why mining flags nothing, or less than it could: typed, with the numbers that a message needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Reason(Enum):
    """Why nothing is flagged; the value is the message's template."""

    WARM_UP = "nothing is flagged yet: {recorded} of {warmup} warm-up epochs are recorded"
    NO_EPOCH = "nothing is flagged yet: no epoch is recorded"
    TOO_FEW_FOR_LIMIT = (
        "nothing can be flagged: the largest possible |z| for {n} pairs is (N-1)/√N = {largest:.2f}, below {limit:g}; "
        "lower the limits"
    )
    ALL_EQUAL = "nothing is flagged: all values are the same, so their spread is 0"
    MOST_EQUAL = "nothing is flagged: more than half of the values are the same, so their spread is 0"
    TOO_FEW_FOR_MIXTURE = "the mixture needs {needed} pairs or more (got {n}): nothing is flagged as faulty"
    MOST_EQUAL_FOR_MIXTURE = "more than half of the values are the same: the mixture flags nothing as faulty"
    ONE_GROUP = "one skewed group explains the values as well as two: the mixture flags nothing as faulty"
    NOT_SEPARATE = (
        "the two groups overlap too much (separation {separation:.1f} below {needed:.1f}): the mixture flags nothing "
        "as faulty"
    )
    UNLIKELY_SHARE = "the higher group would hold {share:.1%} of the pairs: the mixture flags nothing as faulty"
    TOO_FEW_FOR_MISMATCH = "wrong notes can be found among {needed} pairs or more (got {n})"
    SMALL_SHARE = "{share:.1%} of the notes look like notes of other images: none is flagged"
    WEAK_FEATURES = "own notes look like notes of other images: the features do not separate right from wrong notes"
    FALLING_TAIL = (
        "the share of notes that look like notes of other images falls from {first:.0%} to {last:.0%} along the tail, "
        "which also happens without wrong notes: none is flagged"
    )
    NO_WRONG_NOTE = (
        "no wrong note is flagged: too few notes look like notes of other images, or the features say too little"
    )
    NEVER_SEEN = "{unseen} of {n} pairs were never seen"


@dataclass(frozen=True)
class Notice:
    """One thing that a mining result has to say; ``str(notice)`` is the message.

    >>> str(Notice(Reason.WARM_UP, {"recorded": 0, "warmup": 1}))
    'nothing is flagged yet: 0 of 1 warm-up epochs are recorded'
    """

    reason: Reason
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.reason.value.format(**self.values)
