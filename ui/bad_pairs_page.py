"""Parts of the Bad pairs page: thresholds, map and table, planted truth, export."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

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
    why,
)
from fairvlm_core.analysis.planted_truth import truth_scores
from fairvlm_core.config import MiningConfig
from fairvlm_core.errors import InputError
from fairvlm_core.jobs import maps
from fairvlm_core.mining import RANKING_RULES
from fairvlm_core.runs import Run
from fairvlm_core.words import KIND_TITLES, many

from . import bad_pairs, bad_pairs_charts, bad_pairs_reads, inspector_page, widgets
from .bad_pairs import CHANNELS, HISTORIES, LISTED, MINED_CHANNELS, SETTINGS, SPREADS, STRICTNESS
from .frame import errors, page_names
from .pair_board import BoardItem, BoardMap, pair_board
from .reads import thumbnail
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
    "far distances, areas and densities mean nothing. A click opens a pair, in the list and on the map; arrow keys go on. "
    "*Lasso*: draw a loop around points, and the list shows these pairs. Drag to move the map, turn the wheel to zoom.",
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
BOARD_HEIGHT, LIST_HEIGHT, MAP_HEIGHT = 610, 262, 214  # pixels; with the heading they fit 1280 × 800
_POLL = 2.0
_LIMITS = {"faulty_sd": "Limit for wrong notes (β_f)", "noisy_sd": "Limit for shared markers (β_n)"}


@dataclass(frozen=True, eq=False)
class Table:
    """What is listed: rows of the run's pairs, most suspicious first, the selection they come from, and the counts."""

    rows: np.ndarray
    chosen: tuple[str, ...]
    words: str


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


