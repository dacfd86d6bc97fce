"""The loop closed: train again with the verdicts of a queue, and see what that changed."""

from __future__ import annotations

import streamlit as st

from fairvlm_core import jobs
from fairvlm_core.analysis.entries import ACTIVE, RunEntry
from fairvlm_core.analysis.methods import methods_of
from fairvlm_core.errors import InputError
from fairvlm_core.review import Queue, ReviewStore
from fairvlm_core.runs import Run, RunStore
from fairvlm_core.words import many

from . import compare, live, live_page, widgets
from .frame import Here, errors
from .losses_reads import run_metrics
from .reads import comparison, run_entries
from .review_reads import data_of
from .words import literal

POLL_SECONDS, VERDICT_SECONDS = 2, 5  # while a run trains; while verdicts are given


def train_again(here: Here, store: ReviewStore, queue: Queue, *, allowed: bool) -> None:
    """A button that trains the queue's run again with all verdicts on its data; its progress; then before and after."""
    if not allowed:
        return
    made = _retrained(here.store, queue)

    @st.fragment(run_every=POLL_SECONDS if made is not None and made.state in ACTIVE else VERDICT_SECONDS)
    def drawn() -> None:
        n, now = len(store.verdicts(data=queue.data)), _retrained(here.store, queue)
        if not n and now is None:
            return
        with errors(), st.container(border=True, key="review_train"):
            if now is not None and now.state in ACTIVE:
                run = here.run_of(now)
                status = run.status
                at = live_page.progress_of(here.store, run, status, run_metrics(run))
                st.progress(at.share, text=literal(f"{now.label}: {live.progress_line(status, at)}"))
                return
            if made is not None and made.state in ACTIVE:
                st.rerun()  # it has ended: polling ends, too
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{many(n, 'verdict')} on this data.**", width="content")
                if st.button(
                    "Train with these verdicts", key="review.train", type="primary", icon=":material/model_training:"
                ):
                    with st.spinner("Launching …"):
                        start(here.store, store, queue)
                    st.rerun()
                st.caption(f"Same settings as run {literal(queue.run_id)}; the test split is never changed.")
            if now is not None:
                _before_and_after(here, queue, now)

    drawn()


def start(runs: RunStore, store: ReviewStore, queue: Queue) -> Run:
    """Put a run with the settings of the queue's run, and all verdicts on its data, into the queue of runs.

    Raises
    ------
    InputError
        The run or its data is gone, or no verdict was given on it.
    """
    from fairvlm_core.launch import create_run

    found = data_of(queue, runs)
    verdicts = store.verdicts(data=queue.data)
    options = dict(found.run.data.get("read_options") or {})
    run = create_run(found.table, found.run.config, runs, read_options=options, verdicts=verdicts)
    jobs.launch(runs, [run])
    return run


def _retrained(runs: RunStore, queue: Queue) -> RunEntry | None:
    """The newest run with verdicts and the settings of the queue's run, trained after it."""
    entries = run_entries(runs)
    own = next((entry for entry in entries if entry.id == queue.run_id), None)
    if own is None:
        return None
    same = [e for e in entries if e.verdicts and e.fingerprint == own.fingerprint and e.preset == own.preset]
    same = [e for e in same if e.settings == own.settings and e.id > own.id]
    return same[-1] if same else None


def _before_and_after(here: Here, queue: Queue, after: RunEntry) -> None:
    if after.state != "finished":
        st.warning(literal(f"Run {after.id}: {after.note or after.state}"), icon=":material/warning:")
        return
    before = next(entry for entry in here.entries if entry.id == queue.run_id)
    methods = methods_of([before, after])
    try:
        with st.spinner("Resampling patients …"):
            found = comparison(here.store.root, methods).differences[methods[1].name]
    except InputError as error:
        st.error(literal(error), icon=":material/error:")
        return
    widgets.section("Before and after")
    for line in compare.difference_summary(found):
        st.markdown(literal(line))
    values = compare.difference_values(found)
    table = compare.difference_table(values[values["group"] == ""], "Before", "After")
    widgets.table(table, key="review.before_after")
    st.page_link(
        "pages/6_Compare_runs.py", label="Compare in full", icon=":material/compare_arrows:",
        query_params={"run": [before.id, after.id]},
    )  # fmt: skip
