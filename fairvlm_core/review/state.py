"""The state that the events of the log lead to: who read what, which pair is reserved for whom, where readers disagree.

A pair is identified by its data set (fingerprint) and its id, so that a verdict given in one queue counts in every other
queue over the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..errors import InputError
from .events import Event, person
from .queue import QueueItem

PairKey = tuple[str, str]  # fingerprint of the data, pair id
_CLOCK_SLACK = 60.0  # seconds


@dataclass(frozen=True)
class Queue:
    """A stored queue.

    Attributes
    ----------
    queue_id : str
        "q001", "q002", …
    name, by, at : str
        As typed; who made it; when (UTC).
    run_id, data, data_name : str
        The run it was made from; fingerprint and name of that run's data.
    n_items : int
    settings : mapping
        `QueueSettings` as plain values.
    population : mapping
        Stratum to its number of pairs when the queue was drawn.
    """

    queue_id: str
    name: str
    by: str
    at: str
    run_id: str
    data: str
    data_name: str
    n_items: int
    settings: Mapping[str, Any] = field(repr=False)
    population: Mapping[str, int] = field(repr=False)

    @property
    def blind(self) -> bool:
        """Why a pair is in the queue is hidden from readers."""
        return bool(self.settings["blind"])


@dataclass(frozen=True)
class ReviewTask:
    """A pair that is leased to a reader. It does not show whether the pair is a control, or read for the second time.

    A verdict given after `expires` (UTC) still counts; another reader may have the pair by then.
    """

    queue_id: str
    pair_id: str
    expires: str


@dataclass(frozen=True)
class Conflict:
    """Readers who disagree on a pair: each one's standing verdict event, oldest first."""

    queue_id: str
    pair_id: str
    readings: tuple[Event, ...]


@dataclass(frozen=True)
class ReviewProgress:
    """Progress of a queue.

    Attributes
    ----------
    n_items, n_done : int
        Pairs; pairs with all the readings they need.
    n_readings, n_wanted : int
        Readings that were needed and are there; readings needed in all (second ones included). A pair that more people have
        read than needed, in another queue, counts as often as needed.
    n_leased, n_conflicts : int
        Pairs that are being read now; pairs that wait for an adjudicator.
    reviewers : mapping
        Name to its number of pairs read.
    """

    n_items: int
    n_done: int
    n_readings: int
    n_wanted: int
    n_leased: int
    n_conflicts: int
    reviewers: Mapping[str, int]

    def read_by(self, reviewer: str) -> int:
        """Pairs that one person has read."""
        return sum(n for name, n in self.reviewers.items() if person(name) == person(reviewer))


