"""What a run carries along beside the model: an average of its weights, and what it thinks of its pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .mining import Disagreement, disagreement, mismatch_probability

_WORDS = 2.0  # weight of the words of a note beside its features by the model


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


class WeightAverage:
    """An exponential average of the weights that learn: what validation sees and a run keeps."""

    def __init__(self, module: torch.nn.Module, decay: float, values: dict[str, Tensor] | None = None, steps: int = 0):
        live = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        self.decay, self.steps = decay, steps
        self.values = {name: (p if values is None else values[name].to(p)).clone() for name, p in live.items()}

    @torch.no_grad()
    def add(self, module: torch.nn.Module) -> None:
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)  # so that the start counts for nothing
        live = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [live[n].detach() for n in self.values], share)

    def state(self) -> dict[str, Any]:
        return {"values": copied(self.values), "steps": self.steps}

    def swap(self, module: torch.nn.Module) -> dict[str, Tensor]:
        """Put the average into the module; what was there is returned."""
        raw = copied(module.state_dict())
        module.load_state_dict(raw | self.values)
        return raw


class RunningMismatch:
    """How far every note disagrees with its image, by its words and by its features, and what follows from it.

    The model as it came is the first look, every epoch another; a look counts as much as all before it together. Words
    weigh twice: they know as much before the first step as after the last one.
    """

    def __init__(self, words: np.ndarray, seed: int, own: Tensor | None = None, repaired: Tensor | None = None):
        self.words, self.seed, self.own, self.repaired = words, seed, own, repaired
        self.probability = None if own is None else self._judge()

    def add(self, image: Tensor, text: Tensor) -> None:
        weight = None if self.probability is None else 1.0 - self.probability
        by_word, by_feature = (disagreement(image, note, weight, seed=self.seed) for note in (self.words, text))
        own = torch.from_numpy(_WORDS * by_word.own + by_feature.own)
        repaired = torch.from_numpy(_WORDS * by_word.repaired + by_feature.repaired)  # the same re-pairings in both
        if self.own is not None:
            own, repaired = 0.5 * (self.own + own), 0.5 * (self.repaired + repaired)
        self.own, self.repaired = own, repaired
        self.probability = self._judge()

    def state(self) -> dict[str, Any]:
        return {"own": self.own, "repaired": self.repaired}

    def _judge(self) -> np.ndarray:
        return mismatch_probability(Disagreement(self.own.numpy(), self.repaired.numpy())).probability