# Room for list, map and inspector in a window of 1280 × 800.
_STYLE = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 1.4rem;}
[data-testid="stHeader"] {background: transparent; pointer-events: none;}
[data-testid="stHeader"] button {pointer-events: auto;}
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] {gap: 0.55rem;}
[data-testid="stElementContainer"]:has(h1) + [data-testid="stElementContainer"] {display: none;}
.st-key-bad_pairs_inspector kbd {display: none;}
@media (max-width: 1000px) {
  .st-key-bad_pairs_bench [data-testid="stHorizontalBlock"]:has(.st-key-bad_pairs_inspector) {flex-wrap: wrap;}
  .st-key-bad_pairs_bench [data-testid="stHorizontalBlock"] > [data-testid="stColumn"]:has(.st-key-bad_pairs_inspector),
  .st-key-bad_pairs_bench [data-testid="stColumn"]:has([data-testid="stBidiComponentRegular"]) {
    flex: 1 1 100%; min-width: 100%;
  }
}
.st-key-bad_pairs_inspector [data-testid="stVerticalBlock"], .st-key-bad_pairs_inspector {gap: 0.5rem;}
</style>"""


def workbench(run: Run) -> None:
    """List, map and inspector; below them counts and the audit, which a click on a pair does not redraw."""
    st.html(_STYLE)
    _bench(run)
    _below(run)


@st.fragment
def _bench(run: Run) -> None:
    with errors():
        found = bad_pairs_reads.run_pairs(run)
        own = usable_settings(run.config.mining, found.ledger.channels)
        data, problem = _data(run)
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="bad_pairs_top"):
            filters, others = (st.container(horizontal=True, gap="small", width="content") for _ in range(2))
        before = st.session_state.get(f"{_STATE}.kept")
        settings = _settings(run, found, own, others)
        if before not in (None, settings):
            st.rerun()  # the part below shows them, too
        now = bad_pairs_reads.run_mined(run, settings)
        listing = _listing(run, found, now, data, filters)
        view = _map_view(run, found, others)
        if now.result.message:
            st.info(literal(f"{now.result.message[:1].upper()}{now.result.message[1:]}."), icon=":material/info:")
        pair = _pair(found, listing)
        left, right = st.container(key="bad_pairs_bench").columns([1, 1.06], gap="medium")
        with left:
            _board(run, found, now, listing, pair, data, view)
        with right, st.container(height=BOARD_HEIGHT, border=False, key="bad_pairs_inspector"):
            inspector_page.inspect(run, found, now, listing.rows, data, problem, move)
        _export(run, found, now, listing, data)


@st.fragment
def _below(run: Run) -> None:
    settings = st.session_state.get(f"{_STATE}.kept")
    if settings is None:
        return  # the part above could not be drawn, and says why
    with errors():
        found = bad_pairs_reads.run_pairs(run)
        own = usable_settings(run.config.mining, found.ledger.channels)
        now = bad_pairs_reads.run_mined(run, settings)
        _overview(run, found, now, bad_pairs_reads.run_mined(run, own))
        if _data(run)[0] is not None:
            _truth(run, now)


def _data(run: Run) -> tuple[bad_pairs_reads.Data | None, str]:
    try:
        return bad_pairs_reads.run_data(run), ""
    except InputError as error:
        return None, str(error)


# Thresholds -------------------------------------------------------------------------------------------------------------


def _settings(run: Run, found: RunPairs, own: MiningConfig, top: DeltaGenerator) -> MiningConfig:
    """How strict, and the rest under *Advanced*; they start at the run's own settings and stay while the run does."""
    state = st.session_state
    kept = state.get(f"{_STATE}.kept")
    if state.get(f"{_STATE}.run") != run.id:
        fresh = f"{_STATE}.run" not in state
        state[f"{_STATE}.run"] = run.id
        state.pop(f"{_STATE}.kinds", None)
        _put(_from_address(own, found) if fresh else own)  # after a reload, what the address says
        state[f"{_STATE}.chosen"] = ()
    elif f"{_STATE}.rule" not in state:
        _put(kept or own)
    limits = RANKING_RULES[state[f"{_STATE}.rule"]].limits
    with top.popover("How strict"):
        # Buttons, not a slider that follows the limits: a value that is set while its owner still sends the old one counts
        # as a change by hand.
        now = min(STRICTNESS, key=lambda word: abs(STRICTNESS[word] - state[f"{_STATE}.faulty_sd"] / own.faulty_sd))
        with st.container(horizontal=True, gap="xsmall", width=460):
            for word, factor in STRICTNESS.items():
                st.button(
                    word, key=f"{_STATE}.strict.{factor}", type="primary" if word == now else "secondary",
                    disabled=not limits, on_click=_strict, args=(own, factor),
                )  # fmt: skip
        if not limits:
            title = RANKING_RULES[state[f"{_STATE}.rule"]].title
            st.caption(f"The rule *{title}* finds its own limit. Choose another rule under *Advanced* to set one.")
        with st.expander("Advanced", icon=":material/settings:"):
            for name, label in _LIMITS.items():
                low, high = bad_pairs.slider_range(getattr(own, name))
                st.slider(
                    label, low, high, step=bad_pairs.STEP_SD, format="%.1f", key=f"{_STATE}.{name}",
                    disabled=name not in limits,
                    help="In standard deviations from the mean. Higher: fewer pairs are flagged."
                    if name in limits
                    else "The chosen rule finds its own limit.",
                )  # fmt: skip
            rules = usable_rules(found.ledger.channels)
            _switch("Rule", "rule", rules, {name: RANKING_RULES[name].title for name in rules})
            _switch("Mean over epochs", "history", list(HISTORIES), HISTORIES)
            _switch("Spread", "spread", list(SPREADS), SPREADS)
            channels = [name for name in MINED_CHANNELS if name in found.ledger.channels]
            if len(channels) > 1:
                _switch("Mined value", "channel", channels, CHANNELS)
            widgets.explain("How pairs are flagged", *ABOUT_MINING)
        settings = changed_settings(
            run.config.mining, {name: state.get(f"{_STATE}.{name}", getattr(own, name)) for name in SETTINGS}
        )
        st.button(
            "Back to the run's settings", key=f"{_STATE}.reset", icon=":material/undo:", on_click=_put, args=(own,),
            disabled=settings == own,
        )  # fmt: skip
    state[f"{_STATE}.kept"] = settings
    for name in SETTINGS:
        _remember(name, "" if getattr(settings, name) == getattr(own, name) else str(getattr(settings, name)))
    return settings


