"""The estimated cost of a launch."""

from __future__ import annotations

import dataclasses
import math

import pytest

from fairvlm_core import InputError, RunConfig
from fairvlm_core.jobs import StepTime, estimate, known_step, measure_step
from fairvlm_core.jobs.progress import run_progress
from fairvlm_core.launch import execute


def test_pairs_steps_and_seconds_are_counted():
    configs = [RunConfig(epochs=3, batch_size=64, seed=seed) for seed in range(5)]
    cost = estimate(configs, {"train": 1000}, StepTime(0.2, 0.001))
    assert cost.pairs == 1000 * 3 * 5
    assert cost.steps == math.ceil(1000 / 64) * 3 * 5
    assert cost.seconds == pytest.approx(cost.steps * 0.2 + cost.pairs * 0.001)
    assert estimate(configs, {"train": 1000}, None).seconds is None
    assert estimate([RunConfig(batch_size=4096, epochs=1)], {"train": 10}, None).steps == 1


def test_the_step_of_an_earlier_run_is_used(store, register, table, arrays):
    run = register(epochs=2)
    assert known_step(store, run.config) is None
    execute(run, table=table, arrays=arrays)
    step = known_step(store, run.config)
    assert step.source == run.id
    lines = run.metrics()
    assert step.seconds == pytest.approx(sum(line["step_seconds"] for line in lines) / 2)
    cost = estimate([run.config], run.data["n"], step)
    assert cost.seconds == pytest.approx(sum(line["seconds"] for line in lines) + step.once, rel=0.01)
    assert known_step(store, RunConfig.build("clip", {"batch_size": 32, "device": "cpu"})).source == run.id
    assert known_step(store, RunConfig.build("clip", {"batch_size": 16, "device": "cpu"})) is None


def test_a_step_is_measured_without_a_run(table):
    step = measure_step(table, RunConfig.build("robustfair", {"batch_size": 16}))
    assert min(step.seconds, step.between, step.once) > 0
    assert step.source == ""
    with pytest.raises(InputError, match="attribute"):
        measure_step(table, RunConfig.build("robustfair", {"fairness.attributes": "eyes"}))


def test_what_a_run_does_outside_its_epochs_is_counted(store, register, table, arrays):
    run = register(epochs=1)
    execute(run, table=table, arrays=arrays)
    began = "2026-03-01T10:00:0"
    run.files.log.write_text(f"{began}0+00:00 started\n2026-03-01T10:01:00+00:00 finished\n")
    of_epochs = sum(line["seconds"] for line in run.metrics())
    once = known_step(store, run.config).once
    assert once == pytest.approx(60 - of_epochs, abs=3)
    status = dataclasses.replace(run.status, state="running", step=0, epoch=0)
    n_train = run.data["n"]["train"]
    left = run_progress(status, [], known=known_step(store, run.config), n_train=n_train).seconds_left
    assert left == pytest.approx(60, abs=3)  # before the first epoch, by the earlier run
    half = dataclasses.replace(status, step=status.steps // 2)
    assert run_progress(half, [], elapsed=10.0).seconds_left == pytest.approx(
        10.0 / half.step * (half.steps - half.step)
    )
