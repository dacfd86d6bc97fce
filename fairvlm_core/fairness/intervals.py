"""Confidence intervals that have their nominal coverage also in small groups (benchmarks/fairness_coverage.py checks it).

AUC: normal on the logit scale with the bootstrap's standard error; where a group has fewer than 20 patients of a class, or
everyone is ranked right, a score interval. Rates: Wilson, with the effective sample size of clustered rows. Metrics that
compare groups (ES-AUC, gaps): normal with the bootstrap's standard error, for groups of these sizes.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, ndtri

from .results import Interval

# With fewer patients of the rarer class, bootstrap resamples have too few distinct values for a good standard error
# (simulated: 66 to 90 % coverage instead of 95 %).
SMALL_CLASS = 20
_GRID = 2001


def auc_interval(auc: float, n_positive: float, n_negative: float, draws: np.ndarray, confidence: float) -> Interval:
    """Interval of one AUC from its bootstrap draws and the number of patients of each class."""
    sd = spread(draws)
    if min(n_positive, n_negative) < SMALL_CLASS or not sd > 0 or auc in (0.0, 1.0):
        return auc_score_interval(auc, n_positive, n_negative, confidence)
    reach = z_of(confidence) * sd / (auc * (1 - auc))
    low, high = expit(logit(auc) + np.array([-reach, reach]))
    return Interval(float(low), float(high), confidence, "bootstrap, logit")


def auc_score_interval(auc: float, n_positive: float, n_negative: float, confidence: float = 0.95) -> Interval:
    r"""All AUC values θ that the observed one does not contradict: |observed - θ| <= z·sqrt(V(θ)).

    .. math:: V(\theta) = \frac{\theta(1-\theta)}{n_+ n_-}
        \Big[1 + N\big(\tfrac{1-\theta}{2-\theta} + \tfrac{\theta}{1+\theta}\big)\Big], \quad N = \tfrac{n_+ + n_-}{2} - 1

    It needs no resampling, its width is never zero, and it stays within [0, 1].

    Parameters
    ----------
    auc : float in [0, 1]
    n_positive, n_negative : at least 1; rows, or patients where rows are clustered
    confidence : float

    Returns
    -------
    Interval

    References
    ----------
    Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5; after Hanley & McNeil 1982.

    Examples
    --------
    >>> str(auc_score_interval(1.0, 10, 10))
    '0.800 to 1.000'
    """
    theta = np.linspace(0, 1, _GRID)
    n = (n_positive + n_negative) / 2 - 1
    variance = (
        theta * (1 - theta) * (1 + n * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (n_positive * n_negative)
    )
    # Negative inside the interval; its two zeros, interpolated between grid points, are the bounds.
    excess = np.abs(auc - theta) - z_of(confidence) * np.sqrt(variance)
    inside = np.flatnonzero(excess <= 0)
    first, last = inside[0], inside[-1]
    low = theta[first] if first == 0 else _zero(theta, excess, first - 1)
    high = theta[last] if last == _GRID - 1 else _zero(theta, excess, last)
    # At observed 0 or 1 the end of the scale is itself the bound.
    return Interval(float(min(low, auc)), float(max(high, auc)), confidence, "score")


def _zero(theta: np.ndarray, excess: np.ndarray, i: int) -> float:
    return float(theta[i] + (theta[i + 1] - theta[i]) * excess[i] / (excess[i] - excess[i + 1]))


def rate_interval(hits: np.ndarray, patient: np.ndarray | None, confidence: float) -> Interval | None:
    """Wilson's interval of a share of rows; None for fewer than two rows or patients.

    With several rows a patient, n is divided by the design effect: the variance of the patients' sums over what independent
    rows would have (Rao & Scott, Biometrics 48 (1992) 577-585).

    >>> str(rate_interval(np.array([True] * 8 + [False] * 2), None, 0.95))
    '0.490 to 0.943'
    """
    n = len(hits)
    if n < 2:
        return None
    p = float(np.mean(hits))
    worth = float(n)
    if patient is not None:
        _, code, rows = np.unique(patient, return_inverse=True, return_counts=True)
        if len(rows) < 2:
            return None
        if len(rows) < n:
            worth = float(len(rows))
            if 0 < p < 1:
                sums = np.bincount(code, weights=hits - p)
                clustered = float((sums**2).sum()) / n**2 * len(rows) / (len(rows) - 1)
                worth = float(np.clip(p * (1 - p) / max(clustered, 1e-12), 1.0, n))
    low, high = wilson(p, worth, confidence)
    return Interval(float(low), float(high), confidence, "Wilson")


def wilson(rate: np.ndarray | float, n: np.ndarray | float, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of rates out of n (Journal of the American Statistical Association 22 (1927) 209-212).

    NaN where n is 0.

    >>> low, high = wilson(np.array([0.0, 0.8]), np.array([10, 10]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.49], [0.278, 0.943])
    """
    n = np.where(np.asarray(n, float) > 0, n, np.nan)
    z = z_of(confidence)
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1)


