"""Cached reads of the Bad pairs page. Large frozen objects are shared by all sessions, not copied for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fairvlm_core.analysis.mined_pairs import (
    MinedPairs,
    RunPairs,
    changed_settings,
    map_points,
    mine_pairs,
    usable_settings,
)
from fairvlm_core.analysis.note_words import NoteWords, RareWord
from fairvlm_core.analysis.one_pair import LossBand, Near, loss_band
from fairvlm_core.analysis.planted_truth import TruthCurve, truth_curves
from fairvlm_core.config import MiningConfig
from fairvlm_core.errors import InputError
from fairvlm_core.intake.tables import read_table
from fairvlm_core.pairs import PLANTED, PairTable
from fairvlm_core.review import ReviewStore
from fairvlm_core.runs import Run

from .bad_pairs import NOT_REVIEWED
from .reads import Stamp, by_files, stamp, tables_stamp
from .review import verdict_name
from .review_store import review_store

_PAIRS = by_files("ledger", "pairs") | {MiningConfig: MiningConfig.model_dump_json}


@st.cache_resource(max_entries=4, show_spinner="Reading the losses …", hash_funcs=_PAIRS)
def run_pairs(run: Run) -> RunPairs:
    """A run's pairs and ledger."""
    found = RunPairs.of(run.ledger(), run.pairs(), run.data["attributes"])
    if found.ledger.n_epochs == 0:
        raise InputError(f"run {run.id}: its ledger holds no epoch yet; open the page again after the first one")
    return found


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=_PAIRS)
def run_mined(run: Run, settings: MiningConfig) -> MinedPairs:
    """The run's ledger mined with these settings."""
    return mine_pairs(run_pairs(run), settings)


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=_PAIRS)
def run_band(run: Run, channel: str) -> LossBand:
    """The losses of all training pairs by epoch."""
    return loss_band(run_pairs(run).ledger, channel)


@dataclass(frozen=True, eq=False)
class PairMap:
    """Points of all pairs, float32 (N, 4), and how they were made."""

    points: np.ndarray
    method: str


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=by_files("ledger", "pairs", "projection"))
def run_map(run: Run) -> PairMap | None:
    """A run's map; None where it has none."""
    if not run.files.projection.exists():
        return None
    projection = run.projection()
    return PairMap(map_points(projection, run_pairs(run)), str(projection["method"].iat[0]))


def run_verdicts(run: Run) -> np.ndarray | None:
    """Reviewers' verdict on each of the run's pairs, in words; None where no pair of this data set has a verdict."""
    workspace = run.path.parent.parent
    if not ReviewStore.exists(workspace):
        return None
    judged = review_store(workspace).verdicts(run.data["fingerprint"]).verdicts
    said = {one.pair_id: verdict_name(one.verdict) for one in judged}
    if not said:
        return None
    return np.array([said.get(pair_id, NOT_REVIEWED) for pair_id in run_pairs(run).ids.tolist()])


@st.cache_resource(max_entries=2, show_spinner=False, hash_funcs=by_files("embeddings"))
def run_embeddings(run: Run) -> dict[str, np.ndarray]:
    """`image` and `text`, float32 (N, D), unit norm."""
    return run.embeddings()


@dataclass(frozen=True, eq=False)
class Data:
    """The data folder of a run, as it is today.

    Attributes
    ----------
    table : PairTable
        Images are not checked: a damaged one is found when it is opened.
    rows : Index
        Pair ids, for looking up a row.
    planted : str ndarray, or None
        Kind of each pair of the table where truth was planted.
    findings : DataFrame or None
        Findings recorded for the images, by pair id.
    """

    table: PairTable
    rows: pd.Index
    planted: np.ndarray | None
    findings: pd.DataFrame | None

    def row_of(self, pair_id: str) -> int | None:
        return int(self.rows.get_loc(pair_id)) if pair_id in self.rows else None

    def notes(self, pair_ids: np.ndarray) -> dict[str, str]:
        """Notes by pair id, of the pairs that the folder still has."""
        places = self.rows.get_indexer(pd.Index(pair_ids.astype(object)))
        text = self.table.frame["text"]
        return {str(p): str(text.iat[i]) for p, i in zip(pair_ids, places, strict=True) if i >= 0}


