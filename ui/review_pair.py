"""One pair on the screen: its images with the map, its note, the verdict buttons, and the details of a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.review import VERDICTS, ReviewedData, Verdict
from fairvlm_core.words import MINUS, many

from .image_viewer import Picture, image_viewer
from .review import KEYS, made_verdict, reason_options
from .review_reads import Explained, explained, offered_notes, pictures
from .words import literal

BUTTONS = "review_verdicts"
PLACE = "review_place"
NOTE_HEIGHT = 190
OFFERED = 8
WORDS = 6


@dataclass(frozen=True)
class PairView:
    """All that is shown of a pair, read before anything is drawn."""

    pair_id: str
    label: int
    label_names: Sequence[str]
    note: str
    pictures: tuple[Picture, ...]
    problem: str
    explained: Explained | None


def read_pair(data: ReviewedData, pair_id: str, *, with_map: bool) -> PairView:
    """Read a pair. `problem` says where an image or a model cannot be read; the pair can be judged all the same."""
    row = data.row(pair_id)
    pair = data.table.frame.iloc[row]
    shown: tuple[Picture, ...] = ()
    found, problem = None, ""
    try:
        shown = tuple(pictures(data, row))
        found = explained(data, row) if with_map else None
    except InputError as error:
        problem = str(error)
    names = data.table.info.label_names
    return PairView(pair_id, int(pair["label"]), names, str(pair["text"]), shown, problem, found)


def show_images(view: PairView, *, height: int, key: str) -> None:
    """The images; where there is none, why."""
    if view.problem:
        st.error(literal(view.problem), icon=":material/error:")
    if view.pictures:
        heat = None if view.explained is None else view.explained.heat
        image_viewer(view.pair_id, view.pictures, heat=heat, height=height, key=key)


def show_label_and_note(view: PairView) -> None:
    """The pair's id and label, and the note, literally."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{literal(view.pair_id)}**", width="content")
        st.badge(f"Label: {literal(view.label_names[view.label])}", color="blue" if view.label else "gray")
    with st.container(height=NOTE_HEIGHT, border=True, key="review_note"):
        st.text(view.note)


def show_words(view: PairView) -> None:
    """Where the map is on: the words with the largest effect, as a share of the largest."""
    if view.explained is None:
        return
    words = view.explained.map.top_words(WORDS)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.caption(
            f"Words with the largest effect ({MINUS} lowers the similarity)"
            if words
            else "No word of this note changes the similarity",
            width="content",
        )
        for word in words:
            effect = f"{word.score / abs(words[0].score):+.1f}".replace("-", MINUS)
            text = word.word.strip(".,;:()") or word.word
            st.badge(f"{literal(text)} {effect}", color="orange" if word.score > 0 else "gray")


def verdict_buttons(key: str, turn: str, give: Callable[..., None], *args: Any) -> None:
    """A button for each verdict; `give` is called with `args` and the verdict."""
    with st.container(key=BUTTONS, horizontal=True, gap="small"):
        for verdict, kind in VERDICTS.items():
            st.button(
                kind.label, key=f"{key}{verdict}.{turn}", shortcut=KEYS[verdict], help=kind.help, width="stretch",
                wrap=True, on_click=give, args=(*args, verdict),
            )  # fmt: skip


def ask_details(data: ReviewedData, view: PairView, turn: str) -> None:
    """Fields for reason, comment and a better note; `turn` is another one each time a pair is shown."""
    options = reason_options()
    more = st.expander(
        "Reason, comment, better note (optional)", icon=":material/edit_note:", key="review.more", on_change="rerun"
    )
    if not more.open:  # most verdicts come without details; the page is then drawn faster
        return
    with more:
        left, right = st.columns(2)
        left.selectbox("Reason", list(options), key=f"review.reason.{turn}", format_func=options.__getitem__)
        right.text_area(
            "Comment", key=f"review.comment.{turn}", max_chars=4000, height=68,
            placeholder="No names or numbers of patients",
        )  # fmt: skip
        _ask_better(data, view, turn)
        st.caption(
            f"With *Wrong label* the label becomes {literal(view.label_names[1 - view.label])}; "
            "a better note counts with *Wrong note* only."
        )


def _ask_better(data: ReviewedData, view: PairView, turn: str) -> None:
    try:
        offered = offered_notes(data.run, view.pair_id, OFFERED)
    except InputError as error:
        st.caption(literal(f"No other notes can be offered: {error}"))
        return
    if not offered:
        return
    chosen = st.selectbox(
        "A note that fits this image better", [None, *offered], key=f"review.better.{turn}",
        format_func=lambda pair_id: "None chosen" if pair_id is None else str(pair_id),
        help=f"The {many(len(offered), 'note')} of other pairs that the run's model finds most similar to this image.",
    )  # fmt: skip
    if chosen is not None:
        with st.container(height=110, border=True):
            st.text(str(data.table.frame["text"].iat[data.row(chosen)]))


def given_verdict(verdict: str, turn: str, label: int, seconds: float | None = None) -> Verdict:
    """The verdict with the details that were typed and chosen in this turn; `InputError` where they are not allowed."""
    state = st.session_state
    reason, comment = (str(state.get(f"review.{name}.{turn}") or "") for name in ("reason", "comment"))
    better = state.get(f"review.better.{turn}")
    return made_verdict(verdict, label=label, reason=reason, comment=comment, better=better, seconds=seconds)


@contextmanager
def noted_problem(prefix: str = "") -> Iterator[None]:
    """Keep the `InputError` of a pressed button until `show_problem` shows it."""
    try:
        yield
    except InputError as error:
        st.session_state["review.problem"] = f"{prefix}{error}"


def show_problem() -> None:
    """Why the last press was not recorded."""
    if problem := st.session_state.pop("review.problem", None):
        st.error(literal(problem), icon=":material/error:")
