"""Charts of who is in a data set, and what all charts share: frames in, plotly figures out.

Text and grid take the page's theme; data take the palette.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairvlm_core.words import percent

from .palette import GRID, NEUTRAL, group_colours, group_symbols
from .words import chart_text

# No logo, no box and lasso on charts that select nothing; the camera saves locally (`widgets.chart`).
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}
ROW, HEADING = 26, 34
_HEAT = [[0.0, "rgba(46, 125, 166, 0.04)"], [1.0, "rgba(46, 125, 166, 0.55)"]]


def layout(chart: go.Figure, height: int, **more: Any) -> go.Figure:
    """The layout that all charts share; `more` goes to plotly's layout."""
    base = {"l": 8, "r": 16, "t": 34, "b": 40}
    chart.update_layout(height=height, margin=base | more.pop("margin", {}), hovermode="closest", **more)
    # One by one: plotly's update_xaxes takes five times as long, and a page has many charts.
    for axis in (*chart.select_xaxes(), *chart.select_yaxes()):
        axis.gridcolor, axis.zeroline, axis.title.font.size, axis.tickfont.size = GRID, False, 13, 12
    for axis in chart.select_yaxes():
        axis.automargin = True
    for note in chart.layout.annotations:
        note.font.size = 13
    return chart


def epoch_axis(chart: go.Figure, last: int) -> None:
    """Ticks at whole epochs, ten at most."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if last / step <= 10)
    chart.update_xaxes(dtick=step, tickformat="d")


def tick_format(values: Iterable[float], least: int = 2) -> str:
    """Plotly's format with so many decimals that no two of about seven ticks are the same; at least `least`.

    >>> tick_format([0.90, 0.93]), tick_format([0.9251, 0.9254]), tick_format([0.9])
    ('.3f', '.5f', '.2f')
    """
    known = np.asarray([value for value in values if np.isfinite(value)], float)
    spread = float(np.ptp(known)) if len(known) else 0.0
    return f".{max(least, math.ceil(-math.log10(spread / 7))) if spread > 0 else least}f"


def bars(
    middle: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, width: float = 2
) -> dict[str, Any]:
    """Plotly's form of an interval around a point: distances, never below zero; nothing where a bound is NaN."""
    middle, low, high = (np.asarray(v, float) for v in (middle, low, high))
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(np.maximum(high - middle, 0)),
        "arrayminus": np.nan_to_num(np.maximum(middle - low, 0)),
        "color": colour,
        "thickness": width,
        "width": 0,
    }


