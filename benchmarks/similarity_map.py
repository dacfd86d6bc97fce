"""Where each way of explaining a similarity points, on images whose disc is known.

    python benchmarks/similarity_map.py --pairs 100

For glaucoma pairs of SynthFundus: the share of the heat inside the disc over the disc's share of the area (1 is chance),
and the share of images where it is above 1.5; beside it the same for a model with random weights, where a faithful way
finds little. For words: the mean absolute score of words about cup, disc and rim over that of filler words.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from fairvlm_core.analysis.similarity_map import blurred, heat_of, pixel_contributions, word_scores
from fairvlm_core.models import Clip, load_clip
from fairvlm_core.synth import SynthConfig, synthesize

DISC_WORDS = re.compile(r"cup|disc|rim\b|notch|c/d|cdr|excav", re.IGNORECASE)
FILLER_WORDS = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "by", "for", "from", "has", "in", "is", "no", "of", "old", "on", "or",
        "patient", "seen", "shows", "the", "to", "using", "was", "well", "with", "year", "yo",
    )
)  # fmt: skip
Method = Callable[[Clip, Tensor, Tensor], np.ndarray]


def disc_mask(finding: pd.Series, drawn: int, side: int) -> np.ndarray:
    """The disc on a grid of side x side, of an image drawn at `drawn` pixels; bool."""
    y, x = (np.mgrid[:side, :side] + 0.5) * drawn / side
    across = (x - finding["disc_x_px"]) / finding["disc_radius_x_px"]
    down = (y - finding["disc_y_px"]) / finding["disc_radius_y_px"]
    return across**2 + down**2 <= 1


def gradient(clip: Clip, pixels: Tensor, note: Tensor) -> Tensor:
    """Gradient of the similarity at the pixels, (3, H, W)."""
    image = pixels.float()[None].requires_grad_(True)
    return torch.autograd.grad((clip.encode_images(image) @ note).sum(), image)[0][0]


def input_gradient(clip: Clip, pixels: Tensor, note: Tensor) -> np.ndarray:
    return gradient(clip, pixels, note).abs().sum(0).numpy()


def gradient_times_input(clip: Clip, pixels: Tensor, note: Tensor) -> np.ndarray:
    return (gradient(clip, pixels, note) * clip.normalise(pixels[None])[0]).sum(0).clamp(min=0).numpy()


def gradient_times_token(clip: Clip, pixels: Tensor, note: Tensor) -> np.ndarray:
    """Gradient times activation of the patch tokens after the last block but one: later ones do not count."""
    kept: list[Tensor] = []
    block = clip.module.visual.transformer.resblocks[-2]
    hook = block.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    image = pixels.float()[None].requires_grad_(True)
    similarity = (clip.encode_images(image) @ note).sum()
    hook.remove()
    score = (kept[0] * torch.autograd.grad(similarity, kept[0])[0])[0, 1:].sum(-1).detach().clamp(min=0)
    side = int(len(score) ** 0.5)
    larger = nn.functional.interpolate(score.view(1, 1, side, side), size=clip.image_size, mode="bilinear")
    return larger[0, 0].numpy()


def occlusion(clip: Clip, pixels: Tensor, note: Tensor, window: int = 8, step: int = 4) -> np.ndarray:
    """What similarity is lost where a window is replaced by its blur."""
    height, width = clip.image_size
    fill = blurred(pixels).round().to(torch.uint8)
    places = [
        (slice(max(0, y), y + window), slice(max(0, x), x + window))
        for y in range(step - window, height, step) for x in range(step - window, width, step)
    ]  # fmt: skip
    hidden = pixels.repeat(len(places), 1, 1, 1)
    for image, (rows, columns) in zip(hidden, places, strict=True):
        image[:, rows, columns] = fill[:, rows, columns]
    with torch.no_grad():
        whole = clip.encode_images(pixels[None])[0] @ note
        lost = (whole - clip.encode_images(hidden) @ note).numpy()
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for value, place in zip(lost, places, strict=True):
        total[place] += value
        count[place] += 1
    return np.maximum(total / count, 0)


METHODS: dict[str, Method] = {
    "integrated gradients from the blur (kept)": lambda c, p, n: heat_of(pixel_contributions(c, p, n)),
    "occlusion by the blur, 8 px": occlusion,
    "gradient x input": gradient_times_input,
    "gradient x patch token": gradient_times_token,
    "input gradient": input_gradient,
}


def randomised(clip: Clip) -> Clip:
    """The model with every weight drawn anew (a check after Adebayo et al., NeurIPS 2018)."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in clip.module.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return clip


