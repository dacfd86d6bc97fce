"""The Review page without a browser: what is shown, what is stored, what is hidden."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from recipes import asked, words_of
from review_data import add_queue, add_reviewable_run
from streamlit.testing.v1 import AppTest

from fairvlm_core.pairs import PairTable
from fairvlm_core.review import VERDICTS, Queue, ReviewStore, Verdict
from fairvlm_core.runs import Run, RunStore
from ui import review_reads, review_who

REVIEW = "7_Review.py"


@pytest.fixture(scope="module")
def made(table: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("review") / "workspace"
    add_reviewable_run(path, table)
    return path


@pytest.fixture
def reviewing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of its own with one run that can be reviewed."""
    path = tmp_path / "workspace"
    shutil.copytree(made, path)
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(path))
    monkeypatch.delenv("FAIRVLM_DATABASE_URL", raising=False)
    return path


def run_in(workspace: Path) -> Run:
    return RunStore(workspace).get("1")


def log_of(workspace: Path) -> ReviewStore:
    return ReviewStore.open(workspace, url="")


def start(open_page, name: str = "Ada", **address) -> AppTest:
    app = open_page(REVIEW, **address)
    app.text_input(key="review.typed").input(name)
    button(app, "Start reviewing").click()
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def button(app: AppTest, label: str):
    found = [each for each in app.button if each.label == label]
    assert len(found) == 1, [each.label for each in app.button]
    return found[0]


def shown_pair(app: AppTest, table: PairTable) -> str:
    words = words_of(app).replace("\\", "")
    found = [pair_id for pair_id in table.pair_ids if f"**{pair_id}**" in words]
    assert len(found) == 1
    return str(found[0])


def progress_of(app: AppTest) -> str:
    (bar,) = app.get("progress")
    return bar.proto.text


def shape(app: AppTest) -> list[tuple[str, str]]:
    """Every element of the page in its order, without what belongs to one pair."""
    return [
        (type(element).__name__, getattr(element, "label", "")) for element in app.main if element.type != "unknown"
    ]


# Empty and broken


def test_an_empty_workspace_says_what_to_do(open_page, empty_workspace) -> None:
    app = open_page(REVIEW)
    assert "No run yet" in words_of(app)
    assert not empty_workspace.exists()


def test_a_run_without_a_ledger_is_one_line(open_page, workspace, monkeypatch) -> None:
    monkeypatch.delenv("FAIRVLM_DATABASE_URL", raising=False)
    app = start(open_page, view="New queue", run=["1"])
    button(app, "Make the queue").click()
    run(app)
    assert "no ledger.parquet yet" in app.error[0].value.replace("\\", "")
    assert not log_of(workspace).queues()


def test_a_data_folder_that_is_gone_is_one_line(open_page, reviewing, table) -> None:
    run_ = run_in(reviewing)
    add_queue(reviewing, run_)
    path = run_.path / "data.json"
    path.write_text(path.read_text().replace(str(table.root), "/nowhere/gone"))
    app = start(open_page)
    assert "data folder of run 0001-robustfair-s0 ('gone') is gone" in app.error[0].value.replace("\\", "")
    assert not [each for each in app.button if each.label == "Pair fits"]


def test_fault_25_a_log_of_a_newer_version_is_one_line(open_page, reviewing) -> None:
    add_queue(reviewing, run_in(reviewing))
    with contextlib.closing(sqlite3.connect(reviewing / "review.db")) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
        connection.commit()
    app = start(open_page)
    assert "schema version 99" in app.error[0].value
    assert not [each for each in app.button if each.label == "Pair fits"]


def test_a_damaged_log_is_one_line(open_page, reviewing) -> None:
    (reviewing / "review.db").write_bytes(b"no database at all" * 100)
    app = start(open_page)
    assert "review" in app.error[0].value
    assert "damaged or no database" in app.error[0].value


@pytest.mark.usefixtures("reviewing")
def test_without_a_queue_the_page_says_who_makes_one(open_page) -> None:
    app = start(open_page)
    assert "No queue yet" in words_of(app)


# Reviewing


