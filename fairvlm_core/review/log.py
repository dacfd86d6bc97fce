"""The log's rows: read, written back into values, and checked as a chain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from . import schema
from .events import GENESIS, Event, canonical, digest
from .queue import QueueItem
from .results import ChainHead


@dataclass(frozen=True)
class Verification:
    """Result of checking the chain.

    Attributes
    ----------
    head : ChainHead
        The last event that is whole; its number is how many are, counted from the first.
    problem : str
        What is wrong with the event after it, in one line; empty where nothing is.
    """

    head: ChainHead
    problem: str = ""

    @property
    def n_events(self) -> int:
        return self.head.sequence

    @property
    def ok(self) -> bool:
        return not self.problem


def item_row(item: QueueItem) -> dict[str, Any]:
    """As it is stored, without the queue's id; the queue's event holds the digest of all of them."""
    values = {"control": item.control, "stratum": item.stratum, "readers": item.readers, "facts": dict(item.facts)}
    return {"position": item.position, "pair_id": item.pair_id, "body": canonical(values)}


def read_items(connection: Connection, queue_id: str) -> list[QueueItem]:
    """Of one queue, by position."""
    table = schema.queue_items
    rows = connection.execute(select(table).where(table.c.queue_id == queue_id).order_by(table.c.position))
    return [QueueItem(position=row.position, pair_id=row.pair_id, **json.loads(row.body)) for row in rows]


def read_events(connection: Connection, after: int = 0) -> Iterator[Event]:
    """Those after a number, in order."""
    table = schema.events
    rows = connection.execute(select(table).where(table.c.sequence > after).order_by(table.c.sequence)).all()
    return (to_event(row._asdict()) for row in rows)


def to_event(values: Mapping[str, Any]) -> Event:
    """From the columns of a row."""
    return Event(**{**values, "body": json.loads(values["body"])})


def verify_chain(connection: Connection, expected: Sequence[ChainHead]) -> Verification:
    """Check every event in order, up to the first that is broken; `expected` heads must be among them."""
    head = ChainHead(0, GENESIS)
    noted = {known.sequence: known.hash for known in expected}
    for row in connection.execute(select(schema.events).order_by(schema.events.c.sequence)):
        problem = _problem(connection, row, head)
        if not problem and noted.get(row.sequence, row.hash) != row.hash:
            problem = "it is not the event that was noted with this number"
        if problem:
            return Verification(head, f"event {row.sequence} ({row.kind}, {row.event_id}): {problem}")
        head = ChainHead(row.sequence, row.hash)
    if missing := [sequence for sequence in noted if sequence > head.sequence]:
        return Verification(head, f"event {min(missing)} was noted and is not there: the end was cut off")
    return Verification(head)


def _problem(connection: Connection, row: Row[Any], head: ChainHead) -> str:
    """What is wrong with an event that should follow `head`; empty where nothing is."""
    if row.sequence != head.sequence + 1:
        return f"event {head.sequence + 1} is missing before it"
    try:
        event = to_event(row._asdict())
    except ValueError:
        return "its content is no JSON"
    if event.previous != head.hash:
        return "it does not follow the event before it"
    if digest(event.content()) != event.hash:
        return "its content was changed"
    if event.refers != event.body.get("refers"):
        return "what it takes back was changed"
    if event.kind == "queue":
        try:
            items = digest([item_row(item) for item in read_items(connection, event.queue_id)])
        except (ValueError, TypeError):
            items = ""
        if items != event.body["items"]:
            return "its pairs were changed"
    return ""
