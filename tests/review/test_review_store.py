"""The log is appended to, never changed, and checked; the state it leads to. On SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import uuid

import pytest
from review_store_data import DATA, PLAIN, add_queue, mined_rows
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fairvlm_core import InputError
from fairvlm_core.review import ChainHead, QueueSettings, ReviewStore, Verdict, plan_queue
from fairvlm_core.review import schema as review_schema


def judged(store, reviewer="Ada", verdict="fits", n=1, queue_id="q001", **fields):
    """The events of a reader who takes the next n pairs."""
    events = []
    for _ in range(n):
        task = store.next_pair(queue_id, reviewer)
        events.append(store.judge(queue_id, task.pair_id, reviewer, Verdict(verdict, **fields)))
    return events


def tamper(store, *statements):
    """Change the database as somebody with all rights could."""
    with store._database.writing() as connection:
        for table in ("events", "queue_items"):
            review_schema.unguard(connection, table)
        for statement in statements:
            connection.execute(text(statement))


def test_events_are_numbered_without_a_gap_and_the_chain_is_whole(store):
    add_queue(store)
    judged(store, n=3)
    events = store.events()
    assert [event.sequence for event in events] == list(range(1, 8))
    assert [event.kind for event in events] == ["queue", *["lease", "verdict"] * 3]
    assert all(later.previous == earlier.hash for earlier, later in itertools.pairwise(events))
    assert store.verify().ok
    assert store.verify().head == store.head() == ChainHead(7, events[-1].hash)


def test_what_was_stored_comes_back_whole(store):
    queue = add_queue(store)
    task = store.next_pair(queue.queue_id, "Zoë")
    verdict = Verdict("wrong_note", "other patient", "=1+1 \0 ünï 漢字 \ud800", better_pair_id="p0001", seconds=2.5)
    event = store.judge(queue.queue_id, task.pair_id, "Zoë", verdict)
    assert event == store.events()[-1] == store.last_given(queue.queue_id, "Zoë")
    assert event.verdict == verdict
    assert event.at == "2030-05-01T12:00:00.000+00:00"
    assert store.queues() == (queue,)
    assert store.verify().ok


def test_the_same_event_id_is_the_same_event(store):
    queue = add_queue(store)
    task, mine = store.next_pair(queue.queue_id, "Ada"), str(uuid.uuid4())
    first = store.judge(queue.queue_id, task.pair_id, "Ada", Verdict("fits", seconds=1.0), event_id=mine)
    again = store.judge(queue.queue_id, task.pair_id, "Ada", Verdict("fits", seconds=1.2), event_id=mine)
    assert again == first
    assert sum(event.kind == "verdict" for event in store.events()) == 1
    with pytest.raises(InputError, match="already belongs to another event"):
        store.judge(queue.queue_id, task.pair_id, "Ada", Verdict("unsure"), event_id=mine)
    plan = plan_queue(mined_rows(), PLAIN)
    one = {"by": "Ada", "run_id": "1", "data": DATA, "event_id": str(uuid.uuid4())}
    assert store.make_queue("two", plan, **one) == store.make_queue("two", plan, **one)
    assert len(store.queues()) == 2


@pytest.mark.parametrize("table", ["events", "queue_items"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET pair_id = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_database_itself_refuses_to_change_what_is_logged(store, table, statement):
    add_queue(store)
    engine = store._database.engine
    if engine.dialect.name == "sqlite" and "TRUNCATE" in statement:
        pytest.skip("SQLite knows no TRUNCATE")
    before = store.events()
    with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text(statement.format(table)))
    assert store.events() == before


@pytest.mark.parametrize(
    ("statement", "sequence", "words"),
    [
        ("UPDATE events SET reviewer = 'Eve' WHERE sequence = 5", 5, "content was changed"),
        ("UPDATE events SET body = '{{' WHERE sequence = 3", 3, "no JSON"),
        ("UPDATE events SET at = '2031-01-01' WHERE sequence = 7", 7, "content was changed"),
        ("DELETE FROM events WHERE sequence = 4", 5, "event 4 is missing"),
        ("UPDATE events SET refers = NULL WHERE kind = 'undo'", 8, "takes back was changed"),
        ("UPDATE queue_items SET pair_id = 'p9999' WHERE position = 1", 1, "its pairs were changed"),
        ("DELETE FROM queue_items WHERE position = 0", 1, "its pairs were changed"),
        ("UPDATE queue_items SET body = '[]' WHERE position = 0", 1, "its pairs were changed"),
    ],
)
def test_verify_names_the_first_broken_event(store, statement, sequence, words):
    add_queue(store)
    last = judged(store, n=3)[-1]
    store.undo(last.event_id, "Ada")
    assert store.verify().ok
    tamper(store, statement.replace("{{", "{"))
    result = store.verify()
    assert result.n_events == result.head.sequence < sequence
    assert result.problem.startswith(f"event {sequence} (")
    assert words in result.problem
    with pytest.raises(InputError, match="not written"):
        store.backup("unused.db")


def test_a_log_that_cannot_be_read_says_so_in_one_line(store, url, tmp_path):
    add_queue(store)
    judged(store, n=2)
    tamper(store, "UPDATE events SET body = 'x' WHERE sequence = 4")
    with (
        ReviewStore.open(tmp_path / "workspace", url=url) as other,
        pytest.raises(InputError, match="broken after event 3; `fairvlm review verify`"),
    ):
        other.next_pair("q001", "Bob")


def test_a_noted_head_shows_that_a_log_was_cut_off_or_rewritten(store):
    add_queue(store)
    judged(store, n=2)
    noted = store.head()
    tamper(store, "DELETE FROM events WHERE sequence > 3")
    assert store.verify().ok
    assert "cut off" in store.verify([noted]).problem
    judged(store, "Bob", n=1)
    assert store.verify().ok, "the chain goes on from what is there"
    assert "noted with this number" in store.verify([noted]).problem


def test_undo_takes_back_ones_own_verdict_once(store):
    queue = add_queue(store)
    first, second = judged(store, verdict="fits", n=2)
    other = judged(store, "Bob", n=1)[0]
    with pytest.raises(InputError, match="another person"):
        store.undo(other.event_id, "Ada")
    with pytest.raises(InputError, match="no verdict with that event id"):
        store.undo(str(uuid.uuid4()), "Ada")
    mine = str(uuid.uuid4())
    event = store.undo(second.event_id, "ada", event_id=mine)
    assert store.undo(second.event_id, "ada", event_id=mine) == event
    with pytest.raises(InputError, match="already taken back"):
        store.undo(second.event_id, "Ada")
    assert store.last_given(queue.queue_id, "Ada") == first
    assert {v.pair_id for v in store.verdicts().verdicts} == {first.pair_id, other.pair_id}
    assert store.next_pair(queue.queue_id, "Ada").pair_id == second.pair_id, "it is to be judged again"
    assert len(store.events()) == 9, "nothing was removed"


def test_a_later_verdict_of_the_same_reader_stands_until_it_is_taken_back(store):
    queue = add_queue(store)
    first = judged(store, verdict="fits")[0]
    later = store.judge(queue.queue_id, first.pair_id, "ADA", Verdict("unusable_image"))
    assert [v.verdict for v in store.verdicts().verdicts] == ["unusable_image"]
    assert store.conflicts() == ()
    store.undo(later.event_id, "Ada")
    assert [v.verdict for v in store.verdicts().verdicts] == ["fits"]


def test_a_pair_stays_with_its_reader_and_goes_to_no_other(store):
    queue = add_queue(store)
    ada = store.next_pair(queue.queue_id, "Ada")
    assert store.next_pair(queue.queue_id, "Ada") == ada
    bob = store.next_pair(queue.queue_id, "Bob")
    assert bob.pair_id != ada.pair_id
    ahead = store.next_pairs(queue.queue_id, "Ada", 3)
    assert ahead[0].pair_id == ada.pair_id
    assert bob.pair_id not in {task.pair_id for task in ahead}
    order = [item.pair_id for item in store.items(queue.queue_id)]
    assert [order.index(task.pair_id) for task in ahead] == [0, 2, 3]
    n = len(store.events())
    assert store.next_pairs(queue.queue_id, "Ada", 3) == ahead
    assert len(store.events()) == n, "a page that is drawn again writes nothing"


def test_a_lease_that_ran_out_lets_the_next_reader_in_and_loses_no_work(store, clock):
    queue = add_queue(store)
    task = store.next_pair(queue.queue_id, "Ada")
    clock.move(seconds=899)
    assert store.next_pair(queue.queue_id, "Bob").pair_id != task.pair_id
    clock.move(seconds=2)
    assert store.next_pair(queue.queue_id, "Cleo").pair_id == task.pair_id
    store.judge(queue.queue_id, task.pair_id, "Ada", Verdict("fits"))
    store.judge(queue.queue_id, task.pair_id, "Cleo", Verdict("fits"))
    assert [event.pair_id for event in store.standing_readings(queue.queue_id)] == [task.pair_id] * 2


def test_a_lease_is_renewed_for_a_reader_who_comes_back(store, clock):
    queue = add_queue(store)
    task = store.next_pair(queue.queue_id, "Ada")
    clock.move(seconds=500)
    renewed = store.next_pair(queue.queue_id, "Ada")
    assert renewed.pair_id == task.pair_id
    assert renewed.expires > task.expires
    clock.move(seconds=800)
    assert store.next_pair(queue.queue_id, "Bob").pair_id != task.pair_id


def test_a_pair_that_is_given_back_comes_last(store):
    queue = add_queue(store, mined_rows(20, 3, 0))
    order = [item.pair_id for item in store.items(queue.queue_id)]
    store.next_pair(queue.queue_id, "Ada")
    store.release(queue.queue_id, order[0], "Ada")
    assert store.next_pair(queue.queue_id, "Bob").pair_id == order[0]
    store.release(queue.queue_id, order[0], "Bob")
    seen = [event.pair_id for event in judged(store, n=3)]
    assert seen == [order[1], order[2], order[0]]
    assert store.next_pair(queue.queue_id, "Ada") is None


def test_a_second_reader_is_another_person_and_sees_nothing_of_the_first(store):
    queue = add_queue(store, mined_rows(20, 4, 0), QueueSettings(control_share=0, second_share=1))
    mine = [event.pair_id for event in judged(store, "Ada", n=4)]
    assert store.next_pair(queue.queue_id, "ada") is None, "the same person under another spelling"
    task = store.next_pair(queue.queue_id, "Bob")
    assert task.pair_id == mine[0]
    assert set(vars(task)) == {"queue_id", "pair_id", "expires"}
    judged(store, "Bob", "fits", n=4)
    assert store.next_pair(queue.queue_id, "Cleo") is None
    progress = store.progress(queue.queue_id)
    assert (progress.n_done, progress.n_readings, progress.n_wanted) == (4, 8, 8)
    assert progress.reviewers == {"Ada": 4, "Bob": 4}


def test_two_first_readers_never_hold_one_pair_and_two_readers_may(store):
    queue = add_queue(store, mined_rows(30, 6, 0), QueueSettings(control_share=0, second_share=0.5, seed=2))
    held = [task.pair_id for name in ("Ada", "Bob", "Cleo") for task in store.next_pairs(queue.queue_id, name, 5)]
    wanted = {item.pair_id: item.readers for item in store.items(queue.queue_id)}
    assert sorted(wanted.values()) == [1, 1, 1, 2, 2, 2]
    assert {pair_id: held.count(pair_id) for pair_id in wanted} == wanted


def test_a_conflict_waits_for_an_adjudicator_who_is_none_of_its_readers(store):
    queue = add_queue(store, settings=QueueSettings(control_share=0, second_share=1))
    pair_id = judged(store, "Ada", "fits")[0].pair_id
    with pytest.raises(InputError, match="nothing to decide"):
        store.adjudicate(queue.queue_id, pair_id, "Cleo", Verdict("fits"))
    judged(store, "Bob", "wrong_note")
    (conflict,) = store.conflicts(queue.queue_id)
    assert [(e.reviewer, e.verdict.verdict) for e in conflict.readings] == [("Ada", "fits"), ("Bob", "wrong_note")]
    (verdict,) = store.verdicts().verdicts
    assert (verdict.verdict, verdict.standing, verdict.bad) == (None, "conflict", None)
    assert store.progress(queue.queue_id).n_conflicts == 1
    with pytest.raises(InputError, match="somebody else decides"):
        store.adjudicate(queue.queue_id, pair_id, "BOB", Verdict("fits"))
    decided = store.adjudicate(queue.queue_id, pair_id, "Cleo", Verdict("wrong_note", better_pair_id="p0002"))
    assert store.conflicts() == ()
    (verdict,) = store.verdicts().verdicts
    assert (verdict.verdict, verdict.standing, verdict.better_pair_id) == ("wrong_note", "adjudicated", "p0002")
    store.undo(decided.event_id, "Cleo")
    assert len(store.conflicts()) == 1


def test_readers_who_cannot_tell_do_not_count_against_those_who_can(store):
    queue = add_queue(store)
    for name, verdict in (("Ada", "unsure"), ("Bob", "wrong_note"), ("Cleo", "wrong_note")):
        store.judge(queue.queue_id, "p0001", name, Verdict(verdict))
    store.judge(queue.queue_id, "p0002", "Ada", Verdict("unsure"))
    found = {v.pair_id: (v.verdict, v.standing, v.n_readings) for v in store.verdicts().verdicts}
    assert found == {"p0001": ("wrong_note", "agreed", 3), "p0002": ("unsure", "single", 1)}


def test_readers_who_want_different_labels_or_notes_disagree_or_leave_it_open(store):
    queue = add_queue(store)
    for name, label, better in (("Ada", 1, "p0003"), ("Bob", 0, "p0004")):
        store.judge(queue.queue_id, "p0001", name, Verdict("wrong_label", corrected_label=label))
        store.judge(queue.queue_id, "p0002", name, Verdict("wrong_note", better_pair_id=better))
    found = {v.pair_id: (v.standing, v.better_pair_id) for v in store.verdicts().verdicts}
    assert found == {"p0001": ("conflict", None), "p0002": ("agreed", None)}


def test_a_verdict_counts_in_every_queue_over_the_same_data(store):
    add_queue(store)
    event = judged(store)[0]
    again = add_queue(store)
    assert store.next_pair(again.queue_id, "Bob").pair_id != event.pair_id
    assert store.progress(again.queue_id).n_done == 1
    other = store.make_queue("other", plan_queue(mined_rows(), PLAIN), by="Ada", run_id="2", data="e" * 64)
    assert store.next_pair(other.queue_id, "Bob").pair_id == event.pair_id
    assert store.verdicts(queue_id=other.queue_id).verdicts == ()
    assert len(store.verdicts(DATA)) == len(store.verdicts()) == 1


def test_two_stores_on_one_log_see_each_others_work(store, url, tmp_path, clock):
    add_queue(store)
    with ReviewStore.open(tmp_path / "workspace", url=url, clock=clock) as other:
        mine, theirs = judged(store)[0], judged(other, "Bob")[0]
        assert store.events() == other.events()
        assert theirs.pair_id != mine.pair_id
        assert store.progress("q001").reviewers == {"Ada": 1, "Bob": 1}


def test_a_backup_is_complete_while_others_write(store, tmp_path):
    queue = add_queue(store, mined_rows(200, 150, 0))
    stop, errors = threading.Event(), []

    def write(name):
        try:
            while not stop.is_set():
                judged(store, name)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("Ada", "Bob")]
    for writer in writers:
        writer.start()
    try:
        heads = [store.backup(tmp_path / "copy" / "review.db").head for _ in range(3)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert errors == []
    assert heads[0].sequence < heads[-1].sequence
    with ReviewStore.open(tmp_path / "copy", url="") as copy:
        assert copy.verify(heads).ok
        assert copy.head() == heads[-1]
        assert copy.events() == store.events()[: heads[-1].sequence]
        assert copy.items(queue.queue_id) == store.items(queue.queue_id)
        judged(copy, "Cleo")
        assert copy.verify().ok, "the copy is a log one can go on with"


def test_an_open_store_notices_that_a_backup_was_put_back(lite, tmp_path):
    add_queue(lite)
    judged(lite)
    lite.backup(tmp_path / "copy.db")
    judged(lite, n=2)
    (tmp_path / "copy.db").replace(tmp_path / "workspace" / "review.db")
    assert len(lite.verdicts()) == 1
    judged(lite, "Bob", n=1)
    assert lite.verify().ok


def test_threads_share_a_store_and_nothing_is_lost(store):
    add_queue(store, mined_rows(100, 60, 0))
    names = [f"Reader {i}" for i in range(4)]
    threads = [threading.Thread(target=judged, args=(store, name), kwargs={"n": 10}) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.progress("q001").reviewers == dict.fromkeys(names, 10)
    assert len({event.pair_id for event in store.standing_readings()}) == 40
    assert store.verify().ok


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.queue("q009"), "no queue 'q009' (latest: q001)"),
        (lambda s: s.next_pair("q009", "Ada"), "no queue"),
        (lambda s: s.judge("q001", "nobody", "Ada", Verdict("fits")), "'nobody' is not in queue q001"),
        (lambda s: s.next_pair("q001", "  "), "reviewer"),
        (lambda s: s.next_pair("q001", "<b>Ada</b>"), "reviewer"),
        (lambda s: s.next_pairs("q001", "Ada", 6), "1 to 5"),
        (lambda s: s.judge("q001", "p0000", "Ada", Verdict("fits"), event_id="1"), "no UUID"),
        (lambda s: s.judge("q001", "p0000", "Ada", Verdict("wrong_note", better_pair_id="p0000")), "the pair itself"),
        (lambda s: s.make_queue(" ", plan_queue(mined_rows(), PLAIN), by="A", run_id="1", data="x"), "queue name"),
        (lambda s: s.make_queue("n", plan_queue(mined_rows(), PLAIN), by="A", run_id="1", data=""), "fingerprint"),
    ],
)
def test_bad_input_is_one_line_and_records_nothing(lite, call, words):
    add_queue(lite)
    with pytest.raises(InputError) as caught:
        call(lite)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(lite.events()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "nonsense"},
        {"verdict": "fits", "comment": "x" * 4001},
        {"verdict": "fits", "reason": "x" * 201},
        {"verdict": "fits", "better_pair_id": "p1"},
        {"verdict": "wrong_note", "corrected_label": 1},
        {"verdict": "wrong_label", "corrected_label": 2},
        {"verdict": "fits", "seconds": -1.0},
        {"verdict": "fits", "seconds": float("nan")},
    ],
)
def test_a_verdict_is_checked_when_it_is_made(fields):
    with pytest.raises(InputError):
        Verdict(**fields)


def test_the_file_is_its_owners_alone(lite, tmp_path):
    add_queue(lite)
    assert (tmp_path / "workspace" / "review.db").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(tmp_path / "workspace" / "review.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "no database URL"),
        ("mysql://host/name", "not supported"),
        ("postgresql://reader:secret@127.0.0.1:9/review", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(url, words):
    with pytest.raises(InputError, match=words) as caught:
        ReviewStore.open(url=url)
    assert "secret" not in str(caught.value)