def test_a_verdict_is_stored_and_the_next_pair_comes(open_page, reviewing, table) -> None:
    queue = add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    first = shown_pair(app, table)
    assert table.frame.loc[table.frame["pair_id"] == first, "text"].item() in [text.value for text in app.text]
    button(app, "Wrong note").click()
    run(app)
    second = shown_pair(app, table)
    assert second != first
    events = [event for event in log_of(reviewing).events() if event.kind == "verdict"]
    assert [(e.pair_id, e.reviewer, e.body["verdict"], e.queue_id) for e in events] == [
        (first, "Ada", "wrong_note", queue.queue_id)
    ]
    assert f"Last: {first}, Wrong note" in words_of(app).replace("\\", "")
    assert progress_of(app).startswith("1 of ")


@pytest.mark.usefixtures("reviewing")
def test_the_name_is_no_authentication_and_not_in_the_address(open_page) -> None:
    app = open_page(REVIEW)
    assert "no authentication" in words_of(app)
    app.text_input(key="review.typed").input("Ada <b>")
    button(app, "Start reviewing").click()
    run(app)
    assert "letters, digits" in app.error[0].value
    app.text_input(key="review.typed").input("Ada Example")
    button(app, "Start reviewing").click()
    run(app)
    assert "Ada" not in str(dict(app.query_params))
    assert "Ada Example · admin" in [text.value for text in app.sidebar.text]


