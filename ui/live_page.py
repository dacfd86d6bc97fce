"""Parts of the Fine-tune page: the queue and one run, redrawn while something changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import streamlit as st

from fairvlm_core import jobs
from fairvlm_core.analysis.entries import ACTIVE, DAMAGED, RunEntry, read_entry
from fairvlm_core.analysis.methods import comparable
from fairvlm_core.analysis.training_curves import divergence_curves, training_curves
from fairvlm_core.jobs import Job
from fairvlm_core.jobs.progress import RunProgress, run_progress
from fairvlm_core.runs import Run, RunStore, Status
from fairvlm_core.words import many

from . import finetune_page, live, live_charts, widgets
from .frame import Here, errors, page_names, remember
from .losses_reads import run_metrics
from .palette import STATE_COLOURS
from .reads import by_files, run_entries
from .words import literal

VIEWS = ("Set up", "Watch", "Sweeps")
POLL_SECONDS = 2
LOG_HEIGHT, LOG_LINES = 180, 200
_QUEUE_ROWS = 12
# Streamlit fades what it redraws; every few seconds that would flicker.
_STEADY = "<style>.st-key-live [data-stale=true] {opacity: 1 !important;}</style>"
ABOUT_RUN = (
    "A run goes **queued → running → finished**. Another process trains it: closing this page or stopping the app does not "
    "end it. **Cancel** ends the run and keeps its last whole epoch; **Resume** continues from there with the same result. "
    "**interrupted** means that the process has ended unexpectedly. Validation metrics choose the epoch; the test pairs "
    "are scored once, at the end. With folds, each fold is the test part of one model.",
    None,
)


def watch(here: Here) -> None:
    """The queue and the selected run; polled while a run waits or is trained. A change of the queue reruns the page."""
    entry = here.entry
    found = jobs.jobs(here.store)
    before = _moving(found), [other.id for other in here.entries]

    @st.fragment(run_every=POLL_SECONDS if found else None)
    def polled() -> None:
        with errors():
            now = jobs.jobs(here.store)
            with st.container(key="live"):
                _queue(here, now)
                if entry is not None:
                    _run(here, here.run_of(entry))
            # Last: a button pressed at the moment of a change has been handled by now.
            if (_moving(now), [run.id for run in here.store.runs()]) != before:
                st.rerun()

    st.html(_STEADY)
    polled()


def _moving(found: Sequence[Job]) -> list[tuple[str, str, int]]:
    return [(job.run.id, job.status.state, job.place) for job in found]


def _queue(here: Here, found: Sequence[Job]) -> None:
    """Runs that are trained and that wait, each with a button to cancel it."""
    if not found:
        return
    widgets.section(f"Queue: {many(len(found), 'run')}")
    with st.container(border=True, gap="small"):
        for job in found[:_QUEUE_ROWS]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                _state(job.status.state)
                st.page_link(
                    "pages/2_Fine_tune.py", label=literal(job.run.id), query_params={"run": job.run.id, "view": "Watch"}
                )
                st.text(live.queue_line(job), width="stretch")
                _button(job.run, "Cancel", "cancel", lambda run: jobs.cancel(run), place="queue")
        if len(found) > _QUEUE_ROWS:
            st.caption(f"and {many(len(found) - _QUEUE_ROWS, 'more', 'more')}")
        devices = {str(job.status.device) for job in found if job.place}
        stale = [device for device in devices if jobs.serving(here.store, device) is None]
        if stale and not any(job.status.starting for job in found):
            st.warning("No worker serves the queue: it was ended.", icon=":material/pause_circle:")
            if st.button("Start the queue", key="live.work", icon=":material/play_arrow:"):
                with errors():
                    jobs.ensure_workers(here.store)
                    st.rerun()


def _run(here: Here, run: Run) -> None:
    """One run: progress, curves, log and actions."""
    entry = read_entry(run)
    entry = replace(entry, changes=next((other.changes for other in here.entries if other.id == run.id), ""))
    if entry.state == DAMAGED:
        st.error(f"Run {literal(entry.id)} is damaged: {literal(entry.message)}", icon=":material/broken_image:")
        return
    status, lines = run.status, run_metrics(run)
    widgets.section(f"Run {literal(entry.label)}", *ABOUT_RUN)
    at = progress_of(here.store, run, status, lines)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _state(status.state)
        st.text(live.progress_line(status, at), width="stretch")
        _actions(here, run, entry)
    st.progress(at.share)
    if status.silent is not None:
        st.warning(live.silent_line(status.silent), icon=":material/hourglass_disabled:")
    if status.state == "failed":
        st.error(literal(status.message), icon=":material/error:")
    elif status.state == "interrupted" and status.message:
        st.warning(literal(status.message), icon=":material/warning:")
    if entry.test is not None:
        _finished(here, run, entry)
    if lines or entry.state in ACTIVE:
        _curves(run, lines, entry.epochs)
    else:
        st.caption("No epoch was completed, so there is nothing to draw.")
    _log(run)


def progress_of(store: RunStore, run: Run, status: Status, lines: Sequence[Mapping[str, Any]]) -> RunProgress:
    """How far a run is; the time left at its own pace or, before its first epoch ends, at that of an earlier run."""
    if status.state != "running":
        return run_progress(status, lines)
    now = time.time()
    elapsed = now - max((_moment(line) for line in run.log_lines() if line.endswith(" started")), default=now)
    n_train = int(run.data["n"].get("train", 0))
    return run_progress(status, lines, known=_known(store, run), n_train=n_train, elapsed=elapsed)


def _moment(line: str) -> float:
    return datetime.fromisoformat(line.partition(" ")[0]).timestamp()


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs={RunStore: lambda store: str(store.root), **by_files()})
def _known(store: RunStore, run: Run) -> jobs.StepTime | None:
    return jobs.known_step(store, run.config)


def _state(state: str) -> None:
    with st.container(width="content"):
        st.html(f"<b><span style='color:{STATE_COLOURS[state]}' aria-hidden='true'>●</span> {state}</b>")


def _actions(here: Here, run: Run, entry: RunEntry) -> None:
    if entry.state in ("queued", "running"):
        if entry.state == "queued" and run.status.ticket is None:
            _button(run, "Put into the queue", "play_arrow", lambda one: jobs.launch(here.store, [one]))
        _button(run, "Cancel", "cancel", lambda one: jobs.cancel(one))
    elif entry.state != "finished":
        _button(run, "Resume", "play_arrow", lambda one: jobs.resume(here.store, one))
    st.button(
        "Use these settings again", key=f"live.again.{run.id}", icon=":material/content_copy:",
        on_click=finetune_page.fill_from, args=(run,),
    )  # fmt: skip


def _button(run: Run, label: str, icon: str, act: Callable[[Run], object], place: str = "run") -> None:
    if st.button(label, key=f"live.{label}.{place}.{run.id}", icon=f":material/{icon}:"):
        with errors(), st.spinner(f"{label} …"):
            act(run)
            st.rerun()


def _finished(here: Here, run: Run, entry: RunEntry) -> None:
    """The test result, with links to other pages."""
    files = page_names()
    same = [other for other in run_entries(here.store) if other.fingerprint == entry.fingerprint and other.test]
    compared = [other.id for other in comparable(same)[0]]
    widgets.unfinished(entry)
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/flag: {literal(live.outcome(entry.test or {}, len(entry.folds)))}", width="stretch")
        for title, icon, chosen in (
            ("Bad pairs", "troubleshoot", [run.id]),
            ("Compare runs", "compare_arrows", compared),
            ("Report", "description", [run.id]),
        ):
            if title in files:
                st.page_link(
                    f"pages/{files[title]}", label=title, icon=f":material/{icon}:", query_params={"run": chosen}
                )

    if entry.folds:
        widgets.table(live.folds_table(entry.folds), key=f"live.folds.{run.id}")
        st.caption(live.FOLDS)


def _curves(run: Run, lines: list, epochs: int) -> None:
    frame, distance = training_curves(lines), divergence_curves(lines)
    n = {"train": 0, "val": 0} | run.data["n"]
    charts = (
        (live_charts.loss_chart(frame, epochs), "loss", "Loss of training and validation pairs by epoch"),
        (live_charts.quality_chart(frame, epochs, n["val"]), "quality", "Validation AUC and mean ES-AUC by epoch"),
        (
            live_charts.sinkhorn_chart(distance, epochs),
            "sinkhorn",
            "Divergence of the losses above chance by attribute",
        ),
        (live_charts.flagged_chart(frame, epochs, n["train"]), "flagged", "Flagged pairs by epoch"),
    )
    for row in (charts[:2], charts[2:]):
        for column, (picture, name, alt) in zip(st.columns(2), row, strict=True):
            with column:
                widgets.chart(picture, f"live.{name}.{run.id}", alt)


def _log(run: Run) -> None:
    """The run's log; it never contains a clinical note."""
    with st.expander("Log", icon=":material/terminal:"), st.container(height=LOG_HEIGHT, border=False):
        st.text("\n".join(run.log_lines()[-LOG_LINES:]) or "(empty)")


def choose_view(here: Here) -> None:
    """Which tab is open: the one asked for; else Watch, if the selected run waits or is trained."""
    state = st.session_state
    if "finetune.view" in state:
        state["view"] = state.pop("finetune.view")
    elif "view" not in state and "view" not in st.query_params and here.entry and here.entry.state in ACTIVE:
        state["view"] = "Watch"


def go_to(run: Run) -> None:
    """Select a run and open the Watch tab."""
    remember([run.id])
    st.session_state["finetune.view"] = "Watch"
