"""Parts of the Bad pairs page: thresholds, map and table, planted truth, export."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from fairvlm_core.analysis.clean_data import clean_manifest, csv_bytes, description, parquet_bytes
from fairvlm_core.analysis.entries import DAMAGED, RunEntry
from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.analysis.mined_pairs import (
    PAIR_KINDS,
    MinedPairs,
    PairFilter,
    RunPairs,
    changed_settings,
    matching_rows,
    pair_frame,
    usable_rules,
    usable_settings,
)
from fairvlm_core.analysis.planted_truth import truth_scores
from fairvlm_core.config import MiningConfig
from fairvlm_core.errors import InputError
from fairvlm_core.jobs import maps
from fairvlm_core.mining import RANKING_RULES
from fairvlm_core.runs import Run
from fairvlm_core.words import KIND_TITLES, many

from . import bad_pairs, bad_pairs_charts, bad_pairs_reads, inspector_page, widgets
from .bad_pairs import CHANNELS, HISTORIES, LISTED, MINED_CHANNELS, SETTINGS, SPREADS
from .frame import errors, page_names
from .words import chart_text, literal

ABOUT_MINING = (
    "The loss of every training pair is kept, epoch by epoch. A pair whose mean loss lies far **above** the others is "
    "flagged as a *wrong note*: image and note disagree. A pair far **below** is flagged as a *shared marker*: so easy "
    "that image and note may share something that is not the clinical content. With the rule *Limits*, the limits lie "
    "β_f and β_n standard deviations from the mean. The spread *Robust* uses the median and the median absolute "
    "deviation instead, which bad pairs do not inflate. *Mixture* tests whether there is a second, higher group of losses. "
    "*Agreement* (only in runs that recorded it) estimates the probability that a note is wrong from what the other pairs "
    "show. Moving a slider trains nothing: the stored losses are mined again.",
    r"\text{wrong note: } m_i > \mu + \beta_f\,\sigma \qquad \text{shared marker: } m_i < \mu - \beta_n\,\sigma \qquad "
    r"w_i = e^{-(\ell_i-\mu)^2 / 2\sigma^2}",
)
ABOUT_MAP = (
    "Each point is an image or a note, placed by the embeddings of the run's model. Points that lie together are similar; "
    "far distances, areas and densities mean nothing. Images and notes have one map each. Draw a loop (or a box) around "
    "points: the table shows these pairs, the others turn grey. In *pan* mode a click selects a point; with the shift key "
    "it is added to the selection.",
    None,
)
ABOUT_TRUTH = (
    "The built-in data has bad pairs planted on purpose. **Mismatch** (another patient's note) should be flagged as a "
    "wrong note, **shortcut** (the same marker in image and note) as a shared marker. Precision: the share of flagged "
    "pairs that were planted. Recall: the share of planted pairs that are flagged. Average precision is over all possible "
    "limits. Chance is the precision of flagging at random.",
    r"\text{precision} = \frac{\text{flagged and planted}}{\text{flagged}} \qquad "
    r"\text{recall} = \frac{\text{flagged and planted}}{\text{planted}}",
)
_STATE = "bad_pairs"
_POLL = 2.0


@dataclass(frozen=True, eq=False)
class Table:
    """What the table lists: rows of the run's pairs, most suspicious first, and the selection that they come from."""

    rows: np.ndarray
    chosen: tuple[str, ...]


def has_ledger(entry: RunEntry, run: Run) -> bool:
    """Whether there is something to mine; says why where there is not."""
    if entry.state == DAMAGED:
        st.error(literal(f"Run {entry.id} cannot be read: {entry.message}"), icon=":material/error:")
        return False
    if run.files.ledger.exists():
        return True
    if entry.state in ("running", "queued"):
        widgets.empty(
            "No epoch yet", f"Run {literal(entry.id)} is {entry.state}. Its losses appear here, epoch by epoch."
        )
    else:
        widgets.empty(
            "No losses recorded", f"Run {literal(entry.id)} ended before its first epoch did. Choose another run."
        )
    return False


@st.fragment
def workbench(run: Run) -> None:
    """Everything below the heading; one fragment, so that a slider does not run the whole page."""
    with errors():
        found = bad_pairs_reads.run_pairs(run)
        own = usable_settings(run.config.mining, found.ledger.channels)
        settings = _settings(run, found, own)
        now, before = bad_pairs_reads.run_mined(run, settings), bad_pairs_reads.run_mined(run, own)
        _overview(run, found, now, before)
        data, problem = _data(run)
        listing = _linked(run, found, now)
        inspector_page.inspect(run, found, now, listing.rows, data, problem, move)
        if data is not None:
            _truth(run, now)
        _export(run, found, now, listing, data)


