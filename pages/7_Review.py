"""Review: clinicians judge one pair after another; their verdicts train the next model."""

from __future__ import annotations

import streamlit as st

from fairvlm_core.review import ReviewStore, may
from ui import review_adjudicate, review_queues, review_results, review_train, widgets
from ui.frame import page
from ui.review_desk import around_desk, desk, guidelines
from ui.review_store import review_store
from ui.review_who import leave, reviewer
from ui.words import literal

with page("Review", "Judge one pair after another: do image, note and label belong together?") as here:
    workspace = here.store.workspace
    if not here.entries and not ReviewStore.exists(workspace):
        widgets.empty(
            "No run yet",
            "A review asks clinicians about pairs that a run found suspicious, so it starts with a run.",
            "fairvlm train DATA --preset robustfair",
        )
        st.stop()
    who = reviewer(workspace)
    if who is None:
        st.stop()
    name, role = who
    with st.sidebar:
        st.divider()
        st.caption("Reviewer")
        st.text(f"{name} · {role}")
        st.button("Switch reader", key="review.leave", icon=":material/logout:", on_click=leave, type="tertiary")
    store = review_store(workspace)
    if store.read_only:
        st.warning(f"{literal(store.name)} cannot be written: you can read it here, but not record verdicts.")
    review_queues.make_handed(here, store, name, allowed=may(role, "make_queue"))
    if "review.view" in st.session_state:
        st.session_state["view"] = st.session_state.pop("review.view")
    with st.container(horizontal=True):
        queue = review_queues.choose(store)
        guidelines()
    names = ["Review", "Adjudicate", "Results", "New queue"]
    around_desk()
    review, adjudicate, results, new = st.tabs(names, key="view", bind="query-params")
    if review.open:
        with review:
            if queue is None:
                widgets.empty("No queue yet", "An administrator makes one under *New queue*.")
            elif not store.read_only:
                desk(store, here.store, queue, name)
                review_train.train_again(here, store, queue, allowed=may(role, "make_queue"))
    if adjudicate.open:
        with adjudicate:
            review_adjudicate.adjudicate(store, here.store, queue, name, allowed=may(role, "adjudicate"))
    if results.open:
        with results:
            review_results.results(store, here.store, queue, name, role)
    if new.open:
        with new:
            review_queues.new(here, store, name, allowed=may(role, "make_queue"))
