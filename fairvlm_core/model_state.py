"""Copies of a model's weights: an exponential average, and those of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy on the CPU that later steps do not change."""
    return {name: value.detach().cpu().clone() for name, value in state.items()}


class WeightAverage:
    """An exponential average of the weights that learn, which validation uses and a run keeps.

    Parameters
    ----------
    module : nn.Module
    span : float
        Steps that the average covers, about; 0: no average, the weights themselves are used.
    """

    def __init__(self, module: nn.Module, span: float):
        self._decay, self._steps = 1 - 1 / max(1.0, span), 0
        learning = module.named_parameters() if span else ()
        self._values = {name: p.detach().clone() for name, p in learning if p.requires_grad}

    @torch.no_grad()
    def add(self, module: nn.Module) -> None:
        """Take in the weights after a step."""
        if not self._values:
            return
        self._steps += 1
        share = (1 - self._decay) / (1 - self._decay**self._steps)  # removes the influence of the starting weights
        live = dict(module.named_parameters())
        torch._foreach_lerp_(list(self._values.values()), [live[n].detach() for n in self._values], share)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Inside the block the module has the average."""
        if not self._values:
            yield
            return
        own = copied(module.state_dict())
        module.load_state_dict(own | self._values)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        return {"values": copied(self._values), "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        self._steps = state.get("steps", 0)
        self._values = {name: state["values"][name].to(value).clone() for name, value in self._values.items()}


class BestEpoch:
    """The epoch with the highest validation value so far, and its weights. An equal value keeps the earlier epoch."""

    def __init__(self):
        self.epoch, self._value, self._model = 0, -math.inf, {}

    def offer(self, epoch: int, value: float, module: nn.Module) -> bool:
        """Whether this epoch is the best so far."""
        better = value > self._value
        if better:
            self.epoch, self._value, self._model = epoch, value, copied(module.state_dict())
        return better

    def restore(self, module: nn.Module) -> None:
        """Give the module the best epoch's weights."""
        module.load_state_dict(self._model)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self._value, "model": self._model}

    def load(self, state: dict[str, Any]) -> None:
        self.epoch, self._value, self._model = state["epoch"], state["value"], state["model"]
