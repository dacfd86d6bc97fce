"""ViT, SigLIP, CoCa, BiomedCLIP and BLIP-2, small and random, from local folders through training, mining and scoring."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fairvlm_core import InputError, RunConfig, fit, hf_models
from fairvlm_core.features import embed, pair_arrays
from fairvlm_core.models import load_clip

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8}
TIMM = {"timm_model_name": "test_vit3", "timm_model_pretrained": False, "image_size": 160}
FAMILIES = {
    "ViT-B-32": {"embed_dim": 16, "vision_cfg": VIT | {"patch_size": 32}, "text_cfg": TEXT},
    "ViT-B-16": {"embed_dim": 16, "vision_cfg": VIT | {"patch_size": 16}, "text_cfg": TEXT},
    "SigLIP": {
        "embed_dim": 96, "init_logit_bias": -10, "custom_text": True,
        "vision_cfg": TIMM | {"timm_pool": "map", "timm_proj": "none"},
        "text_cfg": TEXT | {"vocab_size": 64, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
                            "hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"}},
    },
    "CoCa": {
        "embed_dim": 16, "custom_text": True,
        "vision_cfg": VIT | {"patch_size": 16, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": TEXT | {"attn_pooler_heads": 2},
    },
    "BiomedCLIP": {
        "embed_dim": 16, "vision_cfg": TIMM | {"timm_pool": "", "timm_proj": "linear"},
        "text_cfg": {"hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "context_length": 24,
                     "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                     "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"},
    },
}  # fmt: skip
NEEDS_HUB = ("SigLIP", "BiomedCLIP")


def words(folder: Path) -> None:
    """A hub tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "disc", "cup", "rim", "no", "is", "of", "and", "with", "large"]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)


