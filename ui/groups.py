"""Who is in a data set: counts, label rates with intervals, intersections. Frames in, frames out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from fairvlm_core.analysis.group_order import group_order

SMALL_CELL = 10
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}


def wilson(positive: np.ndarray, n: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of a rate; NaN where n is 0.

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)   (Wilson, J. Am. Stat. Assoc. 22, 1927)

    >>> low, high = wilson(np.array([0, 8]), np.array([10, 10]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.49], [0.278, 0.943])
    """
    positive, n = np.asarray(positive, float), np.asarray(n, float)
    z = norm.ppf(0.5 + confidence / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = positive / n
        centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


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
    counts["low"], counts["high"] = wilson(counts["n_positive"].to_numpy(), counts["n"].to_numpy())
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
