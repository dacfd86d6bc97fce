"""Charts of the Bad pairs page: map, histogram with limits, flag rates, precision against recall, one pair's losses."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairvlm_core.analysis.mined_pairs import PAIR_KINDS, MinedPairs, RunPairs
from fairvlm_core.analysis.one_pair import LossBand, mean_so_far
from fairvlm_core.analysis.planted_truth import TruthScore
from fairvlm_core.mining import AttributeAudit
from fairvlm_core.words import KIND_TITLES, SPLITS, number, percent

from .bad_pairs import NOT_REVIEWED, Colouring
from .charts import CONFIG, bars, layout
from .palette import ACCENT, COLOURS, NEUTRAL, SYMBOLS, group_colours, group_symbols
from .words import chart_text

KIND_COLOURS = {"clean": "#3A98D4", "faulty": "#D55E00", "noisy": "#7B5FD0", "not mined": NEUTRAL}
KIND_SYMBOLS = {"clean": "circle", "faulty": "square", "noisy": "diamond", "not mined": "x"}
_TITLE_COLOURS = {KIND_TITLES[kind]: colour for kind, colour in KIND_COLOURS.items()}
_TITLE_SYMBOLS = {KIND_TITLES[kind]: symbol for kind, symbol in KIND_SYMBOLS.items()}
_LIMITS = {"faulty": "wrong note", "noisy": "shared marker"}
_FLAGS = {KIND_TITLES["faulty"], KIND_TITLES["noisy"]}
GREY = "#9AA1AA"
SIDES = {"image": "Images", "text": "Notes", "both": "Both"}
MAP_HEIGHT = 470
BINS = 60
# Lasso and box stay in this chart's bar; the wheel zooms.
MAP_CONFIG: dict[str, Any] = CONFIG | {"modeBarButtonsToRemove": ["autoScale2d"], "scrollZoom": True}
_FEW, _MANY = 800, 5000


def map_chart(
    pairs: RunPairs, now: MinedPairs, points: np.ndarray, rows: np.ndarray, colours: Colouring, side: str,
    chosen: Collection[str] = (), ring: str | None = None,
) -> go.Figure:  # fmt: skip
    """The map: one point for each pair and side, with its id in customdata; not chosen is grey, a ring marks one pair.

    Parameters
    ----------
    points : float array of shape (N, 4)
        As from `map_points`.
    rows : int array
        Pairs that are drawn.
    side : str
        "image", "text" or "both" (side by side).
    chosen : ids
        Selected pairs; empty where nothing is selected.
    ring : str, optional
        The pair in the inspector.
    """
    sides = ["image", "text"] if side == "both" else [side]
    chart = make_subplots(
        rows=1, cols=len(sides), horizontal_spacing=0.02,
        subplot_titles=[SIDES[name] for name in sides] if side == "both" else None,
    )  # fmt: skip
    size = 7 if len(rows) <= _FEW else 5 if len(rows) <= _MANY else 4
    marked = np.isin(pairs.ids[rows], list(chosen)) if chosen else None
    for column, name in enumerate(sides, start=1):
        at = points[:, :2] if name == "image" else points[:, 2:]
        for trace in _traces(pairs, now, at, rows, colours, marked, size, legend=column == 1):
            chart.add_trace(trace, row=1, col=column)
        row = pairs.row_of(ring)
        if row is not None:
            chart.add_trace(_ring(pairs, at, row), row=1, col=column)
    chart.update_xaxes(showgrid=False, showticklabels=False, zeroline=False)
    chart.update_yaxes(showgrid=False, showticklabels=False, zeroline=False)
    for column, name in enumerate(sides, start=1):
        at = points[:, :2] if name == "image" else points[:, 2:]
        for axis, update in ((0, chart.update_xaxes), (1, chart.update_yaxes)):
            update(range=_reach(at[:, axis]), col=column)
    legend = {
        "orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "itemsizing": "constant", "title": {"text": ""},
    }  # fmt: skip
    margin = {"l": 4, "r": 4, "t": 30 if side == "both" else 8, "b": 44}
    return layout(chart, MAP_HEIGHT, legend=legend, margin=margin, dragmode="lasso")


def _reach(values: np.ndarray) -> list[float]:
    """The whole map's range with a margin: it does not depend on which pairs are drawn."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return [low - margin, high + margin]


