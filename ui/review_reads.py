"""Cached reads of the Review page: the store, the data a queue is about, images as they are shown, maps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
import torch

from fairvlm_core.analysis.similarity_map import SimilarityMap, heat_on_image, similarity_map
from fairvlm_core.errors import InputError
from fairvlm_core.models import Clip, load_clip
from fairvlm_core.pairs import PairTable
from fairvlm_core.review import Queue, ReviewStore
from fairvlm_core.review.database import DATABASE_FILE, URL_VARIABLE
from fairvlm_core.runs import Run, RunStore

from .image_viewer import Picture, heat_address, picture_address
from .reads import Stamp, pair_table, stamp

MOST_OTHERS = 5


def has_reviews(workspace: Path) -> bool:
    """Whether there is a log already; looking at the page makes none."""
    return bool(os.environ.get(URL_VARIABLE)) or (workspace / DATABASE_FILE).exists()


def review_store(workspace: Path) -> ReviewStore:
    """The workspace's store, one for this process; `InputError` where it cannot be opened."""
    return _store(str(workspace.resolve()), os.environ.get(URL_VARIABLE, ""))


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(workspace: str, url: str) -> ReviewStore:
    return ReviewStore.open(workspace, url=url)


@dataclass(frozen=True)
class Subject:
    """What a queue is about: its run, and the data of that run as it was when the queue was made."""

    run: Run
    table: PairTable

    def row(self, pair_id: str) -> int:
        """The row of a pair in the table."""
        try:
            return _rows(self.table.fingerprint, self.table)[pair_id]
        except KeyError:
            raise InputError(f"pair {pair_id!r} is no longer in the data folder of run {self.run.id}") from None


@st.cache_resource(max_entries=4, show_spinner=False)
def _rows(fingerprint: str, _table: PairTable) -> dict[str, int]:  # noqa: ARG001 - part of the key
    return {pair_id: row for row, pair_id in enumerate(_table.pair_ids.tolist())}


def subject_of(queue: Queue, store: RunStore) -> Subject:
    """The run and the data of a queue.

    Raises
    ------
    InputError
        The run or the data folder is gone, or the data is no longer what was reviewed.
    """
    try:
        run = store.get(queue.run_id)
    except InputError:
        raise InputError(
            f"queue {queue.queue_id} was made from run {queue.run_id}, which is not in this workspace: "
            "open the workspace that has it"
        ) from None
    folder = Path(str(run.data["folder"]))
    if not folder.is_dir():
        raise InputError(f"the data folder of run {run.id} ({folder.name!r}) is gone: put it back to go on reviewing")
    table = pair_table(str(folder), dict(run.data.get("read_options") or {}))
    if table.fingerprint != queue.data:
        raise InputError(
            f"the data folder of run {run.id} ({folder.name!r}) has changed since queue {queue.queue_id} was made: "
            "put it back, or make a new queue from a run on the data as it is now"
        )
    return Subject(run, table)


def pictures(subject: Subject, row: int) -> list[Picture]:
    """The pair's image, then up to `MOST_OTHERS` other images of the same patient."""
    frame = subject.table.frame
    patient = frame["patient_id"].to_numpy()
    others = np.flatnonzero(patient == patient[row])
    rows = [row, *(int(other) for other in others if other != row)][: 1 + MOST_OTHERS]
    names = ["This image", *(f"Same patient: {frame['pair_id'].iat[other]}" for other in rows[1:])]
    return [Picture(_address(subject.table, each), name) for each, name in zip(rows, names, strict=True)]


def _address(table: PairTable, row: int) -> str:
    path = str(table.frame["image"].iat[row])
    return _cached_address(str(table.root), path, stamp(Path(table.root) / path), table, row)


@st.cache_data(max_entries=256, show_spinner=False)
def _cached_address(root: str, path: str, image: Stamp, _table: PairTable, _row: int) -> str:  # noqa: ARG001
    return picture_address(_table.image(_row))


@dataclass(frozen=True)
class Features:
    """Unit-norm embeddings of a run's pairs, float32 (N, D) each, and the N pair ids."""

    images: np.ndarray
    notes: np.ndarray
    pair_ids: tuple[str, ...]


def features_of(run: Run) -> Features:
    """The embeddings of a run."""
    return _features(str(run.path), stamp(run.path / "embeddings.npz"))


@st.cache_resource(max_entries=2, show_spinner=False)  # not to be changed, and too large to be copied for each reader
def _features(path: str, stamps: Stamp) -> Features:  # noqa: ARG001
    run = Run(Path(path))
    arrays = run.embeddings()
    return Features(arrays["image"], arrays["text"], tuple(run.pairs()["pair_id"].astype(str)))


@dataclass(frozen=True)
class Explained:
    """A similarity map and its heat as a layer over the pair's whole image."""

    map: SimilarityMap
    heat: str


def explained(subject: Subject, row: int) -> Explained:
    """What drives the similarity of a pair, by the run's model."""
    table, run = subject.table, subject.run
    weights = stamp(run.checkpoint / "open_clip_model.safetensors")
    pair_id = str(table.frame["pair_id"].iat[row])
    return _explained(str(run.path), weights, table.fingerprint, pair_id, table, row)


@st.cache_data(max_entries=64, show_spinner=False)
def _explained(
    run: str, weights: Stamp, fingerprint: str, pair_id: str, _table: PairTable, _row: int  # noqa: ARG001
) -> Explained:  # fmt: skip
    clip = _model(run, weights)
    image = _table.image(_row)
    found = similarity_map(clip, torch.from_numpy(clip.pixels(image)), str(_table.frame["text"].iat[_row]))
    small = image.copy()
    small.thumbnail((512, 512))
    heat = heat_on_image(found.heat, (small.height, small.width), clip.preprocess["resize_mode"])
    return Explained(found, heat_address(heat))


@st.cache_resource(max_entries=2, show_spinner="Loading the run's model …")
def _model(run: str, weights: Stamp) -> Clip:  # noqa: ARG001
    clip = load_clip(str(Run(Path(run)).checkpoint))
    clip.module.eval().requires_grad_(False)
    return clip