def test_every_verdict_carries_what_belongs_to_it(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    given = {}
    for verdict, kind in VERDICTS.items():
        given[shown_pair(app, table)] = verdict
        button(app, kind.label).click()
        run(app)
    labels = dict(zip(table.pair_ids, table.labels.tolist(), strict=True))
    stored = {e.pair_id: e.verdict for e in log_of(reviewing).events() if e.kind == "verdict"}
    assert {pair_id: verdict.verdict for pair_id, verdict in stored.items()} == given
    for pair_id, verdict in stored.items():
        wrong_label = verdict.verdict == "wrong_label"
        assert verdict.corrected_label == (1 - labels[pair_id] if wrong_label else None)
        assert verdict.better_pair_id is None
        assert verdict.seconds >= 0


def test_what_is_typed_survives_a_reload_and_a_closed_field(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    app.session_state["review.more"] = True
    run(app)
    first = shown_pair(app, table)
    app.text_area[0].input("image is turned")
    run(app)
    (file,) = (reviewing / "review-drafts").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert "ada" not in file.name.casefold()
    again = start(open_page)  # another session, as after a reload
    again.session_state["review.more"] = True
    run(again)
    assert (shown_pair(again, table), again.text_area[0].value) == (first, "image is turned")
    other = start(open_page, "Ben")
    other.session_state["review.more"] = True
    run(other)
    assert shown_pair(other, table) != first
    assert other.text_area[0].value in (None, "")
    closed = start(open_page)
    closed.session_state["review.more"] = False
    run(closed)
    button(closed, "Pair fits").click()
    run(closed)
    (event,) = [event for event in log_of(reviewing).events() if event.kind == "verdict"]
    assert (event.pair_id, event.verdict.comment) == (first, "image is turned")
    assert not file.exists()
    file.write_text("{", encoding="utf-8")
    run(start(open_page))


def test_reason_comment_and_better_note_go_with_the_verdict(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    app.session_state["review.more"] = True
    run(app)
    first = shown_pair(app, table)
    by_label = {box.label: box for box in app.selectbox}
    by_label["Reason"].select("other patient")
    app.text_area[0].input("  the cup is small here ")
    better = by_label["A note that fits this image better"]
    assert len(better.options) == 9  # none, and eight others
    better.select_index(1)
    run(app)
    chosen = {box.label: box for box in app.selectbox}["A note that fits this image better"].value
    assert table.frame.loc[table.frame["pair_id"] == chosen, "text"].item() in [text.value for text in app.text]
    button(app, "Wrong note").click()
    run(app)
    (event,) = [event for event in log_of(reviewing).events() if event.kind == "verdict"]
    assert event.pair_id == first
    verdict = event.verdict
    assert (verdict.reason, verdict.comment, verdict.better_pair_id) == (
        "other patient", "the cup is small here", chosen,
    )  # fmt: skip
    assert chosen != first


def test_undo_is_a_new_event_and_shows_the_pair_again(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    first = shown_pair(app, table)
    button(app, "Pair fits").click()
    run(app)
    button(app, "Undo").click()
    run(app)
    assert shown_pair(app, table) == first
    events = log_of(reviewing).events()
    assert [event.kind for event in events if event.kind in ("verdict", "undo")] == ["verdict", "undo"]
    assert log_of(reviewing).standing_readings() == ()
    button(app, "Unsure").click()
    run(app)
    (reading,) = log_of(reviewing).standing_readings()
    assert (reading.pair_id, reading.body["verdict"]) == (first, "unsure")
    assert shown_pair(app, table) != first


def test_skip_gives_the_pair_back(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    first = shown_pair(app, table)
    button(app, "Skip").click()
    run(app)
    assert shown_pair(app, table) != first
    assert [e.pair_id for e in log_of(reviewing).events() if e.kind == "release"] == [first]


def test_the_same_press_twice_counts_once(open_page, reviewing, table) -> None:
    """Both presses reach the server for the same showing, as over a slow network: the second finds it answered."""
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    first = shown_pair(app, table)
    button(app, "Wrong note").click()
    button(app, "Unsure").click()
    run(app)
    events = [event for event in log_of(reviewing).events() if event.kind == "verdict"]
    assert [event.pair_id for event in events] == [first]


def test_the_end_is_said(open_page, reviewing, table) -> None:
    add_queue(
        reviewing, run_in(reviewing), order="given", pair_ids=tuple(table.only("train").pair_ids[:2]), control_share=0
    )
    app = start(open_page)
    for _ in range(2):
        button(app, "Pair fits").click()
        run(app)
    assert "Every pair of this queue has all its readings" in words_of(app)
    button(app, "Undo").click()
    run(app)
    assert shown_pair(app, table) == str(table.only("train").pair_ids[1])


# Blind


def facts_shown(app: AppTest) -> bool:
    words = "\n".join(str(element.value) for part in (app.markdown, app.caption) for element in part).lower()
    return any(word in words for word in ("flagged", "shared marker", "mean loss", "standard deviation", "control"))


def test_a_blind_queue_hides_why_and_looks_the_same_for_controls(open_page, reviewing, table) -> None:
    queue = add_queue(reviewing, run_in(reviewing), size=14, control_share=0.2)
    items = {item.pair_id: item for item in log_of(reviewing).items(queue.queue_id)}
    kinds = {(item.control, item.stratum) for item in items.values()}
    assert {(True, "clean"), (True, "faulty"), (False, "faulty")} <= kinds
    app = start(open_page)
    shapes: dict[tuple[bool, str], set] = {kind: set() for kind in kinds}
    button(app, "Pair fits").click()  # the first page of a reader has no "Last"
    run(app)
    for _ in range(len(items) - 2):
        pair_id = shown_pair(app, table)
        assert not facts_shown(app)
        shapes[items[pair_id].control, items[pair_id].stratum].add(tuple(shape(app)))
        button(app, "Pair fits").click()
        run(app)
    assert len(set().union(*shapes.values())) == 1


def test_a_queue_that_is_not_blind_says_why_in_words(open_page, reviewing, table) -> None:
    queue = add_queue(reviewing, run_in(reviewing), blind=False, control_share=0)
    app = start(open_page)
    item = log_of(reviewing).item(queue.queue_id, shown_pair(app, table))
    words = words_of(app).replace("\\", "")
    assert item.stratum == "faulty"
    assert "Flagged as wrong note" in words
    assert f"Mean loss {item.facts['mean_loss']:.2f}" in words


def test_the_map_shows_words_and_heat(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    pair_id = shown_pair(app, table)
    button(app, "Show the map").click()
    run(app)
    assert shown_pair(app, table) == pair_id
    assert "Words with the largest effect" in words_of(app)
    subject = review_reads.data_of(log_of(reviewing).queues()[0], RunStore(reviewing))
    found = review_reads.explained(subject, subject.row(pair_id))
    strongest = found.map.top_words(1)[0].word.strip(".,;:()")
    assert strongest in table.frame.loc[table.frame["pair_id"] == pair_id, "text"].item()
    assert any(f"{strongest} " in badge.value.replace("\\", "") for badge in app.markdown if "-badge[" in badge.value)


# Two readers, conflicts, roles


def conflict_in(workspace: Path) -> tuple[Queue, str]:
    queue = add_queue(workspace, run_in(workspace), second_share=1.0)
    with log_of(workspace) as store:
        for name, verdict in (("Bo", "fits"), ("Cleo", "wrong_note")):
            task = store.next_pair(queue.queue_id, name)
            comment = "<b>not</b> ![x](http://example.invalid/x.png)"
            store.judge(queue.queue_id, task.pair_id, name, Verdict(verdict, comment=comment))
    return queue, task.pair_id


def test_two_readers_differ_and_an_adjudicator_decides(open_page, reviewing, table) -> None:
    queue, pair_id = conflict_in(reviewing)
    app = start(open_page, "Dana")
    assert "1 conflict to decide" in progress_of(app)
    app = start(open_page, "Dana", view="Adjudicate")
    words = words_of(app)
    assert shown_pair(app, table) == pair_id
    assert "**Pair fits**" in words
    assert "**Wrong note**" in words
    assert "comment: <b>not</b> ![x](http://example.invalid/x.png)" in [text.value for text in app.text]
    button(app, "Wrong note").click()
    run(app)
    assert "No conflict" in words_of(app)
    (verdict,) = [v for v in log_of(reviewing).verdicts(queue_id=queue.queue_id).verdicts if v.pair_id == pair_id]
    assert (verdict.verdict, verdict.standing, verdict.n_readings) == ("wrong_note", "adjudicated", 2)


def test_a_reader_does_not_decide_on_their_own_pair(open_page, reviewing) -> None:
    conflict_in(reviewing)
    app = start(open_page, "bo", view="Adjudicate")
    assert "Another person decides" in words_of(app)
    assert not [each for each in app.button if each.label == "Wrong note"]


def test_a_second_reader_sees_nothing_of_the_first(open_page, reviewing, table) -> None:
    queue = add_queue(reviewing, run_in(reviewing), second_share=1.0)
    with log_of(reviewing) as store:
        task = store.next_pair(queue.queue_id, "Bo")
        store.judge(queue.queue_id, task.pair_id, "Bo", Verdict("wrong_note", comment="seen by Bo"))
    app = start(open_page, "Cleo")
    assert shown_pair(app, table) == task.pair_id
    assert "seen by Bo" not in words_of(app)
    assert "Bo" not in [text.value for text in app.text]
    assert "Last:" not in words_of(app)


def test_the_page_says_that_another_reader_has_the_last_pair(open_page, reviewing, table) -> None:
    pair = (str(table.only("train").pair_ids[0]),)
    queue = add_queue(reviewing, run_in(reviewing), order="given", pair_ids=pair, control_share=0)
    with log_of(reviewing) as store:
        assert store.next_pair(queue.queue_id, "Bo").pair_id == pair[0]
    app = start(open_page, "Cleo")
    assert "1 pair being read by others" in words_of(app)


def test_roles_of_the_workspace_hold(open_page, reviewing) -> None:
    conflict_in(reviewing)
    (reviewing / "review.toml").write_text('default = "none"\n[roles]\n"Rae" = "reviewer"\n"Ann" = "admin"\n')
    app = open_page(REVIEW)
    app.text_input(key="review.typed").input("Stranger")
    button(app, "Start reviewing").click()
    run(app)
    assert "not on this workspace" in app.error[0].value
    for view, words in (("Adjudicate", "For adjudicators"), ("New queue", "For administrators")):
        assert words in words_of(start(open_page, "Rae", view=view))
        assert words not in words_of(start(open_page, "Ann", view=view))


@pytest.mark.usefixtures("reviewing")
def test_login_is_asked_where_it_is_configured() -> None:
    app = AppTest.from_file(str(Path(review_who.__file__).parents[1] / "app.py"), default_timeout=60)
    app.secrets["auth"] = {"redirect_uri": "http://localhost:8501/oauth2callback", "cookie_secret": "x" * 32}
    app.switch_page(f"pages/{REVIEW}")
    run(app)
    assert [each.label for each in app.button if each.key == "review.login"] == ["Log in"]
    assert not app.text_input


# Queues and results


def test_a_queue_is_made_and_is_in_the_address(open_page, reviewing) -> None:
    app = start(open_page, view="New queue")
    {box.label: box for box in app.selectbox}["Order"].select("informative")
    {box.label: box for box in app.number_input}["Pairs in all"].set_value(12)
    {box.label: box for box in app.multiselect}["Only these groups"].select(("gender", "Female"))
    button(app, "Make the queue").click()
    run(app)
    (queue,) = log_of(reviewing).queues()
    items = log_of(reviewing).items(queue.queue_id)
    assert {item.facts["groups"]["gender"] for item in items} == {"Female"}
    assert (queue.n_items, queue.run_id, queue.by, queue.blind) == (12, "0001-robustfair-s0", "Ada", True)
    assert queue.settings["control_share"] == 0.2
    assert asked(app, "queue") == [queue.queue_id]


def test_the_selector_shows_the_queue_that_was_made_last(open_page, reviewing) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page, view="New queue")
    for _ in range(2):
        button(app, "Make the queue").click()
        run(app)
        newest = log_of(reviewing).queues()[-1].queue_id
        assert app.selectbox(key="review.queue").value == newest
        assert newest in app.success[0].value
        app.query_params["view"] = "New queue"
        run(app)
    assert len(log_of(reviewing).queues()) == 3


def test_a_pair_read_in_another_queue_counts_once(open_page, reviewing, table) -> None:
    """Two queues over the same pairs, read by two people in the first: the second is done, no more than done."""
    pairs = {"order": "given", "pair_ids": tuple(table.only("train").pair_ids[:3]), "control_share": 0}
    first = add_queue(reviewing, run_in(reviewing), second_share=1.0, **pairs)
    with log_of(reviewing) as store:
        for name in ("Bo", "Cleo"):
            while (task := store.next_pair(first.queue_id, name)) is not None:
                store.judge(first.queue_id, task.pair_id, name, Verdict("fits"))
    second = add_queue(reviewing, run_in(reviewing), name="Again", **pairs)
    progress = log_of(reviewing).progress(second.queue_id)
    assert (progress.n_readings, progress.n_wanted, progress.n_done) == (3, 3, 3)
    app = start(open_page, "Ada", queue=second.queue_id)
    assert progress_of(app) == "0 of 0 pairs read by you · all readers: 3 of 3 readings"


def test_the_bar_of_a_lone_reader_reaches_the_end(open_page, reviewing, table) -> None:
    pairs = tuple(table.only("train").pair_ids[:2])
    add_queue(reviewing, run_in(reviewing), order="given", pair_ids=pairs, control_share=0, second_share=1.0)
    app = start(open_page)
    for done in range(3):
        assert app.get("progress")[0].proto.value == 50 * done
        if done < 2:
            button(app, "Pair fits").click()
            run(app)
    assert "2 of 2 pairs read by you · all readers: 2 of 4 readings" in progress_of(app)


def test_a_selection_of_the_bad_pairs_page_becomes_a_queue(open_page, reviewing, table) -> None:
    chosen = [str(pair_id) for pair_id in table.only("train").pair_ids[[7, 3, 11]]]
    app = start(open_page, view="New queue")
    app.session_state["review.selection"] = {"run": "0001-robustfair-s0", "pair_ids": chosen}
    run(app)
    {box.label: box for box in app.slider}["Control pairs"].set_value(0)
    button(app, "Make the queue").click()
    run(app)
    (queue,) = log_of(reviewing).queues()
    assert [item.pair_id for item in log_of(reviewing).items(queue.queue_id)] == chosen


def test_results_show_agreement_precision_and_files(open_page, reviewing, table) -> None:
    queue = add_queue(reviewing, run_in(reviewing), second_share=1.0)
    planted = table.planted().set_index("pair_id")["kind"]
    with log_of(reviewing) as store:
        for name in ("Bo", "Cleo"):
            while (task := store.next_pair(queue.queue_id, name)) is not None:
                bad = planted[task.pair_id] == "mismatch"
                store.judge(
                    queue.queue_id, task.pair_id, name, Verdict("wrong_note" if bad else "fits", comment="secret")
                )
        n_flagged = sum(item.stratum != "clean" for item in store.items(queue.queue_id))
        n_bad = sum(planted[i.pair_id] == "mismatch" for i in store.items(queue.queue_id) if i.stratum != "clean")
    app = start(open_page, view="Results")
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Precision"] == f"{100 * n_bad / n_flagged:.0f} %"
    agreement, precision, counts = (frame.value for frame in app.dataframe[:3])
    assert agreement["Same verdict"].tolist() == ["100 %", "100 %"]
    assert agreement["Pairs read twice"].tolist() == [queue.n_items] * 2
    assert precision.iloc[0][["Judged", "Bad"]].tolist() == [n_flagged, n_bad]
    assert counts["Pairs"].sum() == queue.n_items
    assert [box.label for box in app.checkbox] == ["With notes", "With comments"]
    assert not any(box.value for box in app.checkbox)


def test_results_without_a_verdict_say_so(open_page, reviewing) -> None:
    add_queue(reviewing, run_in(reviewing))
    assert "No verdict yet" in words_of(start(open_page, view="Results"))


def test_a_reader_of_a_blind_queue_sees_no_results_until_an_adjudicator_opens_them(open_page, reviewing) -> None:
    (reviewing / "review.toml").write_text('[roles]\n"Ann" = "adjudicator"\n')
    queue = add_queue(reviewing, run_in(reviewing))
    with log_of(reviewing) as store:
        for name in ("Rae", "Ann"):
            task = store.next_pair(queue.queue_id, name)
            store.judge(queue.queue_id, task.pair_id, name, Verdict("fits"))
    app = start(open_page, "Rae", view="Results")
    assert "Results are closed" in words_of(app)
    assert not app.metric
    assert not [each for each in app.button if each.label.startswith("Open the results")]
    app = start(open_page, "Ann", view="Results")
    assert "Results are closed" in words_of(app)  # she still has pairs to read, too
    button(app, "Open the results to all readers").click()
    run(app)
    assert [metric.label for metric in app.metric][:1] == ["Precision"]
    assert [metric.label for metric in start(open_page, "Rae", view="Results").metric][:1] == ["Precision"]


def test_without_a_list_of_roles_who_made_the_queue_opens_its_results(open_page, reviewing) -> None:
    queue = add_queue(reviewing, run_in(reviewing))
    with log_of(reviewing) as store:
        task = store.next_pair(queue.queue_id, "Rae")
        store.judge(queue.queue_id, task.pair_id, "Rae", Verdict("fits"))
    app = start(open_page, "Rae", view="Results")
    assert "Results are closed" in words_of(app)
    assert not app.metric
    assert not [each for each in app.button if each.label.startswith("Open the results")]
    app = start(open_page, queue.by, view="Results")
    button(app, "Open the results to all readers").click()
    run(app)
    assert [metric.label for metric in start(open_page, "Rae", view="Results").metric][:1] == ["Precision"]


def test_the_image_stands_beside_those_its_note_fits_best_on_request(open_page, reviewing, table) -> None:
    add_queue(reviewing, run_in(reviewing))
    app = start(open_page)
    assert not app.get("image")
    app.session_state["review.beside"] = True
    run(app)
    pair_id = shown_pair(app, table)
    images, notes = (run_in(reviewing).embeddings()[side] for side in ("image", "text"))
    row = list(table.pair_ids).index(pair_id)
    likeness = images @ notes[row]
    likeness[row] = -np.inf
    best = [str(table.pair_ids[i]) for i in np.argsort(-likeness, kind="stable")[:3]]
    captions = [image.caption.replace("\\", "") for shown in app.get("image") for image in shown.proto.imgs]
    assert captions == ["This image", *best]
