"""What a review says about pairs: one verdict a pair, with the way it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .events import BAD, Event
from .state import State, Subject

STANDINGS: Mapping[str, str] = {
    "single": "one reader",
    "agreed": "all readers agree",
    "adjudicated": "readers disagreed, an adjudicator decided",
    "conflict": "readers disagree, nobody has decided yet",
}


@dataclass(frozen=True)
class ChainHead:
    """The last event of the log; whoever keeps it can later prove that nothing before it was changed or cut off."""

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
        return None if self.verdict in (None, "unsure") else self.verdict in BAD

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class VerdictSet:
    """Verdicts by pair, and the state of the log they were taken from.

    Attributes
    ----------
    verdicts : tuple of PairVerdict
    head : ChainHead
    source : str
        Where they come from, for the record: "review log" or the name of an exported file.
    """

    verdicts: tuple[PairVerdict, ...]
    head: ChainHead
    source: str = "review log"

    def __len__(self) -> int:
        return len(self.verdicts)

    def of_data(self, data: str) -> VerdictSet:
        """Those of one data set."""
        return VerdictSet(tuple(v for v in self.verdicts if v.data == data), self.head, self.source)


def resolve(state: State, subject: Subject) -> PairVerdict | None:
    """The verdict on one pair; None where every reading was taken back."""
    readings = state.readings(subject)
    decided = state.adjudication(subject)
    if decided is not None:
        return _pair_verdict(subject, "adjudicated", (decided,), len(readings))
    if not readings:
        return None
    if state.in_conflict(subject):
        return PairVerdict(*subject, None, "conflict", None, None, len(readings))
    told = tuple(event for event in readings if event.body["verdict"] != "unsure") or readings
    return _pair_verdict(subject, "single" if len(readings) == 1 else "agreed", told, len(readings))


def _pair_verdict(subject: Subject, standing: str, told: tuple[Event, ...], n_readings: int) -> PairVerdict:
    verdict = told[0].body["verdict"]
    return PairVerdict(
        *subject, verdict, standing, _only(told, "better_pair_id"), _only(told, "corrected_label"), n_readings
    )


def _only(events: tuple[Event, ...], name: str) -> Any:
    """The value the events agree on, silent ones aside; None where there is none, or several."""
    values = {event.body[name] for event in events} - {None}
    return values.pop() if len(values) == 1 else None