def normal_interval(
    value: float, draws: np.ndarray, confidence: float, low: float = 0.0, high: float = 1.0
) -> Interval | None:
    """value ± z·(standard deviation of the draws), cut to [low, high]; None where there are no draws."""
    sd = spread(draws)
    if not np.isfinite(sd):
        return None
    reach = z_of(confidence) * sd
    return Interval(float(max(low, value - reach)), float(min(high, value + reach)), confidence, "bootstrap, normal")


def es_large_sample_interval(
    overall: float, groups: np.ndarray, overall_draws: np.ndarray, group_draws: np.ndarray, confidence: float
) -> Interval | None:
    r"""Range of ES-AUC for groups of unlimited size; conservative.

    ES-AUC measured in small groups is too low on average, by an amount that depends on the unknown true gaps. The interval
    goes from the smallest to the largest ES-AUC in a simultaneous region for the overall AUC and all differences
    AUC_g - AUC (largest standardised deviation over the bootstrap).

    Parameters
    ----------
    overall, groups : float and float64 ndarray of shape (n_groups,)
    overall_draws, group_draws : float64 ndarray of shape (R,) and (n_groups, R)
    """
    difference = groups - overall
    deviation = np.vstack([overall_draws - overall, group_draws - overall_draws - difference[:, None]])
    deviation = deviation[:, ~np.isnan(deviation).any(axis=0)]
    if deviation.shape[1] < 2:
        return None
    sd = deviation.std(axis=1, ddof=1)
    standardised = np.divide(np.abs(deviation), sd[:, None], out=np.zeros_like(deviation), where=sd[:, None] > 0)
    reach = float(np.quantile(standardised.max(axis=0), confidence)) * sd
    smallest = np.maximum(np.abs(difference) - reach[1:], 0).sum()
    largest = np.minimum(np.abs(difference) + reach[1:], 1).sum()
    low, high = max(0.0, overall - reach[0]), min(1.0, overall + reach[0])
    return Interval(float(low / (1 + largest)), float(high / (1 + smallest)), confidence, "simultaneous, large sample")


def z_of(confidence: float) -> float:
    """Half-width of a two-sided normal interval in standard errors; 1.96 for 0.95."""
    return float(-ndtri((1 - confidence) / 2))


def spread(draws: np.ndarray) -> float:
    """Standard deviation of the draws that exist; NaN for fewer than two."""
    draws = draws[~np.isnan(draws)]
    return float(draws.std(ddof=1)) if len(draws) > 1 else float("nan")


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6 (1979) 65-70); NaN stays NaN and is not counted.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, np.float64)
    out = np.full(p_values.shape, np.nan)
    there = np.flatnonzero(~np.isnan(p_values))
    order = there[np.argsort(p_values[there], kind="stable")]
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out
