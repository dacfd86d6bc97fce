"""The time of a launch, estimated from a measured training step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ..config import RunConfig
from ..errors import InputError
from ..pairs import PairTable
from ..runs import Run, RunStore, State

_STEPS, _HELD_OUT = 4, 64
_PART = 20
_START = 2.0  # seconds until a process of the queue trains


@dataclass(frozen=True)
class StepTime:
    """A measured training step.

    Attributes
    ----------
    seconds : float
        Median of an epoch.
    between : float
        Seconds of evaluation and saving for each training pair and epoch.
    once : float
        Seconds of a run outside its epochs: starting, reading images, scoring the test split, intervals.
    source : str
        Id of the run that was measured; empty for `measure_step`.
    """

    seconds: float
    between: float = 0.0
    once: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Cost:
    """Training pairs × epochs × runs, optimizer steps, and seconds if known."""

    pairs: int
    steps: int
    seconds: float | None = None


def estimate(configs: Sequence[RunConfig], n: Mapping[str, int], step: StepTime | None) -> Cost:
    """Cost of runs on data with `n` pairs a split, one after the other.

    >>> estimate([RunConfig(epochs=2, batch_size=64)] * 3, {"train": 1000}, StepTime(0.5, once=4.0))
    Cost(pairs=6000, steps=96, seconds=60.0)
    >>> estimate([RunConfig(epochs=2, batch_size=64, folds=5)], {"train": 700, "val": 100, "test": 200}, None)
    Cost(pairs=7000, steps=110, seconds=None)
    """
    pairs = steps = 0
    for config in configs:
        n_train, epochs = _training_pairs(config, n), config.epochs * max(1, config.folds)
        pairs += n_train * epochs
        steps += math.ceil(n_train / min(config.batch_size, max(n_train, 1))) * epochs
    if step is None:
        return Cost(pairs, steps)
    return Cost(pairs, steps, steps * step.seconds + pairs * step.between + len(configs) * step.once)


def _training_pairs(config: RunConfig, n: Mapping[str, int]) -> int:
    """Training pairs of a model: with folds, all but one fold for the test and half a fold for validation."""
    return round(sum(n.values()) * (1 - 1.5 / config.folds)) if config.folds else n["train"]


def known_step(store: RunStore, config: RunConfig) -> StepTime | None:
    """From the newest run with the same model, `trainable`, batch size, device and precision.

    A finished one, and one of the same preset, is preferred.
    """
    found: list[tuple[bool, StepTime]] = []
    for run in reversed(store.runs()):
        try:
            step = _step_of(run, config)
            finished = step is not None and run.status.state == State.FINISHED
        except (InputError, KeyError, TypeError, ValueError):
            continue
        if step is not None and finished and run.config.preset == config.preset:
            return step
        if step is not None:
            found.append((finished, step))
    return max(found, key=lambda one: one[0])[1] if found else None


def _step_of(run: Run, config: RunConfig) -> StepTime | None:
    def same(one: RunConfig) -> tuple[str, ...]:
        return one.model, one.trainable, str(one.batch_size), one.device, one.precision

    if same(run.config) != same(config) or not (lines := run.metrics()):
        return None
    n_train = _training_pairs(run.config, run.data["n"])
    step = float(np.median([line["step_seconds"] for line in lines]))
    epoch = float(np.median([line["seconds"] for line in lines]))
    steps = math.ceil(n_train / min(config.batch_size, n_train))
    return StepTime(step, max(0.0, epoch - steps * step) / n_train, _outside_epochs(run, lines), run.id)


def _outside_epochs(run: Run, lines: Sequence[Mapping[str, Any]]) -> float:
    """Seconds between start and end of a run, from its log, that are not of its epochs; 0 for a run that was resumed."""
    moments: dict[str, datetime] = {}
    for line in run.log_lines():
        moment, _, words = line.partition(" ")
        if words in ("started", "resumed", "finished"):
            moments[words] = datetime.fromisoformat(moment)
    if "resumed" in moments or not {"started", "finished"} <= set(moments):
        return 0.0
    taken = (moments["finished"] - moments["started"]).total_seconds()
    epochs = sum(float(line["seconds"]) for line in lines) * max(1, run.config.folds)  # the lines are means over folds
    return max(0.0, taken - epochs) + _START


def measure_step(table: PairTable, config: RunConfig) -> StepTime:
    """Train for two short epochs on a few pairs of the table; the median step of the second epoch.

    What a run does once (reading all images, embedding all pairs, intervals) is measured on these pairs, too.

    Raises
    ------
    InputError, TrainingError
        As a run with this configuration would.
    """
    from ..features import embed, pair_arrays
    from ..models import load_clip
    from ..train import check_table, fit

    check_table(table, config)
    split, label = table.frame["split"].to_numpy().astype(str), table.labels
    rows = [np.flatnonzero(split == "train")[: _STEPS * config.batch_size]]
    for name in ("val", "test"):
        for value in (0, 1):
            rows.append(np.flatnonzero((split == name) & (label == value))[:_HELD_OUT])
    few = table.take(np.sort(np.concatenate(rows)))
    clip = load_clip(config.model)
    started = time.perf_counter()
    arrays = pair_arrays(few, clip)
    embed(clip, arrays)
    each = (time.perf_counter() - started) / len(few)
    epoch = fit(few, config.model_copy(update={"epochs": 2}), arrays=arrays).history[-1]
    n_train = len(rows[0])
    between = epoch.seconds - math.ceil(n_train / min(config.batch_size, n_train)) * epoch.step_seconds
    once = _START + each * len(table) + _report_seconds(table)
    return StepTime(epoch.step_seconds, max(0.0, between) / n_train, once)


def _report_seconds(table: PairTable) -> float:
    """Seconds for the test report of a run, from one with a part of the resamples."""
    from ..analysis.held_out import RESAMPLES, held_out_report

    test = table.only("test").frame.reset_index(drop=True)
    test = test.assign(score=np.random.default_rng(0).random(len(test)))
    started = time.perf_counter()
    held_out_report(test, table.attributes, RESAMPLES // _PART)
    return (time.perf_counter() - started) * _PART
