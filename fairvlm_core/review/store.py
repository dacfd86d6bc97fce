"""`ReviewStore`: the append-only log of a review, and the state it leads to."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from ..errors import InputError
from ..runs import default_workspace
from ..safeio import new_file
from . import schema
from .database import DATABASE_FILE, URL_VARIABLE, Database, postgres_database, sqlite_database, sqlite_engine
from .events import GENESIS, Event, Verdict, canonical, check_event_id, check_reviewer, digest, person
from .log import Verification, item_row, read_events, read_items, to_event, verify_chain
from .queue import QueueItem, QueuePlan
from .results import ChainHead, VerdictSet, resolve
from .state import Conflict, PairKey, Queue, ReviewProgress, ReviewTask, State, is_live

LONGEST_QUEUE_NAME = 80
MOST_LEASES = 5


class ReviewStore:
    """Reviews of a workspace. Safe for threads and for several processes at once; keep one for each process.

    Every change is an event that is appended, on the disk when the method returns, and never changed again. Methods that
    append take an `event_id`, a UUID made by the client when the user acts: calling again with the same id returns the
    stored event and records nothing, so that a double click counts once. The form of reviewer names is checked, their
    identity is not; the caller checks roles (`roles.may`).
    """

    def __init__(self, database: Database):
        self._database = database
        self.name, self.read_only = database.name, database.read_only  # the name holds no password
        self._mutex = threading.RLock()
        self._state = State()

    @classmethod
    def open(
        cls,
        workspace: Path | str | None = None,
        *,
        url: str | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> ReviewStore:
        """The store of a workspace, made where there is none, brought up to date where it is older.

        Parameters
        ----------
        workspace
            Holds ``review.db``; by default ``$FAIRVLM_WORKSPACE``, else ``./workspace``.
        url
            ``postgresql://…`` of a database to use instead; by default ``$FAIRVLM_DATABASE_URL``, where set. "" means
            SQLite whatever the environment says.
        clock
            Server time with its zone; by default PostgreSQL's own, or this machine's.

        Raises
        ------
        InputError
            The database cannot be opened or made, is damaged, or was written by a newer fairvlm.

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = ReviewStore.open(folder.name, url="")
        >>> store.head()
        ChainHead(sequence=0, hash='0000000000000000000000000000000000000000000000000000000000000000')
        >>> folder.cleanup()
        """
        url = os.environ.get(URL_VARIABLE, "") if url is None else url
        if url:
            return cls(postgres_database(url, clock))
        folder = Path(workspace) if workspace is not None else default_workspace()
        return cls(sqlite_database(folder / DATABASE_FILE, clock))

    @staticmethod
    def exists(workspace: Path | str | None = None) -> bool:
        """Whether there is a log to open; `open` makes one where there is none."""
        folder = Path(workspace) if workspace is not None else default_workspace()
        return bool(os.environ.get(URL_VARIABLE)) or (folder / DATABASE_FILE).exists()

    def __enter__(self) -> ReviewStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections; the store opens new ones when it is used again."""
        self._database.close()

    # Queues -----------------------------------------------------------------------------------------------------------

    def make_queue(
        self,
        name: str,
        plan: QueuePlan,
        *,
        by: str,
        run_id: str,
        data: str,
        data_name: str = "",
        event_id: str | None = None,
    ) -> Queue:
        """Store a queue that `plan_queue` drew.

        Parameters
        ----------
        name
            1 to 80 characters.
        by
            Who makes it.
        run_id, data, data_name
            The run it comes from, and the fingerprint and name of that run's data (`Run.data`). Verdicts are valid for
            pairs of that data only.
        """
        by, event_id = check_reviewer(by), check_event_id(event_id)
        name = " ".join(str(name).split())
        if not 1 <= len(name) <= LONGEST_QUEUE_NAME:
            raise InputError(f"queue name: must have 1 to {LONGEST_QUEUE_NAME} characters")
        if not data:
            raise InputError("queue: needs the fingerprint of the data, Run.data['fingerprint']")
        rows = [item_row(item) for item in plan.items]
        body = {"name": name, "run_id": run_id, "data": data, "data_name": data_name, "n_items": len(rows)}
        body |= {"settings": plan.settings.to_dict(), "population": dict(plan.population), "items": digest(rows)}
        with self._writing() as (connection, now):
            stored = _stored(connection, event_id)
            if stored is None:
                queue_id = f"q{len(self._state.queues) + 1:03d}"
                self._append(connection, now, "queue", event_id, body, queue_id=queue_id, pair_id="", reviewer=by)
                connection.execute(schema.queue_items.insert(), [{"queue_id": queue_id} | row for row in rows])
            else:
                _check_same(stored, "queue", reviewer=by, body=body)
                queue_id = stored.queue_id
        return self.queue(queue_id)

    def queues(self) -> tuple[Queue, ...]:
        """Oldest first."""
        with self._reading() as (state, _):
            return tuple(state.queues.values())

    def queue(self, queue_id: str) -> Queue:
        """One queue; an unknown id is an `InputError`."""
        with self._reading() as (state, _):
            return state.queue(queue_id)

    def items(self, queue_id: str) -> tuple[QueueItem, ...]:
        """The pairs of a queue in their order; readers of a blind queue must not see them."""
        with self._reading() as (state, _):
            state.queue(queue_id)
            return state.items[queue_id]

    def item(self, queue_id: str, pair_id: str) -> QueueItem:
        """One of them."""
        with self._reading() as (state, _):
            return state.item(queue_id, pair_id)

    def progress(self, queue_id: str) -> ReviewProgress:
        with self._reading() as (state, now):
            return state.progress(queue_id, now)

    def left_for(self, queue_id: str, reviewer: str) -> int:
        """Pairs that a reader can still read, those that others have open now included."""
        with self._reading() as (state, _):
            return state.left_for(queue_id, reviewer)

    # Reading ----------------------------------------------------------------------------------------------------------

    def next_pair(self, queue_id: str, reviewer: str) -> ReviewTask | None:
        """The pair a reader should judge now, leased to them; the same one again until they judge it or give it back.

        None where nothing is left for this reader: all pairs are read, or leased to others.
        """
        tasks = self.next_pairs(queue_id, reviewer)
        return tasks[0] if tasks else None

    def next_pairs(self, queue_id: str, reviewer: str, count: int = 1) -> tuple[ReviewTask, ...]:
        """The pair to judge now and the ones after it, all leased, so that a page can load them ahead.

        A pair goes to as many different people as it needs readings; a valid lease counts as a reading.

        Parameters
        ----------
        count
            1 to 5.
        """
        reviewer = check_reviewer(reviewer)
        if not 1 <= count <= MOST_LEASES:
            raise InputError(f"count: must be from 1 to {MOST_LEASES} (got {count})")
        with self._reading() as (state, now):
            seconds = int(state.queue(queue_id).settings["lease_seconds"])
            found = state.tasks(queue_id, reviewer, count, now)
            leases = [lease for _, lease in found if lease is not None and _is_fresh(lease, now, seconds)]
        if len(leases) < len(found):
            with self._writing() as (connection, now):
                body = {"expires": _stamp(now + timedelta(seconds=seconds)), "seconds": seconds}
                leases = []
                for item, lease in self._state.tasks(queue_id, reviewer, count, now):
                    if lease is None or not _is_fresh(lease, now, seconds):
                        fields = {"queue_id": queue_id, "pair_id": item.pair_id, "reviewer": reviewer}
                        lease = self._append(connection, now, "lease", check_event_id(None), body, **fields)
                    leases.append(lease)
        return tuple(ReviewTask(lease.queue_id, lease.pair_id, lease.body["expires"]) for lease in leases)

    def release(self, queue_id: str, pair_id: str, reviewer: str, *, event_id: str | None = None) -> Event:
        """Give a pair back unread; the reader gets it again after all others."""
        return self._add("release", event_id, queue_id, pair_id, reviewer, {})

    def judge(
        self, queue_id: str, pair_id: str, reviewer: str, verdict: Verdict, *, event_id: str | None = None
    ) -> Event:
        """Record a reader's verdict on a pair; ends their lease.

        It is recorded whether or not a lease is still valid: no work is lost. A reader's later verdict on the same pair
        replaces the earlier one; verdicts of different readers all stand.
        """
        _check_other(pair_id, verdict)
        return self._add("verdict", event_id, queue_id, pair_id, reviewer, asdict(verdict))

    def last_given(self, queue_id: str, reviewer: str) -> Event | None:
        """The latest standing verdict or adjudication of a person in a queue: the one they would undo."""
        with self._reading() as (state, _):
            return state.last_given(queue_id, reviewer)

    def undo(self, undone: str, reviewer: str, *, event_id: str | None = None) -> Event:
        """Take back one's own verdict or adjudication, as a new event; an earlier one of the same person stands again.

        Parameters
        ----------
        undone
            The event id of what is taken back.
        """
        undone = check_event_id(undone)
        with self._reading() as (state, _):
            target = state.given.get(undone)
        if target is None:
            raise InputError("undo: there is no verdict with that event id")
        if person(target.reviewer) != person(reviewer):
            raise InputError("undo: this verdict is another person's; only its author takes it back")

        def check(state: State) -> None:
            if state.is_undone(undone):
                raise InputError("undo: this verdict is already taken back")

        return self._add("undo", event_id, target.queue_id, target.pair_id, reviewer, {"refers": undone}, check)

    # Disagreement -----------------------------------------------------------------------------------------------------

    def conflicts(self, queue_id: str | None = None) -> tuple[Conflict, ...]:
        """Pairs whose readers disagree and nobody has decided, in the order of their first verdict."""
        with self._reading() as (state, _):
            found = [(key, state.readings(key)) for key in _judged(state, queue_id) if state.in_conflict(key)]
            return tuple(Conflict(queue_id or readings[0].queue_id, key[1], readings) for key, readings in found)

    def adjudicate(
        self, queue_id: str, pair_id: str, adjudicator: str, verdict: Verdict, *, event_id: str | None = None
    ) -> Event:
        """Decide a conflict. The readers' verdicts stay in the log; the adjudicator's is the one that counts.

        Raises
        ------
        InputError
            Readers agree, or the adjudicator is one of them.
        """
        _check_other(pair_id, verdict)

        def check(state: State) -> None:
            key = state.key(queue_id, pair_id)
            if not state.in_conflict(key) and state.adjudication(key) is None:
                raise InputError("adjudicate: the readers of this pair do not disagree; there is nothing to decide")
            if person(adjudicator) in {person(event.reviewer) for event in state.readings(key)}:
                raise InputError("adjudicate: you are one of this pair's readers; somebody else decides")

        return self._add("adjudication", event_id, queue_id, pair_id, adjudicator, asdict(verdict), check)

    # Results ----------------------------------------------------------------------------------------------------------

    def verdicts(self, data: str | None = None, queue_id: str | None = None) -> VerdictSet:
        """One verdict for each pair, in the order the pairs were first judged.

        Parameters
        ----------
        data
            Fingerprint: pairs of this data set only.
        queue_id
            Pairs of this queue only.
        """
        with self._reading() as (state, _):
            found = [resolve(state, key) for key in _judged(state, queue_id) if data in (None, key[0])]
            return VerdictSet(tuple(verdict for verdict in found if verdict is not None), _head(state))

    def standing_readings(self, queue_id: str | None = None) -> tuple[Event, ...]:
        """Every reader's standing verdict on every pair, in the order they were given; `agreement` uses them."""
        with self._reading() as (state, _):
            found = [event for key in _judged(state, queue_id) for event in state.readings(key)]
            return tuple(sorted(found, key=lambda event: event.sequence))

    def events(self) -> tuple[Event, ...]:
        """The whole log, in order."""
        with self._database.reading() as connection:
            return tuple(read_events(connection))

    def head(self) -> ChainHead:
        with self._reading() as (state, _):
            return _head(state)

    def verify(self, expected: Sequence[ChainHead] = ()) -> Verification:
        """Check the whole chain.

        Parameters
        ----------
        expected
            Heads noted earlier (in a run, in an export): they must still be there. Without one, events removed from the end
            of the log cannot be noticed.
        """
        with self._database.reading() as connection:
            return verify_chain(connection, expected)

    def backup(self, path: Path | str) -> Verification:
        """Copy the log at one moment into a new SQLite file; readers and writers may go on.

        The file is a whole ``review.db``: put in a workspace, it is that workspace's review. It replaces an older file of
        that name only when it is complete and its chain is whole.

        Raises
        ------
        InputError
            The chain is broken (nothing is written), or the file cannot be written.
        """
        path = Path(path)
        with new_file(path) as temporary:
            copy = Database(sqlite_engine(temporary), path.name)
            with self._database.reading() as source, copy.writing() as target:
                schema.upgrade(target)
                for table in (schema.queue_items, schema.events):
                    for rows in source.execute(select(table)).mappings().partitions(1000):
                        target.execute(table.insert(), [dict(row) for row in rows])
            with copy.reading() as connection:
                result = verify_chain(connection, ())
            copy.close()
            if not result.ok:
                raise InputError(f"backup: not written, because the log is broken: {result.problem}")
        return result

    # Adding events ----------------------------------------------------------------------------------------------------

    def _add(
        self,
        kind: str,
        event_id: str | None,
        queue_id: str,
        pair_id: str,
        reviewer: str,
        body: dict[str, Any],
        check: Callable[[State], None] | None = None,
    ) -> Event:
        """Append an event on a pair once `check` passes; the stored one where its id is known."""
        event_id = check_event_id(event_id)
        fields = {"queue_id": queue_id, "pair_id": pair_id, "reviewer": check_reviewer(reviewer)}
        with self._writing() as (connection, now):
            stored = _stored(connection, event_id)
            if stored is not None:
                _check_same(stored, kind, body=body, **fields)
                return stored
            self._state.item(queue_id, pair_id)
            if check is not None:
                check(self._state)
            return self._append(connection, now, kind, event_id, body, **fields)

    def _append(
        self, connection: Connection, now: datetime, kind: str, event_id: str, body: dict[str, Any], **fields: str
    ) -> Event:
        """Write the next event. A later call reads it back into the state, hence only once it is committed."""
        last = connection.execute(
            select(schema.events.c.sequence, schema.events.c.hash).order_by(schema.events.c.sequence.desc()).limit(1)
        ).one_or_none()
        event = Event(
            sequence=1 if last is None else last.sequence + 1,
            event_id=event_id,
            kind=kind,
            at=_stamp(now),
            body=json.loads(canonical(body)),
            refers=body.get("refers"),
            previous=GENESIS if last is None else last.hash,
            hash="",
            **fields,
        )
        values = asdict(event) | {"body": canonical(body), "hash": digest(event.content())}
        connection.execute(schema.events.insert().values(**values))
        return to_event(values)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, datetime]]:
        with self._mutex, self._database.writing() as connection:
            self._catch_up(connection)
            yield connection, self._database.now(connection)

    @contextmanager
    def _reading(self) -> Iterator[tuple[State, datetime]]:
        with self._mutex:
            with self._database.reading() as connection:
                self._catch_up(connection)
                now = self._database.now(connection)
            yield self._state, now

    def _catch_up(self, connection: Connection) -> None:
        """Read what was added since; the whole log where it is not the one read before (a backup was put back)."""
        state = self._state
        if state.sequence:
            known = select(schema.events.c.hash).where(schema.events.c.sequence == state.sequence)
            if connection.execute(known).scalar() != state.hash:
                state = State()
        try:
            for event in read_events(connection, after=state.sequence):
                state.apply(event, read_items(connection, event.queue_id) if event.kind == "queue" else ())
        except (ValueError, KeyError, TypeError):
            self._state = State()
            raise InputError(
                f"{self.name}: the log is broken after event {state.sequence}; `fairvlm review verify` says how"
            ) from None
        self._state = state


