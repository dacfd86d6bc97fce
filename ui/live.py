"""What the live view says about a run at work: decisions without drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.jobs import Job
from fairvlm_core.runs import Status

from .words import duration, figure, listed, many

CURVES = ("epoch", "train_loss", "val_loss", "auc", "es_auc", "faulty", "noisy")


@dataclass(frozen=True)
class Progress:
    """`share` from 0 to 1, and the line beside it."""

    share: float
    line: str


def progress(status: Status, lines: Sequence[Mapping[str, Any]]) -> Progress:
    """How far a run is.

    >>> progress(Status("running", epoch=1, epochs=4, step=30, steps=80), [{"step_seconds": 0.5, "seconds": 12.0}])
    Progress(share=0.375, line='epoch 2 of 4 · step 30 of 80 · about 31 s left')
    """
    if status.state == "queued":
        return Progress(0.0, "starting" if status.message == "starting" else "waits for its turn")
    share = status.step / status.steps if status.steps else status.epoch / max(status.epochs, 1)
    if status.state != "running":
        return Progress(min(1.0, share), f"after epoch {status.epoch} of {status.epochs}")
    if not status.steps:
        return Progress(0.0, status.message or "starting")
    if status.step >= status.steps:
        return Progress(1.0, "evaluating and writing the result")
    epoch = min(math.floor(status.epochs * share) + 1, status.epochs)
    parts = [f"epoch {epoch} of {status.epochs}", f"step {status.step:,} of {status.steps:,}"]
    if (left := time_left(status, lines)) is not None:
        parts.append(f"about {duration(left)} left")
    return Progress(share, " · ".join(parts))


def time_left(status: Status, lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds of training that are left, at the pace of the epochs so far; None before the first has ended."""
    if not lines or not status.steps or not status.epochs:
        return None
    step = float(np.median([line["step_seconds"] for line in lines]))
    epoch = float(np.median([line["seconds"] for line in lines]))
    per_epoch = status.steps / status.epochs
    between = max(0.0, epoch - per_epoch * step)
    return (status.steps - status.step) * step + (status.epochs - status.epoch) * between


def curves(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row an epoch: epoch, train_loss, val_loss, auc and es_auc (validation; mean over attributes), faulty, noisy."""
    rows = []
    for line in lines:
        known = [facts["es_auc"] for facts in line["val"]["attributes"].values() if facts["es_auc"] is not None]
        rows.append(
            {
                "epoch": line["epoch"],
                "train_loss": line["train_loss"],
                "val_loss": line["val_loss"],
                "auc": line["val"]["overall"]["auc"],
                "es_auc": float(np.mean(known)) if known else None,
                "faulty": line["flagged"]["faulty"],
                "noisy": line["flagged"]["noisy"],
            }
        )
    return pd.DataFrame(rows, columns=list(CURVES))


def sinkhorn_curves(lines: Sequence[Mapping[str, Any]], quantity: str = "loss") -> pd.DataFrame:
    """Divergence of each attribute (mean over its groups) by epoch: attribute, epoch, value."""
    rows = [
        {"attribute": entry["attribute"], "epoch": line["epoch"], "value": entry["value"]}
        for line in lines
        for entry in line["sinkhorn"]
        if entry["quantity"] == quantity
    ]
    frame = pd.DataFrame(rows, columns=["attribute", "epoch", "value"])
    return frame.groupby(["attribute", "epoch"], as_index=False, sort=False)["value"].mean()


def queue_line(job: Job) -> str:
    """Where a job stands, beside its name."""
    if job.place:
        return (
            "starting"
            if job.status.message == "starting"
            else f"number {job.place} in the queue of {job.status.device}"
        )
    if job.status.silent is not None:
        return f"no sign of life for {duration(job.status.silent)}"
    return progress(job.status, []).line


def outcome(test: Mapping[str, Any]) -> str:
    """The test figures of a finished run in one sentence."""
    es_auc = [f"{name} {figure(facts['es_auc'])}" for name, facts in test["attributes"].items()]
    n = many(test["overall"]["n"], "patient's pair", "test pairs")
    return f"Test AUC {figure(test['overall']['auc'])} on {n}; ES-AUC {listed(es_auc) or 'without attributes'}."


def silent_line(seconds: float) -> str:
    """
    >>> silent_line(300)
    'No sign of life for 5 min: the process is stopped or stuck. Cancel the run and resume it from its last whole epoch.'
    """
    return (
        f"No sign of life for {duration(seconds)}: the process is stopped or stuck. Cancel the run and resume it from its "
        "last whole epoch."
    )
