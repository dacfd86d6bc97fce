"""One pair on the screen: its images with the map, its note, and the details a verdict may carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from fairvlm_core.errors import InputError

from .image_viewer import Picture, image_viewer
from .review import NO_REASON, fitting_notes, reason_options, top_words
from .review_reads import Explained, Subject, explained, features_of, pictures
from .words import MINUS, literal, many

NOTE_HEIGHT = 190
OFFERED = 8
WORDS = 6


@dataclass(frozen=True)
class Sight:
    """All that is shown of a pair, read before the first piece of it is drawn."""

    pair_id: str
    row: int
    label: int
    label_names: Sequence[str]
    note: str
    pictures: tuple[Picture, ...]
    problem: str
    explained: Explained | None


def look(subject: Subject, pair_id: str, *, with_map: bool) -> Sight:
    """Read a pair. An image or a model that cannot be read is said in `problem`; the pair can be judged all the same."""
    row = subject.row(pair_id)
    pair = subject.table.frame.iloc[row]
    shown: tuple[Picture, ...] = ()
    found, problem = None, ""
    try:
        shown = tuple(pictures(subject, row))
        found = explained(subject, row) if with_map else None
    except InputError as error:
        problem = str(error)
    return Sight(
        pair_id, row, int(pair["label"]), subject.table.info.label_names, str(pair["text"]), shown, problem, found
    )


def show_images(sight: Sight, *, height: int, key: str) -> None:
    """The images; where there is none, why."""
    if sight.problem:
        st.error(literal(sight.problem), icon=":material/error:")
    if sight.pictures:
        heat = None if sight.explained is None else sight.explained.heat
        image_viewer(sight.pair_id, sight.pictures, heat=heat, height=height, key=key)


def show_label(sight: Sight) -> None:
    """The pair's id and label."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{literal(sight.pair_id)}**", width="content")
        st.badge(f"Label: {literal(sight.label_names[sight.label])}", color="blue" if sight.label else "gray")


def show_note(sight: Sight) -> None:
    """The note, literally."""
    with st.container(height=NOTE_HEIGHT, border=True, key="review_note"):
        st.text(sight.note)


def show_words(sight: Sight) -> None:
    """The words that drive the similarity, strongest first, where the map is on."""
    if sight.explained is None:
        return
    words = top_words(sight.explained.map, WORDS)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.caption(
            f"Words that drive it ({MINUS} speaks against)" if words else "No word of this note moves the similarity",
            width="content",
        )
        for word, effect in words:
            sign = f"{effect:+.1f}".replace("-", MINUS)
            st.badge(f"{literal(word)} {sign}", color="orange" if effect > 0 else "gray")


@dataclass(frozen=True)
class Details:
    """What a verdict may carry beside itself."""

    reason: str
    comment: str
    better: str | None


def ask_details(subject: Subject, sight: Sight, turn: str) -> None:
    """Fields for reason, comment and a better note; `turn` tells one showing of a pair from the next."""
    options = reason_options()
    more = st.expander(
        "Reason, comment, better note (optional)", icon=":material/edit_note:", key="review.more", on_change="rerun"
    )
    if not more.open:  # most verdicts come without, and their pages are drawn faster so
        return
    with more:
        left, right = st.columns(2)
        left.selectbox("Reason", list(options), key=f"review.reason.{turn}", format_func=options.__getitem__)
        right.text_area(
            "Comment", key=f"review.comment.{turn}", max_chars=4000, height=68,
            placeholder="No names or numbers of patients",
        )  # fmt: skip
        _ask_better(subject, sight, turn)
        st.caption(
            f"With *Wrong label* the label becomes {literal(sight.label_names[1 - sight.label])}; "
            "a better note counts with *Wrong note* only."
        )


def _ask_better(subject: Subject, sight: Sight, turn: str) -> None:
    try:
        features = features_of(subject.run)
    except InputError as error:
        st.caption(literal(f"No other notes can be offered: {error}"))
        return
    if sight.pair_id not in features.pair_ids or len(features.pair_ids) < 2:
        return
    rows = fitting_notes(features.images, features.notes, features.pair_ids.index(sight.pair_id), OFFERED)
    offered = [features.pair_ids[row] for row in rows]
    chosen = st.selectbox(
        "A note that fits this image better", [None, *offered], key=f"review.better.{turn}",
        format_func=lambda pair_id: "None chosen" if pair_id is None else str(pair_id),
        help=f"The {many(len(offered), 'note')} of other pairs that the run's model finds most like this image.",
    )  # fmt: skip
    if chosen is not None:
        with st.container(height=110, border=True):
            st.text(str(subject.table.frame["text"].iat[subject.row(chosen)]))


def given_details(turn: str) -> Details:
    """What was typed and chosen for this showing."""
    state = st.session_state
    return Details(
        str(state.get(f"review.reason.{turn}") or NO_REASON),
        str(state.get(f"review.comment.{turn}") or ""),
        state.get(f"review.better.{turn}"),
    )