def open_clip_folder(name: str, folder: Path) -> Path:
    folder.mkdir()
    config = json.loads(json.dumps(FAMILIES[name]))
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    if name in NEEDS_HUB:
        words(folder)
    if name == "BiomedCLIP":
        from transformers import BertConfig

        BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                   max_position_embeddings=64).save_pretrained(folder / "text")  # fmt: skip
    torch.manual_seed(0)
    module = open_clip.create_model(
        f"local-dir:{folder}", weights_only=True, **hf_models.text_tower(json.loads(json.dumps(config)), folder)
    )
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def blip2_folder(folder: Path) -> Path:
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    words(folder)
    config = Blip2Config(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 32, "patch_size": 16},
        qformer_config={"hidden_size": 16, "encoder_hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "intermediate_size": 32, "vocab_size": 64, "max_position_embeddings": 24, "pad_token_id": 0,
                        "use_qformer_text_input": True},
        num_query_tokens=4, image_text_hidden_size=12, image_token_index=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Blip2ForImageTextRetrieval(config)
    torch.nn.init.normal_(model.query_tokens)  # at zero all queries would be one
    model.save_pretrained(folder)
    values = {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return folder


def make(name: str, folder: Path) -> Path:
    if name in (*NEEDS_HUB, "BLIP-2"):
        pytest.importorskip("transformers")
    return blip2_folder(folder) if name == "BLIP-2" else open_clip_folder(name, folder)


@pytest.fixture(scope="module")
def few(table):
    split = np.asarray(table.frame["split"], str)
    return table.take(
        np.concatenate([np.flatnonzero(split == s)[:n] for s, n in (("train", 32), ("val", 16), ("test", 16))])
    )


@pytest.mark.parametrize("name", [*FAMILIES, "BLIP-2"])
def test_a_family_is_trained_mined_scored_saved_and_loaded(name, few, tmp_path):
    folder = make(name, tmp_path / "model")
    clip = load_clip(str(folder))
    arrays = pair_arrays(few, clip)
    before = embed(clip, arrays)
    for one, again in zip(before, embed(load_clip(str(folder)), arrays), strict=True):
        assert torch.equal(one, again)
    config = RunConfig.build("robustfair", {"model": str(folder), "epochs": 2, "batch_size": 16, "learning_rate": 1e-3})
    result = fit(few, config, arrays=arrays, clip=clip)
    assert np.isfinite(result.ledger.losses).all()
    assert len(result.mining.to_frame()) == 32
    assert result.test.to_dict()["overall"]["auc"] is not None
    assert not torch.equal(embed(result.clip, arrays)[0], before[0]), "it learned something"
    result.clip.save(tmp_path / "saved")
    loaded = load_clip(str(tmp_path / "saved"))
    assert loaded.preprocess == clip.preprocess
    for one, again in zip(embed(result.clip, arrays), embed(loaded, arrays), strict=True):
        assert torch.equal(one, again)
    assert torch.equal(loaded.scale, result.clip.scale)
    assert (loaded.bias is not None) == (name == "SigLIP")


@pytest.mark.parametrize("name", [*FAMILIES, "BLIP-2"])
def test_a_head_trains_on_every_family(name, few, tmp_path):
    clip = load_clip(str(make(name, tmp_path / "model")))
    config = RunConfig.build("clip", {"epochs": 1, "batch_size": 16, "trainable": "head", "adapter_width": 4})
    result = fit(few, config, arrays=pair_arrays(few, clip), clip=clip)
    image, text = embed(result.clip, pair_arrays(few, clip))
    np.testing.assert_allclose(image.numpy(), result.image_features, atol=1e-5)
    np.testing.assert_allclose(text.numpy(), result.text_features, atol=1e-5)
    result.clip.save(tmp_path / "saved")
    assert torch.equal(embed(load_clip(str(tmp_path / "saved")), pair_arrays(few, clip))[0], image)


def test_blip2_equals_transformers_and_is_saved_for_it(tmp_path):
    pytest.importorskip("transformers")
    from transformers import Blip2ForImageTextRetrieval

    clip = load_clip(str(blip2_folder(tmp_path / "m")))
    clip.save(tmp_path / "again")
    theirs = Blip2ForImageTextRetrieval.from_pretrained(tmp_path / "again").eval()
    tokens, _ = clip.tokens(["the disc is large", "no rim"])
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    clip.module.eval()
    with torch.no_grad():
        out = theirs(clip.normalise(pixels), tokens.long(), attention_mask=(tokens != 0).long())
        queries = theirs.qformer(
            query_embeds=theirs.query_tokens.expand(2, -1, -1),
            encoder_hidden_states=theirs.vision_model(clip.normalise(pixels)).last_hidden_state,
        ).last_hidden_state
        image = torch.nn.functional.normalize(theirs.vision_projection(queries.mean(1)), dim=-1)
        torch.testing.assert_close(clip.encode_notes(tokens), out.text_embeds, atol=1e-6, rtol=0)
        torch.testing.assert_close(clip.encode_images(pixels), image, atol=1e-6, rtol=0)


def test_cut_notes_are_counted_by_a_tokenizer_of_the_hub(tmp_path):
    clip = load_clip(str(make("SigLIP", tmp_path / "m")))
    fits = " ".join(["disc"] * 22)
    assert clip.tokens([fits, fits + " disc", "disc"])[1].tolist() == [False, True, False]
    assert clip.token_lengths([fits, fits + " disc", "disc"]).tolist() == [24, 25, 3]


def test_missing_parts_are_one_line(tmp_path, monkeypatch):
    folder = make("BiomedCLIP", tmp_path / "m")
    (folder / "text" / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing: fetch it beforehand"):
        load_clip(str(folder))
    blip2 = blip2_folder(tmp_path / "b")
    (blip2 / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))
    with pytest.raises(InputError, match="they belong to different models"):
        load_clip(str(blip2))
    (blip2 / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"preprocessor_config\.json is missing"):
        load_clip(str(blip2))
    (blip2 / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be loaded") as error:
        load_clip(str(blip2))
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for each in (folder, blip2):
        with pytest.raises(InputError, match=r"needs transformers: install it with pip install 'fairvlm\[hf\]'"):
            load_clip(str(each))


def test_weights_stored_with_another_preprocessing_are_refused(tmp_path):
    folder = tmp_path / "m"
    load_clip("tiny").save(folder)
    weights = folder / "open_clip_model.safetensors"
    assert load_clip(f"tiny@{weights}").image_size
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.2, 0.3]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"another preprocessing than that of 'tiny' \(it differs in mean\)"):
        load_clip(f"tiny@{weights}")


@pytest.mark.slow
def test_the_real_vit_b_32_from_a_file(few, tmp_path):
    clip = load_clip("ViT-B-32:random", seed=1)
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in clip.module.state_dict().items()}, path)
    loaded = load_clip(f"ViT-B-32:openai@{path}", seed=2)
    assert sum(p.numel() for p in loaded.module.parameters()) == 151_277_313
    arrays = pair_arrays(few.take(np.arange(4)), loaded)
    assert tuple(arrays.pixels.shape) == (4, 3, 224, 224)
    for one, again in zip(embed(clip, arrays), embed(loaded, arrays), strict=True):
        assert torch.equal(one, again)
