"""Charts that compare methods: AUC by group, ES-AUC with its chance level, paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fairvlm_core.words import number, points, span, undefined

from .charts import bars, epoch_axis, layout
from .palette import ACCENT, NEUTRAL, group_colours, group_symbols, method_marks
from .words import chart_text


def group_auc_chart(values: pd.DataFrame, attribute: str) -> go.Figure:
    """AUC by method and group with intervals; a block per method, a row per group, a line at the AUC of everyone.

    Parameters
    ----------
    values
        As from `compare.group_values`.
    attribute
        Its name, for the title of the axis.
    """
    methods = list(dict.fromkeys(values["method"]))
    groups = list(dict.fromkeys(values.loc[values["group"] != "", "group"]))
    colours, symbols = group_colours(groups), group_symbols(groups)
    chart = go.Figure()
    step = 1.0
    block = step * (len(groups) + 0.9)
    known = values[["low", "high", "value"]].to_numpy(float)
    low, high = np.nanmin(known, initial=1.0), np.nanmax(known, initial=0.5)
    left, right = max(0.0, np.floor((low - 0.02) * 20) / 20), min(1.0, np.ceil((high + 0.01) * 20) / 20)
    ticks, names, shown = [], [], set()
    for m, method in enumerate(methods):
        part = values[values["method"] == method].set_index("group")
        top = m * block
        everyone = part.loc[""] if "" in part.index else None
        if everyone is not None and np.isfinite(everyone["value"]):
            chart.add_scatter(
                x=[everyone["value"]] * 2, y=[top - 0.55, top + (len(groups) - 1) * step + 0.55], mode="lines",
                line={"color": NEUTRAL, "width": 1.5, "dash": "dot"}, name="everyone", showlegend=m == 0,
                hovertext=f"<b>{chart_text(method)}, everyone</b><br>AUC {number(everyone['value'])}", hoverinfo="text",
            )  # fmt: skip
        for g, group in enumerate(groups):
            y = top + g * step
            if group not in part.index:
                continue
            row = part.loc[group]
            counts = (int(row["n_positive"]), int(row["n_negative"]))
            ticks.append(y)
            names.append(
                f"{chart_text(group, 22)}  <span style='opacity:.9'>n+ {counts[0]:,} · n− {counts[1]:,}</span>"
            )
            first = group not in shown
            shown.add(group)
            if not np.isfinite(row["value"]):
                chart.add_annotation(x=left, y=y, text=undefined(*counts), showarrow=False, xanchor="left", xshift=4)
                continue
            fact = (
                f"<b>{chart_text(method)}, {chart_text(group)}</b><br>AUC {number(row['value'])} "
                f"({span(row['low'], row['high'])})<br>n+ = {counts[0]}, n− = {counts[1]}, runs: {int(row['n_runs'])}"
            )
            chart.add_scatter(
                x=[row["value"]], y=[y], mode="markers", name=chart_text(group), legendgroup=group, showlegend=first,
                marker={"color": colours[group], "symbol": symbols[group] + open_mark(row["low"]), "size": 10},
                error_x=bars([row["value"]], [row["low"]], [row["high"]], colours[group]),
                hovertext=[fact], hoverinfo="text",
            )  # fmt: skip
        _heading(chart, top - 0.78 * step, chart_text(method, 60))
    chart.update_yaxes(
        tickvals=ticks, ticktext=names, showgrid=False, range=[max(len(methods), 1) * block - 0.9 * step, -1.25 * step]
    )
    title = f"Test AUC by {chart_text(attribute)}, 95 % interval; open: too few for one"
    chart.update_xaxes(range=[left, right], tickformat=".2f", title_text=title)
    return layout(chart, 90 + int(27 * block * max(len(methods), 1)), showlegend=False, margin={"t": 6})


def es_auc_chart(values: pd.DataFrame) -> go.Figure:
    """ES-AUC by attribute and method with its interval and its chance level.

    Parameters
    ----------
    values
        As from `compare.es_auc_values`.
    """
    attributes = list(dict.fromkeys(values["attribute"]))
    methods = list(dict.fromkeys(values["method"]))
    block, marks = len(methods) + 0.9, method_marks(methods)
    chart = go.Figure()
    ticks, names = [], []
    for a, attribute in enumerate(attributes):
        part = values[values["attribute"] == attribute].set_index("method")
        for m, method in enumerate(methods):
            if method not in part.index:
                continue
            row, y = part.loc[method], a * block + m
            ticks.append(y)
            names.append(chart_text(method, 40))
            if not np.isfinite(row["value"]):
                continue
            fact = (
                f"<b>{chart_text(attribute)}, {chart_text(method)}</b><br>ES-AUC {number(row['value'])} "
                f"({span(row['low'], row['high'])})<br>if groups did not matter: {number(row['chance'])}"
            )
            chart.add_scatter(
                x=[row["value"]], y=[y], mode="markers", marker={"color": marks[method][0], "size": 10},
                error_x=bars([row["value"]], [row["low"]], [row["high"]], marks[method][0]), hovertext=[fact],
                hoverinfo="text", showlegend=False,
            )  # fmt: skip
            if np.isfinite(row["chance"]):
                chart.add_scatter(
                    x=[row["chance"]], y=[y], mode="markers", hovertext=[fact], hoverinfo="text", legendgroup="c",
                    marker={"symbol": "line-ns", "size": 16, "line": {"color": NEUTRAL, "width": 2.5}},
                    name="expected if groups did not matter", showlegend=not (a or m),
                )  # fmt: skip
        _heading(chart, a * block - 0.78, chart_text(attribute))
    chart.update_yaxes(
        tickvals=ticks, ticktext=names, showgrid=False, range=[max(len(attributes), 1) * block - 0.9, -1.25]
    )
    chart.update_xaxes(title_text="Test ES-AUC, 95 % interval", tickformat=".2f")
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    return layout(chart, 120 + int(29 * block * max(len(attributes), 1)), legend=legend)


def epochs_chart(values: pd.DataFrame, methods: Sequence[str], attribute: str) -> go.Figure:
    """Validation ES-AUC over epochs: a line a method in its colour; whiskers go from the smallest to the largest seed.

    Parameters
    ----------
    values
        As from `divergences.validation_es_auc`.
    methods
        All compared methods in their order.
    """
    marks = method_marks(methods)
    chart = go.Figure()
    for method in methods:
        part = values[values["method"] == method]
        colour, symbol, dash = marks[method]
        chart.add_scatter(
            x=part["epoch"], y=part["mean"], mode="lines+markers", name=chart_text(method, 60),
            line={"color": colour, "width": 2.2, "dash": dash}, marker={"symbol": symbol, "size": 7},
            error_y=bars(part["mean"], part["low"], part["high"], colour, 1),
            hovertemplate="epoch %{x}: %{y:.3f}",
        )  # fmt: skip
    epoch_axis(chart, int(values["epoch"].max()))
    chart.update_xaxes(title_text="Epoch")
    chart.update_yaxes(title_text=f"Validation ES-AUC, {chart_text(attribute)}", tickformat=".2f")
    return layout(chart, 340, legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}, margin={"t": 40})


def difference_chart(differences: pd.DataFrame, first: str, second: str) -> go.Figure:
    """Paired differences in percentage points with their intervals, and a line at zero.

    Parameters
    ----------
    differences
        As from `compare.difference_values`.
    """
    chart = go.Figure()
    ticks, names, ends, y, block = [], [], [-0.01, 0.01], -1.0, None
    for row in differences.itertuples():
        heading = f"AUC by {row.attribute}" if row.group else "Everyone and all groups together"
        y += 1.0
        if heading != block:
            y += 0.0 if block is None else 0.9
            _heading(chart, y - 0.78, chart_text(heading, 60))
            block = heading
        ticks.append(y)
        names.append(chart_text(row.group or row.measure, 40))
        if not np.isfinite(row.difference):
            text = undefined(row.n_positive, row.n_negative) if row.group else "undefined"
            chart.add_annotation(x=0, y=y, text=text, showarrow=False, xanchor="left", xshift=8)
            continue
        peers = differences.loc[(differences["attribute"] == row.attribute) & (differences["group"] != ""), "group"]
        colour = group_colours(peers)[row.group] if row.group else ACCENT
        symbol = group_symbols(peers)[row.group] if row.group else "circle"
        fact = (
            f"<b>{chart_text(row.measure)}</b><br>{points(row.difference)} ({points(row.low)} to {points(row.high)})"
            f"<br>n+ = {row.n_positive}, n− = {row.n_negative}"
        )
        chart.add_scatter(
            x=[100 * row.difference], y=[y], mode="markers",
            marker={"color": colour, "symbol": symbol + open_mark(row.low), "size": 10},
            error_x=bars([100 * row.difference], [100 * row.low], [100 * row.high], colour), hovertext=[fact],
            hoverinfo="text",
        )  # fmt: skip
        if open_mark(row.low):
            text = f"no interval (n+ = {row.n_positive}, n− = {row.n_negative})"
            chart.add_annotation(x=100 * row.difference, y=y, text=text, showarrow=False, xanchor="left", xshift=10)
        ends += [value for value in (row.low, row.high, row.difference) if np.isfinite(value)]
    low, high = 100 * min(ends), 100 * max(ends)
    edge = 0.06 * (high - low)
    chart.add_vline(0, line={"color": NEUTRAL, "width": 1.5})
    chart.update_xaxes(
        range=[low - edge, high + edge], ticksuffix=" pp",
        title_text=f"◂ {chart_text(first, 30)} better     95 % interval     {chart_text(second, 30)} better ▸",
    )  # fmt: skip
    chart.update_yaxes(tickvals=ticks, ticktext=names, showgrid=False, range=[y + 0.6, -1.25])
    return layout(chart, 80 + int(26 * (y + 2)), showlegend=False, margin={"t": 6, "b": 54})


def open_mark(low: float) -> str:
    """An open marker is a value without an interval.

    >>> open_mark(0.8), open_mark(float("nan"))
    ('', '-open')
    """
    return "" if np.isfinite(low) else "-open"


def _heading(chart: go.Figure, y: float, text: str) -> None:
    """The heading of a block of rows."""
    chart.add_annotation(x=0, xref="paper", xanchor="left", y=y, text=f"<b>{text}</b>", showarrow=False)
