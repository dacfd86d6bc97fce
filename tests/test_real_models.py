"""Local weights: checked against their hash, and read with the preprocessing that was published with them."""

from __future__ import annotations

import hashlib

import open_clip
import pytest
import torch

from fairvlm_core import InputError
from fairvlm_core.models import load_clip


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"state_dict": load_clip("tiny").module.state_dict()}, path)
    return path


def test_a_file_with_the_expected_hash_loads_and_another_does_not(weights):
    right = hashlib.sha256(weights.read_bytes()).hexdigest()
    loaded = load_clip(f"tiny@{weights}#sha256={right}")
    assert torch.equal(loaded.module.visual.proj, load_clip("tiny").module.visual.proj)
    with pytest.raises(InputError, match=r"'w\.pt' have SHA-256 .* not 000000000000… as expected"):
        load_clip(f"tiny@{weights}#sha256={'0' * 64}")


@pytest.mark.slow
def test_random_weights_are_saved_and_loaded(tmp_path):
    clip = load_clip("ViT-S-32-alt:random", seed=1)
    path = tmp_path / "w.pt"
    torch.save(clip.module.state_dict(), path)
    loaded = load_clip(f"ViT-S-32-alt@{path}", seed=2)
    assert torch.equal(loaded.module.visual.proj, clip.module.visual.proj)
    assert loaded.preprocess == clip.preprocess


def test_siglip_is_published_with_another_preprocessing_than_clip():
    from fairvlm_core.models import _preprocessing

    tags = open_clip.list_pretrained_tags_by_model("ViT-B-16-SigLIP")
    assert tuple(_preprocessing("ViT-B-16-SigLIP", tags)["mean"]) == (0.5, 0.5, 0.5)


def test_weights_of_unknown_preprocessing_must_be_named():
    from fairvlm_core.models import _preprocessing

    name = next(
        base
        for base in open_clip.list_models()
        if len(
            {
                str(open_clip.get_pretrained_cfg(base, tag).get("mean"))
                for tag in open_clip.list_pretrained_tags_by_model(base)
            }
        )
        > 1
    )
    tags = open_clip.list_pretrained_tags_by_model(name)
    with pytest.raises(InputError, match="differ in their preprocessing"):
        _preprocessing(name, tags)
    assert _preprocessing(name, tags[:1])["mean"] is not None
