"""What the inspector says of one pair: why it is flagged, its losses among everyone's, and what lies near it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from fairvlm_core.analysis.neighbours import BetterFits, Ranked, better_fits, nearest
from fairvlm_core.ledger import PairLossLedger

from .bad_pairs import CHANNELS, KINDS, NOT_MINED, Bench, Mined
from .bad_pairs_charts import KIND_COLOURS, in_reach
from .charts import layout
from .palette import ACCENT, NEUTRAL
from .words import figure, many

NEAR = 6
# Findings that SynthFundus records for each image, in the order of a reader's interest.
FINDINGS = {
    "diagnosis": "Diagnosis",
    "stage": "Stage",
    "eye": "Eye",
    "cdr_vertical": "Cup-disc ratio",
    "notch": "Notch",
    "rnfl_defect": "RNFL defect",
    "haemorrhage": "Haemorrhage",
    "rnfl_thickness": "RNFL (µm)",
    "iop": "IOP (mmHg)",
    "md": "MD (dB)",
    "cct": "CCT (µm)",
    "quality": "Image quality",
}


@dataclass(frozen=True)
class Near:
    """What lies near a pair among the embeddings of the training pairs (and of its own, where that is not one).

    `notes` are notes that would fit its image better than its own; `images` images that its note fits better.
    """

    images_like: Ranked
    notes_like: Ranked
    notes: BetterFits
    images: BetterFits


def near(embeddings: Mapping[str, np.ndarray], row: int, among: np.ndarray, k: int = NEAR) -> Near:
    """Neighbours and better fits of one pair; `embeddings` holds unit-norm `image` and `text`, float (N, D).

    Parameters
    ----------
    among : bool array of shape (N,)
        Pairs that count as neighbours.
    """
    image, text = embeddings["image"], embeddings["text"]
    return Near(
        images_like=nearest(image, row, k, among),
        notes_like=nearest(text, row, k, among),
        notes=better_fits(image, text, row, k, among),
        images=better_fits(text, image, row, k, among),
    )


def reason(now: Mined, row: int, found: Near | None = None) -> list[str]:
    """Why a pair is flagged or not, in sentences made from numbers."""
    lines = [_by_loss(now, row)]
    if found is not None:
        notes, images = found.notes, found.images
        if images.n_better:
            lines.append(
                f"Its note fits {images.n_better:,} of {many(images.n_others, 'other training image')} better than its own."
            )
        if notes.n_better:
            lines.append(
                f"Its image is fitted better by {notes.n_better:,} of {many(notes.n_others, 'other training note')}."
            )
        if not images.n_better and not notes.n_better:
            lines.append(
                "No other training note fits its image better, and its note fits no other training image better."
            )
    return lines


def _by_loss(now: Mined, row: int) -> str:
    result, kind = now.result, KINDS[now.kind[row]]
    if now.kind[row] == NOT_MINED:
        return "Only training pairs are mined: no history of losses is kept of this one."
    value = now.mean_loss[row]
    if not np.isfinite(value):
        return "It was never seen in training, so nothing is known of its loss."
    name = f"mean {CHANNELS.get(result.channel, result.channel).lower()}"
    if result.sigma == 0:
        return f"Its {name} {figure(value, 2)} is that of the others: their spread is 0."
    middle = "median" if now.settings.spread == "mad" else "mean"
    unit = "robust sd" if now.settings.spread == "mad" else "sd"
    z = (value - result.mu) / result.sigma  # not now.z: what that is of depends on the rule
    side = "above" if z >= 0 else "below"
    where = f"Its {name} {figure(value, 2)} lies {abs(z):.1f} {unit} {side} the {middle} {figure(result.mu, 2)}"
    if kind == "faulty" and result.rule == "mixture":
        return f"{where}; it belongs to the higher group with a probability of {now.posterior[row]:.2f}: faulty."
    if result.rule == "mismatch" and kind != "noisy" and np.isfinite(now.posterior[row]):
        said = "faulty" if kind == "faulty" else "not flagged"
        return (
            f"By what the other pairs show, image and note belong to different patients with a probability of "
            f"{now.posterior[row]:.2f}: {said}. {where}."
        )
    if result.rule == "mismatch" and kind == "noisy":
        return (
            f"Image and note both lie far from all others and yet fit: a rank of {now.z[row]:.1f}, beyond the limit of "
            f"−{now.settings.noisy_sd:g}: noisy, they may share a mark instead of the findings. {where}."
        )
    if kind == "faulty":
        return f"{where}, beyond the limit of {now.settings.faulty_sd:g}: faulty, image and note disagree."
    if kind == "noisy":
        return (
            f"{where}, beyond the limit of {now.settings.noisy_sd:g}: noisy, so easy that image and note may share "
            "something other than the clinical content."
        )
    return (
        f"{where}, within the limits: not flagged." if not result.message else f"{where}. {_sentence(result.message)}"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Band:
    """The population's losses by epoch, each of shape (E,)."""

    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def band(ledger: PairLossLedger, channel: str) -> Band:
    """10 %, 50 % and 90 % of a channel over all pairs, epoch by epoch; NaN where nothing was seen."""
    values = ledger.channel(channel)
    lines = np.full((3, len(values)), np.nan)
    for epoch, line in enumerate(values):
        seen = line[~np.isnan(line)]
        if len(seen):
            lines[:, epoch] = np.quantile(seen, (0.1, 0.5, 0.9))
    return Band(*lines)


