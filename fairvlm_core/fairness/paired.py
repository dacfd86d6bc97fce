"""Models on the same patients: the mean of a metric over seeds, and the difference between two methods.

A difference is always B minus A. Both use the same bootstrap resamples of the patients, so what they share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from ..errors import InputError
from .assemble import chance_level
from .definitions import METRICS
from .delong import delong_of
from .intervals import holm, spread, z_of
from .metrics import Undefined
from .outcomes import Outcome, difference_words
from .resample import shuffle
from .results import Chance, Interval, Value
from .sample import FEW_RESAMPLES, NEVER_VARIES, ROUNDING, Cell, Sample, prepare

SEEDS_AND_PATIENTS = "seeds and patients, Welch t"


@dataclass(frozen=True)
class PairedDifference:
    """One metric of two models on the same patients; across seeds, of two sets of runs.

    Attributes
    ----------
    metric : str
    attribute, group : str or None
        Both None for everyone; group None for a metric that compares groups.
    n, n_positive : int
        Rows it is computed on.
    a, b : float or Undefined
        Values of the two models (means over seeds).
    difference : float or Undefined
        b - a.
    interval : Interval or None
        None where the difference is undefined, or where no valid interval exists: `no_interval` gives the reason.
    p_value, p_holm : float or None
        Two-sided; after Holm's correction over attributes (None for a metric that does not compare groups).
    method : str
        How interval and p were computed.
    n_seeds : int
        1 for a single run each.
    sd_a, sd_b, sd_difference : float or None
        Standard deviations over seeds.
    seeds_interval : Interval or None
        Paired t over seeds alone: what other seeds would give on the same patients.
    no_interval : str or None
        Why an existing difference has no interval: fewer than 8 patients of a class that the metric needs, or no resample
        of the patients changes it (as where both models rank a small group perfectly).
    """

    metric: str
    attribute: str | None
    group: str | None
    n: int
    n_positive: int
    a: Value
    b: Value
    difference: Value
    interval: Interval | None = None
    p_value: float | None = None
    method: str = "none"
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
    def p(self) -> float | None:
        """The corrected p-value where there is a correction, else the plain one."""
        return self.p_value if self.p_holm is None else self.p_holm

    @property
    def reliable(self) -> bool:
        """Whether `p` is below one minus the confidence."""
        return self.interval is not None and self.p is not None and self.p < 1 - self.interval.confidence

    @property
    def outcome(self) -> Outcome:
        if isinstance(self.difference, Undefined):
            return Outcome.UNDEFINED
        if self.interval is None:
            return Outcome.NO_INTERVAL
        if not self.reliable:
            return Outcome.NO_RELIABLE_DIFFERENCE
        rises, better = self.difference > 0, METRICS[self.metric].better
        if better is None:
            return Outcome.HIGHER if rises else Outcome.LOWER
        return Outcome.BETTER if rises == (better == "higher") else Outcome.WORSE

    @property
    def verdict(self) -> str:
        """The outcome in words, with the interval in percentage points."""
        return difference_words(self)

    def to_dict(self) -> dict[str, Any]:
        names = ("metric", "attribute", "group", "n", "n_positive", "n_negative")
        plain = {name: getattr(self, name) for name in names} | _plain_values(self, ("a", "b", "difference"))
        for name in ("interval", "seeds_interval"):
            interval = getattr(self, name)
            plain[name] = None if interval is None else interval.to_dict()
        for name in ("p_value", "p_holm", "method", "n_seeds", "sd_a", "sd_b", "sd_difference", "reliable", "verdict"):
            plain[name] = getattr(self, name)
        return plain | {"outcome": self.outcome.value}


@dataclass(frozen=True)
class SeedMean:
    """The mean of one metric over runs that differ only by the seed.

    Attributes
    ----------
    metric : str
    attribute, group : str or None
        Both None for everyone; group None for a metric that compares groups.
    n, n_positive : int
        Rows it is computed on.
    n_seeds : int
    mean : float or Undefined
    sd : float or None
        Standard deviation over seeds; None where the mean is undefined.
    interval : Interval or None
        For other seeds and other patients, cut to the metric's range.
    no_interval : str or None
        Why an existing mean has no interval, as in :class:`PairedDifference`.
    chance : Chance or None
        The mean if groups did not matter: every run under the same shuffles of the groups.
    """

    metric: str
    attribute: str | None
    group: str | None
    n: int
    n_positive: int
    n_seeds: int
    mean: Value
    sd: float | None = None
    interval: Interval | None = None
    no_interval: str | None = None
    chance: Chance | None = None

    def to_dict(self) -> dict[str, Any]:
        names = ("metric", "attribute", "group", "n", "n_positive", "n_seeds", "sd")
        return {name: getattr(self, name) for name in names} | {
            **_plain_values(self, ("mean",)),
            "interval": None if self.interval is None else self.interval.to_dict(),
            "chance": None if self.chance is None else self.chance.to_dict(),
        }


Cells = TypeVar("Cells", PairedDifference, SeedMean)


@dataclass(frozen=True)
class _Arranged(Generic[Cells]):
    """Results of one metric.

    Attributes
    ----------
    metric : str
    overall
        The metric over everyone; for a metric that compares groups, its base metric (ES-AUC: AUC).
    attributes : mapping of attribute to result
        Filled for a metric that compares groups.
    groups : mapping of attribute to mapping of group to result
        The metric of `overall` in each group.
    n_seeds : int
    """

    metric: str
    overall: Cells
    attributes: Mapping[str, Cells]
    groups: Mapping[str, Mapping[str, Cells]]
    n_seeds: int

    def __getitem__(self, attribute: str) -> Cells:
        if attribute not in self.attributes:
            there = ", ".join(self.attributes) or "none"
            what = "mean" if isinstance(self.overall, SeedMean) else "difference"
            raise InputError(f"attribute: no {what} of {self.metric} for {attribute!r}; there are {there}")
        return self.attributes[attribute]

    def cell(self, attribute: str | None, group: str | None = None) -> Cells:
        """The result of everyone (None), an attribute or one of its groups."""
        if attribute is None:
            return self.overall
        return self[attribute] if group is None else self.groups[attribute][group]

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "n_seeds": self.n_seeds,
            "correction": "Holm over attributes",
            "overall": self.overall.to_dict(),
            "attributes": {name: cell.to_dict() for name, cell in self.attributes.items()},
            "groups": {a: {g: cell.to_dict() for g, cell in groups.items()} for a, groups in self.groups.items()},
        }


class PairedComparison(_Arranged[PairedDifference]):
    """All differences of one metric."""


class SeedMeans(_Arranged[SeedMean]):
    """Means of one metric over seeds."""


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
    For ES metrics and gaps the interval is for groups of these sizes; docs/fairness.md gives the reason. A group with fewer
    than eight patients of a class that its metric needs gets its difference and the reason instead of an interval.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    score_a, score_b : array-like of shape (n,)
    attributes : mapping of name to array-like of shape (n,)
    metric : str
        A name in :data:`METRICS`: a group metric ("auc", "accuracy", "true_positive_rate", ...), one that compares groups
        ("es_auc", "auc_gap", "equalized_odds_difference", ...), or a metric of your own.
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
    >>> result["sex"].outcome, result.overall.metric, result.overall.method
    (<Outcome.BETTER: 'better'>, 'auc', 'DeLong')
    """
    sample = prepare(
        label, [score_a, score_b], ["score_a", "score_b"], attributes, metric=metric, patients=patients,
        threshold=threshold, n_resamples=n_resamples, confidence=confidence, seed=seed, exclude=exclude,
    )  # fmt: skip
    return _compare(sample, 1)


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

    Another seed and other patients would both have given another difference, so the interval covers both:

    .. math:: \bar d \pm t_{\nu} \sqrt{s^2/k + \hat\sigma^2_{\text{patients}}}

    with s the standard deviation of the k differences, σ² the bootstrap variance of their mean over patients, and ν by
    Welch and Satterthwaite from k - 1 and the number of patients less one. An effect of a patient under a single seed is in
    both terms, so the interval is rather too wide than too narrow. `seeds_interval` is the paired t over seeds alone, for
    the same patients.

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
    >>> result["sex"].outcome, result["sex"].n_seeds
    (<Outcome.NO_RELIABLE_DIFFERENCE: 'no_reliable_difference'>, 3)
    """
    scores_a, scores_b = list(scores_a), list(scores_b)
    if len(scores_a) < 2 or len(scores_a) != len(scores_b):
        raise InputError(
            f"scores_a, scores_b: {len(scores_a)} and {len(scores_b)} runs; at least two seeds are needed, as many in B "
            "as in A (compare_paired compares single runs)"
        )
    names = [f"scores_{which}[{i}]" for which in "ab" for i in range(len(scores_a))]
    sample = prepare(
        label, [*scores_a, *scores_b], names, attributes, metric=metric, patients=patients,
        threshold=threshold, n_resamples=n_resamples, confidence=confidence, seed=seed, exclude=exclude,
    )  # fmt: skip
    return _compare(sample, len(scores_a))


def mean_over_seeds(
    label: Any,
    scores: Sequence[Any],
    attributes: Mapping[str, Any],
    *,
    metric: str = "es_auc",
    patients: Any = None,
    threshold: float | None = 0.5,
    n_resamples: int = 1000,
    n_permutations: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    exclude: Mapping[str, Sequence[str]] | None = None,
) -> SeedMeans:
    r"""Mean of a metric over k runs of one method on the same rows, with an interval for other seeds and other patients.

    The counterpart of :func:`compare_seeds` for one method:

    .. math:: \bar m \pm t_{\nu} \sqrt{s^2/k + \hat\sigma^2_{\text{patients}}}

    with s the standard deviation of the k values, σ² the bootstrap variance of their mean over patients, and ν by Welch and
    Satterthwaite. Do not compare two methods by these intervals: the methods share their patients, and only
    :func:`compare_seeds` uses that.

    Parameters
    ----------
    label : array-like of shape (n,), 0 or 1
    scores : sequence of k >= 2 array-likes of shape (n,)
    n_permutations : int
        Shuffles of the groups, the same for all runs, for `SeedMean.chance`; 0 for none.
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
        raise InputError(f"scores: {k} runs; at least two seeds are needed (FairnessReport is for a single run)")
    sample = prepare(
        label, scores, [f"scores[{i}]" for i in range(k)], attributes, metric=metric, patients=patients,
        threshold=threshold, n_resamples=n_resamples, confidence=confidence, seed=seed, exclude=exclude,
    )  # fmt: skip
    overall, by_attribute, by_group = sample.arranged(lambda cell: _mean(cell, confidence))
    if n_permutations and by_attribute:
        by_attribute = _with_chance(sample, by_attribute, n_permutations, seed)
    return SeedMeans(metric, overall, by_attribute, by_group, k)


