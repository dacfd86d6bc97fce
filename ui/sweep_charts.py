"""The chart of a sweep: trials by two validation metrics, and the Pareto front."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from fairvlm_core.words import many, number, span

from .charts import bars, layout
from .losses_charts import rgba
from .palette import ACCENT, NEUTRAL
from .words import chart_text

_NAMED = 4
_LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}


def front_chart(points: pd.DataFrame, x: str, y: str, *, stepped: bool) -> go.Figure:
    """A point a trial, its number in customdata; trials on the front are filled, the others hollow.

    Parameters
    ----------
    points
        As from `Sweep.points`.
    x, y
        Titles of the axes.
    stepped
        Join the front by a stepped line; for two objectives only.
    """
    chart = go.Figure()
    if stepped:
        front = points[points["front"]].sort_values("x")
        chart.add_scatter(
            x=front["x"], y=front["y"], mode="lines", hoverinfo="skip", name="front",
            line={"color": NEUTRAL, "width": 1.6, "dash": "dot", "shape": "vh"},
        )  # fmt: skip
    for on_front, name, symbol in ((False, "not on the front", "circle-open"), (True, "on the front", "circle")):
        part = points[points["front"] == on_front]
        facts = [
            f"<b>trial {row.trial}</b>, {many(row.n_seeds, 'seed')}<br>{chart_text(x)} {number(row.x)} "
            f"({span(row.x_low, row.x_high)})<br>{chart_text(y)} {number(row.y)} ({span(row.y_low, row.y_high)})<br>"
            f"{chart_text(row.settings, 90)}"
            for row in part.itertuples()
        ]
        faint = rgba(ACCENT, 0.45)
        chart.add_scatter(
            x=part["x"], y=part["y"], mode="markers+text", name=name, text=_labels(part), textposition="top left",
            customdata=part["trial"].tolist(), hovertext=facts, hoverinfo="text", cliponaxis=False,
            marker={"size": 12, "symbol": symbol, "color": ACCENT, "line": {"width": 2}},
            error_x=bars(part["x"], part["x_low"], part["x_high"], faint, 1.2),
            error_y=bars(part["y"], part["y_low"], part["y_high"], faint, 1.2),
        )  # fmt: skip
    chart.update_xaxes(title_text=f"Validation {chart_text(x, 60)}", tickformat=".3f", nticks=7)
    chart.update_yaxes(title_text=f"Validation {chart_text(y, 60)}", tickformat=".3f")
    return layout(chart, 430, legend=_LEGEND, clickmode="event+select", margin={"t": 40, "b": 46, "r": 24})


def _labels(part: pd.DataFrame) -> list[str]:
    """Trial and seeds beside each point; trials at the same place share the label of the first."""
    labels = pd.Series("", part.index)
    for _, there in part.groupby(["x", "y"]):
        shown = ", ".join(map(str, there["trial"][:_NAMED])) + (" …" if len(there) > _NAMED else "")
        labels[there.index[0]] = f"{shown} · {many(there['n_seeds'].iloc[0], 'seed')}"
    return labels.tolist()
