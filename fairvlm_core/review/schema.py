"""The review database: tables, the triggers that keep them append-only, and migrations from older schemas.

Version 1 had neither the column `events.refers` nor triggers on `queue_items`. Version 2 adds both; the database itself now
ensures that an event is taken back at most once.
"""

from __future__ import annotations

import json

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
    text,
)

from ..errors import InputError
from ..safeio import check_version

VERSION = 2
LOCK = 0x66766C6D  # key of PostgreSQL's advisory lock: one writer at a time

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("queue_id", String(16), nullable=False),
    Column("pair_id", Text, nullable=False),
    Column("reviewer", String(64), nullable=False),
    Column("at", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("refers", String(36)),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Index("events_refers", "refers", unique=True),
)
queue_items = Table(
    "queue_items",
    metadata,
    Column("queue_id", String(16), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("pair_id", Text, nullable=False),
    Column("body", Text, nullable=False),
)
version_table = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

_REFUSAL = "the review log is append-only"


def guard(connection: Connection, table: str) -> None:
    """Make the database itself refuse to change or remove rows of a table."""
    if connection.dialect.name == "sqlite":
        statements = [
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            for action in ("UPDATE", "DELETE")
        ]
    else:
        statements = [
            "CREATE OR REPLACE FUNCTION fairvlm_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION fairvlm_append_only()",
        ]
    for statement in statements:
        connection.execute(text(statement))


def unguard(connection: Connection, table: str) -> None:
    """Remove these triggers for a migration, inside its transaction."""
    if connection.dialect.name == "sqlite":
        for action in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_no_{action}"))
    else:
        connection.execute(text(f"DROP TRIGGER {table}_append_only ON {table}"))


def stored_version(connection: Connection) -> int | None:
    """Schema version of a database; None for an empty one. `InputError` where it is newer, or another program's."""
    names = set(inspect(connection).get_table_names())
    if version_table.name not in names:
        if events.name in names:
            raise InputError("review database: it has a table 'events' that is not fairvlm's; use another database")
        return None
    version = connection.execute(select(version_table.c.version)).scalar()
    check_version(version, VERSION, "the review database")
    return version


def upgrade(connection: Connection) -> None:
    """Make the tables, or bring older ones up to `VERSION`; inside one transaction."""
    version = stored_version(connection)
    if version is None:
        metadata.create_all(connection)
        guard(connection, events.name)
        guard(connection, queue_items.name)
        connection.execute(version_table.insert().values(version=VERSION))
        return
    for step in range(version, VERSION):
        _MIGRATIONS[step](connection)
        connection.execute(version_table.update().values(version=step + 1))


def _from_1(connection: Connection) -> None:
    """`refers` becomes a column; before, only the body of an undo held it. Hashes cover it as before."""
    connection.execute(text("ALTER TABLE events ADD COLUMN refers VARCHAR(36)"))
    unguard(connection, events.name)
    found = connection.execute(text("SELECT sequence, body FROM events WHERE kind = 'undo'")).all()
    for sequence, body in found:
        connection.execute(
            text("UPDATE events SET refers = :refers WHERE sequence = :sequence"),
            {"refers": json.loads(body)["refers"], "sequence": sequence},
        )
    guard(connection, events.name)
    connection.execute(text("CREATE UNIQUE INDEX events_refers ON events (refers)"))
    guard(connection, queue_items.name)


_MIGRATIONS = {1: _from_1}
