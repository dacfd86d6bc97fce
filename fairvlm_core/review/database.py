"""Connections to the review database: SQLite in the workspace, or PostgreSQL by URL; one writer at a time in both.

SQLite runs with a rollback journal, `BEGIN IMMEDIATE`, a busy timeout of 30 seconds and synchronous=FULL. Under PostgreSQL
a writer takes an advisory lock for its transaction. An acknowledged event is on the disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from ..errors import InputError
from ..safeio import PRIVATE_FILE, StorageError, make_folder, storing
from . import schema

DATABASE_FILE = "review.db"
URL_VARIABLE = "FAIRVLM_DATABASE_URL"
_TIMEOUT = 30  # seconds a writer waits for the lock

_READ_ONLY = "cannot be written (read-only): make the workspace writable, or choose another --workspace"
# Errors by SQLite's primary result codes, and by PostgreSQL's SQLSTATEs or their classes (the first two characters).
_ERRORS: tuple[tuple[set[Any], type[InputError], str], ...] = (
    (
        {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, "53100", "58"}, StorageError,
        "cannot be written (the disk is full or fails): free some space and try again; nothing was recorded",
    ),
    ({sqlite3.SQLITE_READONLY, "25006"}, StorageError, _READ_ONLY),
    (
        {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, "55P03"}, StorageError,
        f"is busy: no lock within {_TIMEOUT} s; try again; nothing was recorded",
    ),
    (
        {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}, InputError,
        "is damaged or no database: put a backup in its place",
    ),
    (
        {sqlite3.SQLITE_CANTOPEN, "08", "28", "3D", "53", "57"}, InputError,
        "cannot be opened: check that it exists, runs, and may be read by you",
    ),
)  # fmt: skip


class Database:
    """Transactions on one review database; made by `sqlite_database` or `postgres_database`.

    Attributes
    ----------
    name : str
        What a reader may see of its address: a file name, or host and database without a password.
    read_only : bool
    """

    def __init__(
        self, engine: Engine, name: str, *, read_only: bool = False, clock: Callable[[], datetime] | None = None
    ):
        self.engine = engine
        self.name = name
        self.read_only = read_only
        self._clock = clock

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout."""
        with self.plain_errors(), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The only write transaction; committed, and on the disk, when the block ends without an error."""
        if self.read_only:
            raise StorageError(f"{self.name} {_READ_ONLY}")
        with self.plain_errors(), self.engine.connect() as connection:
            connection = connection.execution_options(fairvlm_writes=True)
            if connection.dialect.name == "postgresql":  # after the lock, see what the last writer committed
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SET LOCAL lock_timeout = '{_TIMEOUT}s'"))
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({schema.LOCK})"))
                yield connection

    def now(self, connection: Connection) -> datetime:
        """The server's time in UTC: PostgreSQL's own, so that several app servers share one clock; else this machine's."""
        if self._clock is not None:
            return self._clock().astimezone(UTC)
        if connection.dialect.name == "postgresql":
            return connection.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)
        return datetime.now(UTC)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Turn a driver's error into one line. Never the statement or its values: they may hold comments."""
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise _plain(self.name, error.orig) from None


def _plain(name: str, error: Any) -> InputError:
    code = getattr(error, "sqlite_errorcode", None)
    state = getattr(error, "sqlstate", None) or "08"  # a psycopg error without a state comes from connecting
    found = {state, state[:2]} if code is None else {code & 0xFF}
    for codes, kind, message in _ERRORS:
        if codes & found:
            return kind(f"{name} {message}")
    return InputError(f"{name} refused the request ({' '.join(str(error).split())[:200]})")


def sqlite_database(path: Path, clock: Callable[[], datetime] | None = None) -> Database:
    """The SQLite file at `path`; made, or brought up to date, where needed."""
    path = Path(path)
    if not path.exists():
        with storing(path):
            make_folder(path.parent)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, PRIVATE_FILE))
    read_only = not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    database = Database(sqlite_engine(path, read_only=read_only), path.name, read_only=read_only, clock=clock)
    with database.reading() as connection:
        version = schema.stored_version(connection)
    if version == schema.VERSION:
        return database
    if read_only:
        raise StorageError(f"{path.name} has an older schema and cannot be written: make the workspace writable once")
    try:
        with storing(path), FileLock(path.with_name(f".{path.name}.lock"), timeout=_TIMEOUT, mode=PRIVATE_FILE):
            with database.plain_errors(), database.engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA journal_mode=DELETE")
            with database.writing() as connection:
                schema.upgrade(connection)
    except Timeout:
        raise StorageError(f"{path.name} is being made by another process for {_TIMEOUT} s: try again") from None
    return database


def sqlite_engine(path: Path, *, read_only: bool = False) -> Engine:
    """An engine on a SQLite file; connections are opened for each transaction, so threads and forks share none."""

    def connect() -> sqlite3.Connection:
        address = f"file:{quote(str(path.resolve()))}?mode={'ro' if read_only else 'rw'}"
        connection = sqlite3.connect(address, uri=True, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("fairvlm_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def postgres_database(url: str, clock: Callable[[], datetime] | None = None) -> Database:
    """The PostgreSQL database at `url` (``postgresql://user@host/name``); its tables are made where needed.

    Raises
    ------
    InputError
        The URL is not one of PostgreSQL, the driver is not installed, or the server does not answer.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(f"{URL_VARIABLE}: no database URL; write postgresql://user@host/name") from None
    if parsed.get_backend_name() != "postgresql":
        raise InputError(
            f"{URL_VARIABLE}: {parsed.get_backend_name()!r} is not supported; write postgresql://user@host/name"
        )
    name = f"database {parsed.database} on {parsed.host or parsed.query.get('host', 'localhost')}"
    arguments: dict[str, Any] = {"connect_timeout": 10, "application_name": "fairvlm"}
    parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    except ImportError:
        raise InputError(f"{URL_VARIABLE}: PostgreSQL needs a driver; pip install 'fairvlm[postgres]'") from None
    database = Database(engine, name, clock=clock)
    try:
        with database.reading() as connection:
            version = schema.stored_version(connection)
        if version != schema.VERSION:
            with database.writing() as connection:
                schema.upgrade(connection)
    except BaseException:
        database.close()
        raise
    return database
