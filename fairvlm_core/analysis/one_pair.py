"""One pair: its losses beside everyone's, and what lies near it in the run's embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..ledger import PairLossLedger
from .neighbours import BetterFits, Ranked, better_fits, nearest


@dataclass(frozen=True)
class Near:
    """What lies near a pair among the embeddings.

    `notes` are notes that match its image better than its own note does; `images` are images that match its note better.
    """

    images_like: Ranked
    notes_like: Ranked
    notes: BetterFits
    images: BetterFits


def near(embeddings: Mapping[str, np.ndarray], row: int, among: np.ndarray, k: int = 6) -> Near:
    """Neighbours and better matches of one pair.

    Parameters
    ----------
    embeddings : mapping
        Unit-norm ``image`` and ``text``, float arrays of shape (N, D).
    among : bool array of shape (N,)
        Pairs that count as neighbours.
    k : int
        How many of each.
    """
    image, text = embeddings["image"], embeddings["text"]
    return Near(
        images_like=nearest(image, row, k, among),
        notes_like=nearest(text, row, k, among),
        notes=better_fits(image, text, row, k, among),
        images=better_fits(text, image, row, k, among),
    )


@dataclass(frozen=True)
class LossBand:
    """10 %, 50 % and 90 % quantile of all pairs' values by epoch, each of shape (E,); NaN where nothing was seen."""

    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def loss_band(ledger: PairLossLedger, channel: str) -> LossBand:
    """The quantiles of a channel over all pairs of a ledger, epoch by epoch."""
    lines = [
        np.quantile(seen, (0.1, 0.5, 0.9)) if len(seen := line[~np.isnan(line)]) else np.full(3, np.nan)
        for line in ledger.channel(channel)
    ]
    return LossBand(*np.array(lines).reshape(-1, 3).T)


def mean_so_far(losses: np.ndarray) -> np.ndarray:
    """A pair's mean loss after each epoch, shape (E,); epochs without a value (NaN) do not count."""
    seen = ~np.isnan(losses)
    return np.cumsum(np.nan_to_num(losses)) / np.maximum(np.cumsum(seen), 1)
