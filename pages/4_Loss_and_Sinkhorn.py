"""Loss & Sinkhorn: losses by group and epoch, the divergence over training, and ES-AUC beside it."""

from __future__ import annotations

import streamlit as st

from ui import losses_page, sinkhorn_page, widgets
from ui.frame import page
from ui.losses import QUANTITIES

with page(
    "Loss & Sinkhorn",
    "How a group's losses differ from those of all pairs, how that changes in training, and what it does for fairness.",
) as here:
    entry, run = here.entry, here.run
    if entry is None or run is None:
        widgets.empty(
            "No run yet",
            "Every run records the loss of each training pair in each epoch. Train one to see it here.",
            "fairvlm train DATA --preset robustfair",
            leads=widgets.NO_RUN,
        )
        st.stop()
    if entry.state == "damaged" or not losses_page.has_losses(run):
        losses_page.nothing_recorded(entry)
        st.stop()
    attributes = run.data["attributes"]
    if not attributes:
        widgets.empty("No attributes", "This data set has no groups of patients to compare.")
        st.stop()
    left, right = st.columns([1, 2])
    # Attribute names are foreign text: a selectbox shows them as they are, other widgets read markdown in them.
    attribute = left.selectbox("Attribute", attributes, key="attribute", bind="query-params")
    quantity = right.segmented_control(
        "Quantity", list(QUANTITIES), default="loss", key="quantity", bind="query-params", required=True,
        format_func=QUANTITIES.__getitem__,
    )  # fmt: skip
    methods, metrics = sinkhorn_page.choose_methods(here, entry)
    counted = sinkhorn_page.choose_counted(methods, metrics)
    sinkhorn_page.over_training(entry, methods, metrics, attribute, quantity, counted)
    names = ["Distributions", "Quantiles", "Distance and fairness"]
    spread, shift, worth = st.tabs(names, key="view", bind="query-params")
    # Only the open tab is computed.
    if spread.open:
        with spread:
            losses_page.distributions(run, attribute, quantity)
    elif shift.open:
        with shift:
            losses_page.quantiles(run, attribute, quantity)
    elif worth.open:
        with worth:
            sinkhorn_page.against_fairness(here, entry, methods, metrics, attribute, quantity, counted)
