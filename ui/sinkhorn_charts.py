"""Charts of the divergence: over training by group and method, and against ES-AUC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fairvlm_core.analysis.divergences import MEAN, groups_of
from fairvlm_core.words import many, number, span

from .charts import bars, epoch_axis, layout
from .losses_charts import panels, rgba
from .palette import NEUTRAL, group_colours, method_marks
from .words import chart_text

_LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}


def divergence_chart(band: pd.DataFrame, title: str, *, logarithmic: bool) -> go.Figure:
    """A panel for each group, the mean over groups first: a line for each method in the group's colour, seeds as a band.

    The dotted line at 0 is the level by chance.

    Parameters
    ----------
    band
        As from `divergences.bands`.
    """
    groups, methods = groups_of(band), list(dict.fromkeys(band["method"]))
    colours = {MEAN: NEUTRAL} | group_colours([g for g in groups if g != MEAN])
    sizes = band.groupby("group")["n"].first()
    heads = [f"<b>{chart_text(g, 20)}</b><br>n = {sizes[g]:,}" if g else "<b>All groups</b><br>mean" for g in groups]
    chart, places, rows = panels(heads, 0.2)
    for method in methods:  # the legend explains the dashes without a colour of any group
        chart.add_scatter(
            x=[None], y=[None], mode="lines", name=chart_text(method, 60), legendgroup=method,
            line={"color": NEUTRAL, "width": 2.2, "dash": method_marks(methods)[method][2]}, row=1, col=1,
        )  # fmt: skip
    for group, place in zip(groups, places, strict=True):
        for method in methods:
            part = band[(band["method"] == method) & (band["group"] == group)]
            if logarithmic:
                part = part[part["low"] > 0]
            if part.empty:
                continue
            colour, dash = colours[group], method_marks(methods)[method][2]
            if (part["n_runs"] > 1).any():
                chart.add_scatter(
                    x=[*part["epoch"], *part["epoch"][::-1]], y=[*part["high"], *part["low"][::-1]], fill="toself",
                    fillcolor=rgba(colour, 0.16), line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False,
                    legendgroup=method, **place,
                )  # fmt: skip
            facts = [
                f"<b>{chart_text(method, 60)}</b>, {chart_text(group) or 'mean over groups'}<br>epoch {row.epoch}: "
                f"{number(row.mean, 4)} ({span(row.low, row.high, 4)}; {many(row.n_runs, 'seed')})"
                f"<br>level by chance: {number(row.chance, 4)}"
                for row in part.itertuples()
            ]
            chart.add_scatter(
                x=part["epoch"], y=part["mean"], mode="lines+markers", marker={"size": 5},
                line={"color": colour, "width": 2.2, "dash": dash}, hovertext=facts, hoverinfo="text", showlegend=False,
                legendgroup=method, **place,
            )  # fmt: skip
    chart.update_yaxes(type="log" if logarithmic else "linear", exponentformat="power", nticks=6)
    if not logarithmic:
        chart.update_yaxes(rangemode="tozero")
        chart.add_hline(0, line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    chart.update_yaxes(title_text=chart_text(title, 60), col=1)
    epoch_axis(chart, int(band["epoch"].max()) if len(band) else 1)
    chart.update_xaxes(title_text="Epoch", row=rows)
    legend = {"orientation": "h", "x": 0, "y": 0.99, "yanchor": "top", "yref": "container"}
    return layout(chart, 124 + 230 * rows, legend=legend, margin={"t": 92, "b": 46})


def path_chart(walked: pd.DataFrame, quantity: str) -> go.Figure:
    """Divergence against validation ES-AUC: a path for each run, open at its first epoch, a star at the selected one."""
    methods = list(dict.fromkeys(walked["method"]))
    marks = method_marks(methods)
    chart = go.Figure()
    for i, (run, part) in enumerate(walked.groupby("run", sort=False)):
        method = part["method"].iloc[0]
        colour, _, dash = marks[method]
        first = i == list(walked.drop_duplicates("run")["method"]).index(method)
        facts = [
            f"<b>{chart_text(run)}</b>, epoch {row.epoch}{' (selected)' if row.chosen else ''}<br>divergence "
            f"{number(row.divergence, 4)}, validation ES-AUC {number(row.es_auc)}"
            for row in part.itertuples()
        ]
        sizes = [15 if chosen else 8 for chosen in part["chosen"]]
        shapes = ["star" if c else "circle-open" if k == 0 else "circle" for k, c in enumerate(part["chosen"])]
        chart.add_scatter(
            x=part["divergence"], y=part["es_auc"], mode="lines+markers", name=chart_text(method, 60), legendgroup=method,
            showlegend=first, line={"color": rgba(colour, 0.55), "width": 1.6, "dash": dash}, hovertext=facts,
            hoverinfo="text", marker={"color": colour, "size": sizes, "symbol": shapes, "line": {"width": 1.5}},
        )  # fmt: skip
    chart.update_xaxes(title_text=_axis(quantity), rangemode="tozero")
    chart.update_yaxes(title_text="Validation ES-AUC", tickformat=".2f")
    return layout(chart, 400, legend=_LEGEND, margin={"t": 58, "b": 46})


def end_chart(end: pd.DataFrame, quantity: str, methods: Sequence[str]) -> go.Figure:
    """Divergence at the selected epoch against test ES-AUC with its interval, a point a run; a tick at the chance level.

    `methods` are those of `path_chart`, so that a method has the same mark in both.
    """
    marks = method_marks(methods)
    chart = go.Figure()
    for method in methods:
        part = end[end["method"] == method]
        colour, symbol, _ = marks[method]
        facts = [
            f"<b>{chart_text(row.run)}</b><br>divergence {number(row.divergence, 4)}, test ES-AUC {number(row.es_auc)} "
            f"({span(row.low, row.high)})<br>chance level: {number(row.chance)}, n = {row.n:,}"
            for row in part.itertuples()
        ]
        chart.add_scatter(
            x=part["divergence"], y=part["es_auc"], mode="markers", name=chart_text(method, 60), hovertext=facts,
            hoverinfo="text", marker={"color": colour, "symbol": symbol, "size": 11},
            error_y=bars(part["es_auc"], part["low"], part["high"], rgba(colour, 0.6)),
        )  # fmt: skip
    known = end[np.isfinite(end["chance"].astype(float))]
    if len(known):
        chart.add_scatter(
            x=known["divergence"], y=known["chance"], mode="markers", name="chance level", hoverinfo="skip",
            marker={"symbol": "line-ew", "size": 14, "line": {"color": NEUTRAL, "width": 2.5}},
        )  # fmt: skip
    chart.update_xaxes(title_text=_axis(quantity), rangemode="tozero")
    chart.update_yaxes(title_text="Test ES-AUC, 95 % interval", tickformat=".2f")
    return layout(chart, 400, legend=_LEGEND, margin={"t": 58, "b": 46})


def _axis(quantity: str) -> str:
    return f"Divergence above chance, mean over groups ({quantity}²)"
