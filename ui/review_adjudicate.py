"""Adjudication: readers disagree on a pair; their verdicts side by side, and a decision."""

from __future__ import annotations

import uuid

import streamlit as st

from fairvlm_core.review import Conflict, Drafts, Queue, ReviewStore
from fairvlm_core.runs import RunStore
from fairvlm_core.words import many

from . import review_pair as pair
from . import widgets
from .frame import errors
from .review import verdict_lines
from .review_reads import data_of
from .words import literal

ABOUT = (
    "Readers judged these pairs without seeing each other's verdicts, and they disagree. Your decision counts instead; "
    "their verdicts stay in the log. A reader of a pair cannot decide on it."
)


@st.fragment
def adjudicate(store: ReviewStore, runs: RunStore, queue: Queue | None, name: str, *, allowed: bool) -> None:
    """Decide conflict after conflict of a queue."""
    with errors():
        widgets.section("Conflicts", ABOUT)
        pair.show_problem()
        conflicts = store.conflicts(queue.queue_id) if queue is not None else ()
        if queue is None or not conflicts:
            widgets.empty("No conflict", "Where two readers of a pair disagree, the pair waits here for a decision.")
            return
        st.caption(f"{many(len(conflicts), 'pair')} with readers who disagree")
        if not allowed:
            widgets.empty("For adjudicators", "An adjudicator of this review decides conflicts (review.toml).")
            return
        mine = name.casefold()
        others = [c for c in conflicts if mine not in {reading.reviewer.casefold() for reading in c.readings}]
        if not others:
            widgets.empty("Another person decides", "You are a reader of every pair that is left here.")
            return
        _one(store, runs, queue, name, others[0])


def _one(store: ReviewStore, runs: RunStore, queue: Queue, name: str, conflict: Conflict) -> None:
    data = data_of(queue, runs)
    view = pair.read_pair(data, conflict.pair_id, with_map=False)
    state = st.session_state
    if state.get("review.case", ("", ""))[0] != conflict.pair_id:
        state["review.case"] = (conflict.pair_id, str(uuid.uuid4()))
    event_id = state["review.case"][1]
    left, right = st.container(key=pair.PLACE).columns([5, 6], gap="medium")
    with right:
        pair.show_label_and_note(view)
        for column, reading in zip(st.columns(len(conflict.readings)), conflict.readings, strict=True):
            with column.container(border=True, height="stretch"):
                st.caption(literal(reading.reviewer))
                first, *rest = verdict_lines(reading, view.label_names)
                st.markdown(f"**{first}**")
                if rest:
                    st.text("\n".join(rest))
        st.caption("Your decision")
        drafts = Drafts(runs.workspace, f"{queue.queue_id}/decisions", name)
        case = (store, queue, conflict.pair_id, name, view.label, event_id, drafts)
        pair.verdict_buttons("review.decide.", event_id[:8], _decide, *case)
        pair.ask_details(data, view, event_id[:8], drafts)
    with left:
        pair.show_images(view, height=380, key="review.case.viewer")


def _decide(
    store: ReviewStore, queue: Queue, pair_id: str, name: str, label: int, event_id: str, drafts: Drafts, verdict: str
) -> None:  # fmt: skip
    if st.session_state.get("review.case") == (pair_id, event_id):
        with pair.noted_problem():
            made = pair.given_verdict(verdict, event_id[:8], label, drafts.of(pair_id))
            store.adjudicate(queue.queue_id, pair_id, name, made, event_id=event_id)
            pair.forget_draft(drafts, pair_id)
            st.session_state.pop("review.case")
