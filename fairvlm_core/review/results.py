"""What a review says about pairs: one verdict for each pair, and how it was reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from .events import VERDICTS, Event
from .state import PairKey, State

STANDINGS: Mapping[str, str] = {
    "single": "one reader",
    "agreed": "all readers agree",
    "adjudicated": "readers disagreed, an adjudicator decided",
    "conflict": "readers disagree, nobody has decided yet",
}


class Missing(Enum):
    """Why a statistic of a review has no value; the enum's value is the text for people."""

    NOT_FLAGGED = "the miner flagged no such pair"
    NOT_JUDGED = "no random pair of this kind is judged yet"
    NOT_BOTH_JUDGED = "random pairs of the flagged and of the others must be judged first"
    NONE_BAD = "no bad pair was found"
    NO_SECOND_READING = "no pair has two readings yet"
    TOO_FEW = "kappa needs at least 5 pairs with two readings"
    ONE_VERDICT = "kappa is undefined: every reading is the same verdict"


@dataclass(frozen=True)
class ChainHead:
    """The last event of the log; who keeps it can later prove that nothing before it was changed or cut off."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class PairVerdict:
    """What the readers of a pair say together. Readers who cannot tell do not count against those who can.

    Attributes
    ----------
    data, pair_id : str
        Fingerprint of the data set; the pair.
    verdict : str, optional
        A key of `VERDICTS`; None in a conflict.
    standing : str
        A key of `STANDINGS`.
    better_pair_id : str, optional
        With "wrong_note": the pair with the right note; None where nobody named one, or readers named different ones.
    corrected_label : int, optional
        With "wrong_label": 0 or 1; None where nobody said.
    n_readings : int
    """

    data: str
    pair_id: str
    verdict: str | None
    standing: str
    better_pair_id: str | None
    corrected_label: int | None
    n_readings: int

    @property
    def bad(self) -> bool | None:
        """Whether something is wrong with the pair; None where nobody could tell, or readers disagree."""
        return None if self.verdict is None else VERDICTS[self.verdict].bad


@dataclass(frozen=True)
class VerdictSet:
    """Verdicts by pair, and the head of the log they were taken from; `source` may name an exported file instead."""

    verdicts: tuple[PairVerdict, ...]
    head: ChainHead
    source: str = "review log"

    def __len__(self) -> int:
        return len(self.verdicts)

    def of_data(self, data: str) -> VerdictSet:
        """Those of one data set."""
        return VerdictSet(tuple(v for v in self.verdicts if v.data == data), self.head, self.source)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"head": asdict(self.head), "verdicts": [asdict(verdict) for verdict in self.verdicts]}


def resolve(state: State, key: PairKey) -> PairVerdict | None:
    """The verdict on one pair; None where every reading was taken back."""
    readings, decision = state.readings(key), state.adjudication(key)
    deciding: tuple[Event, ...]
    if decision is not None:
        standing, deciding = "adjudicated", (decision,)
    elif not readings:
        return None
    elif state.in_conflict(key):
        return PairVerdict(*key, None, "conflict", None, None, len(readings))
    else:
        standing = "single" if len(readings) == 1 else "agreed"
        deciding = tuple(event for event in readings if event.body["verdict"] != "unsure") or readings
    better, label = (_common(deciding, name) for name in ("better_pair_id", "corrected_label"))
    return PairVerdict(*key, deciding[0].body["verdict"], standing, better, label, len(readings))


def _common(events: tuple[Event, ...], name: str) -> Any:
    """The value all events that have one agree on; None where there is none, or several."""
    values = {event.body[name] for event in events} - {None}
    return values.pop() if len(values) == 1 else None
