"""Runs beside one another: pooled over seeds, with intervals, and paired on the same test patients."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .errors import InputError
from .fairness import (
    COMPARES,
    METRICS,
    AttributeReport,
    Chance,
    FairnessReport,
    Interval,
    PairedComparison,
    SeedMean,
    SeedMeans,
    Undefined,
    compare_paired,
    compare_seeds,
    mean_over_seeds,
)
from .runs import Run


@dataclass(frozen=True)
class Method:
    """Runs that differ by the seed alone.

    Attributes
    ----------
    name : str
        The preset, with what was changed where two methods share one.
    runs : tuple of Run, by seed
    seeds : tuple of int
    scores : float ndarray of shape (runs, n)
        Zero-shot scores of the test pairs.
    reports : tuple of FairnessReport, one a run
        The first with intervals and chance levels.
    means : mapping of metric to SeedMeans
        Of the compared metric and of AUC; empty for a single run.
    """

    name: str
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    scores: np.ndarray
    reports: tuple[FairnessReport, ...]
    means: Mapping[str, SeedMeans]

    @property
    def report(self) -> FairnessReport:
        return self.reports[0]

    def values(self, attribute: str | None, metric: str = "es_auc", group: str | None = None) -> list[float]:
        """A metric of every run; of everyone (None), an attribute, or a group of it. Undefined values are left out.

        For everyone, a metric that compares groups is the figure that it is made of: AUC for ES-AUC.
        """
        name = _figure(metric, attribute, group)
        figures = [getattr(_holder(report, attribute, group), name) for report in self.reports]
        return [float(f) for f in figures if not isinstance(f, Undefined)]

    def summary(self, attribute: str | None, metric: str = "es_auc", group: str | None = None) -> Summary:
        """`values` as mean and standard deviation, with interval and the first run's chance level."""
        values = self.values(attribute, metric, group)
        name = _figure(metric, attribute, group)
        holder = _holder(self.report, attribute, group)
        of_seeds = self._seed_mean(name, attribute, group)
        value = getattr(holder, name)
        return Summary(
            mean=float(np.mean(values)) if values else None,
            sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            n_runs=len(values),
            interval=of_seeds.interval if of_seeds else holder.intervals.get(name),
            chance=holder.chance.get(name) if isinstance(holder, AttributeReport) else None,
            no_interval=of_seeds.no_interval if of_seeds else None,
            undefined=value.reason if isinstance(value, Undefined) else None,
        )

    def _seed_mean(self, name: str, attribute: str | None, group: str | None) -> SeedMean | None:
        for means in self.means.values():
            if attribute is not None and group is None:
                if means.metric == name:
                    return means[attribute]
            elif means.overall.metric == name:
                return means.overall if attribute is None else means.groups[attribute][group]
        return None


@dataclass(frozen=True)
class Summary:
    """One figure of a method.

    Attributes
    ----------
    mean, sd : float or None
        Over the runs; None where undefined, or a single run for sd.
    n_runs : int
        Runs that have a value.
    interval : Interval or None
        Over seeds and patients together where there are two or more runs, else over patients.
    chance : Chance or None
        Of the first run: the figure were groups of these sizes alike. Only for figures that compare groups.
    no_interval, undefined : str or None
        The reason where there is none.
    """

    mean: float | None
    sd: float | None
    n_runs: int
    interval: Interval | None
    chance: Chance | None
    no_interval: str | None
    undefined: str | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "sd": self.sd,
            "n_runs": self.n_runs,
            "interval": None if self.interval is None else self.interval.to_dict(),
            "chance": None if self.chance is None else self.chance.to_dict(),
            "reasons": {
                name: reason
                for name, reason in (("interval", self.no_interval), ("mean", self.undefined))
                if reason is not None
            },
        }


def _figure(metric: str, attribute: str | None, group: str | None) -> str:
    """Of an attribute the metric itself, of everyone or one group the figure it is made of."""
    return metric if attribute is not None and group is None else COMPARES.get(metric, metric)


