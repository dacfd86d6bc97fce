"""The view of sweeps: studies of the workspace, their Pareto front, and links from a trial to its runs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from fairvlm_core import safeio
from fairvlm_core.analysis.entries import DAMAGED
from fairvlm_core.errors import InputError
from fairvlm_core.jobs.sweeps import start_sweep, sweep_process
from fairvlm_core.sweep import Storage, Sweep, known, read_sweep
from fairvlm_core.words import many

from . import sweep, widgets
from .charts import CONFIG
from .frame import Here, errors, page_names
from .reads import Stamp, stamp
from .sweep_charts import front_chart
from .words import literal

_STATE = "sweep"
_COMMAND = (
    "fairvlm sweep DATA --trials 20 --seeds 3 --objective auc,es_auc --param fairness.weight=0.1..30:log\n"
    "fairvlm sweep DATA --trials 20          # in another terminal: a second worker of the same study"
)
ABOUT = (
    "A sweep draws settings and trains a run for each seed. A trial counts with the mean of its seeds. A trial is on the "
    "**Pareto front** if none is as good in all objectives and better in one. Bars are 95 % intervals over seeds on the "
    "same validation patients; they say nothing about other patients. All metrics here are from the **validation** split, "
    "at the epoch that validation selected. The best of many trials looks better on these patients than it is: compare "
    "its runs on the test split, which no sweep uses. Click a point to compare its runs.",
    r"\bar m \pm t_{k-1}\, \frac{s}{\sqrt{k}}",
)


def _start(here: Here, *, opened: bool) -> None:
    """A form that starts a sweep in a process of its own; the page may be closed."""
    folders = {e.folder: f"{e.data} · {Path(e.folder).name}" for e in reversed(here.entries) if e.state != DAMAGED}
    if not folders:
        return
    with st.expander("Start a sweep", icon=":material/play_arrow:", expanded=opened), st.form(
        "sweep.new", border=False, enter_to_submit=False
    ):  # fmt: skip
        first, second, third, fourth = st.columns([3, 2, 1, 1])
        folder = first.selectbox("Data set", list(folders), format_func=folders.__getitem__, key=f"{_STATE}.folder")
        study = second.text_input("Study", value="sweep", key=f"{_STATE}.study", max_chars=40)
        trials = third.number_input("Trials", 1, 1000, 20, key=f"{_STATE}.trials")
        seeds = fourth.number_input("Seeds each", 1, 20, 1, key=f"{_STATE}.seeds")
        params = st.text_input(
            "Settings to vary (empty: the usual ones)", key=f"{_STATE}.params",
            placeholder="fairness.weight=0.1..30:log  mining.faulty_sd=1.5..4",
            help="A setting with its range, as fairness.weight=0.1..30, with :log for a logarithmic range, or with its "
            "choices, as mining.spread=sd|mad; several with a space between. Empty: λ, β and ε of robustfair.",
        )  # fmt: skip
        if st.form_submit_button("Start", type="primary"):
            with errors():
                start_sweep(
                    here.store.workspace.resolve(), folder, study=study.strip(), trials=int(trials), seeds=int(seeds),
                    params=params.split(),
                )  # fmt: skip
                st.success(
                    "Started. Its trials appear below and its runs in the list of runs; *Refresh* shows how far it is."
                )


def _process(here: Here, study: str) -> None:
    """Whether the sweep that the app started is at work, and what it said last where it is not."""
    process = sweep_process(here.store.workspace, study)
    if process.process is not None:
        st.caption(":material/hourglass_top: At work.")
    elif process.started is not None and (lines := process.tail(2)):
        st.caption(literal(f"Ended: {' '.join(lines)}"))


def show(here: Here) -> None:
    """Start a study, and one study of the workspace."""
    _start(here, opened=not known(here.store.workspace))
    studies = {storage.study: storage for storage in known(here.store.workspace)}
    if not studies:
        widgets.empty(
            "No sweep yet",
            "A sweep trains many runs with different settings and shows the best trade-offs. Start it above or in a "
            "terminal; this view follows it. If no setting is named, it varies the fairness weight λ, the limits β and the "
            "blur ε of robustfair.",
            _COMMAND,
        )
        return
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    name = left.selectbox("Study", list(studies), key="study", bind="query-params", width=320)
    with right:
        st.button("Refresh", key=f"{_STATE}.again", icon=":material/refresh:", type="tertiary")
    try:
        found = _read(studies[name])
    except InputError as error:
        st.error(literal(error), icon=":material/broken_image:")
        return
    widgets.section(f"Study {literal(found.name)}", *ABOUT)
    _process(here, name)
    st.caption(literal(f"{sweep.progress_line(found)} Data: {found.data}."))
    if found.complete:
        _front(here, found)
    else:
        widgets.empty("No trial is complete yet", "Refresh when the first one has finished.")
    _table(here, found)


def _front(here: Here, found: Sweep) -> None:
    """The plane of two objectives; a click on a trial leads to its runs."""
    names = {i: sweep.title(name) for i, name in enumerate(found.objectives)}
    x, y = 0, min(1, len(names) - 1)
    if len(names) > 2:
        with st.container(horizontal=True):
            x = st.selectbox(
                "Right is better", list(names), format_func=names.__getitem__, key=f"{_STATE}.x", width=280
            )
            y = st.selectbox(
                "Up is better", list(names), 1, format_func=names.__getitem__, key=f"{_STATE}.y", width=280
            )
    chart = front_chart(found.points(x, y), names[x], names[y], stepped=len(names) == 2)
    widgets.inked(chart)
    # A new key after each click: otherwise the old selection would open the other page again on return.
    turn = st.session_state.setdefault(f"{_STATE}.turn", 0)
    event = st.plotly_chart(
        chart, key=f"{_STATE}.chart.{turn}", config=CONFIG, height=int(chart.layout.height), on_select="rerun",
        selection_mode="points", alt=f"Validation {names[y]} against {names[x]}, a point a trial",
    )  # fmt: skip
    st.caption(literal(sweep.front_line(found)))
    if found.partial:
        st.caption(literal(f"ES-AUC is partial for {', '.join(found.partial)}: a validation group has one label only."))
    clicked = [int(point["customdata"]) for point in event["selection"]["points"] if "customdata" in point]
    if clicked:
        st.session_state[f"{_STATE}.turn"] = turn + 1
        if runs := _runs(here, found, clicked):
            st.switch_page(f"pages/{page_names()['Compare runs']}", query_params={"run": runs})
        _elsewhere()


def _table(here: Here, found: Sweep) -> None:
    """Every trial; rows that are ticked can be compared."""
    frame = sweep.trials_table(found)
    picked = widgets.table(
        frame, {"Front": st.column_config.CheckboxColumn(width=56)}, key=f"{_STATE}.table.{found.name}",
        on_select="rerun", selection_mode="multi-row",
    )  # fmt: skip
    rows = [row for row in picked["selection"]["rows"] if row < len(frame)]
    chosen = [int(frame["Trial"].iloc[row]) for row in rows] or [trial.number for trial in found.front]
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if runs := _runs(here, found, chosen):
            what = "ticked above" if rows else "on the front"
            st.page_link(
                f"pages/{page_names()['Compare runs']}", label=f"Compare {many(len(runs), 'run')} of the trials {what}",
                icon=":material/compare_arrows:", query_params={"run": runs},
            )  # fmt: skip
        elif chosen:
            _elsewhere()
        widgets.download(frame, f"sweep-{found.name}.csv")


def _elsewhere() -> None:
    st.caption("The runs of these trials are in the workspace of another machine, or were deleted.")


def _runs(here: Here, found: Sweep, numbers: list[int]) -> list[str]:
    path = here.store.workspace / "sweeps" / "workspace.json"
    own = str(safeio.read_json(path)["id"]) if path.exists() else ""
    return found.runs_of(numbers, own, [entry.id for entry in here.entries])


def _read(storage: Storage) -> Sweep:
    """A journal from the cache while it has not changed; a database each time."""
    if storage.journal is None:
        return read_sweep(storage)
    return _journal(storage.study, str(storage.journal), stamp(storage.journal))


@st.cache_data(max_entries=16, show_spinner="Reading the study …")
def _journal(study: str, path: str, stamps: Stamp) -> Sweep:  # noqa: ARG001 - the stamp is part of the key
    return read_sweep(Storage(study, journal=Path(path)))
