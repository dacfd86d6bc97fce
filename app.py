"""Overview: the workspace and its runs, main metrics, the next step. `streamlit run app.py`."""

from __future__ import annotations

import streamlit as st

from ui.server import guards

if __name__ != "__main__":
    # `streamlit run` imports this file, takes `app` as its server, and runs the same file as the first page. Pages are
    # imported only there: their caches need the server.
    app = st.App(__file__, middleware=guards())
else:
    from fairvlm_core.jobs.demo import demo_status
    from ui import overview, widgets
    from ui.entries import headlines, next_step, runs_table
    from ui.frame import page
    from ui.words import literal

    with page(
        "Overview", "Robust and fair fine-tuning of vision-language models on medical images and their notes."
    ) as here:
        overview.about(opened=not here.entries)
        demo = demo_status(here.store.workspace)
        overview.watch(here)  # polled

        if not here.entries:
            overview.offer_demo(here.store.workspace, demo)
            st.stop()

        best = st.container()
        entry = here.entry
        if entry is not None and entry.test is not None:
            widgets.section(f"Test metrics of run {literal(entry.label)}", *overview.ABOUT_METRICS)
            widgets.cards(headlines(entry.test))
            widgets.unfinished(entry)
            overview.links(entry)
        elif entry is not None:
            overview.without_metrics(entry)
        widgets.next_step(next_step(here.entries))

        table = runs_table(here.entries)
        widgets.section("Runs", *overview.ABOUT_STATES)
        st.caption("A click opens a run.")
        overview.runs(here, table.drop(columns=["Note", *(["Data"] if table["Data"].nunique() == 1 else [])]))
        for line in table.loc[table["Note"] != "", ["Run", "Note"]].itertuples():
            st.caption(literal(f"{line.Run}: {line.Note}"))
        widgets.download(table.assign(State=table["State"].str[0]), "runs.csv")
        with best:  # last: comparing may take some seconds
            overview.best(here)
