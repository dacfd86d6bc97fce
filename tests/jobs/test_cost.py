"""The estimated cost of a launch."""

from __future__ import annotations

import math

import pytest

from fairvlm_core import InputError, RunConfig
from fairvlm_core.jobs import StepTime, estimate, known_step, measure_step
from fairvlm_core.launch import execute


def test_pairs_steps_and_seconds_are_counted():
    configs = [RunConfig(epochs=3, batch_size=64, seed=seed) for seed in range(5)]
    cost = estimate(configs, 1000, StepTime(0.2, 0.001))
    assert cost.pairs == 1000 * 3 * 5
    assert cost.steps == math.ceil(1000 / 64) * 3 * 5
    assert cost.seconds == pytest.approx(cost.steps * 0.2 + cost.pairs * 0.001)
    assert estimate(configs, 1000, None).seconds is None
    assert estimate([RunConfig(batch_size=4096, epochs=1)], 10, None).steps == 1


def test_the_step_of_an_earlier_run_is_used(store, register, table, arrays):
    run = register(epochs=2)
    assert known_step(store, run.config) is None
    execute(run, table=table, arrays=arrays)
    step = known_step(store, run.config)
    assert step.source == run.id
    lines = run.metrics()
    assert step.seconds == pytest.approx(sum(line["step_seconds"] for line in lines) / 2)
    cost = estimate([run.config], run.data["n"]["train"], step)
    assert cost.seconds == pytest.approx(sum(line["seconds"] for line in lines), rel=0.01)
    assert known_step(store, RunConfig.build("clip", {"batch_size": 32, "device": "cpu"})).source == run.id
    assert known_step(store, RunConfig.build("clip", {"batch_size": 16, "device": "cpu"})) is None


def test_a_step_is_measured_without_a_run(table):
    step = measure_step(table, RunConfig.build("robustfair", {"batch_size": 16}))
    assert step.seconds > 0
    assert step.source == ""
    with pytest.raises(InputError, match="attribute"):
        measure_step(table, RunConfig.build("robustfair", {"fairness.attributes": "eyes"}))
