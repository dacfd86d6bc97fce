"""The pairs of a data set one by one: filters, a list, and the chosen pair with image and note."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from fairvlm_core.analysis.cohort import matching
from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.errors import InputError
from fairvlm_core.pairs import PLANTED_KINDS, PairTable
from fairvlm_core.words import SPLITS, slug

from . import widgets
from .words import literal

LISTED = 1000
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
    """Filters, the list of pairs, and the chosen pair with image and note."""
    widgets.section("Pairs", *ABOUT_PAIRS)
    kind = _planted(table)
    rows = _filters(table, kind)
    if not len(rows):
        widgets.empty("No pair passes these filters", "Choose fewer filters or other words, and press *Show*.")
        return
    shown = rows[:LISTED]
    listing = table.frame.iloc[shown][["pair_id", "split", "label", *table.attributes, "patient_id"]].astype(str)
    if kind is not None:
        listing.insert(3, "planted", kind.iloc[shown].to_numpy())
    ids = listing["pair_id"].tolist()
    place = _place(ids)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _list(listing, ids, place)
        more = f"; the first {LISTED:,} are listed, filters find the others" if len(rows) > LISTED else ""
        st.caption(f"{len(rows):,} of {len(table):,} pairs pass the filters{more}.")
        widgets.download(listing, f"{slug(table.info.name)}-pairs.csv")
    with right:
        _one(table, int(shown[place]), None if kind is None else str(kind.iloc[shown[place]]))


def _filters(table: PairTable, kind: pd.Series | None) -> np.ndarray:
    frame = table.frame
    names = dict(enumerate(table.info.label_names))
    with st.form("data.filters"):
        columns = st.columns([1, 1, 1, 1] if kind is not None else [1, 1, 2])
        splits = columns[0].multiselect(
            "Split",
            list(SPLITS),
            key="data.f.split",
            format_func=split_name,
            placeholder="All splits",
            persist_state="page",
        )
        labels = columns[1].multiselect(
            "Label", [0, 1], key="data.f.label", format_func=names.__getitem__, placeholder="Both labels",
            persist_state="page",
        )  # fmt: skip
        kinds: list[str] = []
        if kind is not None:
            kinds = columns[2].multiselect(
                "Planted", PLANTED_KINDS, key="data.f.kind", placeholder="All kinds", persist_state="page"
            )
        words = columns[-1].text_input(
            "Words in the note", key="data.f.words", placeholder="All of these words", persist_state="page"
        )
        groups = {}
        for column, name in zip(st.columns(max(len(table.attributes), 1)), table.attributes, strict=False):
            options = group_order(frame[name].astype(str).unique())
            groups[name] = column.multiselect(
                literal(name), options, key=f"data.f.{name}", placeholder="All groups", persist_state="page"
            )
        st.form_submit_button("Show", icon=":material/filter_alt:")
    return matching(frame, splits=splits, labels=labels, groups=groups, kinds=kinds, kind=kind, words=words)


def _place(ids: list[str]) -> int:
    """The position of the pair in the URL (``?pair=``), else the first; the URL is corrected."""
    asked = st.query_params.get("pair")
    place = ids.index(asked) if asked in ids else 0
    if asked != ids[place]:
        st.query_params["pair"] = ids[place]
    return place


def _list(listing: pd.DataFrame, ids: list[str], place: int) -> None:
    key = "data.pairs"
    st.session_state[key] = {"selection": {"rows": [place], "columns": []}}

    def chosen() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows and rows[0] < len(ids):
            st.query_params["pair"] = ids[rows[0]]

    def go(to: int) -> None:
        st.query_params["pair"] = ids[to]

    widgets.table(
        listing, key=key, on_select=chosen, selection_mode="single-row-required", height=520,
        alt="Pairs that pass the filters",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous", key="data.previous", icon=":material/chevron_left:", on_click=go, args=(place - 1,),
            disabled=place == 0, shortcut="Ctrl+Left",
        )  # fmt: skip
        st.button(
            "Next", key="data.next", icon=":material/chevron_right:", on_click=go, args=(place + 1,),
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
