"""The time of a launch, estimated from a measured training step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config import RunConfig
from ..errors import InputError
from ..pairs import PairTable
from ..runs import Run, RunStore

_STEPS, _HELD_OUT = 4, 64


@dataclass(frozen=True)
class StepTime:
    """A measured training step.

    Attributes
    ----------
    seconds : float
        Median of an epoch.
    between : float
        Seconds of evaluation and saving for each training pair and epoch.
    source : str
        Id of the run that was measured; empty for `measure_step`.
    """

    seconds: float
    between: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Cost:
    """Training pairs × epochs × runs, optimizer steps, and seconds if known."""

    pairs: int
    steps: int
    seconds: float | None = None


def estimate(configs: Sequence[RunConfig], n_train: int, step: StepTime | None) -> Cost:
    """Cost of runs on `n_train` training pairs, one after the other, without decoding images.

    >>> estimate([RunConfig(epochs=2, batch_size=64)] * 3, 1000, StepTime(0.5))
    Cost(pairs=6000, steps=96, seconds=48.0)
    """
    pairs = sum(n_train * config.epochs for config in configs)
    steps = sum(math.ceil(n_train / min(config.batch_size, max(n_train, 1))) * config.epochs for config in configs)
    return Cost(pairs, steps, None if step is None else steps * step.seconds + pairs * step.between)


def known_step(store: RunStore, config: RunConfig) -> StepTime | None:
    """From the newest run with the same model, batch size, device and precision, preferably of the same preset."""
    found = None
    for run in reversed(store.runs()):
        try:
            step = _step_of(run, config)
        except (InputError, KeyError, TypeError, ValueError):
            continue
        if step is not None and run.config.preset == config.preset:
            return step
        found = found or step
    return found


def _step_of(run: Run, config: RunConfig) -> StepTime | None:
    def same(one: RunConfig) -> tuple[str, ...]:
        return one.model, str(one.batch_size), one.device, one.precision

    if same(run.config) != same(config) or not (lines := run.metrics()):
        return None
    n_train = int(run.data["n"]["train"])
    step = float(np.median([line["step_seconds"] for line in lines]))
    epoch = float(np.median([line["seconds"] for line in lines]))
    steps = math.ceil(n_train / min(config.batch_size, n_train))
    return StepTime(step, max(0.0, epoch - steps * step) / n_train, run.id)


def measure_step(table: PairTable, config: RunConfig) -> StepTime:
    """Train for two short epochs on a few pairs of the table; the median step of the second epoch.

    Raises
    ------
    InputError, TrainingError
        As a run with this configuration would.
    """
    from ..train import check_table, fit

    check_table(table, config)
    split, label = table.frame["split"].to_numpy().astype(str), table.labels
    rows = [np.flatnonzero(split == "train")[: _STEPS * config.batch_size]]
    for name in ("val", "test"):
        for value in (0, 1):
            rows.append(np.flatnonzero((split == name) & (label == value))[:_HELD_OUT])
    result = fit(table.take(np.sort(np.concatenate(rows))), config.model_copy(update={"epochs": 2}))
    return StepTime(result.history[-1].step_seconds)
