"""What a run carries along beside the model: an average of its weights, and what it thinks of its pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .mining import Disagreement, disagreement, mismatch_probability


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
    """Disagreement of every image with the words and with the features of its note, and what follows from it.

    Averaged over the model as it came and the epochs so far.
    """

    def __init__(
        self,
        words: np.ndarray,
        seed: int,
        own: Tensor | float = 0.0,
        repaired: Tensor | float = 0.0,
        looks: int = 0,
    ):
        self.words, self.seed, self.own, self.repaired, self.looks = words, seed, own, repaired, looks
        self.probability = self._judge() if looks else None

    def add(self, image: Tensor, text: Tensor) -> None:
        weight = None if self.probability is None else 1.0 - self.probability
        for note in (self.words, text):
            scores = disagreement(image, note, weight, seed=self.seed)
            self.own = self.own + torch.from_numpy(scores.own)
            self.repaired = self.repaired + torch.from_numpy(scores.repaired)  # the same re-pairings for both
        self.looks += 1
        self.probability = self._judge()

    def state(self) -> dict[str, Any]:
        return {"own": self.own, "repaired": self.repaired, "looks": self.looks}

    def _judge(self) -> np.ndarray:
        mean = Disagreement((self.own / self.looks).numpy(), (self.repaired / self.looks).numpy())
        return mismatch_probability(mean).probability
