"""Copies of a model's weights: an exponential average, and those of the chosen epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

T = TypeVar("T")


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

    @contextmanager
    def better(self, module: nn.Module, validate: Callable[[], T], loss: Callable[[T], float]) -> Iterator[T]:
        """Validate; inside the block the module has its own weights, or the average where its validation loss is lower.

        The average is behind where training still gains much with each step, and ahead where noise makes the steps vary.
        """
        own = validate()
        if self._values:
            with self.applied(module):
                averaged = validate()
                if loss(averaged) < loss(own):
                    yield averaged
                    return
        yield own

    def state(self) -> dict[str, Any]:
        return {"values": copied(self._values), "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        self._steps = state.get("steps", 0)
        self._values = {name: state["values"][name].to(value).clone() for name, value in self._values.items()}


class ChosenEpoch:
    """The epoch that validation chooses so far, and its weights.

    The best epoch has the highest validation metric; an equal value keeps the earlier one. With a `standard_error` the
    latest epoch is chosen whose metric is at most one standard error below the best: a few hundred validation pairs do not
    distinguish such epochs, and on average later ones are better.

    Parameters
    ----------
    standard_error : callable (evidence, evidence) -> float, optional
        Standard error of the difference in the metric between two epochs on the same validation pairs.
    """

    def __init__(self, standard_error: Callable[[np.ndarray, np.ndarray], float] | None = None):
        self._standard_error = standard_error
        self.epoch, self._value = 0, -math.inf
        self._evidence: np.ndarray | None = None
        self._model: dict[str, Tensor] = {}

    def offer(self, epoch: int, value: float, evidence: np.ndarray, module: nn.Module) -> bool:
        """Whether this epoch is the chosen one so far; `evidence` holds what the metric is computed on, a value a pair."""
        if value > self._value:
            self._value, self._evidence = value, evidence
        elif not self._as_good(value, evidence):
            return False
        self.epoch, self._model = epoch, copied(module.state_dict())
        return True

    def _as_good(self, value: float, evidence: np.ndarray) -> bool:
        if self._standard_error is None or self._evidence is None:  # a state of before has no evidence
            return False
        return self._value - value <= self._standard_error(self._evidence, evidence)

    def restore(self, module: nn.Module) -> None:
        """Give the module the chosen epoch's weights."""
        module.load_state_dict(self._model)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"epoch": self.epoch, "value": self._value, "model": self._model}
        return state if self._evidence is None else state | {"evidence": torch.from_numpy(self._evidence)}

    def load(self, state: dict[str, Any]) -> None:
        self.epoch, self._value, self._model = state["epoch"], state["value"], state["model"]
        self._evidence = state["evidence"].numpy() if "evidence" in state else None
