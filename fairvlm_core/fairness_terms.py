"""The fairness term of the objective. Presets differ in the term that they use.

The loop adds `FairnessTerm.__call__` to the loss of a batch. `FairnessTerm` itself adds nothing; `LedgerTerm` is the
Sinkhorn divergence over the ledger's values; `ReleasedTerm` repeats the released code. Each returns λ times its term.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .config import FairnessConfig
from .ledger import PairLossLedger
from .objective import Groups, LedgerDivergence, PairLosses, ReleasedDivergence


class FairnessTerm:
    """No term. Base class of the others."""

    def begin_epoch(self, ledger: PairLossLedger, weights: np.ndarray) -> None:
        """Prepare for an epoch: `ledger` holds the epochs before it, `weights` (N,) what each pair counts now."""

    def __call__(self, rows: np.ndarray, pairs: PairLosses) -> Tensor | float:  # noqa: ARG002
        """λ times the term for a batch; the first len(rows) entries of `pairs` are the batch, the others fill it up."""
        return 0.0


class LedgerTerm(FairnessTerm):
    """Every group's divergence from everyone over the ledger's latest values (`LedgerDivergence`), from the first epoch on.

    A pair's pull is bounded. In units of the gradient of the pair's own weighted loss it is at least −1, so that the term
    never makes a pair's loss rise, and at most `config.bound`.
    """

    def __init__(self, config: FairnessConfig, groups: Groups):
        self._config = config
        worse = 1 if config.quantity == "loss" else -1  # a wrong note has a high loss and a low similarity
        self._divergence = LedgerDivergence(
            groups,
            blur=config.blur,
            normalise=config.normalise == "sum",
            in_sd=config.unit == "sd",
            above_chance=config.above_chance,
            outlier_sd=worse * config.outlier_sd,
        )

    def begin_epoch(self, ledger: PairLossLedger, weights: np.ndarray) -> None:
        latest = ledger.channel(self._config.quantity)[-1] if ledger.n_epochs else np.full(len(ledger), np.nan)
        self._divergence.start_epoch(torch.from_numpy(latest), weights)

    def __call__(self, rows: np.ndarray, pairs: PairLosses) -> Tensor | float:
        values = (pairs.loss if self._config.quantity == "loss" else pairs.similarity)[: len(rows)]
        own = 1 / (self._config.weight * len(rows))
        # A similarity that rises makes the loss fall, so both directions of its pull have the larger limit.
        lowest = -1.0 if self._config.quantity == "loss" else -self._config.bound
        return self._config.weight * self._divergence.term(
            torch.from_numpy(rows), values, lowest * own, self._config.bound * own
        )


class ReleasedTerm(FairnessTerm):
    """As released: one more forward pass a group and step (see docs/released.md).

    Parameters
    ----------
    logits_of : callable (rows) -> Tensor of shape (B, B)
        Logits of some training pairs.
    generator_of : callable (epoch) -> torch.Generator
        For the order in which a group's pairs are drawn in an epoch.
    """

    def __init__(
        self,
        config: FairnessConfig,
        groups: Groups,
        batch_size: int,
        logits_of: Callable[[np.ndarray], Tensor],
        generator_of: Callable[[int], torch.Generator],
    ):
        self._weight, self._groups, self._batch_size = config.weight, groups, batch_size
        self._logits_of, self._generator_of = logits_of, generator_of

    def begin_epoch(self, ledger: PairLossLedger, weights: np.ndarray) -> None:  # noqa: ARG002
        self._released = ReleasedDivergence(self._groups, self._batch_size, self._generator_of(ledger.n_epochs))

    def __call__(self, rows: np.ndarray, pairs: PairLosses) -> Tensor | float:  # noqa: ARG002
        total = pairs.logits.new_zeros((), dtype=torch.float32)
        for stream in self._released.streams:
            with torch.no_grad():
                logits = self._logits_of(next(stream).numpy())
            total = total + self._released.distance(pairs.logits, logits)
        return self._weight * total
