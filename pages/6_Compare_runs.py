"""Compare runs: methods over seeds, ES-AUC and group AUC with intervals, paired differences."""

from __future__ import annotations

import streamlit as st

from fairvlm_core.analysis.methods import comparable, methods_of, newest_of_each_seed, reference_first
from ui import compare_page, widgets
from ui.frame import choose_runs, page
from ui.reads import comparison
from ui.words import literal

with page(
    "Compare runs",
    "Is one method better than another, for which groups, and is the difference more than chance?",
    runs="many",
) as here:
    usable = [entry for entry in here.entries if entry.state == "finished"]
    if not usable:
        widgets.empty(
            "No finished run yet",
            "Train at least two runs on the same data; runs that differ only by seed count as one method.",
            "fairvlm train DATA --preset clip --seed 0\nfairvlm train DATA --preset robustfair --seed 0",
            leads=widgets.NO_RUN,
        )
        st.stop()
    same_data = [entry for entry in usable if entry.fingerprint == usable[-1].fingerprint]
    newest = [entry.id for entry in newest_of_each_seed(same_data)]
    chosen = choose_runs(here, here.entries, default=newest)
    if not chosen:
        widgets.empty(
            "No run chosen", "Choose two or more runs above. The address of the page then links to this comparison."
        )
        st.stop()
    same, left_out = comparable(chosen)
    for one in left_out:
        st.warning(literal(f"Left out: {one}"), icon=":material/link_off:")
    readable = compare_page.readable_runs(here, same)
    if not readable:
        widgets.empty(
            "Nothing to compare", "None of the chosen runs has metrics that can be read. Choose others above."
        )
        st.stop()
    with st.spinner("Resampling patients …"):
        result = comparison(here.store.root, reference_first(methods_of(readable)))
    compare_page.verdict(result)
    compare_page.tradeoff(result)
    compare_page.methods(result)
    compare_page.paired_difference(here, result)
    compare_page.es_auc(result)
    compare_page.groups(result)
    compare_page.over_epochs(here, result)
    compare_page.distances(here, result)
    compare_page.thresholds(here, readable, result)
