"""What must not break a review: full disks, killed processes, wrong clocks, other versions, foreign files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

import pytest
from review_store_data import DATA, add_queue, bench, mined_rows
from sqlalchemy import text

from fairvlm_core import InputError
from fairvlm_core.review import QueueSettings, ReviewStore, Verdict
from fairvlm_core.review import schema as review_schema
from fairvlm_core.review.database import postgres_database
from fairvlm_core.safeio import StorageError

VERSION_1 = Path(__file__).parent / "review_v1.sql"
HEAD_OF_VERSION_1 = "0a25d22c42c6ddae42e52fc3d0917239dc066fa17365b95f3ce1a6f4c82bfb4e"

# Judges until the disk takes no more; prints each acknowledged event id, then the error's one line.
_FILL = """
import pathlib, resource, sys
from fairvlm_core import InputError
from fairvlm_core.review import ReviewStore, Verdict
store = ReviewStore.open(sys.argv[1], url="")
room = (pathlib.Path(sys.argv[1]) / "review.db").stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
while True:
    try:
        task = store.next_pair("q001", "Ada")
        event = store.judge("q001", task.pair_id, "Ada", Verdict("fits", comment="private " * 100))
    except InputError as error:
        print("stopped:", error)
        break
    print(event.event_id)
"""
_READ_ONLY = """
import os, sys
from fairvlm_core import InputError
from fairvlm_core.review import ReviewStore
ReviewStore.open(sys.argv[1], url="").close()
if os.geteuid() == 0:  # root may write anywhere
    os.setgid(65534)
    os.setuid(65534)
store = ReviewStore.open(sys.argv[1], url="")
print(len(store.events()), store.verify().ok, store.read_only)
for call in (lambda: store.next_pair("q001", "Bob"), lambda: ReviewStore.open(sys.argv[1] + "/sub", url="")):
    try:
        call()
    except InputError as error:
        print(type(error).__name__, error)
