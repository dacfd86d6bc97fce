"""One method trained with several seeds: the mean of a figure, for other seeds and other patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ..errors import InputError
from .figures import Undefined
from .intervals import spread
from .paired import seeds_and_patients
from .results import Figure, Interval
from .sample import COMPARES, NEVER_VARIES, NOTHING, Cell, prepare

# The one figure that is a sum of distances and may pass 1.
_UNBOUNDED = frozenset({"auc_spread"})


@dataclass(frozen=True)
class SeedMean:
    """The mean of one figure over runs that differ by the seed.

    Attributes
    ----------
    metric : str
    attribute, group : str or None
        Whose figure it is; both None for everyone's.
    n, n_positive : int
        Rows it is computed on.
    n_seeds : int
    mean : float or Undefined
    sd : float or None
        Standard deviation over seeds; None where the mean is undefined.
    interval : Interval or None
        For other seeds and other patients, cut to the figure's range.
    no_interval : str or None
        Why a mean that exists has no interval, as in :class:`PairedDifference`.
    """

    metric: str
    attribute: str | None
    group: str | None
    n: int
    n_positive: int
    n_seeds: int
    mean: Figure
    sd: float | None = None
    interval: Interval | None = None
    no_interval: str | None = None

    def to_dict(self) -> dict[str, Any]:
        names = ("metric", "attribute", "group", "n", "n_positive", "n_seeds")
        reasons = {} if self.no_interval is None else {"interval": self.no_interval}
        if isinstance(self.mean, Undefined):
            reasons["mean"] = self.mean.reason
        return {name: getattr(self, name) for name in names} | {
            "mean": None if "mean" in reasons else self.mean,
            "sd": self.sd,
            "interval": None if self.interval is None else self.interval.to_dict(),
            "undefined": reasons,
        }


@dataclass(frozen=True)
class SeedMeans:
    """Means of one metric over seeds, arranged as in :class:`PairedComparison`.

    Attributes
    ----------
    metric : str
    overall : SeedMean
        The metric over everyone; for a metric that compares groups, the figure it is made of (AUC for ES-AUC).
    attributes : mapping of attribute to SeedMean
        Filled for a metric that compares groups.
    groups : mapping of attribute to mapping of group to SeedMean
    """

    metric: str
    overall: SeedMean
    attributes: Mapping[str, SeedMean]
    groups: Mapping[str, Mapping[str, SeedMean]]

    def __getitem__(self, attribute: str) -> SeedMean:
        if attribute not in self.attributes:
            there = ", ".join(self.attributes) or "none"
            raise InputError(f"attribute: no mean of {self.metric} for {attribute!r}; there are {there}")
        return self.attributes[attribute]

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "overall": self.overall.to_dict(),
            "attributes": {name: mean.to_dict() for name, mean in self.attributes.items()},
            "groups": {a: {g: mean.to_dict() for g, mean in groups.items()} for a, groups in self.groups.items()},
        }


def mean_over_seeds(
    label: Any,
    scores: Sequence[Any],
    attributes: Mapping[str, Any],
    *,
    metric: str = "es_auc",
    patients: Any = None,
    threshold: float | None = 0.5,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    exclude: Mapping[str, Sequence[str]] | None = None,
) -> SeedMeans:
    r"""Mean of a metric over k runs of one method on the same rows, with an interval for other seeds and other patients.

    The counterpart of :func:`compare_seeds` for one method:

    .. math:: \bar m \pm t_{\nu} \sqrt{s^2/k + \hat\sigma^2_{\text{patients}}}

    with s the standard deviation of the k values, σ² the bootstrap variance of their mean over patients, and ν by Welch and
    Satterthwaite. Two such intervals that overlap say nothing about a difference: the methods share their patients, and
    :func:`compare_seeds` uses that.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    scores : sequence of k >= 2 array-likes of shape (n,)
    attributes, metric, patients, threshold, n_resamples, confidence, seed, exclude
        As in :func:`compare_paired`.

    Returns
    -------
    SeedMeans

    Raises
    ------
    InputError
        As in :func:`compare_paired`; fewer than two runs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 2, 300)
    >>> runs = [1 / (1 + np.exp(-(label + rng.normal(size=300)))) for _ in range(3)]
    >>> means = mean_over_seeds(label, runs, {"sex": rng.choice(["F", "M"], 300)}, n_resamples=200)
    >>> means.overall.metric, means["sex"].interval.low < means["sex"].mean < means["sex"].interval.high
    ('auc', True)
    """
    scores = list(scores)
    k = len(scores)
    if k < 2:
        raise InputError(f"scores: {k} runs; at least two seeds are needed (FairnessReport speaks of a single run)")
    names = [f"scores[{i}]" for i in range(k)]
    sample = prepare(
        label, scores, names, attributes, metric, patients, threshold, n_resamples, confidence, seed, exclude
    )

    def mean(place: int, group: int | None, figure: str) -> SeedMean:
        return _mean(sample.of(place, group, figure), k, confidence)

    groupings = sample.groupings[1:]
    by_attribute = {}
    if metric in COMPARES:
        by_attribute = {g.name: mean(place, None, metric) for place, g in enumerate(groupings, 1)}
    by_group = {
        grouping.name: {group: mean(place, g, sample.base) for g, group in enumerate(grouping.names)}
        for place, grouping in enumerate(groupings, 1)
    }
    return SeedMeans(metric, mean(0, 0, sample.base), by_attribute, by_group)


def _mean(cell: Cell, k: int, confidence: float) -> SeedMean:
    place = cell.place | {"n_seeds": k}
    reason = cell.undefined()
    if reason is not None:
        return SeedMean(**place, mean=reason)
    mean, sd = float(cell.values.mean()), float(cell.values.std(ddof=1))
    place |= {"mean": mean, "sd": sd}
    too_few = cell.too_few()
    if too_few is not None:
        return SeedMean(**place, no_interval=too_few)
    error = spread(np.mean(cell.draws, axis=0))
    if not np.isfinite(error):
        return SeedMean(**place, no_interval="too few resamples have a value")
    if error < NOTHING:
        return SeedMean(**place, no_interval=NEVER_VARIES)
    both, df = seeds_and_patients(sd**2 / k, error**2, k, cell.n_patients)
    reach = -stdtrit(df, (1 - confidence) / 2) * np.sqrt(both)
    top = np.inf if place["metric"] in _UNBOUNDED else 1.0
    low, high = max(mean - reach, 0.0), min(mean + reach, top)
    return SeedMean(**place, interval=Interval(float(low), float(high), confidence, "seeds and patients, Welch t"))
