"""How far a run is, and how long it will take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runs import Status
from .cost import StepTime


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes
    ----------
    share : float
        0 to 1.
    epoch : int
        The epoch that is being trained, from 1; for a run that does not train, the epochs that have ended.
    seconds_left : float or None
        None while nothing is known of the pace.
    """

    share: float
    epoch: int
    seconds_left: float | None = None


def run_progress(
    status: Status, lines: Sequence[Mapping[str, Any]], *, known: StepTime | None = None, n_train: int = 0,
    elapsed: float = 0.0,
) -> RunProgress:  # fmt: skip
    """From a run's status and its lines of metrics.

    Parameters
    ----------
    known
        A step measured by an earlier run: the pace before the first epoch has ended, and what follows the last one.
    n_train
        Training pairs.
    elapsed
        Seconds since training began; used where there is no earlier run.

    >>> run_progress(Status("running", epoch=1, epochs=4, step=30, steps=80), [{"step_seconds": 0.5, "seconds": 12.0}])
    RunProgress(share=0.375, epoch=2, seconds_left=31.0)
    """
    share = min(1.0, status.step / status.steps if status.steps else status.epoch / max(status.epochs, 1))
    if status.state != "running":
        return RunProgress(0.0 if status.state == "queued" else share, status.epoch)
    if not status.steps:
        return RunProgress(0.0, 0)
    epoch = min(math.floor(status.epochs * share) + 1, status.epochs)
    return RunProgress(share, epoch, _seconds_left(status, lines, known, n_train, elapsed))


def _seconds_left(
    status: Status, lines: Sequence[Mapping[str, Any]], known: StepTime | None, n_train: int, elapsed: float
) -> float | None:
    """At the median pace of the epochs so far: training steps, what lies between them, and what follows the last one."""
    if not status.epochs:
        return None
    epochs_left = status.epochs - status.epoch
    if not lines and known is not None:
        return (status.steps - status.step) * known.seconds + epochs_left * n_train * known.between + known.once
    if not lines:
        return elapsed / status.step * (status.steps - status.step) if status.step and elapsed > 0 else None
    step = float(np.median([line["step_seconds"] for line in lines]))
    epoch = float(np.median([line["seconds"] for line in lines]))
    between = max(0.0, epoch - status.steps / status.epochs * step)
    return (status.steps - status.step) * step + epochs_left * between + (0.0 if known is None else known.once)