def es_auc_standard_error(
    label: Any, a: Any, b: Any, attributes: Mapping[str, Any], *, patients: Any = None, n_resamples: int = 200
) -> float:
    """Standard error of the difference in mean ES-AUC over the attributes between two scores of the same rows.

    Paired bootstrap over patients. Resamples in which no attribute has an ES-AUC are left out.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label, sex = np.arange(200) % 2, np.where(np.arange(200) % 3, "f", "m")
    >>> es_auc_standard_error(label, label + rng.normal(size=200), rng.normal(size=200), {"sex": sex}) > 0.02
    True
    """
    sample = prepare(
        label, (a, b), ("a", "b"), attributes, metric="es_auc", patients=patients, threshold=None,
        n_resamples=n_resamples, confidence=0.95, seed=0, exclude=None,
    )  # fmt: skip
    first, second = (
        np.nanmean([draws.summary["es_auc"] for draws in of_score[1:]], axis=0) for of_score in sample.draws
    )
    return spread(second - first)


def _compare(sample: Sample, k: int) -> PairedComparison:
    overall, by_attribute, by_group = sample.arranged(lambda cell: _difference(cell, sample, k))
    p_values = np.array([np.nan if d.p_value is None else d.p_value for d in by_attribute.values()])
    by_attribute = {
        name: replace(d, p_holm=None if np.isnan(p) else float(p))
        for (name, d), p in zip(by_attribute.items(), holm(p_values), strict=True)
    }
    return PairedComparison(sample.metric.name, overall, by_attribute, by_group, k)


