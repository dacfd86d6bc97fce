"""What the readers found: agreement, how good the miner is, verdicts by group, and files to take away."""

from __future__ import annotations

import json

import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.review import (
    Queue,
    ReviewStore,
    agreement,
    agreement_by_readers,
    export_document,
    miner_quality,
    precision_table,
    readings_frame,
    verdict_counts,
)
from fairvlm_core.runs import RunStore

from . import widgets
from .entries import Headline
from .review import agreement_frame, counts_frame, estimate_line, precision_frame
from .review_reads import subject_of
from .words import figure, literal, percent

ABOUT_MINER = (
    "**Precision**: how many of the flagged pairs are bad. **Recall**: how many of the bad pairs are flagged. Both are "
    "estimated from the random part of the queue (control pairs and as many flagged ones drawn at random), each pair "
    "weighted by the inverse of its chance to be drawn. Pairs that nobody could tell, or readers disagree on, are out.",
    r"\text{precision}=\frac{F}{N_{\text{flagged}}},\qquad \text{recall}=\frac{F}{F+M},\qquad F=\sum_h N_h\,\hat p_h",
)
ABOUT_AGREEMENT = (
    "From pairs that two readers judged without seeing each other's verdict. **Kappa** is agreement beyond chance: 0 is "
    "what guessing gives, 1 is complete agreement. Intervals come from resampling pairs.",
    r"\kappa=\frac{p_o-p_e}{1-p_e}",
)
ABOUT_PRECISION = (
    "Of the flagged pairs that were read, how many are bad. Where the most suspicious pairs came first, this is above the "
    "precision over all flagged pairs, which stands above.",
    None,
)


def results(store: ReviewStore, runs: RunStore, queue: Queue | None, *, allowed: bool) -> None:
    """Everything that comes out of one queue."""
    if queue is None:
        widgets.empty("No queue yet", "Results appear here once pairs of a queue have been read.")
        return
    items, verdicts = store.items(queue.queue_id), store.verdicts(queue_id=queue.queue_id)
    if not len(verdicts):
        widgets.empty("No verdict yet", "Results appear here once pairs of this queue have been read.")
        return
    _miner(store, queue)
    _agreement(store, queue)
    widgets.section("Precision among the pairs that were read", *ABOUT_PRECISION)
    precision = precision_table(items, verdicts)
    widgets.table(precision_frame(precision), key="review.precision")
    widgets.section("Verdicts by group")
    attributes = sorted(items[0].facts["groups"]) if items else []
    attribute = st.selectbox("Group by", [None, *attributes], format_func=lambda name: name or "all pairs")
    counts = counts_frame(verdict_counts(items, verdicts, attribute))
    widgets.table(counts, key="review.counts")
    _take_away(store, runs, queue, allowed=allowed)


def _miner(store: ReviewStore, queue: Queue) -> None:
    widgets.section("How good is the miner?", *ABOUT_MINER)
    found = miner_quality(store.items(queue.queue_id), queue.population, store.verdicts(queue_id=queue.queue_id))
    by_kind = {f"Precision, {kind}": estimate for kind, estimate in found.by_kind.items()}
    for row in ({"Precision": found.precision, "Recall": found.recall}, by_kind):  # two side by side fit a tablet
        widgets.cards([Headline(name, percent(one.value), estimate_line(one)) for name, one in row.items()])
    if found.missed.value is not None:
        reach = found.missed.interval
        between = "" if reach is None else f" ({figure(reach.low, 0)} to {figure(reach.high, 0)})"
        st.caption(f"Bad pairs that the miner missed: about {figure(found.missed.value, 0)}{between}.")


def _agreement(store: ReviewStore, queue: Queue) -> None:
    widgets.section("Do readers agree?", *ABOUT_AGREEMENT)
    readings = store.standing_readings(queue.queue_id)
    frame = agreement_frame(agreement(readings), agreement_by_readers(readings))
    widgets.table(frame, key="review.agreement")


def _take_away(store: ReviewStore, runs: RunStore, queue: Queue, *, allowed: bool) -> None:
    widgets.section("Take away")
    if not allowed:
        st.caption("Files are for an administrator of this review (review.toml).")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        with_notes = st.checkbox("With notes", help="Clinical notes are patient data: mind where the file goes.")
        comments = st.checkbox("With comments", help="Readers' free text, which may hold patient data.")
    notes = None
    if with_notes:
        try:
            frame = subject_of(queue, runs).table.frame
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
