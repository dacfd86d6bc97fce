"""Pieces of the page on losses: distributions by group, and quantile differences."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from fairvlm_core.runs import Run

from . import losses, losses_charts, widgets
from .entries import RunEntry
from .frame import errors
from .losses import QUANTITIES, SMALL
from .losses_reads import pair_history, quantile_differences, ridge_lines, run_metrics
from .words import literal, percent

ABOUT_RIDGES = (
    "One row a group: how the loss (or similarity) of its training pairs is spread in an epoch, each curve of area 1. The "
    "dotted outline is everyone. A group whose curve lies to the right of the outline has higher losses: the model fits it "
    "worse. The upright line is the median. Groups with fewer than 10 pairs are shown pair by pair, because a curve would "
    "pretend to know more. Values are those recorded while training, before any weight.",
    r"\hat f_g(x) = \frac{1}{n_g h} \sum_{i \in g} \varphi\!\left(\frac{x - \ell_i}{h}\right), \qquad "
    r"h = 0.9 \min\!\left(s, \tfrac{\mathrm{IQR}}{1.34}\right) n_g^{-1/5}",
)
ABOUT_QUANTILES = (
    "At each probability: the group's quantile minus everyone's. A flat line at zero means equal distributions; a line "
    "above zero, higher values; a slope, a wider or narrower spread. The band holds 95 % of 300 draws in which pairs were "
    "resampled. The Wasserstein distance is the area between the two distribution functions; the Sinkhorn divergence, "
    "which the fairness term uses, is its smooth relative (*Divergence over training* explains it).",
    r"\Delta_g(p) = Q_g(p) - Q(p), \qquad W_1(P_g, P) = \int \left| F_g(x) - F(x) \right| dx",
)


def nothing_recorded(entry: RunEntry) -> None:
    """In the place of a run's losses, where its first epoch has not ended."""
    if entry.state == "damaged":
        st.error(f"Run {literal(entry.id)} is damaged: {literal(entry.message)}", icon=":material/broken_image:")
        return
    text = "Losses are recorded at the end of each epoch."
    text += " Come back in a moment." if entry.state in ("queued", "running") else f" {literal(entry.note)}"
    widgets.empty(f"Run {literal(entry.id)} has no finished epoch yet ({entry.state})", text)


def has_losses(run: Run) -> bool:
    """Whether at least one epoch was recorded."""
    return (run.path / "ledger.parquet").exists() and len(run_metrics(run)) > 0


def distributions(run: Run, attribute: str, quantity: str) -> None:
    """Ridgelines with an epoch slider and play."""
    widgets.section("Distribution by group", *ABOUT_RIDGES)
    found = ridge_lines(run, attribute, quantity)
    title = f"{QUANTITIES[quantity]} of a training pair"
    widgets.chart(
        losses_charts.ridge_chart(found, found.epochs[-1], title),
        f"losses.ridges.{run.id}.{attribute}.{quantity}",
        f"Distribution of the {quantity} by {attribute}, epoch by epoch",
    )
    small = [row.group for row in found.rows if row.density is None]
    st.caption(
        f"{sum(row.n for row in found.rows[1:]):,} training pairs. The range leaves out at most "
        f"{percent(found.outside, 1)} of an epoch's values."
        + (f" Shown pair by pair (n < {SMALL}): {literal(', '.join(small))}." if small else "")
    )
    last = losses.quantile_table(found, found.epochs[-1])
    every = pd.concat([losses.quantile_table(found, e).assign(Epoch=e) for e in found.epochs], ignore_index=True)
    widgets.chart_table(last, every, f"{quantity}-by-{attribute}.csv".replace("/", "-"))


def quantiles(run: Run, attribute: str, quantity: str) -> None:
    """Quantile differences at an epoch; moving the slider draws this part alone."""
    widgets.section("How groups differ from everyone", *ABOUT_QUANTILES)
    epochs = pair_history(run, quantity).epochs

    @st.fragment
    def at_epoch() -> None:
        with errors():
            epoch = epochs[-1]
            if len(epochs) > 1:
                epoch = st.select_slider("Epoch", epochs, value=epochs[-1], key="losses.epoch")
            shifts = quantile_differences(run, attribute, quantity, epoch)
            st.markdown(literal(losses.farthest(shifts, quantity)))
            widgets.chart(
                losses_charts.quantile_chart(shifts, f"{QUANTITIES[quantity]}, group minus everyone"),
                "losses.quantiles",
                f"Quantiles of the {quantity} by {attribute} minus everyone's",
            )
            sinkhorn = _divergence_at(run, attribute, quantity, epoch)
            shown = losses.shift_table(shifts, sinkhorn, quantity)
            widgets.table(shown, key="losses.shifts")
            widgets.download(shown, f"quantile-shift-{attribute}.csv".replace("/", "-"))

    at_epoch()


def _divergence_at(run: Run, attribute: str, quantity: str, epoch: int) -> Mapping[str, float]:
    line = next((line for line in run_metrics(run) if line["epoch"] == epoch), {"sinkhorn": []})
    return {
        s["group"]: s["value"] for s in line["sinkhorn"] if s["attribute"] == attribute and s["quantity"] == quantity
    }
