"""Is there a second, higher group among the losses? A mixture that allows for a long right tail; the rule ``mixture``.

Contrastive losses of clean pairs are skewed. Where two Gaussians are fitted to one skewed group, the second one covers its
tail and clean pairs are called bad. Here clean pairs follow a Johnson S_U distribution (Johnson, Biometrika 36, 1949: any
skewness and heavy tails, always one mode) and bad pairs a normal distribution above it. The second component is kept only
where the data clearly need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from .notices import Notice, Reason
from .rules import Evidence, Judgement, ranking_rule

_POINTS = 1024  # groups of equal size whose means represent the data
_SAMPLED = 200_000  # values that are used: enough for a share of 0.3 %
_FEWEST = 100  # pairs that a mixture needs
_SHARE = (0.003, 0.6)  # of bad pairs
_SEPARATION = 2.6  # least Ashman's D minus share; one flat-topped group, cut in halves, reaches 2.1
_GAIN = 0.006  # minimum log-likelihood gain per pair for accepting a second component
_LOG_2PI = math.log(2 * math.pi)
_SINGLE_STARTS = [np.array([-0.5, 0.0, -1.0, 0.3]), np.array([0.0, 0.7, 0.0, 0.7])]
_Law = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class BadTail:
    """A fitted mixture of clean and bad pairs, or the finding that there is one group only.

    Attributes
    ----------
    share : float
        Estimated share of bad pairs; 0 where there is one group only.
    mean, sd : float
        Of the bad component, in the unit of the data; NaN without one.
    separation : float
        Ashman's D = √2 |mean₁ − mean₂| / √(sd₁² + sd₂²) of the fit with two components.
    gain : float
        Log-likelihood per pair that the second component adds, in nats.
    above : float
        P(bad) exceeds ½ above this value; NaN without a bad component.
    notice : Notice or None
        Why there is no bad component.
    """

    share: float
    mean: float
    sd: float
    separation: float
    gain: float
    above: float
    notice: Notice | None
    _grid: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(2))
    _posterior: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(2))

    def posterior(self, values: np.ndarray) -> np.ndarray:
        """P(bad | value) ∈ [0, 1], which rises with the value; shape as `values`."""
        if self.share == 0:
            return np.zeros(np.shape(values))
        # The grid is even, so a division finds the place: several times faster than a search for a million values.
        step = (self._grid[-1] - self._grid[0]) / (len(self._grid) - 1)
        place = np.clip((np.asarray(values, float) - self._grid[0]) / step, 0, len(self._grid) - 1)
        left = np.minimum(place.astype(np.int64), len(self._grid) - 2)
        return self._posterior[left] + (place - left) * np.diff(self._posterior)[left]


def fit_bad_tail(values: np.ndarray) -> BadTail:
    """Fit (1 − π) S_U + π N to losses and keep the second component only where the data clearly need it.

    It is kept if all of these hold: BIC prefers it by 3 or more to one S_U distribution; it adds at least 0.006 nats a pair
    (with many pairs BIC alone prefers a second component for any small misfit); Ashman's D ≥ 2.6 + its share (Ashman,
    Bird & Zepf, AJ 108, 1994: 2 is the least for two groups at all); the share is between 0.3 % and 60 %.

    Parameters
    ----------
    values : float array of shape (N,)
        Finite, in an order that does not depend on their size. More than 400,000 are thinned out evenly; more than 1024
        are represented by the means of 1024 groups of equal size.

    Returns
    -------
    BadTail

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.gamma(2.0, 0.3, 900)
    >>> fit_bad_tail(clean).share
    0.0
    >>> tail = fit_bad_tail(np.r_[clean, rng.normal(4.0, 0.3, 100)])
    >>> round(tail.share, 2), tail.posterior(np.array([0.5, 4.0])).round(3)
    (0.1, array([0.   , 0.995]))
    """
    values = np.asarray(values, float)
    n = len(values)
    if n < _FEWEST:
        return _one_group(Notice(Reason.TOO_FEW_FOR_MIXTURE, {"needed": _FEWEST, "n": n}))
    points, mass = _summary(np.sort(values[:: max(1, n // _SAMPLED)]))
    centre, unit = np.median(points), _robust_spread(points)
    if unit == 0:
        return _one_group(Notice(Reason.MOST_EQUAL_FOR_MIXTURE))
    x = (points - centre) / unit

    _, single_loss = _fit(_johnson, x, mass, _SINGLE_STARTS)
    best, best_loss = _fit(_mixture, x, mass, _double_starts(x))
    gain = single_loss - best_loss
    share, mean, sd = _bad_parameters(best)
    clean_mean, clean_sd = _clean_moments(x, mass, best)
    separation = math.sqrt(2) * (mean - clean_mean) / math.sqrt(sd**2 + clean_sd**2)
    notice = None
    if 2 * n * gain <= 3 * math.log(n) + 3 or gain < _GAIN:
        notice = Notice(Reason.ONE_GROUP)
    elif separation < _SEPARATION + share:
        notice = Notice(Reason.NOT_SEPARATE, {"separation": separation, "needed": _SEPARATION + share})
    elif not _SHARE[0] <= share <= _SHARE[1]:
        notice = Notice(Reason.UNLIKELY_SHARE, {"share": share})
    if notice:
        return _one_group(notice, separation, gain)
    grid = np.linspace(x[0], x[-1], 2048)
    posterior = _posterior(grid, best)
    # The raw posterior can fall again above the bad pairs (heavy clean tail) and rise below the clean ones (broad bad
    # component). A higher loss must never be less suspicious, and values below the clean centre are not bad.
    posterior[grid < clean_mean] = 0.0
    posterior = np.maximum.accumulate(posterior)
    above = grid[min(int(np.searchsorted(posterior, 0.5, side="right")), len(grid) - 1)]
    return BadTail(
        share=share,
        mean=float(centre + unit * mean),
        sd=float(unit * sd),
        separation=separation,
        gain=gain,
        above=float(centre + unit * above),
        notice=None,
        _grid=centre + unit * grid,
        _posterior=posterior,
    )


def _one_group(notice: Notice, separation: float = math.nan, gain: float = 0.0) -> BadTail:
    return BadTail(0.0, math.nan, math.nan, separation, gain, math.nan, notice)


@ranking_rule("mixture", title="Mixture", limits=("noisy_sd",), ranks_loss=True, gives_posterior=True)
def mixture(evidence: Evidence) -> Judgement:
    """Faulty: more likely in the higher component than in the lower. Noisy: below the limit."""
    seen = ~np.isnan(evidence.value)
    tail = fit_bad_tail(evidence.value[seen])
    posterior = np.full(len(evidence.value), np.nan)
    posterior[seen] = tail.posterior(evidence.value[seen])
    noisy = evidence.value < evidence.noisy_below
    return Judgement(evidence.z, posterior > 0.5, noisy, posterior, tail.above, evidence.noisy_below, tail.notice)


def _summary(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(ordered) <= _POINTS:
        return ordered, np.full(len(ordered), 1 / len(ordered))
    edges = np.linspace(0, len(ordered), _POINTS + 1).astype(int)
    sizes = np.diff(edges)
    return np.add.reduceat(ordered, edges[:-1]) / sizes, sizes / len(ordered)


def _robust_spread(points: np.ndarray) -> float:
    low, high = np.quantile(points, [0.16, 0.84])
    return float(high - low) / 2


# Log-densities with their derivatives by the parameters (rows). Parameters have no constraints: S_U is
# x = ξ + λ sinh((z − γ)/δ), z standard normal, p = (ξ, log λ, γ, log δ); the mixture adds (logit of share, mean, log sd).


def _johnson(x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width, tail = math.exp(p[1]), math.exp(p[3])
    y = (x - p[0]) / width
    bent = np.arcsinh(y)
    z = p[2] + tail * bent
    square = 1 + y * y
    value = p[3] - p[1] - 0.5 * (_LOG_2PI + np.log(square) + z * z)
    by_y = -y / square - z * tail / np.sqrt(square)
    return value, np.stack([-by_y / width, -1 - y * by_y, -z, 1 - z * tail * bent])


def _mixture(x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share, mean, sd = _bad_parameters(p)
    clean, by_clean = _johnson(x, p)
    z = (x - mean) / sd
    clean = clean + math.log1p(-share)
    bad = math.log(share) - p[6] - 0.5 * (_LOG_2PI + z * z)
    value = np.logaddexp(clean, bad)
    is_bad = np.exp(bad - value)
    return value, np.vstack([by_clean * (1 - is_bad), is_bad - share, is_bad * z / sd, is_bad * (z * z - 1)])


def _bad_parameters(p: np.ndarray) -> tuple[float, float, float]:
    return 1 / (1 + math.exp(-p[4])), float(p[5]), math.exp(p[6])


def _fit(law: _Law, x: np.ndarray, mass: np.ndarray, starts: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Largest mean log-likelihood within wide bounds; returns parameters and minus that mean."""
    best, best_loss = starts[0], math.inf
    low = np.array([-20.0, -4.0, -20.0, -1.5, -6.0, -1.0, -2.0])[: len(starts[0])]
    high = np.array([20.0, 4.0, 20.0, 4.0, 0.7, float(x[-1]) + 1e-6, 2.0])[: len(starts[0])]

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = law(x, p)
        return -float(mass @ value), -(slope @ mass)

    for start in starts:
        found = minimize(
            loss,
            np.clip(start, low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": 150, "ftol": 1e-9},
        )
        if found.fun < best_loss:
            best, best_loss = found.x, float(found.fun)
    return best, best_loss


def _double_starts(x: np.ndarray) -> list[np.ndarray]:
    starts = []
    for top in (0.02, 0.1, 0.25):
        tail = x >= np.quantile(x, 1 - top)
        mean, sd = float(x[tail].mean()), max(float(x[tail].std()), 0.2)
        starts.append(np.array([-0.3, 0.2, -0.5, 0.5, math.log(top / (1 - top)), mean, math.log(sd)]))
    return starts


def _clean_moments(x: np.ndarray, mass: np.ndarray, p: np.ndarray) -> tuple[float, float]:
    weight = mass * (1 - _posterior(x, p))
    weight = weight / weight.sum()
    centre = float(weight @ x)
    return centre, math.sqrt(max(float(weight @ (x - centre) ** 2), 1e-12))


def _posterior(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    share, mean, sd = _bad_parameters(p)
    bad = math.log(share) - p[6] - 0.5 * (_LOG_2PI + ((x - mean) / sd) ** 2)
    clean = math.log1p(-share) + _johnson(x, p)[0]
    return 1 / (1 + np.exp(np.clip(clean - bad, -500, 500)))
