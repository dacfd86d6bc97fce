"""Cached reads of the Review page: the data of a queue, images as they are shown, maps. It loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
import torch

from fairvlm_core.analysis.similarity_map import SimilarityMap, heat_on_image, similarity_map
from fairvlm_core.models import Clip, load_clip
from fairvlm_core.pairs import PairTable
from fairvlm_core.review import Queue, ReviewedData, best_notes, reviewed_data
from fairvlm_core.runs import Run, RunStore

from .image_viewer import Picture, heat_address, picture_address
from .reads import Stamp, pair_table, stamp

MOST_OTHERS = 5


def data_of(queue: Queue, store: RunStore) -> ReviewedData:
    """As `reviewed_data`; one object for all sessions, which keeps its index of pairs."""
    found = reviewed_data(queue, store, read=lambda folder, **options: pair_table(folder, options))
    return _data(str(found.run.path), found.table.fingerprint, found)


@st.cache_resource(max_entries=4, show_spinner=False)
def _data(run: str, fingerprint: str, _found: ReviewedData) -> ReviewedData:  # noqa: ARG001 - parts of the key
    return _found


def pictures(data: ReviewedData, row: int) -> list[Picture]:
    """The pair's image, then up to `MOST_OTHERS` other images of the same patient."""
    frame = data.table.frame
    patient = frame["patient_id"].to_numpy()
    others = [int(other) for other in np.flatnonzero(patient == patient[row]) if other != row][:MOST_OTHERS]
    names = ["This image", *(f"Same patient: {frame['pair_id'].iat[other]}" for other in others)]
    return [Picture(_address(data.table, each), name) for each, name in zip([row, *others], names, strict=True)]


def _address(table: PairTable, row: int) -> str:
    path = str(table.frame["image"].iat[row])
    return _cached_address(str(table.image_root), path, stamp(table.image_root / path), table, row)


@st.cache_data(max_entries=256, show_spinner=False)
def _cached_address(root: str, path: str, image: Stamp, _table: PairTable, _row: int) -> str:  # noqa: ARG001
    return picture_address(_table.image(_row))


def offered_notes(run: Run, pair_id: str, k: int) -> list[str]:
    """Ids of the k pairs whose notes the run's model finds most similar to the image of a pair; empty for a new pair."""
    images, notes, ids = _features(str(run.path), stamp(run.files.embeddings))
    return [ids[row] for row in best_notes(images, notes, ids.index(pair_id), k)] if pair_id in ids else []


def offered_images(run: Run, pair_id: str, k: int) -> list[str]:
    """Ids of the k pairs whose images the run's model finds most similar to the note of a pair; empty for a new pair."""
    images, notes, ids = _features(str(run.path), stamp(run.files.embeddings))
    return [ids[row] for row in best_notes(notes, images, ids.index(pair_id), k)] if pair_id in ids else []


@st.cache_resource(max_entries=2, show_spinner=False)  # too large to be copied for each reader
def _features(path: str, stamps: Stamp) -> tuple[np.ndarray, np.ndarray, list[str]]:  # noqa: ARG001
    run = Run(Path(path))
    arrays = run.embeddings()
    return arrays["image"], arrays["text"], run.pairs()["pair_id"].astype(str).tolist()


@dataclass(frozen=True)
class Explained:
    """A similarity map and its heat as a layer over the pair's whole image."""

    map: SimilarityMap
    heat: str


def explained(data: ReviewedData, row: int) -> Explained:
    """The similarity map of a pair by the run's model."""
    table, run = data.table, data.run
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