class State:
    """Built event by event; only `apply` changes it."""

    def __init__(self) -> None:
        self.sequence = 0
        self.hash = ""
        self.queues: dict[str, Queue] = {}
        self.items: dict[str, tuple[QueueItem, ...]] = {}
        self.places: dict[str, dict[str, QueueItem]] = {}  # of a queue, by pair id
        self.given: dict[str, Event] = {}  # verdicts and adjudications by event id
        self._undone: set[str] = set()
        self._verdicts: dict[PairKey, dict[str, list[Event]]] = {}
        self._adjudications: dict[PairKey, list[Event]] = {}
        self._leases: dict[PairKey, dict[str, Event]] = {}
        self._held: dict[str, dict[PairKey, Event]] = {}
        self._readers: dict[PairKey, set[str]] = {}
        self._released: dict[tuple[PairKey, str], int] = {}
        self._given_by: dict[tuple[str, str], list[Event]] = {}

    def apply(self, event: Event, items: Iterable[QueueItem] = ()) -> None:
        """Add the next event; `items` are those of a new queue."""
        self.sequence, self.hash = event.sequence, event.hash
        if event.kind == "queue":
            names = ("name", "run_id", "data", "data_name", "n_items", "settings", "population")
            values = {name: event.body[name] for name in names}
            self.queues[event.queue_id] = Queue(queue_id=event.queue_id, by=event.reviewer, at=event.at, **values)
            self.items[event.queue_id] = tuple(items)
            self.places[event.queue_id] = {item.pair_id: item for item in self.items[event.queue_id]}
            return
        key, who = self.key(event.queue_id, event.pair_id), person(event.reviewer)
        if event.kind == "lease":
            self._leases.setdefault(key, {})[who] = event
            self._held.setdefault(who, {})[key] = event
        elif event.kind == "release":
            self._end_lease(key, who)
            self._released[key, who] = event.sequence
        elif event.kind == "undo":
            self._undone.add(str(event.refers))
        else:  # a verdict or an adjudication
            self.given[event.event_id] = event
            self._given_by.setdefault((event.queue_id, who), []).append(event)
            if event.kind == "verdict":
                self._end_lease(key, who)
                self._verdicts.setdefault(key, {}).setdefault(who, []).append(event)
            else:
                self._adjudications.setdefault(key, []).append(event)
        if event.kind in {"verdict", "undo"}:
            self._readers[key] = {person(reading.reviewer) for reading in self.readings(key)}

    def _end_lease(self, key: PairKey, who: str) -> None:
        self._leases.get(key, {}).pop(who, None)
        self._held.get(who, {}).pop(key, None)

    def key(self, queue_id: str, pair_id: str) -> PairKey:
        return self.queues[queue_id].data, pair_id

    def queue(self, queue_id: str) -> Queue:
        if queue_id not in self.queues:
            latest = ", ".join(list(self.queues)[-3:]) or "none yet"
            raise InputError(
                f"there is no queue {str(queue_id)[:40]!r} (latest: {latest}); `fairvlm review queues` lists them"
            )
        return self.queues[queue_id]

    def item(self, queue_id: str, pair_id: str) -> QueueItem:
        self.queue(queue_id)
        if pair_id not in self.places[queue_id]:
            raise InputError(f"pair {str(pair_id)[:80]!r} is not in queue {queue_id}")
        return self.places[queue_id][pair_id]

    def is_undone(self, event_id: str) -> bool:
        return event_id in self._undone

    def judged(self) -> list[PairKey]:
        """Pairs with a verdict or an adjudication, in the order of the first one."""
        return list(dict.fromkeys([*self._verdicts, *self._adjudications]))

    def readings(self, key: PairKey) -> tuple[Event, ...]:
        """The standing verdict of each reader (the latest that is not undone), oldest first."""
        latest = [self._latest(events) for events in self._verdicts.get(key, {}).values()]
        return tuple(sorted((event for event in latest if event), key=lambda event: event.sequence))

    def adjudication(self, key: PairKey) -> Event | None:
        return self._latest(self._adjudications.get(key, []))

    def in_conflict(self, key: PairKey) -> bool:
        """Readers disagree, and nobody has decided."""
        return disagree(self.readings(key)) and self.adjudication(key) is None

    def last_given(self, queue_id: str, reviewer: str) -> Event | None:
        """The latest standing verdict or adjudication of a person in a queue: the one that "undo" would take back."""
        self.queue(queue_id)
        return self._latest(self._given_by.get((queue_id, person(reviewer)), []))

    def _latest(self, events: list[Event]) -> Event | None:
        return next((event for event in reversed(events) if event.event_id not in self._undone), None)

    def live_leases(self, key: PairKey, now: datetime) -> dict[str, Event]:
        return {who: lease for who, lease in self._leases.get(key, {}).items() if is_live(lease, now)}

    def tasks(self, queue_id: str, reviewer: str, count: int, now: datetime) -> list[tuple[QueueItem, Event | None]]:
        """Up to `count` pairs for a reader, each with the lease they already have on it (None: to be leased).

        Pairs leased to the reader come first, then by position those that need a reading, last those the reader gave back.
        """
        who, data, places = person(reviewer), self.queues[queue_id].data, self.places[queue_id]
        held = [
            (places[pair_id], lease)
            for (of, pair_id), lease in self._held.get(who, {}).items()
            if of == data and pair_id in places and is_live(lease, now)
        ]
        found: list[tuple[QueueItem, Event | None]] = sorted(held, key=lambda entry: entry[0].position)
        returned = []
        for item in self.items[queue_id]:
            if len(found) >= count:
                break
            key = (data, item.pair_id)
            if self._needs(key, item.readers, who, now):
                if (key, who) in self._released:
                    returned.append((self._released[key, who], item))
                else:
                    found.append((item, None))
        returned.sort(key=lambda entry: entry[0])
        return [*found, *((item, None) for _, item in returned)][:count]

    def _needs(self, key: PairKey, n_readers: int, who: str, now: datetime) -> bool:
        """Whether a pair needs a reading of somebody who neither read it nor has it now."""
        readers = self._readers.get(key, set())
        if who in readers or len(readers) >= n_readers:
            return False
        readers = readers | set(self.live_leases(key, now))
        return who not in readers and len(readers) < n_readers

    def left_for(self, queue_id: str, reviewer: str) -> int:
        """Pairs of a queue that a person can still read, those that others have open now included."""
        self.queue(queue_id)
        who, left = person(reviewer), 0
        for item in self.items[queue_id]:
            readers = self._readers.get(self.key(queue_id, item.pair_id), set())
            left += who not in readers and len(readers) < item.readers
        return left

    def progress(self, queue_id: str, now: datetime) -> ReviewProgress:
        done = readings = leased = conflicts = wanted = 0
        reviewers: dict[str, int] = {}
        self.queue(queue_id)
        for item in self.items[queue_id]:
            key = self.key(queue_id, item.pair_id)
            standing = self.readings(key)
            for event in standing:
                reviewers[event.reviewer] = reviewers.get(event.reviewer, 0) + 1
            readings += min(len(standing), item.readers)
            wanted += item.readers
            done += len(standing) >= item.readers
            leased += bool(self.live_leases(key, now))
            conflicts += self.in_conflict(key)
        return ReviewProgress(len(self.items[queue_id]), done, readings, wanted, leased, conflicts, reviewers)


def disagree(readings: Iterable[Event]) -> bool:
    """Whether readers differ in verdict or in the corrected label; "unsure" does not count."""
    sure = [event.body for event in readings if event.body["verdict"] != "unsure"]
    labels = {body["corrected_label"] for body in sure} - {None}
    return len({body["verdict"] for body in sure}) > 1 or len(labels) > 1


def is_live(lease: Event, now: datetime) -> bool:
    """Whether a lease is still valid.

    A lease that would last longer from now than it was given for was made before the clock was set back. It counts as
    expired, so that a wrong clock never keeps a pair from everyone.
    """
    left = (datetime.fromisoformat(lease.body["expires"]) - now).total_seconds()
    return 0 < left <= lease.body["seconds"] + _CLOCK_SLACK
