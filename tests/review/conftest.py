"""Review stores on both databases, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from review_store_data import Clock, bench

from fairvlm_core.review import ReviewStore


@pytest.fixture(autouse=True)
def _no_database_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRVLM_DATABASE_URL", raising=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real server, started from the installed programs in a temporary folder."""
    if bench.postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed: nothing is tested on it (apt-get install postgresql)")
    with bench.postgres_server("fsync=off") as url:  # clients are killed, the server is not
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of an empty database: "" for SQLite in the workspace."""
    if request.param == "sqlite":
        return ""
    return bench.new_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, tmp_path: Path, clock: Clock) -> Iterator[ReviewStore]:
    with ReviewStore.open(tmp_path / "workspace", url=url, clock=clock) as store:
        yield store


@pytest.fixture
def lite(tmp_path: Path, clock: Clock) -> Iterator[ReviewStore]:
    """SQLite only, for what does not depend on the database."""
    with ReviewStore.open(tmp_path / "workspace", url="", clock=clock) as store:
        yield store
