"""Runs beside one another: pooled over seeds, with intervals, and paired on the same test patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .errors import InputError
from .fairness import FairnessReport, PairedComparison, Undefined, compare_paired, compare_seeds
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
    report : FairnessReport
        Of the first run, with intervals and chance levels.
    """

    name: str
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    scores: np.ndarray
    reports: tuple[FairnessReport, ...]

    @property
    def report(self) -> FairnessReport:
        return self.reports[0]

    def values(self, attribute: str | None) -> list[float]:
        """Test AUC (None) or ES-AUC of every run; undefined values are left out."""
        figures = [r.overall.auc if attribute is None else r[attribute].es_auc for r in self.reports]
        return [float(f) for f in figures if not isinstance(f, Undefined)]


@dataclass(frozen=True)
class RunComparison:
    """Methods on the same test pairs, and every later method against the first.

    Attributes
    ----------
    methods : tuple of Method
    attributes : tuple of str
    n, n_positive : int
        Test pairs.
    differences : mapping of method name to PairedComparison of ES-AUC
        Method minus the first method; across seeds where both have the same two or more, else of their first runs.
    """

    methods: tuple[Method, ...]
    attributes: tuple[str, ...]
    n: int
    n_positive: int
    differences: dict[str, PairedComparison]

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "n_positive": self.n_positive,
            "baseline": self.methods[0].name,
            "methods": [
                {
                    "name": method.name,
                    "runs": [run.id for run in method.runs],
                    "seeds": list(method.seeds),
                    "auc": _mean_sd(method.values(None)),
                    "es_auc": {name: _mean_sd(method.values(name)) for name in self.attributes},
                    "report": method.report.to_dict(),
                }
                for method in self.methods
            ],
            "differences": {name: d.to_dict() for name, d in self.differences.items()},
        }


def compare_runs(runs: Sequence[Run], *, attribute: str | None = None, n_resamples: int = 2000) -> RunComparison:
    """Compare finished runs of one data set; the first run's method is the baseline.

    Raises
    ------
    InputError
        A run is not finished, the runs were not scored on the same test pairs, or the attribute is unknown.
    """
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
    for run in dict.fromkeys(runs):
        by_method.setdefault(run.config.method_key, []).append(run)
    titles = _titles([members[0] for members in by_method.values()])
    methods = []
    for title, members in zip(titles, by_method.values(), strict=True):
        members = sorted(members, key=lambda run: run.config.seed)
        scores = np.stack([frames[run.id]["score"].to_numpy(float) for run in members])
        draws = [n_resamples] + [0] * (len(members) - 1)
        reports = tuple(
            FairnessReport.from_predictions(label, score, groups, patients=patients, n_resamples=n, n_permutations=n)
            for score, n in zip(scores, draws, strict=True)
        )
        methods.append(Method(title, tuple(members), tuple(run.config.seed for run in members), scores, reports))

    base = methods[0]
    options: dict[str, Any] = {"metric": "es_auc", "patients": patients, "n_resamples": max(2, n_resamples)}
    differences = {}
    for method in methods[1:] if groups else []:
        shared = [s for s in base.seeds if s in method.seeds]
        a, b = ([m.scores[m.seeds.index(s)] for s in shared] for m in (base, method))
        if len(shared) >= 2:
            differences[method.name] = compare_seeds(label, a, b, groups, **options)
        else:
            differences[method.name] = compare_paired(label, base.scores[0], method.scores[0], groups, **options)
    return RunComparison(tuple(methods), names, len(label), int(label.sum()), differences)


def _test_frame(run: Run) -> pd.DataFrame:
    if run.status.state != "finished":
        raise InputError(f"run {run.id} is {run.status.state}: only finished runs can be compared")
    frame = run.predictions()
    return frame[frame["split"].astype(str) == "test"].sort_values("pair_id", kind="stable").reset_index(drop=True)


def _titles(runs: Sequence[Run]) -> list[str]:
    """The preset, and where several methods share it what tells them apart."""
    flat = [_flatten(run.config.to_dict()) for run in runs]
    titles = []
    for run, values in zip(runs, flat, strict=True):
        rivals = [o for r, o in zip(runs, flat, strict=True) if r is not run and r.config.preset == run.config.preset]
        keys = sorted({k for other in rivals for k in values if other.get(k) != values[k] and k != "seed"})
        changes = ", ".join(f"{key}={values[key]}" for key in keys)
        titles.append(f"{run.config.preset} ({changes})" if changes else run.config.preset)
    return titles


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _mean_sd(values: list[float]) -> dict[str, Any]:
    return {
        "mean": float(np.mean(values)) if values else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "n_runs": len(values),
    }
