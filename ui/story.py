"""Sentences of the Story page, and the page as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from fairvlm_core.analysis.comparison import MethodDifference
from fairvlm_core.analysis.divergences import MEAN
from fairvlm_core.analysis.note_words import RareWord
from fairvlm_core.analysis.story import Front
from fairvlm_core.fairness import Outcome, PairedDifference, Undefined
from fairvlm_core.words import listed, many, number, points, points_span

from .charts import CONFIG
from .palette import INK

_TEMPLATE = Path(__file__).with_name("story.html")
# Outcome to: the whole sentence's start, and what is said of chance.
_STARTS = {
    Outcome.BETTER: "{b} serves the groups of {attribute} more equally than {a}.",
    Outcome.WORSE: "{b} serves the groups of {attribute} less equally than {a}.",
    Outcome.NO_RELIABLE_DIFFERENCE: "It is not clear whether {b} or {a} serves the groups of {attribute} more equally.",
    Outcome.NO_INTERVAL: "{b} and {a} cannot be told apart by {attribute}: there is no interval.",
}


def headline(found: MethodDifference, attribute: str) -> tuple[str, str]:
    """What came out, in one sentence, and the numbers behind it in another."""
    one = found.comparison.attributes[attribute]
    names = {"a": found.a.name, "b": found.b.name, "attribute": attribute}
    if one.outcome not in _STARTS:
        return f"ES-AUC by {attribute} is undefined for one of the methods.", _everyone(found)
    return _STARTS[one.outcome].format(**names), f"{_change('ES-AUC', one)} {_everyone(found)}"


def _everyone(found: MethodDifference) -> str:
    return _change("AUC of everyone", found.comparison.overall)


def _change(name: str, one: PairedDifference) -> str:
    if isinstance(one.difference, Undefined):
        return f"{name} is undefined."
    way = f"{name}: {number(float(one.a))} → {number(float(one.b))}"  # type: ignore[arg-type]
    if one.interval is None:
        return f"{way} ({points(one.difference)}, no interval)."
    said = "more than chance" if one.reliable else "may be chance"
    reach = points_span(one.interval.low, one.interval.high)
    size = f"{many(one.n_seeds, 'seed')}, n = {one.n:,}"
    return f"{way} ({points(one.difference)}, 95 % interval {reach}: {said}; {size})."


def group_line(found: MethodDifference, attribute: str) -> str:
    """The group whose AUC changes most, and whether that is more than chance."""
    known = {
        group: one
        for group, one in found.comparison.groups[attribute].items()
        if not isinstance(one.difference, Undefined) and one.interval is not None
    }
    if not known:
        return "No group has enough patients for an interval."
    group, one = max(known.items(), key=lambda item: abs(float(item[1].difference)))  # type: ignore[arg-type]
    way = "gains" if float(one.difference) > 0 else "loses"  # type: ignore[arg-type]
    return f"{group} {way} most. {_change('AUC', one)}"


def front_line(front: Front, attribute: str) -> str:
    """What rising λ does, from the smallest to the largest value."""
    first, last = front.points[0], front.points[-1]
    changes = []
    for name, at in ((f"ES-AUC by {attribute}", "es_auc"), ("AUC", "auc")):
        a, b = getattr(first, at).mean, getattr(last, at).mean
        changes.append(f"{name} {number(a)} → {number(b)}")
    seeds = f"seed {front.seeds[0]} only" if len(front.seeds) == 1 else many(len(front.seeds), "seed")
    way = f"From λ = {first.weight:g} to {last.weight:g}"
    return f"λ is the weight of the fairness term. {way}: {listed(changes)} ({seeds})."


def distance_line(band: pd.DataFrame, methods: Sequence[str]) -> str:
    """How far apart the groups' losses are at the end of training, by method."""
    parts = []
    for method in methods:
        part = band[(band["method"] == method) & (band["group"] == MEAN)]
        if len(part):
            first, last = part.iloc[0], part.iloc[-1]
            parts.append(
                f"{number(first['mean'], 2)} → {number(last['mean'], 2)} with {method} (epoch {int(first['epoch'])} to "
                f"{int(last['epoch'])})"
            )
    return f"Distance of the groups' losses above chance: {listed(parts)}. 0 is what chance gives."


def rare_line(found: Sequence[RareWord]) -> str:
    """Which words of a note do not fit its image.

    >>> rare_line([RareWord("healthy", 1, 60, 0.0004)])
    'Rare in the notes of the 60 most similar images (marked): healthy (1 of 60).'
    """
    if not found:
        return ""
    said = listed([f"{one.word} ({one.n} of {one.of})" for one in found[:4]])
    return f"Rare in the notes of the {found[0].of} most similar images (marked): {said}."


def story_html(
    title: str, lines: Sequence[str], sections: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]
) -> str:
    """The page as one file that needs no network; charts stay interactive.

    Parameters
    ----------
    title, lines
        The headline and what stands below it.
    sections
        ``title``, ``text`` and ``chart`` (a plotly figure) each.
    pairs
        ``title``, ``image`` (a ``data:`` address), ``note`` (pieces as from `note_words.marked`) and ``lines`` each.
    """
    world = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    drawn = [_html(section["chart"], place) for place, section in enumerate(sections)]
    charts = [Markup(one) for one in drawn]  # nosec B704: plotly writes <, > and / in texts as codes
    return world.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title, lines=lines, sections=list(zip(sections, charts, strict=True)), pairs=pairs,
        plotly=Markup(get_plotlyjs()),  # nosec B704: the library's own text
    )  # fmt: skip


def _html(chart: go.Figure, place: int) -> str:
    copy = go.Figure(chart)
    copy.update_layout(font_color=INK["light"], template="plotly_white")
    copy.layout.legend.font.color = INK["light"]
    for axis in (*copy.select_xaxes(), *copy.select_yaxes()):
        axis.tickfont.color = axis.title.font.color = INK["light"]
    return copy.to_html(
        full_html=False, include_plotlyjs=False, config=CONFIG | {"responsive": True}, div_id=f"chart-{place}",
        auto_play=False,
    )  # fmt: skip