def _traces(
    pairs: RunPairs, now: MinedPairs, at: np.ndarray, rows: np.ndarray, colours: Colouring, marked: np.ndarray | None,
    size: int, *, legend: bool,
) -> list[go.Scattergl]:  # fmt: skip
    if colours.values is None:
        values = now.mean_loss[rows]
        ends = np.nanquantile(values, (0.005, 0.995)) if len(rows) else (0.0, 1.0)
        marker = {
            "color": values, "colorscale": "Cividis", "cmin": ends[0], "cmax": ends[1], "showscale": legend,
            "colorbar": {"title": {"text": "Mean loss", "side": "right"}, "thickness": 10, "len": 0.8},
        }  # fmt: skip
        return [_points(pairs, now, at, rows, marked, "Mean loss", marker | {"size": size}, legend=False)]
    traces = []
    inks, shapes = _styles(colours.order)
    for word in _behind_first(colours.order):
        mask = colours.values[rows] == word
        if mask.any():
            prominent = word in _FLAGS or (NOT_REVIEWED in colours.order and word != NOT_REVIEWED)
            marker = {
                "color": inks[word], "symbol": shapes[word], "size": size + 2 if prominent else size,
                "opacity": 0.95 if prominent else 0.72,
            }  # fmt: skip
            part = None if marked is None else marked[mask]
            name = f"{chart_text(word, 24)} ({int(mask.sum()):,})"
            traces.append(_points(pairs, now, at, rows[mask], part, name, marker, legend=legend, group=word))
    return traces


