"""Charts of the Story page, in large type: groups before and after, the trade-off with a slider for λ, distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairvlm_core.analysis.comparison import MethodValue
from fairvlm_core.analysis.divergences import MEAN
from fairvlm_core.analysis.story import Front
from fairvlm_core.words import many, number, span, undefined

from .charts import bars, epoch_axis, layout, tick_format
from .losses_charts import rgba
from .palette import ACCENT, GRID, NEUTRAL, group_colours, method_marks
from .words import chart_text

_LARGE = 17
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": _LARGE}}
CHANCE = 0.5


def _large(chart: go.Figure, height: int, **more: Any) -> go.Figure:
    layout(chart, height, **more)
    chart.update_layout(font_size=_LARGE)
    for axis in (*chart.select_xaxes(), *chart.select_yaxes()):
        axis.title.font.size, axis.tickfont.size = _LARGE, _LARGE - 2
    for note in chart.layout.annotations:
        note.font.size = _LARGE
    return chart


def before_after_chart(values: Sequence[pd.DataFrame], attribute: str) -> go.Figure:
    """AUC of every group as bars from 0.5 (chance), one bar a method with its 95 % interval.

    Parameters
    ----------
    values
        As from `compare.group_values`, of one method each: the reference first.
    """
    methods = [str(frame["method"].iat[0]) for frame in values]
    marks = method_marks(methods)
    chart = go.Figure()
    low = CHANCE
    for method, frame in zip(methods, values, strict=True):
        colour = marks[method][0]
        known = frame["value"].notna()
        names = [
            f"<b>{chart_text(row.group or 'everyone', 18)}</b><br>n = {row.n_positive + row.n_negative:,}"
            for row in frame.itertuples()
        ]
        low = min(low, float(np.nanmin(frame[["low", "value"]].to_numpy(float), initial=low)))
        chart.add_bar(
            x=names, y=frame["value"] - CHANCE, base=CHANCE, name=chart_text(method, 60),
            marker={"color": colour, "cornerradius": 3}, error_y=bars(frame["value"], frame["low"], frame["high"], NEUTRAL),
            offsetgroup=method,
            hovertext=[
                f"<b>{chart_text(method, 60)}</b>, {chart_text(row.group or 'everyone')}<br>"
                + (
                    f"AUC {number(row.value)} ({span(row.low, row.high)})"
                    if np.isfinite(row.value) else undefined(row.n_positive, row.n_negative)
                )
                for row in frame.itertuples()
            ],
            hoverinfo="text",
        )  # fmt: skip
        chart.add_scatter(  # above the interval, which would cross a text in a low bar
            x=names, y=frame["high"].fillna(frame["value"]).fillna(CHANCE), mode="text", offsetgroup=method,
            text=[number(v, 2) if k else "undefined" for v, k in zip(frame["value"], known, strict=True)],
            textposition="top center", textfont_size=_LARGE - 1, showlegend=False, hoverinfo="skip", cliponaxis=False,
        )  # fmt: skip
    chart.add_hline(CHANCE, line={"color": NEUTRAL, "width": 1.5, "dash": "dot"})
    chart.update_yaxes(
        range=[max(0.0, low - 0.03), 1.03],
        tickvals=np.arange(11) / 10,
        tickformat=".1f",
        title_text="Test AUC (0.5 is chance)",
    )
    chart.update_xaxes(showgrid=False, title_text=f"Groups of {chart_text(attribute)}; bars: 95 % interval")
    return _large(
        chart, 430, barmode="group", bargap=0.28, bargroupgap=0.06, scattermode="group", scattergap=0.28,
        legend=_LEGEND, margin={"t": 48, "b": 60},
    )  # fmt: skip


def front_chart(front: Front, attribute: str, start: int) -> go.Figure:
    """Left: AUC against ES-AUC, a point for each λ. Right: AUC, ES-AUC and every group. A slider moves both to one λ.

    Parameters
    ----------
    start
        Place of the λ that is shown first.
    """
    groups = list(front.points[0].groups)
    chart = make_subplots(cols=2, column_widths=[0.46, 0.54], horizontal_spacing=0.09)
    x, y = ([_mean(getattr(p, at)) for p in front.points] for at in ("auc", "es_auc"))
    chart.add_scatter(
        x=x, y=y, mode="lines+markers+text", text=[f"    λ {p.weight:g}" for p in front.points], cliponaxis=False,
        textposition="middle right", textfont={"size": _LARGE}, marker={"size": 11, "color": ACCENT},
        line={"color": ACCENT, "width": 2}, hovertext=[f"λ = {p.weight:g}: AUC {number(a)}, ES-AUC {number(b)}"
        for p, a, b in zip(front.points, x, y, strict=True)], hoverinfo="text", showlegend=False, row=1, col=1,
    )  # fmt: skip
    moving = [_moving(front, place, groups, x, y) for place in range(len(front.points))]
    chart.add_scatter(
        **moving[start][0], mode="markers", hoverinfo="skip", showlegend=False, row=1, col=1,
        marker={"size": 26, "symbol": "circle-open", "color": ACCENT, "line": {"width": 4}},
    )  # fmt: skip
    colours = group_colours(groups)
    inks = [ACCENT, ACCENT, *(colours[group] for group in groups)]
    for one, ink in zip(moving[start][1:], inks, strict=True):
        chart.add_bar(
            **one, orientation="h", base=CHANCE, width=0.44, marker={"color": ink, "cornerradius": 3}, showlegend=False,
            textposition="inside", insidetextanchor="start", constraintext="none",
            textfont={"color": "white", "size": _LARGE - 1}, hoverinfo="skip", row=1, col=2,
        )  # fmt: skip
    chart.frames = [
        go.Frame(
            name=f"w{place}", traces=list(range(1, len(data) + 1)),
            data=[go.Scatter(**data[0]), *(go.Bar(**one) for one in data[1:])],
        )
        for place, data in enumerate(moving)
    ]  # fmt: skip
    at_once = {"frame": {"duration": 0, "redraw": True}, "mode": "immediate", "transition": {"duration": 0}}
    steps = [
        {"label": f"{p.weight:g}", "method": "animate", "args": [[f"w{place}"], at_once]}
        for place, p in enumerate(front.points)
    ]
    slider = {
        "active": start, "x": 0.0, "len": 1.0, "y": 0, "pad": {"t": 66, "b": 4}, "steps": steps,
        "currentvalue": {"prefix": "λ = ", "xanchor": "left", "font": {"size": _LARGE + 3}}, "font": {"size": _LARGE},
        "bordercolor": NEUTRAL, "bgcolor": GRID, "activebgcolor": NEUTRAL, "tickcolor": NEUTRAL, "minorticklen": 0,
    }  # fmt: skip
    for update, title, values in (
        (chart.update_xaxes, "Test AUC", x), (chart.update_yaxes, f"ES-AUC, {chart_text(attribute, 20)}", y)
    ):  # fmt: skip
        update(title_text=title, tickformat=tick_format(_wide(values)), nticks=5, range=_wide(values), row=1, col=1)
    lows = [m.mean for p in front.points for m in (p.auc, p.es_auc, *p.groups.values()) if m.mean is not None]
    chart.update_xaxes(range=[min([CHANCE, *lows]) - 0.02, 1.0], tickformat=".1f", row=1, col=2)
    chart.update_xaxes(title_text="Test metric, from 0.5 (chance)", row=1, col=2)
    chart.update_yaxes(autorange="reversed", showgrid=False, showticklabels=False, row=1, col=2)
    for one in moving[start][1:]:  # names above the bars: beside them they would lie over the other chart
        chart.add_annotation(
            x=CHANCE, y=one["y"][0], text=one["y"][0], xanchor="left", yanchor="bottom", yshift=11, showarrow=False,
            row=1, col=2,
        )  # fmt: skip
    return _large(chart, 400 + 26 * len(groups), sliders=[slider], barmode="overlay", margin={"t": 12, "b": 130})


def _moving(front: Front, place: int, groups: Sequence[str], x: Sequence[float], y: Sequence[float]) -> list[dict]:
    """What the slider changes: the ring, then a bar for AUC, ES-AUC and each group."""
    point = front.points[place]
    rows = [("AUC, everyone", point.auc), ("ES-AUC", point.es_auc), *((g, point.groups[g]) for g in groups)]
    bars_of = [
        {
            "x": [_mean(value) - CHANCE], "y": [f"<b>{chart_text(name, 18)}</b>" if i < 2 else chart_text(name, 18)],
            "text": [number(value.mean, 3)],
        }
        for i, (name, value) in enumerate(rows)
    ]  # fmt: skip
    return [{"x": [x[place]], "y": [y[place]]}, *bars_of]


def _mean(value: MethodValue) -> float:
    return np.nan if value.mean is None else value.mean


def _wide(values: Sequence[float]) -> list[float]:
    """The range of the values with room for names at the points."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(0.35 * (high - low), 0.004)
    return [low - room, high + 1.6 * room]


