"""Methods compared on the same test patients: means over seeds, intervals, chance levels, paired differences.

Comparisons are computed only here. `fairvlm compare`, the pages and the report show what these functions return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..fairness import (
    METRICS,
    Chance,
    FairnessReport,
    Interval,
    PairedComparison,
    SeedMean,
    SeedMeans,
    compare_paired,
    compare_seeds,
    holm,
    mean_over_seeds,
)
from ..fairness.definitions import find_metric
from ..runs import Run
from ..words import listed
from .entries import read_entry
from .held_out import RESAMPLES, fairness_of, held_out_rows
from .methods import Method, comparable, method_of, methods_of


@dataclass(frozen=True)
class MethodValue:
    """One metric of a method.

    Attributes
    ----------
    mean, sd : float or None
        Over the runs; None where undefined, or for sd with a single run.
    n_runs : int
        Runs that have a value.
    n, n_positive : int
        Test pairs it is computed on.
    interval : Interval or None
        Over seeds and patients together for two or more runs, else over patients.
    chance : Chance or None
        The metric if groups of these sizes did not differ, over all seeds. Only for metrics that compare groups.
    no_interval, undefined : str or None
        The reason where there is none.
    without : tuple of str
        For a metric that compares groups: groups without an AUC, which are not in it.
    """

    mean: float | None
    sd: float | None
    n_runs: int
    n: int
    n_positive: int
    interval: Interval | None
    chance: Chance | None
    no_interval: str | None
    undefined: str | None
    without: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        reasons = {"interval": self.no_interval, "mean": self.undefined}
        return {
            "mean": self.mean,
            "sd": self.sd,
            "n_runs": self.n_runs,
            "interval": None if self.interval is None else self.interval.to_dict(),
            "chance": None if self.chance is None else self.chance.to_dict(),
            "reasons": {name: reason for name, reason in reasons.items() if reason is not None},
        }


@dataclass(frozen=True)
class ScoredMethod:
    """A method with the metrics of its runs on the test pairs.

    Attributes
    ----------
    method : Method
    reports : tuple of mappings, one per run
        As from :meth:`FairnessReport.to_dict`. With a single run: with intervals and chance levels.
    means : mapping of metric to SeedMeans
        Of the compared metric and of AUC; empty for a single run.
    """

    method: Method
    reports: tuple[Mapping[str, Any], ...]
    means: Mapping[str, SeedMeans]

    @property
    def name(self) -> str:
        return self.method.name

    def values(self, attribute: str | None, metric: str = "es_auc", group: str | None = None) -> list[float | None]:
        """A metric of every run: of everyone (None), an attribute, or one of its groups; None where undefined.

        For everyone and for a group, a metric that compares groups stands for its base metric: AUC for ES-AUC.
        """
        name = _metric_at(metric, attribute, group)
        return [_part(report, attribute, group)[name] for report in self.reports]

    def value(self, attribute: str | None, metric: str = "es_auc", group: str | None = None) -> MethodValue:
        """`values` as mean and standard deviation, with interval and chance level."""
        name = _metric_at(metric, attribute, group)
        known = [value for value in self.values(attribute, metric, group) if value is not None]
        part = _part(self.reports[0], attribute, group)
        counts = part.get("overall", part)
        interval, chance, no_interval = None, None, None
        if over_seeds := self._over_seeds(name, attribute, group):
            interval, chance, no_interval = over_seeds.interval, over_seeds.chance, over_seeds.no_interval
        elif len(self.reports) == 1:
            interval = Interval(**part["intervals"][name]) if name in part["intervals"] else None
            chance = Chance(**part["chance"][name]) if name in part.get("chance", {}) else None
        return MethodValue(
            mean=float(np.mean(known)) if known else None,
            sd=float(np.std(known, ddof=1)) if len(known) > 1 else None,
            n_runs=len(known),
            n=counts["n"],
            n_positive=counts["n_positive"],
            interval=interval,
            chance=chance,
            no_interval=no_interval,
            undefined=None if known else part["undefined"].get(name),
            without=tuple(part.get("undefined_groups", ())),
        )

    def _over_seeds(self, name: str, attribute: str | None, group: str | None) -> SeedMean | None:
        compares_groups = attribute is not None and group is None
        for means in self.means.values():
            if name == (means.metric if compares_groups else means.overall.metric):
                return means.cell(attribute, group)
        return None


@dataclass(frozen=True)
class MethodDifference:
    """Method `b` minus method `a` on the same test patients; both hold the runs that were paired, place by place."""

    a: Method
    b: Method
    comparison: PairedComparison

    @property
    def seeds(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.a.seeds, self.b.seeds, strict=True))

    def to_dict(self) -> dict[str, Any]:
        return self.comparison.to_dict() | {"paired_seeds": [list(pair) for pair in self.seeds]}


@dataclass(frozen=True)
class TestPairs:
    """Labels, groups and patients that all compared runs share, in the order of the pairs' ids."""

    __test__ = False  # not a class of tests

    label: np.ndarray
    groups: Mapping[str, np.ndarray]
    patients: np.ndarray