def _stored(connection: Connection, event_id: str) -> Event | None:
    row = connection.execute(select(schema.events).where(schema.events.c.event_id == event_id)).one_or_none()
    return None if row is None else to_event(row._asdict())


def _head(state: State) -> ChainHead:
    return ChainHead(state.sequence, state.hash or GENESIS)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _is_fresh(lease: Event, now: datetime, seconds: int) -> bool:
    """The lease has more than half of its time left."""
    return is_live(lease, now + timedelta(seconds=seconds / 2))


def _judged(state: State, queue_id: str | None) -> list[PairKey]:
    """Judged pairs: all of them, or those that are in a queue, whichever queue they were judged in."""
    if queue_id is None:
        return state.judged()
    data, places = state.queue(queue_id).data, state.places[queue_id]
    return [key for key in state.judged() if key[0] == data and key[1] in places]


def _check_other(pair_id: str, verdict: Verdict) -> None:
    if verdict.better_pair_id == pair_id:
        raise InputError("better_pair_id: is the pair itself; choose another pair, or the verdict fits")


def _check_same(stored: Event, kind: str, *, body: dict[str, Any], **expected: Any) -> None:
    """The same id must mean the same event; reading time is not compared."""
    old, new = ({**fields, "seconds": None} for fields in (stored.body, json.loads(canonical(body))))
    same = all(getattr(stored, name) == value for name, value in expected.items())
    if stored.kind != kind or not same or old != new:
        raise InputError("event id: it already belongs to another event; make a new id for each action")
