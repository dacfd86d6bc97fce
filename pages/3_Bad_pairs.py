"""Bad pairs: the workbench. Thresholds that re-mine at once, map and table linked, one pair after another."""

from __future__ import annotations

import streamlit as st

from ui import bad_pairs_page, widgets
from ui.frame import page

with page("Bad pairs", "Which pairs stand out by their losses, for whom that takes data away, and why.") as here:
    entry, run = here.entry, here.run
    if entry is None or run is None:
        widgets.empty(
            "No run yet",
            "Every run records the loss of each training pair in each epoch; the bad ones stand out in it.",
            "fairvlm train DATA --preset dbpm",
            leads=widgets.NO_RUN,
        )
        st.stop()
    if not bad_pairs_page.has_ledger(entry, run):
        st.stop()
    if entry.state in ("running", "queued"):
        st.caption(
            f"The run is at work (epoch {entry.epoch} of {entry.epochs}): what is shown is what it has recorded."
        )
    bad_pairs_page.workbench(run)
