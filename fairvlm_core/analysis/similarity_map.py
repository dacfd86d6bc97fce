"""Which regions of an image, and which words of its note, determine their similarity.

Regions: integrated gradients (Sundararajan, Taly and Yan, ICML 2017) from a blurred copy of the image as baseline
(Sturmfels, Lundberg and Lee, Distill 2020). The contributions of all pixels sum to the similarity of the image minus
that of the blurred image. Only gradients at the input are needed, so the method works for any image tower.

Words: the change of similarity when a word is replaced by `NEUTRAL`. Removing the word would shift all later words, to
which a text tower may react more than to the word itself.

A map shows what the model used, not whether that was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..models import Clip

STEPS = 16
BLUR = 1 / 8  # standard deviation of the baseline's blur, as a share of the shorter side
SMOOTH = 3 / 64  # standard deviation of the heat's smoothing, as the same share
NEUTRAL = "and"
_BATCH = 16


@dataclass(frozen=True)
class WordScore:
    """One word of a note.

    Attributes
    ----------
    word : str
        As in the note, between white space.
    score : float
        Similarity of the note minus that with a neutral word instead: positive where the word makes the note fit the image.
    seen : bool
        False for a word beyond the model's context; its score is 0.
    """

    word: str
    score: float
    seen: bool = True


@dataclass(frozen=True)
class SimilarityMap:
    """What determines the similarity of one image and one note.

    Attributes
    ----------
    similarity : float
        Cosine of the two features, −1 to 1.
    heat : float32 ndarray of shape (H, W)
        On the grid of the model's input; 0 (no or negative contribution) to 1 (the image's strongest region).
    words : tuple of WordScore
        In the order of the note.
    """

    similarity: float
    heat: np.ndarray
    words: tuple[WordScore, ...]

    def top_words(self, n: int = 8) -> tuple[WordScore, ...]:
        """The n words with the largest absolute score, largest first."""
        seen = [word for word in self.words if word.seen and word.score]
        return tuple(sorted(seen, key=lambda word: -abs(word.score))[:n])


def similarity_map(clip: Clip, pixels: Tensor, note: str) -> SimilarityMap:
    """Explain the similarity of one image and one note.

    Parameters
    ----------
    pixels : uint8 Tensor of shape (3, H, W)
        From `Clip.pixels`.
    note : str

    Raises
    ------
    InputError
        Pixels have another type or shape than the model takes.
    """
    _check(clip, pixels)
    was_training = clip.module.training
    clip.module.eval()
    try:
        with torch.no_grad():
            tokens, _ = clip.tokens([note])
            note_feature = clip.encode_notes(tokens)[0]
            similarity = float(clip.encode_images(pixels[None])[0] @ note_feature)
        contributions = pixel_contributions(clip, pixels, note_feature)
        words = word_scores(clip, pixels, note)
    finally:
        clip.module.train(was_training)
    return SimilarityMap(similarity, heat_of(contributions), words)


def pixel_contributions(clip: Clip, pixels: Tensor, note_feature: Tensor) -> np.ndarray:
    """Signed contribution of each pixel to the similarity, float32 (H, W): integrated gradients from the blurred image.

    `pixels` uint8 (3, H, W), `note_feature` unit norm (D,). They sum to the similarity of the image minus that of the
    blurred image, up to the error of the midpoint rule with `STEPS` points.
    """
    image = pixels.float()
    baseline = blurred(pixels)
    weights = (torch.arange(STEPS, dtype=torch.float32) + 0.5) / STEPS
    total = torch.zeros_like(image)
    for part in weights.split(_BATCH):
        path = (baseline + part.view(-1, 1, 1, 1) * (image - baseline)).requires_grad_(True)
        with torch.enable_grad():
            similarity = (clip.encode_images(path) @ note_feature.to(clip.device)).sum()
        total += torch.autograd.grad(similarity, path)[0].sum(0).cpu()
    return ((image - baseline) * total / STEPS).sum(0).numpy()


def blurred(pixels: Tensor) -> Tensor:
    """The baseline: a blurred image (3, H, W), float32, 0 to 255."""
    sigma = BLUR * min(pixels.shape[1:])
    return torch.from_numpy(gaussian_filter(pixels.float().numpy(), (0, sigma, sigma), mode="nearest"))


def heat_of(contributions: np.ndarray) -> np.ndarray:
    """The positive part of smoothed contributions (H, W), scaled to a maximum of 1; all 0 if nothing contributes."""
    smooth = np.maximum(gaussian_filter(contributions, SMOOTH * min(contributions.shape), mode="nearest"), 0)
    largest = float(smooth.max())
    return (smooth / largest if largest > 0 else smooth).astype(np.float32)


def word_scores(clip: Clip, pixels: Tensor, note: str) -> tuple[WordScore, ...]:
    """The words of a note with their contribution to the similarity with an image (uint8, (3, H, W))."""
    words = note.split()
    counts = _token_counts(clip, words)
    if not counts:
        return tuple(WordScore(word, 0.0, False) for word in words)
    seen = words[: len(counts)]
    notes = [" ".join(seen)]
    for i, count in enumerate(counts):
        notes.append(" ".join([*seen[:i], *[NEUTRAL] * count, *seen[i + 1 :]]))
    with torch.no_grad():
        image_feature = clip.encode_images(pixels[None])[0]
        tokens, _ = clip.tokens(notes)
        values = torch.cat([clip.encode_notes(part) @ image_feature for part in tokens.split(_BATCH)]).tolist()
    found = [WordScore(word, values[0] - value) for word, value in zip(seen, values[1:], strict=True)]
    return (*found, *(WordScore(word, 0.0, False) for word in words[len(seen) :]))


def _token_counts(clip: Clip, words: list[str]) -> list[int]:
    """Number of tokens of each word, up to the first word that does not fit completely into the model's context."""
    starts = words[: clip.context_length]
    lengths = clip.token_lengths(["", *(" ".join(starts[: i + 1]) for i in range(len(starts)))])
    fitting = lengths[lengths <= clip.context_length]
    return np.maximum(np.diff(fitting), 1).tolist()