"""


def python(script: str, *arguments: object, **options: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_fault_19_a_comment_that_begins_like_a_formula_is_neutralised_and_comes_back(lite, tmp_path):
    from fairvlm_core.intake.csvsafe import read_csv
    from fairvlm_core.review import export_csv

    add_queue(lite)
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "'tis", '"a,b"\r\nc', "plain"]
    for text_, item in zip(texts, lite.items("q001"), strict=False):
        lite.judge("q001", item.pair_id, "Ada", Verdict("wrong_note", reason=text_, comment=text_))
    path = export_csv(lite, tmp_path / "out.csv", comments=True, notes={lite.items("q001")[0].pair_id: "=note"})
    raw = path.read_bytes().decode()
    assert "'=HYPERLINK(1)" in raw
    assert ",=" not in raw
    back = read_csv(path, dtypes={"sequence": int})
    assert back["comment"].tolist() == back["reason"].tolist() == texts
    assert back["note"].tolist() == ["=note", *[""] * 6]


def test_fault_21_a_full_disk_loses_no_acknowledged_verdict(lite, tmp_path):
    add_queue(lite, mined_rows(600, 400, 0))
    lines = python(_FILL, tmp_path / "workspace", 30_000)
    *acknowledged, stopped = lines
    assert stopped.startswith("stopped: review.db cannot be written")
    assert "private" not in stopped
    held = {event.event_id for event in lite.events() if event.kind == "verdict"}
    assert set(acknowledged) == held
    assert len(held) > 3
    assert lite.verify().ok
    task = lite.next_pair("q001", "Ada")
    lite.judge("q001", task.pair_id, "Ada", Verdict("fits"))
    assert lite.verify().ok, "with room again, work goes on"


def test_fault_21_a_backup_onto_a_full_disk_leaves_the_old_backup(lite, tmp_path):
    add_queue(lite)
    lite.backup(tmp_path / "backup.db")
    before = (tmp_path / "backup.db").read_bytes()
    script = (
        "import resource, sys\nfrom fairvlm_core import InputError\nfrom fairvlm_core.review import ReviewStore\n"
        "store = ReviewStore.open(sys.argv[1], url='')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try:\n    store.backup(sys.argv[2])\nexcept InputError as error:\n    print(error)\n"
    )
    (line,) = python(script, tmp_path / "workspace", tmp_path / "backup.db")
    assert "cannot be written" in line
    assert (tmp_path / "backup.db").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", "workspace"]


def test_fault_22_two_readers_on_one_pair_and_a_double_click(store):
    """One event each, both kept, the conflict shown; a double click is one event, also when both clicks run at once."""
    queue = add_queue(store, settings=QueueSettings(control_share=0, second_share=1))
    pair_id = store.items(queue.queue_id)[0].pair_id
    clicks = [("Ada", "fits", str(uuid.uuid4())), ("Bob", "wrong_note", str(uuid.uuid4()))]
    failures = []

    def click(name: str, verdict: str, event_id: str) -> None:
        try:
            store.judge(queue.queue_id, pair_id, name, Verdict(verdict), event_id=event_id)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=click, args=arguments) for arguments in clicks * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    stored = [event for event in store.events() if event.kind == "verdict"]
    assert {event.event_id for event in stored} == {event_id for _, _, event_id in clicks}
    assert len(stored) == 2
    (conflict,) = store.conflicts(queue.queue_id)
    assert {(event.reviewer, event.verdict.verdict) for event in conflict.readings} == {
        ("Ada", "fits"), ("Bob", "wrong_note"),
    }  # fmt: skip


def test_fault_25_a_clock_set_back_changes_no_order_and_frees_its_leases(store, clock):
    queue = add_queue(store)
    task = store.next_pair(queue.queue_id, "Ada")
    early = store.judge(queue.queue_id, task.pair_id, "Ada", Verdict("fits"))
    held = store.next_pair(queue.queue_id, "Ada")
    clock.move(hours=-5)
    late = store.judge(queue.queue_id, task.pair_id, "Ada", Verdict("wrong_note"))
    assert late.at < early.at
    assert late.sequence > early.sequence
    assert [v.verdict for v in store.verdicts().verdicts] == ["wrong_note"], "the later one by number, not by time"
    assert store.next_pair(queue.queue_id, "Bob").pair_id == held.pair_id, "no lease of five hours"
    assert store.verify().ok


def test_fault_25_a_clock_that_steps_back_a_little_takes_no_pair_from_its_reader(store, clock):
    queue = add_queue(store)
    held = store.next_pair(queue.queue_id, "Ada")
    clock.move(seconds=-2)
    assert store.next_pair(queue.queue_id, "Bob").pair_id != held.pair_id


def test_fault_25_a_newer_schema_is_refused(url, tmp_path):
    with ReviewStore.open(tmp_path, url=url) as store:
        add_queue(store)
        with store._database.writing() as connection:
            connection.execute(text("UPDATE schema_version SET version = 99"))
    with pytest.raises(InputError, match="schema version 99, this fairvlm reads up to 2"):
        ReviewStore.open(tmp_path, url=url)


def test_fault_25_a_newer_export_is_refused(tmp_path):
    from fairvlm_core.review import read_verdicts

    (tmp_path / "v.json").write_text('{"schema_version": 7, "kind": "fairvlm review"}')
    with pytest.raises(InputError, match="schema version 7"):
        read_verdicts(tmp_path / "v.json")


def test_fault_25_a_read_only_workspace_can_be_read_and_says_why_it_takes_nothing():
    """In a folder of its own that another user may enter: pytest closes its folders to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        workspace = Path(folder) / "workspace"
        with ReviewStore.open(workspace, url="") as store:
            add_queue(store)
        workspace.chmod(0o555)
        (workspace / "review.db").chmod(0o444)
        facts, *refusals = python(_READ_ONLY, workspace)
        workspace.chmod(0o755)
    assert facts == "1 True True"
    assert refusals[0].startswith("StorageError review.db cannot be written (read-only)")
    assert refusals[1].startswith("StorageError")


def test_a_log_of_schema_version_1_is_brought_up_to_date(tmp_path):
    with sqlite3.connect(tmp_path / "review.db") as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.close()
    with ReviewStore.open(tmp_path, url="") as store:
        check_migrated(store)
    with ReviewStore.open(tmp_path, url="") as store:
        assert store.head().sequence > 6, "and stays as it is when it is opened again"


