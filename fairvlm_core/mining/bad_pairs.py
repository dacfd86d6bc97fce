"""Dynamic Bad Pair Mining (Lan et al., ICLR 2024; for image and text: arXiv 2505.03153), over a ledger of pairs.

With L[e, i] the raw loss of pair i in epoch e:

* m_i is the mean of L[·, i] over past epochs, μ and σ are mean and standard deviation of m over the pairs;
* a pair is *faulty* if m_i > μ + β_f σ (its text and image disagree) and *noisy* if m_i < μ − β_n σ (too easy: both share
  something that is not the clinical content);
* a flagged pair keeps the weight w_i = exp(−(ℓ_i − μ)² / (2 σ²)) ∈ (0, 1], every other pair keeps 1.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ..errors import InputError
from ..ledger import HistoryKind, PairLossLedger
from .notices import Notice, Reason
from .rules import RANKING_RULES, WEIGHTING_RULES, Evidence, Flags, Judgement, RankingRule, location_and_spread

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("clean", "faulty", "noisy")


@dataclass(frozen=True)
class MiningResult:
    """What mining says about N pairs.

    Attributes
    ----------
    pair_ids : str ndarray of shape (N,)
    mean_loss : float64 ndarray of shape (N,)
        m_i, in the unit of the mined channel; NaN for a pair that was never seen.
    z : float64 ndarray of shape (N,)
        The ranking: high values are wrong notes, low values shared markers. (m_i − μ) / σ, or 0 where σ = 0, for the rules
        ``threshold`` and ``mixture``; other rules have a ranking of their own (`judge_mismatch` for ``mismatch``).
    kind : Categorical of shape (N,)
        ``"clean"``, ``"faulty"`` or ``"noisy"``; ``result.kind == "faulty"`` is a mask.
    weight : float64 ndarray of shape (N,)
        Within [0, 1] (the pdf form alone may exceed 1), evaluated at ℓ_i = m_i.
    posterior : float64 ndarray of shape (N,)
        P(wrong note) where the rule gives it, else NaN.
    mu, sigma : float
        Location and spread of `mean_loss` over the pairs; NaN before anything was recorded.
    faulty_above, noisy_below : float
        A pair beyond is flagged; NaN where nothing can be, or where the rule has no limit in this unit.
    n_epochs : int
        Epochs that went into m.
    notices : tuple of Notice
        Why nothing (or less) is flagged.
    rule, weights, channel, spread, faulty_sd, noisy_sd
        The settings.
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
    n_epochs: int
    notices: tuple[Notice, ...]
    rule: str
    weights: str
    channel: str
    spread: str
    faulty_sd: float
    noisy_sd: float
    ledger: PairLossLedger | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.pair_ids)

    @property
    def flagged(self) -> np.ndarray:
        """Mask of the pairs that are faulty or noisy, bool array of shape (N,)."""
        return self.kind.codes != 0

    @property
    def n_flagged(self) -> dict[str, int]:
        """``{"faulty": …, "noisy": …}``"""
        return {name: int((self.kind.codes == code).sum()) for code, name in enumerate(KINDS) if code}

    @property
    def message(self) -> str:
        """The notices in one line; empty without any."""
        return "; ".join(map(str, self.notices))

    def trajectory(self, pair_id: str) -> np.ndarray:
        """The mined quantity of one pair by epoch, float32 array of shape (E,)."""
        if self.ledger is None:
            raise InputError("trajectory: this result does not hold its ledger; mine the ledger again")
        return self.ledger.trajectory(pair_id, self.channel)

    def to_frame(self) -> pd.DataFrame:
        """One row a pair: pair_id, kind (categorical), mean_loss, z, weight, and posterior where the rule gives it."""
        columns: dict[str, Any] = {
            name: getattr(self, name) for name in ("pair_ids", "kind", "mean_loss", "z", "weight")
        }
        frame = pd.DataFrame(columns).rename(columns={"pair_ids": "pair_id"})
        return frame.assign(posterior=self.posterior) if RANKING_RULES[self.rule].gives_posterior else frame


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
    rule: str = "threshold",
    weights: str = "bounded",
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
    rule : str
        A registered ranking rule. ``threshold``: as above. ``mixture``: faulty are the pairs that more likely belong to a
        second, higher component (`fit_bad_tail`), where the data show one; noisy pairs by the threshold. ``mismatch``:
        see `judge_mismatch`. `ranking_rule` registers others.
    weights : str
        A registered weighting rule. ``bounded``: w as above. ``pdf``: times 1 / (σ √(2π)) as in the released code, above
        1 when σ < 0.4, which gives bad pairs *more* weight. ``posterior``: 1 − P(wrong note), for rules that give it.
        `weighting_rule` registers others.

    Returns
    -------
    MiningResult

    Raises
    ------
    InputError
        A setting out of range, an unknown rule, or an array that is no ledger.

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
    ranking = check_settings(faulty_sd, noisy_sd, history, spread, warmup, rule, weights)
    if not isinstance(ledger, PairLossLedger):
        ledger = PairLossLedger.from_values(ledger)
    missing = [name for name in ranking.channels if name not in ledger.channels]
    if missing:
        raise InputError(
            f"rule: {rule!r} needs {', '.join(missing)}, which is recorded in training with this rule only"
        )
    channel = ledger.channels[0] if channel is None else channel
    value = ledger.history(channel, before, history)
    n_epochs = ledger.n_epochs if before is None else min(before, ledger.n_epochs)
    seen = ~np.isnan(value)
    mu, sigma = location_and_spread(value if seen.all() else value[seen], spread)
    evidence = Evidence(ledger, before, value, mu, sigma, faulty_sd, noisy_sd, spread)

    n, n_seen = len(value), int(seen.sum())
    faulty, noisy, posterior = np.zeros(n, bool), np.zeros(n, bool), np.full(n, np.nan)
    z, faulty_above, noisy_below = evidence.z, math.nan, math.nan
    notice = _nothing_because(n_seen, sigma, spread, n_epochs, warmup, min(faulty_sd, noisy_sd), ranking)
    if notice is None:
        judged = _checked(ranking, ranking.judge(evidence), n)
        z, faulty, noisy, notice = judged.z, judged.faulty, judged.noisy & ~judged.faulty, judged.notice
        posterior = posterior if judged.posterior is None else judged.posterior
        faulty_above, noisy_below = judged.faulty_above, judged.noisy_below
    notices = [notice] if notice else []
    if 0 < n_seen < n:
        notices.append(Notice(Reason.NEVER_SEEN, {"unseen": n - n_seen, "n": n}))
    return MiningResult(
        pair_ids=ledger.pair_ids,
        mean_loss=value,
        z=z,
        kind=pd.Categorical.from_codes(np.where(faulty, 1, np.where(noisy, 2, 0)).astype(np.int8), categories=KINDS),
        weight=_weights(weights, Flags(z, faulty, noisy, posterior, sigma)),
        posterior=posterior,
        mu=mu,
        sigma=sigma,
        faulty_above=faulty_above,
        noisy_below=noisy_below,
        n_epochs=int(n_epochs),
        notices=tuple(notices),
        rule=rule,
        weights=weights,
        channel=channel,
        spread=spread,
        faulty_sd=faulty_sd,
        noisy_sd=noisy_sd,
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
        ℓ_i now, in the unit of the mined channel. Without it, or where rule or weights do not depend on the loss, the
        weights of the result are read. It is detached: a weight carries no gradient.

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
    stored = torch.from_numpy(result.weight[rows]).to(live)
    weighting = WEIGHTING_RULES[result.weights]
    fresh = result.kind.codes[rows] != 0
    if weighting.live is None or not RANKING_RULES[result.rule].ranks_loss or not fresh.any():
        return stored
    now = weighting.live((live - result.mu) / result.sigma, result.sigma)
    return torch.where(torch.from_numpy(fresh).to(live.device), now, stored)


def check_settings(
    faulty_sd: float, noisy_sd: float, history: str, spread: str, warmup: int, rule: str, weights: str
) -> RankingRule:
    """The ranking rule, once all settings are found to be right; `InputError` names the first that is not."""
    for name, value in (("faulty_sd", faulty_sd), ("noisy_sd", noisy_sd)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not value > 0:
            raise InputError(f"{name}: must be a number above 0 (got {value!r})")
    known: dict[str, tuple[str, Collection[str]]] = {
        "history": (history, ("mean", "recency", "last")),
        "spread": (spread, ("sd", "mad")),
        "rule": (rule, RANKING_RULES),
        "weights": (weights, WEIGHTING_RULES),
    }
    for name, (choice, choices) in known.items():
        if choice not in choices:
            raise InputError(f"{name}: must be one of {', '.join(choices)} (got {choice!r})")
    if isinstance(warmup, bool) or not isinstance(warmup, (int, np.integer)) or warmup < 0:
        raise InputError(f"warmup: must be a whole number of epochs, 0 or more (got {warmup!r})")
    if not fits(rule, weights):
        raise InputError(f"weights: {weights!r} needs a rule that gives P(wrong note): {', '.join(_with_posterior())}")
    return RANKING_RULES[rule]


def fits(rule: str, weights: str) -> bool:
    """Whether a weighting rule can be used with a ranking rule.

    >>> fits("threshold", "posterior"), fits("mixture", "posterior")
    (False, True)
    """
    return RANKING_RULES[rule].gives_posterior or not WEIGHTING_RULES[weights].needs_posterior


def _checked(ranking: RankingRule, judged: Judgement, n: int) -> Judgement:
    """A rule's answer with masks as bool arrays; `InputError` names the rule where it is not one value a pair."""
    if not isinstance(judged, Judgement):
        raise InputError(f"ranking rule {ranking.name!r}: must return a Judgement (got {type(judged).__name__})")
    for name in ("z", "faulty", "noisy", "posterior"):
        values = getattr(judged, name)
        if values is not None and np.shape(values) != (n,):
            raise InputError(f"ranking rule {ranking.name!r}: {name} must have shape ({n},) (got {np.shape(values)})")
    return replace(judged, faulty=np.asarray(judged.faulty, bool), noisy=np.asarray(judged.noisy, bool))


def _with_posterior() -> list[str]:
    return [name for name, rule in RANKING_RULES.items() if rule.gives_posterior]


def _weights(name: str, flags: Flags) -> np.ndarray:
    weighting = WEIGHTING_RULES[name]
    weight = np.ones(len(flags.z))
    if weighting.needs_posterior:
        weight[:] = weighting.weigh(flags)
        return weight
    flagged = np.flatnonzero(flags.faulty | flags.noisy)
    if len(flagged):
        z, faulty, noisy, posterior = (a[flagged] for a in (flags.z, flags.faulty, flags.noisy, flags.posterior))
        some = Flags(z, faulty, noisy, posterior, flags.sigma)
        weight[flagged] = weighting.weigh(some)
    if not (np.isfinite(weight).all() and weight.min() >= 0):
        raise InputError(f"weighting rule {name!r}: weights must be finite and 0 or more")
    return weight


def _nothing_because(
    n: int, sigma: float, spread: str, n_epochs: int, warmup: int, limit: float, ranking: RankingRule
) -> Notice | None:
    if n_epochs < warmup:
        return Notice(Reason.WARM_UP, {"recorded": n_epochs, "warmup": warmup})
    if n == 0:
        return Notice(Reason.NO_EPOCH)
    largest = (n - 1) / math.sqrt(n)
    if ranking.ranks_loss and spread == "sd" and "faulty_sd" in ranking.limits and largest <= limit:
        return Notice(Reason.TOO_FEW_FOR_LIMIT, {"n": n, "largest": largest, "limit": limit})
    if ranking.ranks_loss and sigma == 0:
        return Notice(Reason.ALL_EQUAL if spread == "sd" else Reason.MOST_EQUAL)
    return None