def _data(run: Run) -> tuple[bad_pairs_reads.Data | None, str]:
    try:
        return bad_pairs_reads.run_data(run), ""
    except InputError as error:
        return None, str(error)


# Thresholds -------------------------------------------------------------------------------------------------------------


def _settings(run: Run, found: RunPairs, own: MiningConfig) -> MiningConfig:
    """Sliders and switches; they start at the run's own settings and stay while the run does."""
    state = st.session_state
    kept = state.get(f"{_STATE}.kept")
    if state.get(f"{_STATE}.run") != run.id:
        state[f"{_STATE}.run"] = run.id
        _put(own)
        _select(())
    elif f"{_STATE}.rule" not in state:
        _put(kept or own)
    widgets.section("Thresholds", *ABOUT_MINING, about="How pairs are flagged")
    limits = RANKING_RULES[state[f"{_STATE}.rule"]].limits
    with st.container(border=True):
        first, second, third = st.columns([1, 1, 1], gap="medium")
        for column, name, label in (
            (first, "faulty_sd", "Limit for wrong notes (β_f)"),
            (second, "noisy_sd", "Limit for shared markers (β_n)"),
        ):
            low, high = bad_pairs.slider_range(getattr(own, name))
            column.slider(
                label, low, high, step=bad_pairs.STEP_SD, format="%.1f", key=f"{_STATE}.{name}",
                disabled=name not in limits,
                help="In standard deviations from the mean. Higher: fewer pairs are flagged."
                if name in limits
                else "The chosen rule finds its own limit.",
            )  # fmt: skip
        with third:
            rules = usable_rules(found.ledger.channels)
            _switch("Rule", "rule", rules, {name: RANKING_RULES[name].title for name in rules})
        columns = st.columns([1, 1, 1], gap="medium", vertical_alignment="bottom")
        with columns[0]:
            _switch("Mean over epochs", "history", list(HISTORIES), HISTORIES)
        with columns[1], st.container(horizontal=True, gap="medium"):
            _switch("Spread", "spread", list(SPREADS), SPREADS)
            channels = [name for name in MINED_CHANNELS if name in found.ledger.channels]
            if len(channels) > 1:
                _switch("Mined value", "channel", channels, CHANNELS)
        settings = changed_settings(
            run.config.mining, {name: state.get(f"{_STATE}.{name}", getattr(own, name)) for name in SETTINGS}
        )
        columns[2].button(
            "Back to the run's settings", key=f"{_STATE}.reset", icon=":material/undo:", on_click=_put, args=(own,),
            disabled=settings == own, width="stretch",
        )  # fmt: skip
    state[f"{_STATE}.kept"] = settings
    return settings


def _switch(label: str, name: str, options: list[str], titles: dict[str, str]) -> None:
    st.segmented_control(
        label, options, key=f"{_STATE}.{name}", format_func=titles.__getitem__, required=True, wrap=True
    )


def _put(settings: MiningConfig) -> None:
    for name in SETTINGS:
        st.session_state[f"{_STATE}.{name}"] = getattr(settings, name)


def _overview(run: Run, found: RunPairs, now: MinedPairs, own: MinedPairs) -> None:
    widgets.cards(bad_pairs.cards(now, own))
    if now.result.message:
        st.info(literal(f"{now.result.message[:1].upper()}{now.result.message[1:]}."), icon=":material/info:")
    if not run.config.mining.enabled:
        st.caption("This run did not down-weight any pair: this is what mining its losses finds afterwards.")
    left, right = st.columns(2, gap="medium")
    channel = CHANNELS.get(now.result.channel, now.result.channel).lower()
    with left:
        st.markdown(f"**Mean {channel} of {len(now.result):,} training pairs**")
        picture = bad_pairs_charts.histogram(now, f"Mean {channel} over {many(now.result.n_epochs, 'epoch')}")
        widgets.chart(picture, f"{_STATE}.histogram",
              f"Histogram of the mean {channel} with the limits")  # fmt: skip
    with right:
        if not found.groups:
            widgets.empty("No attributes", "This data set has no groups of patients to compare.")
            return
        names = list(found.groups)
        attribute = st.segmented_control(
            "Flag rate by", names, default=names[0], key=f"{_STATE}.attribute", format_func=literal, required=True,
            persist_state="page", wrap=True,
        )  # fmt: skip
        audit = next(a for a in now.audit.attributes if a.attribute == attribute)
        widgets.chart(bad_pairs_charts.rate_chart(audit), f"{_STATE}.rates", f"Flag rate by {chart_text(attribute)}")
        warned, words = bad_pairs.audit_words(now.audit, attribute)
        if warned:
            st.warning(literal(words), icon=":material/balance:")
        else:
            st.caption(f":material/balance: {literal(words)}")
        shown = bad_pairs.audit_table(now.audit, attribute)
        with st.expander("The same as a table", icon=":material/table:"):
            widgets.table(shown, key=f"{_STATE}.audit")
            widgets.download(shown, f"{run.id}-flagged-by-{attribute}.csv".replace("/", "-"))


