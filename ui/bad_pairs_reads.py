"""Cached reads of the Bad pairs page. Large frozen objects are shared by all sessions, not copied for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
from fairvlm_core.analysis.one_pair import LossBand, loss_band
from fairvlm_core.analysis.planted_truth import TruthCurve, truth_curves
from fairvlm_core.config import MiningConfig
from fairvlm_core.errors import InputError
from fairvlm_core.intake.tables import read_table
from fairvlm_core.pairs import PLANTED, PairTable
from fairvlm_core.review import ReviewStore
from fairvlm_core.runs import Run

from .bad_pairs import NOT_REVIEWED
from .reads import Stamp, stamp

_TABLES = ("manifest.csv", "manifest.parquet", "dataset.json", "metadata.csv", "data_summary.csv", "planted.csv")
_HASHES = {MiningConfig: MiningConfig.model_dump_json}


def run_pairs(run: Run) -> RunPairs:
    """A run's pairs and ledger."""
    return _pairs(str(run.path), _stamps(run))


def _stamps(run: Run) -> tuple[Stamp, ...]:
    return stamp(run.files.ledger), stamp(run.files.pairs)


@st.cache_resource(max_entries=4, show_spinner="Reading the losses …")
def _pairs(path: str, stamps: tuple[Stamp, ...]) -> RunPairs:  # noqa: ARG001 - the stamps are part of the key
    run = Run(Path(path))
    found = RunPairs.of(run.ledger(), run.pairs(), run.data["attributes"])
    if found.ledger.n_epochs == 0:
        raise InputError(f"run {run.id}: its ledger holds no epoch yet; open the page again after the first one")
    return found


def run_mined(run: Run, settings: MiningConfig) -> MinedPairs:
    """The run's ledger mined with these settings."""
    return _mined(str(run.path), _stamps(run), settings)


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=_HASHES)
def _mined(path: str, stamps: tuple[Stamp, ...], settings: MiningConfig) -> MinedPairs:
    return mine_pairs(_pairs(path, stamps), settings)


def run_band(run: Run, channel: str) -> LossBand:
    """The losses of all training pairs by epoch."""
    return _band(str(run.path), _stamps(run), channel)


@st.cache_resource(max_entries=16, show_spinner=False)
def _band(path: str, stamps: tuple[Stamp, ...], channel: str) -> LossBand:
    return loss_band(_pairs(path, stamps).ledger, channel)


@dataclass(frozen=True, eq=False)
class PairMap:
    """Points of all pairs, float32 (N, 4), and how they were made."""

    points: np.ndarray
    method: str


def run_map(run: Run) -> PairMap | None:
    """A run's map; None where it has none."""
    place = stamp(run.files.projection)
    return None if place == (0, 0) else _map(str(run.path), _stamps(run), place)


@st.cache_resource(max_entries=4, show_spinner=False)
def _map(path: str, stamps: tuple[Stamp, ...], place: Stamp) -> PairMap:  # noqa: ARG001
    projection = Run(Path(path)).projection()
    points = map_points(projection, _pairs(path, stamps))
    return PairMap(points, str(projection["method"].iat[0]))


def run_verdicts(run: Run) -> np.ndarray | None:
    """Reviewers' verdict on each of the run's pairs, in words; None where no pair of this data set has a verdict."""
    workspace = run.path.parent.parent
    if not ReviewStore.exists(workspace):
        return None
    # Only here: both load torch, which this page can do without.
    from .review import verdict_name
    from .review_reads import review_store

    judged = review_store(workspace).verdicts(run.data["fingerprint"]).verdicts
    said = {one.pair_id: verdict_name(one.verdict) for one in judged}
    if not said:
        return None
    return np.array([said.get(pair_id, NOT_REVIEWED) for pair_id in run_pairs(run).ids.tolist()])


def run_embeddings(run: Run) -> dict[str, np.ndarray]:
    """`image` and `text`, float32 (N, D), unit norm."""
    return _embeddings(str(run.path), stamp(run.files.embeddings))


@st.cache_resource(max_entries=2, show_spinner=False)
def _embeddings(path: str, stamps: Stamp) -> dict[str, np.ndarray]:  # noqa: ARG001
    return Run(Path(path)).embeddings()


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
        It is gone, or can no longer be read.
    """
    folder = str(run.data["folder"])
    stamps = tuple(stamp(Path(folder) / name) for name in ("", *_TABLES, "findings.csv"))
    options = {**(run.data.get("read_options") or {}), "check_images": False}
    return _data(folder, tuple(sorted(options.items())), stamps)


@st.cache_resource(max_entries=3, show_spinner="Reading the data folder …")
def _data(folder: str, options: tuple, stamps: tuple[Stamp, ...]) -> Data:  # noqa: ARG001
    table = PairTable.read(folder, **dict(options))
    rows = pd.Index(table.pair_ids.astype(object))
    planted = table.planted()
    kinds = None
    if planted is not None:
        known = pd.Series(planted["kind"].to_numpy(str), index=planted["pair_id"].to_numpy(str))
        kinds = known.reindex(table.pair_ids).fillna("").to_numpy(str)
    return Data(table, rows, kinds, _findings(Path(folder)))


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


@dataclass(frozen=True, eq=False)
class Truth:
    """Planted kinds in the order of the run's pairs, "" where nothing is known, and how well the ranking finds them."""

    planted: np.ndarray
    curves: list[TruthCurve]


def run_truth(run: Run, now: MinedPairs) -> Truth | None:
    """What was planted among a run's pairs; None where nothing is known of it. `InputError` as in `run_data`."""
    if run_data(run).planted is None:
        return None
    own = usable_settings(run.config.mining, run_pairs(run).ledger.channels)
    ranking = changed_settings(own, {name: getattr(now.settings, name) for name in ("history", "channel", "rule")})
    return _truth(str(run.path), _stamps(run), ranking, stamp(Path(str(run.data["folder"])) / PLANTED))


# Limits do not change the order of the pairs: one ranking serves all of them.
@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=_HASHES)
def _truth(path: str, stamps: tuple[Stamp, ...], ranking: MiningConfig, planted: Stamp) -> Truth:  # noqa: ARG001
    run = Run(Path(path))
    data = run_data(run)
    places = data.rows.get_indexer(_pairs(path, stamps).rows)
    known = np.where(places >= 0, data.planted[places], "")
    return Truth(known, truth_curves(_mined(path, stamps, ranking), known))
