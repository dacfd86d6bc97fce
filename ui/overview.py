"""Parts of the overview page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from fairvlm_core.analysis.entries import ACTIVE, DAMAGED, RunEntry
from fairvlm_core.analysis.methods import comparable, methods_of, reference_first
from fairvlm_core.errors import InputError
from fairvlm_core.jobs.demo import COMMAND, DemoStatus, demo_status, start_demo
from fairvlm_core.words import ago

from . import compare, live, live_page, widgets
from .frame import Here, errors
from .losses_reads import run_metrics
from .reads import comparison, run_entries
from .words import literal

POLL_SECONDS = 2
ABOUT = (
    "fairvlm fine-tunes a vision-language model (CLIP) on medical images and the notes that belong to them. It finds "
    "pairs whose image and note do not belong together, gives them less weight, and trains for equal quality in all groups "
    "of patients. Then it shows, with sample sizes and intervals, for which groups the model works, and whether the "
    "difference between two methods is more than chance. Everything stays on this machine."
)
ABOUT_METRICS = (
    "**AUC** is the chance that a patient with the finding scores higher than one without. **ES-AUC** lowers it by the "
    "distances of the groups' AUCs from it; at best it equals the AUC. Small groups lower it by chance alone: read it with "
    "its n, and compare runs on the page *Compare runs*, which adds intervals and the values expected by chance. The test "
    "split is scored once, by the epoch that validation chose.",
    r"\text{ES-AUC} = \frac{\mathrm{AUC}}{1 + \sum_g \left|\mathrm{AUC} - \mathrm{AUC}_g\right|}",
)
ABOUT_STATES = (
    "**queued** waits · **running** is being trained · **finished** has metrics · **failed** stopped with an error, see "
    "its note · **cancelled** was stopped by a user · **interrupted**: its process ended unexpectedly; resume it on the "
    "page Fine-tune, or with `fairvlm resume RUN` or `fairvlm train --resume RUN` · **damaged**: a file is missing or "
    "cannot be read; other runs are not affected.",
    None,
)


_CLOSER = (
    ("3_Bad_pairs.py", "See its bad pairs", "troubleshoot"),
    ("4_Loss_and_Sinkhorn.py", "Which groups are served worse", "stacked_line_chart"),
    ("7_Review.py", "Ask a clinician", "rate_review"),
    ("8_Report.py", "Save a report", "description"),
)


def about(*, opened: bool) -> None:
    """What the project does: open if there are no runs yet."""
    if opened:
        st.markdown(ABOUT)
    else:
        with st.expander("What is fairvlm?", icon=":material/info:"):
            st.markdown(ABOUT)


def offer_demo(workspace: Path, demo: DemoStatus) -> None:
    """The first thing to do in an empty workspace."""
    if demo.state == "running":
        return
    with st.container(border=True):
        st.markdown("**This workspace is empty. Start with the demo.**")
        st.markdown(
            "It makes a built-in data set of fundus-like images with notes, some of them wrong on purpose, fine-tunes "
            "three methods on it and compares them. That takes a few minutes on a laptop and needs no network."
        )
        if st.button("Make the demo", type="primary", icon=":material/play_arrow:", key="overview.demo"):
            with errors():
                start_demo(workspace)
                st.rerun()
        st.caption("The same in a terminal:")
        st.code(COMMAND, language=None)
        st.markdown("**Or start with your own data**: a folder of images, notes, labels and patient attributes.")
        with st.container(horizontal=True, gap="medium"):
            st.page_link("pages/1_Data.py", label="Open a folder and see who is in it", icon=":material/folder_open:")
            st.page_link("pages/2_Fine_tune.py", label="Set up a run", icon=":material/tune:")
        st.caption("The same in a terminal:")
        st.code("fairvlm check DATA\nfairvlm train DATA --preset clip", language=None)
    if demo.state == "ended":
        st.warning("The demo ended without a run. The last lines of its log:", icon=":material/warning:")
        st.code("\n".join(demo.lines) or "(the log is empty)", language=None)


def links(entry: RunEntry) -> None:
    """Links to the other pages of a finished run."""
    with st.container(horizontal=True, gap="medium"):
        for file, words, icon in _CLOSER:
            st.page_link(f"pages/{file}", label=words, icon=f":material/{icon}:", query_params={"run": entry.id})


def without_metrics(entry: RunEntry) -> None:
    """Why the selected run has no metrics."""
    if entry.state == DAMAGED:
        st.error(f"Run {literal(entry.id)} is damaged: {literal(entry.message)}", icon=":material/broken_image:")
    elif entry.state not in ACTIVE:
        st.info(f"Run {literal(entry.id)} has no test metrics ({entry.state}): {literal(entry.note)}")


def _active(here: Here) -> tuple[list[RunEntry], DemoStatus]:
    entries = [entry for entry in run_entries(here.store) if entry.state in ACTIVE]
    return entries, demo_status(here.store.workspace)


def watch(here: Here) -> None:
    """Active runs and the demo, redrawn every two seconds; the whole page is rerun when one of them starts or ends."""
    entries, demo = _active(here)
    if not entries and demo.state != "running":
        return
    before = ([entry.id for entry in here.entries], [(entry.id, entry.state) for entry in entries], demo.state)

    @st.fragment(run_every=POLL_SECONDS)
    def progress() -> None:
        with errors():
            entries, demo = _active(here)
            known = [run.id for run in here.store.runs()]
            with st.container(border=True):
                if demo.state == "running":
                    st.markdown(f":material/hourglass_top: **The demo is running**, started {ago(demo.started)}.")
                    st.text(demo.lines[-1] if demo.lines else "making the data …")
                for entry in entries:
                    run = here.run_of(entry)
                    status = run.status
                    at = live_page.progress_of(here.store, run, status, run_metrics(run))
                    st.progress(at.share, text=literal(f"{entry.label} · {live.progress_line(status, at)}"))
                if entries:
                    st.page_link(
                        "pages/2_Fine_tune.py", label="Watch and cancel", icon=":material/tune:",
                        query_params={"run": entries[0].id, "view": "Watch"},
                    )  # fmt: skip
            # Last: a button pressed at the moment of a change has been handled by now.
            if (known, [(entry.id, entry.state) for entry in entries], demo.state) != before:
                st.rerun()

    progress()


def best(here: Here) -> None:
    """The best method on the newest data and what it won; nothing while one method only has finished."""
    finished = [entry for entry in here.entries if entry.state == "finished"]
    same = [entry for entry in finished if entry.fingerprint == finished[-1].fingerprint]
    methods = reference_first(methods_of(comparable(same)[0])) if same else []
    if len(methods) < 2:
        return
    try:
        with st.spinner("Resampling patients …"):
            result = comparison(here.store.root, methods)
    except InputError:
        return  # the comparison says which run cannot be read
    title, numbers = compare.verdict_words(result)
    with st.container(border=True):
        st.subheader(literal(title), anchor=False)
        if numbers:
            st.markdown(literal(numbers))
        with st.container(horizontal=True, gap="medium"):
            st.page_link("pages/9_Story.py", label="Tell the story", icon=":material/slideshow:")
            st.page_link("pages/6_Compare_runs.py", label="Compare all methods", icon=":material/compare_arrows:")


def runs(here: Here, table: pd.DataFrame) -> None:
    """The table of runs; a click anywhere in a row opens the run."""
    key = "overview.runs"
    picked = widgets.table(
        table, {"State": widgets.state_column()}, key=key, on_select="rerun", selection_mode="single-cell"
    )["selection"]["cells"]
    if picked:
        run_id = str(table["Run"].iat[picked[0][0]])
        if any(entry.id == run_id for entry in here.entries):
            st.switch_page("pages/2_Fine_tune.py", query_params={"run": run_id, "view": "Watch"})
