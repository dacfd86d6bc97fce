"""One pair on the screen: its images with the map, its note, the verdict buttons, and the details of a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.review import VERDICTS, Draft, Drafts, ReviewedData, Verdict
from fairvlm_core.words import MINUS, many

from .image_viewer import Picture, image_viewer
from .review import KEYS, label_words, made_verdict, reason_options
from .review_reads import Explained, explained, offered_images, offered_notes, pictures
from .words import literal

BUTTONS = "review_verdicts"
PLACE = "review_place"
NOTE_HEIGHT = 190
OFFERED = 8
WORDS = 6
BESIDE, SMALL = 3, 300  # other images beside the pair's own, and their longest side in pixels


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
    names = label_words(data.table.info.label_names, data.table.info.prompts)
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


def ask_details(data: ReviewedData, view: PairView, turn: str, drafts: Drafts) -> None:
    """Fields for reason, comment and a better note; `turn` is another one each time a pair is shown.

    What is typed is kept in `drafts`, so that it is there again after a change of page or a reload.
    """
    options = reason_options()
    draft = drafts.of(view.pair_id)
    more = st.expander(
        "Reason, comment, better note (optional)", icon=":material/edit_note:", key="review.more", on_change="rerun",
        expanded=draft != Draft(),
    )  # fmt: skip
    if not more.open:  # most verdicts come without details; the page is then drawn faster
        return
    for name, value in asdict(draft).items():
        if value and (name != "reason" or value in options):
            st.session_state.setdefault(f"review.{name}.{turn}", value)
    kept: dict[str, Any] = {"on_change": _keep, "args": (drafts, view.pair_id, turn)}
    with more:
        left, right = st.columns(2)
        left.selectbox("Reason", list(options), key=f"review.reason.{turn}", format_func=options.__getitem__, **kept)
        right.text_area(
            "Comment", key=f"review.comment.{turn}", max_chars=4000, height=68,
            placeholder="No names or numbers of patients", **kept,
        )  # fmt: skip
        _ask_better(data, view, turn, kept)
        st.caption(
            f"With *Wrong label* the label becomes {literal(view.label_names[1 - view.label])}; "
            "a better note counts with *Wrong note* only."
        )


def _keep(drafts: Drafts, pair_id: str, turn: str) -> None:
    with noted_problem("what was typed is not kept: "):
        drafts.keep(pair_id, _typed(turn, drafts.of(pair_id)))


def forget_draft(drafts: Drafts, pair_id: str) -> None:
    """After a verdict, which is stored even where the draft cannot be removed."""
    with suppress(InputError):
        drafts.keep(pair_id, Draft())


def _typed(turn: str, draft: Draft) -> Draft:
    """What the fields hold; of fields that are not on the page, the draft."""
    state = st.session_state
    values = {name: state.get(f"review.{name}.{turn}", value) for name, value in asdict(draft).items()}
    return Draft(str(values["reason"] or ""), str(values["comment"] or ""), values["better"])


def show_side_by_side(data: ReviewedData, view: PairView) -> None:
    """On request: this image beside the three images that the note fits best by the run's model."""
    more = st.expander(
        "Images that this note fits best", icon=":material/compare:", key="review.beside", on_change="rerun"
    )
    if not more.open:
        return
    with more:
        try:
            others = offered_images(data.run, view.pair_id, BESIDE)
        except InputError as error:
            st.caption(literal(f"No other images can be shown: {error}"))
            return
        for column, pair_id in zip(st.columns(1 + BESIDE), [view.pair_id, *others], strict=False):
            with column:
                try:
                    image = data.table.image(data.row(pair_id))
                except InputError as error:
                    st.caption(literal(error))
                    continue
                image.thumbnail((SMALL, SMALL))
                name = "This image" if pair_id == view.pair_id else literal(pair_id)
                st.image(image, caption=name, alt=f"Image of pair {pair_id}")


def _ask_better(data: ReviewedData, view: PairView, turn: str, kept: Mapping[str, Any]) -> None:
    try:
        offered = offered_notes(data.run, view.pair_id, OFFERED)
    except InputError as error:
        st.caption(literal(f"No other notes can be offered: {error}"))
        return
    if not offered:
        return
    if st.session_state.get(f"review.better.{turn}") not in (None, *offered):
        del st.session_state[f"review.better.{turn}"]
    chosen = st.selectbox(
        "A note that fits this image better", [None, *offered], key=f"review.better.{turn}",
        format_func=lambda pair_id: "None chosen" if pair_id is None else str(pair_id), **kept,
        help=f"The {many(len(offered), 'note')} of other pairs that the run's model finds most similar to this image.",
    )  # fmt: skip
    if chosen is not None:
        with st.container(height=110, border=True):
            st.text(str(data.table.frame["text"].iat[data.row(chosen)]))


def given_verdict(verdict: str, turn: str, label: int, draft: Draft, seconds: float | None = None) -> Verdict:
    """The verdict with the details that were typed and chosen; `InputError` where they are not allowed."""
    return made_verdict(verdict, label=label, **asdict(_typed(turn, draft)), seconds=seconds)


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