def _remember(name: str, value: str) -> None:
    """Keep a value in the address, so that a reload and a link have it; "" takes it out."""
    if value and st.query_params.get(name) != value:
        st.query_params[name] = value
    elif not value and name in st.query_params:
        del st.query_params[name]


def _from_address(own: MiningConfig, found: RunPairs) -> MiningConfig:
    """The settings with those that the address names; what cannot be read or does not exist is left as it is."""
    choices = {
        "history": HISTORIES, "spread": SPREADS, "rule": usable_rules(found.ledger.channels),
        "channel": [name for name in MINED_CHANNELS if name in found.ledger.channels],
    }  # fmt: skip
    changes: dict[str, Any] = {}
    for name in SETTINGS:
        value = st.query_params.get(name, "")
        if name in choices and value in choices[name]:
            changes[name] = value
        elif name not in choices and value.replace(".", "", 1).isdecimal():
            low, high = bad_pairs.slider_range(getattr(own, name))
            changes[name] = min(high, max(low, float(value)))
    return changed_settings(own, changes)


def _strict(own: MiningConfig, factor: float) -> None:
    """Both limits of the run times a factor, within the sliders' range."""
    for name in ("faulty_sd", "noisy_sd"):
        low, high = bad_pairs.slider_range(getattr(own, name))
        st.session_state[f"{_STATE}.{name}"] = min(high, max(low, round(factor * getattr(own, name), 1)))


def _switch(label: str, name: str, options: list[str], titles: dict[str, str]) -> None:
    st.segmented_control(
        label, options, key=f"{_STATE}.{name}", format_func=titles.__getitem__, required=True, wrap=True
    )


def _put(settings: MiningConfig) -> None:
    for name in SETTINGS:
        st.session_state[f"{_STATE}.{name}"] = getattr(settings, name)


def _overview(run: Run, found: RunPairs, now: MinedPairs, own: MinedPairs) -> None:
    widgets.section("How many, and of which groups")
    widgets.cards(bad_pairs.cards(now, own))
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


# List and map -----------------------------------------------------------------------------------------------------------


def _listing(
    run: Run, found: RunPairs, now: MinedPairs, data: bad_pairs_reads.Data | None, top: DeltaGenerator
) -> Table:
    """What passes the filters, which hold for list, map and counts alike."""
    state = st.session_state
    if state.get(f"{_STATE}.kinds") not in bad_pairs.KIND_CHOICES:
        asked = st.query_params.get("show")
        state[f"{_STATE}.kinds"] = asked if asked in bad_pairs.KIND_CHOICES else bad_pairs.first_choice(now)
    if f"{_STATE}.words" not in state:
        state[f"{_STATE}.words"] = st.query_params.get("search", "")
    with top:
        kinds = st.segmented_control(
            "Show", list(bad_pairs.KIND_CHOICES), key=f"{_STATE}.kinds", format_func=bad_pairs.KIND_CHOICES.__getitem__,
            required=True, on_change=_forget_pair, label_visibility="collapsed",
        )  # fmt: skip
        words = st.text_input(
            "Search", key=f"{_STATE}.words", placeholder="Search notes, ids", persist_state="page", width=175,
            label_visibility="collapsed", on_change=_forget_pair, icon=":material/search:",
        )  # fmt: skip
        _remember("show", "" if kinds == bad_pairs.first_choice(now) else kinds)
        _remember("search", words)
        attribute, groups = _groups(found)
        chosen = tuple(state.get(f"{_STATE}.chosen", ()))
        if chosen:
            st.button(
                f"{many(len(chosen), 'pair')} in the loop", key=f"{_STATE}.clear", icon=":material/close:",
                on_click=_select, args=((),), help="Clear the selection",
            )  # fmt: skip
    notes = bad_pairs_reads.lower_notes(run, data) if words and data is not None else None
    every = matching_rows(found, now, PairFilter((), attribute, groups, words), chosen, notes)
    listed = matching_rows(found, now, PairFilter(bad_pairs.kinds_of(kinds), attribute, groups, words), chosen, notes)
    by = [f"{attribute}: {', '.join(groups)}"] if groups else []
    by += [f"“{words}”"] if words else []
    by += ["in the loop"] if chosen else []
    narrowed = f" ({'; '.join(by)})" if by else ""
    return Table(listed, chosen, bad_pairs.counted(every, found, now, narrowed))