@dataclass(frozen=True)
class RunComparison:
    """Methods on the same test pairs.

    Attributes
    ----------
    metric : str
    methods : tuple of ScoredMethod
        The first is the baseline.
    pairs : TestPairs
    differences : mapping of method name to MethodDifference
        Every later method minus the baseline.
    """

    metric: str
    methods: tuple[ScoredMethod, ...]
    pairs: TestPairs
    differences: Mapping[str, MethodDifference]

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(self.pairs.groups)

    @property
    def n(self) -> int:
        return len(self.pairs.label)

    @property
    def n_positive(self) -> int:
        return int(self.pairs.label.sum())

    @property
    def compares_groups(self) -> bool:
        """Whether the metric compares groups (ES-AUC, a gap); else it is a metric of everyone and of each group."""
        return METRICS[self.metric].compares_groups

    @property
    def base_metric(self) -> str:
        """The metric of everyone, or of one group, that the metric is made of."""
        return METRICS[self.metric].base

    def groups(self, attribute: str) -> tuple[str, ...]:
        return tuple(self.methods[0].reports[0]["attributes"][attribute]["groups"])

    def to_dict(self) -> dict[str, Any]:
        base = self.base_metric
        methods = []
        for method in self.methods:
            facts: dict[str, Any] = {
                "name": method.name,
                "runs": [run.id for run in method.method.runs],
                "seeds": method.method.seeds,
                "auc": method.value(None, "auc").to_dict(),
            }
            if self.compares_groups:
                facts[self.metric] = {name: method.value(name, self.metric).to_dict() for name in self.attributes}
            elif self.metric != "auc":
                facts[self.metric] = method.value(None, self.metric).to_dict()
            facts["groups"] = {
                name: {group: {base: method.value(name, base, group).to_dict()} for group in self.groups(name)}
                for name in self.attributes
            }
            methods.append(facts | {"report": method.reports[0]})
        return {
            "metric": self.metric,
            "n": self.n,
            "n_positive": self.n_positive,
            "baseline": self.methods[0].name,
            "methods": methods,
            "differences": {name: difference.to_dict() for name, difference in self.differences.items()},
        }


def compare_runs(
    runs: Sequence[Run], *, attribute: str | None = None, metric: str = "es_auc", n_resamples: int = RESAMPLES
) -> RunComparison:
    """Compare finished runs of one data set by method; the first run's method is the baseline.

    Parameters
    ----------
    runs : sequence of Run
        A single run, or runs of a single method, have no differences.
    attribute : str, optional
        Only this one; default: all of the data's.
    metric : str
        A name in :data:`fairvlm_core.fairness.METRICS`.
    n_resamples : int
        Bootstrap resamples and permutations.

    Raises
    ------
    InputError
        A run is not finished, the runs were not scored on the same test pairs, two runs are the same method and seed, the
        attribute or the metric is unknown, or there are fewer than two resamples.
    """
    if not runs:
        raise InputError("name at least one run; `fairvlm runs` lists them")
    by_id = {run.id: run for run in runs}  # a run named twice is one run
    # Runs on different data may be compared where their test pairs are the same; compare_methods checks that.
    entries, left_out = comparable([read_entry(run, with_report=False) for run in by_id.values()], same_data=False)
    if left_out:
        raise InputError(str(left_out[0]))
    attributes = None if attribute is None else (attribute,)
    return compare_methods(methods_of(entries), by_id, attributes=attributes, metric=metric, n_resamples=n_resamples)


