"""Fine-tune: set up runs, estimate their cost, launch them in the background, and watch them."""

from __future__ import annotations

import streamlit as st

from ui import finetune_page, live_page, sweep_page, widgets
from ui.datasets import choose_dataset
from ui.frame import page

with page("Fine-tune", "Set up runs, estimate their cost, launch them in the background and watch them.") as here:
    live_page.choose_view(here)
    setup, watch, sweeps = st.tabs(live_page.VIEWS, key="view", bind="query-params")
    if setup.open:
        with setup:
            data = choose_dataset(here)
            if data is None:
                widgets.empty(
                    "No data set yet",
                    "Open a folder of image-note pairs above. Without data of your own, start the demo, or make the "
                    "built-in data and open its folder.",
                    "fairvlm synth data/synthfundus",
                    leads=("app.py",),
                )
                st.stop()
            finetune_page.form(here, data, live_page.go_to)
    if watch.open:
        with watch:
            if not here.entries:
                widgets.empty("No run yet", "Launch one under *Set up*: it appears here with its curves and its log.")
                st.stop()
            live_page.watch(here)
    if sweeps.open:
        with sweeps:
            sweep_page.show(here)
