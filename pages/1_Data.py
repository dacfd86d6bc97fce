"""Data: groups of the data set, the intake report, and the pairs themselves."""

from __future__ import annotations

import streamlit as st

from ui import bring, browse, data_page, widgets
from ui.datasets import choose_dataset
from ui.frame import page

with page("Data", "Who is in the data set: groups, label rates, intersections, and the intake report.") as here:
    if folder := bring.asked():
        bring.show(here, folder)
        st.stop()
    data = choose_dataset(here)
    if data is None:
        widgets.empty(
            "No data set yet",
            "Open a folder of your own above: fairvlm looks at its table and images and proposes what they mean. The data "
            "sets of runs appear here, too. For a trial, make the built-in data and open its folder.",
            "fairvlm synth data/synthfundus",
            leads=("app.py",),
        )
        st.stop()
    if st.button("Change what its columns mean", icon=":material/edit:", type="tertiary", key="data.bring"):
        st.switch_page("pages/1_Data.py", query_params={"bring": data.folder})
    table = data.table()
    widgets.cards(data_page.totals(table))
    who, intake, pairs = st.tabs(
        ["Who is in the set", "Intake report", "Browse pairs"], key="view", bind="query-params"
    )
    # Only the open tab is computed: large data sets take time.
    for tab, draw in ((who, data_page.who), (intake, data_page.intake), (pairs, browse.browse)):
        if tab.open:
            with tab:
                draw(table)
