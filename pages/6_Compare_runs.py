"""Compare runs: methods over seeds, ES-AUC and group AUC with intervals, paired differences."""

from __future__ import annotations

import streamlit as st

from ui import compare, compare_page, widgets
from ui.frame import choose_runs, page
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
    newest = [entry.id for entry in compare.once_a_seed(same_data)]
    chosen = choose_runs(here, here.entries, default=newest)
    if not chosen:
        widgets.empty(
            "No run chosen", "Choose two or more runs above. The address of the page then links to this comparison."
        )
        st.stop()
    same, lines = compare.comparable(chosen)
    for line in lines:
        st.warning(literal(line), icon=":material/link_off:")
    readable, reports = compare_page.reports_of(here, same)
    if not readable:
        widgets.empty(
            "Nothing to compare", "None of the chosen runs has metrics that can be read. Choose others above."
        )
        st.stop()
    configs = {entry.id: here.run_of(entry).config.to_dict() for entry in readable}
    methods = compare.methods_of(readable, configs)
    compare_page.methods(methods, reports, configs)
    compare_page.paired_difference(here, methods)
    compare_page.es_auc(methods, reports)
    compare_page.groups(methods, reports)
    compare_page.tradeoff(methods, reports, configs)
    compare_page.thresholds(here, readable, reports)
