"""Only the selected parameters are trained, with every preset, and the checkpoint is a complete model."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch

from fairvlm_core import PRESETS, InputError, RunConfig, fit
from fairvlm_core.adapt import finished, prepare
from fairvlm_core.features import embed
from fairvlm_core.models import load_clip

SHORT = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3}


EVERY = (np.arange(40), [str(row) for row in range(40)])  # rows and patients of training pairs; only `base` uses them


def run(table, arrays, preset="clip", **settings):
    return fit(table, RunConfig.build(preset, SHORT | settings), arrays=arrays)


def changed(clip) -> set[str]:
    before = dict(load_clip("tiny").module.named_parameters())
    after = dict(clip.module.named_parameters())
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def head(table, arrays):
    return run(table, arrays, trainable="head")


def test_full_is_a_synonym_of_all():
    assert RunConfig.build("clip", {"trainable": "full"}).method_key == RunConfig().method_key


def test_a_head_trains_projections_and_adapter_only(head):
    adapter = {f"fairvlm_adapter.{side}_{end}" for side in ("image", "text") for end in ("down", "up")}
    assert changed(head.clip) == {"visual.proj", "text_projection", "logit_scale"} | adapter
    assert head.history[-1].train_loss < head.history[0].train_loss


def test_a_new_head_changes_nothing(arrays):
    clip = load_clip("tiny")
    before = embed(clip, arrays, np.arange(8))
    ready = prepare(clip, arrays, RunConfig(trainable="head"), *EVERY)
    after = embed(ready.clip, ready.arrays, np.arange(8))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [0, 16])
def test_the_complete_model_equals_the_head_and_can_be_loaded(width, table, arrays, tmp_path):
    result = run(table, arrays, trainable="head", adapter_width=width)
    image, text = embed(result.clip, arrays)
    np.testing.assert_allclose(image.numpy(), result.image_features, atol=1e-5)
    np.testing.assert_allclose(text.numpy(), result.text_features, atol=1e-5)
    result.clip.save(tmp_path / "model")
    again = load_clip(str(tmp_path / "model"))
    assert (again.adapter is None) == (width == 0)
    torch.testing.assert_close(embed(again, arrays, np.arange(8))[0], image[:8])
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'model'}").eval()
    alike = torch.allclose(
        theirs.encode_image(again.normalise(arrays.pixels[:8]), normalize=True), image[:8], atol=1e-5
    )
    assert alike == (width == 0), "without an adapter the projections are all there is, and open_clip has them"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_trains_a_head(preset, table, arrays, head):
    result = run(table, arrays, preset, trainable="head", **{"fairness.above_chance": False})
    assert len(result.history) == 2
    assert np.isfinite(result.ledger.losses).all()
    if RunConfig.build(preset).fairness.weight >= 0.1:
        assert not np.array_equal(result.ledger.losses, head.ledger.losses), "the fairness term pulls"


def test_a_resumed_head_equals_an_uninterrupted_one(table, arrays, head):
    states = []
    config = RunConfig.build("clip", SHORT | {"trainable": "head"})
    fit(table, config, arrays=arrays, on_epoch=lambda _, state: states.append(copy.deepcopy(state)))
    again = fit(table, config, arrays=arrays, state=states[0])
    assert np.array_equal(again.ledger.losses, head.ledger.losses)


def test_last_k_trains_the_last_blocks_and_the_layers_after_them(table, arrays):
    moved = changed(run(table, arrays, trainable="last-k", last_blocks=1, epochs=1).clip)
    assert any(name.startswith("visual.transformer.resblocks.1.") for name in moved)
    assert any(name.startswith("transformer.resblocks.0.") for name in moved)
    assert {"visual.proj", "text_projection", "logit_scale"} <= moved
    still = ("visual.transformer.resblocks.0.", "visual.conv1", "token_embedding", "positional_embedding")
    assert not [name for name in moved if name.startswith(still)]


def test_more_blocks_than_there_are_is_refused(arrays):
    with pytest.raises(InputError, match=r"last_blocks: 9 is more than the 2 blocks of the visual tower"):
        prepare(load_clip("tiny"), arrays, RunConfig(trainable="last-k", last_blocks=9), *EVERY)


def test_lora_is_merged_into_plain_weights(table, arrays, tmp_path):
    pytest.importorskip("peft")
    result = run(table, arrays, trainable="lora", lora_rank=2)
    moved = changed(result.clip)
    assert set(dict(result.clip.module.named_parameters())) == set(dict(load_clip("tiny").module.named_parameters()))
    assert "visual.transformer.resblocks.0.mlp.c_fc.weight" in moved
    assert "visual.conv1.weight" not in moved
    image, _ = embed(result.clip, arrays)
    np.testing.assert_allclose(image.numpy(), result.image_features, atol=1e-5)
    result.clip.save(tmp_path / "model")
    open_clip.create_model(f"local-dir:{tmp_path / 'model'}")
    before, after = load_clip("tiny"), result.clip
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    change = (after.module.get_parameter(name) - before.module.get_parameter(name)).detach()
    assert int(torch.linalg.matrix_rank(change, atol=1e-5)) <= 2


def test_without_peft_lora_is_one_clear_line(arrays, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'fairvlm\[lora\]'"):
        prepare(load_clip("tiny"), arrays, RunConfig(trainable="lora"), *EVERY)


def test_images_prepared_for_another_model_are_refused(arrays):
    clip = load_clip("tiny")
    small = replace(arrays, pixels=arrays.pixels[:, :, :32, :32])
    with pytest.raises(InputError, match=r"images of \(32, 32\) pixels"):
        prepare(clip, small, RunConfig(), *EVERY)
    other = replace(arrays, preprocess=clip.preprocess | {"resize_mode": "squash"})
    with pytest.raises(InputError, match=r"another model's preprocessing .it differs in resize_mode"):
        prepare(clip, other, RunConfig(), *EVERY)


def test_a_model_without_updates_is_returned_unchanged():
    clip = load_clip("tiny")
    assert finished(clip) is clip