def _groups(found: RunPairs) -> tuple[str | None, tuple[str, ...]]:
    if not found.groups:
        return None, ()
    with st.popover("Groups"):
        # A selectbox shows an attribute's name as it is; other widgets read Markdown in it.
        attribute = st.selectbox("Attribute", list(found.groups), key=f"{_STATE}.by", persist_state="page")
        groups = st.multiselect(
            "Only these groups", group_order(found.groups[attribute]), key=f"{_STATE}.groups.{attribute}",
            placeholder="All groups", persist_state="page", on_change=_forget_pair,
        )  # fmt: skip
    return (attribute, tuple(groups)) if groups else (None, ())


def _forget_pair() -> None:
    """With another filter the first pair of the list is opened."""
    if "pair" in st.query_params:
        del st.query_params["pair"]


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
    """Open another pair."""
    if pair is not None:
        st.query_params["pair"] = pair


def _select(chosen: tuple[str, ...]) -> None:
    st.session_state[f"{_STATE}.chosen"] = chosen
    if chosen:
        _forget_pair()


@dataclass(frozen=True, eq=False)
class MapView:
    """What the map is coloured by, which side it shows, and reviewers' verdicts where there are any."""

    by: str
    side: str
    verdicts: np.ndarray | None


def _map_view(run: Run, found: RunPairs, top: DeltaGenerator) -> MapView:
    with top.popover("Map"):
        verdicts = bad_pairs_reads.run_verdicts(run)
        choices = bad_pairs.colour_choices(list(found.groups), verdicts is not None)
        by = st.selectbox(
            "Colour by", list(choices), key=f"{_STATE}.colour", format_func=choices.__getitem__, persist_state="page"
        )
        sides = bad_pairs_charts.SIDES
        side = st.segmented_control(
            "Places of", list(sides), default="image", key=f"{_STATE}.side", format_func=sides.__getitem__, required=True,
            persist_state="page",
        )  # fmt: skip
        widgets.explain("How to read and select", *ABOUT_MAP)
    return MapView(by, side, verdicts)


def _board(
    run: Run, found: RunPairs, now: MinedPairs, listing: Table, pair: str | None, data: bad_pairs_reads.Data | None,
    view: MapView,
) -> None:  # fmt: skip
    place = np.flatnonzero(listing.rows == found.row_of(pair)) if pair is not None else []
    start = int(place[0]) // LISTED * LISTED if len(place) else 0
    shown = listing.rows[start : start + LISTED]
    notes = bad_pairs_reads.run_notes(run, data) if data is not None else [""] * len(found)
    items = [_item(found, now, notes, row, data) for row in shown]
    st.caption(listing.words)
    picture, problem = None, None
    try:
        made = bad_pairs_reads.run_map(run)
        if made is not None:
            colours = bad_pairs.colouring(found, now, view.by, view.verdicts)
            picture = _map(found, now, made, listing, colours, view.side, pair, notes)
    except InputError as error:
        made, problem = None, error
    said = f"{start + 1:,}–{start + len(shown):,} of {len(listing.rows):,}" if len(shown) else ""
    pair_board(
        items, picture, pair, said=said, empty="No pair passes. Choose another kind, other groups or other words.",
        key=f"{_STATE}.board", opened=move, chosen=_select, list_height=LIST_HEIGHT if picture else BOARD_HEIGHT - 90,
        map_height=MAP_HEIGHT,
    )  # fmt: skip
    if problem is not None:
        st.error(literal(problem), icon=":material/error:")
    elif made is None:
        _no_map(run)


