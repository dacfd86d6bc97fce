"""Images and notes of a table as model input: decoded, resized and tokenised once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .models import Clip
from .pairs import PairTable


@dataclass(frozen=True)
class PairArrays:
    """Model input of N pairs, aligned to the rows of their table.

    Attributes
    ----------
    pixels : uint8 Tensor of shape (N, 3, H, W)
        After the model's own resizing and cropping, before normalisation; may be a memory map (`cache.cached_arrays`).
    tokens : int32 Tensor of shape (N, context_length)
    cut : bool ndarray of shape (N,)
        Notes longer than the model's context.
    preprocess : dict or None
        The preprocessing of the pixels; None if unknown.
    """

    pixels: Tensor
    tokens: Tensor
    cut: np.ndarray
    preprocess: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def check(self, clip: Clip) -> None:
        """Raise an `InputError` if images or notes were prepared for another model."""
        wanted, given = tuple(clip.image_size), tuple(self.pixels.shape[2:])
        if wanted != given:
            raise InputError(f"images of {given} pixels for a model that takes {wanted}: prepare them for this model")
        if self.tokens.shape[1] != clip.context_length:
            raise InputError(
                f"notes of {self.tokens.shape[1]} tokens for a model that takes {clip.context_length}: prepare them for "
                "this model"
            )
        made = self.preprocess or {}
        differs = [key for key in made if _plain(made[key]) != _plain(clip.preprocess.get(key))]
        if differs:
            raise InputError(
                f"images were prepared by another model's preprocessing (it differs in {', '.join(differs)}): prepare "
                "them for this model"
            )


@dataclass(frozen=True)
class PairEmbeddings(PairArrays):
    """Outputs of a model's towers for N pairs, in place of images and tokens.

    Attributes
    ----------
    pixels, tokens : float32 Tensor of shape (N, width of the tower)
        Before projection and normalisation; or of shape (N, D) after a projection that is not trained.
    before : float32 Tensor of shape (N, width of the image tower), optional
        Outputs of the image tower where `pixels` are projected.
    """

    before: Tensor | None = None


def pair_arrays(
    table: PairTable,
    clip: Clip,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PairArrays:
    """Decode, resize and tokenise a table for a model; ``progress(done, total)`` is called after each image."""
    pixels = np.empty((len(table), 3, *clip.image_size), np.uint8)
    decode_into(pixels, table, clip, range(len(table)), progress=progress)
    tokens, cut = clip.tokens(list(table.frame["text"]))
    return PairArrays(torch.from_numpy(pixels), tokens, cut, clip.preprocess)


def decode_into(
    pixels: np.ndarray,
    table: PairTable,
    clip: Clip,
    rows: Sequence[int],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Decode and resize images of a table for a model into uint8 `pixels` (len(rows), 3, H, W), in several threads.

    Large JPEGs are decoded at no less than twice the model's size: the resizing still averages over pixels.
    """
    side = 2 * max(clip.image_size)

    def load(place: int) -> None:
        pixels[place] = clip.pixels(table.image(rows[place], side))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(load, range(len(rows))), 1):
            if progress is not None:
                progress(done, len(rows))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


@torch.inference_mode()
def embed(
    clip: Clip, arrays: PairArrays, rows: np.ndarray | None = None, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Unit-norm image and text features, float32 (N, D) each, of the given rows (all by default), on the CPU."""
    rows = np.arange(len(arrays)) if rows is None else rows
    was_training = clip.module.training
    clip.module.eval()
    images, notes = [], []
    for start in range(0, len(rows), batch_size):
        part = torch.from_numpy(rows[start : start + batch_size])
        images.append(clip.encode_images(arrays.pixels[part]).float().cpu())
        notes.append(clip.encode_notes(arrays.tokens[part]).float().cpu())
    clip.module.train(was_training)
    return torch.cat(images), torch.cat(notes)
