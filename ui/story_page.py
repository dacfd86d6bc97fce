"""Parts of the Story page: two methods, one attribute, and what a presenter shows of them."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import streamlit as st

from fairvlm_core.analysis import divergences
from fairvlm_core.analysis.comparison import MethodDifference, RunComparison, pairing_words
from fairvlm_core.analysis.methods import Method
from fairvlm_core.analysis.mined_pairs import PAIR_KINDS, usable_settings
from fairvlm_core.analysis.note_words import LIKE, marked
from fairvlm_core.analysis.one_pair import near
from fairvlm_core.analysis.story import found_pairs, front_methods, front_of
from fairvlm_core.analysis.verdict import best_method
from fairvlm_core.errors import InputError
from fairvlm_core.fairness import Undefined
from fairvlm_core.words import KIND_TITLES, slug

from . import bad_pairs_reads, compare, inspector, story, story_charts, widgets
from .frame import Here
from .image_viewer import picture_address
from .losses_reads import run_metrics
from .reads import comparison, difference
from .words import literal

PICTURE = 560  # longest side of a pair's image, in pixels
_FULL = """<style>
[data-testid="stSidebar"], [data-testid="stSidebarCollapsedControl"], [data-testid="stExpandSidebarButton"],
[data-testid="stHeader"], .st-key-story_choose [data-testid="stSelectbox"] {display: none;}
[data-testid="stMainBlockContainer"] {padding: 1.5rem 4rem 3rem; max-width: 1700px;}
[data-testid="stElementContainer"]:has(h1), [data-testid="stElementContainer"]:has(h1) + * {display: none;}
.st-key-story_choose {justify-content: flex-end;}
</style>"""
_STYLE = """<style>
.story-title {font-size: clamp(1.7rem, 3vw, 2.6rem); font-weight: 650; line-height: 1.2; margin: 0.2rem 0 0.6rem;}
.story-line {font-size: clamp(1.05rem, 1.5vw, 1.35rem); line-height: 1.5;}
.st-key-story_parts .marked-note {font-size: 1.1rem;}
.st-key-story_parts h2, .st-key-story_parts h3 {font-size: 1.6rem;}
</style>"""


@dataclass(frozen=True)
class Told:
    """What the page tells: the two methods compared, and by which attribute."""

    found: MethodDifference
    result: RunComparison
    attribute: str

    @property
    def names(self) -> list[str]:
        return [self.found.a.name, self.found.b.name]


def choose(here: Here, result: RunComparison) -> Told:
    """The reference, the method compared with it and the attribute; by default what won most, where it won most."""
    by_name = {scored.name: scored.method for scored in result.methods}
    names, best = list(by_name), best_method(result)
    usual = best.difference.b.name if best else names[-1]
    with st.container(key="story_choose", horizontal=True, vertical_alignment="bottom"):
        a = st.selectbox("Before", names, key="before", bind="query-params", width=270)
        others = [name for name in names if name != a]
        if st.session_state.get("after", others[0]) not in others:
            del st.session_state["after"]
        usual = usual if usual in others else others[-1]
        b = st.selectbox("After", others, index=others.index(usual), key="after", bind="query-params", width=270)
        if a == result.methods[0].name:
            found = result.differences[b]
        else:
            with st.spinner("Resampling patients …"):
                found = difference(here.store.root, by_name[a], by_name[b])
        attributes = list(result.attributes)
        usual = max(attributes, key=lambda name: _gain(found, name))
        attribute = st.selectbox(
            "Groups of", attributes, index=attributes.index(usual), key="attribute", bind="query-params", width=200
        )
        st.toggle("Full screen", key="full", bind="query-params", width="content")
    return Told(found, result, attribute)


def _gain(found: MethodDifference, attribute: str) -> tuple[bool, float]:
    one = found.comparison.attributes[attribute]
    return one.reliable, 0.0 if isinstance(one.difference, Undefined) else abs(float(one.difference))


def style() -> None:
    """Large type; with the switch *Full screen*, nothing but the story."""
    st.html(_STYLE)
    if st.session_state.get("full"):
        st.html(_FULL)


def tell(here: Here, told: Told) -> None:
    """The whole page below the choice."""
    title, line = story.headline(told.found, told.attribute)
    with st.container(key="story_parts"):
        st.html(f"<div class='story-title'>{html.escape(title)}</div><div class='story-line'>{html.escape(line)}</div>")
        sections = [_groups(told), *_front(here, told)]
        pairs = _pairs(here, told)
        sections += _distance(here, told)
    st.caption(literal(pairing_words(told.found)))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Save as one HTML file", lambda: story.story_html(title, [line], sections, pairs),
            file_name=f"story-{slug('-'.join(told.names))}.html", mime="text/html", key="story.html", on_click="ignore",
            icon=":material/download:", type="primary", help="With its charts, images and notes: treat it as patient data.",
        )  # fmt: skip
        st.caption("The camera above each chart saves it as a picture.", width="content")


def _section(title: str, text: str) -> None:
    st.subheader(literal(title), anchor=False)
    st.html(f"<div class='story-line'>{html.escape(text)}</div>")


def _groups(told: Told) -> dict[str, Any]:
    text = story.group_line(told.found, told.attribute)
    values = compare.group_values(told.result, told.attribute)
    parts = [values[values["method"] == name] for name in told.names]
    chart = story_charts.before_after_chart(parts, told.attribute)
    title = "Before and after, group by group"
    _section(title, text)
    widgets.chart(chart, "story.groups", f"Test AUC by {told.attribute} before and after. {text}")
    return {"title": title, "text": text, "chart": chart}


def _front(here: Here, told: Told) -> list[dict[str, Any]]:
    found = front_methods([scored.method for scored in told.result.methods], told.names[::-1])
    if found is None:
        return []
    grid, methods = found
    with st.spinner("Resampling patients …"):
        front = front_of(comparison(here.store.root, methods), grid, told.attribute)
    weights = [point.method for point in front.points]
    start = weights.index(told.names[1]) if told.names[1] in weights else len(weights) - 1
    chart = story_charts.front_chart(front, told.attribute, start)
    title, text = "What more weight on fairness does", story.front_line(front, told.attribute)
    _section(title, text)
    widgets.chart(chart, "story.front", f"AUC against ES-AUC and the groups for each λ. {text}")
    return [{"title": title, "text": text, "chart": chart}]


def _distance(here: Here, told: Told) -> list[dict[str, Any]]:
    runs = {m.name: m.runs for m in (told.found.a, told.found.b)}
    try:
        metrics = {run.id: run_metrics(here.run_of(run)) for members in runs.values() for run in members}
    except InputError:
        return []
    lines = [line for found in metrics.values() for line in found]
    if not lines:
        return []
    counted = divergences.recorded(lines)
    band = divergences.bands(divergences.divergences(runs, metrics, told.attribute, "loss", counted))
    if band.empty:
        return []
    chart = story_charts.distance_chart(band, told.names, "loss²")
    title, text = "How far apart the groups are over training", story.distance_line(band, told.names)
    _section(title, text)
    widgets.chart(chart, "story.distance", f"Distance of the groups' losses above chance over epochs. {text}")
    return [{"title": title, "text": text, "chart": chart}]


def _pairs(here: Here, told: Told) -> list[dict[str, Any]]:
    """Three pairs that the compared method found: image, note, what is wrong."""
    method = next((m for m in (told.found.b, told.found.a) if m.runs[0].settings.get("mining.enabled")), told.found.b)
    try:
        found = _found(here, method)
    except InputError as error:
        st.caption(literal(f"No pairs are shown: {error}"))
        return []
    if not found:
        return []
    _section(
        "Pairs that were found", f"By {method.name}, run {method.runs[0].id}: the most suspicious of its flagged pairs."
    )
    for column, pair in zip(st.columns(len(found), gap="large"), found, strict=True):
        with column:
            st.markdown(f"**{literal(pair['title'])}**")
            if pair["image"]:
                st.html(f"<img src='{pair['image']}' alt='Image of the pair' style='width:100%;border-radius:6px'>")
            widgets.marked_note(pair["note"])
            for line in pair["lines"]:
                st.caption(literal(line))
    return found


def _found(here: Here, method: Method) -> list[dict[str, Any]]:
    run = here.run_of(method.runs[0])
    pairs = bad_pairs_reads.run_pairs(run)
    now = bad_pairs_reads.run_mined(run, usable_settings(run.config.mining, pairs.ledger.channels))
    rows = found_pairs(now)
    if not rows:
        return []
    data, embeddings = bad_pairs_reads.run_data(run), bad_pairs_reads.run_embeddings(run)
    told = []
    for row in rows:
        pair_id, kind = str(pairs.ids[row]), PAIR_KINDS[now.kind[row]]
        at = data.row_of(pair_id)
        if at is None:
            continue
        around = near(embeddings, row, pairs.splits == "train", LIKE)
        note = str(data.table.frame["text"].iat[at])
        rare = bad_pairs_reads.rare_words(run, note, around) if kind == "faulty" else []
        lines = [inspector.plain_reason(kind, around), story.rare_line(rare)]
        image = data.table.image(at)
        image.thumbnail((PICTURE, PICTURE))
        told.append(
            {
                "title": KIND_TITLES[kind],
                "image": picture_address(image),
                "note": marked(note, [one.word for one in rare]),
                "lines": [line for line in lines if line],
            }
        )
    return told
