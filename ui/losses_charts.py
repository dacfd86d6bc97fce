"""Charts of per-pair values: distributions by epoch with a slider and play, and quantile differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairvlm_core.analysis.loss_distributions import PROBABILITIES, Distribution, Distributions, QuantileShift
from fairvlm_core.words import many, number, span

from .charts import layout
from .palette import GRID, NEUTRAL, group_colours, group_symbols
from .words import chart_text

FRAME_MS = 450
_HEIGHT = 0.86  # of the highest density, as a share of the distance between two rows
ROW = 84


def rgba(colour: str, opacity: float) -> str:
    """
    >>> rgba("#0072B2", 0.5)
    'rgba(0,114,178,0.5)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def panels(heads: Sequence[str], gap: float) -> tuple[go.Figure, list[dict[str, int]], int]:
    """A chart with one panel for each heading on shared axes, the place of each panel, and the number of rows.

    >>> [max(place["col"] for place in panels(["x"] * n, 0.2)[1]) for n in (1, 2, 4, 5, 9)]
    [1, 2, 4, 3, 3]
    """
    columns = 4 if len(heads) == 4 else min(max(len(heads), 1), 3)
    rows = -(-max(len(heads), 1) // columns)
    chart = make_subplots(
        rows=rows, cols=columns, shared_xaxes="all", shared_yaxes="all", subplot_titles=heads or [""],
        horizontal_spacing=0.03, vertical_spacing=gap / rows if rows > 1 else 0.0,
    )  # fmt: skip
    return chart, [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(heads))], rows


