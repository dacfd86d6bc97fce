"""Dynamic Bad Pair Mining (Lan et al., ICLR 2024; for image and text: arXiv 2505.03153), over a ledger of pairs.

With L[e, i] the raw loss of pair i in epoch e:

* m_i is the mean of L[·, i] over past epochs, μ and σ are mean and standard deviation of m over the pairs;
* a pair is *faulty* if m_i > μ + β_f σ (its text and image disagree) and *noisy* if m_i < μ − β_n σ (too easy: both share
  something that is not the clinical content);
* a flagged pair keeps the weight w_i = exp(−(ℓ_i − μ)² / (2 σ²)) ∈ (0, 1], every other pair keeps 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ..errors import InputError
from ..ledger import HistoryKind, PairLossLedger
from .mixture import BadTail, fit_bad_tail

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("clean", "faulty", "noisy")
_MAD_TO_SD = 1.4826  # for normal data 1.4826 · MAD estimates the standard deviation
_RANKED_BY = ("disagreement", "margin", "outlyingness")
_SAME = 1e-7  # a relative spread that float32 losses cannot resolve


@dataclass(frozen=True)
class MiningResult:
    """What mining says about N pairs.

    Attributes
    ----------
    pair_ids : str ndarray of shape (N,)
    mean_loss : float64 ndarray of shape (N,)
        m_i, in the unit of the mined channel; NaN for a pair that was never seen.
    z : float64 ndarray of shape (N,)
        (m_i − μ) / σ; 0 where σ = 0. Under the rule ``mismatch`` a rank of its own, from the last epoch: disagreement and
        half the margin, each standardised, their sum standardised again, less three times what outlyingness exceeds 1.5 by.
        High values are wrong notes, low ones shortcuts.
    kind : Categorical of shape (N,)
        ``"clean"``, ``"faulty"`` or ``"noisy"``; ``result.kind == "faulty"`` is a mask.
    weight : float64 ndarray of shape (N,)
        What a pair keeps, within [0, 1] (the pdf form alone may exceed 1), evaluated at ℓ_i = m_i.
    posterior : float64 ndarray of shape (N,)
        P(bad) under the rules ``mixture`` and ``mismatch``, else NaN.
    mu, sigma : float
        Location and spread over the pairs; NaN before anything was recorded.
    faulty_above, noisy_below : float
        A pair beyond is flagged; NaN where nothing can be, or where something else decides.
    n_flagged : dict
        ``{"faulty": …, "noisy": …}``
    n_epochs : int
        Epochs that went into m.
    message : str
        Why nothing (or less) is flagged, in one line; empty where there is nothing to say.
    """

    pair_ids: np.ndarray
    mean_loss: np.ndarray
    z: np.ndarray
    kind: pd.Categorical
    weight: np.ndarray
    posterior: np.ndarray
    mu: float
    sigma: float
    faulty_above: float
    noisy_below: float
    n_flagged: dict[str, int]
    n_epochs: int
    message: str
    weights: str
    rule: str
    channel: str
    tail: BadTail | None = field(default=None, repr=False)
    ledger: PairLossLedger | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.pair_ids)

    @property
    def flagged(self) -> np.ndarray:
        """Mask of the pairs that are faulty or noisy, bool array of shape (N,)."""
        return self.kind.codes != 0

    def trajectory(self, pair_id: str) -> np.ndarray:
        """The mined quantity of one pair by epoch, float32 array of shape (E,)."""
        if self.ledger is None:
            raise InputError("trajectory: this result does not hold its ledger; mine the ledger again")
        return self.ledger.trajectory(pair_id, self.channel)

    def to_frame(self) -> pd.DataFrame:
        """One row a pair: pair_id, kind (categorical), mean_loss, z, weight, and under the mixture rule posterior."""
        columns: dict[str, Any] = {
            "pair_id": self.pair_ids,
            "kind": self.kind,
            "mean_loss": self.mean_loss,
            "z": self.z,
            "weight": self.weight,
        }
        if self.rule == "mixture":
            columns["posterior"] = self.posterior
        return pd.DataFrame(columns)


def mine_bad_pairs(
    ledger: PairLossLedger | Any,
    *,
    faulty_sd: float = 3.0,
    noisy_sd: float = 3.0,
    history: HistoryKind = "mean",
    spread: Literal["sd", "mad"] = "sd",
    before: int | None = None,
    warmup: int = 1,
    channel: str | None = None,
    rule: Literal["threshold", "mixture", "mismatch"] = "threshold",
    weights: Literal["bounded", "pdf", "posterior"] = "bounded",
) -> MiningResult:
    """Flag pairs whose past losses stand out, and say what weight they keep.

    Parameters
    ----------
    ledger : PairLossLedger, or array of shape (E, N)
        Raw values by epoch; higher means that image and text fit worse.
    faulty_sd, noisy_sd : float
        β_f and β_n, above 0.
    history : {"mean", "recency", "last"}
        How m_i is formed from a pair's epochs, see `PairLossLedger.history`.
    spread : {"sd", "mad"}
        μ and σ as mean and population standard deviation, or as median and 1.4826 · MAD, which bad pairs do not inflate.
    before : int, optional
        Use epochs 0 … before − 1 only; all by default.
    warmup : int
        Nothing is flagged before so many epochs are recorded.
    channel : str, optional
        What is mined; the ledger's first channel by default.
    rule : {"threshold", "mixture", "mismatch"}
        ``threshold``: as above. ``mixture``: faulty are the pairs that more likely belong to a second, higher component
        (`fit_bad_tail`), where the data show one; noisy pairs by the threshold. ``mismatch``: P(bad) is what the ledger's
        channel ``mismatch`` holds (`mismatch_probability`), the latest epoch's; noisy are the pairs with z below −β_n,
        which fit although both sides lie far from all others (`outlyingness`).
    weights : {"bounded", "pdf", "posterior"}
        ``bounded``: w as above. ``pdf``: times 1 / (σ √(2π)) as in the released code; exceeds 1 when σ < 0.4 and then
        turns bad pairs *up*. ``posterior``: 1 − P(bad), for the other two rules.

    Returns
    -------
    MiningResult

    Raises
    ------
    InputError
        A setting out of range, or an array that is no ledger.

    Notes
    -----
    With the population standard deviation no |z| among N pairs exceeds (N − 1)/√N, so that ten pairs or fewer can never
    pass three σ; the result's message says so.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.ones((2, 30)) + 0.01 * np.arange(30)
    >>> losses[:, 7] = 4.0                                     # one pair is hard in both epochs
    >>> result = mine_bad_pairs(losses)
    >>> result.n_flagged
    {'faulty': 1, 'noisy': 0}
    >>> result.to_frame().query("kind == 'faulty'")[["pair_id", "mean_loss"]]
      pair_id  mean_loss
    7       7        4.0
    >>> mine_bad_pairs(losses[:, :9]).message
    'nothing can be flagged: the largest possible |z| for 9 pairs is (N-1)/√N = 2.67, below 3; lower the limits'
    """
    _check_settings(faulty_sd, noisy_sd, history, spread, warmup, rule, weights)
    if not isinstance(ledger, PairLossLedger):
        ledger = PairLossLedger.from_values(ledger)
    channel = ledger.channels[0] if channel is None else channel
    mean_loss = ledger.history(channel, before, history)
    n_epochs = ledger.n_epochs if before is None else min(before, ledger.n_epochs)
    seen = ~np.isnan(mean_loss)
    values = mean_loss if seen.all() else mean_loss[seen]
    mu, sigma = _location_and_spread(values, spread)

    codes = np.zeros(len(mean_loss), np.int8)
    weight = np.ones(len(mean_loss))
    posterior = np.full(len(mean_loss), np.nan)
    faulty_above = noisy_below = math.nan
    tail = None
    z = (mean_loss - mu) / sigma if sigma > 0 else np.where(seen, 0.0, np.nan)
    message = _nothing_because(len(values), sigma, spread, n_epochs, warmup, min(faulty_sd, noisy_sd), rule)
    if not message:
        faulty_above, noisy_below = mu + faulty_sd * sigma, mu - noisy_sd * sigma
        if rule == "threshold":
            codes[mean_loss > faulty_above] = 1
        elif rule == "mixture":
            tail = fit_bad_tail(values)
            posterior[seen] = tail.posterior(values)
            faulty_above, message = tail.above, tail.message
        codes[(mean_loss < noisy_below) & (codes == 0)] = 2
    if rule == "mismatch":
        posterior, faulty_above, noisy_below = ledger.history("mismatch", before, "last"), math.nan, math.nan
        codes[:] = 0
        if all(name in ledger.channels for name in _RANKED_BY):
            z = _rank(*(ledger.history(name, before, "last") for name in _RANKED_BY))
            codes[z < -noisy_sd] = 2
            posterior = np.where(codes == 2, 0.0, posterior)
    codes[posterior > 0.5] = 1  # NaN compares false
    flagged = np.flatnonzero(codes)
    weight[flagged] = np.exp(-0.5 * z[flagged] ** 2) * _height(weights, sigma)
    if weights == "posterior":
        weight = np.where(codes == 2, weight, 1.0 - np.nan_to_num(posterior))
    if len(values) < len(mean_loss) and len(values):
        unseen = f"{len(mean_loss) - len(values)} of {len(mean_loss)} pairs were never seen"
        message = f"{message}; {unseen}" if message else unseen
    return MiningResult(
        pair_ids=ledger.pair_ids,
        mean_loss=mean_loss,
        z=z,
        kind=pd.Categorical.from_codes(codes, categories=list(KINDS)),
        weight=weight,
        posterior=posterior,
        mu=mu,
        sigma=sigma,
        faulty_above=faulty_above,
        noisy_below=noisy_below,
        n_flagged={name: int((codes == code).sum()) for code, name in enumerate(KINDS) if code},
        n_epochs=int(n_epochs),
        message=message,
        weights=weights,
        rule=rule,
        channel=channel,
        tail=tail,
        ledger=ledger,
    )


def pair_weights(result: MiningResult, rows: Any, live_losses: Tensor | None = None) -> Tensor:
    """Weights of a batch's pairs, re-evaluated at their live losses.

    Parameters
    ----------
    result : MiningResult
    rows : int array or tensor of shape (B,)
        Rows of the pairs in the result.
    live_losses : Tensor of shape (B,), optional
        ℓ_i now, in the unit of the mined channel; without it, or with posterior weights, the weights of the result are
        read. It is detached: a weight carries no gradient.

    Returns
    -------
    Tensor of shape (B,)
        On the device and in the dtype of `live_losses` (float64 on the CPU without it). 1 for pairs that are not flagged.

    Raises
    ------
    InputError
        Rows out of range, or another number of losses than of rows.

    Examples
    --------
    >>> import numpy as np, torch
    >>> losses = np.r_[4.0, np.linspace(0.9, 1.1, 29)][None]
    >>> pair_weights(mine_bad_pairs(losses), [0, 1], torch.tensor([1.1, 1.0]))     # the bad pair fits by now
    tensor([1., 1.])
    """
    import torch  # reading a stored ledger needs no torch

    rows = np.asarray(rows.detach().cpu() if hasattr(rows, "detach") else rows)
    if rows.ndim != 1 or (len(rows) and (rows.min() < 0 or rows.max() >= len(result))):
        raise InputError(f"rows: must be a list of rows within 0 and {len(result) - 1} of the mining result")
    rows = rows.astype(np.int64, copy=False)
    if live_losses is None:
        return torch.from_numpy(result.weight[rows])
    live = live_losses.detach()
    if live.shape != rows.shape:
        raise InputError(f"live_losses: one value a row, shape {rows.shape} (got {tuple(live.shape)})")
    codes = result.kind.codes[rows]
    stored = torch.from_numpy(result.weight[rows]).to(live)
    if result.rule == "mismatch" or not codes.any():  # that rule does not judge by the loss
        return stored
    fresh = torch.exp(-0.5 * ((live - result.mu) / result.sigma) ** 2) * _height(result.weights, result.sigma)
    use_fresh = codes == 2 if result.weights == "posterior" else codes != 0
    return torch.where(torch.from_numpy(use_fresh).to(live.device), fresh, stored)


def _rank(disagreement: np.ndarray, margin: np.ndarray, outlyingness: np.ndarray) -> np.ndarray:
    """One scale for both ends: wrong notes high, shortcuts low. See `MiningResult.z`."""

    def standardised(values: np.ndarray) -> np.ndarray:
        return (values - np.nanmean(values)) / (np.nanstd(values) or 1.0)

    fit = standardised(standardised(disagreement) + 0.5 * standardised(margin))
    return fit - 3.0 * np.maximum(outlyingness - 1.5, 0.0)


def _height(weights: str, sigma: float) -> float:
    return 1.0 / (sigma * math.sqrt(2 * math.pi)) if weights == "pdf" else 1.0


def _location_and_spread(values: np.ndarray, spread: str) -> tuple[float, float]:
    if len(values) == 0:
        return math.nan, math.nan
    if spread == "mad":
        mu = float(np.median(values))
        sigma = _MAD_TO_SD * float(np.median(np.abs(values - mu)))
    else:
        mu, sigma = float(values.mean()), float(values.std())
    largest = max(abs(float(values.min())), abs(float(values.max())))
    return mu, sigma if sigma > _SAME * largest else 0.0


def _nothing_because(n: int, sigma: float, spread: str, n_epochs: int, warmup: int, limit: float, rule: str) -> str:
    if n_epochs < warmup:
        return f"nothing is flagged yet: {n_epochs} of {warmup} warm-up epochs are recorded"
    if n == 0:
        return "nothing is flagged yet: no epoch is recorded"
    largest = (n - 1) / math.sqrt(n)
    if spread == "sd" and rule == "threshold" and largest <= limit:
        return (
            f"nothing can be flagged: the largest possible |z| for {n} pairs is (N-1)/√N = {largest:.2f}, below "
            f"{limit:g}; lower the limits"
        )
    if sigma == 0:
        identical = "all values are the same" if spread == "sd" else "more than half of the values are the same"
        return f"nothing is flagged: {identical}, so their spread is 0"
    return ""


def _check_settings(
    faulty_sd: float, noisy_sd: float, history: str, spread: str, warmup: int, rule: str, weights: str
) -> None:
    for name, value in (("faulty_sd", faulty_sd), ("noisy_sd", noisy_sd)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not value > 0:
            raise InputError(f"{name}: must be a number above 0 (got {value!r})")
    for name, value, known in (
        ("history", history, ("mean", "recency", "last")),
        ("spread", spread, ("sd", "mad")),
        ("rule", rule, ("threshold", "mixture", "mismatch")),
        ("weights", weights, ("bounded", "pdf", "posterior")),
    ):
        if value not in known:
            raise InputError(f"{name}: must be one of {', '.join(known)} (got {value!r})")
    if isinstance(warmup, bool) or not isinstance(warmup, (int, np.integer)) or warmup < 0:
        raise InputError(f"warmup: must be a whole number of epochs, 0 or more (got {warmup!r})")
    if weights == "posterior" and rule == "threshold":
        raise InputError(
            "weights: posterior needs rule='mixture' or 'mismatch', which give P(bad); or use weights='bounded'"
        )
