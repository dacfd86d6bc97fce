"""Bad pairs: thresholds that mine again at once, linked map and table, and one pair after another."""

from __future__ import annotations

import streamlit as st

from ui import bad_pairs_page, widgets
from ui.frame import page

with page("Bad pairs", "Which pairs stand out, why, and which groups lose data by that.") as here:
    entry, run = here.entry, here.run
    if entry is None or run is None:
        widgets.empty(
            "No run yet",
            "Every run records the loss of each training pair in each epoch; bad pairs stand out by it.",
            "fairvlm train DATA --preset dbpm",
            leads=widgets.NO_RUN,
        )
        st.stop()
    if not bad_pairs_page.has_ledger(entry, run):
        st.stop()
    if entry.state in ("running", "queued"):
        st.caption(
            f"The run is being trained (epoch {entry.epoch} of {entry.epochs}): this is what it has recorded so far."
        )
    bad_pairs_page.workbench(run)
