"""Adjudication: readers disagree on a pair; both verdicts side by side, and a decision."""

from __future__ import annotations

import uuid

import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.review import Conflict, Queue, ReviewStore
from fairvlm_core.runs import RunStore

from . import widgets
from .frame import errors
from .review import CHOICES, made_verdict, said
from .review_desk import BUTTONS, PLACE
from .review_pair import Details, ask_details, given_details, look, show_images, show_label, show_note
from .review_reads import subject_of
from .words import literal, many

ABOUT = (
    "Readers judged these pairs without seeing each other's verdicts and disagree. Your decision counts in their place; "
    "their verdicts stay on record. Somebody who read a pair cannot decide on it."
)


@st.fragment
def adjudicate(store: ReviewStore, runs: RunStore, queue: Queue | None, name: str, *, allowed: bool) -> None:
    """Decide conflict after conflict of a queue."""
    with errors():
        widgets.section("Conflicts", ABOUT)
        _say_problem()
        conflicts = store.conflicts(queue.queue_id) if queue is not None else ()
        if queue is None or not conflicts:
            widgets.empty("No conflict", "Where two readers of a pair disagree, the pair waits here for a decision.")
            return
        mine = [c for c in conflicts if _read_by(c, name)]
        open_ones = [c for c in conflicts if c not in mine]
        st.caption(f"{many(len(conflicts), 'pair')} with readers who disagree")
        if not allowed:
            widgets.empty(
                "Not yours to decide", "Conflicts are decided by an adjudicator of this review (review.toml)."
            )
            return
        if not open_ones:
            widgets.empty("Somebody else decides", "You are a reader of every pair that is left here.")
            return
        _one(store, runs, queue, name, open_ones[0])


def _one(store: ReviewStore, runs: RunStore, queue: Queue, name: str, conflict: Conflict) -> None:
    subject = subject_of(queue, runs)
    sight = look(subject, conflict.pair_id, with_map=False)
    state = st.session_state
    if state.get("review.case", ("", ""))[0] != conflict.pair_id:
        state["review.case"] = (conflict.pair_id, str(uuid.uuid4()))
    event_id = state["review.case"][1]
    turn = event_id[:8]
    left, right = st.container(key=PLACE).columns([5, 6], gap="medium")
    with right:
        show_label(sight)
        show_note(sight)
        for column, reading in zip(st.columns(len(conflict.readings)), conflict.readings, strict=True):
            with column.container(border=True, height="stretch"):
                st.caption(literal(reading.reviewer))
                first, *rest = said(reading, sight.label_names)
                st.markdown(f"**{first}**")
                if rest:
                    st.text("\n".join(rest))
        st.caption("Your decision")
        with st.container(key=BUTTONS, horizontal=True, gap="small"):
            for choice in CHOICES:
                st.button(
                    choice.label, key=f"review.decide.{choice.verdict}.{turn}", shortcut=choice.key, help=choice.help,
                    width="stretch", wrap=True, on_click=_decide,
                    args=(store, queue, conflict.pair_id, name, choice.verdict, sight.label, event_id),
                )  # fmt: skip
        ask_details(subject, sight, turn)
    with left:
        show_images(sight, height=380, key="review.case.viewer")


def _decide(store: ReviewStore, queue: Queue, pair_id: str, name: str, verdict: str, label: int, event_id: str) -> None:
    state = st.session_state
    if state.get("review.case") != (pair_id, event_id):
        return
    details: Details = given_details(event_id[:8])
    try:
        made = made_verdict(
            verdict, label=label, reason=details.reason, comment=details.comment, better=details.better, seconds=None
        )
        store.adjudicate(queue.queue_id, pair_id, name, made, event_id=event_id)
    except InputError as error:
        state["review.problem"] = str(error)
        return
    state.pop("review.case")


def _read_by(conflict: Conflict, name: str) -> bool:
    return name.casefold() in {reading.reviewer.casefold() for reading in conflict.readings}


def _say_problem() -> None:
    problem = st.session_state.pop("review.problem", None)
    if problem:
        st.error(literal(problem), icon=":material/error:")
