"""Which data set a page shows: those of the workspace's runs, and folders typed in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from fairvlm_core.analysis.entries import DAMAGED, RunEntry
from fairvlm_core.cells import typed_path
from fairvlm_core.errors import InputError
from fairvlm_core.intake.describe import describe_folder, needs_description, place_in_workspace
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import Run
from fairvlm_core.words import many

from .frame import Here
from .reads import pair_table
from .words import literal


@dataclass(frozen=True)
class DataSet:
    """A data folder with the options it is read with; `runs` are ids of the runs made on it."""

    folder: str
    name: str
    options: tuple[tuple[str, Any], ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """
        >>> DataSet("/data/a", "SynthFundus", runs=("0001-clip-s0",)).label
        'SynthFundus  ·  a  ·  1 run'
        """
        parts = list(dict.fromkeys((self.name, Path(self.folder).name)))
        return "  ·  ".join([*parts, *([many(len(self.runs), "run")] if self.runs else [])])

    @property
    def reading(self) -> tuple[Any, ...]:
        """The folder and the options that are not left at their defaults."""
        return self.folder, *((name, value) for name, value in self.options if value)

    def table(self) -> PairTable:
        return pair_table(self.folder, dict(self.options))


def known_datasets(
    entries: Sequence[RunEntry], options: dict[str, dict[str, Any]], typed: Mapping[str, dict[str, Any]]
) -> list[DataSet]:
    """Data sets of runs, newest run first, then folders that were typed in and have no run.

    `options` are the read options of each run, by run id; those of `typed` folders are its values.

    >>> entries = [RunEntry("0001-clip-s0", "finished", folder="/a", data="A"),
    ...            RunEntry("0002-clip-s1", "finished", folder="/a", data="A")]
    >>> [(d.name, d.runs) for d in known_datasets(entries, {}, {"/a": {}, "/b": {}})]
    [('A', ('0002-clip-s1', '0001-clip-s0')), ('b', ())]
    """
    found: dict[tuple[str, str], DataSet] = {}
    for entry in reversed(entries):
        if entry.state == DAMAGED:
            continue
        chosen = options.get(entry.id, {})
        key = (entry.folder, json.dumps(chosen, sort_keys=True, default=str))
        before = found[key].runs if key in found else ()
        found[key] = DataSet(entry.folder, entry.data, tuple(sorted(chosen.items())), (*before, entry.id))
    known = {data.reading for data in found.values()}
    others = [DataSet(folder, Path(folder).name, tuple(sorted(given.items()))) for folder, given in typed.items()]
    return [*found.values(), *(data for data in others if data.reading not in known)]


def of_runs(here: Here) -> list[DataSet]:
    """Data sets of the workspace's runs, the newest run first."""
    options = {entry.id: _options(here.run_of(entry)) for entry in here.entries if entry.state != DAMAGED}
    return known_datasets(here.entries, options, {})


def choose_dataset(here: Here) -> DataSet | None:
    """A selector of data sets and a field for another folder; None where there is none yet.

    The selected run's data set comes first; a folder that was typed in is in the URL as ``?folder=``.
    """
    state = st.session_state
    typed = state.setdefault("data.typed", [])
    address = st.query_params.get("folder")
    if address and address not in typed:
        typed.append(address)
    options = {entry.id: _options(here.run_of(entry)) for entry in here.entries if entry.state != DAMAGED}
    given = {folder: _described(here, folder) for folder in typed}
    sets = known_datasets(here.entries, options, given)
    run = here.entry.id if here.entry else None
    # The selector follows the selected run and the URL when these change, and keeps the choice otherwise.
    if state.get("data.origin") != (address, run) or state.get("data.set", len(sets)) >= len(sets):
        state["data.origin"] = (address, run)
        wanted = DataSet(address, "", tuple(sorted(given[address].items()))).reading if address else None
        state["data.set"] = _first_shown(sets, wanted, run)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with right.popover("Open another folder", icon=":material/folder_open:", width="stretch"):
        with st.form("data.open", border=False):
            folder = st.text_input("Folder of image-note pairs on this machine", placeholder="/path/to/data")
            st.caption("Any table with images: what its columns mean is proposed next, and you can change it.")
            opened = st.form_submit_button("Open", type="primary")
        if opened:
            _open(here, folder, typed)
    if not sets:
        return None
    chosen = left.selectbox(
        "Data set", range(len(sets)), key="data.set", format_func=lambda i: sets[i].label,
        help="Data sets of the runs in this workspace, and folders opened here.",
    )  # fmt: skip
    return sets[chosen]


def _described(here: Here, folder: str) -> dict[str, Any]:
    """How a folder that was typed in is read: by the description that the workspace has of it, if it has one."""
    path = place_in_workspace(here.store.workspace, folder)
    own = Path(folder, "dataset.json").exists()
    return {} if own or not path.is_file() else {"description": str(path.resolve())}


def _first_shown(sets: Sequence[DataSet], wanted: tuple[Any, ...] | None, run: str | None) -> int:
    """The position of the data set of the URL's folder, else of the selected run, else 0."""
    for chosen in (lambda data: data.reading == wanted, lambda data: run in data.runs):
        for i, data in enumerate(sets):
            if chosen(data):
                return i
    return 0


def _open(here: Here, folder: str, typed: list[str]) -> None:
    """Read a folder that was typed in; an error is shown beside the field, and nothing else changes."""
    path = typed_path(folder)
    try:
        if not folder.strip():
            raise InputError("type the path of a folder first")
        path = path.resolve()
        options = _described(here, str(path))
        if not options and needs_description(path):
            describe_folder(path)
            st.switch_page("pages/1_Data.py", query_params={"bring": str(path)})
        with st.spinner("Reading …"):
            pair_table(str(path), options)
    except (InputError, OSError, RuntimeError) as error:
        line = str(error) if isinstance(error, InputError) else f"the folder cannot be read ({type(error).__name__})"
        st.error(literal(line), icon=":material/error:")
        return
    if str(path) not in typed:
        typed.append(str(path))
    st.query_params["folder"] = str(path)
    st.rerun()


def _options(run: Run) -> dict[str, Any]:
    try:
        options = run.data.get("read_options") or {}
        return {str(key): value for key, value in options.items()}
    except (InputError, AttributeError):
        return {}