def _holder(report: FairnessReport, attribute: str | None, group: str | None) -> Any:
    if attribute is None:
        return report.overall
    return report[attribute] if group is None else report[attribute].groups[group]


@dataclass(frozen=True)
class RunComparison:
    """Methods on the same test pairs, and every later method against the first.

    Attributes
    ----------
    metric : str
    methods : tuple of Method
    attributes : tuple of str
    n, n_positive : int
        Test pairs.
    differences : mapping of method name to PairedComparison
        Method minus the first method; across seeds where both have the same two or more, else of one run each.
    seeds : mapping of method name to tuple of (seed of the first method, seed of the method)
        Which runs were compared.
    """

    metric: str
    methods: tuple[Method, ...]
    attributes: tuple[str, ...]
    n: int
    n_positive: int
    differences: dict[str, PairedComparison]
    seeds: dict[str, tuple[tuple[int, int], ...]]

    @property
    def compares_groups(self) -> bool:
        """Whether the metric is a figure of an attribute (ES-AUC, a gap) rather than of everyone and of each group."""
        return self.metric in COMPARES

    @property
    def base_metric(self) -> str:
        """The figure of everyone, or of one group, that the metric is made of."""
        return COMPARES.get(self.metric, self.metric)

    def groups(self, attribute: str) -> tuple[str, ...]:
        return tuple(self.methods[0].report[attribute].groups)

    def to_dict(self) -> dict[str, Any]:
        methods = []
        for method in self.methods:
            facts: dict[str, Any] = {
                "name": method.name,
                "runs": [run.id for run in method.runs],
                "seeds": list(method.seeds),
                "auc": method.summary(None, "auc").to_dict(),
            }
            if self.compares_groups:
                facts[self.metric] = {name: method.summary(name, self.metric).to_dict() for name in self.attributes}
            elif self.metric != "auc":
                facts[self.metric] = method.summary(None, self.metric).to_dict()
            base = self.base_metric
            facts["groups"] = {
                name: {group: {base: method.summary(name, base, group).to_dict()} for group in self.groups(name)}
                for name in self.attributes
            }
            methods.append(facts | {"report": method.report.to_dict()})
        return {
            "metric": self.metric,
            "n": self.n,
            "n_positive": self.n_positive,
            "baseline": self.methods[0].name,
            "methods": methods,
            "differences": {
                name: d.to_dict() | {"paired_seeds": [list(pair) for pair in self.seeds[name]]}
                for name, d in self.differences.items()
            },
        }


