"""Make the built-in model: vocabulary, open_clip configuration and weights in assets/tiny.

    python assets/build_tiny.py

A small CLIP learns from clean SynthFundus pairs of the *other* site (another camera, another way of writing notes), so
that fine-tuning on the default site has something left to learn, as with real CLIP weights. Besides the contrastive loss
both towers learn to tell the true findings (a linear head each, thrown away afterwards), which saves hours on a laptop.
The vocabulary is byte-pair encoding over the words of both sites, as CLIP's own covers any English text; bytes stand in
for everything else.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import open_clip
import regex
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from fairvlm_core.evaluate import zero_shot
from fairvlm_core.features import PairArrays, embed
from fairvlm_core.models import Clip, load_clip
from fairvlm_core.objective import pair_losses
from fairvlm_core.synth import SynthConfig, SynthData, synthesize
from fairvlm_core.synth.markers import MARKERS

VOCABULARY = "vocabulary.txt.gz"
WORD = regex.compile(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
FINDINGS = 8
PROMPTS = ("A photo of non-glaucoma", "A photo of glaucoma")


def learn_merges(notes: list[str], size: int) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al., arXiv 1508.07909) over the words of `notes`, most frequent pair first."""
    words = Counter(word for note in notes for word in WORD.findall(note.lower()))
    byte_names = open_clip.tokenizer.bytes_to_unicode()
    pieces = {}
    for word, count in words.items():
        letters = [byte_names[b] for b in word.encode()]
        pieces[(*letters[:-1], letters[-1] + "</w>")] = count
    merges = []
    while len(merges) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in pieces.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs or max(pairs.values()) < 2:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pieces = {_merge(word, best): count for word, count in pieces.items()}
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def arrays_of(data: SynthData, clip: Clip) -> PairArrays:
    pixels = np.stack([clip.pixels(Image.fromarray(image).convert("RGB")) for image in data.images])
    tokens, cut = clip.tokens(list(data.frame["text"]))
    return PairArrays(torch.from_numpy(pixels), tokens, cut)


def targets_of(data: SynthData) -> torch.Tensor:
    """Standardised findings and marks, float32 (N, 16): what an image shows and its note tells."""
    found, marker = data.findings, data.planted["marker"].to_numpy(str)
    columns = [
        data.frame["label"],
        found["cdr_vertical"],
        found["notch_depth"],
        found["rnfl_defect_depth"],
        found["rnfl_defect_depth"] * np.sign(np.sin(np.deg2rad(found["rnfl_defect_angle"].fillna(0)))),
        found["haemorrhage"],
        found["damage"],
        found["eye"] == "OD",
        *(marker == name for name in MARKERS),
    ]
    values = np.nan_to_num(np.stack([np.asarray(c, float) for c in columns], 1))
    return torch.tensor((values - values.mean(0)) / values.std(0), dtype=torch.float32)


def auc(clip: Clip, arrays: PairArrays, label: np.ndarray) -> float:
    image, _ = embed(clip, arrays)
    return roc_auc_score(label, zero_shot(clip, image, PROMPTS))


def clean(site: str, n: int, seed: int, stamped: float = 0.0) -> SynthConfig:
    return SynthConfig(
        n_train=n,
        n_val=0,
        n_test=0,
        seed=seed,
        site=site,
        mismatch_rate=0.0,
        shortcut_rate=stamped,
        proportions="balanced",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--vision-layers", type=int, default=2)
    parser.add_argument("--text-layers", type=int, default=1)
    parser.add_argument("--findings", type=float, default=1.0, help="weight of the heads that tell the findings")
    parser.add_argument("--stamped", type=float, default=0.1, help="share of pairs with a scanner mark")
    parser.add_argument("--marks", type=float, default=0.5, help="weight of the heads that tell the marks")
    parser.add_argument("--context", type=int, default=96)
    parser.add_argument("--merges", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "tiny")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    print("making the pairs ...", flush=True)
    started = time.time()
    other = synthesize(clean("other", options.pairs, 101, stamped=options.stamped))
    here = synthesize(clean("default", 1000, 102))
    print(f"  {len(other.frame) + len(here.frame)} pairs in {time.time() - started:.0f} s")

    notes = [*other.frame["text"][:8000], *here.frame["text"]]
    merges = learn_merges(notes, options.merges)
    with gzip.GzipFile(options.out / VOCABULARY, "wb", mtime=0) as file:
        file.write(("#version: fairvlm tiny\n" + "\n".join(" ".join(m) for m in merges)).encode())
    config = {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {
                "image_size": options.image_size,
                "patch_size": options.patch,
                "width": options.width,
                "head_width": 32,
                "layers": options.vision_layers,
            },
            "text_cfg": {
                "context_length": options.context,
                "vocab_size": 512 + len(merges) + 2,
                "width": 64,
                "heads": 2,
                "layers": options.text_layers,
            },
        },
        "preprocess_cfg": {"mean": [0.45, 0.45, 0.45], "std": [0.22, 0.22, 0.22], "interpolation": "bicubic"},
    }
    (options.out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")

    torch.manual_seed(0)
    start_model = open_clip.create_model(f"local-dir:{options.out}", load_weights=False)
    save_file(start_model.state_dict(), options.out / "open_clip_model.safetensors")
    clip = load_clip(str(options.out))
    train, test = arrays_of(other, clip), arrays_of(here, clip)
    label = here.frame["label"].to_numpy()
    lengths = (test.tokens != 0).sum(1).float()
    print(f"  vocabulary {512 + len(merges) + 2}, notes of {lengths.mean():.0f} tokens, {test.cut.mean():.1%} cut")
    print(f"  parameters {sum(p.numel() for p in clip.module.parameters()):,}")

    targets = targets_of(other)
    heads = torch.nn.ModuleList([torch.nn.Linear(config["model_cfg"]["embed_dim"], targets.shape[1]) for _ in range(2)])
    parameters = [*clip.module.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    steps = options.epochs * (len(train) // options.batch_size)
    step = 0
    for epoch in range(options.epochs):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(train)))
        losses, started = [], time.time()
        for start in range(0, len(train) - options.batch_size + 1, options.batch_size):
            rows = order[start : start + options.batch_size]
            warmup = min(1.0, (step + 1) / 200)
            rate = options.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            images, texts = clip.encode_images(train.pixels[rows]), clip.encode_notes(train.tokens[rows])
            loss = pair_losses(images, texts, clip.scale).loss.mean()
            towers = zip(heads, (images, texts), strict=True)
            wrong = [((head(8 * f) - targets[rows]) ** 2).mean(0) for head, f in towers]
            told, marks = [w[:FINDINGS].mean() for w in wrong], [w[FINDINGS:].mean() for w in wrong]
            optimizer.zero_grad(set_to_none=True)
            (loss + options.findings * (told[0] + told[1]) + options.marks * (marks[0] + marks[1])).backward()
            torch.nn.utils.clip_grad_norm_(clip.module.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                clip.module.logit_scale.clamp_(0, math.log(100))
            losses.append((loss.item(), told[0].item(), told[1].item()))
            step += 1
        print(
            f"epoch {epoch + 1:2d}  loss {np.mean(losses, 0).round(3)} (chance {math.log(options.batch_size):.3f})  "
            f"zero-shot AUC on the default site {auc(clip, test, label):.3f}  {time.time() - started:.0f} s",
            flush=True,
        )
    clip.save(options.out)
    size = sum(p.stat().st_size for p in options.out.iterdir()) / 2**20
    print(f"zero-shot AUC on the default site {auc(clip, test, label):.3f}; assets/tiny {size:.1f} MB")


if __name__ == "__main__":
    main()
