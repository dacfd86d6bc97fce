"""Verdicts change the table that a run is trained on.

| verdict | training pairs | validation pairs | test pairs |
|---|---|---|---|
| fits | trusted: full weight whatever the loss | – | – |
| wrong note, better pair named | that pair's note, trusted | – | – |
| wrong note | left out | – | – |
| wrong label | corrected | corrected | – |
| uninformative, unusable image | left out | – | – |
| unsure, conflict | – | – | – |

The test split is never changed. Which of its pairs are judged depends on what a model flagged; correcting those alone would
move the measure towards that model, and figures of runs before and after would no longer be about the same patients.
Validation keeps all its pairs for the same reason; its labels are corrected because wrong ones mislead the choice of the
epoch, and no figure is reported from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..pairs import PairTable
from .results import PairVerdict, VerdictSet

COUNTS = (
    "trusted",
    "repaired",
    "left_out",
    "relabelled",
    "label_was_right",
    "unsure",
    "conflicts",
    "not_for_this_split",
    "other_data",
    "unknown_pairs",
)


@dataclass(frozen=True)
class AppliedVerdicts:
    """A table after its verdicts.

    Attributes
    ----------
    table : PairTable
        Without the pairs that are left out; labels and notes corrected. Its test split is the one that went in.
    trusted : frozenset of str
        Pair ids whose weight stays 1 in training: judged to fit, or repaired.
    counts : dict
        Pairs by what became of their verdict: trusted, repaired, left_out, relabelled; without effect: label_was_right,
        unsure, conflicts, not_for_this_split, other_data (judged on another data set), unknown_pairs (not in the table).
    """

    table: PairTable
    trusted: frozenset[str]
    counts: dict[str, int]

    @property
    def n_changes(self) -> int:
        """Verdicts that had an effect."""
        return sum(self.counts[name] for name in ("trusted", "repaired", "left_out", "relabelled"))


def apply_verdicts(table: PairTable, verdicts: VerdictSet) -> AppliedVerdicts:
    """Correct a table by verdicts that were given on its very data (same fingerprint).

    Raises
    ------
    InputError
        There are verdicts, but none is for this data.
    """
    fingerprint = table.fingerprint
    own = verdicts.of_data(fingerprint).verdicts
    if verdicts.verdicts and not own:
        raise InputError(
            "verdicts: all of them were given on other data (another fingerprint); train on the data that was reviewed"
        )
    rows = {pair_id: row for row, pair_id in enumerate(table.pair_ids)}
    split = table.frame["split"].to_numpy(str)
    text = table.frame["text"].to_numpy(object).copy()
    label = table.labels.copy()
    keep = np.ones(len(table), bool)
    trusted: set[str] = set()
    counts = dict.fromkeys(COUNTS, 0)
    counts["other_data"] = len(verdicts) - len(own)
    original = text.copy()
    for verdict in own:
        row = rows.get(verdict.pair_id)
        effect = "unknown_pairs" if row is None else _effect(verdict, str(split[row]), int(label[row]))
        if effect == "left_out" and verdict.verdict == "wrong_note":
            better = rows.get(verdict.better_pair_id or "")
            if better is not None and split[better] == "train":
                effect, text[row] = "repaired", original[better]
        if effect == "relabelled":
            label[row] = 1 - label[row]
        keep[row] &= effect != "left_out"
        if effect in {"trusted", "repaired"}:
            trusted.add(verdict.pair_id)
        counts[effect] += 1
    frame = table.frame.copy()
    frame["text"] = pd.array(text, dtype=frame["text"].dtype)
    frame["label"] = label
    return AppliedVerdicts(replace(table, frame=frame).take(keep), frozenset(trusted), counts)


def _effect(verdict: PairVerdict, split: str, label: int) -> str:
    """What becomes of one verdict; a wrong note counts as left out until a better one is found."""
    if verdict.verdict is None:
        return "conflicts"
    if verdict.verdict == "unsure":
        return "unsure"
    if verdict.verdict == "wrong_label" and split != "test":
        return "label_was_right" if verdict.corrected_label == label else "relabelled"
    if split != "train":
        return "not_for_this_split"
    return "trusted" if verdict.verdict == "fits" else "left_out"


def record(applied: AppliedVerdicts, verdicts: VerdictSet) -> dict[str, Any]:
    """What a run notes about the verdicts it was trained with: counts, source, and the head of the log."""
    head = {"sequence": verdicts.head.sequence, "hash": verdicts.head.hash}
    return {"source": verdicts.source, "n_verdicts": len(verdicts), "head": head, "counts": applied.counts}
