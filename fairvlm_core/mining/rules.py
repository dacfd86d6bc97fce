"""Rules that rank pairs and rules that weigh them: the built-in ones, and how to add one of your own.

A *ranking rule* looks at the ledger of past epochs and says which pairs are faulty (wrong note) and which are noisy (both
sides share a marker). A *weighting rule* says how much a flagged pair counts in the next epoch. Both are functions with a
name; once registered they work in training, in ``fairvlm mine``, on the Bad pairs page and in the benchmark.

>>> @ranking_rule("latest loss")
... def latest_loss(evidence):
...     return evidence.by_limits(evidence.latest("loss"))
>>> from . import mine_bad_pairs
>>> mine_bad_pairs([[1.0] * 19 + [9.0]] * 2, rule="latest loss").n_flagged
{'faulty': 1, 'noisy': 0}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..ledger import PairLossLedger
from ..plugins import Registry
from .notices import Notice

if TYPE_CHECKING:
    from torch import Tensor

    from .bad_pairs import MiningResult

MAD_TO_SD = 1.4826  # for normal data 1.4826 · MAD estimates the standard deviation
_SAME = 1e-7  # a relative spread that float32 losses cannot resolve


@dataclass(frozen=True)
class Evidence:
    """What a ranking rule judges N pairs by.

    Attributes
    ----------
    ledger : PairLossLedger
    before : int or None
        Only epochs 0 … before − 1 may be used; None: all.
    value : float64 ndarray of shape (N,)
        m_i, a pair's history of the mined channel; NaN for a pair that was never seen.
    mu, sigma : float
        Location and spread of the values.
    faulty_sd, noisy_sd : float
        The limits β_f and β_n.
    spread : {"sd", "mad"}
    """

    ledger: PairLossLedger
    before: int | None
    value: np.ndarray
    mu: float
    sigma: float
    faulty_sd: float
    noisy_sd: float
    spread: Literal["sd", "mad"]

    @property
    def z(self) -> np.ndarray:
        """(m_i − μ) / σ; 0 where σ = 0, NaN for a pair that was never seen."""
        if self.sigma > 0:
            return (self.value - self.mu) / self.sigma
        return np.where(np.isnan(self.value), np.nan, 0.0)

    @property
    def noisy_below(self) -> float:
        return self.mu - self.noisy_sd * self.sigma

    def latest(self, channel: str) -> np.ndarray:
        """Each pair's latest value of a channel, float64 array of shape (N,)."""
        return self.ledger.history(channel, self.before, "last")

    def by_limits(self, score: np.ndarray) -> Judgement:
        """Standardise a score (N,) and flag what lies beyond the limits: high scores are wrong notes."""
        mu, sigma = location_and_spread(score[~np.isnan(score)], self.spread)
        z = (score - mu) / sigma if sigma > 0 else np.where(np.isnan(score), np.nan, 0.0)
        return Judgement(z, z > self.faulty_sd, z < -self.noisy_sd)


@dataclass(frozen=True)
class Judgement:
    """What a ranking rule says of N pairs.

    Attributes
    ----------
    z : float64 ndarray of shape (N,)
        The ranking: high values are wrong notes, low values shared markers, 0 is usual; NaN where nothing is known.
    faulty, noisy : bool ndarray of shape (N,)
        A pair that is both counts as faulty.
    posterior : float64 ndarray of shape (N,), optional
        P(wrong note), for weights that need it.
    faulty_above, noisy_below : float
        Limits in the unit of the mined channel, where the rule has some; else NaN.
    notice : Notice, optional
        Why nothing is flagged.
    """

    z: np.ndarray
    faulty: np.ndarray
    noisy: np.ndarray
    posterior: np.ndarray | None = None
    faulty_above: float = math.nan
    noisy_below: float = math.nan
    notice: Notice | None = None


