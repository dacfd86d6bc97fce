"""Charts of the trade-off between AUC and fairness, and of thresholds: ROC by group, and the sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.analysis.tradeoff import WeightGrid
from fairvlm_core.fairness import RocCurve, ThresholdEffect, Undefined
from fairvlm_core.words import many, mean_sd, number

from .charts import layout, tick_format
from .compare_tradeoff import METRIC_NAMES
from .losses_charts import rgba
from .palette import ACCENT, METHOD_COLOURS, NEUTRAL, group_colours, group_symbols, method_marks
from .words import chart_text

_LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}


def plane_chart(
    frame: pd.DataFrame, metric: str, attribute: str, methods: Sequence[str], grid: WeightGrid | None = None,
    weight: float | None = None,
) -> go.Figure:  # fmt: skip
    """One point per method, the Pareto front as a stepped line; methods that differ in λ as a path, the chosen λ ringed.

    Parameters
    ----------
    frame
        As from `fairvlm_core.analysis.tradeoff.plane`.
    methods
        All compared methods in their order: a method has the same colour in every chart.
    """
    marks = method_marks(methods)
    chart = go.Figure()
    front = frame[frame["front"]].sort_values("auc")
    chart.add_scatter(
        x=front["auc"], y=front["fair"], mode="lines", line={"color": NEUTRAL, "width": 1.6, "dash": "dot", "shape": "vh"},
        name="best trade-off", hoverinfo="skip",
    )  # fmt: skip
    if grid is not None:
        way = frame.set_index("method").reindex(grid.methods).dropna(subset=["auc", "fair"])
        chart.add_scatter(
            x=way["auc"], y=way["fair"], mode="lines", line={"color": ACCENT, "width": 1.6}, hoverinfo="skip",
            name=f"rising λ, {chart_text(grid.name)}",
        )  # fmt: skip
        here = frame[frame["method"] == dict(zip(grid.weights, grid.methods, strict=True)).get(weight)]
        chart.add_scatter(
            x=here["auc"], y=here["fair"], mode="markers", hoverinfo="skip", name=f"λ = {weight:g}",
            marker={"size": 22, "symbol": "circle-open", "color": ACCENT, "line": {"width": 2.5}},
        )  # fmt: skip
    inks = [marks[name][0] for name in frame["method"]]
    steps = {} if grid is None else {m: f"λ {w:g}" for w, m in zip(grid.weights, grid.methods, strict=True)}
    names = [steps.get(name) or chart_text(name, 44) for name in frame["method"]]
    facts = [
        f"<b>{chart_text(row.method, 60)}</b><br>AUC {mean_sd(row.auc, row.auc_sd)}<br>{METRIC_NAMES[metric]} "
        f"{mean_sd(row.fair, row.fair_sd)}<br>{many(row.n_runs, 'seed')}, n = {row.n:,}"
        for row in frame.itertuples()
    ]
    chart.add_scatter(
        x=frame["auc"], y=frame["fair"], mode="markers+text", text=names,
        textposition=_sides(frame), hovertext=facts, hoverinfo="text", name="method, ± sd over seeds", cliponaxis=False,
        marker={
            "size": 12, "color": inks, "symbol": ["circle" if f else "circle-open" for f in frame["front"]],
            "line": {"width": 2},
        },
        error_x={"array": np.nan_to_num(frame["auc_sd"]), "color": rgba(ACCENT, 0.5), "thickness": 1.2, "width": 0},
        error_y={"array": np.nan_to_num(frame["fair_sd"]), "color": rgba(ACCENT, 0.5), "thickness": 1.2, "width": 0},
    )  # fmt: skip
    chart.update_xaxes(title_text="Test AUC", tickformat=tick_format(frame["auc"]), nticks=7)
    chart.update_yaxes(
        title_text=f"Test {METRIC_NAMES[metric]}, {chart_text(attribute)}", tickformat=tick_format(frame["fair"])
    )
    return layout(chart, 430, legend=_LEGEND, margin={"t": 40, "b": 46, "r": 24})


def _sides(frame: pd.DataFrame) -> list[str]:
    """Names are placed towards the middle of the chart so that none is cut off, in turn above and below the points."""
    middle = (frame["auc"].min() + frame["auc"].max()) / 2
    rank = frame["fair"].rank(method="first").astype(int)
    sides = zip(frame["auc"] > middle, rank % 2 == 0, strict=True)
    return [f"{'top' if above else 'bottom'} {'left' if right else 'right'}" for right, above in sides]


def roc_chart(curves: dict[str, RocCurve | Undefined], effect: ThresholdEffect, attribute: str) -> go.Figure:
    """ROC by group with each group's operating point; groups without a curve are named in the legend."""
    names = group_order(curves)
    colours, symbols = group_colours(names), group_symbols(names)
    chart = go.Figure()
    chart.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": NEUTRAL, "width": 1, "dash": "dot"}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    for name in names:
        curve, point = curves[name], effect.groups[name]
        if isinstance(curve, Undefined):
            chart.add_scatter(
                x=[None], y=[None], mode="markers", name=f"{chart_text(name, 24)}: {curve.reason}",
                marker={"color": colours[name], "symbol": symbols[name]},
            )  # fmt: skip
            continue
        label = f"{chart_text(name, 24)} (n+ {curve.n_positive:,}, n− {curve.n - curve.n_positive:,})"
        chart.add_scatter(
            x=curve.false_positive_rate, y=curve.true_positive_rate, mode="lines", name=label, legendgroup=name,
            line={"color": colours[name], "width": 2}, hoverinfo="skip",
        )  # fmt: skip
        fact = (
            f"<b>{chart_text(name)}</b> at {number(point.threshold)}<br>sensitivity "
            f"{number(float(point.true_positive_rate))}, specificity {number(1 - float(point.false_positive_rate))}"
        )
        chart.add_scatter(
            x=[float(point.false_positive_rate)], y=[float(point.true_positive_rate)], mode="markers", legendgroup=name,
            showlegend=False, hovertext=[fact], hoverinfo="text",
            marker={"color": colours[name], "symbol": symbols[name], "size": 13, "line": {"width": 1.5, "color": "white"}},
        )  # fmt: skip
    chart.update_xaxes(title_text="False positive rate (1 − specificity)", range=[-0.02, 1.02])
    chart.update_yaxes(title_text=f"Sensitivity by {chart_text(attribute)}", range=[-0.02, 1.02])
    return layout(
        chart, 430, legend={"x": 0.99, "xanchor": "right", "y": 0.02, "yanchor": "bottom"}, margin={"t": 12, "b": 46}
    )


def sweep_chart(swept: pd.DataFrame, at: list[float]) -> go.Figure:
    """Sensitivity, specificity, DPD and DEOdds over a common threshold; upright lines at the thresholds in use."""
    chart = go.Figure()
    lines = (
        ("sensitivity", "sensitivity", METHOD_COLOURS[2], "solid"),
        ("specificity", "specificity", METHOD_COLOURS[1], "dash"),
        ("dpd", "DPD", METHOD_COLOURS[3], "dot"),
        ("deodds", "DEOdds", METHOD_COLOURS[4], "dashdot"),
    )
    for key, name, colour, dash in lines:
        chart.add_scatter(
            x=swept["threshold"], y=swept[key], mode="lines", name=name, line={"color": colour, "width": 2, "dash": dash},
            hovertemplate=f"{name} %{{y:.3f}} at %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    for cut in sorted(set(at)):
        chart.add_vline(cut, line={"color": NEUTRAL, "width": 1.5})
    chart.update_xaxes(title_text="Threshold for everyone")
    chart.update_yaxes(range=[-0.02, 1.02])
    return layout(chart, 430, legend=_LEGEND, margin={"t": 40, "b": 46})
