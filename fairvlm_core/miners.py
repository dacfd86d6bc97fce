"""The miner: gives every pair its weight in training. Presets differ in the miner that they use.

The loop asks a `Miner` for weights before each epoch and in each step, and shows it the features after each epoch.
`Miner` itself mines nothing; `LedgerMiner` applies a ranking and a weighting rule to the ledger of losses; `SlotMiner`
repeats what the released code does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config import MiningConfig
from .ledger import PairLossLedger
from .mining import (
    RANKING_RULES,
    WEIGHTING_RULES,
    Flags,
    MiningResult,
    location_and_spread,
    pair_weights,
    within_groups,
)

_RELEASED_SD = 3.0
_REFRESH = 4  # steps between two estimates of location and spread


class Miner:
    """Mines nothing: every pair has weight 1. Base class of the others.

    Parameters
    ----------
    trusted : bool ndarray of shape (N,)
        Training pairs whose weight stays 1.
    """

    channels: tuple[str, ...] = ()  # what is recorded of every pair beside loss, similarity and margin
    observes_pretrained = False  # whether `observe` is to be called before the first epoch

    def __init__(self, trusted: np.ndarray):
        self.trusted = trusted
        self.n_flagged = {"faulty": 0, "noisy": 0}

    def begin_epoch(self, ledger: PairLossLedger) -> np.ndarray:  # noqa: ARG002
        """Weights (N,) of the coming epoch, from the epochs before it."""
        return np.ones(len(self.trusted))

    def weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:
        """Weights (B,) of a batch at its live losses, without gradient."""
        trusted = torch.from_numpy(self.trusted[rows]).to(losses.device)
        return torch.where(trusted, 1.0, self._weigh(rows, losses.detach()))

    def observe(
        self,
        image: Tensor,  # noqa: ARG002
        text: Tensor,  # noqa: ARG002
        losses: np.ndarray | None = None,  # noqa: ARG002
    ) -> dict[str, np.ndarray]:
        """Values of `channels` from features (N, D) of the pretrained model, then of every epoch with its losses (N,)."""
        return {}

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `load` continues."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass

    def _weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:  # noqa: ARG002
        return torch.ones_like(losses)


class LiveLimits:
    """The limits of the rule ``threshold`` applied to losses of the present step.

    A loss of the last epoch is one epoch old, and the model has learned much since. So a pair is judged by the loss that
    it has in the step, against the latest losses of all pairs.

    Parameters
    ----------
    latest : float64 ndarray of shape (N,)
        The latest loss of each pair; NaN for a pair without one. `weigh` writes into it.
    membership : bool ndarray of shape (G, N)
        Losses are compared within these groups (`within_groups`); without any, over all pairs.
    """

    def __init__(self, config: MiningConfig, latest: np.ndarray, membership: np.ndarray):
        self._config, self._latest, self._membership = config, latest, membership
        self._shift, self._steps = np.zeros(len(latest)), 0
        self.n_flagged = {"faulty": 0, "noisy": 0}

    def weigh(self, rows: np.ndarray, losses: np.ndarray, *, act: bool) -> np.ndarray:
        """Take in the losses (B,) of a step; weights (B,), all 1 unless the limits are to `act` already."""
        self._latest[rows] = losses
        if not act:
            return np.ones(len(rows))
        if self._steps % _REFRESH == 0:
            seen = np.flatnonzero(~np.isnan(self._latest))
            values = self._latest[seen]
            if len(self._membership):
                values = within_groups(values, self._membership[:, seen])
                self._shift[seen] = values - self._latest[seen]
            self._mu, self._sigma = location_and_spread(values, self._config.spread)
        self._steps += 1
        z = (losses + self._shift[rows] - self._mu) / (self._sigma or np.inf)
        faulty, noisy = z > self._config.faulty_sd, z < -self._config.noisy_sd
        for name, flagged in (("faulty", faulty), ("noisy", noisy)):
            self.n_flagged[name] += int(flagged.sum())
        unknown = np.full(len(rows), np.nan)
        weight = WEIGHTING_RULES[self._config.weights].weigh(Flags(z, faulty, noisy, unknown, self._sigma))
        return np.where(faulty | noisy, weight, 1.0)


class LedgerMiner(Miner):
    """Mines the ledger by the configured rules (see `fairvlm_core.mining.rules`).

    With mining off it only records what the rule needs, so that the run can be mined afterwards.
    """

    def __init__(
        self, config: MiningConfig, trusted: np.ndarray, notes: Sequence[str], membership: np.ndarray, seed: int
    ):
        super().__init__(trusted)
        self._membership = membership
        observer = RANKING_RULES[config.rule].observer
        self._config, self._observer = config, observer and observer(notes, seed)
        self._mined: MiningResult | None = None
        self._live: LiveLimits | None = None
        self._judges_live = config.enabled and config.live and config.rule == "threshold" and config.channel != "margin"
        self._first: PairLossLedger | None = None  # values of the pretrained model, until an epoch is recorded
        if self._observer is not None:
            self.channels, self.observes_pretrained = self._observer.channels, True
        if config.channel == "group_loss":
            self.channels = (*self.channels, "group_loss")

    def begin_epoch(self, ledger: PairLossLedger) -> np.ndarray:
        if self._judges_live:
            latest = ledger.losses[-1] if ledger.n_epochs else np.full(len(ledger), np.nan)
            within = self._membership if self._config.channel == "group_loss" else self._membership[:0]
            self._live = LiveLimits(self._config, np.array(latest, np.float64), within)
            self._live_acts = ledger.n_epochs >= self._config.warmup
        source = self._first if ledger.n_epochs == 0 and self._first is not None else ledger
        enough = self._config.enabled and ledger.n_epochs >= self._config.warmup and source.n_epochs > 0
        channel = source.channels[0] if source is self._first else None
        self._mined = self._config.mine(source, channel=channel) if enough else None
        if self._mined is None:
            return super().begin_epoch(ledger)
        self.n_flagged = self._mined.n_flagged
        return np.where(self.trusted, 1.0, self._mined.weight)

    def _weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:
        if self._live is not None:
            weight = self._live.weigh(rows, losses.cpu().numpy().astype(np.float64), act=self._live_acts)
            self.n_flagged = self._live.n_flagged
            return torch.from_numpy(weight).to(losses)
        if self._mined is None:
            return super()._weigh(rows, losses)
        return pair_weights(self._mined, rows, losses if self._config.channel == "loss" else None).to(losses)

    def observe(self, image: Tensor, text: Tensor, losses: np.ndarray | None = None) -> dict[str, np.ndarray]:
        grouped = {}
        if losses is not None and "group_loss" in self.channels:
            grouped = {"group_loss": within_groups(losses, self._membership)}
        if self._observer is None:
            return grouped
        values = self._observer.add(image, text)
        self._first = PairLossLedger([str(row) for row in range(len(image))], tuple(values))
        self._first.record(0, np.arange(len(image)), **values)
        self._first.close_epoch(0)
        return values | grouped

    def state(self) -> dict[str, Any]:
        return {} if self._observer is None else self._observer.state()

    def load(self, state: dict[str, Any]) -> None:
        if self._observer is not None:
            self._observer.load(state)


class SlotMiner(Miner):
    """As released: keeps the history of a batch position, not of a pair. See docs/released.md.

    It stores the mean weighted loss of each batch. Weights follow the normal density and may exceed 1.
    """

    def __init__(self, trusted: np.ndarray, slots: int, epochs: int):
        super().__init__(trusted)
        self._losses = torch.full((slots, epochs), torch.nan)
        self._epoch, self._slot = -1, 0

    def begin_epoch(self, ledger: PairLossLedger) -> np.ndarray:
        self._epoch, self._slot = ledger.n_epochs, 0
        return super().begin_epoch(ledger)

    def weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:
        weight = super().weigh(rows, losses)
        self._losses[self._slot, self._epoch] = (weight * losses.detach()).mean().cpu()
        self._slot += 1
        return weight

    def state(self) -> dict[str, Any]:
        return {"slots": self._losses}

    def load(self, state: dict[str, Any]) -> None:
        self._losses = state["slots"].clone()

    def _weigh(self, rows: np.ndarray, losses: Tensor) -> Tensor:
        return self._slot_weight(losses.mean()).to(losses).expand(len(rows))

    def _slot_weight(self, loss: Tensor) -> Tensor:
        if self._epoch == 0:
            return torch.ones(())
        means = self._losses[:, : self._epoch].mean(1)
        mean, sd = means.mean(), means.std(unbiased=False)
        if abs(means[self._slot] - mean) <= _RELEASED_SD * sd or sd == 0:
            return torch.ones(())
        return torch.exp(-((loss.cpu() - mean) ** 2) / (2 * sd**2)) / (sd * math.sqrt(2 * math.pi))


def make_miner(
    config: MiningConfig,
    trusted: np.ndarray,
    notes: Sequence[str],
    membership: np.ndarray,
    *,
    slots: int,
    epochs: int,
    seed: int,
) -> Miner:
    """The miner of a configuration for N training pairs in groups (G, N), with `slots` batches an epoch."""
    if not config.enabled and RANKING_RULES[config.rule].observer is None and config.channel != "group_loss":
        return Miner(trusted)
    if config.enabled and config.key == "slot":
        return SlotMiner(trusted, slots, epochs)
    return LedgerMiner(config, trusted, notes, membership, seed)