def group_chart(counts: pd.DataFrame) -> go.Figure:
    """How many there are of each group, and its label rate with an interval; one block an attribute.

    Parameters
    ----------
    counts
        As from `cohort.group_counts`.
    """
    attributes = list(dict.fromkeys(counts["attribute"]))
    sizes = [int((counts["attribute"] == name).sum()) for name in attributes]
    height = 76 + ROW * sum(sizes) + HEADING * max(len(attributes) - 1, 0)
    chart = make_subplots(
        rows=max(len(attributes), 1), cols=2, shared_yaxes=True, column_widths=[0.42, 0.58], row_heights=sizes or [1],
        horizontal_spacing=0.03, vertical_spacing=HEADING / (height - 50) if len(attributes) > 1 else 0.0,
    )  # fmt: skip
    overall = counts.groupby("attribute")["n_positive"].sum() / counts.groupby("attribute")["n"].sum()
    known = counts[["low", "high"]].to_numpy(float)
    near = [
        max(-0.02, float(np.nanmin(known, initial=0.4)) - 0.05),
        min(1.02, float(np.nanmax(known, initial=0.6)) + 0.05),
    ]
    for row, attribute in enumerate(attributes, start=1):
        part = counts[counts["attribute"] == attribute]
        colours, symbols = group_colours(part["group"]), group_symbols(part["group"])
        ink = [colours[group] for group in part["group"]]
        names = [chart_text(group) for group in part["group"]]
        facts = [
            f"<b>{name}</b><br>n = {n:,}, of {p:,} patients<br>positive {k:,}, {percent(rate, 1)} "
            f"({percent(a, 1)} to {percent(b, 1)})"
            for name, n, p, k, rate, a, b in zip(
                names, part["n"], part["patients"], part["n_positive"], part["rate"], part["low"], part["high"],
                strict=True,
            )
        ]  # fmt: skip
        chart.add_bar(
            y=names, x=part["n"], orientation="h", marker={"color": ink, "cornerradius": 2}, width=0.56,
            text=[f" {n:,} ({percent(share)})" for n, share in zip(part["n"], part["share"], strict=True)],
            textposition="outside", cliponaxis=False, hovertext=facts, hoverinfo="text", row=row, col=1,
        )  # fmt: skip
        # One trace a group: error bars take one colour a trace.
        for name, symbol, colour, (_, group), fact in zip(
            names, [symbols[g] for g in part["group"]], ink, part.iterrows(), facts, strict=True
        ):
            chart.add_scatter(
                x=[group["rate"]], y=[name], mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 10},
                error_x=bars([group["rate"]], [group["low"]], [group["high"]], colour),
                hovertext=[fact], hoverinfo="text", row=row, col=2,
            )  # fmt: skip
        if np.isfinite(overall[attribute]):
            chart.add_vline(overall[attribute], line={"color": NEUTRAL, "width": 1, "dash": "dot"}, row=row, col=2)  # type: ignore[arg-type]
        chart.add_annotation(
            text=f"<b>{chart_text(attribute)}</b>", x=0, xref="x domain", xanchor="left", y=1, yref="y domain",
            yanchor="bottom", yshift=1, showarrow=False, row=row, col=1,
        )  # fmt: skip
        chart.update_yaxes(range=[len(part) - 0.4, -0.6], showgrid=False, row=row)
        widest = max(int(counts["n"].max()), 1)
        chart.update_xaxes(range=[0, widest * 1.34], showgrid=False, showticklabels=False, row=row, col=1)
        last = row == len(attributes)
        chart.update_xaxes(range=near, tickformat=".0%", nticks=6, showticklabels=last, row=row, col=2)
    if attributes:
        chart.update_xaxes(title_text="Pairs", row=len(attributes), col=1)
        chart.update_xaxes(title_text="Label rate", row=len(attributes), col=2)
    return layout(chart, height, showlegend=False, margin={"t": 26, "b": 50})


def intersection_chart(cells: pd.DataFrame, first: str, second: str) -> go.Figure:
    """Heat map of two attributes: n and label rate in each cell, cells with fewer than 10 pairs in a dashed frame.

    Parameters
    ----------
    cells
        As from `cohort.intersections`; `first` runs down, `second` across.
    """
    down, across = list(dict.fromkeys(cells["first"])), list(dict.fromkeys(cells["second"]))
    grid = cells["n"].to_numpy().reshape(len(down), len(across))
    chart = go.Figure(
        go.Heatmap(
            z=np.sqrt(grid), x=list(range(len(across))), y=list(range(len(down))), colorscale=_HEAT, showscale=False,
            xgap=3, ygap=3, hoverinfo="skip",
        )
    )  # fmt: skip
    lines, facts = [], []
    for cell in cells.itertuples():
        rate = percent(cell.rate) if cell.n else ""
        lines.append(f"<b>{cell.n:,}</b>" + (f"<br>{rate}" if cell.n else ""))
        name = f"{chart_text(cell.first)} × {chart_text(cell.second)}"
        facts.append(f"<b>{name}</b><br>n = {cell.n:,}, positive {cell.n_positive:,}" + (f" ({rate})" if rate else ""))
    places = [(across.index(cell.second), down.index(cell.first)) for cell in cells.itertuples()]
    chart.add_scatter(
        x=[x for x, _ in places], y=[y for _, y in places], mode="text", text=lines, textfont_size=13,
        hovertext=facts, hoverinfo="text", showlegend=False,
    )  # fmt: skip
    for (x, y), small in zip(places, cells["small"], strict=True):
        if small:
            box = {"x0": x - 0.46, "x1": x + 0.46, "y0": y - 0.44, "y1": y + 0.44}
            chart.add_shape(type="rect", line={"color": "#D0452F", "width": 1.5, "dash": "dot"}, **box)
    chart.update_xaxes(
        tickvals=list(range(len(across))), ticktext=[chart_text(g, 22) for g in across], title_text=chart_text(second),
        showgrid=False, range=[-0.5, len(across) - 0.5],
    )  # fmt: skip
    chart.update_yaxes(
        tickvals=list(range(len(down))), ticktext=[chart_text(g, 22) for g in down], title_text=chart_text(first),
        showgrid=False, range=[len(down) - 0.5, -0.5],
    )  # fmt: skip
    return layout(chart, 90 + 58 * len(down), margin={"t": 8})