class Observer(Protocol):
    """What a rule records of every pair during training, in channels beside loss, similarity and margin."""

    channels: tuple[str, ...]

    def add(self, image: Tensor, text: Tensor) -> dict[str, np.ndarray]:
        """Features of all pairs (N, D), of the pretrained model and then of each epoch → channels of the ledger."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values, for a run that is resumed."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""


@dataclass(frozen=True)
class RankingRule:
    """A way of ranking pairs.

    Attributes
    ----------
    name : str
        As in the setting ``mining.rule``.
    judge : callable (Evidence) -> Judgement
    title : str
        As pages show it.
    limits : tuple of str
        Which of ``faulty_sd`` and ``noisy_sd`` the rule uses.
    ranks_loss : bool
        Whether z is the standardised history of the mined channel. Then weights are taken at a pair's live loss.
    gives_posterior : bool
    channels : tuple of str
        Channels that the ledger must have beside loss, similarity and margin.
    observer : callable (notes, seed) -> Observer, optional
        Records those channels.
    explain : callable (MiningResult, row) -> str, optional
        Why a pair is flagged or not, in a sentence.
    """

    name: str
    judge: Callable[[Evidence], Judgement]
    title: str
    limits: tuple[str, ...] = ("faulty_sd", "noisy_sd")
    ranks_loss: bool = False
    gives_posterior: bool = False
    channels: tuple[str, ...] = ()
    observer: Callable[[Sequence[str], int], Observer] | None = None
    explain: Callable[[MiningResult, int], str] | None = None


@dataclass(frozen=True)
class Flags:
    """What a weighting rule sees of the pairs: arrays of one length."""

    z: np.ndarray
    faulty: np.ndarray
    noisy: np.ndarray
    posterior: np.ndarray
    sigma: float


@dataclass(frozen=True)
class WeightingRule:
    """A way of weighing pairs.

    Attributes
    ----------
    name : str
        As in the setting ``mining.weights``.
    weigh : callable (Flags) -> float array
        Weights of flagged pairs, 0 or more; of all pairs where `needs_posterior`.
    title : str
    needs_posterior : bool
        Only rules that give P(wrong note) can be combined with it.
    live : callable (z Tensor, sigma) -> Tensor, optional
        The weights at the live losses of a batch; without it a weight holds for the epoch.
    """

    name: str
    weigh: Callable[[Flags], np.ndarray]
    title: str
    needs_posterior: bool = False
    live: Callable[[Tensor, float], Tensor] | None = None


RANKING_RULES: Registry[RankingRule] = Registry("ranking rule")
WEIGHTING_RULES: Registry[WeightingRule] = Registry("weighting rule")


def ranking_rule(name: str, **fields: Any) -> Callable[[Callable[[Evidence], Judgement]], Callable]:
    """Register the decorated function as a ranking rule; `fields` are further fields of `RankingRule`."""

    def register(judge: Callable[[Evidence], Judgement]) -> Callable:
        RANKING_RULES.add(name, RankingRule(**{"name": name, "judge": judge, "title": name, **fields}))
        return judge

    return register


def weighting_rule(name: str, **fields: Any) -> Callable[[Callable[[Flags], np.ndarray]], Callable]:
    """Register the decorated function as a weighting rule; `fields` are further fields of `WeightingRule`.

    >>> @weighting_rule("half")
    ... def half(flags):
    ...     return np.full(len(flags.z), 0.5)
    """

    def register(weigh: Callable[[Flags], np.ndarray]) -> Callable:
        WEIGHTING_RULES.add(name, WeightingRule(**{"name": name, "weigh": weigh, "title": name, **fields}))
        return weigh

    return register


def location_and_spread(values: np.ndarray, spread: str) -> tuple[float, float]:
    """Mean and population standard deviation, or median and 1.4826 · MAD; a spread below float32's resolution is 0."""
    if len(values) == 0:
        return math.nan, math.nan
    if spread == "mad":
        mu = float(np.median(values))
        sigma = MAD_TO_SD * float(np.median(np.abs(values - mu)))
    else:
        mu, sigma = float(values.mean()), float(values.std())
    largest = max(abs(float(values.min())), abs(float(values.max())))
    return mu, sigma if sigma > _SAME * largest else 0.0


@ranking_rule("threshold", title="Limits", ranks_loss=True)
def threshold(evidence: Evidence) -> Judgement:
    """As in the paper: faulty above μ + β_f σ, noisy below μ − β_n σ."""
    above, below = evidence.mu + evidence.faulty_sd * evidence.sigma, evidence.noisy_below
    return Judgement(evidence.z, evidence.value > above, evidence.value < below, faulty_above=above, noisy_below=below)


def _live_bounded(z: Tensor, sigma: float) -> Tensor:  # noqa: ARG001
    return (-0.5 * z**2).exp()


def _live_pdf(z: Tensor, sigma: float) -> Tensor:
    return _live_bounded(z, sigma) * _height(sigma)


def _height(sigma: float) -> float:
    return 1.0 / (sigma * math.sqrt(2 * math.pi))


@weighting_rule("bounded", title="Bounded", live=_live_bounded)
def bounded(flags: Flags) -> np.ndarray:
    """exp(−z²/2), within (0, 1]."""
    return np.exp(-0.5 * flags.z**2)


@weighting_rule("pdf", title="Density (as released)", live=_live_pdf)
def pdf(flags: Flags) -> np.ndarray:
    """The normal density, as in the released code: above 1 where σ < 0.4, which gives bad pairs more weight."""
    return bounded(flags) * _height(flags.sigma)


@weighting_rule("left-out", title="Left out")
def left_out(flags: Flags) -> np.ndarray:
    """0: a flagged pair does not count at all, though it stays a negative for the others of its batch."""
    return np.zeros(len(flags.z))


@weighting_rule("posterior", title="1 − P(wrong note)", needs_posterior=True)
def posterior(flags: Flags) -> np.ndarray:
    """1 − P(wrong note) for every pair; noisy pairs are left out."""
    return np.where(flags.noisy, 0.0, 1.0 - np.nan_to_num(flags.posterior))
