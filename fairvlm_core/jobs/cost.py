"""What a launch will cost: from a step that was measured, in an earlier run or on purpose."""

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
    """A measured step.

    Attributes
    ----------
    seconds : float
        Of one training step (median of an epoch).
    between : float
        Seconds for each training pair and epoch that go into evaluation and saving.
    source : str
        The id of the run it comes from; empty where it was measured on purpose.
    """

    seconds: float
    between: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Cost:
    """`pairs` that pass through the model (training pairs × epochs × runs), optimizer `steps`, and seconds if known."""

    pairs: int
    steps: int
    seconds: float | None = None


def estimate(configs: Sequence[RunConfig], n_train: int, step: StepTime | None) -> Cost:
    """What runs on `n_train` training pairs cost, one after the other; without decoding images at the start of each.

    >>> estimate([RunConfig(epochs=2, batch_size=64)] * 3, 1000, StepTime(0.5))
    Cost(pairs=6000, steps=96, seconds=48.0)
    """
    pairs = sum(n_train * config.epochs for config in configs)
    steps = sum(math.ceil(n_train / min(config.batch_size, max(n_train, 1))) * config.epochs for config in configs)
    return Cost(pairs, steps, None if step is None else steps * step.seconds + pairs * step.between)


def known_step(store: RunStore, config: RunConfig) -> StepTime | None:
    """From the newest run with this model, batch size, device and precision; of this preset where there is one."""
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
    """Train for two short epochs on a few pairs of the table, as a run would, and take the median step of the second.

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