# Map and table ----------------------------------------------------------------------------------------------------------


def _linked(run: Run, found: RunPairs, now: MinedPairs) -> Table:
    state = st.session_state
    chosen = tuple(state.get(f"{_STATE}.chosen", ()))
    widgets.section("Map and pairs", *ABOUT_MAP, about="How to read and select")
    left, right = st.columns([1.1, 1], gap="medium")
    with right:
        asked = _filters(found)
        rows = matching_rows(found, now, asked, chosen)
    listing = Table(rows, chosen)
    pair = _pair(found, listing)
    with left, errors():
        _map(run, found, now, pair)
    with right:
        _table(found, now, listing, pair)
    return listing


def _pair(found: RunPairs, listing: Table) -> str | None:
    """The pair in the address if the run has it, else the first of the list, which then goes into the address."""
    asked = st.query_params.get("pair")
    first = str(found.ids[listing.rows[0]]) if len(listing.rows) else None
    pair = asked if found.row_of(asked) is not None else first
    if asked is not None and asked != pair:
        st.warning(f"There is no pair {literal(asked)} in this run.", icon=":material/link_off:")
    if pair is not None and asked != pair:
        st.query_params["pair"] = pair
    return pair


def move(pair: str | None) -> None:
    """Show another pair in the inspector, and mark it on the map."""
    if pair is not None:
        st.query_params["pair"] = pair
        _turn()


def _turn() -> None:
    st.session_state[f"{_STATE}.turn"] = st.session_state.get(f"{_STATE}.turn", 0) + 1


def _select(chosen: tuple[str, ...]) -> None:
    st.session_state[f"{_STATE}.chosen"] = chosen
    _turn()


def _filters(found: RunPairs) -> PairFilter:
    first, second, third = st.columns([1.25, 1, 1], gap="small")
    kinds = first.multiselect(
        "Kind",
        PAIR_KINDS[:3],
        format_func=KIND_TITLES.__getitem__,
        key=f"{_STATE}.kinds",
        placeholder="All kinds",
        persist_state="page",
        label_visibility="collapsed",
    )
    attribute = st.session_state.get(f"{_STATE}.attribute") if found.groups else None
    groups: list[str] = []
    if attribute in found.groups:
        groups = second.multiselect(
            literal(attribute), group_order(found.groups[attribute]), key=f"{_STATE}.groups.{attribute}",
            placeholder=f"All of {attribute}", persist_state="page", label_visibility="collapsed",
        )  # fmt: skip
    words = third.text_input(
        "Pair id", key=f"{_STATE}.words", placeholder="Part of a pair id", persist_state="page",
        label_visibility="collapsed",
    )  # fmt: skip
    return PairFilter(tuple(kinds), attribute if groups else None, tuple(groups), words)


