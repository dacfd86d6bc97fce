"""Charts of the Bad pairs page: map, histogram with limits, flag rates, precision against recall, one pair's losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from fairvlm_core.analysis.mined_pairs import PAIR_KINDS, MinedPairs
from fairvlm_core.analysis.one_pair import LossBand, mean_so_far
from fairvlm_core.analysis.planted_truth import TruthScore
from fairvlm_core.mining import AttributeAudit
from fairvlm_core.words import KIND_TITLES, SPLITS, number, percent

from .bad_pairs import NOT_REVIEWED, Colouring
from .charts import bars, layout
from .palette import ACCENT, COLOURS, NEUTRAL, group_colours, group_symbols
from .words import chart_text

KIND_COLOURS = {"clean": "#3A98D4", "faulty": "#D55E00", "noisy": "#7B5FD0", "not mined": NEUTRAL}
KIND_SYMBOLS = {"clean": "circle", "faulty": "square", "noisy": "diamond", "not mined": "x"}
_TITLE_COLOURS = {KIND_TITLES[kind]: colour for kind, colour in KIND_COLOURS.items()}
_LIMITS = {"faulty": "wrong note", "noisy": "shared marker"}
SIDES = {"image": "Images", "text": "Notes"}
BINS = 60
_SCALE = sample_colorscale("Cividis", 33)  # low to high


def map_colours(now: MinedPairs, rows: np.ndarray, colours: Colouring) -> tuple[list[str], list[tuple[str, str]]]:
    """A colour for each drawn pair, and the legend: names with the number of drawn pairs, and their colours."""
    if colours.values is None:
        values = now.mean_loss[rows]
        low, high = np.nanquantile(values, (0.005, 0.995)) if len(rows) else (0.0, 1.0)
        shares = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
        inks = [_SCALE[place] for place in np.round(shares * (len(_SCALE) - 1)).astype(int)]
        return inks, [(f"mean loss {number(low, 2)}", _SCALE[0]), (f"mean loss {number(high, 2)}", _SCALE[-1])]
    inks = _inks(colours.order)
    words = colours.values[rows]
    legend = [(f"{word} ({n:,})", inks[word]) for word in colours.order if (n := int((words == word).sum()))]
    return [inks[word] for word in words.tolist()], legend


def _inks(order: Sequence[str]) -> dict[str, str]:
    if set(order) <= set(_TITLE_COLOURS):
        return _TITLE_COLOURS
    if NOT_REVIEWED in order:
        return group_colours([word for word in order if word != NOT_REVIEWED]) | {NOT_REVIEWED: NEUTRAL}
    if set(order) == set(SPLITS.values()):
        return dict(zip(order, COLOURS, strict=False))
    return group_colours(order)


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