def run_data(run: Run) -> Data:
    """The data folder of a run.

    Raises
    ------
    InputError
        It does not exist, or can no longer be read.
    """
    folder = Path(str(run.data["folder"]))
    options = {**(run.data.get("read_options") or {}), "check_images": False}
    return _data(str(folder), options, [*tables_stamp(folder), stamp(folder / "findings.csv")])


@st.cache_resource(max_entries=3, show_spinner="Reading the data folder …")
def _data(folder: str, options: dict[str, Any], stamps: list[Stamp]) -> Data:  # noqa: ARG001 - part of the key
    table = PairTable.read(folder, **options)
    planted = table.planted()
    kinds = None
    if planted is not None:
        known = pd.Series(planted["kind"].to_numpy(str), index=planted["pair_id"].to_numpy(str))
        kinds = known.reindex(table.pair_ids).fillna("").to_numpy(str)
    return Data(table, pd.Index(table.pair_ids.astype(object)), kinds, _findings(Path(folder)))


def _findings(folder: Path) -> pd.DataFrame | None:
    """findings.csv of the built-in data; foreign folders may have a file of that name that is something else."""
    if not (folder / "findings.csv").is_file():
        return None
    try:
        table = read_table(folder, "findings.csv")
    except InputError:
        return None
    if "pair_id" not in table.columns:
        return None
    frame = pd.DataFrame({name: column.to_numpy(zero_copy_only=False) for name, column in table.columns.items()})
    return frame.drop_duplicates("pair_id").set_index("pair_id")


def rare_words(run: Run, note: str, around: Near) -> list[RareWord]:
    """Words of a note that are rare in the notes of the images in `around`. `InputError` as in `run_data`."""
    data, pairs = run_data(run), run_pairs(run)
    places = data.rows.get_indexer(pd.Index(pairs.ids[around.images_like.rows].astype(object)))
    return _note_words(data).rare(note, places[places >= 0])


@st.cache_resource(max_entries=2, show_spinner=False, hash_funcs={Data: id})
def _note_words(data: Data) -> NoteWords:
    return NoteWords(data.table.frame["text"].astype(str).tolist())


@st.cache_resource(max_entries=2, show_spinner=False, hash_funcs=_PAIRS | {Data: id})
def run_notes(run: Run, data: Data) -> list[str]:
    """The notes of a run's N pairs as they are written; "" where the folder has no such pair."""
    pairs = run_pairs(run)
    known = data.notes(pairs.ids)
    return [" ".join(known.get(pair, "").split()) for pair in pairs.ids.tolist()]


@st.cache_resource(max_entries=2, show_spinner=False, hash_funcs=_PAIRS | {Data: id})
def lower_notes(run: Run, data: Data) -> list[str]:
    """As `run_notes`, in lower case."""
    return [note.lower() for note in run_notes(run, data)]


@dataclass(frozen=True, eq=False)
class Truth:
    """Planted kinds in the order of the run's pairs, "" where nothing is known, and how well the ranking finds them."""

    planted: np.ndarray
    curves: list[TruthCurve]


def run_truth(run: Run, now: MinedPairs) -> Truth | None:
    """What was planted among a run's pairs; None where nothing is known of it. `InputError` as in `run_data`."""
    if run_data(run).planted is None:
        return None
    # Limits do not change the order of the pairs: one ranking serves all of them.
    own = usable_settings(run.config.mining, run_pairs(run).ledger.channels)
    ranking = changed_settings(own, {name: getattr(now.settings, name) for name in ("history", "channel", "rule")})
    return _truth(run, ranking, stamp(Path(str(run.data["folder"])) / PLANTED))


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_PAIRS)
def _truth(run: Run, ranking: MiningConfig, planted: Stamp) -> Truth:  # noqa: ARG001 - part of the key
    data = run_data(run)
    places = data.rows.get_indexer(run_pairs(run).rows)
    known = np.where(places >= 0, data.planted[places], "")
    return Truth(known, truth_curves(run_mined(run, ranking), known))
