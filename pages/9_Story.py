"""Story: what came out of two methods, in large type, for a presenter."""

from __future__ import annotations

import streamlit as st

from fairvlm_core.analysis.methods import comparable, methods_of, newest_of_each_seed, reference_first
from ui import story_page, widgets
from ui.compare_page import readable_runs
from ui.frame import page
from ui.reads import comparison

with page("Story", "What came out, for whom, and what was found: two methods on one page.", runs="none") as here:
    usable = [entry for entry in here.entries if entry.state == "finished"]
    same = [entry for entry in usable if entry.fingerprint == usable[-1].fingerprint]
    readable = readable_runs(here, comparable(newest_of_each_seed(same))[0]) if same else []
    methods = reference_first(methods_of(readable))
    if len(methods) < 2:
        widgets.empty(
            "No finished run yet" if not usable else "One method only",
            "The story compares two methods on the same data. Train both, or make the demo on the overview.",
            "fairvlm train DATA --preset clip\nfairvlm train DATA --preset robustfair-plus",
            leads=widgets.NO_RUN,
        )
        st.stop()
    with st.spinner("Resampling patients …"):
        result = comparison(here.store.root, methods)
    if not result.attributes:
        widgets.empty("No attributes", "This data set has no groups of patients to compare.")
        st.stop()
    told = story_page.choose(here, result)
    story_page.style()
    story_page.tell(here, told)
