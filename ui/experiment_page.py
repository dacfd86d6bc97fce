"""The view of experiments: start one, how far it is, what came out, and its table."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from fairvlm_core.errors import InputError
from fairvlm_core.experiment import (
    Experiment,
    ExperimentTable,
    Stored,
    folder_of,
    make_table,
    parse_experiment,
    queue_missing,
    read_experiment,
    read_stored,
    stored_experiments,
)
from fairvlm_core.experiment.formats import changes, notes, summary, wide, write_formats
from fairvlm_core.experiment.plan import bundled
from fairvlm_core.experiment.table import Entry, read_table
from fairvlm_core.words import count, many

from . import datasets, widgets
from .experiment_charts import methods_chart
from .frame import Here, errors, page_names
from .words import literal

_COMMAND = "fairvlm experiment demo\nfairvlm experiment examples/experiments/paper.toml FAIRVLMED"
_ABOUT = (
    "An experiment is a TOML file: methods (a preset with settings), seeds or folds, attributes, models, and what is "
    "reported. Its runs are ordinary runs and appear on every page; a run that is there already is not trained again. "
    "Values are means over seeds on the **test** split. ▲ and ▼ mark what is reliably better or worse than the baseline "
    "on the same patients, after Holm's correction over attributes."
)


def show(here: Here) -> None:
    """Start an experiment; the table of one of the workspace."""
    names = stored_experiments(here.store)
    _start(here, opened=not names)
    if not names:
        widgets.empty(
            "No experiment yet",
            "An experiment trains several methods with several seeds and shows one table with intervals. Start it above "
            "or in a terminal:",
            _COMMAND,
        )
        return
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        name = st.selectbox("Experiment", names, key="experiment", bind="query-params", width=320)
        st.button("Refresh", key="experiment.again", icon=":material/refresh:", type="tertiary")
    with errors():
        stored = read_stored(name, here.store)
        widgets.section(literal(stored.experiment.title or name), _ABOUT)
        table = _table(here, stored)
        if table is not None:
            _tell(here, stored, table)


def _table(here: Here, stored: Stored) -> ExperimentTable | None:
    """The stored table; where runs have finished since it was made, a button makes it again."""
    folder = folder_of(stored.experiment.name, here.store)
    finished = stored.finished
    kept = read_table(folder / "table.json")
    there = {run["run"] for run in kept[1].runs} if kept is not None else set()
    st.caption(f"{len(finished)} of {many(stored.n_cells, 'run')} finished.")
    if {run.id for run in finished.values()} != there and finished:
        fresh = len(finished) - len(there)
        label = f"Make the table of {many(len(finished), 'run')}" if fresh > 0 else "Make the table again"
        if st.button(label, type="primary", key="experiment.make", icon=":material/table:"):
            with st.spinner("Resampling patients …"):
                made = make_table(stored.experiment, list(stored.runs), finished, folder)
                write_formats(made, folder)
            st.rerun()
    if kept is None and not finished:
        widgets.empty("No run is finished yet", "Refresh when the first one has finished.")
    return None if kept is None else kept[1]


def _tell(here: Here, stored: Stored, table: ExperimentTable) -> None:
    for line in summary(table):
        st.markdown(f"##### {literal(line)}")
    blocks = {(model, score, attribute): entries for model, score, attribute, entries in table.blocks()}
    places = [list(dict.fromkeys(key[i] for key in blocks)) for i in range(3)]
    chosen = []
    with st.container(horizontal=True):
        for title, options, key in zip(("Model", "Score", "Attribute"), places, ("model", "score", "by"), strict=True):
            if len(options) > 1:
                chosen.append(st.segmented_control(title, options, default=options[0], required=True, key=f"exp.{key}"))
            else:
                chosen.append(options[0])
    entries = blocks.get(tuple(chosen))
    if entries is None:
        st.info("These runs are missing.")
        return
    _block(table, entries, chosen[2])
    _downloads(here, stored, table)


def _block(table: ExperimentTable, entries: list[Entry], attribute: str) -> None:
    everyone = next(entry for entry in entries if not entry.group)
    chart = methods_chart(entries, table.baseline)
    by = f" by {attribute}" if attribute else ""
    widgets.chart(chart, "experiment.methods", f"AUC and ES-AUC{by} of each method with intervals")
    what = st.segmented_control(
        "Table", ["Values", f"Difference from {table.baseline}"], default="Values", required=True, key="exp.what"
    )
    frame: pd.DataFrame = wide(entries) if what == "Values" else changes(entries)
    widgets.table(frame.reset_index(), key="experiment.table")
    n = f"{count(everyone.n)} test pairs, {count(everyone.n_positive)} positive."
    st.caption(literal(" ".join([n, *notes(table)])))


def _downloads(here: Here, stored: Stored, table: ExperimentTable) -> None:
    folder = folder_of(stored.experiment.name, here.store)
    with st.container(horizontal=True):
        runs = [run["run"] for run in table.runs]
        st.page_link(
            f"pages/{page_names()['Compare runs']}", label=f"Compare these {many(len(runs), 'run')}",
            icon=":material/compare_arrows:", query_params={"run": runs},
        )  # fmt: skip
        for suffix, title in (("csv", "CSV"), ("tex", "LaTeX"), ("html", "HTML")):
            path = folder / f"table.{suffix}"
            if path.is_file():
                st.download_button(title, path.read_bytes(), f"{table.name}.{suffix}", icon=":material/download:")


def _start(here: Here, *, opened: bool) -> None:
    """A form that puts the runs of an experiment into the queue."""
    known = datasets.of_runs(here)
    if not known:
        return
    files = bundled()
    with st.expander("Start an experiment", icon=":material/play_arrow:", expanded=opened), st.form(
        "experiment.new", border=False, enter_to_submit=False
    ):  # fmt: skip
        first, second = st.columns(2)
        chosen = first.selectbox("File", list(files), format_func=lambda name: f"{name}.toml", key="experiment.file")
        own = first.file_uploader("Or a file of your own", type="toml", key="experiment.own")
        data = second.selectbox("Data set", known, format_func=lambda one: one.label, key="experiment.data")
        seeds = second.number_input("Seeds (0: as in the file)", 0, 20, 0, key="experiment.seeds")
        if st.form_submit_button("Put the runs into the queue", type="primary"):
            with errors(), st.spinner("Reading the data …"):
                experiment = _uploaded(own) if own is not None else read_experiment(files[chosen])
                experiment = experiment.changed({}, seeds=int(seeds) or None)
                queued = queue_missing(experiment, data.table(), here.store, dict(data.options))
                st.success(
                    f"{many(len(queued.runs), 'run')}: {len(queued.finished)} finished before, the others queued."
                )


def _uploaded(file: UploadedFile) -> Experiment:
    """An uploaded file; its `based_on` names a bundled one."""
    path = next(iter(bundled().values())).with_name(Path(file.name).name)
    try:
        values = tomllib.loads(file.getvalue().decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"experiment {path.name} is no TOML: {error}") from None
    return parse_experiment(values, path)