def _difference(cell: Cell, sample: Sample, k: int) -> PairedDifference:
    names = cell.names | {"n_seeds": k}
    reason = cell.undefined()
    if reason is not None:
        return PairedDifference(**names, a=reason, b=reason, difference=reason)
    a, b = cell.values[:k], cell.values[k:]
    names |= {"a": float(a.mean()), "b": float(b.mean()), "difference": float((b - a).mean())}
    if k > 1:
        names |= {
            "sd_a": float(a.std(ddof=1)),
            "sd_b": float(b.std(ddof=1)),
            "sd_difference": float((b - a).std(ddof=1)),
        }
    too_few = cell.too_few()
    if too_few is not None:
        return PairedDifference(**names, no_interval=too_few)
    error = _standard_error(cell, sample, k)
    if isinstance(error, str):
        return PairedDifference(**names, no_interval=error)
    mean, confidence = names["difference"], sample.confidence
    if k == 1:
        method = "DeLong" if cell.metric == "auc" else "paired bootstrap, normal"
        reach = error * z_of(confidence)
        return PairedDifference(
            **names, interval=_interval(mean, reach, confidence, method), p_value=_p(mean, error, np.inf), method=method
        )
    of_seeds = names["sd_difference"] ** 2 / k
    both, df = seeds_and_patients(of_seeds, error**2, k, cell.n_patients)
    return PairedDifference(
        **names,
        interval=_interval(mean, _t(confidence, df) * np.sqrt(both), confidence, SEEDS_AND_PATIENTS),
        p_value=_p(mean, np.sqrt(both), df),
        method=SEEDS_AND_PATIENTS,
        seeds_interval=_interval(mean, _t(confidence, k - 1) * np.sqrt(of_seeds), confidence, "seeds, paired t"),
    )


