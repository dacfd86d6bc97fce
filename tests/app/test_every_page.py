"""Every page in every state of a workspace: none of them fails, and each says what is the matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recipes import add_run, asked, methods_table, set_running, words_of
from recorded import record
from review_data import add_queue, add_reviewable_run
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Multiselect, Selectbox

from fairvlm_core import safeio
from fairvlm_core.analysis.comparison import compare_runs
from fairvlm_core.analysis.entries import read_entry
from fairvlm_core.analysis.methods import methods_of
from fairvlm_core.analysis.mined_pairs import usable_settings
from fairvlm_core.config import RunConfig
from fairvlm_core.pairs import PairTable
from fairvlm_core.review import ReviewStore, Verdict
from fairvlm_core.runs import Run, RunStore
from ui import bad_pairs, bad_pairs_reads
from ui.frame import page_names

OpenPage = Callable[..., AppTest]
PAGES = {"Overview": None, **page_names()}
EMPTY = {"Overview": "This workspace is empty", "Data": "No data set yet", "Fine-tune": "No data set yet"}
FOUND = {  # with a finished run
    "Overview": "Test metrics of run",
    "Data": "Groups and label rates",
    "Fine-tune": "What it will cost",
    "Bad pairs": "How many, and of which groups",
    "Loss & Sinkhorn": "Distribution by group",
    "Compare runs": "ES-AUC by attribute",
    "Review": "It is no authentication",
    "Report": "What goes into it",
    "Story": "Before and after, group by group",
    "Experiments": "No experiment yet",
}
AT_WORK = {  # with the newest run at work after its first epoch
    "Overview": "is being trained (epoch 1 of 2)",
    "Fine-tune": "Queue: 1 run",
    "Bad pairs": "The run is being trained (epoch 1 of 2)",
    "Loss & Sinkhorn": "Distribution by group",
    "Compare runs": "is running: only finished runs",
    "Report": "has not finished (running)",
    "Story": "One method only",
}
DAMAGED = {
    "Overview": "is damaged",
    "Bad pairs": "cannot be read",
    "Loss & Sinkhorn": "is damaged",
    "Compare runs": "is damaged: only finished runs",
    "Report": "is damaged",
    "Story": "One method only",
}
WITH_RUNS = [page for page in PAGES if page not in ("Story", "Experiments")]  # with a selector of runs


def said(app: AppTest) -> str:
    assert not app.exception
    return words_of(app).replace("\\", "")


@pytest.fixture
def runs_of(table: PairTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Run]]:
    """Finished runs with planted losses, in a workspace of their own."""

    def make(count: int) -> list[Run]:
        monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "workspace"))
        monkeypatch.delenv("FAIRVLM_DATABASE_URL", raising=False)
        store = RunStore(tmp_path / "workspace")
        presets = [("clip", "robustfair", "dbpm")[i % 3] for i in range(count)]
        return [record(add_run(store, table, preset, i // 3)) for i, preset in enumerate(presets)]

    return make


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_workspace(open_page: OpenPage, empty_workspace: Path, page: str) -> None:
    text = said(open_page(PAGES[page]))
    missing = "No finished run yet" if page in ("Compare runs", "Story") else "No run yet"
    missing = "No experiment yet" if page == "Experiments" else missing
    assert EMPTY.get(page, missing) in text
    assert not empty_workspace.exists()  # looking makes nothing


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("count", [1, 10])
def test_finished_runs(open_page: OpenPage, runs_of, page: str, count: int) -> None:
    runs = runs_of(count)
    app = open_page(PAGES[page])
    assert ("One method only" if page == "Story" and count == 1 else FOUND[page]) in said(app)
    assert not app.error
    if page not in WITH_RUNS:
        return
    assert len(_selector(app, page).options) == len(runs)
    if page == "Compare runs":
        assert sum(methods_table(app)["Seeds"]) == count


@pytest.mark.parametrize("page", PAGES)
def test_a_run_in_progress(open_page: OpenPage, runs_of, page: str) -> None:
    runs = runs_of(2)
    set_running(runs[1])
    text = said(open_page(PAGES[page], run=[run.id for run in runs] if page == "Compare runs" else [runs[1].id]))
    assert AT_WORK.get(page, FOUND[page]) in text


@pytest.mark.parametrize("page", WITH_RUNS)
def test_a_run_that_ends_as_it_is_chosen(open_page: OpenPage, runs_of, page: str) -> None:
    """A browser that has not yet drawn a run's end sends the label it shows; what stays in the address is the id."""
    runs = runs_of(2)
    set_running(runs[1])
    app = open_page(PAGES[page], run=[runs[0].id])
    several = page == "Compare runs"
    shown = next(label for label in _selector(app, page).options if label.startswith("2 ·"))
    runs[1].set_status(state="cancelled", message="cancelled")
    app.run()  # the server knows the end; the browser, below, does not
    sent = app._tree.get_widget_states()
    for widget in sent.widgets:
        if widget.id == _selector(app, page).id:
            if several:
                widget.string_array_value.data[:] = [shown]
            else:
                widget.string_value = shown
    app._run(sent)
    assert not app.exception
    assert asked(app, "run") == [runs[1].id]


