"""A map of the pairs: image and text embeddings projected to two dimensions, for display.

Neighbours on the map are mostly neighbours among the embeddings. Distances between far points, areas and densities have no
meaning. All measurements use the embeddings themselves (`neighbours`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError

FEWEST = 15  # with fewer pairs a neighbourhood graph is meaningless
LARGEST_FIT = 20_000  # pairs that UMAP is fitted on; the others are transformed
COLUMNS = ("image_x", "image_y", "text_x", "text_y")


@dataclass(frozen=True)
class Projection:
    """Points of N pairs.

    Attributes
    ----------
    image, text : float32 ndarray of shape (N, 2)
        Each centred on 0, its longer side from -1 to 1; no unit. The two are independent of each other.
    method : str
        For display: "UMAP", "UMAP, fitted on … of … pairs", or "principal components (reason)".
    """

    image: np.ndarray
    text: np.ndarray
    method: str

    def to_frame(self, pair_ids: Any) -> pd.DataFrame:
        """One row for each pair: pair_id, image_x, image_y, text_x, text_y, method."""
        if len(pair_ids) != len(self.image):
            raise InputError(f"pair_ids: {len(pair_ids)} ids for {len(self.image)} points; give one for each pair")
        points = np.concatenate([self.image, self.text], axis=1)
        columns = {name: points[:, i] for i, name in enumerate(COLUMNS)}
        return pd.DataFrame({"pair_id": np.asarray(pair_ids, str), **columns, "method": self.method})


def project(image_features: Any, text_features: Any, seed: int, *, largest_fit: int = LARGEST_FIT) -> Projection:
    """Project the embeddings of N pairs by UMAP with the cosine distance (McInnes et al., arXiv 1802.03426).

    Images and notes are fitted separately. In a joint fit, CLIP's modality gap (Liang et al., NeurIPS 2022) dominates:
    images and notes form separate clusters, even after centring, and the distance of an image to its note does not show
    whether they fit.

    Parameters
    ----------
    image_features, text_features : float array of shape (N, D)
        Row i of both belongs to pair i; unit norm is not needed.
    seed : int
        The same input and seed give the same points.
    largest_fit : int
        With more pairs, UMAP is fitted on a random sample of this size, and the others are transformed.

    Returns
    -------
    Projection
        Principal components if there are fewer than 15 pairs or UMAP fails; see `method`.

    Raises
    ------
    InputError
        Shapes do not match, there are no pairs, or features are not finite.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(6, 4))
    >>> found = project(features, features, seed=0)
    >>> found.image.shape, found.method
    ((6, 2), 'principal components (fewer than 15 pairs)')
    """
    image, text = _checked("image_features", image_features), _checked("text_features", text_features)
    if len(image) != len(text):
        raise InputError(f"text_features: {len(text)} rows for {len(image)} images; row i of both must be pair i")
    n = len(image)
    if n < FEWEST:
        return _components(image, text, f"fewer than {FEWEST} pairs")
    chosen = np.arange(n)
    if n > largest_fit:
        chosen = np.sort(np.random.default_rng(seed).choice(n, largest_fit, replace=False))
    try:
        points = [_umap(part, chosen, seed) for part in (image, text)]
    except Exception as error:  # of numba, a missing package, a graph without a spectrum
        return _components(image, text, f"UMAP cannot run here: {type(error).__name__}")
    method = "UMAP" if len(chosen) == n else f"UMAP, fitted on {len(chosen):,} of {n:,} pairs"
    return Projection(_boxed(points[0]), _boxed(points[1]), method)


def _umap(features: np.ndarray, chosen: np.ndarray, seed: int) -> np.ndarray:
    points = np.empty((len(features), 2), np.float32)
    with warnings.catch_warnings(), _threads_kept():
        warnings.simplefilter("ignore")  # about threads and disconnected neighbourhoods
        from umap import UMAP  # compiles for seconds

        fitted = UMAP(metric="cosine", n_jobs=1, random_state=seed, transform_seed=seed).fit(features[chosen])
        points[chosen] = fitted.embedding_
        others = np.setdiff1d(np.arange(len(features)), chosen)
        if len(others):
            points[others] = fitted.transform(features[others])
    if not np.isfinite(points).all():
        raise ValueError("points that are not finite")
    return points


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Keep torch's number of threads, which numba changes for the whole process when it first runs in parallel.

    With another number, sums are rounded differently, and runs trained before and after a map would differ.
    """
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _components(image: np.ndarray, text: np.ndarray, why: str) -> Projection:
    return Projection(_boxed(_leading(image)), _boxed(_leading(text)), f"principal components ({why})")


def _leading(features: np.ndarray) -> np.ndarray:
    """The first two principal components, zeros where there are fewer."""
    from sklearn.decomposition import PCA

    points = np.zeros((len(features), 2), np.float32)
    rank = min(2, len(features) - 1, features.shape[1])
    if rank > 0 and np.ptp(features, axis=0).any():
        points[:, :rank] = PCA(rank, svd_solver="full").fit_transform(features)
    return points


def _boxed(points: np.ndarray) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    half = float((high - low).max()) / 2
    return ((points - (low + high) / 2) / (half or 1.0)).astype(np.float32)


def _checked(name: str, values: Any) -> np.ndarray:
    features = np.asarray(values, np.float32)
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f"{name}: must have shape (pairs, width) with at least one pair (got shape {features.shape})")
    if not np.isfinite(features).all():
        row = int((~np.isfinite(features)).any(1).argmax())
        raise InputError(f"{name}: row {row} is not finite; check that pair")
    return features