def trajectory_chart(now: Mined, losses: np.ndarray, everyone: Band, warmup: int, title: str) -> go.Figure:
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
    seen = ~np.isnan(losses)
    so_far = np.cumsum(np.nan_to_num(losses)) / np.maximum(np.cumsum(seen), 1)
    chart.add_scatter(
        x=epochs, y=so_far, mode="lines", line={"color": ACCENT, "width": 1.6, "dash": "dot"}, name="its mean so far",
        hovertemplate="mean so far %{y:.2f}<extra></extra>",
    )  # fmt: skip
    chart.add_scatter(
        x=epochs, y=losses, mode="lines+markers", line={"color": ACCENT, "width": 2.4}, marker={"size": 7},
        name="this pair", hovertemplate="epoch %{x}: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    values = np.concatenate([everyone.low, everyone.high, losses])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    for limit, kind in ((now.result.faulty_above, "faulty"), (now.result.noisy_below, "noisy")):
        if in_reach(limit, low, high):
            chart.add_hline(
                limit, line={"color": KIND_COLOURS[kind], "width": 1.4, "dash": "dash"}, annotation_text=kind,
                annotation_position="top right", annotation_font_color=KIND_COLOURS[kind],
            )  # fmt: skip
    if warmup > 0:
        chart.add_vrect(0.5, min(warmup, len(losses)) + 0.5, fillcolor=NEUTRAL, opacity=0.1, line_width=0)
        chart.add_annotation(
            x=0.5, xanchor="left", y=0, yref="paper", yanchor="bottom", text=" warm-up", showarrow=False, opacity=0.8
        )
    chart.update_xaxes(title_text="Epoch", range=[0.5, len(losses) + 0.5], tickformat="d", dtick=_tick(len(losses)))
    chart.update_yaxes(title_text=title)
    legend = {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"}
    return layout(chart, 320, legend=legend, margin={"t": 10, "b": 84})


def _tick(epochs: int) -> int:
    return max(1, -(-epochs // 12))


def neighbour_table(found: Bench, now: Mined, ranked: Ranked, notes: Mapping[str, str]) -> pd.DataFrame:
    """Pair, similarity, kind, label and note of ranked pairs; `notes` by pair id, empty where the data is gone."""
    rows = ranked.rows
    frame = pd.DataFrame(
        {
            "pair_id": found.ids[rows],
            "Similarity": ranked.similarity.astype(float),
            "Kind": np.array(KINDS)[now.kind[rows]],
            "Label": found.labels[rows],
        }
    )
    if notes:
        frame["Note"] = [notes.get(pair, "") for pair in frame["pair_id"]]
    return frame


def findings_of(row: Mapping[str, str]) -> list[tuple[str, str]]:
    """Findings recorded for an image, titles and values; what is empty is left out.

    >>> findings_of({"diagnosis": "suspect", "stage": "", "zoom": "1.02"})
    [('Diagnosis', 'suspect')]
    """
    return [(title, str(row[name])) for name, title in FINDINGS.items() if str(row.get(name, "")).strip()]
