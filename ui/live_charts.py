"""Charts of a run that is trained; their heights do not change while it goes on."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from fairvlm_core.words import KIND_TITLES

from .bad_pairs_charts import KIND_COLOURS
from .charts import epoch_axis, layout
from .palette import ACCENT, METHOD_COLOURS, NEUTRAL, SYMBOLS
from .words import chart_text

HEIGHT = 290
_MARKERS = 60  # epochs up to which each is marked
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def loss_chart(curves: pd.DataFrame, epochs: int) -> go.Figure:
    """Mean loss of the training and of the validation pairs; columns as from `training_curves`."""
    names = {"train_loss": ("training", ACCENT), "val_loss": ("validation", NEUTRAL)}
    return _lines(curves, epochs, "Mean loss of a pair", names)


def quality_chart(curves: pd.DataFrame, epochs: int, n: int) -> go.Figure:
    """AUC and mean ES-AUC of the `n` validation pairs."""
    names = {"auc": ("AUC", ACCENT), "es_auc": ("ES-AUC, mean over attributes", METHOD_COLOURS[1])}
    return _lines(curves, epochs, f"Validation, {n:,} pairs", names)


def flagged_chart(curves: pd.DataFrame, epochs: int, n: int) -> go.Figure:
    """How many of `n` training pairs were flagged, and so down-weighted, in each epoch."""
    names = {kind: (KIND_TITLES[kind], KIND_COLOURS[kind]) for kind in ("faulty", "noisy")}
    return _lines(curves, epochs, f"Flagged of {n:,} training pairs", names)


def sinkhorn_chart(values: pd.DataFrame, epochs: int) -> go.Figure:
    """A line an attribute, above the level by chance; columns attribute, epoch, value as from `divergence_curves`."""
    wide = values.pivot(index="epoch", columns="attribute", values="value").reset_index()
    attributes = list(dict.fromkeys(values["attribute"]))
    names = {name: (name, METHOD_COLOURS[i % len(METHOD_COLOURS)]) for i, name in enumerate(attributes)}
    chart = _lines(wide, epochs, "Distance between groups above chance", names)
    return chart.add_hline(0, line={"color": NEUTRAL, "width": 1, "dash": "dot"})


def _lines(frame: pd.DataFrame, epochs: int, title: str, names: dict[str, tuple[str, str]]) -> go.Figure:
    chart = go.Figure()
    reached = 0 if frame.empty else int(frame["epoch"].max())
    last = min(max(epochs, 2), max(10, 2 * reached))  # a long run is not squeezed into the left edge
    mode = "lines" if reached > _MARKERS else "lines+markers"
    for i, (column, (name, colour)) in enumerate(names.items()):
        chart.add_scatter(
            x=frame["epoch"], y=frame[column].astype(float), mode=mode, name=chart_text(name),
            line={"color": colour, "width": 2}, marker={"size": 6, "symbol": SYMBOLS[i % len(SYMBOLS)]},
            showlegend=True, hovertemplate="epoch %{x}: %{y:.4g}",
        )  # fmt: skip
    chart.update_xaxes(range=[0.7, last + 0.3], title_text="Epoch")
    epoch_axis(chart, last)
    chart.update_yaxes(nticks=5)
    heading = {"text": f"<b>{title}</b>", "x": 0.02, "y": 0.99, "yanchor": "top", "font": {"size": 14}}
    if frame.empty:
        chart.add_annotation(text="after the first epoch", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
        chart.update_yaxes(showticklabels=False)
    return layout(chart, HEIGHT, legend=_LEGEND, title=heading, margin={"t": 58, "b": 44, "l": 8})
