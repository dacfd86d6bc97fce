"""The pairs of a data set: filters, thumbnails as a grid or a list, and the chosen pair with image and note."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from fairvlm_core.analysis.clean_data import csv_bytes
from fairvlm_core.analysis.cohort import matching
from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.errors import InputError
from fairvlm_core.pairs import PLANTED_KINDS, PairTable
from fairvlm_core.words import SPLITS, slug

from . import widgets
from .pair_board import BoardItem, pair_board
from .reads import thumbnail
from .words import literal

LISTED = 60  # pairs of the list at once
EXCERPT = 110  # characters of a note in the list
_FILTER = 185  # pixels
IMAGE_HEIGHT = 330
ABOUT_PAIRS = (
    "A pair is an image, its note and its label. In the built-in data some pairs are wrong on purpose: **mismatch** has "
    "the note of another patient, **shortcut** has the same non-clinical marker in image and note. Training never sees "
    "which.",
    None,
)


def split_name(name: str) -> str:
    """
    >>> split_name("val"), split_name("all")
    ('Validation', 'All')
    """
    return SPLITS.get(name, name).capitalize()


def browse(table: PairTable) -> None:
    """Filters, thumbnails, and the chosen pair with image and note."""
    widgets.section("Pairs", *ABOUT_PAIRS)
    kind = _planted(table)
    rows = _filters(table, kind)
    if not len(rows):
        widgets.empty("No pair passes these filters", "Choose fewer filters or other words, and press *Show*.")
        return
    ids = [str(pair) for pair in table.pair_ids[rows]]
    place = _place(ids)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _list(table, rows, ids, place, kind)
        st.caption(f"{len(rows):,} of {len(table):,} pairs pass the filters.")
        st.download_button(
            "Download CSV", lambda: csv_bytes(_listing(table, rows, kind)), f"{slug(table.info.name)}-pairs.csv",
            "text/csv", key="download.pairs", on_click="ignore", icon=":material/download:", type="tertiary",
        )  # fmt: skip
    with right:
        _one(table, int(rows[place]), None if kind is None else str(kind.iloc[rows[place]]))


def _listing(table: PairTable, rows: np.ndarray, kind: pd.Series | None) -> pd.DataFrame:
    listing = table.frame.iloc[rows][["pair_id", "split", "label", *table.attributes, "patient_id"]].astype(str)
    if kind is not None:
        listing.insert(3, "planted", kind.iloc[rows].to_numpy())
    return listing


def _filters(table: PairTable, kind: pd.Series | None) -> np.ndarray:
    frame = table.frame
    names = dict(enumerate(table.info.label_names))
    with st.form("data.filters"), st.container(horizontal=True, vertical_alignment="bottom"):
        splits = st.multiselect(
            "Split", list(SPLITS), key="data.f.split", format_func=split_name, placeholder="All splits",
            persist_state="page", width=_FILTER,
        )  # fmt: skip
        labels = st.multiselect(
            "Label", [0, 1], key="data.f.label", format_func=names.__getitem__, placeholder="Both labels",
            persist_state="page", width=_FILTER,
        )  # fmt: skip
        groups = {}
        for name in table.attributes:
            options = group_order(frame[name].astype(str).unique())
            groups[name] = st.multiselect(
                literal(name), options, key=f"data.f.{name}", placeholder="All groups", persist_state="page",
                width=_FILTER,
            )  # fmt: skip
        kinds: list[str] = []
        if kind is not None:
            kinds = st.multiselect(
                "Planted",
                PLANTED_KINDS,
                key="data.f.kind",
                placeholder="All kinds",
                persist_state="page",
                width=_FILTER,
            )
        words = st.text_input(
            "Words in the note",
            key="data.f.words",
            placeholder="All of these words",
            persist_state="page",
            width=_FILTER,
        )
        st.form_submit_button("Show", icon=":material/filter_alt:", type="primary")
    return matching(frame, splits=splits, labels=labels, groups=groups, kinds=kinds, kind=kind, words=words)


def _place(ids: list[str]) -> int:
    """The position of the pair in the URL (``?pair=``), else the first; the URL is corrected."""
    asked = st.query_params.get("pair")
    place = ids.index(asked) if asked in ids else 0
    if asked != ids[place]:
        st.query_params["pair"] = ids[place]
    return place


def _list(table: PairTable, rows: np.ndarray, ids: list[str], place: int, kind: pd.Series | None) -> None:
    def go(pair: str) -> None:
        st.query_params["pair"] = pair

    start = place // LISTED * LISTED
    notes = table.frame["text"]
    items = []
    for row, pair in zip(rows[start : start + LISTED].tolist(), ids[start:], strict=False):
        note = " ".join(str(notes.iat[row])[:EXCERPT].split())
        facts = [table.info.label_names[int(table.frame["label"].iat[row])], pair]
        facts += [str(table.frame[name].iat[row]) for name in table.attributes]
        facts += [f"planted: {kind.iat[row]}"] if kind is not None and kind.iat[row] != "clean" else []
        items.append(BoardItem(pair, " · ".join(facts), note, thumbnail(table, row)))
    said = f"{start + 1:,}–{start + len(items):,} of {len(ids):,}"
    pair_board(items, None, ids[place], said=said, empty="", key="data.board", opened=go, list_height=520, tiles=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous", key="data.previous", icon=":material/chevron_left:", on_click=go, args=(ids[place - 1],),
            disabled=place == 0, shortcut="Ctrl+Left",
        )  # fmt: skip
        st.button(
            "Next", key="data.next", icon=":material/chevron_right:", on_click=go, args=(ids[(place + 1) % len(ids)],),
            disabled=place == len(ids) - 1, shortcut="Ctrl+Right",
        )  # fmt: skip
        st.caption(f"{place + 1:,} of {len(ids):,}")


def _one(table: PairTable, row: int, kind: str | None) -> None:
    pair = table.frame.iloc[row]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{literal(pair['pair_id'])}**", width="content")
            st.badge(literal(table.info.label_names[int(pair["label"])]), color="blue" if pair["label"] else "gray")
            if kind is not None and kind != "clean":
                st.badge(f"planted: {kind}", icon=":material/report:", color="orange")
        with st.container(height=IMAGE_HEIGHT, border=False, horizontal_alignment="center"):
            try:
                st.image(_fitting(table.image(row)), alt=f"Image of pair {pair['pair_id']}")
            except InputError as error:
                st.error(literal(error))
        groups = " · ".join(f"{name} {pair[name]}" for name in table.attributes)
        st.caption(literal(f"{split_name(str(pair['split']))} · patient {pair['patient_id']} · {groups}"))
        widgets.note(str(pair["text"]))


def _fitting(image: Image.Image) -> Image.Image:
    """The image scaled to the height of the page's frame."""
    scale = (IMAGE_HEIGHT - 24) / max(image.height, image.width)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _planted(table: PairTable) -> pd.Series | None:
    try:
        planted = table.planted()
    except InputError as error:
        st.warning(literal(error), icon=":material/warning:")
        return None
    if planted is None:
        return None
    kinds = planted.set_index("pair_id")["kind"]
    return table.frame["pair_id"].map(kinds).fillna("clean").astype(str).reset_index(drop=True)
