"""Small parts of a page: cards, explanations, downloads, empty states. Foreign text goes through `words.literal`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from fairvlm_core.analysis.clean_data import csv_bytes
from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.words import NOTHING, many, slug

from .charts import CONFIG
from .entries import COMPARE, FINE_TUNE, Headline, NextStep
from .palette import INK, STATE_COLOURS
from .words import literal

NOTE_HEIGHT = 210
PICTURE_FORMAT, PICTURE_FORMATS = "picture", ("SVG", "PNG")


def explain(label: str, text: str, formula: str | None = None) -> None:
    """An explanation with its formula, behind a button."""
    with st.popover(label, icon=":material/help:", type="tertiary"):
        st.markdown(text)
        if formula:
            st.latex(formula)


def section(title: str, text: str | None = None, formula: str | None = None, *, about: str = "What is this?") -> None:
    """A heading, with a button for its explanation."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", gap="small"):
        st.subheader(title, anchor=False)
        if text:
            explain(about, text, formula)


def cards(headlines: Sequence[Headline]) -> None:
    """Cards side by side, as many in a row as fit."""
    if not headlines:
        return
    with st.container(key=f"cards_{slug(headlines[0].title)}"):  # laid out by the frame's style
        for card in headlines:
            with st.container(border=True, height="stretch", gap="xxsmall"):
                st.metric(literal(card.title), card.value, help=card.help or None)
                st.caption(literal(card.below))


def chart(picture: go.Figure, key: str, alt: str, *, config: Mapping[str, Any] = CONFIG, **selection: Any) -> None:
    """A chart in the text colour of the page's theme; its height is reserved while it loads.

    The camera in its bar saves it in the format that is chosen in the sidebar. `alt` is read by screen readers.
    """
    inked(picture)
    form = str(st.session_state.get(PICTURE_FORMAT) or PICTURE_FORMATS[0]).lower()
    config = {**config, "toImageButtonOptions": {"format": form, "scale": 1 if form == "svg" else 3, "filename": key}}
    for axis in (*picture.select_xaxes(), *picture.select_yaxes()):
        axis.tickfont.color = axis.title.font.color = picture.layout.font.color
    st.plotly_chart(picture, key=key, config=config, height=int(picture.layout.height), alt=alt, **selection)


def inked(picture: go.Figure) -> go.Figure:
    """The chart with text and legend in the text colour of the page's theme."""
    ink = INK["dark" if st.context.theme.type == "dark" else "light"]
    picture.layout.font.color = picture.layout.legend.font.color = ink
    return picture


def download(frame: pd.DataFrame, file_name: str, label: str = "Download CSV") -> None:
    """A button that saves the frame as CSV; it does not rerun the page."""
    st.download_button(
        label, csv_bytes(frame), file_name=file_name, mime="text/csv", key=f"download.{file_name}", on_click="ignore",
        icon=":material/download:", type="tertiary",
    )  # fmt: skip


def chart_table(shown: pd.DataFrame, saved: pd.DataFrame, file_name: str) -> None:
    """Below a chart: its values as a table and as a file."""
    left, right = st.columns([4, 1], vertical_alignment="top")
    with left.expander("The same as a table", icon=":material/table:"):
        table(shown, key=f"table.{file_name}")
    with right:
        download(saved, file_name)


def table(frame: pd.DataFrame, config: Mapping[str, Any] | None = None, *, key: str, **more: Any) -> Any:
    """A frame as a table without index; floats have three decimals unless `config` says otherwise."""
    formats: dict[str, Any] = {}
    for name in frame.columns:
        if pd.api.types.is_float_dtype(frame[name].dtype):
            formats[str(name)] = st.column_config.NumberColumn(format="%.3f")
        elif pd.api.types.is_integer_dtype(frame[name].dtype):
            formats[str(name)] = st.column_config.NumberColumn(format="localized")
    more.setdefault("placeholder", NOTHING)
    return st.dataframe(frame, hide_index=True, column_config=formats | dict(config or {}), key=key, **more)


def state_column(label: str = "State") -> Any:
    """States as coloured labels; the word is there as well as the colour."""
    return st.column_config.MultiselectColumn(
        label, options=list(STATE_COLOURS), color=list(STATE_COLOURS.values()), width=104
    )


def empty(title: str, text: str, command: str | None = None, *, leads: Sequence[str] = ()) -> None:
    """A placeholder that says what is missing and how to make it; `leads` are keys of `_LEADS`."""
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.markdown(text)
        if leads:
            with st.container(horizontal=True, gap="medium"):
                for file in leads:
                    label, icon = _LEADS[file]
                    st.page_link(file, label=label, icon=icon)
        if command:
            st.caption("In a terminal:")
            st.code(command, language=None)


_LEADS = {
    "app.py": ("Make the demo on the overview", ":material/play_arrow:"),
    f"pages/{FINE_TUNE}": ("Set up a run", ":material/tune:"),
}
NO_RUN = tuple(_LEADS)


_LINKS = {
    FINE_TUNE: ("Open Fine-tune", ":material/tune:"),
    COMPARE: ("Open the comparison", ":material/compare_arrows:"),
}


def next_step(step: NextStep) -> None:
    """The next thing to do: a sentence with a command to copy or a link."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/arrow_forward: **Next.** {literal(step.text)}", width="stretch")
        if step.command:
            st.code(step.command, language=None)
        if step.page:
            label, icon = _LINKS[step.page]
            st.page_link(f"pages/{step.page}", label=label, icon=icon, query_params={"run": list(step.runs)})


def unfinished(entry: RunEntry) -> None:
    """That validation still improved when the run ended."""
    if entry.still_learning is not None:
        st.caption(f":orange[:material/trending_up:] {entry.still_learning}")


def warnings(lines: Iterable[str]) -> None:
    """Warnings of the intake, one on each line."""
    lines = list(lines)
    if lines:
        with st.container(border=True):
            st.markdown(f":orange[:material/warning:] **{many(len(lines), 'warning')}**")
            st.markdown("\n".join(f"- {literal(line)}" for line in lines))


def note(text: str) -> None:
    """A clinical note as plain text: no markup, link or image in it is followed."""
    st.caption("Note")
    with st.container(height=NOTE_HEIGHT, border=True):
        st.text(text)


def marked_note(pieces: Sequence[tuple[str, bool]]) -> None:
    """A clinical note with marked words, as from `note_words.marked`; all of it is escaped."""
    inside = "".join(f"<mark>{html.escape(text)}</mark>" if rare else html.escape(text) for text, rare in pieces)
    st.html(f"<div class='marked-note'>{inside}</div>")