def distance_chart(band: pd.DataFrame, methods: Sequence[str], unit: str) -> go.Figure:
    """Distance above chance by epoch, mean over groups: a line a method, its seeds as a band, chance at 0.

    Parameters
    ----------
    band
        As from `divergences.bands`.
    """
    marks = method_marks(methods)
    chart = go.Figure()
    for method in methods:
        part = band[(band["method"] == method) & (band["group"] == MEAN)]
        colour, symbol, dash = marks[method]
        if (part["n_runs"] > 1).any():
            chart.add_scatter(
                x=[*part["epoch"], *part["epoch"][::-1]], y=[*part["high"], *part["low"][::-1]], fill="toself",
                mode="lines", fillcolor=rgba(colour, 0.18), line={"width": 0}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        chart.add_scatter(
            x=part["epoch"], y=part["mean"], mode="lines+markers", name=chart_text(method, 60),
            line={"color": colour, "width": 3.5, "dash": dash}, marker={"size": 10, "symbol": symbol},
            hovertext=[f"epoch {r.epoch}: {number(r.mean, 3)} ({many(r.n_runs, 'seed')})" for r in part.itertuples()],
            hoverinfo="text",
        )  # fmt: skip
    chart.add_hline(0, line={"color": NEUTRAL, "width": 1.5, "dash": "dot"})
    chart.update_yaxes(title_text=f"Above chance ({unit})", rangemode="tozero")
    epoch_axis(chart, int(band["epoch"].max()) if len(band) else 1)
    chart.update_xaxes(title_text="Epoch")
    return _large(chart, 380, legend=_LEGEND, margin={"t": 48, "b": 56})