def compare_methods(
    methods: Sequence[Method],
    runs: Mapping[str, Run],
    *,
    attributes: Sequence[str] | None = None,
    metric: str = "es_auc",
    score: str = "score",
    n_resamples: int = RESAMPLES,
) -> RunComparison:
    """As :func:`compare_runs`, for methods that are known already; `runs` by id.

    `attributes`: only these; `score`: the column of the predictions (see :class:`fairvlm_core.train.FitResult`).
    """
    find_metric(metric)
    if n_resamples < 2:
        raise InputError(f"resamples: {n_resamples} is too few for an interval; use 1000 or more")
    ids = [run.id for method in methods for run in method.runs]
    scores, pairs = _read(ids, runs, attributes, score)
    scored = tuple(
        _scored(method, [runs[run.id] for run in method.runs], np.stack([scores[run.id] for run in method.runs]), pairs,
                metric, n_resamples, stored=score == "score")
        for method in methods
    )  # fmt: skip
    base = methods[0]
    differences = {other.name: _difference(base, other, scores, pairs, metric, n_resamples) for other in methods[1:]}
    return RunComparison(metric, scored, pairs, differences)


def method_difference(
    a: Method, b: Method, runs: Mapping[str, Run], *, metric: str = "es_auc", n_resamples: int = RESAMPLES
) -> MethodDifference:
    """Method `b` minus method `a`, paired by their common seeds; where they share none, the lowest seed of each."""
    scores, pairs = _read([run.id for method in (a, b) for run in method.runs], runs)
    return _difference(a, b, scores, pairs, metric, n_resamples)


def pairing_words(difference: MethodDifference) -> str:
    """Which runs were paired."""
    (first, second), *more = difference.seeds
    if first != second:
        return (
            f"The methods share no seed: the runs with the lowest seeds ({first} and {second}) are compared. "
            "Chance between seeds is not in the interval."
        )
    line = f"Paired by seed: {listed([str(seed) for seed, _ in difference.seeds])}."
    if not more:
        line += " Chance between seeds is not in the interval: train both methods with more seeds."
    return line


def compare_with_baseline(run: Run, baseline: Run, n_resamples: int = RESAMPLES) -> MethodDifference:
    """A run's method minus the baseline's method, with all their finished seeds; of one method, the two runs alone.

    Raises
    ------
    InputError
        As in :func:`compare_runs`; or the baseline is the run itself.
    """
    if baseline.id == run.id:
        raise InputError(f"run {run.id} cannot be its own baseline: name another run")
    mine, other = method_of(run), method_of(baseline)
    methods = methods_of([*mine.runs, *other.runs])
    if len(methods) == 1:
        methods = [Method(one.id, (read_entry(one, with_report=False),)) for one in (run, baseline)]
    folders = {entry.id: baseline.path.parent for entry in other.runs} | {e.id: run.path.parent for e in mine.runs}
    runs = {run_id: Run(folder / run_id) for run_id, folder in folders.items()}
    return method_difference(methods[1], methods[0], runs, n_resamples=n_resamples)


def _read(
    ids: Sequence[str], runs: Mapping[str, Run], attributes: Sequence[str] | None = None, score: str = "score"
) -> tuple[dict[str, np.ndarray], TestPairs]:
    """(scores by run id, what all runs share)."""
    there = tuple(runs[ids[0]].data["attributes"])
    names = there if attributes is None else tuple(attributes)
    for name in names:
        if name not in there:
            raise InputError(f"attribute {name!r} is not in these runs; there are {', '.join(there) or 'none'}")
    frames = {run_id: held_out_rows(runs[run_id].predictions(), run_id) for run_id in ids}
    first = frames[ids[0]]
    for run_id, frame in frames.items():
        if list(frame["pair_id"]) != list(first["pair_id"]) or list(frame["label"]) != list(first["label"]):
            raise InputError(
                f"runs {ids[0]} and {run_id} were not scored on the same test pairs: compare runs of one data set"
            )
        if score not in frame or frame[score].isna().any():
            raise InputError(f"run {run_id}: predictions.parquet has no {score}; train the run again")
    groups = {name: first[name].to_numpy(str) for name in names}
    pairs = TestPairs(first["label"].to_numpy(), groups, first["patient_id"].to_numpy(str))
    return {run_id: frame[score].to_numpy(float) for run_id, frame in frames.items()}, pairs


