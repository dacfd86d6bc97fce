"""Parts of the page on losses: distributions by group, and quantile differences."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fairvlm_core.analysis.divergences import Counted, GroupDivergence, group_divergences
from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.analysis.loss_distributions import SMALL
from fairvlm_core.runs import Run
from fairvlm_core.words import percent

from . import losses, losses_charts, widgets
from .frame import errors
from .losses import QUANTITIES
from .losses_reads import group_distributions, pair_history, quantile_differences, run_metrics
from .words import literal

ABOUT_DISTRIBUTIONS = (
    "Each row is one group: how the loss (or similarity) of its training pairs is distributed in an epoch. Each curve has "
    "area 1, the dotted outline is everyone, and the vertical line is the group's median. A curve to the right of the "
    "outline means higher losses: the model fits this group worse. Groups with fewer than 10 pairs are shown pair by "
    "pair, because so few pairs give no reliable curve. The values were recorded during training, before any weighting.",
    r"\hat f_g(x) = \frac{1}{n_g h} \sum_{i \in g} \varphi\!\left(\frac{x - \ell_i}{h}\right), \qquad "
    r"h = 0.9 \min\!\left(s, \tfrac{\mathrm{IQR}}{1.34}\right) n_g^{-1/5}",
)
ABOUT_QUANTILES = (
    "At each probability: the group's quantile minus everyone's. A flat line at zero means equal distributions; a line "
    "above zero means higher values; a slope means a wider or narrower spread. The band holds 95 % of 300 bootstrap draws "
    "of the pairs. The Wasserstein distance is the area between the two distribution functions. The Sinkhorn divergence "
    "is a smooth version of it, and the fairness term uses it (see *Divergence over training*); *by chance* is its mean "
    "when pairs are put into groups at random.",
    r"\Delta_g(p) = Q_g(p) - Q(p), \qquad W_1(P_g, P) = \int \left| F_g(x) - F(x) \right| dx",
)


def nothing_recorded(entry: RunEntry) -> None:
    """What a run without a finished epoch shows instead of its losses."""
    if entry.state == "damaged":
        st.error(f"Run {literal(entry.id)} is damaged: {literal(entry.message)}", icon=":material/broken_image:")
        return
    text = "Losses are recorded at the end of each epoch."
    text += " Come back in a moment." if entry.state in ("queued", "running") else f" {literal(entry.note)}"
    widgets.empty(f"Run {literal(entry.id)} has no finished epoch yet ({entry.state})", text)


def has_losses(run: Run) -> bool:
    """Whether at least one epoch was recorded."""
    return run.files.ledger.exists() and len(run_metrics(run)) > 0


def distributions(run: Run, attribute: str, quantity: str) -> None:
    """Densities with an epoch slider and play."""
    widgets.section("Distribution by group", *ABOUT_DISTRIBUTIONS)
    found = group_distributions(run, attribute, quantity)
    title = f"{QUANTITIES[quantity]} of a training pair"
    widgets.chart(
        losses_charts.distribution_chart(found, found.epochs[-1], title),
        f"losses.distributions.{run.id}.{attribute}.{quantity}",
        f"Distribution of the {quantity} by {attribute}, epoch by epoch",
    )
    small = [row.group for row in found.rows if row.density is None]
    st.caption(
        f"{sum(row.n for row in found.rows[1:]):,} training pairs. At most "
        f"{percent(found.outside, 1)} of an epoch's values lie outside the range shown."
        + (f" Shown pair by pair (n < {SMALL}): {literal(', '.join(small))}." if small else "")
    )
    last = losses.quantile_table(found, found.epochs[-1])
    every = pd.concat([losses.quantile_table(found, e).assign(Epoch=e) for e in found.epochs], ignore_index=True)
    widgets.chart_table(last, every, f"{quantity}-by-{attribute}.csv".replace("/", "-"))


def quantiles(run: Run, attribute: str, quantity: str) -> None:
    """Quantile differences at an epoch; moving the slider redraws only this part."""
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


def _divergence_at(run: Run, attribute: str, quantity: str, epoch: int) -> dict[str, GroupDivergence]:
    line = next((line for line in run_metrics(run) if line["epoch"] == epoch), {"sinkhorn": []})
    found = group_divergences(line, quantity, Counted.ALL)  # of all pairs, as the quantiles are
    return {one.group: one for one in found if one.attribute == attribute}
