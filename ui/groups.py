"""Who is in a data set: counts, label rates with intervals, intersections. Frames in, frames out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.fairness.intervals import wilson

SMALL_CELL = 10
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}


def split_counts(frame: pd.DataFrame) -> pd.DataFrame:
    """By split and in all: Split, Pairs, Patients, Positive, Negative, Positive rate."""
    rows = []
    for name in (*SPLITS, "all"):
        part = frame if name == "all" else frame[frame["split"] == name]
        positive = int(part["label"].sum())
        rows.append(
            {
                "Split": SPLIT_NAMES.get(name, "All"),
                "Pairs": len(part),
                "Patients": part["patient_id"].nunique(),
                "Positive": positive,
                "Negative": len(part) - positive,
                "Positive rate": positive / len(part) if len(part) else None,
            }
        )
    return pd.DataFrame(rows)


def group_counts(frame: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """One row a group: attribute, group, n, patients, share, n_positive, n_negative, rate, low, high (Wilson, 95 %).

    >>> frame = pd.DataFrame({"race": ["A", "B", "A"], "label": [1, 0, 0], "patient_id": ["p", "q", "r"]})
    >>> group_counts(frame, ["race"])[["group", "n", "n_positive"]].to_numpy().tolist()
    [['A', 2, 1], ['B', 1, 0]]
    """
    rows = []
    for attribute in attributes:
        column = frame[attribute].astype(str)
        for group in group_order(column.unique()):
            part = frame[(column == group).to_numpy()]
            rows.append((attribute, group, len(part), part["patient_id"].nunique(), int(part["label"].sum())))
    counts = pd.DataFrame(rows, columns=["attribute", "group", "n", "patients", "n_positive"])
    counts["n_negative"] = counts["n"] - counts["n_positive"]
    counts["share"] = counts["n"] / max(len(frame), 1)
    counts["rate"] = counts["n_positive"] / counts["n"]
    counts["low"], counts["high"] = wilson(counts["n_positive"] / counts["n"], counts["n"])
    return counts


def intersections(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """One row a cell of two attributes, empty cells too: first, second, n, n_positive, rate, small (fewer than 10)."""
    a, b = frame[first].astype(str), frame[second].astype(str)
    rows = []
    for one in group_order(a.unique()):
        for other in group_order(b.unique()):
            part = frame["label"][((a == one) & (b == other)).to_numpy()]
            rows.append((one, other, len(part), int(part.sum())))
    cells = pd.DataFrame(rows, columns=["first", "second", "n", "n_positive"])
    cells["rate"] = (cells["n_positive"] / cells["n"]).where(cells["n"] > 0)
    cells["small"] = cells["n"] < SMALL_CELL
    return cells


def small_cells(cells: pd.DataFrame) -> str:
    """A sentence on the small cells, or nothing.

    >>> small_cells(pd.DataFrame({"n": [0, 4, 50], "small": [True, True, False]}))
    '2 of 3 cells hold fewer than 10 pairs, 1 of them none: figures there are chance.'
    """
    small, empty = int(cells["small"].sum()), int((cells["n"] == 0).sum())
    if not small:
        return ""
    none = f", {empty} of them none" if empty else ""
    return f"{small} of {len(cells)} cells hold fewer than {SMALL_CELL} pairs{none}: figures there are chance."


def matching(
    frame: pd.DataFrame,
    *,
    splits: Sequence[str] = (),
    labels: Sequence[int] = (),
    groups: dict[str, Sequence[str]] | None = None,
    kinds: Sequence[str] = (),
    kind: pd.Series | None = None,
    words: str = "",
) -> np.ndarray:
    """Row numbers that pass every filter; an empty filter lets everything pass.

    `kind` is aligned to the frame's rows; `words` must all occur in the note, whatever their case.
    """
    keep = np.ones(len(frame), bool)
    if splits:
        keep &= frame["split"].isin(list(splits)).to_numpy()
    if labels:
        keep &= frame["label"].isin(list(labels)).to_numpy()
    for name, chosen in (groups or {}).items():
        if chosen:
            keep &= frame[name].astype(str).isin(list(chosen)).to_numpy()
    if kinds and kind is not None:
        keep &= kind.isin(list(kinds)).to_numpy()
    for word in words.casefold().split():
        keep &= frame["text"].str.casefold().str.contains(word, regex=False).to_numpy(bool)
    return np.flatnonzero(keep)


def split_name(name: str) -> str:
    """
    >>> split_name("val"), split_name("all")
    ('Validation', 'All')
    """
    return SPLIT_NAMES.get(name, "All")
