"""Settings without effect, and runs that ended too early."""

from __future__ import annotations

import numpy as np
import pytest

from fairvlm_core.analysis.learning import StillLearning, still_learning
from fairvlm_core.analysis.without_effect import Cause, without_effect
from fairvlm_core.config import PRESETS, RunConfig

SEX = ("sex", "race")


@pytest.mark.parametrize(
    ("preset", "settings", "attributes", "expected"),
    [
        ("robustfair", {}, (), {Cause.NO_ATTRIBUTES: ("fairness.weight",)}),
        ("clip", {"fairness.quantity": "similarity"}, SEX, {Cause.NO_TERM: ("fairness.quantity",)}),
        ("robustfair", {"fairness.weight": 0}, SEX, {}),  # the preset's own settings of the term are not named
        ("clip", {"fairness.blur": 0.5}, SEX, {}),  # the recorded divergence uses it
        ("group-dro", {"fairness.attributes": "sex"}, SEX, {}),
        ("clip", {"fairness.attributes": "sex"}, SEX, {Cause.NO_TERM: ("fairness.attributes",)}),
        ("clip", {"mining.history": "last", "mining.warmup": 2}, SEX,
         {Cause.NOT_MINED: ("mining.history", "mining.warmup")}),
        ("dbpm", {"mining.rule": "mixture", "mining.faulty_sd": 1.25}, SEX, {Cause.OTHER_RULE: ("mining.faulty_sd",)}),
        ("dbpm", {"epochs": 1, "mining.warmup": 1}, SEX, {Cause.LONG_WARM_UP: ("mining.warmup",)}),
        ("dbpm", {"epochs": 2, "mining.warmup": 1}, SEX, {}),
        ("robustfair-released", {"mining.noisy_sd": 1.25}, SEX, {Cause.RELEASED_MINER: ("mining.noisy_sd",)}),
        ("robustfair-released", {"fairness.normalise": "sum"}, SEX, {Cause.RELEASED_TERM: ("fairness.normalise",)}),
        ("robustfair", {"fairness.attributes": "sex", "fairness.attribute_weights": {"race": 2, "sex": 2}}, SEX,
         {Cause.NOT_COMPARED: ("fairness.attribute_weights.race",)}),
        ("clip", {"lora_rank": 4}, SEX, {Cause.NOT_TRAINED: ("lora_rank",)}),
        ("clip", {"lora_rank": 4, "trainable": "lora"}, SEX, {}),
        ("group-weights", {"groups.clusters": 4}, SEX, {Cause.OTHER_METHOD: ("groups.clusters",)}),
    ],
)  # fmt: skip
def test_settings_without_effect_are_named_with_the_cause(preset, settings, attributes, expected):
    found = without_effect(RunConfig.build(preset, settings), attributes)
    assert {one.cause: one.settings for one in found} == expected
    assert all(str(one).startswith(one.settings[0]) for one in found)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_no_preset_has_a_setting_without_effect(preset):
    assert without_effect(RunConfig.build(preset), SEX) == []


def test_a_run_whose_validation_still_rises_says_by_how_much():
    auc, loss = [0.70, 0.75, 0.79, 0.82, 0.84, 0.85], [3.9, 3.7, 3.5, 3.4, 3.3, 3.2]
    found = still_learning(auc, loss)
    assert found == StillLearning(2, pytest.approx(0.04), pytest.approx(0.2))
    assert str(found).startswith("Not finished learning: +0.040 validation AUC, mean of the last 2 epochs")


@pytest.mark.parametrize(
    ("auc", "loss"),
    [
        ([0.909, 0.912, 0.913, 0.900, 0.906, 0.907], [3.77, 3.57, 3.45, 3.47, 3.47, 3.48]),  # a run of clip
        ([0.917, 0.927, 0.930, 0.932, 0.933, 0.933], [3.87, 3.62, 3.51, 3.46, 3.46, 3.47]),  # of robustfair-plus
        ([0.917, 0.935, 0.953, 0.946, 0.942, 0.944], [3.97, 3.62, 3.50, 3.49, 3.49, 3.49]),
        ([0.9], [3.0]),
    ],
)
def test_a_run_that_has_levelled_off_says_nothing(auc, loss):
    assert still_learning(auc, loss) is None


def test_noise_alone_is_seldom_called_learning():
    rng = np.random.default_rng(0)
    called = [still_learning(0.9 + 0.004 * rng.normal(size=9), np.full(9, 3.0)) is not None for _ in range(500)]
    assert np.mean(called) < 0.15
