"""The frame of every page: title, navigation, workspace, selected run, and one line for wrong input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.errors import InputError
from fairvlm_core.runs import Run, RunStore
from fairvlm_core.words import many

from . import widgets
from .palette import INK
from .reads import run_entries
from .selection import picked, settle
from .words import literal

ROOT = Path(__file__).resolve().parent.parent
ICONS = {
    "Overview": ":material/home:",
    "Data": ":material/groups:",
    "Fine-tune": ":material/tune:",
    "Bad pairs": ":material/troubleshoot:",
    "Loss & Sinkhorn": ":material/stacked_line_chart:",
    "Compare runs": ":material/compare_arrows:",
    "Review": ":material/rate_review:",
    "Report": ":material/description:",
    "Story": ":material/slideshow:",
    "Experiments": ":material/science:",
}
_PAGE_FILE = re.compile(r"\d+_(.+)\.py")
_NAMES = {"Loss and Sinkhorn": "Loss & Sinkhorn", "Fine tune": "Fine-tune"}

# Less space above the title; digits of equal width, so that columns of numbers line up. Colours follow a switch of theme
# at once, since it draws nothing again; white on the accent of the dark theme would be too faint.
_STYLE = """<style>
[data-testid="stMainBlockContainer"] {padding: 3rem 2.75rem 4rem; max-width: 1500px;}
[data-testid="stSidebarHeader"] {padding-bottom: 0.25rem;}
[data-testid="stMetricValue"], [data-testid="stTable"] {font-variant-numeric: tabular-nums;}
[class*="st-key-cards_"] {display: grid; grid-template-columns: repeat(auto-fit, minmax(11.5rem, 1fr)); gap: 0.75rem;}
[class*="st-key-cards_"] > div, [class*="st-key-cards_"] > div > div {height: 100%;}
[class*="st-key-cards_"] [data-testid="stMetricValue"] > div, [class*="st-key-cards_"] [data-testid="stMetricLabel"] * {
  white-space: normal; overflow: visible;}
