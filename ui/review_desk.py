"""The reader's desk: one pair, its verdict buttons, undo and skip; the next pair is read ahead."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.review import Event, Queue, ReviewStore
from fairvlm_core.runs import RunStore

from . import widgets
from .frame import errors
from .review import CHOICES, KEYS, Choice, made_verdict, nothing_left, standing, verdict_name, why
from .review_guard import guard
from .review_guidelines import ABOUT_MAP, GUIDELINES
from .review_pair import Sight, ask_details, given_details, look, show_images, show_label, show_note, show_words
from .review_reads import Subject, subject_of
from .words import literal, local_time

IMAGE_HEIGHT = 360
BUTTONS = "review_verdicts"
PLACE = "review_place"
# As many buttons in a row as fit without breaking a word; on a tablet less white around, so that they need no scrolling;
# held upright, the image has the whole width.
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
class Turn:
    """One showing of a pair: its event id is made here, so that whatever is pressed for it counts once."""

    pair_id: str
    event_id: str
    since: float
    again: bool

    @property
    def key(self) -> str:
        return self.event_id[:8]


def guidelines() -> None:
    """The guidelines and the keys, one click away."""
    with st.popover("Guidelines", icon=":material/menu_book:"):
        st.markdown(GUIDELINES)
        st.markdown(KEYS)


def around_desk() -> None:
    """What stays while pairs come and go: the look of the buttons, and the guard against double presses."""
    st.html(_STYLE)
    guard(BUTTONS)


@st.fragment
def desk(store: ReviewStore, runs: RunStore, queue: Queue, name: str) -> None:
    """Judge pair after pair; a verdict draws this part of the page anew and nothing else."""
    with errors():
        _say_problem()
        tasks = store.next_pairs(queue.queue_id, name, 2)
        again = st.session_state.get("review.again")
        ids = [again] if again else []
        ids += [task.pair_id for task in tasks if task.pair_id != again]
        _progress(store, queue, name)
        if not ids:
            widgets.empty("Nothing to read", nothing_left(store.progress(queue.queue_id)))
            _after(store, queue, name, None)
            return
        subject = subject_of(queue, runs)
        with_map = bool(st.session_state.get("review.map"))
        turn = _turn(ids[0], again=bool(again))
        sight = look(subject, turn.pair_id, with_map=with_map)
        held = next((task.expires for task in tasks if task.pair_id == turn.pair_id), None)
        _place(store, queue, name, subject, turn, sight, held)
        for pair_id in ids[1:]:  # what comes next is in the cache when it is wanted
            look(subject, pair_id, with_map=with_map)


def _place(
    store: ReviewStore,
    queue: Queue,
    name: str,
    subject: Subject,
    turn: Turn,
    sight: Sight,
    held: str | None,
) -> None:
    left, right = st.container(key=PLACE).columns([5, 6], gap="medium")
    with right:
        show_label(sight)
        show_note(sight)
        show_words(sight)
        if not queue.blind:
            st.caption(literal(why(store.item(queue.queue_id, turn.pair_id))))
        with st.container(key=BUTTONS, horizontal=True, gap="small"):
            for choice in CHOICES:
                _verdict_button(store, queue, name, sight, turn, choice)
        _after(store, queue, name, turn)
        ask_details(subject, sight, turn.key)
    with left:
        show_images(sight, height=IMAGE_HEIGHT, key="review.viewer")
        _below_image(held)


def _verdict_button(
    store: ReviewStore,
    queue: Queue,
    name: str,
    sight: Sight,
    turn: Turn,
    choice: Choice,
) -> None:
    st.button(
        choice.label, key=f"review.{choice.verdict}.{turn.key}", shortcut=choice.key, help=choice.help, width="stretch",
        wrap=True, on_click=_give, args=(store, queue, name, turn, choice.verdict, sight.label),
    )  # fmt: skip


def _below_image(held: str | None) -> None:
    on = bool(st.session_state.get("review.map"))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Hide the map" if on else "Show the map", key="review.map.toggle", shortcut="M", icon=":material/blur_on:",
            on_click=_turn_map, help="What drives the model's similarity of image and note. Judge first.",
        )  # fmt: skip
        if on:
            widgets.explain("What is this?", *ABOUT_MAP)
        if held is not None:
            st.caption(f"Yours until {local_time(held).rpartition(', ')[2]}", width="content")


def _after(store: ReviewStore, queue: Queue, name: str, turn: Turn | None) -> None:
    last = store.last_given(queue.queue_id, name)
    with st.container(key=f"{BUTTONS}_after", horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Undo", key="review.undo", shortcut="U", icon=":material/undo:", disabled=last is None, on_click=_undo,
            args=(store, last, name), help="Take the last verdict back; the pair is shown again.",
        )  # fmt: skip
        if turn is not None:
            st.button(
                "Skip", key=f"review.skip.{turn.key}", shortcut="S", icon=":material/skip_next:", on_click=_skip,
                args=(store, queue, name, turn), help="Give the pair back; it comes again after all others.",
            )  # fmt: skip
        if last is not None:
            st.caption(f"Last: {literal(last.pair_id)}, {verdict_name(last.verdict.verdict)}", width="content")


def _progress(store: ReviewStore, queue: Queue, name: str) -> None:
    now = standing(store.progress(queue.queue_id), name)
    st.progress(now.share, text=now.line)


def _turn(pair_id: str, *, again: bool) -> Turn:
    """The showing that goes on, or a new one where another pair is shown."""
    state = st.session_state
    turn = state.get("review.turn")
    if turn is None or turn.pair_id != pair_id:
        turn = Turn(pair_id, str(uuid.uuid4()), time.monotonic(), again)
        state["review.turn"] = turn
    return turn


def _give(store: ReviewStore, queue: Queue, name: str, turn: Turn, verdict: str, label: int) -> None:
    """Store a verdict; a second press for the same showing finds it answered."""
    state = st.session_state
    if state.get("review.turn") != turn:
        return
    details = given_details(turn.key)
    try:
        made = made_verdict(
            verdict, label=label, reason=details.reason, comment=details.comment, better=details.better,
            seconds=round(time.monotonic() - turn.since, 1),
        )  # fmt: skip
        store.judge(queue.queue_id, turn.pair_id, name, made, event_id=turn.event_id)
    except InputError as error:
        state["review.problem"] = f"not stored, the pair stays here: {error}"
        return
    _forget_turn()


def _undo(store: ReviewStore, last: Event, name: str) -> None:
    """Take back what the button stood for when it was drawn; a second press for the same one changes nothing."""
    try:
        store.undo(last.event_id, name, event_id=str(uuid.uuid5(uuid.UUID(last.event_id), "undo")))
    except InputError as error:
        st.session_state["review.problem"] = str(error)
        return
    _forget_turn()
    st.session_state["review.again"] = last.pair_id


def _skip(store: ReviewStore, queue: Queue, name: str, turn: Turn) -> None:
    if st.session_state.get("review.turn") != turn:
        return
    try:
        store.release(queue.queue_id, turn.pair_id, name)
    except InputError as error:
        st.session_state["review.problem"] = str(error)
        return
    _forget_turn()


def _forget_turn() -> None:
    for key in ("review.turn", "review.again"):
        st.session_state.pop(key, None)


def _turn_map() -> None:
    st.session_state["review.map"] = not st.session_state.get("review.map")


def _say_problem() -> None:
    problem = st.session_state.pop("review.problem", None)
    if problem:
        st.error(literal(problem), icon=":material/error:")
