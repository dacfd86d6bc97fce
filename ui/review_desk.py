"""Reading: one pair, its verdict buttons, undo and skip; the next pair is read ahead."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import streamlit as st

from fairvlm_core.review import Drafts, Event, Queue, ReviewedData, ReviewStore
from fairvlm_core.runs import RunStore
from fairvlm_core.words import local_time

from . import review_pair as pair
from . import widgets
from .frame import errors
from .review import ABOUT_KEYS, nothing_left, own_share, progress_line, verdict_name, why
from .review_guard import guard
from .review_guidelines import ABOUT_MAP, GUIDELINES
from .review_pair import BUTTONS, PLACE, PairView
from .review_reads import data_of
from .words import literal

IMAGE_HEIGHT = 360
# As many buttons in a row as fit without breaking a word; smaller margins on a tablet, so that the buttons need no
# scrolling; on an upright screen, the image has the whole width.
_STYLE = f"""<style>
.st-key-{BUTTONS} > * {{flex: 1 1 9.2rem !important; min-width: 9.2rem;}}
.st-key-{BUTTONS} button {{min-height: 3.1rem;}}
@media (max-width: 1100px) {{
  [data-testid="stMain"] [data-testid="stMainBlockContainer"] {{padding: 1rem 1.25rem 2rem;}}
}}
@media (max-width: 900px) {{
  .st-key-{PLACE} > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {{flex-wrap: wrap; gap: 0.75rem;}}
  .st-key-{PLACE} > [data-testid="stLayoutWrapper"] > * > [data-testid="stColumn"] {{flex: 1 1 100%; min-width: 100%;}}
  .st-key-{PLACE} [data-testid="stVerticalBlock"] {{gap: 0.6rem;}}
}}
</style>"""


@dataclass(frozen=True)
class Desk:
    """Whose desk it is, and what is read there."""

    store: ReviewStore
    queue: Queue
    name: str
    drafts: Drafts


@dataclass(frozen=True)
class Turn:
    """One showing of a pair. Its event id is made here, so that several presses for it count once."""

    pair_id: str
    event_id: str
    since: float

    @property
    def key(self) -> str:
        return self.event_id[:8]


def guidelines() -> None:
    """The guidelines and the keys, one click away."""
    with st.popover("Guidelines", icon=":material/menu_book:"):
        st.markdown(GUIDELINES)
        st.markdown(ABOUT_KEYS)


def around_desk() -> None:
    """What stays while pairs change: the style of the buttons, and the guard against double presses."""
    st.html(_STYLE)
    guard(BUTTONS)


@st.fragment
def desk(store: ReviewStore, runs: RunStore, queue: Queue, name: str) -> None:
    """Judge pair after pair; a verdict draws only this part of the page again."""
    with errors():
        pair.show_problem()
        at = Desk(store, queue, name, Drafts(runs.workspace, queue.queue_id, name))
        tasks = store.next_pairs(queue.queue_id, name, 2)
        again = st.session_state.get("review.again")
        ids = [again] if again else []
        ids += [task.pair_id for task in tasks if task.pair_id != again]
        progress = store.progress(queue.queue_id)
        left = store.left_for(queue.queue_id, name)
        st.progress(own_share(progress, name, left), text=progress_line(progress, name, left))
        if not ids:
            widgets.empty(*nothing_left(progress))
            _after(at, None)
            return
        data = data_of(queue, runs)
        with_map = bool(st.session_state.get("review.map"))
        turn = _turn(ids[0])
        view = pair.read_pair(data, turn.pair_id, with_map=with_map)
        expires = next((task.expires for task in tasks if task.pair_id == turn.pair_id), None)
        _place(at, data, turn, view, expires)
        for pair_id in ids[1:]:  # so that the next pair is in the cache
            pair.read_pair(data, pair_id, with_map=with_map)


def _place(at: Desk, data: ReviewedData, turn: Turn, view: PairView, expires: str | None) -> None:
    left, right = st.container(key=PLACE).columns([5, 6], gap="medium")
    with right:
        pair.show_label_and_note(view)
        pair.show_words(view)
        if not at.queue.blind:
            st.caption(literal(why(at.store.item(at.queue.queue_id, turn.pair_id))))
        pair.verdict_buttons("review.", turn.key, _give, at, turn, view.label)
        _after(at, turn)
        pair.ask_details(data, view, turn.key, at.drafts)
        pair.show_side_by_side(data, view)
    with left:
        pair.show_images(view, height=IMAGE_HEIGHT, key="review.viewer")
        _below_image(expires)


def _below_image(expires: str | None) -> None:
    on = bool(st.session_state.get("review.map"))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Hide the map" if on else "Show the map", key="review.map.toggle", shortcut="M", icon=":material/blur_on:",
            on_click=_toggle_map, help="What raises the model's similarity of image and note. Judge first.",
        )  # fmt: skip
        if on:
            widgets.explain("What is this?", *ABOUT_MAP)
        if expires is not None:
            st.caption(f"Reserved for you until {local_time(expires).rpartition(', ')[2]}", width="content")


def _after(at: Desk, turn: Turn | None) -> None:
    last = at.store.last_given(at.queue.queue_id, at.name)
    with st.container(key=f"{BUTTONS}_after", horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Undo", key="review.undo", shortcut="U", icon=":material/undo:", disabled=last is None, on_click=_undo,
            args=(at, last), help="Take the last verdict back; the pair is shown again.",
        )  # fmt: skip
        if turn is not None:
            st.button(
                "Skip", key=f"review.skip.{turn.key}", shortcut="S", icon=":material/skip_next:", on_click=_skip,
                args=(at, turn), help="Give the pair back; it comes again after all others.",
            )  # fmt: skip
        if last is not None:
            st.caption(f"Last: {literal(last.pair_id)}, {verdict_name(last.verdict.verdict)}", width="content")


def _turn(pair_id: str) -> Turn:
    """The present turn, or a new one where another pair is shown."""
    turn = st.session_state.get("review.turn")
    if turn is None or turn.pair_id != pair_id:
        turn = st.session_state["review.turn"] = Turn(pair_id, str(uuid.uuid4()), time.monotonic())
    return turn


def forget_turn() -> None:
    for key in ("review.turn", "review.again"):
        st.session_state.pop(key, None)


def _give(at: Desk, turn: Turn, label: int, verdict: str) -> None:
    """Store a verdict; a second press in the same turn does nothing."""
    if st.session_state.get("review.turn") == turn:
        with pair.noted_problem("not stored, the pair stays here: "):
            seconds = round(time.monotonic() - turn.since, 1)
            made = pair.given_verdict(verdict, turn.key, label, at.drafts.of(turn.pair_id), seconds)
            at.store.judge(at.queue.queue_id, turn.pair_id, at.name, made, event_id=turn.event_id)
            pair.forget_draft(at.drafts, turn.pair_id)
            forget_turn()


def _undo(at: Desk, last: Event) -> None:
    """Take back the verdict that was the last one when the button was drawn; a second press changes nothing."""
    with pair.noted_problem():
        at.store.undo(last.event_id, at.name, event_id=str(uuid.uuid5(uuid.UUID(last.event_id), "undo")))
        forget_turn()
        st.session_state["review.again"] = last.pair_id


def _skip(at: Desk, turn: Turn) -> None:
    if st.session_state.get("review.turn") == turn:
        with pair.noted_problem():
            at.store.release(at.queue.queue_id, turn.pair_id, at.name)
            forget_turn()


def _toggle_map() -> None:
    st.session_state["review.map"] = not st.session_state.get("review.map")