def heat_on_image(
    heat: np.ndarray, size: tuple[int, int], resize_mode: Literal["shortest", "longest", "squash"]
) -> np.ndarray:
    """Heat (h, w) of a model's input, resized to the image it was made from.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image, in pixels.
    resize_mode : str
        How preprocessing makes the model's input: ``shortest`` crops the longer side, ``longest`` pads the shorter side,
        ``squash`` stretches.

    Returns
    -------
    float32 ndarray of shape `size`
        0 outside of the model's input.
    """
    height, width = size
    if resize_mode == "squash":
        return _resized(heat, height, width)
    # The input covers a centred frame with the proportions of the heat, inside the image or around it.
    scales = (height / heat.shape[0], width / heat.shape[1])
    scale = min(scales) if resize_mode == "shortest" else max(scales)
    frame = _resized(heat, max(1, round(heat.shape[0] * scale)), max(1, round(heat.shape[1] * scale)))
    out = np.zeros(size, np.float32)
    top, left = (height - frame.shape[0]) // 2, (width - frame.shape[1]) // 2
    rows = slice(max(top, 0), min(top + frame.shape[0], height))
    columns = slice(max(left, 0), min(left + frame.shape[1], width))
    out[rows, columns] = frame[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return out


def _resized(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    larger = F.interpolate(
        torch.from_numpy(heat)[None, None], size=(height, width), mode="bilinear", align_corners=False
    )  # fmt: skip
    return larger[0, 0].numpy()


def _check(clip: Clip, pixels: Tensor) -> None:
    wanted = (3, *clip.image_size)
    if pixels.dtype != torch.uint8 or tuple(pixels.shape) != wanted:
        raise InputError(f"pixels: {pixels.dtype} {tuple(pixels.shape)}; must be uint8 {wanted}, as from Clip.pixels")