def _styles(order: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    if set(order) <= set(_TITLE_COLOURS):
        return _TITLE_COLOURS, _TITLE_SYMBOLS
    if NOT_REVIEWED in order:
        given = [word for word in order if word != NOT_REVIEWED]
        return group_colours(given) | {NOT_REVIEWED: NEUTRAL}, group_symbols(given) | {NOT_REVIEWED: "circle"}
    if set(order) == set(SPLITS.values()):
        return dict(zip(order, COLOURS, strict=False)), dict(zip(order, SYMBOLS, strict=False))
    return group_colours(order), group_symbols(order)


def _behind_first(order: Sequence[str]) -> list[str]:
    """Clean, training and unreviewed pairs are many: the others are drawn over them."""
    return sorted(order, key=lambda word: word not in (KIND_TITLES["clean"], "training", NOT_REVIEWED))


def _points(
    pairs: RunPairs, now: MinedPairs, at: np.ndarray, rows: np.ndarray, marked: np.ndarray | None, name: str,
    marker: dict[str, Any], *, legend: bool, group: str | None = None,
) -> go.Scattergl:  # fmt: skip
    # Arrays, not lists: plotly reads every element of a list several times.
    hover = [
        f"<b>{html.escape(pair, quote=False)}</b><br>{KIND_TITLES[PAIR_KINDS[kind]]}"
        + (f", mean loss {loss:.2f}" if loss == loss else "")
        for pair, kind, loss in zip(pairs.ids[rows].tolist(), now.kind[rows], now.mean_loss[rows], strict=True)
    ]
    return go.Scattergl(
        x=at[rows, 0], y=at[rows, 1], mode="markers", name=name, marker=marker, customdata=pairs.ids[rows],
        hovertext=np.array(hover), hoverinfo="text", showlegend=legend, legendgroup=group or name,
        selectedpoints=None if marked is None else np.flatnonzero(marked).tolist(),
        selected={"marker": {"opacity": 0.95}}, unselected={"marker": {"color": GREY, "opacity": 0.25}},
    )  # fmt: skip


def _ring(pairs: RunPairs, at: np.ndarray, row: int) -> go.Scattergl:
    return go.Scattergl(
        x=at[[row], 0], y=at[[row], 1], mode="markers", hoverinfo="skip", showlegend=False,
        name="in the inspector", marker={"symbol": "circle-open", "size": 18, "color": "#E0A800", "line": {"width": 3}},
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        customdata=[str(pairs.ids[row])],
    )  # fmt: skip


def near_enough(limit: float, low: float, high: float) -> bool:
    """Whether a limit is drawn beside values from `low` to `high`: one far away would squeeze them.

    >>> near_enough(3.2, 0.0, 3.0), near_enough(-4.0, 0.0, 3.0), near_enough(float("nan"), 0.0, 3.0)
    (True, False, False)
    """
    margin = 0.25 * (high - low)
    return bool(low - margin <= limit <= high + margin)


def histogram(now: MinedPairs, title: str) -> go.Figure:
    """Pairs by mean loss, stacked by kind, with the limits beyond which a pair is flagged."""
    seen = now.mined & np.isfinite(now.mean_loss)
    values, kinds = now.mean_loss[seen], now.kind[seen]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    chart = go.Figure()
    for code, kind in enumerate(PAIR_KINDS[:3]):
        counts = np.histogram(values[kinds == code], edges)[0]
        chart.add_bar(
            x=(edges[:-1] + edges[1:]) / 2, y=counts, width=np.diff(edges), name=KIND_TITLES[kind],
            marker={"color": KIND_COLOURS[kind], "line": {"width": 0}}, customdata=np.stack([edges[:-1], edges[1:]], 1),
            hovertemplate="%{customdata[0]:.2f} to %{customdata[1]:.2f}<br>%{y:,} pairs<extra></extra>",
        )  # fmt: skip
    for limit, kind in ((now.result.noisy_below, "noisy"), (now.result.faulty_above, "faulty")):
        if near_enough(limit, low, high):
            chart.add_vline(limit, line={"color": KIND_COLOURS[kind], "width": 1.6, "dash": "dash"})
            chart.add_annotation(
                x=limit, y=1, yref="paper", yanchor="bottom",
                text=f"{_LIMITS[kind]} {'<' if kind == 'noisy' else '>'} {number(limit, 2)}",
                showarrow=False, xanchor="center",
            )  # fmt: skip
    chart.update_xaxes(title_text=chart_text(title))
    chart.update_yaxes(title_text="Training pairs", rangemode="tozero")
    legend = {"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top"}
    return layout(chart, 300, barmode="stack", bargap=0, legend=legend, margin={"t": 26, "b": 70})


def rate_chart(audit: AttributeAudit) -> go.Figure:
    """Share of each group's pairs that is flagged, with its interval; the share of all pairs as a dotted line."""
    groups = audit.groups
    names = [group.group for group in groups]
    colours, symbols = group_colours(names), group_symbols(names)
    chart = go.Figure()
    for group in groups:
        low, high = group.rate_interval or (group.rate, group.rate)
        ink = colours[group.group]
        chart.add_scatter(
            x=[group.rate], y=[chart_text(group.group, 20)], mode="markers", showlegend=False, cliponaxis=False,
            marker={"color": ink, "symbol": symbols[group.group], "size": 11},
            error_x=bars([group.rate], [low], [high], ink),
            hovertext=f"<b>{chart_text(group.group)}</b><br>{group.n_flagged:,} of {group.n:,} flagged, "
            f"{percent(group.rate, 1)} ({percent(low, 1)} to {percent(high, 1)})"
            f"<br>weight removed {percent(group.removed_weight, 1)}",
            hoverinfo="text",
        )  # fmt: skip
        chart.add_annotation(
            x=1, xref="paper", xanchor="right", y=chart_text(group.group, 20), showarrow=False, yshift=11,
            text=f"{group.n_flagged:,} of {group.n:,}", opacity=0.95,
        )  # fmt: skip
    n = sum(group.n for group in groups)
    chart.add_vline(
        sum(group.n_flagged for group in groups) / max(n, 1), line={"color": NEUTRAL, "width": 1, "dash": "dot"}
    )
    chart.update_yaxes(autorange="reversed", showgrid=False)
    chart.update_xaxes(tickformat=".0%", rangemode="tozero", title_text="Flagged, 95 % interval; dotted: all pairs")
    return layout(chart, max(180, 84 + 36 * len(groups)), margin={"t": 14, "b": 46})


def truth_chart(scores: Sequence[TruthScore]) -> go.Figure:
    """Precision against recall for every planted kind; a large mark at the current limits, dotted: chance."""
    chart = go.Figure()
    for score in scores:
        ranking, ink = score.ranking, KIND_COLOURS[score.ranking.flag]
        chart.add_scatter(
            x=ranking.curve[:, 0], y=ranking.curve[:, 1], mode="lines",
            name=f"{ranking.planted} → {KIND_TITLES[ranking.flag].lower()}",
            line={"color": ink, "width": 2.2}, hovertemplate="recall %{x:.2f}, precision %{y:.2f}<extra></extra>",
        )  # fmt: skip
        chart.add_scatter(
            x=[0, 1], y=[ranking.chance, ranking.chance], mode="lines", showlegend=False, hoverinfo="skip",
            line={"color": ink, "width": 1.2, "dash": "dot"},
        )  # fmt: skip
        if score.n_flagged:
            chart.add_scatter(
                x=[score.recall], y=[score.precision], mode="markers", showlegend=False, hoverinfo="text",
                marker={"color": ink, "symbol": KIND_SYMBOLS[ranking.flag], "size": 13, "line": {"width": 1.5}},
                hovertext=f"now: recall {number(score.recall, 2)}, precision {number(score.precision, 2)}",
            )  # fmt: skip
    chart.update_xaxes(title_text="Recall", range=[-0.02, 1.02])
    chart.update_yaxes(title_text="Precision", range=[-0.02, 1.05])
    legend = {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"}
    return layout(chart, 330, legend=legend, margin={"t": 10, "b": 76})


def trajectory_chart(now: MinedPairs, losses: np.ndarray, everyone: LossBand, warmup: int, title: str) -> go.Figure:
    """A pair's loss by epoch with its mean so far, the band of 10 to 90 % of all pairs, warm-up and limits.

    Parameters
    ----------
    losses : float array of shape (E,)
    warmup : int
        Epochs before anything is flagged.
    """
    epochs = np.arange(1, len(losses) + 1)
    chart = go.Figure()
    chart.add_scatter(
        x=np.append(epochs, epochs[::-1]), y=np.append(everyone.high, everyone.low[::-1]), fill="toself", mode="lines",
        line={"width": 0}, fillcolor="rgba(128,136,148,0.22)", name="10 to 90 % of pairs", hoverinfo="skip",
    )  # fmt: skip
    chart.add_scatter(
        x=epochs, y=everyone.middle, mode="lines", line={"color": NEUTRAL, "width": 1.4}, name="median",
        hovertemplate="median %{y:.2f}<extra></extra>",
    )  # fmt: skip
    chart.add_scatter(
        x=epochs, y=mean_so_far(losses), mode="lines", line={"color": ACCENT, "width": 1.6, "dash": "dot"},
        name="its mean so far", hovertemplate="mean so far %{y:.2f}<extra></extra>",
    )  # fmt: skip
    chart.add_scatter(
        x=epochs, y=losses, mode="lines+markers", line={"color": ACCENT, "width": 2.4}, marker={"size": 7},
        name="this pair", hovertemplate="epoch %{x}: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    values = np.concatenate([everyone.low, everyone.high, losses])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    for limit, kind in ((now.result.faulty_above, "faulty"), (now.result.noisy_below, "noisy")):
        if near_enough(limit, low, high):
            chart.add_hline(
                limit, line={"color": KIND_COLOURS[kind], "width": 1.4, "dash": "dash"}, annotation_text=_LIMITS[kind],
                annotation_position="top right",
            )  # fmt: skip
    if warmup > 0:
        chart.add_vrect(0.5, min(warmup, len(losses)) + 0.5, fillcolor=NEUTRAL, opacity=0.1, line_width=0)
        chart.add_annotation(
            x=0.5, xanchor="left", y=0, yref="paper", yanchor="bottom", text=" warm-up", showarrow=False, opacity=0.95
        )
    tick = max(1, -(-len(losses) // 12))
    chart.update_xaxes(title_text="Epoch", range=[0.5, len(losses) + 0.5], tickformat="d", dtick=tick)
    chart.update_yaxes(title_text=title)
    legend = {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"}
    return layout(chart, 320, legend=legend, margin={"t": 10, "b": 84})