def _map(run: Run, found: RunPairs, now: MinedPairs, pair: str | None) -> None:
    state = st.session_state
    made = bad_pairs_reads.run_map(run)
    if made is None:
        _no_map(run)
        return
    verdicts = bad_pairs_reads.run_verdicts(run)
    choices = bad_pairs.colour_choices(list(found.groups), verdicts is not None)
    first, second = st.columns([1, 1.3], gap="small")
    by = first.selectbox(
        "Colour by", list(choices), key=f"{_STATE}.colour", format_func=choices.__getitem__, persist_state="page",
        label_visibility="collapsed",
    )  # fmt: skip
    sides = bad_pairs_charts.SIDES
    with second:
        side = st.segmented_control(
            "Show", list(sides), default="image", key=f"{_STATE}.side", format_func=sides.__getitem__, required=True,
            persist_state="page", label_visibility="collapsed",
        )  # fmt: skip
    # The browser itself greys out what a loop leaves out. A new chart would lose loop and zoom, so the selection and the
    # marked pair go into it only when something else changes.
    sign = (run.id, now.settings, by, side, state.get(f"{_STATE}.turn", 0))
    drawn_as = state.get(f"{_STATE}.drawn")
    if drawn_as is None or drawn_as[0] != sign:
        drawn_as = (sign, tuple(state.get(f"{_STATE}.chosen", ())), pair)
        state[f"{_STATE}.drawn"] = drawn_as
    _, chosen, ring = drawn_as
    colours = bad_pairs.colouring(found, now, by, verdicts)
    wanted = np.zeros(len(found), bool)
    wanted[found.rows_of(chosen)] = True
    strata = now.kind if colours.values is None else np.unique(colours.values, return_inverse=True)[1]
    shown = bad_pairs.drawn(colours.candidates, strata, now.flagged, wanted, found.chance)
    picture = bad_pairs_charts.map_chart(found, now, made.points, shown.rows, colours, side, chosen, ring)
    key = f"{_STATE}.map"

    def selected() -> None:
        points = st.session_state[key]["selection"]["points"]
        ids = tuple(dict.fromkeys(str(point["customdata"]) for point in points if "customdata" in point))
        st.session_state[f"{_STATE}.chosen"] = ids
        if ids:
            first_row = matching_rows(found, now, PairFilter(), ids)[0]
            st.query_params["pair"] = str(found.ids[first_row])
        if side == "both":  # a loop on one map greys out the other only in a new chart
            _turn()

    widgets.chart(
        picture, key, f"Map of {len(shown.rows)} pairs", config=bad_pairs_charts.MAP_CONFIG, on_select=selected,
        selection_mode=("points", "box", "lasso"),
    )  # fmt: skip
    st.caption(f"{made.method}. {shown.words or 'Every pair is drawn.'} A ring marks the pair below.")


def _no_map(run: Run) -> None:
    @st.fragment(run_every=_POLL)
    def follow() -> None:
        state = maps.map_state(run)
        if state == "made":
            st.rerun()
        if state == "running":
            st.info("The map is being made; it appears here. You can go on meanwhile.", icon=":material/hourglass_top:")
            return
        if not run.files.embeddings.exists():
            widgets.empty(
                "No map yet", "The map is made of a run's embeddings, which are written when it has finished."
            )
            return
        widgets.empty(
            "No map yet", "A map of images and notes is made once for each run; it takes some seconds to minutes."
        )
        if state == "stopped":
            st.error(literal(f"It could not be made: {maps.last_line(run)}"), icon=":material/error:")
        if st.button("Make the map", key=f"{_STATE}.make_map", type="primary", icon=":material/scatter_plot:"):
            with errors():
                maps.start_map(run)
                st.rerun(scope="fragment")

    follow()


def _table(found: RunPairs, now: MinedPairs, listing: Table, pair: str | None) -> None:
    rows = listing.rows[:LISTED]
    ids = found.ids[rows]
    key = f"{_STATE}.table"
    place = np.flatnonzero(ids == pair)
    st.session_state[key] = {"selection": {"rows": place.tolist(), "columns": []}}

    def opened() -> None:
        # The table tells of its row again when its content changes: only another pair is news.
        picked = st.session_state[key]["selection"]["rows"]
        if picked and picked[0] < len(ids) and ids[picked[0]] != st.query_params.get("pair"):
            move(str(ids[picked[0]]))

    if len(rows):
        shown = pair_frame(found, now, rows).rename(columns={"mean_loss": "mean"})
        shown["kind"] = shown["kind"].map(KIND_TITLES)
        widgets.table(
            shown.drop(columns=["weight", "patient_id"]), _FORMATS, key=key, on_select=opened, selection_mode="single-row",
            height=bad_pairs_charts.MAP_HEIGHT, alt="Pairs, most suspicious first",
        )  # fmt: skip
    else:
        widgets.empty("No pair passes", "Choose fewer kinds or groups, another id, or clear the selection.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{bad_pairs.counted(listing.rows, found, listing.chosen)}, most suspicious first.", width="stretch")
        st.button(
            "Clear the selection", key=f"{_STATE}.clear", icon=":material/close:", type="tertiary", on_click=_select,
            args=((),), disabled=not listing.chosen,
        )  # fmt: skip