def _scored(
    method: Method,
    runs: Sequence[Run],
    scores: np.ndarray,
    pairs: TestPairs,
    metric: str,
    n_resamples: int,
    *,
    stored: bool,
) -> ScoredMethod:
    options: dict[str, Any] = {"patients": pairs.patients, "n_resamples": n_resamples, "n_permutations": n_resamples}
    if len(runs) == 1:
        run = runs[0] if stored else None
        return ScoredMethod(method, (_report(run, scores[0], pairs, metric, n_resamples),), {})
    reports = tuple(_report(None, score, pairs, metric, 0) for score in scores)
    # The means of ES-AUC contain those of AUC, its base metric.
    names = [metric] if METRICS[metric].base == "auc" else [metric, "auc"]
    means = {name: mean_over_seeds(pairs.label, list(scores), pairs.groups, metric=name, **options) for name in names}
    return ScoredMethod(method, reports, means)


def _report(run: Run | None, score: np.ndarray, pairs: TestPairs, metric: str, n_resamples: int) -> dict[str, Any]:
    """The report on scores; with `run`, the stored one where it has these resamples, p corrected over these attributes."""
    own = [METRICS[metric].base] if METRICS[metric].own else []
    if run is not None and n_resamples == RESAMPLES and not own:
        made = dict(fairness_of(run, n_resamples))
        made["attributes"] = {name: dict(made["attributes"][name]) for name in pairs.groups}
        _correct_again(made["attributes"])
        return made
    return FairnessReport.from_predictions(
        pairs.label, score, pairs.groups, patients=pairs.patients, n_resamples=n_resamples, n_permutations=n_resamples,
        metrics=own,
    ).to_dict()  # fmt: skip


def _correct_again(attributes: Mapping[str, dict[str, Any]]) -> None:
    """Holm's correction over these attributes, which may be fewer than those of the stored report."""
    for name in {name for facts in attributes.values() for name in facts["chance"]}:
        with_it = {attribute: facts for attribute, facts in attributes.items() if name in facts["chance"]}
        corrected = holm(np.array([facts["chance"][name]["p_value"] for facts in with_it.values()])).tolist()
        for facts, p_holm in zip(with_it.values(), corrected, strict=True):
            facts["chance"] = facts["chance"] | {name: facts["chance"][name] | {"p_holm": p_holm}}


def _difference(
    a: Method, b: Method, scores: Mapping[str, np.ndarray], pairs: TestPairs, metric: str, n_resamples: int
) -> MethodDifference:
    shared = [(x, y) for x in a.runs for y in b.runs if x.seed == y.seed] or [(a.runs[0], b.runs[0])]
    of_a, of_b = ([scores[pair[side].id] for pair in shared] for side in (0, 1))
    options: dict[str, Any] = {"metric": metric, "patients": pairs.patients, "n_resamples": n_resamples}
    if len(shared) == 1:
        found = compare_paired(pairs.label, of_a[0], of_b[0], pairs.groups, **options)
    else:
        found = compare_seeds(pairs.label, of_a, of_b, pairs.groups, **options)
    used_a, used_b = zip(*shared, strict=True)
    return MethodDifference(Method(a.name, used_a), Method(b.name, used_b), found)


def _metric_at(metric: str, attribute: str | None, group: str | None) -> str:
    return metric if attribute is not None and group is None else METRICS[metric].base


def _part(report: Mapping[str, Any], attribute: str | None, group: str | None) -> Mapping[str, Any]:
    if attribute is None:
        return report["overall"]
    facts = report["attributes"][attribute]
    return facts if group is None else facts["groups"][group]
