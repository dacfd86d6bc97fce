"""Charts of an experiment's table."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairvlm_core.experiment.table import Entry
from fairvlm_core.words import number, span

from .charts import bars, layout
from .palette import NEUTRAL, method_marks
from .words import chart_text

_SHOWN = {"es_auc": "ES-AUC", "auc": "AUC"}


def methods_chart(entries: Sequence[Entry], baseline: str) -> go.Figure:
    """ES-AUC and AUC side by side, a row a method, with intervals; a dotted line at the baseline."""
    metrics = [name for name in _SHOWN if any(e.metric == name and not e.group for e in entries)]
    methods = list(dict.fromkeys(entry.method for entry in entries))
    marks = method_marks(methods)
    titles = [f"{_SHOWN[name]}, 95 % interval" for name in metrics]
    chart = make_subplots(1, len(metrics), shared_yaxes=True, horizontal_spacing=0.06)
    for place, metric in enumerate(metrics, start=1):
        for entry in entries:
            if entry.metric != metric or entry.group or entry.mean is None:
                continue
            colour, symbol, _ = marks[entry.method]
            fact = f"<b>{chart_text(entry.method)}</b><br>{_SHOWN[metric]} {number(entry.mean)}"
            chart.add_scatter(
                x=[entry.mean], y=[chart_text(entry.method, 34)], mode="markers", showlegend=False,
                marker={"color": colour, "symbol": symbol, "size": 11},
                error_x=bars([entry.mean], [entry.low], [entry.high], colour),
                hovertext=[f"{fact} ({span(entry.low, entry.high)})<br>seeds: {entry.seeds}"], hoverinfo="text",
                row=1, col=place,
            )  # fmt: skip
            if entry.method == baseline:
                chart.add_vline(x=entry.mean, line={"color": NEUTRAL, "dash": "dot", "width": 1.5}, row=1, col=place)
        chart.update_xaxes(title_text=titles[place - 1], tickformat=".2f", row=1, col=place)
    chart.update_yaxes(autorange="reversed", showgrid=False)
    return layout(chart, 110 + 38 * len(methods), showlegend=False, margin={"t": 8})
