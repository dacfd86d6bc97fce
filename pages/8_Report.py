"""Report: a run as one self-contained file."""

from __future__ import annotations

import streamlit as st

from ui import report_page, widgets
from ui.frame import page

with page("Report", "One file that opens from disk: results, their limits, and how to reproduce the run.") as here:
    entry, run = here.entry, here.run
    if entry is None or run is None:
        widgets.empty(
            "No run yet",
            "A report describes a finished run. Train one, or make the demo on the overview.",
            "fairvlm train DATA --preset robustfair\nfairvlm report latest",
            leads=widgets.NO_RUN,
        )
        st.stop()
    if entry.state != "finished":
        report_page.without_report(entry)
        st.stop()
    report_page.show(run, report_page.choose(here, entry), here)