@media (max-width: 1000px) {
  [data-testid="stMainBlockContainer"] {padding: 3rem 1.25rem;}
  [data-testid="stSidebar"][data-collapsed="false"] {width: 205px !important; min-width: 205px !important;}
  [data-testid="stHorizontalBlock"] {flex-wrap: wrap;}
  [data-testid="stColumn"] {min-width: 9.5rem; flex-grow: 1;}
  [data-testid="stColumn"]:has([data-testid="stPlotlyChart"], [data-testid="stDataFrame"], .st-key-data-board) {
    min-width: 100%;
  }
}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p, kbd {opacity: 1 !important; color: INK;}
.js-plotly-plot text:not(.bartext-inside, .hoverlayer text) {fill: INK !important;}
[data-testid^="stBaseButton-primary"] *, [data-testid="stMultiSelectTagsContainer"] span {
  color: light-dark(#FFFFFF, #0E1216) !important;
}
.marked-note {border: 1px solid rgba(128, 136, 148, 0.35); border-radius: 6px; padding: 0.6rem; line-height: 1.5;
  white-space: pre-wrap; overflow-wrap: anywhere;}
.marked-note mark {background: rgba(240, 150, 40, 0.38); color: inherit; padding: 0 2px; border-radius: 3px;}
</style>""".replace("INK", f"light-dark({INK['light']}, {INK['dark']})")


@dataclass(frozen=True)
class Here:
    """What a page starts with: the store, all runs (oldest first), and the selected ones."""

    store: RunStore
    entries: tuple[RunEntry, ...]
    selected: tuple[RunEntry, ...]

    @property
    def entry(self) -> RunEntry | None:
        return self.selected[0] if self.selected else None

    @property
    def run(self) -> Run | None:
        return None if self.entry is None else Run(self.store.root / self.entry.id)

    def run_of(self, entry: RunEntry) -> Run:
        return Run(self.store.root / entry.id)


def page_names(folder: Path = ROOT / "pages") -> dict[str, str]:
    """Page title to file, in the order of their numbers.

    >>> list(page_names())[0]
    'Data'
    """
    files = [path.name for path in folder.glob("*.py") if _PAGE_FILE.fullmatch(path.name)]
    titles = {}
    for name in sorted(files, key=lambda file: int(file.split("_")[0])):
        title = _PAGE_FILE.fullmatch(name)[1].replace("_", " ")  # type: ignore[index]
        titles[_NAMES.get(title, title)] = name
    return titles


@contextmanager
def page(title: str, lead: str, *, runs: str = "one") -> Iterator[Here]:
    """Open a page; its content goes inside.

    Parameters
    ----------
    title, lead
        The heading and a sentence below it.
    runs
        "one": a selector in the sidebar, in the address as ``?run=ID``; "many": the page asks with `choose_runs`; "none".
    """
    st.set_page_config(
        page_title=f"{title} · fairvlm",
        page_icon=str(ROOT / "ui" / "icon.svg"),  # a file: a material icon here would be fetched from the network
        layout="wide",
        initial_sidebar_state="expanded",
        menu_items={"Get help": None, "Report a bug": None, "About": None},
    )  # fmt: skip
    st.html(_STYLE)
    st.logo(str(ROOT / "ui" / "logo.svg"), size="large")
    with errors():
        store = RunStore()
        entries = tuple(run_entries(store))
        chosen, unknown = _selected(entries, runs) if runs != "none" else ((), ())
        _sidebar(store, entries, chosen, runs)
        st.title(title, anchor=False)
        st.caption(lead)
        for name in unknown:
            st.warning(f"There is no run {literal(name)} in this workspace.", icon=":material/link_off:")
        yield Here(store, entries, chosen)


@contextmanager
def errors() -> Iterator[None]:
    """Show wrong input as one line, not a traceback; fragments need their own, because they run outside the page's."""
    try:
        yield
    except InputError as error:
        st.error(literal(error), icon=":material/error:")
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name if error.filename else "a file"
        st.error(f"{literal(name)} was removed while the page was drawn: reload the page", icon=":material/error:")


def _selected(entries: Sequence[RunEntry], runs: str) -> tuple[tuple[RunEntry, ...], tuple[str, ...]]:
    """The selected runs, and names in the address that the workspace does not have.

    From the address, else from the session, else the newest finished run; the selection is written to both.
    """
    state, known = st.session_state, {entry.id: entry for entry in entries}
    asked = st.query_params.get_all("run")
    remembered = state.get("runs", ()) if runs == "many" else (state["run"],) if "run" in state else ()
    choice = settle(asked, state.get("run.address"), remembered, list(known))
    chosen = list(choice.chosen) if runs == "many" else list(choice.chosen[:1])
    if not chosen and runs == "one" and entries:
        finished = [entry.id for entry in entries if entry.state == "finished"]
        chosen = [finished[-1] if finished else entries[-1].id]
    remember(chosen, runs)
    return tuple(known[run_id] for run_id in chosen), choice.unknown


def remember(chosen: Sequence[str], runs: str = "one") -> None:
    """Put chosen run ids into the session and the address."""
    if runs == "many":
        st.session_state["runs"] = tuple(chosen)
    elif chosen:
        st.session_state["run"] = chosen[0]
    st.session_state["run.address"] = list(chosen)
    if list(chosen) != st.query_params.get_all("run"):
        if chosen:
            st.query_params["run"] = list(chosen)
        elif "run" in st.query_params:
            del st.query_params["run"]


def choose_runs(here: Here, options: Sequence[RunEntry], default: Sequence[str]) -> list[RunEntry]:
    """A selector of several runs, in the address as ``?run=ID&run=ID``; `default` where nothing was chosen yet."""
    labels = {entry.id: entry.label for entry in reversed(options)}
    key = "frame.runs"
    now = [entry.id for entry in here.selected if entry.id in labels]
    if "runs.cleared" not in st.session_state and not now:
        now = list(default)
    if st.session_state.get(key) != now:  # setting it again would override a click made meanwhile
        st.session_state[key] = now

    def changed() -> None:
        st.session_state["runs.cleared"] = True
        remember(picked(st.session_state[key], list(labels)), "many")

    chosen = st.multiselect(
        "Runs to compare", list(labels), key=key, format_func=labels.__getitem__, on_change=changed,
        placeholder="Choose runs",
    )  # fmt: skip
    remember(chosen, "many")
    by_id = {entry.id: entry for entry in options}
    return [by_id[run_id] for run_id in chosen]


def _sidebar(store: RunStore, entries: Sequence[RunEntry], chosen: Sequence[RunEntry], runs: str) -> None:
    with st.sidebar:
        address = {"run": st.session_state["run"]} if "run" in st.session_state else None
        for title, file in {"Overview": "app.py", **{t: f"pages/{f}" for t, f in page_names().items()}}.items():
            several = title in ("Compare runs", "Story")
            st.page_link(file, label=title, icon=ICONS.get(title), query_params=None if several else address)
        st.divider()
        st.caption("Workspace", help=literal(store.workspace.resolve()))
        st.text(f"{store.workspace.resolve().name} · {many(len(entries), 'run')}")
        if runs == "one" and entries:
            labels = {entry.id: entry.label for entry in reversed(entries)}
            key = "frame.run"
            if st.session_state.get(key) != chosen[0].id:
                st.session_state[key] = chosen[0].id

            def changed() -> None:
                remember(picked([st.session_state[key]], [entry.id for entry in entries]))

            st.selectbox("Run", list(labels), key=key, format_func=labels.__getitem__, on_change=changed)
            st.caption(literal(chosen[0].id))
        if entries:
            st.segmented_control(
                "Save charts as", widgets.PICTURE_FORMATS, default=widgets.PICTURE_FORMATS[0], key=widgets.PICTURE_FORMAT,
                required=True, persist_state="session", help="The camera above a chart saves it as a file.",
            )  # fmt: skip