def distribution_chart(found: Distributions, epoch: int, title: str) -> go.Figure:
    """A row for each group: its density filled, everyone's as an outline; small groups as single points. A frame an epoch.

    Parameters
    ----------
    found
        As from `loss_distributions.distributions`.
    epoch
        The one that is shown first.
    title
        Of the horizontal axis.
    """
    groups = found.rows[1:]
    colours, symbols = (spread([g.group for g in groups]) for spread in (group_colours, group_symbols))
    scale = _HEIGHT / max(float(row.density.max()) for row in found.rows if row.density is not None)
    start = found.epochs.index(epoch)
    chart = go.Figure()
    for place, row in enumerate(groups):
        colour = colours[row.group]
        outline, own, median = _lines(found, row, start, -place, scale)
        chart.add_scatter(
            **outline, mode="lines", line={"color": NEUTRAL, "width": 1.3, "dash": "dot"}, hoverinfo="skip",
            name="everyone", legendgroup="all", showlegend=place == 0,
        )  # fmt: skip
        if row.density is None:
            mark = {"color": colour, "symbol": symbols[row.group], "size": 9, "opacity": 0.85}
            chart.add_scatter(**own, mode="markers", marker=mark, hoverinfo="x", showlegend=False)
        else:
            chart.add_scatter(
                **own, mode="lines", line={"color": colour, "width": 1.8}, fill="toself", fillcolor=rgba(colour, 0.26),
                hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        chart.add_scatter(
            **median, mode="lines", line={"color": colour, "width": 2.4}, showlegend=False, hoverinfo="text",
            hovertext=f"<b>{chart_text(row.group)}</b><br>{many(row.n, 'pair')}, median {number(row.median[start])}",
        )  # fmt: skip
    names = [f"e{value}" for value in found.epochs]
    chart.frames = [
        go.Frame(
            name=name,
            data=[go.Scatter(**p) for place, row in enumerate(groups) for p in _lines(found, row, e, -place, scale)],
        )
        for e, name in enumerate(names)
    ]
    # n stands beside every row, not only on hover
    ticks = [f"{chart_text(g.group, 22)}<br><span style='opacity:.9'>n = {g.n:,}</span>" for g in groups]
    chart.update_yaxes(
        tickvals=[-place + 0.16 for place in range(len(groups))], ticktext=ticks, range=[-len(groups) + 0.86, 1.02],
        showgrid=False, fixedrange=True,
    )  # fmt: skip
    chart.update_xaxes(title_text=chart_text(title), range=[float(found.grid[0]), float(found.grid[-1])])
    if len(names) > 1:
        chart.update_layout(**_player(names, found.epochs, start))
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    bottom = 176 if len(names) > 1 else 46
    return layout(chart, ROW * len(groups) + 46 + bottom, legend=legend, margin={"t": 30, "b": bottom})


def _lines(found: Distributions, row: Distribution, e: int, base: float, scale: float) -> list[dict[str, Any]]:
    """Everyone's outline, the group's own line or points, and its median, as plotly's x and y."""

    def heights(density: np.ndarray) -> np.ndarray:
        return (base + scale * density[e]).astype(np.float32)

    grid = found.grid.astype(np.float32)
    everyone = found.rows[0].density
    assert everyone is not None
    if row.density is not None:
        own = {"x": np.pad(grid, 1, "edge"), "y": np.pad(heights(row.density), 1, constant_values=base)}
        top = scale * float(np.interp(row.median[e], found.grid, row.density[e]))
    else:
        assert row.points is not None
        own, top = {"x": row.points[e], "y": np.full(row.n, base + 0.06)}, 0.2
    middle = round(float(row.median[e]), 4)
    outline = {"x": grid, "y": heights(everyone)}
    return [outline, own, {"x": [middle, middle], "y": [base, round(base + top, 4)]}]


def _player(names: Sequence[str], epochs: Sequence[int], start: int) -> dict[str, Any]:
    """Play, pause and a slider; the frames are in the page, so moving through them needs no request to the server."""
    at_once = {"frame": {"duration": 0, "redraw": False}, "mode": "immediate", "transition": {"duration": 0}}
    play = {
        "frame": {"duration": FRAME_MS, "redraw": False},
        "fromcurrent": True,
        "transition": {"duration": FRAME_MS // 2, "easing": "linear"},
    }
    steps = [
        {"label": str(epoch), "method": "animate", "args": [[name], at_once]}
        for name, epoch in zip(names, epochs, strict=True)
    ]
    slider = {
        "active": start, "x": 0.0, "len": 1.0, "y": 0, "pad": {"t": 88, "b": 4}, "steps": steps,
        "currentvalue": {"prefix": "Epoch ", "xanchor": "left", "font": {"size": 14}},
        "bordercolor": NEUTRAL, "bgcolor": GRID, "activebgcolor": NEUTRAL, "tickcolor": NEUTRAL, "minorticklen": 3,
    }  # fmt: skip
    buttons = {
        "type": "buttons", "direction": "left", "x": 0, "xanchor": "left", "y": 0, "yanchor": "top",
        "pad": {"t": 44, "l": 0}, "showactive": False, "bgcolor": "rgba(128,136,148,0.18)",
        "bordercolor": "rgba(128,136,148,0.45)",
        "buttons": [
            {"label": "▶ Play", "method": "animate", "args": [None, play]},
            {"label": "❚❚", "method": "animate", "args": [[None], at_once]},
        ],
    }  # fmt: skip
    return {"sliders": [slider], "updatemenus": [buttons]}


def quantile_chart(shifts: Sequence[QuantileShift], title: str) -> go.Figure:
    """A panel for each group: its quantile minus everyone's at each probability with a band, and a line at zero."""
    shown = [s for s in shifts if s.shift is not None]
    colours = group_colours([s.group for s in shifts])
    chart, places, rows = panels([f"<b>{chart_text(s.group, 26)}</b>  n = {s.n:,}" for s in shown], 0.2)
    percents = (100 * PROBABILITIES).round(1)
    for s, place in zip(shown, places, strict=True):
        colour = colours[s.group]
        chart.add_scatter(
            x=np.append(percents, percents[::-1]), y=np.append(s.high, s.low[::-1]), fill="toself",
            fillcolor=rgba(colour, 0.2), line={"width": 0}, mode="lines", hoverinfo="skip", **place,
        )  # fmt: skip
        facts = [
            f"<b>{chart_text(s.group)}</b>, {p:g} % quantile<br>{number(v)} ({span(low, high)})"
            for p, v, low, high in zip(percents, s.shift, s.low, s.high, strict=True)
        ]
        chart.add_scatter(
            x=percents, y=s.shift, mode="lines", line={"color": colour, "width": 2.2}, hovertext=facts, hoverinfo="text",
            **place,
        )  # fmt: skip
        chart.add_hline(0, line={"color": NEUTRAL, "width": 1.2, "dash": "dot"}, **place)  # type: ignore[arg-type]
    chart.update_xaxes(range=[0, 100], tickvals=[0, 25, 50, 75, 100])
    chart.update_xaxes(title_text="Quantile (%)", row=rows)
    farthest = max((float(np.abs([s.low, s.high]).max()) for s in shown), default=1.0)
    chart.update_yaxes(range=[-1.05 * farthest, 1.05 * farthest])
    chart.update_yaxes(title_text=chart_text(title, 60), col=1)
    return layout(chart, 60 + 230 * rows, showlegend=False, margin={"t": 30, "b": 46})