def _item(
    found: RunPairs, now: MinedPairs, notes: Sequence[str], row: int, data: bad_pairs_reads.Data | None
) -> BoardItem:
    pair, note = str(found.ids[row]), notes[row]
    at = None if data is None else data.row_of(pair)
    head = f"{KIND_TITLES[PAIR_KINDS[now.kind[row]]]} · {pair}"
    excerpt = note if len(note) <= bad_pairs.EXCERPT else f"{note[: bad_pairs.EXCERPT]}…"
    return BoardItem(pair, head, excerpt, "" if at is None else thumbnail(data.table, at))


def _map(
    found: RunPairs, now: MinedPairs, made: bad_pairs_reads.PairMap, listing: Table, colours: bad_pairs.Colouring,
    side: str, pair: str | None, notes: Sequence[str],
) -> BoardMap:  # fmt: skip
    wanted = np.zeros(len(found), bool)
    wanted[found.rows_of([*listing.chosen, *([pair] if pair else [])])] = True
    strata = now.kind if colours.values is None else np.unique(colours.values, return_inverse=True)[1]
    shown = bad_pairs.drawn(colours.candidates | wanted, strata, now.flagged, wanted, found.chance)
    rows = shown.rows
    at = made.points[:, :2] if side == "image" else made.points[:, 2:]
    low, high = at.min(0), at.max(0)
    x, y = ((at[rows] - low) / np.where(high > low, high - low, 1)).T
    inks, legend = bad_pairs_charts.map_colours(now, rows, colours)
    passes = np.isin(rows, listing.rows)
    alt = f"Map of {many(len(rows), 'pair')}, {int(passes.sum()):,} of them in the list. {made.method}. {shown.words}"
    return BoardMap(
        found.ids[rows].tolist(), [notes[row][: bad_pairs.EXCERPT] for row in rows.tolist()], inks, x, y, passes,
        now.flagged[rows], legend, alt,
    )  # fmt: skip


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
    with st.container(horizontal=True, vertical_alignment="center"):
        _send(run, [str(pair) for pair in found.ids[flagged]], listing.chosen)
        with st.popover("Download", icon=":material/download:"):
            noted = st.checkbox(
                "With notes", key=f"{_STATE}.noted", disabled=data is None, help="Notes are patient data."
            )
            make = partial(_frame, run, found, now, data, noted=noted)
            for what, rows in (("Flagged pairs", flagged), ("Listed pairs", listing.rows)):
                _download(
                    f"{what} ({len(rows):,})", lambda rows=rows: csv_bytes(make(rows)),
                    f"{run.id}-{what.split()[0].lower()}.csv", disabled=not len(rows),
                )  # fmt: skip
        if data is not None and len(flagged):
            with st.popover(f"Data set without the {len(flagged):,} flagged", icon=":material/filter_alt_off:"):
                _manifest(run, found.ids[flagged], data)


def _frame(
    run: Run, found: RunPairs, now: MinedPairs, data: bad_pairs_reads.Data | None, rows: np.ndarray, *, noted: bool
) -> pd.DataFrame:
    """As `pair_frame`, with the reason, the path of the image in the data folder, and the note if asked for."""
    frame = pair_frame(found, now, rows).assign(reason=[why(found, now, row) for row in rows])
    if data is not None:
        places = data.rows.get_indexer(pd.Index(frame["pair_id"].astype(object)))
        images = data.table.frame["image"].astype(str).to_numpy(object)
        frame["image"] = np.where(places >= 0, images[places], "")
        if noted:
            frame["note"] = [bad_pairs_reads.run_notes(run, data)[row] for row in rows]
    return frame


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
