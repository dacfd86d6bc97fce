"""Results of a queue: how good the miner is, agreement of readers, verdicts by group, and files to download."""

from __future__ import annotations

import json

import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.review import (
    MinerQuality,
    Queue,
    ReviewStore,
    export_document,
    leads,
    may,
    open_results,
    readings_frame,
    results_opened,
    review_summary,
    sees_results,
)
from fairvlm_core.runs import RunStore
from fairvlm_core.words import many, number, percent

from . import widgets
from .entries import Headline
from .review import FLAGS, agreement_frame, counts_frame, estimate_line, precision_frame
from .review_reads import data_of
from .words import literal

ABOUT_MINER = (
    "**Precision**: the share of flagged pairs that are bad. **Recall**: the share of bad pairs that are flagged. Both are "
    "estimated from the random part of the queue (control pairs and the same number of random flagged pairs). Each pair is "
    "weighted by the inverse of its probability to be drawn. Pairs without a clear verdict are left out: all readers are "
    "unsure, or readers disagree.",
    r"\text{precision}=\frac{F}{N_{\text{flagged}}},\qquad \text{recall}=\frac{F}{F+M},\qquad F=\sum_h N_h\,\hat p_h",
)
ABOUT_AGREEMENT = (
    "From pairs that two readers judged without seeing each other's verdict. **Kappa** is agreement beyond chance: 0 for "
    "guessing, 1 for complete agreement. Intervals come from resampled pairs.",
    r"\kappa=\frac{p_o-p_e}{1-p_e}",
)
ABOUT_PRECISION = (
    "The share of bad pairs among the flagged pairs that were read. Where the most suspicious pairs came first, it is "
    "higher than the precision over all flagged pairs at the top of this page.",
    None,
)


def results(store: ReviewStore, runs: RunStore, queue: Queue | None, name: str, role: str) -> None:
    """All results of one queue, for those who may see them."""
    if queue is None:
        widgets.empty("No queue yet", "Results appear here once pairs of a queue have been read.")
        return
    if not len(store.verdicts(queue_id=queue.queue_id)):
        widgets.empty("No verdict yet", "Results appear here once pairs of this queue have been read.")
        return
    if not _open(store, runs, queue, name, role):
        return
    found = review_summary(store, queue.queue_id)
    _miner(found.miner)
    widgets.section("Do readers agree?", *ABOUT_AGREEMENT)
    widgets.table(agreement_frame(found.agreement, found.by_readers), key="review.agreement")
    widgets.section("Precision among the pairs that were read", *ABOUT_PRECISION)
    widgets.table(precision_frame(found.precision), key="review.precision")
    widgets.section("Verdicts by group")
    attribute = st.selectbox(
        "Group by", list(found.counts), format_func=lambda name: "all pairs" if name == "all" else name
    )
    widgets.table(counts_frame(found.counts[attribute]), key="review.counts")
    _downloads(store, runs, queue, allowed=may(role, "export"))


def _open(store: ReviewStore, runs: RunStore, queue: Queue, name: str, role: str) -> bool:
    """Whether the results are shown; says why they are not, and lets an adjudicator open them."""
    progress, left = store.progress(queue.queue_id), store.left_for(queue.queue_id, name)
    complete = progress.n_readings >= progress.n_wanted
    opened = queue.queue_id in results_opened(runs.workspace)
    leading = leads(runs.workspace, role, name, queue.by)
    if sees_results(role if leading else "reviewer", left=left, complete=complete, opened=opened, blind=queue.blind):
        return True
    widgets.empty(
        "Results are closed",
        "This queue is read blind. Results show what the miner and other readers think, so they are closed "
        + (f"while you have {many(left, 'pair')} to read." if left else "until all pairs are read.")
        + " An adjudicator, or who made the queue, can open them.",
    )
    # A reader who has read everything may open them where nobody is named as adjudicator.
    if (leading or (may(role, "adjudicate") and not left)) and st.button(
        "Open the results to all readers", key="review.open", icon=":material/lock_open:"
    ):
        open_results(runs.workspace, queue.queue_id, name)
        st.rerun()
    return False


def _miner(found: MinerQuality) -> None:
    widgets.section("How good is the miner?", *ABOUT_MINER)
    by_kind = {f"Precision, {FLAGS[kind]}": estimate for kind, estimate in found.by_kind.items()}
    for row in ({"Precision": found.precision, "Recall": found.recall}, by_kind):  # two side by side fit a tablet
        widgets.cards([Headline(name, percent(one.value), estimate_line(one)) for name, one in row.items()])
    if found.missed.value is not None:
        interval = found.missed.interval
        between = "" if interval is None else f" ({number(interval.low, 0)} to {number(interval.high, 0)})"
        st.caption(f"Bad pairs that the miner missed: about {number(found.missed.value, 0)}{between}.")


def _downloads(store: ReviewStore, runs: RunStore, queue: Queue, *, allowed: bool) -> None:
    widgets.section("Downloads")
    if not allowed:
        st.caption("Downloads are for administrators of this review (review.toml).")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        with_notes = st.checkbox("With notes", help="Clinical notes are patient data: store the file safely.")
        comments = st.checkbox("With comments", help="Readers' free text, which may hold patient data.")
    notes = None
    if with_notes:
        try:
            frame = data_of(queue, runs).table.frame
        except InputError as error:
            st.error(literal(error), icon=":material/error:")
            return
        notes = dict(zip(frame["pair_id"].astype(str), frame["text"].astype(str), strict=True))
    readings = readings_frame(store, queue.queue_id, comments=comments, notes=notes)
    document = export_document(store, queue.queue_id, comments=comments, notes=notes)
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.download(readings, f"review-{queue.queue_id}.csv", "Readings (CSV)")
        st.download_button(
            "Verdicts (JSON)", json.dumps(document, indent=2), file_name=f"review-{queue.queue_id}.json",
            mime="application/json", on_click="ignore", icon=":material/download:", type="tertiary",
        )  # fmt: skip
    st.caption("`fairvlm train DATA --verdicts FILE.json` (or `latest`) trains with these verdicts.")
