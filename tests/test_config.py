from __future__ import annotations

import pytest

from fairvlm_core import PRESETS, InputError, RunConfig
from fairvlm_core.config import PRESET_SUMMARIES, setting_names


def test_all_presets_are_values_of_one_configuration():
    assert list(PRESETS) == [
        "clip", "fairclip", "a-fairclip", "fairclip-plus", "dbpm", "robustfair", "robustfair-plus", "robustfair-released",
        "group-weights", "group-balanced", "group-dro", "inferred-groups", "clip-score", "lemon",
    ]  # fmt: skip
    assert set(PRESET_SUMMARIES) == set(PRESETS)
    built = {name: RunConfig.build(name) for name in PRESETS}
    assert len({config.method_key for config in built.values()}) == len(PRESETS)
    shared = {(c.model, c.epochs, c.batch_size, c.learning_rate, c.seed) for c in built.values()}
    assert len(shared) == 1, "presets differ by the method alone"


def test_settings_lie_over_a_preset_and_survive_a_round_trip():
    config = RunConfig.build(
        "robustfair", {"mining.faulty_sd": "2.5", "fairness.attributes": "race,gender", "epochs": "3"}
    )
    assert (config.mining.faulty_sd, config.fairness.attributes, config.epochs) == (2.5, ("race", "gender"), 3)
    assert config.mining.enabled, "what the preset sets stays"
    assert RunConfig.read(config.to_dict()) == config


def test_runs_that_differ_by_the_seed_alone_share_their_method_key():
    assert RunConfig.build("clip", {"seed": 1}).method_key == RunConfig.build("clip", {"seed": 2}).method_key
    assert RunConfig.build("clip", {"epochs": 1}).method_key != RunConfig.build("clip", {"epochs": 2}).method_key


@pytest.mark.parametrize(
    ("preset", "settings", "words"),
    [
        ("clop", {}, ["clop", "robustfair-plus"]),
        ("clip", {"epochs": 0}, ["epochs", "0"]),
        ("clip", {"epochs": "many"}, ["epochs", "many"]),
        ("clip", {"mining.fualty_sd": 2}, ["mining.fualty_sd", "mining.faulty_sd"]),
        ("clip", {"epochs.x": 1}, ["epochs"]),
        ("clip", {"learning_rate": "nan"}, ["learning_rate"]),
        ("clip", {"learning_rate": "inf"}, ["learning_rate"]),
        ("clip", {"mining.weights": "posterior"}, ["mixture"]),
        ("clip", {"seed": -1}, ["seed"]),
        ("group-weights", {"groups.cap": 0.5}, ["groups.cap"]),
        ("group-balanced", {"fairness.weight": 1}, ["groups.method=balanced", "fairness.weight=0"]),
    ],
)
def test_bad_settings_are_one_clear_line(preset, settings, words):
    with pytest.raises(InputError) as caught:
        RunConfig.build(preset, settings)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words)


def test_fault_25_a_newer_schema_is_refused_politely():
    with pytest.raises(InputError, match="update fairvlm"):
        RunConfig.read({"schema_version": 2, "preset": "clip"})


def test_every_setting_is_explained():
    plain = {"preset", "epochs", "batch_size", "seed", "learning_rate", "weight_decay"}
    assert {name for name, text in setting_names().items() if not text} <= plain
