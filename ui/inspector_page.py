"""The inspector: one pair with image, note, losses, why it is flagged, and what lies near it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from fairvlm_core.analysis.mined_pairs import NOT_MINED, PAIR_KINDS, MinedPairs, RunPairs, beside
from fairvlm_core.analysis.neighbours import BetterFits
from fairvlm_core.analysis.note_words import LIKE, marked
from fairvlm_core.analysis.one_pair import Near, near
from fairvlm_core.errors import InputError
from fairvlm_core.runs import Run
from fairvlm_core.words import KIND_TITLES, SPLITS, many

from . import bad_pairs_charts, inspector, story, widgets
from .bad_pairs import CHANNELS
from .bad_pairs_reads import Data, rare_words, run_band, run_embeddings
from .image_viewer import Picture, image_viewer, picture_address
from .words import literal

IMAGE_HEIGHT = 230
THUMBNAIL = 150
ABOUT_INSPECTOR = (
    "Zoom into the image with the wheel, move it by dragging; *window* and *level* are contrast and brightness. The chart "
    "shows the pair's loss in each epoch beside the middle 80 % of all training pairs. Neighbours are pairs by the "
    "cosine of the embeddings of the run's own model; that model was trained on wrong notes, too.",
    r"\cos(f_i, t_j) = \frac{f_i \cdot t_j}{\lVert f_i\rVert\,\lVert t_j\rVert}",
)
_COLOURS = {"faulty": "orange", "noisy": "violet", "clean": "blue", "not mined": "gray"}
_TABS = ("Notes that match better", "Images that match better", "Similar images", "Similar notes")

Move = Callable[[str | None], None]


def inspect(
    run: Run, pairs: RunPairs, now: MinedPairs, rows: np.ndarray, data: Data | None, problem: str, move: Move
) -> None:
    """The pair in the address. `rows` is the order of Previous and Next; `move` opens a pair."""
    pair = st.query_params.get("pair")
    row = pairs.row_of(pair)
    if pair is None or row is None:
        widgets.empty("No pair chosen", "Choose a pair of the list, or a point on the map.")
        return
    _head(pairs, now, row, rows, data, move)
    around, missing = _near(run, pairs, row)
    kind = PAIR_KINDS[now.kind[row]]
    rare = []
    if around is not None and data is not None and kind != "noisy" and data.row_of(pair) is not None:
        note = str(data.table.frame["text"].iat[data.row_of(pair)])
        rare = rare_words(run, note, near(run_embeddings(run), row, pairs.splits == "train", LIKE))
    lines = [] if around is None else [inspector.plain_reason(kind, around), story.rare_line(rare)]
    if any(lines):
        st.markdown(literal(" ".join(filter(None, lines))))
    _pair(data, problem, pair, [one.word for one in rare])
    if missing:
        st.caption(literal(missing))
    _details(run, pairs, now, row, data, pair, around, move)


def _details(
    run: Run, pairs: RunPairs, now: MinedPairs, row: int, data: Data | None, pair: str, around: Near | None, move: Move
) -> None:  # fmt: skip
    """Numbers and neighbours, drawn when they are opened: most pairs are judged without them."""
    lines = inspector.reason(pairs, now, row, around)
    st.caption(literal(lines[0]))
    more = st.expander("Losses and findings", icon=":material/show_chart:", key="inspector.numbers", on_change="rerun")
    if more.open:
        with more:
            for line in lines[1:]:
                st.markdown(f"- {literal(line)}")
            _losses(run, pairs, now, row)
            _findings(data, pair)
            widgets.explain("What is shown", *ABOUT_INSPECTOR)
    if around is None:
        return
    more = st.expander("Similar pairs", icon=":material/join_inner:", key="inspector.similar", on_change="rerun")
    if more.open:
        with more:
            _neighbours(pairs, now, around, data, move)


def _head(
    pairs: RunPairs, now: MinedPairs, row: int, rows: np.ndarray, data: Data | None, move: Move
) -> None:  # fmt: skip
    ids = pairs.ids[rows]
    pair = str(pairs.ids[row])
    place = np.flatnonzero(rows == row)
    before, after = beside(ids, pair, -1), beside(ids, pair, 1)
    kind = PAIR_KINDS[now.kind[row]]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "", key="inspector.previous", icon=":material/chevron_left:", on_click=move, args=(before,),
            disabled=before is None or not len(place), shortcut="Ctrl+Left", help="Previous pair",
        )  # fmt: skip
        st.button(
            "", key="inspector.next", icon=":material/chevron_right:", on_click=move, args=(after,),
            disabled=after is None, shortcut="Ctrl+Right", help="Next pair",
        )  # fmt: skip
        st.badge(KIND_TITLES[kind], color=_COLOURS[kind])
        st.markdown(f"**{literal(pair)}**", width="content")
        where = f"{int(place[0]) + 1:,} of {len(ids):,}" if len(place) else f"not among the {len(ids):,} listed"
        st.caption(where, width="content")
    groups = "".join(f" · {name} {values[row]}" for name, values in pairs.groups.items())
    split = SPLITS.get(str(pairs.splits[row]), str(pairs.splits[row]))
    label = int(pairs.labels[row])
    said = f"label {label}" if data is None else f"label: {data.table.info.label_names[label]}"
    st.caption(literal(f"{split} · {said} · patient {pairs.patients[row]}{groups}"))


def _near(run: Run, pairs: RunPairs, row: int) -> tuple[Near | None, str]:
    try:
        embeddings = run_embeddings(run)
    except InputError:
        return None, "Neighbours appear when the run has finished: they need its embeddings."
    if len(embeddings["image"]) != len(pairs):
        return None, "embeddings.npz is not of this run's pairs: no neighbours are shown."
    return near(embeddings, row, pairs.splits == "train", inspector.NEAR), ""


def _pair(data: Data | None, problem: str, pair: str, rare: Sequence[str]) -> None:
    if data is None:
        widgets.empty("Image and note are not available", literal(problem))
        return
    row = data.row_of(pair)
    if row is None:
        widgets.empty("Image and note are not available", "The data folder no longer has this pair.")
        return
    try:
        picture = Picture(picture_address(data.table.image(row)), "")
        image_viewer(pair, [picture], height=IMAGE_HEIGHT, key="inspector.image")
    except InputError as error:
        st.error(literal(error), icon=":material/broken_image:")
    note = marked(str(data.table.frame["text"].iat[row]), rare)
    widgets.marked_note(note)


def _losses(run: Run, pairs: RunPairs, now: MinedPairs, row: int) -> None:
    if now.kind[row] == NOT_MINED:
        return
    channel = now.result.channel
    losses = pairs.ledger.trajectory(str(pairs.ids[row]), channel).astype(float)
    title = CHANNELS.get(channel, channel)
    chart = bad_pairs_charts.trajectory_chart(now, losses, run_band(run, channel), run.config.mining.warmup, title)
    widgets.chart(chart, "inspector.losses", f"{title} of the pair by epoch")


def _findings(data: Data | None, pair: str) -> None:
    if data is None or data.findings is None or pair not in data.findings.index:
        return
    facts = inspector.findings_of(data.findings.loc[pair].to_dict())
    if facts:
        st.caption("Findings recorded for this image")
        st.text(" · ".join(f"{title}: {value}" for title, value in facts))


def _neighbours(pairs: RunPairs, now: MinedPairs, around: Near, data: Data | None, move: Move) -> None:
    own = st.query_params.get("pair")
    tabs = st.tabs(_TABS, key="inspector.near", on_change="rerun")
    lists = (around.notes.best, around.images.best, around.images_like, around.notes_like)
    words = (
        _better(around.notes, "training note", "this image", "note"),
        _better(around.images, "training image", "this note", "image"),
        "Training images most similar to this image.",
        "Training notes most similar to this note.",
    )
    for tab, name, ranked, line in zip(tabs, _TABS, lists, words, strict=True):
        if not tab.open:
            continue
        with tab:
            st.caption(line)
            if not len(ranked):
                continue
            notes = data.notes(pairs.ids[ranked.rows]) if data is not None else {}
            frame = inspector.neighbour_table(pairs, now, ranked, notes)
            key = f"inspector.near.{name}.{own}"

            def opened(key: str = key, ids: tuple[str, ...] = tuple(frame["pair_id"])) -> None:
                picked = st.session_state[key]["selection"]["cells"]  # a click anywhere in a row
                if picked and picked[0][0] < len(ids):
                    move(ids[picked[0][0]])

            if data is not None:
                _thumbnails(data, list(frame["pair_id"]))
            widgets.table(
                frame, {"pair_id": st.column_config.TextColumn("Pair", width=100), "Similarity": _TWO, "Note": _NOTE},
                key=key, on_select=opened, selection_mode="single-cell", alt=name,
            )  # fmt: skip


def _better(fits: BetterFits, one: str, what: str, own: str) -> str:
    better = f"{many(fits.n_better, one)} of {fits.n_others:,} {'is' if fits.n_better == 1 else 'are'}"
    return f"{better} more similar to {what} than its own {own} ({fits.own:.2f})."


_TWO = st.column_config.NumberColumn("Similarity", format="%.3f", width=80)
_NOTE = st.column_config.TextColumn("Note", width="large")


def _thumbnails(data: Data, ids: list[str]) -> None:
    columns = st.columns(3, gap="small")
    for column, pair in zip([*columns, *columns], ids, strict=False):
        row = data.row_of(pair)
        with column:
            if row is None:
                st.caption("no longer there")
                continue
            try:
                image = data.table.image(row)
            except InputError:
                st.caption("image cannot be read")
                continue
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            st.image(image, caption=literal(pair), alt=f"Image of pair {pair}")
