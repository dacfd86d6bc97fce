"""Two models on the same patients: is the difference more than chance? For one run each, and across seeds.

A difference is always B minus A. Both models see the same bootstrap resamples, so what they share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from ..errors import InputError
from .delong import delong_of
from .figures import Undefined
from .intervals import holm, spread, z_of
from .results import Figure, Interval
from .sample import COMPARES, NEVER_VARIES, NOTHING, Cell, Sample, prepare

_LOWER_IS_BETTER = frozenset({"false_positive_rate", "calibration_error", "auc_spread"})
_NO_DIRECTION = frozenset({"selection_rate"})


@dataclass(frozen=True)
class PairedDifference:
    """One figure of two models on the same patients; across seeds, of two sets of runs.

    Attributes
    ----------
    metric : str
    attribute, group : str or None
        Whose figure it is; both None for everyone's.
    n, n_positive : int
        Rows it is computed on.
    a, b : float or Undefined
        Values of the two models (means over seeds).
    difference : float or Undefined
        b - a.
    interval : Interval or None
        None where the difference is undefined, or there is no honest interval: then `no_interval` says why.
    p_value, p_holm : float or None
        Two-sided; after Holm's correction over attributes (None for a figure that is not an attribute's).
    method : str
        How interval and p were made.
    n_seeds : int
        1 for a single run each.
    sd_a, sd_b, sd_difference : float or None
        Standard deviations over seeds.
    seeds_interval : Interval or None
        Paired t over seeds alone: what other seeds would give on these very patients.
    no_interval : str or None
        Why a difference that exists has no interval: fewer than 8 patients of a class that the figure of a group rests
        on, or no resample of the patients changes it (as where both models rank a small group perfectly).
    """

    metric: str
    attribute: str | None
    group: str | None
    n: int
    n_positive: int
    a: Figure
    b: Figure
    difference: Figure
    interval: Interval | None
    p_value: float | None
    method: str
    p_holm: float | None = None
    n_seeds: int = 1
    sd_a: float | None = None
    sd_b: float | None = None
    sd_difference: float | None = None
    seeds_interval: Interval | None = None
    no_interval: str | None = None

    @property
    def n_negative(self) -> int:
        return self.n - self.n_positive

    @property
    def reliable(self) -> bool:
        """Whether p, corrected where there is a correction, is below one minus the confidence."""
        p_value = self.p_value if self.p_holm is None else self.p_holm
        return self.interval is not None and p_value is not None and p_value < 1 - self.interval.confidence

    @property
    def verdict(self) -> str:
        """The result in words, with differences in percentage points."""
        if isinstance(self.difference, Undefined):
            return f"no comparison: {self.difference}"
        runs = f"{self.n_seeds} seeds" if self.n_seeds > 1 else f"n = {self.n}"
        if self.interval is None:
            return f"no interval: {_points(self.difference)} points, {runs} ({self.no_interval})"
        reach = f"{_points(self.interval.low)} to {_points(self.interval.high)} points, {runs}"
        if not self.reliable:
            return f"no reliable difference: {reach}"
        if self.metric in _NO_DIRECTION:
            return f"B is {'higher' if self.difference > 0 else 'lower'}: {reach}"
        small_is_good = self.metric in _LOWER_IS_BETTER or self.metric.endswith(("_gap", "_difference"))
        better = (self.difference < 0) == small_is_good
        return f"B is {'better' if better else 'worse'}: {reach}"

    def to_dict(self) -> dict[str, Any]:
        plain = {
            name: getattr(self, name) for name in ("metric", "attribute", "group", "n", "n_positive", "n_negative")
        }
        values = {name: getattr(self, name) for name in ("a", "b", "difference")}
        reasons = {name: value.reason for name, value in values.items() if isinstance(value, Undefined)}
        if self.no_interval is not None:
            reasons["interval"] = self.no_interval
        plain |= {name: None if name in reasons else value for name, value in values.items()}
        for name in ("interval", "seeds_interval"):
            interval = getattr(self, name)
            plain[name] = None if interval is None else interval.to_dict()
        for name in ("p_value", "p_holm", "method", "n_seeds", "sd_a", "sd_b", "sd_difference", "reliable", "verdict"):
            plain[name] = getattr(self, name)
        return plain | {"undefined": reasons}


@dataclass(frozen=True)
class PairedComparison:
    """All differences of one metric.

    Attributes
    ----------
    metric : str
    overall : PairedDifference
        The metric over everyone; for a metric that compares groups, the figure it is made of (AUC for ES-AUC).
    attributes : mapping of attribute to PairedDifference
        Filled for a metric that compares groups.
    groups : mapping of attribute to mapping of group to PairedDifference
        The figure of `overall` in each group.
    n_seeds : int
    """

    metric: str
    overall: PairedDifference
    attributes: Mapping[str, PairedDifference]
    groups: Mapping[str, Mapping[str, PairedDifference]]
    n_seeds: int

    def __getitem__(self, attribute: str) -> PairedDifference:
        if attribute not in self.attributes:
            there = ", ".join(self.attributes) or "none"
            raise InputError(f"attribute: no difference of {self.metric} for {attribute!r}; there are {there}")
        return self.attributes[attribute]

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "n_seeds": self.n_seeds,
            "correction": "Holm over attributes",
            "overall": self.overall.to_dict(),
            "attributes": {name: d.to_dict() for name, d in self.attributes.items()},
            "groups": {a: {g: d.to_dict() for g, d in groups.items()} for a, groups in self.groups.items()},
        }


def compare_paired(
    label: Any,
    score_a: Any,
    score_b: Any,
    attributes: Mapping[str, Any],
    *,
    metric: str = "es_auc",
    patients: Any = None,
    threshold: float | None = 0.5,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    exclude: Mapping[str, Sequence[str]] | None = None,
) -> PairedComparison:
    """Difference of a metric between two models that scored the same rows.

    AUC, overall and by group: DeLong's test (clustered by patient where `patients` are given). Everything else: the
    difference ± z times its bootstrap standard deviation, patients resampled within label, the same resamples for both.
    For ES figures and gaps the interval speaks of groups of these sizes; docs/fairness.md says why. A group with fewer than
    eight patients of a class that its figure rests on gets its difference and the reason instead of an interval.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score_a, score_b : array-like of shape (n,)
    attributes : mapping of name to array-like of shape (n,)
    metric : str
        A group figure ("auc", "accuracy", "true_positive_rate", ...) or one that compares groups ("es_auc", "auc_gap",
        "equalized_odds_difference", ...).
    patients, threshold, n_resamples, confidence, seed, exclude
        As in :meth:`FairnessReport.from_predictions`; n_resamples must be at least 2.

    Returns
    -------
    PairedComparison

    Raises
    ------
    InputError
        Bad input as in the report, or an unknown metric.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 2, 400)
    >>> a, b = (1 / (1 + np.exp(-(label * size + rng.normal(size=400)))) for size in (0.5, 2.0))
    >>> result = compare_paired(label, a, b, {"sex": rng.choice(["F", "M"], 400)}, metric="es_auc", n_resamples=500)
    >>> result["sex"].reliable, result.overall.metric, result.overall.method
    (True, 'auc', 'DeLong')
    """
    sample = prepare(
        label, [score_a, score_b], ["score_a", "score_b"], attributes, metric, patients, threshold, n_resamples,
        confidence, seed, exclude,
    )  # fmt: skip
    return _compare(sample, metric, 1)


def compare_seeds(
    label: Any,
    scores_a: Sequence[Any],
    scores_b: Sequence[Any],
    attributes: Mapping[str, Any],
    *,
    metric: str = "es_auc",
    patients: Any = None,
    threshold: float | None = 0.5,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    exclude: Mapping[str, Sequence[str]] | None = None,
) -> PairedComparison:
    r"""Difference of a metric between two methods, each trained with the same k seeds and scored on the same rows.

    Another seed and other patients would both have given another difference, so both count:

    .. math:: \bar d \pm t_{\nu} \sqrt{s^2/k + \hat\sigma^2_{\text{patients}}}

    with s the standard deviation of the k differences, σ² the bootstrap variance of their mean over patients, and ν by
    Welch and Satterthwaite from k - 1 and the number of patients less one. What a patient does under one seed only is in
    both terms: the interval errs to the wide side. `seeds_interval` is the paired t over seeds alone, for these patients.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    scores_a, scores_b : sequences of k >= 2 array-likes of shape (n,)
        Place i of both is the same seed.
    attributes, metric, patients, threshold, n_resamples, confidence, seed, exclude
        As in :func:`compare_paired`.

    Returns
    -------
    PairedComparison

    Raises
    ------
    InputError
        As in :func:`compare_paired`; fewer than two seeds, or not as many in B as in A.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> label = rng.integers(0, 2, 300)
    >>> runs = [1 / (1 + np.exp(-(label + rng.normal(size=300)))) for _ in range(6)]
    >>> result = compare_seeds(label, runs[:3], runs[3:], {"sex": rng.choice(["F", "M"], 300)}, n_resamples=200)
    >>> result["sex"].verdict.startswith("no reliable difference"), result["sex"].n_seeds
    (True, 3)
    """
    scores_a, scores_b = list(scores_a), list(scores_b)
    if len(scores_a) < 2 or len(scores_a) != len(scores_b):
        raise InputError(
            f"scores_a, scores_b: {len(scores_a)} and {len(scores_b)} runs; at least two seeds are needed, as many in B "
            "as in A (compare_paired compares single runs)"
        )
    names = [f"scores_{which}[{i}]" for which in "ab" for i in range(len(scores_a))]
    sample = prepare(
        label, [*scores_a, *scores_b], names, attributes, metric, patients, threshold, n_resamples, confidence, seed,
        exclude,
    )  # fmt: skip
    return _compare(sample, metric, len(scores_a))


def _compare(sample: Sample, metric: str, k: int) -> PairedComparison:
    def difference(place: int, group: int | None, figure: str) -> PairedDifference:
        return _difference(sample.of(place, group, figure), sample.scores, k, sample.confidence)

    base, groupings = sample.base, sample.groupings
    by_attribute = {}
    if metric in COMPARES:
        found = {g.name: difference(place, None, metric) for place, g in enumerate(groupings) if place}
        by_attribute = _with_holm(found)
    by_group = {
        grouping.name: {group: difference(place, g, base) for g, group in enumerate(grouping.names)}
        for place, grouping in enumerate(groupings)
        if place
    }
    return PairedComparison(metric, difference(0, 0, base), by_attribute, by_group, k)


def _difference(cell: Cell, scores: list[np.ndarray], k: int, confidence: float) -> PairedDifference:
    place = cell.place | {"n_seeds": k}
    nothing = {"interval": None, "p_value": None, "method": "none"}
    reason = cell.undefined()
    if reason is not None:
        return PairedDifference(**place, a=reason, b=reason, difference=reason, **nothing)
    a, b = cell.values[:k], cell.values[k:]
    change = b - a
    mean = float(change.mean())
    place |= {"a": float(a.mean()), "b": float(b.mean()), "difference": mean}
    sd = None
    if k > 1:
        sd = float(change.std(ddof=1))
        place |= {"sd_a": float(a.std(ddof=1)), "sd_b": float(b.std(ddof=1)), "sd_difference": sd}
    too_few = cell.too_few()
    if too_few is not None:
        return PairedDifference(**place, **nothing, no_interval=too_few)
    method = "DeLong" if k == 1 and place["metric"] == "auc" else "paired bootstrap, normal"
    if method == "DeLong":
        error = delong_of(cell.label, np.stack([score[cell.rows] for score in scores]), cell.patient).difference()[1]
    else:
        error = spread(np.mean(cell.draws[k:], axis=0) - np.mean(cell.draws[:k], axis=0))
    if not np.isfinite(error):
        return PairedDifference(**place, **nothing, no_interval="too few resamples have a value")
    # One model differs from itself by 0 for certain. Two that both stand at an end of the scale (a small group's AUC is 1
    # in every run) have a difference that these patients cannot tell, although it never varies.
    if error < NOTHING and spread(np.mean(cell.draws[:k], axis=0)) < NOTHING:
        same = all(np.array_equal(x[cell.rows], y[cell.rows]) for x, y in zip(scores[:k], scores[k:], strict=True))
        if not same:
            return PairedDifference(**place, **nothing, no_interval=NEVER_VARIES)
    if k == 1:
        p_value = _p(mean, error, np.inf)
        interval = _interval(mean, error * z_of(confidence), confidence, method)
        return PairedDifference(**place, interval=interval, p_value=p_value, method=method)
    of_seeds = sd**2 / k
    both, df = seeds_and_patients(of_seeds, error**2, k, cell.n_patients)
    method = "seeds and patients, Welch t"
    return PairedDifference(
        **place,
        interval=_interval(mean, -stdtrit(df, (1 - confidence) / 2) * np.sqrt(both), confidence, method),
        p_value=_p(mean, np.sqrt(both), df),
        method=method,
        seeds_interval=_interval(
            mean, -stdtrit(k - 1, (1 - confidence) / 2) * np.sqrt(of_seeds), confidence, "seeds, paired t"
        ),
    )


def seeds_and_patients(of_seeds: float, of_patients: float, k: int, n_patients: int) -> tuple[float, float]:
    """Sum of two independent variances and its degrees of freedom after Welch and Satterthwaite.

    >>> seeds_and_patients(0.5, 0.5, 5, 5)
    (1.0, 8.0)
    """
    both = of_seeds + of_patients
    pieces = of_seeds**2 / (k - 1) + of_patients**2 / (n_patients - 1)
    return both, both**2 / pieces if pieces > 0 else float(k - 1)


def _interval(centre: float, reach: float, confidence: float, method: str) -> Interval:
    return Interval(float(centre - reach), float(centre + reach), confidence, method)


def _p(difference: float, error: float, df: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * (ndtr(-abs(difference) / error) if np.isinf(df) else stdtr(df, -abs(difference) / error)))


def _with_holm(found: dict[str, PairedDifference]) -> dict[str, PairedDifference]:
    raw = np.array([np.nan if d.p_value is None else d.p_value for d in found.values()])
    return {
        name: replace(d, p_holm=None if np.isnan(p) else float(p))
        for (name, d), p in zip(found.items(), holm(raw), strict=True)
    }


def _points(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")