def compare_runs(
    runs: Sequence[Run], *, attribute: str | None = None, metric: str = "es_auc", n_resamples: int = 2000
) -> RunComparison:
    """Compare finished runs of one data set; the first run's method is the baseline. One run alone has no differences.

    Parameters
    ----------
    runs : sequence of Run
    attribute : str, optional
        Only this one; default: all of the data's.
    metric : str
        One of :data:`fairvlm_core.fairness.METRICS`.
    n_resamples : int
        Bootstrap resamples and permutations.

    Raises
    ------
    InputError
        A run is not finished, the runs were not scored on the same test pairs, two runs are the same method and seed, the
        attribute or the metric is unknown, or fewer than two resamples.
    """
    if metric not in METRICS:
        raise InputError(f"metric: {metric!r} is not known; choose from {', '.join(METRICS)}")
    if n_resamples < 2:
        raise InputError(f"resamples: {n_resamples} is too few for an interval; use 1000 or more")
    if not runs:
        raise InputError("name at least one run; `fairvlm runs` lists them")
    frames = {run.id: _test_frame(run) for run in runs}
    first = frames[runs[0].id]
    for run in runs[1:]:
        other = frames[run.id]
        if list(other["pair_id"]) != list(first["pair_id"]) or list(other["label"]) != list(first["label"]):
            raise InputError(
                f"runs {runs[0].id} and {run.id} were not scored on the same test pairs: compare runs of one data set"
            )
    names = tuple(runs[0].data["attributes"])
    if attribute is not None:
        if attribute not in names:
            raise InputError(f"attribute {attribute!r} is not in these runs; there are {', '.join(names) or 'none'}")
        names = (attribute,)
    groups = {name: first[name].to_numpy(str) for name in names}
    label, patients = first["label"].to_numpy(), first["patient_id"].to_numpy(str)

    by_method: dict[str, list[Run]] = {}
    for run in {run.id: run for run in runs}.values():  # a run named twice is one run
        by_method.setdefault(run.method_key, []).append(run)
    titles = _titles([members[0] for members in by_method.values()])
    methods = []
    for title, members in zip(titles, by_method.values(), strict=True):
        members = sorted(members, key=lambda run: run.config.seed)
        seeds = tuple(run.config.seed for run in members)
        for one, other in itertools.pairwise(members):
            if one.config.seed == other.config.seed:
                raise InputError(
                    f"runs {one.id} and {other.id} are the same method and seed, so they are no two runs: name one of them"
                )
        scores = np.stack([frames[run.id]["score"].to_numpy(float) for run in members])
        draws = [n_resamples] + [0] * (len(members) - 1)
        reports = tuple(
            FairnessReport.from_predictions(label, score, groups, patients=patients, n_resamples=n, n_permutations=n)
            for score, n in zip(scores, draws, strict=True)
        )
        means: dict[str, SeedMeans] = {}
        if len(members) > 1:
            # Means of ES-AUC hold those of the AUC that it is made of.
            wanted = [metric] if COMPARES.get(metric, metric) == "auc" else [metric, "auc"]
            means = {
                name: mean_over_seeds(label, scores, groups, metric=name, patients=patients, n_resamples=n_resamples)
                for name in wanted
            }
        methods.append(Method(title, tuple(members), seeds, scores, reports, means))

    base = methods[0]
    options: dict[str, Any] = {"metric": metric, "patients": patients, "n_resamples": n_resamples}
    differences, paired = {}, {}
    for method in methods[1:]:
        shared = [(seed, seed) for seed in base.seeds if seed in method.seeds]
        pairs = tuple(shared or [(base.seeds[0], method.seeds[0])])
        a = [base.scores[base.seeds.index(seed)] for seed, _ in pairs]
        b = [method.scores[method.seeds.index(seed)] for _, seed in pairs]
        if len(pairs) > 1:
            differences[method.name] = compare_seeds(label, a, b, groups, **options)
        else:
            differences[method.name] = compare_paired(label, a[0], b[0], groups, **options)
        paired[method.name] = pairs
    return RunComparison(metric, tuple(methods), names, len(label), int(label.sum()), differences, paired)


def _test_frame(run: Run) -> pd.DataFrame:
    if run.status.state != "finished":
        raise InputError(f"run {run.id} is {run.status.state}: only finished runs can be compared")
    frame = run.predictions()
    return frame[frame["split"].astype(str) == "test"].sort_values("pair_id", kind="stable").reset_index(drop=True)


def _titles(runs: Sequence[Run]) -> list[str]:
    """The preset, whether verdicts of a review were used, and where several methods share that what tells them apart."""
    names = [f"{run.config.preset} with verdicts" if run.verdicts else run.config.preset for run in runs]
    flat = [run.config.flat() | {"verdicts": run.verdicts} for run in runs]
    titles = []
    for name, values in zip(names, flat, strict=True):
        rivals = [o for n, o in zip(names, flat, strict=True) if n == name and o is not values]
        keys = sorted({k for other in rivals for k in values if other.get(k) != values[k] and k != "seed"})
        changes = ", ".join(f"{key}={values[key]}" for key in keys)
        titles.append(f"{name} ({changes})" if changes else name)
    return titles