def test_a_log_of_schema_version_1_is_brought_up_to_date_on_postgresql(postgres_server):
    url = bench.new_database(postgres_server)
    database = postgres_database(url)
    kept = sqlite3.connect(":memory:")
    kept.executescript(VERSION_1.read_text(encoding="utf-8"))
    with database.writing() as connection:
        for name in ("events", "queue_items"):
            review_schema.unguard(connection, name)
        connection.execute(text("ALTER TABLE events DROP COLUMN refers"))
        for name in ("events", "queue_items"):
            found = kept.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in found.description]
            rows = [dict(zip(columns, row, strict=True)) for row in found]
            names, marks = ", ".join(columns), ", ".join(f":{column}" for column in columns)
            connection.execute(text(f"INSERT INTO {name} ({names}) VALUES ({marks})"), rows)
        review_schema.guard(connection, "events")
        connection.execute(text("UPDATE schema_version SET version = 1"))
    kept.close()
    database.close()
    with ReviewStore.open(url=url) as store:
        check_migrated(store)


def check_migrated(store: ReviewStore) -> None:
    assert store.verify().ok
    assert store.head().hash == HEAD_OF_VERSION_1
    events = store.events()
    assert [event.kind for event in events] == ["queue", "lease", "verdict", "lease", "verdict", "undo"]
    assert events[-1].refers == events[4].event_id
    assert [(v.pair_id, v.verdict) for v in store.verdicts(DATA).verdicts] == [(events[2].pair_id, "fits")]
    with pytest.raises(InputError, match="already taken back"):
        store.undo(events[4].event_id, "Bob")
    for table in ("events", "queue_items"):
        with store._database.engine.connect() as connection, pytest.raises(Exception, match="append-only"):
            connection.execute(text(f"DELETE FROM {table}"))
    task = store.next_pair("q001", "Cleo")
    store.judge("q001", task.pair_id, "Cleo", Verdict("fits"))
    assert store.verify().ok


def test_a_migration_that_is_interrupted_leaves_the_old_log(tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "review.db") as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.close()

    def stop(connection):
        review_schema._from_1(connection)
        raise KeyboardInterrupt

    monkeypatch.setitem(review_schema._MIGRATIONS, 1, stop)
    with pytest.raises(KeyboardInterrupt):
        ReviewStore.open(tmp_path, url="")
    monkeypatch.undo()
    with ReviewStore.open(tmp_path, url="") as store:
        assert store.verify().ok
        assert store.head().sequence == 6


@pytest.mark.parametrize("content", [b"no database at all, just text " * 40, b"\0" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "review.db").write_bytes(content)
    with pytest.raises(InputError, match="damaged or no database"):
        ReviewStore.open(tmp_path, url="")
    assert (tmp_path / "review.db").read_bytes() == content


def test_another_programs_database_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "review.db") as connection:
        connection.execute("CREATE TABLE events (id INTEGER)")
    connection.close()
    with pytest.raises(InputError, match="not fairvlm's"):
        ReviewStore.open(tmp_path, url="")


def test_many_processes_that_open_a_new_workspace_at_once_make_one_log(url, tmp_path):
    script = (
        "import sys\nfrom fairvlm_core.review import ReviewStore\n"
        "print(ReviewStore.open(sys.argv[1], url=sys.argv[2]).head().sequence)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "workspace"), url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == ["0"] * 3


@pytest.mark.slow
def test_four_processes_at_once_lose_and_double_nothing(url, tmp_path):
    outcome = bench.load(tmp_path, url, readers=4, verdicts=25)
    assert len(outcome.acknowledged) == 100
    assert (outcome.lost, outcome.doubled, outcome.pairs_read_twice, outcome.chain) == (0, 0, 0, "")


@pytest.mark.slow
def test_kill_9_during_writes_loses_no_acknowledged_verdict(url, tmp_path):
    outcome = bench.kills(tmp_path, url, times=3, n_pairs=3000)
    assert len(outcome.acknowledged) >= 3
    assert (outcome.lost, outcome.doubled, outcome.pairs_read_twice, outcome.chain) == (0, 0, 0, "")


def test_the_check_of_the_load_would_notice_a_lost_and_a_doubled_verdict(lite):
    add_queue(lite)
    task = lite.next_pair("q001", "Ada")
    event = lite.judge("q001", task.pair_id, "Ada", Verdict("fits"))
    lite.judge("q001", task.pair_id, "Bob", Verdict("fits"))
    outcome = bench.check(lite, [(event.event_id, 1.0), (event.event_id, 1.0), (str(uuid.uuid4()), 1.0)], 1.0)
    assert (outcome.lost, outcome.doubled, outcome.pairs_read_twice, outcome.good) == (1, 1, 1, False)


def test_a_workspace_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "workspace").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        ReviewStore.open(tmp_path / "workspace", url="")
