"""Who is in a data set: counts, label rates with intervals, intersections, filters; from the frame of a `PairTable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..fairness.intervals import wilson
from ..words import SPLITS
from .group_order import group_order

SMALL_CELL = 10


def split_counts(frame: pd.DataFrame) -> pd.DataFrame:
    """By split and in all: Split, Pairs, Patients, Positive, Negative, Positive rate."""
    parts = {name.capitalize(): frame[frame["split"] == split] for split, name in SPLITS.items()} | {"All": frame}
    rows = [(name, len(part), part["patient_id"].nunique(), int(part["label"].sum())) for name, part in parts.items()]
    counts = pd.DataFrame(rows, columns=["Split", "Pairs", "Patients", "Positive"])
    counts["Negative"] = counts["Pairs"] - counts["Positive"]
    counts["Positive rate"] = counts["Positive"] / counts["Pairs"]
    return counts


def group_counts(frame: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """One row a group: attribute, group, n, patients, n_positive, n_negative, share, rate, low, high (Wilson, 95 %).

    >>> frame = pd.DataFrame({"race": ["A", "B", "A"], "label": [1, 0, 0], "patient_id": ["p", "q", "r"]})
    >>> group_counts(frame, ["race"])[["group", "n", "n_positive"]].to_numpy().tolist()
    [['A', 2, 1], ['B', 1, 0]]
    """
    rows = []
    for attribute in attributes:
        parts = dict(list(frame.groupby(frame[attribute].astype(str))))
        for group in group_order(parts):
            part = parts[group]
            rows.append((attribute, group, len(part), part["patient_id"].nunique(), int(part["label"].sum())))
    counts = pd.DataFrame(rows, columns=["attribute", "group", "n", "patients", "n_positive"])
    counts["n_negative"] = counts["n"] - counts["n_positive"]
    counts["share"] = counts["n"] / max(len(frame), 1)
    counts["rate"] = counts["n_positive"] / counts["n"]
    counts["low"], counts["high"] = wilson(counts["rate"], counts["n"])
    return counts


def intersections(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """One row a cell of two attributes, empty cells too: first, second, n, n_positive, rate, small (fewer than 10)."""
    keys = [frame[name].astype(str) for name in (first, second)]
    every = pd.MultiIndex.from_product([group_order(key.unique()) for key in keys], names=["first", "second"])
    counts = frame["label"].groupby([key.to_numpy() for key in keys]).agg(["size", "sum"])
    cells = counts.reindex(every, fill_value=0).astype(int).set_axis(["n", "n_positive"], axis=1).reset_index()
    cells["rate"] = (cells["n_positive"] / cells["n"]).where(cells["n"] > 0)
    cells["small"] = cells["n"] < SMALL_CELL
    return cells


def matching(
    frame: pd.DataFrame,
    *,
    splits: Sequence[str] = (),
    labels: Sequence[int] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    kinds: Sequence[str] = (),
    kind: pd.Series | None = None,
    words: str = "",
) -> np.ndarray:
    """Row numbers that pass every filter; an empty filter lets everything pass.

    `kind` is aligned to the frame's rows; `words` must all occur in the note, in any case.
    """
    chosen = [(frame["split"], splits), (frame["label"], labels)]
    chosen += [(frame[name].astype(str), names) for name, names in (groups or {}).items()]
    if kind is not None:
        chosen.append((kind, kinds))
    keep = np.ones(len(frame), bool)
    for column, values in chosen:
        if values:
            keep &= column.isin(list(values)).to_numpy()
    for word in words.casefold().split():
        keep &= frame["text"].str.casefold().str.contains(word, regex=False).to_numpy(bool)
    return np.flatnonzero(keep)
