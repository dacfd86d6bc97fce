"""What the log of events adds up to: who read what, who holds which pair, where readers disagree.

A pair is known by its data set (fingerprint) and its id, so that a verdict given in one queue counts in every other queue
over the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .events import Event, person
from .queue import QueueItem

Subject = tuple[str, str]  # fingerprint of the data, pair id
_CLOCK_SLACK = 60.0  # seconds


@dataclass(frozen=True)
class Queue:
    """A stored queue.

    Attributes
    ----------
    queue_id : str
        "q001", "q002", …
    name, by, at : str
        As typed in; who made it; when (UTC).
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
class Task:
    """A pair that is leased to a reader. Nothing here tells a control from a flagged pair, or first from second.

    Attributes
    ----------
    queue_id, pair_id : str
    expires : str
        UTC. A verdict given later still counts; another reader may have got the pair by then.
    """

    queue_id: str
    pair_id: str
    expires: str


@dataclass(frozen=True)
class Conflict:
    """Readers that disagree on a pair: each one's standing verdict event, oldest first."""

    queue_id: str
    pair_id: str
    readings: tuple[Event, ...]


@dataclass(frozen=True)
class Progress:
    """How far a queue is.

    Attributes
    ----------
    n_items, n_done : int
        Pairs; pairs with all the readings they are to have.
    n_readings, n_wanted : int
        Readings; readings wanted in all (second ones included).
    n_leased, n_conflicts : int
        Pairs some reader holds now; pairs that wait for an adjudicator.
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


class State:
    """Built event by event; `apply` is the only thing that changes it."""

    def __init__(self) -> None:
        self.sequence = 0
        self.hash = ""
        self.queues: dict[str, Queue] = {}
        self.items: dict[str, tuple[QueueItem, ...]] = {}
        self._places: dict[str, dict[str, QueueItem]] = {}
        self._undone: set[str] = set()
        self._verdicts: dict[Subject, dict[str, list[Event]]] = {}
        self._adjudications: dict[Subject, list[Event]] = {}
        self._leases: dict[Subject, dict[str, Event]] = {}
        self._held: dict[str, dict[Subject, Event]] = {}
        self._readers: dict[Subject, set[str]] = {}
        self._released: dict[tuple[Subject, str], int] = {}
        self._given: dict[tuple[str, str], list[Event]] = {}

    def apply(self, event: Event, items: Iterable[QueueItem] = ()) -> None:
        """Take in the next event; `items` are those of a new queue."""
        self.sequence, self.hash = event.sequence, event.hash
        if event.kind == "queue":
            self._add_queue(event, tuple(items))
            return
        subject, who = self.subject(event.queue_id, event.pair_id), person(event.reviewer)
        if event.kind == "lease":
            self._leases.setdefault(subject, {})[who] = event
            self._held.setdefault(who, {})[subject] = event
        elif event.kind == "release":
            self._end_lease(subject, who)
            self._released[subject, who] = event.sequence
        elif event.kind == "undo":
            self._undone.add(str(event.refers))
        elif event.kind == "verdict":
            self._end_lease(subject, who)
            self._given.setdefault((event.queue_id, who), []).append(event)
            self._verdicts.setdefault(subject, {}).setdefault(who, []).append(event)
        else:
            self._given.setdefault((event.queue_id, who), []).append(event)
            self._adjudications.setdefault(subject, []).append(event)
        if event.kind in {"verdict", "undo"}:
            self._readers[subject] = {person(reading.reviewer) for reading in self.readings(subject)}

    def _end_lease(self, subject: Subject, who: str) -> None:
        self._leases.get(subject, {}).pop(who, None)
        self._held.get(who, {}).pop(subject, None)

    def _add_queue(self, event: Event, items: tuple[QueueItem, ...]) -> None:
        names = ("name", "run_id", "data", "data_name", "n_items", "settings", "population")
        values = {name: event.body[name] for name in names}
        self.queues[event.queue_id] = Queue(queue_id=event.queue_id, by=event.reviewer, at=event.at, **values)
        self.items[event.queue_id] = items
        self._places[event.queue_id] = {item.pair_id: item for item in items}

    def subject(self, queue_id: str, pair_id: str) -> Subject:
        return self.queues[queue_id].data, pair_id

    def item(self, queue_id: str, pair_id: str) -> QueueItem | None:
        return self._places[queue_id].get(pair_id)

    def is_undone(self, event_id: str) -> bool:
        return event_id in self._undone

    def subjects(self) -> list[Subject]:
        """Pairs with an event of judgement, in the order of the first one."""
        return list(dict.fromkeys([*self._verdicts, *self._adjudications]))

    def readings(self, subject: Subject) -> tuple[Event, ...]:
        """The standing verdict of each reader (the latest that is not undone), oldest first."""
        latest = []
        for events in self._verdicts.get(subject, {}).values():
            standing = [event for event in events if event.event_id not in self._undone]
            latest += standing[-1:]
        return tuple(sorted(latest, key=lambda event: event.sequence))

    def adjudication(self, subject: Subject) -> Event | None:
        standing = [e for e in self._adjudications.get(subject, []) if e.event_id not in self._undone]
        return standing[-1] if standing else None

    def in_conflict(self, subject: Subject) -> bool:
        """Readers who can tell disagree, and nobody has decided."""
        return disagree(self.readings(subject)) and self.adjudication(subject) is None

    def last_given(self, queue_id: str, reviewer: str) -> Event | None:
        """The latest standing verdict or adjudication of a person in a queue: what "undo" would take back."""
        for event in reversed(self._given.get((queue_id, person(reviewer)), [])):
            if event.event_id not in self._undone:
                return event
        return None

    def live_leases(self, subject: Subject, now: datetime) -> dict[str, Event]:
        return {who: lease for who, lease in self._leases.get(subject, {}).items() if is_live(lease, now)}

    def tasks(self, queue_id: str, reviewer: str, count: int, now: datetime) -> list[tuple[QueueItem, Event | None]]:
        """Up to `count` pairs for a reader with the lease they already have on it (None: to be leased).

        Pairs the reader holds come first, then by position those that want a reading, last those the reader gave back.
        """
        who = person(reviewer)
        data, nobody = self.queues[queue_id].data, set[str]()
        held = [
            (self._places[queue_id][pair_id], lease)
            for (of, pair_id), lease in self._held.get(who, {}).items()
            if of == data and pair_id in self._places[queue_id] and is_live(lease, now)
        ]
        found: list[tuple[QueueItem, Event | None]] = sorted(held, key=lambda entry: entry[0].position)
        returned = []
        for item in self.items[queue_id]:
            if len(found) >= count:
                break
            subject = (data, item.pair_id)
            readers = self._readers.get(subject, nobody)
            if len(readers) >= item.readers or who in readers:
                continue
            leases = self.live_leases(subject, now)
            if who in leases or len(readers | set(leases)) >= item.readers:
                continue
            if (subject, who) in self._released:
                returned.append((self._released[subject, who], item))
            else:
                found.append((item, None))
        returned.sort(key=lambda entry: entry[0])
        return [*found, *((item, None) for _, item in returned)][:count]

    def progress(self, queue_id: str, now: datetime) -> Progress:
        done = readings = leased = conflicts = wanted = 0
        reviewers: dict[str, int] = {}
        for item in self.items[queue_id]:
            subject = self.subject(queue_id, item.pair_id)
            standing = self.readings(subject)
            for event in standing:
                reviewers[event.reviewer] = reviewers.get(event.reviewer, 0) + 1
            readings += len(standing)
            wanted += item.readers
            done += len(standing) >= item.readers
            leased += bool(self.live_leases(subject, now))
            conflicts += self.in_conflict(subject)
        return Progress(len(self.items[queue_id]), done, readings, wanted, leased, conflicts, reviewers)


def disagree(readings: Iterable[Event]) -> bool:
    """Whether readers who can tell ("unsure" cannot) differ in verdict or in the label they want."""
    told = [event.body for event in readings if event.body["verdict"] != "unsure"]
    labels = {body["corrected_label"] for body in told} - {None}
    return len({body["verdict"] for body in told}) > 1 or len(labels) > 1


def is_live(lease: Event, now: datetime) -> bool:
    """Whether a lease still holds.

    A lease that would last longer from now than it was given for was made before the clock was set back: it has lapsed, so
    that a wrong clock never keeps a pair from everyone.
    """
    left = (datetime.fromisoformat(lease.body["expires"]) - now).total_seconds()
    return 0 < left <= lease.body["seconds"] + _CLOCK_SLACK
