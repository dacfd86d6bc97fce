"""Parts of the report page: options, downloads, preview."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.report import ReportOptions, render_html
from fairvlm_core.runs import Run

from . import report, widgets
from .frame import Here
from .words import literal

PREVIEW_HEIGHT = 900
ABOUT = (
    "One file about this run: results with sample sizes and intervals, charts, data card, configuration, flagged pairs, "
    "limits, and how to reproduce the run. It opens from disk, contains no script and loads nothing from outside. Groups "
    "with fewer people in a cell than chosen are hidden, and so are groups from which a hidden count could be computed. It "
    "never contains patient ids. Notes and images are included only if you choose so here.",
    None,
)
NO_BASELINE = ""


@dataclass(frozen=True)
class Chosen:
    """The baseline and the options chosen on the page."""

    baseline: RunEntry | None
    options: ReportOptions


def without_report(entry: RunEntry) -> None:
    """Why a run has no report."""
    if entry.state == "damaged":
        st.error(f"Run {literal(entry.id)} is damaged: {literal(entry.message)}", icon=":material/broken_image:")
    elif entry.state in ("queued", "running"):
        text = "A report needs a finished run; choose another one in the sidebar, or come back when it has finished."
        widgets.empty(f"Run {literal(entry.id)} has not finished ({entry.state})", text)
    else:
        widgets.empty(f"Run {literal(entry.id)} has no results ({entry.state})", literal(entry.note))


def choose(here: Here, entry: RunEntry) -> Chosen:
    """The options of a report."""
    widgets.section("What goes into it", *ABOUT)
    others = {other.id: other for other in report.baselines(entry, here.entries)}
    left, middle, right = st.columns([3, 2.4, 3], vertical_alignment="top")
    chosen = left.selectbox(
        "Compare with",
        [NO_BASELINE, *others],
        index=1 if report.other_method(entry, others.values()) else 0,  # a verdict is what the report starts with
        key=f"report.baseline.{entry.id}",
        format_func=lambda run_id: others[run_id].label if run_id else "no baseline",
        help="Another run on the same test patients; differences are paired, with intervals.",
    )
    min_cell = middle.number_input(
        "Hide cells of fewer people than", min_value=0, max_value=100, value=5, step=1, key="report.min_cell",
        help="0 hides nothing: do not share such a report.",
    )  # fmt: skip
    ids = right.checkbox("List the ids of flagged pairs", value=True, key="report.ids")
    notes = right.checkbox(
        "Add their full clinical notes", value=False, key="report.notes", disabled=not ids,
        help="The file then contains patient data.",
    )  # fmt: skip
    images = right.checkbox(
        "Add the images of six of them", value=False, key="report.images", disabled=not ids,
        help="The file then contains patient data.",
    )  # fmt: skip
    if images and ids and not notes:
        st.warning("The report will contain images of patients: treat it as patient data.", icon=":material/lock:")
    if notes and ids:
        st.warning(
            "The report will contain full clinical notes: treat the file as patient data.", icon=":material/lock:"
        )
    options = ReportOptions(min_cell=int(min_cell), pair_ids=ids, notes=notes and ids, images=images and ids)
    return Chosen(others.get(chosen), options)


def show(run: Run, choice: Chosen, here: Here) -> None:
    """Downloads, and a preview of the same file."""
    with st.spinner("Resampling patients …"):
        baseline = None if choice.baseline is None else here.run_of(choice.baseline)
        finished = tuple(entry.id for entry in here.entries if entry.state == "finished")
        content = report.report_content(run, baseline, choice.options, finished)
    page = render_html(content)
    left, middle, right = st.columns([2, 2, 5], vertical_alignment="center")
    left.download_button(
        "Download HTML", page, file_name=f"{run.id}-report.html", mime="text/html", key="report.html", on_click="ignore",
        icon=":material/download:", type="primary", width="stretch",
    )  # fmt: skip
    middle.download_button(
        "Download JSON", report.json_of(content), file_name=f"{run.id}-report.json", mime="application/json",
        key="report.json", on_click="ignore", icon=":material/download:", width="stretch",
    )  # fmt: skip
    right.caption(f"{len(page.encode()) / 1024:.0f} KB. {report.hidden_line(content)}")
    with st.container(border=True):
        st.iframe(page, height=PREVIEW_HEIGHT, alt=f"Preview of the report of run {run.id}")
