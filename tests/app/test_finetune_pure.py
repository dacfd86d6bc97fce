"""Decisions of the Fine-tune page and of the live view, without drawing."""

from __future__ import annotations

import dataclasses

import pytest

from fairvlm_core.analysis.training_curves import CURVES, divergence_curves, training_curves
from fairvlm_core.config import PRESETS, RunConfig, setting_names
from fairvlm_core.errors import InputError
from fairvlm_core.jobs.plan import changed_from_preset
from fairvlm_core.jobs.progress import run_progress
from fairvlm_core.runs import Status
from ui import finetune, live


def line(epoch: int, **changes) -> dict:
    """A line of metrics with two attributes of two groups."""
    divergences = (
        ("loss", "race", "A", 1.0), ("loss", "race", "B", 3.0), ("loss", "sex", "F", 4.0), ("similarity", "sex", "F", 9.0)
    )  # fmt: skip
    sinkhorn = [{"quantity": q, "attribute": a, "group": g, "n": 5, "value": v * epoch} for q, a, g, v in divergences]
    attributes = {"race": {"es_auc": 0.6}, "sex": {"es_auc": 0.8}, "one": {"es_auc": None}}
    return {
        "epoch": epoch, "train_loss": 4.0, "val_loss": 3.0, "val": {"overall": {"auc": 0.9}, "attributes": attributes},
        "sinkhorn": sinkhorn, "flagged": {"faulty": 7, "noisy": 1}, "step_seconds": 0.5, "seconds": 12.0,
    } | changes  # fmt: skip


def test_every_setting_has_its_place_in_the_form():
    found = finetune.knobs()
    assert {knob.name for knob in found} == set(setting_names()) - {"preset"}
    assert len({knob.label for knob in found}) > 0.9 * len(found)
    assert all(len(knob.help) > 20 and knob.name in knob.help for knob in found)
    groups = {knob.name: knob.group for knob in found}
    assert [knob.name for knob in found][:3] == ["epochs", "batch_size", "learning_rate"]
    assert groups["mining.faulty_sd"] == "mining"
    assert groups["fairness.blur"] == "fairness"
    assert groups["groups.step_size"] == "groups"
    assert groups["weight_decay"] == "advanced"


@pytest.mark.parametrize("preset", PRESETS)
def test_an_untouched_form_is_the_preset_and_keeps_nothing(preset):
    typed = finetune.shown(RunConfig.build(preset))
    assert finetune.settings_of(preset, typed) == {}
    assert finetune.plan(preset, typed) == [RunConfig.build(preset)]


def test_only_what_differs_is_kept():
    typed = finetune.shown(RunConfig.build("robustfair")) | {
        "epochs": 3, "learning_rate": "1e-3", "mining.faulty_sd": "2.0", "mining.enabled": False,
        "fairness.attributes": ["race"], "fairness.attribute_weights": "race=2",
    }  # fmt: skip
    assert finetune.settings_of("robustfair", typed) == {
        "epochs": 3, "learning_rate": 0.001, "mining.enabled": False, "fairness.attributes": ["race"],
        "fairness.attribute_weights": {"race": 2.0},
    }  # fmt: skip
    config = finetune.plan("robustfair", typed)[0]
    assert config.fairness.attributes == ("race",)
    assert config.fairness.attribute_weights == {"race": 2.0}
    assert finetune.shown(config)["fairness.attribute_weights"] == "race=2"


def test_a_setting_that_the_model_sets_can_be_set_back():
    typed = finetune.shown(finetune.usual("clip", "base")) | {"trainable": "all"}
    (config,) = finetune.plan("clip", typed)
    assert (config.model, config.trainable, config.learning_rate) == ("base", "all", 1e-5)
    assert changed_from_preset(config) == {"trainable": "all"}


def test_a_grid_is_every_weight_with_every_seed():
    typed = finetune.shown(RunConfig.build("robustfair")) | {"seed": "0-2", "fairness.weight": "0, 0.1"}
    made = finetune.plan("robustfair", typed)
    assert {(config.fairness.weight, config.seed) for config in made} == {(w, s) for w in (0.0, 0.1) for s in (0, 1, 2)}
    assert len(made) == 6


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ({"seed": "zero"}, "seeds"),
        ({"seed": "5-1"}, "seeds"),
        ({"seed": "0-100000000000"}, "seeds"),
        ({"seed": ""}, "seeds"),
        ({"seed": "²"}, "seeds"),
        ({"fairness.weight": "much"}, "fairness weight"),
        ({"fairness.weight": "-1"}, "fairness.weight"),
        ({"fairness.weight": "nan"}, "fairness.weight"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"learning_rate": "0"}, "learning_rate"),
        ({"warmup_share": "1"}, "warmup_share"),
        ({"fairness.attribute_weights": "race"}, "attribute weights"),
        ({"mining.weights": "posterior"}, "posterior"),
        ({"seed": "0-49", "fairness.weight": "0,1,2"}, "150 runs"),
    ],
)
def test_bad_input_is_one_line_that_names_the_setting(typed, named):
    with pytest.raises(InputError, match=named) as caught:
        finetune.plan("robustfair", finetune.shown(RunConfig.build("robustfair")) | typed)
    assert "\n" not in str(caught.value)


def test_a_preset_sets_what_makes_the_method_and_nothing_else():
    names = finetune.method_settings()
    assert {"mining.enabled", "fairness.weight", "fairness.quantity"} <= names
    assert not names & {"epochs", "batch_size", "learning_rate", "seed", "model", "fairness.attributes", "preset"}


def test_progress_says_where_a_run_is():
    def said(status: Status) -> tuple[float, str]:
        at = run_progress(status, [])
        return at.share, live.progress_line(status, at)

    running = Status("running", epoch=1, epochs=4, step=30, steps=80)
    assert run_progress(running, [line(1)]).seconds_left == pytest.approx(50 * 0.5 + 3 * 2.0)
    assert run_progress(running, []).seconds_left is None
    assert said(running) == (30 / 80, "epoch 2 of 4 · step 30 of 80")
    assert said(dataclasses.replace(running, step=80))[1].startswith("evaluating")
    assert said(dataclasses.replace(running, step=79))[1].startswith("epoch 4 of 4")
    assert said(Status("running", epochs=4, message="reading the data")) == (0.0, "reading the data")
    assert said(Status("queued")) == (0.0, "waits for its turn")
    assert said(Status("interrupted", epoch=1, epochs=4)) == (0.25, "after epoch 1 of 4")


def test_curves_are_those_of_the_metrics():
    frame = training_curves([line(1), line(2, train_loss=2.0)])
    assert frame["train_loss"].tolist() == [4.0, 2.0]
    assert frame["es_auc"].tolist() == pytest.approx([0.7, 0.7])
    assert frame["faulty"].tolist() == [7, 7]
    assert list(training_curves([]).columns) == list(CURVES)
    distance = divergence_curves([line(1), line(2)]).set_index(["attribute", "epoch"])["value"]
    assert distance.to_dict() == {("race", 1): 2.0, ("sex", 1): 4.0, ("race", 2): 4.0, ("sex", 2): 8.0}
    assert divergence_curves([]).empty
