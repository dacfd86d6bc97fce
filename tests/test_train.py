"""The loop: what every preset does to a run, and that a run can be repeated and continued."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from fairvlm_core import PRESETS, InputError, RunConfig, fit
from fairvlm_core.analysis.without_effect import without_effect
from fairvlm_core.errors import TrainingError
from fairvlm_core.fairness import delong, es_auc_standard_error
from fairvlm_core.group_weights import filled_batches
from fairvlm_core.model_state import ChosenEpoch
from fairvlm_core.train import _mix, check_table

SHORT = {"epochs": 3, "batch_size": 16}


def run(table, arrays, preset="clip", **options):
    settings = SHORT | options.pop("settings", {})
    return fit(table, RunConfig.build(preset, settings), arrays=arrays, **options)


@pytest.fixture(scope="module")
def plain(table, arrays):
    return run(table, arrays)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.clip.module.parameters(), b.clip.module.parameters(), strict=True))


def test_every_pair_is_in_the_ledger_once_an_epoch(plain, table):
    train = np.asarray(table.frame["split"] == "train")
    assert list(plain.ledger.pair_ids) == list(table.pair_ids[train])
    assert plain.ledger.losses.shape == (3, train.sum())
    assert np.isfinite(plain.ledger.losses).all()
    assert (plain.ledger.losses >= 0).all()


def test_a_short_last_batch_is_filled_with_negatives_that_do_not_count():
    batches = list(filled_batches(order := np.random.default_rng(0).permutation(100), 16, order))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(100))
    assert all(len(rows) + len(fill) == 16 for rows, fill in batches)
    rows, fill = batches[-1]
    assert len(rows) == 4
    assert not set(rows) & set(fill)


def test_pairs_of_the_short_last_batch_lose_as_much_as_others(table, arrays):
    """Before training the last 4 of 100 pairs lose as much as the rest; unfilled, log 4 / log 16 of it."""
    losses = run(table, arrays, settings={"epochs": 1, "learning_rate": 1e-12}).ledger.losses[0]
    order = np.random.default_rng(_mix(0, 0, 2)).permutation(100)
    last, rest = losses[order[96:]].mean(), losses[order[:96]].mean()
    assert 0.65 < last / rest < 1.35


def test_training_learns(plain, table):
    assert plain.history[-1].train_loss < plain.history[0].train_loss
    assert plain.test.overall.auc > 0.7
    assert plain.test.overall.n == (table.frame["split"] == "test").sum()


@pytest.mark.parametrize("select_by", ["auc", "es_auc", "loss"])
def test_the_best_epoch_has_the_highest_validation_metric(select_by, table, arrays):
    result = run(table, arrays, settings={"choose": "best", "select_by": select_by, "epochs": 4})
    values = {
        "auc": [epoch.val["overall"]["auc"] for epoch in result.history],
        "es_auc": [np.mean([a["es_auc"] for a in epoch.val["attributes"].values()]) for epoch in result.history],
        "loss": [-epoch.val_loss for epoch in result.history],
    }[select_by]
    assert result.best_epoch == 1 + int(np.argmax(values))
    assert [epoch.best for epoch in result.history][result.best_epoch - 1]
    kept = result.val.overall.auc
    assert kept == pytest.approx(result.history[result.best_epoch - 1].val["overall"]["auc"], abs=1e-9)


def test_the_latest_epoch_within_one_standard_error_of_the_best_is_chosen():
    module, offered = torch.nn.Linear(1, 1), [0.80, 0.90, 0.89, 0.85, 0.905, 0.88]
    chosen = ChosenEpoch(standard_error=lambda a, b: 0.02 * float(np.abs(a - b)[0]))
    after = []
    for epoch, value in enumerate(offered, start=1):
        torch.nn.init.constant_(module.weight, epoch)
        chosen.offer(epoch, value, np.array([epoch % 2]), module)  # 0.02 between an odd and an even epoch, else 0
        after.append(chosen.epoch)
    assert after == [1, 2, 3, 3, 5, 5]
    chosen.restore(module)
    assert module.weight.item() == 5
    again = ChosenEpoch(standard_error=lambda *_: 1.0)
    again.load(chosen.state())
    assert again.offer(7, 0.7, np.array([0]), module)
    assert not again.offer(8, -0.2, np.array([0]), module)


def test_the_default_keeps_the_latest_epoch_that_delongs_error_allows(plain):
    values = np.array([epoch.val["overall"]["auc"] for epoch in plain.history])
    assert RunConfig.build("clip").choose == "latest"
    assert plain.best_epoch > 1 + int(np.argmax(values))  # otherwise this set could not distinguish the two rules
    rng, label = np.random.default_rng(0), np.arange(200) % 2
    a = label + rng.normal(size=200)
    b = a + rng.normal(size=200)
    error = delong(label, a, b).difference()[1]
    fair = es_auc_standard_error(label, a, b, {"all but one": np.where(np.arange(200) < 100, "x", "y")})
    assert 0.5 * error < fair < 4 * error


def test_predictions_are_those_of_the_held_out_pairs(plain, table):
    predictions = plain.predictions
    held_out = table.frame[table.frame["split"].isin(["val", "test"])]
    assert set(predictions["pair_id"]) == set(held_out["pair_id"])
    assert predictions["score"].between(0, 1).all()
    assert predictions["probe_score"].between(0, 1).all()
    assert plain.image_features.shape == plain.text_features.shape == (len(table), 64)


def test_sinkhorn_is_recorded_for_every_group_every_epoch(plain, table):
    groups = {(a, g) for a in table.attributes for g in np.unique(table.attribute(a)[:100])}
    for epoch in plain.history:
        for quantity in ("loss", "similarity"):
            lines = [line for line in epoch.sinkhorn if line["quantity"] == quantity]
            assert {(line["attribute"], line["group"]) for line in lines} == groups
            assert all(line["value"] > -1e-9 and line["n"] > 0 for line in lines)
            assert all(line["chance"] > 0 for line in lines)
            assert all((line["weighted"], line["weighted_chance"]) == (line["value"], line["chance"]) for line in lines)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_trains(preset, table, arrays, plain):
    result = run(table, arrays, preset)
    assert len(result.history) == 3
    assert 0.5 < result.test.overall.auc <= 1
    if preset != "clip":
        if preset == "dbpm":  # a first epoch flags nothing
            assert np.array_equal(result.ledger.losses[0], plain.ledger.losses[0])
        changed = not np.array_equal(result.ledger.losses[2], plain.ledger.losses[2])
        assert changed or not any(sum(epoch.flagged.values()) for epoch in result.history)


def test_mining_turns_weights_down_after_the_warm_up_only(table, arrays):
    result = run(table, arrays, "dbpm", settings={"mining.faulty_sd": 1.0, "epochs": 4, "mining.warmup": 2})
    flagged = [sum(epoch.flagged.values()) for epoch in result.history]
    assert flagged[:2] == [0, 0]
    assert min(flagged[2:]) > 0
    weights = [epoch.mean_weight for epoch in result.history]
    assert weights[:2] == [1.0, 1.0]
    assert max(weights[2:]) < 1
    by_weight = [[line["weighted"] != line["value"] for line in epoch.sinkhorn] for epoch in result.history]
    assert not any(by_weight[0] + by_weight[1])
    assert all(by_weight[2] + by_weight[3])


def test_settings_named_as_without_effect_change_no_bit(table, arrays, plain):
    settings = {"mining.faulty_sd": 0.5, "fairness.quantity": "similarity", "groups.cap": 2.0, "lora_rank": 4}
    config = RunConfig.build("clip", settings)
    named = [name for one in without_effect(config, table.attributes) for name in one.settings]
    assert sorted(named) == sorted(settings)
    result = run(table, arrays, "clip", settings=settings)
    assert np.array_equal(result.ledger.losses, plain.ledger.losses)
    assert [line.sinkhorn for line in result.history] == [line.sinkhorn for line in plain.history]


def test_a_run_of_one_epoch_has_the_fairness_term(table, arrays):
    losses = [
        run(table, arrays, settings={"epochs": 1, "fairness.weight": weight}).clip.module.state_dict()
        for weight in (0.0, 1.0)
    ]
    assert any(not torch.equal(a, b) for a, b in zip(*(state.values() for state in losses), strict=True))


def test_with_mining_off_a_rule_still_records_what_it_needs(table, arrays):
    result = run(table, arrays, "robustfair-plus", settings={"mining.enabled": False, "epochs": 2})
    assert [epoch.mean_weight for epoch in result.history] == [1.0, 1.0]
    assert np.isfinite(result.ledger.channel("mismatch")).all()
    assert len(result.mining) == 100


def test_planted_mismatches_rank_above_chance(plain, table):
    from sklearn.metrics import average_precision_score

    kind = table.planted().set_index("pair_id").loc[plain.ledger.pair_ids, "kind"] == "mismatch"
    for channel in ("loss", "margin"):
        assert average_precision_score(kind, plain.ledger.history(channel)) > kind.mean() + 0.1


def test_the_same_seed_gives_the_same_run_and_another_seed_another(table, arrays, plain):
    assert same(run(table, arrays), plain)
    assert not same(run(table, arrays, settings={"seed": 1}), plain)


@pytest.mark.parametrize(
    "preset",
    ["robustfair", "robustfair-plus", "robustfair-released", "group-balanced", "group-dro", "inferred-groups", "lemon"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(preset, table, arrays):
    settings = {"mining.faulty_sd": 1.5} if preset == "robustfair" else {}
    states = []
    whole = run(table, arrays, preset, settings=settings, on_epoch=lambda _, state: states.append(copy.deepcopy(state)))
    for state in states[:-1]:
        again = run(table, arrays, preset, settings=settings, state=state)
        assert same(again, whole)
        assert np.array_equal(again.ledger.losses, whole.ledger.losses)
        assert again.best_epoch == whole.best_epoch
        plain_lines = [(e.train_loss, e.val_loss, e.sinkhorn) for e in again.history]
        assert plain_lines == [(e.train_loss, e.val_loss, e.sinkhorn) for e in whole.history]


def test_a_state_of_other_pairs_is_refused(table, arrays):
    states = []
    run(table, arrays, settings={"epochs": 2}, on_epoch=lambda _, state: states.append(copy.deepcopy(state)))
    states[0].ledger["pair_ids"] = states[0].ledger["pair_ids"][::-1].copy()
    with pytest.raises(InputError, match="state: it belongs to other training pairs"):
        run(table, arrays, settings={"epochs": 2}, state=states[0])


def test_es_auc_selects_no_epoch_where_validation_has_none(table, arrays):
    without = replace(table, attributes=())
    with pytest.raises(InputError, match="setting select_by: no attribute has a validation ES-AUC"):
        run(without, arrays, settings={"select_by": "es_auc"})


def test_released_leaves_projections_and_scale_alone(table, arrays):
    from fairvlm_core.models import load_clip

    before = dict(load_clip("tiny").module.named_parameters())
    after = dict(run(table, arrays, "robustfair-released").clip.module.named_parameters())
    for name in ("logit_scale", "text_projection", "visual.proj"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["visual.conv1.weight"], after["visual.conv1.weight"])


def test_fault_01_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_pairs(table, arrays):
    broken = replace(arrays, pixels=arrays.pixels)
    with pytest.raises(TrainingError) as caught:
        fit(table, RunConfig.build("clip", SHORT | {"learning_rate": 1e30, "gradient_clip": 1e30}), arrays=broken)
    line = str(caught.value)
    assert "step" in line
    assert "data_" in line
    assert "\n" not in line


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_fault_05_an_empty_split_is_refused_before_launch(table, split):
    rows = np.flatnonzero(np.asarray(table.frame["split"]) != split)
    with pytest.raises(InputError, match=f"split '{split}' is empty"):
        check_table(table.take(rows), RunConfig())


def test_fault_05_a_split_with_one_label_is_refused_before_launch(table):
    keep = (np.asarray(table.frame["split"]) != "val") | (table.labels == 1)
    with pytest.raises(InputError, match="'val' has label 1 only"):
        check_table(table.take(np.flatnonzero(keep)), RunConfig())


def test_an_unknown_attribute_is_refused(table):
    with pytest.raises(InputError, match="'shoe_size' is not in the data; there are race"):
        check_table(table, RunConfig.build("robustfair", {"fairness.attributes": "shoe_size"}))


def test_a_device_that_is_not_there_is_refused(table, arrays):
    with pytest.raises(InputError, match="device"):
        run(table, arrays, settings={"device": "cuda:99"})


def test_a_batch_larger_than_the_set_is_the_set(table, arrays):
    result = run(table, arrays, settings={"batch_size": 5000, "epochs": 1})
    assert result.ledger.losses.shape == (1, 100)


@pytest.mark.parametrize(("preset", "first"), [("clip-score", 1), ("lemon", 0)])
def test_presets_that_leave_pairs_out_do_so_from_their_first_epoch_on(preset, first, table, arrays):
    result = run(table, arrays, preset, settings={"mining.faulty_sd": 1.0})
    for epoch, line in enumerate(result.history):
        left_out = line.flagged["faulty"] / 100
        assert (left_out > 0) == (epoch >= first)
        assert line.flagged["noisy"] == 0
        assert line.mean_weight == pytest.approx(1 - left_out)
