"""Choosing a queue, and making one from the selected run or from pairs that another page selected."""

from __future__ import annotations

import uuid

import streamlit as st

from fairvlm_core.analysis.entries import number_of
from fairvlm_core.errors import InputError
from fairvlm_core.review import ORDERS, Queue, QueueSettings, ReviewStore, queue_from_run
from fairvlm_core.runs import Run, RunStore
from fairvlm_core.words import many

from . import widgets
from .frame import Here
from .review import queue_label, selection_of
from .review_desk import forget_turn
from .words import literal

CONTROLS = 0.2
FLAGGED, SELECTION = "What the run flagged", "The selection from Bad pairs"
ABOUT_QUEUE = (
    "A queue is a list of pairs to read. It holds the pairs that the order puts first, and **control pairs**: random pairs "
    "that were not flagged. The page looks the same for both. With control pairs, precision and recall of the miner are "
    "estimated without bias. A **second reader** judges a share of the pairs without seeing the first verdict. In a "
    "**blind** queue the page does not say why a pair is there."
)


def choose(store: ReviewStore) -> Queue | None:
    """A selector of queues, newest first, in the address as ``?queue=``; None where there is none."""
    queues = {queue.queue_id: queue for queue in reversed(store.queues())}
    if not queues:
        return None
    asked = st.query_params.get("queue")
    key = "review.queue"
    if st.session_state.get("review.queue.address") != asked or st.session_state.get(key) not in queues:
        st.session_state[key] = asked if asked in queues else next(iter(queues))
    if asked is not None and asked not in queues:
        st.warning(f"There is no queue {literal(asked)} here.", icon=":material/link_off:")
    chosen = st.selectbox(
        "Queue", list(queues), key=key, format_func=lambda queue_id: queue_label(queues[queue_id]), on_change=forget_turn,
        label_visibility="collapsed",
    )  # fmt: skip
    st.query_params["queue"] = chosen
    st.session_state["review.queue.address"] = chosen
    return queues[chosen]


def make_handed(here: Here, store: ReviewStore, name: str, *, allowed: bool) -> None:
    """Make the queue of pairs that another page sent, once, and say so; it is then the selected one."""
    state = st.session_state
    handed = state.pop("review.handed", None)
    chosen = selection_of(state)
    if handed is not None and chosen is not None and not allowed:
        st.warning("An administrator of this review makes queues. The pairs wait under *New queue*.")
    elif handed is not None and chosen is not None and (run := _run_of(here, chosen)) is not None:
        settings = {"order": "given", "pair_ids": chosen[1], "control_share": CONTROLS, "second_share": 0.0}
        if _make(store, run, f"{many(len(chosen[1]), 'pair')} of run {number_of(run.id)}", name, settings, handed):
            state.pop("review.selection")
    if made := state.pop("review.made", ""):
        st.success(made, icon=":material/check_circle:")


def new(here: Here, store: ReviewStore, name: str, *, allowed: bool) -> None:
    """The form for a new queue."""
    widgets.section("New queue", ABOUT_QUEUE)
    if not allowed:
        widgets.empty("For administrators", "An administrator of this review makes queues (review.toml).")
        return
    chosen = selection_of(st.session_state)
    run = _run_of(here, chosen)
    if run is None:
        widgets.empty("No run", "Choose a run in the sidebar first.")
        return
    try:
        attributes = [str(attribute) for attribute in run.data["attributes"]]
        pairs = run.pairs()
        groups = [(name, group) for name in attributes for group in sorted(pairs[name].astype(str).unique())]
    except (InputError, KeyError) as error:
        st.error(literal(error), icon=":material/error:")
        return
    sources = [SELECTION, FLAGGED] if chosen and chosen[0] == run.id else [FLAGGED]
    with st.form("review.new", width=900, enter_to_submit=False):
        top, about = st.columns([2, 3])
        name_of_queue = top.text_input("Name", value=f"Run {run.id.split('-')[0].lstrip('0')}", max_chars=80)
        source = about.radio("Pairs", sources, horizontal=True)
        if chosen and len(sources) > 1:
            about.caption(f"{many(len(chosen[1]), 'pair')} selected in run {literal(chosen[0])}")
        orders = [order for order in ORDERS if order != "given"]
        left, right = st.columns([3, 2])
        order = left.selectbox("Order", orders, format_func=ORDERS.__getitem__)
        balance = right.selectbox("In turn by group of", attributes or ["–"], help="For the order “in turn by group”.")
        only = st.multiselect(
            "Only these groups", groups, format_func=": ".join, placeholder="All patients",
            help="A patient must be in one of the chosen groups of each attribute. This holds for control pairs too.",
        )  # fmt: skip
        a, b, c = st.columns(3)
        size = a.number_input("Pairs in all", min_value=1, max_value=100_000, value=100)
        controls = b.slider("Control pairs", 0, 90, 20, format="%d %%")
        second = c.slider("Read by two", 0, 100, 10, format="%d %%")
        blind = st.checkbox("Blind: do not show why a pair is in the queue", value=True)
        made = st.form_submit_button("Make the queue", type="primary", icon=":material/playlist_add:")
    if made:
        settings = dict(
            size=int(size), control_share=controls / 100, second_share=second / 100, blind=blind, where=where_of(only),
        )  # fmt: skip
        if source == SELECTION and chosen is not None:
            settings |= {"order": "given", "pair_ids": chosen[1]}
        else:
            settings |= {"order": order, "balance_by": balance if order == "balanced" else None}
        if _make(store, run, name_of_queue, name, settings):
            st.rerun()  # the selector above shows the new queue


def where_of(chosen: list[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Groups by attribute, for `QueueSettings.where`.

    >>> where_of([("race", "Black"), ("gender", "Female"), ("race", "Asian")])
    {'race': ('Black', 'Asian'), 'gender': ('Female',)}
    """
    return {name: tuple(group for of, group in chosen if of == name) for name, _ in chosen}


def _make(
    store: ReviewStore, run: Run, name_of_queue: str, by: str, settings: dict, event_id: str | None = None
) -> bool:
    """Make and select a queue; whether that went well."""
    try:
        with st.spinner("Drawing the queue …"):
            settings = {"seed": uuid.uuid4().int % 2**31} | settings
            queue = queue_from_run(store, run, QueueSettings(**settings), name=name_of_queue, by=by, event_id=event_id)
    except InputError as error:
        st.error(literal(error), icon=":material/error:")
        return False
    st.query_params["queue"] = queue.queue_id
    controls = sum(item.control and item.stratum == "clean" for item in store.items(queue.queue_id))
    st.session_state["review.made"] = f"Queue {queue.queue_id} is made and selected: {many(queue.n_items, 'pair')}" + (
        f", {controls} of them control pairs." if controls else "."
    )
    st.session_state["review.view"] = "Review"
    return True


def _run_of(here: Here, chosen: tuple[str, tuple[str, ...]] | None) -> Run | None:
    """The run of the selection, else the one in the sidebar."""
    if chosen is not None:
        try:
            return RunStore(here.store.workspace).get(chosen[0])
        except InputError:
            st.warning(f"The selection belongs to run {literal(chosen[0])}, which is not in this workspace.")
    return here.run