def _standard_error(cell: Cell, sample: Sample, k: int) -> float | str:
    """Standard error of the mean difference over patients, or why there is none."""
    a, b = (np.mean(cell.draws[part], axis=0) for part in (slice(None, k), slice(k, None)))
    if k == 1 and cell.metric == "auc":
        error = delong_of(cell.label, np.stack([s[cell.rows] for s in sample.scores]), cell.patient).difference()[1]
    else:
        error = spread(b - a)
    if not np.isfinite(error):
        return FEW_RESAMPLES
    # A model minus itself is exactly 0. But where two different models both have the largest possible value in every
    # resample (AUC 1 in a small group), these patients cannot show a difference although it never varies.
    if error < ROUNDING and spread(a) < ROUNDING:
        first, second = sample.scores[:k], sample.scores[k:]
        if not all(np.array_equal(x[cell.rows], y[cell.rows]) for x, y in zip(first, second, strict=True)):
            return NEVER_VARIES
    return error


def _mean(cell: Cell, confidence: float) -> SeedMean:
    k = len(cell.values)
    names = cell.names | {"n_seeds": k}
    reason = cell.undefined()
    if reason is not None:
        return SeedMean(**names, mean=reason)
    mean, sd = float(cell.values.mean()), float(cell.values.std(ddof=1))
    names |= {"mean": mean, "sd": sd}
    error = spread(np.mean(cell.draws, axis=0))
    none = cell.too_few() or (FEW_RESAMPLES if not np.isfinite(error) else NEVER_VARIES if error < ROUNDING else None)
    if none is not None:
        return SeedMean(**names, no_interval=none)
    both, df = seeds_and_patients(sd**2 / k, error**2, k, cell.n_patients)
    reach = _t(confidence, df) * np.sqrt(both)
    metric = METRICS[cell.metric]
    lowest = -np.inf if metric.own and not metric.compares_groups else 0.0
    low, high = max(mean - reach, lowest), min(mean + reach, metric.largest)
    return SeedMean(**names, interval=Interval(float(low), float(high), confidence, SEEDS_AND_PATIENTS))


def _with_chance(sample: Sample, means: dict[str, SeedMean], n_permutations: int, seed: int) -> dict[str, SeedMean]:
    """Chance level and p-value of the mean over seeds: the shuffles are the same for all runs."""
    own = [METRICS[sample.metric.base]] if sample.metric.own else []
    groupings = sample.groupings[1:]
    drawn = [
        shuffle(
            sample.cohort,
            score,
            groupings,
            threshold=sample.threshold,
            n_permutations=n_permutations,
            seed=seed,
            own=own,
        )
        for score in sample.scores
    ]
    levels: dict[str, Chance] = {}
    for place, grouping in enumerate(groupings):
        mean = means[grouping.name].mean
        if len(grouping.names) > 1 and not isinstance(mean, Undefined):
            shuffled = np.mean([of_score[place][sample.metric.name] for of_score in drawn], axis=0)
            if not np.isnan(shuffled).any():
                levels[grouping.name] = chance_level(sample.metric, mean, shuffled, sample.confidence)
    corrected = holm(np.array([level.p_value for level in levels.values()])).tolist()
    found = {name: replace(level, p_holm=p) for (name, level), p in zip(levels.items(), corrected, strict=True)}
    return {name: replace(mean, chance=found.get(name)) for name, mean in means.items()}


def seeds_and_patients(of_seeds: float, of_patients: float, k: int, n_patients: int) -> tuple[float, float]:
    """Sum of two independent variances and its degrees of freedom by Welch and Satterthwaite.

    >>> seeds_and_patients(0.5, 0.5, 5, 5)
    (1.0, 8.0)
    """
    both = of_seeds + of_patients
    pieces = of_seeds**2 / (k - 1) + of_patients**2 / (n_patients - 1)
    return both, both**2 / pieces if pieces > 0 else float(k - 1)


def _t(confidence: float, df: float) -> float:
    """Half-width of a two-sided t interval in standard errors."""
    return float(-stdtrit(df, (1 - confidence) / 2))


def _interval(centre: float, reach: float, confidence: float, method: str) -> Interval:
    return Interval(float(centre - reach), float(centre + reach), confidence, method)


def _p(difference: float, error: float, df: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * (ndtr(-abs(difference) / error) if np.isinf(df) else stdtr(df, -abs(difference) / error)))


def _plain_values(result: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Values, None where undefined, with the reasons under "undefined"."""
    values = {name: getattr(result, name) for name in names}
    reasons = {name: value.reason for name, value in values.items() if isinstance(value, Undefined)}
    if result.no_interval is not None:
        reasons["interval"] = result.no_interval
    return {name: None if name in reasons else value for name, value in values.items()} | {"undefined": reasons}
