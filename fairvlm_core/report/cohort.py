"""The data card: who is in the data, with small cells hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ..analysis.group_order import group_order
from ..intake.warning import IntakeWarning
from ..words import many
from .privacy import Cell, hidden_cells

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class GroupCells:
    """One group of an attribute in one split. Counts are None where `hidden` gives a reason."""

    attribute: str
    split: str
    group: str
    hidden: Cell
    n: int | None
    n_positive: int | None
    n_negative: int | None
    n_patients: int | None


def group_cells(pairs: pd.DataFrame, attributes: Sequence[str], min_cell: int) -> list[GroupCells]:
    """Every group of every attribute in every split.

    Cells are hidden by the number of patients in a group, and with each label in it. `pairs` has the columns patient_id,
    split, label and the attributes.
    """
    out = []
    for attribute in attributes:
        groups = group_order(pairs[attribute].astype(str))
        for split in SPLITS:
            part = pairs[pairs["split"].astype(str) == split]
            column, label = part[attribute].astype(str), part["label"].astype(int)
            people = [
                [int(part["patient_id"][(column == group) & label.isin(wanted)].nunique()) for group in groups]
                for wanted in ((0, 1), (1,), (0,))
            ]
            hidden = hidden_cells(*people, min_cell=min_cell)
            for group, patients, cell in zip(groups, people[0], hidden, strict=True):
                mine = label[column == group]
                counts = (len(mine), int(mine.sum()), int((1 - mine).sum()), patients)
                out.append(GroupCells(attribute, split, group, cell, *([None] * 4 if cell else counts)))
    return out


def data_card(data: Mapping[str, Any], pairs: pd.DataFrame, cells: Sequence[GroupCells]) -> dict[str, Any]:
    """Name, fingerprint, splits, groups and intake warnings; counts of groups only as in `cells`."""
    splits = []
    for split in SPLITS:
        part = pairs[pairs["split"].astype(str) == split]
        positive = int(part["label"].sum())
        splits.append(
            {
                "split": split,
                "n": len(part),
                "n_patients": int(part["patient_id"].nunique()),
                "n_positive": positive,
                "n_negative": len(part) - positive,
                "rate": positive / len(part) if len(part) else None,
            }
        )
    hidden = any(cell.hidden for cell in cells)
    warnings = [IntakeWarning.from_stored(stored) for stored in data["warnings"]]
    return {
        "name": data["name"],
        "fingerprint": data["fingerprint"],
        "prompts": list(data["prompts"]),
        "attributes": list(data["attributes"]),
        "splits": splits,
        "groups": [asdict(cell) for cell in cells],
        "warnings": _without_groups(warnings) if hidden else [str(warning) for warning in warnings],
    }


def _without_groups(warnings: Sequence[IntakeWarning]) -> list[str]:
    """Without the warnings about groups: "nobody in group A" or "one label only" states the count of a hidden cell."""
    kept = [str(warning) for warning in warnings if not warning.kind.about_groups]
    if left_out := len(warnings) - len(kept):
        kept.append(f"{many(left_out, 'warning')} left out, because counts of hidden groups could be in them")
    return kept
