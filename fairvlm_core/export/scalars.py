"""The metrics of a run as named numbers by epoch, for other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..report.cohort import GroupCells

_MORE_DIVERGENCES = ("chance", "weighted", "weighted_chance")  # not in runs of version 0.1


@dataclass(frozen=True)
class Scalar:
    """One number: its name with slashes ("val/auc/sex/F"), the epoch from 1, and the value."""

    name: str
    epoch: int
    value: float


def run_scalars(metrics: Sequence[Mapping[str, Any]], cells: Sequence[GroupCells]) -> list[Scalar]:
    """Losses, rates, counts, AUC, ES-AUC and divergences of every epoch.

    Parameters
    ----------
    metrics
        As `Run.metrics` gives them.
    cells
        As `report.cohort.group_cells` gives them: a group that is hidden in a split has no numbers there.
    """
    shown = {(cell.attribute, cell.split, cell.group) for cell in cells if not cell.hidden}
    return [
        Scalar(name, int(line["epoch"]), float(value))
        for line in metrics
        for name, value in _numbers(line, shown)
        if value is not None
    ]


def _numbers(line: Mapping[str, Any], shown: set[tuple[str, str, str]]) -> Iterator[tuple[str, float | None]]:
    yield "train/loss", line["train_loss"]
    yield "val/loss", line["val_loss"]
    yield "train/learning_rate", line.get("learning_rate")
    yield "train/seconds", line.get("seconds")
    yield "mining/mean_weight", line["mean_weight"]
    for kind, n in line["flagged"].items():
        yield f"mining/flagged/{kind}", n
    yield "val/auc", line["val"]["overall"]["auc"]
    for attribute, facts in line["val"]["attributes"].items():
        yield f"val/es_auc/{attribute}", facts["es_auc"]
        for group, values in facts["groups"].items():
            if (attribute, "val", group) in shown:
                yield f"val/auc/{attribute}/{group}", values["auc"]
    for entry in line["sinkhorn"]:
        if (entry["attribute"], "train", entry["group"]) in shown:
            for name, number in (("sinkhorn", "value"), *((f"sinkhorn_{n}", n) for n in _MORE_DIVERGENCES)):
                yield f"{name}/{entry['quantity']}/{entry['attribute']}/{entry['group']}", entry.get(number)