def left_out(clip: Clip, pixels: Tensor, note: str) -> list[float]:
    """Similarity lost where a word is left out."""
    words = note.split()
    tokens, _ = clip.tokens([note, *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))])
    with torch.no_grad():
        values = clip.encode_notes(tokens) @ clip.encode_images(pixels[None])[0]
    return (values[0] - values[1:]).tolist()


def replaced(clip: Clip, pixels: Tensor, note: str) -> list[float]:
    return [word.score for word in word_scores(clip, pixels, note)]


def token_gradient(clip: Clip, pixels: Tensor, note: str) -> list[float]:
    """Gradient times embedding, summed over the tokens of each word."""
    tokens, _ = clip.tokens([note])
    kept: list[Tensor] = []
    hook = clip.module.token_embedding.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    similarity = (clip.encode_notes(tokens) @ clip.encode_images(pixels[None])[0].detach()).sum()
    hook.remove()
    score = (kept[0] * torch.autograd.grad(similarity, kept[0])[0])[0].sum(-1).detach().numpy()
    words = note.split()
    ends = [int(n) - 1 for n in clip.token_lengths([" ".join(words[: i + 1]) for i in range(len(words))])]
    return [float(score[start:end].sum()) for start, end in zip([1, *ends[:-1]], ends, strict=True)]


WORD_METHODS = {
    "a neutral word in its place (kept)": replaced,
    "left out": left_out,
    "gradient x token embedding": token_gradient,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100, help="pairs to draw; about half have glaucoma")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = synthesize(
        SynthConfig(n_train=0, n_val=0, n_test=options.pairs, seed=options.seed, mismatch_rate=0, shortcut_rate=0)
    )
    rows = np.flatnonzero(data.frame["label"].to_numpy() == 1)
    clip, random = load_clip(options.model), randomised(load_clip(options.model))
    pixels = {row: torch.from_numpy(clip.pixels(Image.fromarray(data.images[row]).convert("RGB"))) for row in rows}
    masks = {row: disc_mask(data.findings.iloc[row], data.config.size, clip.image_size[0]) for row in rows}
    notes = data.frame["text"].tolist()

    def ratios(model: Clip, method: Method) -> np.ndarray:
        found = []
        for row in rows:
            with torch.no_grad():
                note = model.encode_notes(model.tokens([notes[row]])[0])[0]
            heat = method(model, pixels[row], note)
            found.append(heat[masks[row]].sum() / max(heat.sum(), 1e-12) / masks[row].mean())
        return np.array(found)

    area = np.mean([mask.mean() for mask in masks.values()])
    print(f"model {options.model}, {len(rows)} glaucoma pairs, disc {100 * area:.1f} % of the area")
    print("| heat | in the disc, times chance | above 1.5 times | with random weights |\n|---|---|---|---|")
    for name, method in METHODS.items():
        real, chance = ratios(clip, method), ratios(random, method)
        print(f"| {name} | {real.mean():.1f} | {100 * (real > 1.5).mean():.0f} % | {chance.mean():.1f} |")

    print("| words | about disc, cup, rim over fillers |\n|---|---|")
    for name, words_of in WORD_METHODS.items():
        about, filler = [], []
        for row in rows:
            for word, score in zip(notes[row].split(), words_of(clip, pixels[row], notes[row]), strict=True):
                plain = word.lower().strip(".,;:()")
                (about if DISC_WORDS.search(plain) else filler if plain in FILLER_WORDS else []).append(abs(score))
        print(f"| {name} | {np.mean(about) / np.mean(filler):.2f} (n = {len(about)}, {len(filler)}) |")


if __name__ == "__main__":
    main()
