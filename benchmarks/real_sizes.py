"""Models of real size from local weights, offline: `fairvlm train`, `fairvlm mine` and the scores of the run.

    python benchmarks/real_sizes.py [--models ViT-B-16,SigLIP,CoCa,BiomedCLIP] [--trainable last-k,head] [--pairs 8]

For each model, random weights of the published architecture are written to a file, or to a folder if the tokenizer comes
from the hub (a tokenizer of whole words replaces it). A few synthetic pairs are trained for one epoch by `robustfair`,
mined and scored, in separate processes without network. This shows that the architectures work and what they need;
random weights say nothing about quality. Needs `fairvlm[hf]`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import open_clip
import pandas as pd
import torch
from safetensors.torch import save_file

from fairvlm_core import RunStore, hf_models
from fairvlm_core.synth import SynthConfig, synthesize, write_synth

MODELS = {  # name in open_clip, published weights whose preprocessing is meant
    "ViT-B-32": ("ViT-B-32", "openai"),
    "ViT-B-16": ("ViT-B-16", "openai"),
    "SigLIP": ("ViT-B-16-SigLIP", "webli"),
    "CoCa": ("coca_ViT-B-32", "laion2b_s13b_b90k"),
}
BIOMEDCLIP = {  # open_clip_config.json of microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224
    "embed_dim": 512,
    "vision_cfg": {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
                   "timm_proj": "linear", "image_size": 224},
    "text_cfg": {"hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "hf_proj_type": "mlp",
                 "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                 "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256},
}  # fmt: skip
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def write_weights(name: str, notes: list[str], place: Path) -> tuple[str, int]:
    """Write random weights; returns the value for `--model` and the number of parameters."""
    torch.manual_seed(0)
    if name in ("ViT-B-32", "ViT-B-16", "CoCa"):
        architecture, tag = MODELS[name]
        module = open_clip.create_model(architecture, weights_only=True)
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, place / "weights.safetensors")
        return f"{architecture}:{tag}@{place / 'weights.safetensors'}", count(module)
    if name == "SigLIP":
        architecture, tag = MODELS[name]
        config = open_clip.get_model_config(architecture)
        published = open_clip.get_pretrained_cfg(architecture, tag)
        preprocess = {key: published[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    else:
        from transformers import BertConfig

        config, preprocess = BIOMEDCLIP, {}
        BertConfig().save_pretrained(place / "text")  # BERT's own size is PubMedBERT's
    write_tokenizer(notes, place)
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    text = hf_models.text_tower(json.loads(json.dumps(config)), place)
    module = open_clip.create_model(f"local-dir:{place}", weights_only=True, **text)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, place / "open_clip_model.safetensors")
    return str(place), count(module)


def write_tokenizer(notes: list[str], place: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = sorted({word.lower() for note in notes for word in note.split()})
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *words])}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(place)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def fairvlm(*arguments: str | Path) -> tuple[Any, float, float]:
    """Run a command; returns its JSON, its seconds and its peak memory in GB."""
    tick = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, "-m", "fairvlm_core", *map(str, arguments), "--json"]
        process = subprocess.Popen(command, stdout=out, env=os.environ | OFFLINE)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise SystemExit(f"fairvlm {arguments[0]} ended with {process.returncode}")
    return json.loads(said), time.perf_counter() - tick, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="ViT-B-16,SigLIP,CoCa,BiomedCLIP")
    parser.add_argument("--trainable", default="last-k,head")
    parser.add_argument("--pairs", type=int, default=8, help="of each split")
    options = parser.parse_args()
    n = options.pairs
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            data = SynthConfig(n_train=n, n_val=n, n_test=n, size=224, seed=1, shortcut_rate=0)
            write_synth(synthesize(data, workers=1), place / "data")
            notes = list(pd.read_csv(place / "data" / "manifest.csv")["text"])
            (place / "model").mkdir()
            model, parameters = write_weights(name, notes, place / "model")
            for trainable in options.trainable.split(","):
                more = ["--set", "last_blocks=1"] if trainable == "last-k" else []
                asked = [
                    "--preset",
                    "robustfair",
                    "--epochs",
                    "1",
                    "--batch-size",
                    max(2, n // 2),
                    "--no-map",
                    "--model",
                    model,
                ]
                where = ["--workspace", place / "workspace"]
                trained, seconds, peak = fairvlm(
                    "train", place / "data", *where, *asked, "--set", f"trainable={trainable}", *more
                )
                mined, _, _ = fairvlm("mine", trained["run_id"], *where, "--all")
                run = RunStore(place / "workspace").get(trained["run_id"])
                scored = run.report()["test"]["overall"]
                print(
                    f"{name}, {parameters:,} parameters, {trainable}: {n} pairs a split, 1 epoch, {seconds:.0f} s, peak "
                    f"{peak:.1f} GB; loss {run.metrics()[-1]['train_loss']:.2f}; {mined['n_pairs']} pairs mined; "
                    f"{scored['n']} test pairs scored",
                    flush=True,
                )


if __name__ == "__main__":
    main()