_FORMATS = {
    "pair_id": st.column_config.TextColumn("Pair", width=92),
    "kind": st.column_config.TextColumn("Kind", width=112),
    "mean": st.column_config.NumberColumn(
        "Mean", format="%.2f", width=56, help="Mean of the mined value over the epochs"
    ),
    "z": st.column_config.NumberColumn(
        "z",
        format="%+.1f",
        width=48,
        help="Standard deviations from the mean; with the rule Agreement, of margin and disagreement together",
    ),
    "label": st.column_config.NumberColumn("label", format="%d", width=48),
}


# Truth and export -------------------------------------------------------------------------------------------------------


def _truth(run: Run, now: MinedPairs) -> None:
    truth = bad_pairs_reads.run_truth(run, now)
    scores = [] if truth is None else truth_scores(now, truth.planted, truth.curves)
    if not scores:
        return
    widgets.section("Against what was planted", *ABOUT_TRUTH)
    left, right = st.columns([1.15, 1], gap="medium")
    with left:
        widgets.chart(bad_pairs_charts.truth_chart(scores), f"{_STATE}.truth", "Precision against recall")
    with right:
        widgets.table(bad_pairs.truth_table(scores), key=f"{_STATE}.scores")
        st.caption("The large mark shows the current limits; dotted: chance.")


def _export(run: Run, found: RunPairs, now: MinedPairs, listing: Table, data: bad_pairs_reads.Data | None) -> None:
    flagged = now.order[now.flagged[now.order]]
    widgets.section("Download and send")
    with st.container(border=True), st.container(horizontal=True, vertical_alignment="center"):
        _download(
            f"Flagged pairs ({len(flagged):,})", lambda: csv_bytes(pair_frame(found, now, flagged)),
            f"{run.id}-flagged.csv", disabled=not len(flagged),
        )  # fmt: skip
        _download(
            f"Listed pairs ({len(listing.rows):,})",
            lambda: csv_bytes(pair_frame(found, now, listing.rows)),
            f"{run.id}-listed.csv", disabled=not len(listing.rows),
        )  # fmt: skip
        if data is not None and len(flagged):
            with st.popover(f"Data set without the {len(flagged):,} flagged", icon=":material/filter_alt_off:"):
                _manifest(run, found.ids[flagged], data)
        _send(run, [str(pair) for pair in found.ids[flagged]], listing.chosen)


def _manifest(run: Run, bad: np.ndarray, data: bad_pairs_reads.Data) -> None:
    form = st.segmented_control("Format", ["CSV", "Parquet"], default="CSV", key=f"{_STATE}.format", required=True)
    name = f"manifest-without-bad-of-{run.id}"
    file = f"{name}.{form.lower()}"
    make = {"CSV": csv_bytes, "Parquet": parquet_bytes}[form]
    st.caption(
        "Put both files into the data folder; images stay where they are. In the CSV a cell that begins like a formula "
        "gets an apostrophe in front; the Parquet file keeps every cell as it is."
    )
    _download("Manifest", lambda: make(clean_manifest(data.table, bad)), file)
    _download("Its description", lambda: description(data.table, file).encode(), f"{name}.json")
    st.code(f"fairvlm train DATA --description DATA/{name}.json", language=None)


def _download(label: str, make: Callable[[], bytes], file: str, **more: Any) -> None:
    """A button whose file is made when it is pressed."""
    st.download_button(
        label, make, file_name=file, key=f"download.{file}", on_click="ignore", icon=":material/download:", **more
    )


def _send(run: Run, flagged: list[str], chosen: tuple[str, ...]) -> None:
    pairs, which = (list(chosen), "selected") if chosen else (flagged, "flagged")

    pressed = st.button(
        f"Send {many(len(pairs), f'{which} pair')} to Review", key=f"{_STATE}.send", icon=":material/rate_review:",
        disabled=not pairs, help="Makes a queue of these pairs, with random control pairs among them, and opens it.",
    )  # fmt: skip
    if pressed:
        st.session_state["review.selection"] = {"run": run.id, "pair_ids": pairs}
        st.session_state["review.handed"] = str(uuid.uuid4())  # one press, one queue
        st.switch_page(f"pages/{page_names()['Review']}", query_params={"run": run.id})