def _selector(app: AppTest, page: str) -> Selectbox | Multiselect:
    return app.multiselect(key="frame.runs") if page == "Compare runs" else app.selectbox(key="frame.run")


@pytest.mark.parametrize("page", PAGES)
def test_a_damaged_run(open_page: OpenPage, runs_of, page: str) -> None:
    runs = runs_of(2)
    (runs[1].path / "status.json").write_text('{"state": "finis')
    text = said(open_page(PAGES[page], run=[run.id for run in runs] if page == "Compare runs" else [runs[1].id]))
    assert DAMAGED.get(page, FOUND[page]) in text


# A review, seen from the other pages


def with_verdicts(run: Run, head: str) -> Run:
    """A run whose record says what `train --verdicts` notes."""
    record_of = {"source": "review log", "n_verdicts": 3, "head": {"sequence": 9, "hash": head}, "counts": {}}
    safeio.write_json(run.path / "data.json", run.data | {"verdicts": record_of})
    return Run(run.path)


def test_runs_with_verdicts_are_another_method(runs_of, table: PairTable, tmp_path: Path) -> None:
    plain = runs_of(1)[0]
    store = RunStore(tmp_path / "workspace")
    first, second = (with_verdicts(add_run(store, table, "clip", seed), "ab" * 32) for seed in (0, 1))
    later = with_verdicts(add_run(store, table, "clip", 0), "cd" * 32)
    assert plain.method_key == RunConfig.build("clip", {"epochs": 2}).method_key
    assert first.method_key == second.method_key
    assert len({plain.method_key, first.method_key, later.method_key}) == 3
    runs = [plain, first, second, later]
    methods = methods_of([read_entry(run) for run in runs[:3]])
    assert [(method.name, method.seeds) for method in methods] == [("clip", [0]), ("clip with verdicts", [0, 1])]
    methods = methods_of([read_entry(run) for run in runs])
    assert [method.name for method in methods][1:] == [
        "clip with verdicts (verdicts=abababab)",
        "clip with verdicts (verdicts=cdcdcdcd)",
    ]


def test_compare_names_runs_with_verdicts(runs_of, table: PairTable, tmp_path: Path) -> None:
    plain = runs_of(1)[0]
    judged = with_verdicts(add_run(RunStore(tmp_path / "workspace"), table, "clip", 0, shift=3.0), "ab" * 32)
    found = compare_runs([plain, judged], n_resamples=20)
    assert [method.name for method in found.methods] == ["clip", "clip with verdicts"]
    assert set(found.differences) == {"clip with verdicts"}


def test_the_map_can_be_coloured_by_what_reviewers_said(table: PairTable, tmp_path: Path) -> None:
    run = add_reviewable_run(tmp_path, table)
    assert bad_pairs_reads.run_verdicts(run) is None
    queue = add_queue(tmp_path, run)
    with ReviewStore.open(tmp_path, url="") as store:
        judged = store.next_pair(queue.queue_id, "Ada").pair_id
        assert bad_pairs_reads.run_verdicts(run) is None  # a queue, and nobody has judged yet
        store.judge(queue.queue_id, judged, "Ada", Verdict("wrong_note"))
    verdicts = bad_pairs_reads.run_verdicts(run)
    found = bad_pairs_reads.run_pairs(run)
    assert found.ids[verdicts == "Wrong note"].tolist() == [judged]
    assert np.count_nonzero(verdicts == bad_pairs.NOT_REVIEWED) == len(found) - 1
    assert "verdict" in bad_pairs.colour_choices([], verdicts=True)
    now = bad_pairs_reads.run_mined(run, usable_settings(run.config.mining, found.ledger.channels))
    colours = bad_pairs.colouring(found, now, "verdict", verdicts)
    assert colours.order == (bad_pairs.NOT_REVIEWED, "Wrong note")
    assert colours.candidates.all()
