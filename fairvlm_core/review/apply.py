"""Verdicts change the table that a run is trained on.

| verdict | training pairs | validation pairs | test pairs |
|---|---|---|---|
| fits | trusted: full weight whatever the loss | – | – |
| wrong note, better pair named | that pair's note, trusted | – | – |
| wrong note | left out | – | – |
| wrong label | corrected | corrected | – |
| any other bad verdict | left out | – | – |
| unsure, conflict | – | – | – |

The test split is never changed. Which of its pairs are judged depends on what a model flagged. Correcting only those would
favour that model, and metrics of runs before and after would be about different patients. Validation keeps all its pairs
for the same reason; its labels are corrected because wrong ones mislead the choice of the epoch, and no metric is reported
from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..pairs import PairTable
from .results import PairVerdict, VerdictSet

_CHANGES = ("trusted", "repaired", "left_out", "relabelled")
_NO_CHANGES = ("label_was_right", "unsure", "conflicts", "not_for_this_split", "other_data", "unknown_pairs")


@dataclass(frozen=True)
class AppliedVerdicts:
    """A table after its verdicts.

    Attributes
    ----------
    table : PairTable
        Without the pairs that are left out; labels and notes corrected. Its test split is unchanged.
    trusted : frozenset of str
        Pair ids whose weight stays 1 in training: judged to fit, or repaired.
    counts : dict
        Pairs by the effect of their verdict: trusted, repaired, left_out, relabelled; without effect: label_was_right,
        unsure, conflicts, not_for_this_split, other_data (judged on another data set), unknown_pairs (not in the table).
    """

    table: PairTable
    trusted: frozenset[str]
    counts: dict[str, int]

    @property
    def n_changes(self) -> int:
        """Verdicts that had an effect."""
        return sum(self.counts[name] for name in _CHANGES)


def apply_verdicts(table: PairTable, verdicts: VerdictSet) -> AppliedVerdicts:
    """Correct a table by verdicts that were given on the same data (same fingerprint).

    Raises
    ------
    InputError
        There are verdicts, but none is for this data.
    """
    own = verdicts.of_data(table.fingerprint).verdicts
    if verdicts.verdicts and not own:
        raise InputError(
            "verdicts: all of them were given on other data (another fingerprint); train on the data that was reviewed"
        )
    rows = {pair_id: row for row, pair_id in enumerate(table.pair_ids)}
    split, notes = table.frame["split"].to_numpy(str), table.frame["text"].to_numpy(object)
    text, label, keep = notes.copy(), table.labels.copy(), np.ones(len(table), bool)
    trusted: set[str] = set()
    counts = dict.fromkeys((*_CHANGES, *_NO_CHANGES), 0) | {"other_data": len(verdicts) - len(own)}
    for verdict in own:
        row = rows.get(verdict.pair_id)
        effect = "unknown_pairs" if row is None else _effect(verdict, str(split[row]), int(label[row]))
        better = rows.get(verdict.better_pair_id or "") if verdict.verdict == "wrong_note" else None
        if effect == "left_out" and better is not None and split[better] == "train":
            effect, text[row] = "repaired", notes[better]
        if effect == "relabelled":
            label[row] = 1 - label[row]
        keep[row] &= effect != "left_out"
        if effect in {"trusted", "repaired"}:
            trusted.add(verdict.pair_id)
        counts[effect] += 1
    frame = table.frame.assign(text=pd.array(text, dtype=table.frame["text"].dtype), label=label)
    return AppliedVerdicts(replace(table, frame=frame).take(keep), frozenset(trusted), counts)


def _effect(verdict: PairVerdict, split: str, label: int) -> str:
    """The effect of one verdict; a wrong note counts as left out until a better one is found."""
    if verdict.verdict is None:
        return "conflicts"
    if verdict.bad is None:
        return "unsure"
    if verdict.verdict == "wrong_label" and split != "test":
        return "label_was_right" if verdict.corrected_label == label else "relabelled"
    if split != "train":
        return "not_for_this_split"
    return "left_out" if verdict.bad else "trusted"


def record(applied: AppliedVerdicts, verdicts: VerdictSet) -> dict[str, Any]:
    """What a run stores about the verdicts it was trained with: counts, source, and the head of the log."""
    return {
        "source": verdicts.source,
        "n_verdicts": len(verdicts),
        "head": asdict(verdicts.head),
        "counts": applied.counts,
    }
