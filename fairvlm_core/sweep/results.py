"""What a sweep has found so far: its trials with their validation metrics, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..errors import InputError
from .space import Space
from .storage import Storage, load_optuna

OBJECTIVES = {"auc": "AUC", "es_auc": "ES-AUC", "worst_group": "AUC of the worst group"}
RECORD, RECORD_VERSION = "fairvlm", 1
CONFIDENCE = 0.95


class TrialState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One trial: the mean over its seeds.

    Attributes
    ----------
    number : int
    state : TrialState
    preset : str
    params : mapping of setting to value
    values : tuple of float or None, one an objective
        Means over the seeds, on validation; None unless complete.
    by_seed : tuple of (seed, values)
        Finished seeds.
    runs : tuple of str
        Ids of its runs, by seed, in the workspace `workspace` (an identifier).
    front : bool
        On the Pareto front: no complete trial is as good in all objectives and better in one.
    message : str
        Why it failed.
    """

    number: int
    state: TrialState
    preset: str
    params: Mapping[str, Any]
    values: tuple[float, ...] | None
    by_seed: tuple[tuple[int, tuple[float, ...]], ...]
    runs: tuple[str, ...]
    workspace: str
    front: bool
    message: str = ""

    @property
    def settings(self) -> str:
        """The preset and what was drawn.

        >>> Trial(0, TrialState.COMPLETE, "dbpm", {"mining.faulty_sd": 2.5}, (0.8,), (), (), "", True).settings
        'dbpm, mining.faulty_sd=2.5'
        """
        drawn = (f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in self.params.items())
        return ", ".join([self.preset, *drawn])

    def interval(self, objective: int) -> tuple[float, float] | None:
        """95 % interval of the mean for other seeds on the same validation patients (Student's t); None below two seeds."""
        return seed_interval([values[objective] for _, values in self.by_seed])


@dataclass(frozen=True)
class Sweep:
    """A study as it is now. `objectives` are names as in `OBJECTIVES`, with ``:attribute`` for a single attribute.

    `partial` names attributes in which a validation group has no AUC: ES-AUC and the worst group leave this group out.
    """

    name: str
    shown: str
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    data: str
    n_val: int
    space: Space
    partial: tuple[str, ...]
    trials: tuple[Trial, ...]

    def count(self, state: TrialState) -> int:
        return sum(trial.state == state for trial in self.trials)

    @property
    def complete(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.state == TrialState.COMPLETE)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The Pareto front, best in the first objective first."""
        best = [trial for trial in self.complete if trial.front]
        return tuple(sorted(best, key=lambda trial: trial.values or (), reverse=True))

    def points(self, x: int, y: int) -> pd.DataFrame:
        """One row a complete trial: trial, x, x_low, x_high, y, y_low, y_high, front, n_seeds, settings.

        `x` and `y` are places in the objectives. Values are means on validation with intervals over seeds (NaN for a single
        seed); `front` refers to all objectives together.
        """
        rows = []
        for trial in self.complete:
            values = trial.values or ()
            spans = [trial.interval(axis) or (np.nan, np.nan) for axis in (x, y)]
            about = (trial.front, len(trial.by_seed), trial.settings)
            rows.append((trial.number, values[x], *spans[0], values[y], *spans[1], *about))
        names = ["trial", "x", "x_low", "x_high", "y", "y_low", "y_high", "front", "n_seeds", "settings"]
        return pd.DataFrame(rows, columns=names)

    def runs_of(self, numbers: Collection[int], workspace: str, known: Collection[str]) -> list[str]:
        """Ids of the runs of trials that are in this workspace (an identifier) and among the `known` ids."""
        chosen = [trial for trial in self.trials if trial.number in numbers and trial.workspace == workspace]
        return [run for trial in chosen for run in trial.runs if run in known]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        trials = []
        for trial in self.trials:
            values = dict(zip(self.objectives, trial.values or (), strict=False)) or None
            ranges = {name: trial.interval(i) for i, name in enumerate(self.objectives)} if values else {}
            facts = {name: getattr(trial, name) for name in ("number", "state", "preset", "message")}
            trials.append(
                facts
                | {
                    "params": dict(trial.params),
                    "validation": values,
                    "n_seeds": len(trial.by_seed),
                    "interval_over_seeds": {name: r and list(r) for name, r in ranges.items()},
                    "runs": list(trial.runs),
                }
            )
        return {
            "study": self.name,
            "storage": self.shown,
            "objectives": list(self.objectives),
            "split": "val",
            "n_val": self.n_val,
            "seeds": list(self.seeds),
            "data": self.data,
            "partial": list(self.partial),
            "space": self.space.to_dict(),
            "trials": trials,
            "front": [trial.number for trial in self.front],
        }


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean ± t · sd / √k, cut to [0, 1]; None for fewer than two values.

    >>> low, high = seed_interval([0.80, 0.82, 0.84])
    >>> round(low, 4), round(high, 4)
    (0.7703, 0.8697)
    """
    k = len(values)
    if k < 2:
        return None
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(k - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(k)
    return max(0.0, mean - half), min(1.0, mean + half)


def read_sweep(storage: Storage) -> Sweep:
    """A study as it is now.

    Raises
    ------
    InputError
        There is no such study, it is not one of fairvlm's, or the storage cannot be read.
    """
    missing = f"there is no study {storage.study!r} in {storage.shown}; `fairvlm sweep` makes one"
    if storage.journal is not None and not storage.journal.exists():
        raise InputError(missing)
    optuna = load_optuna()
    opened = storage.open()
    with storage.plain_errors():
        if storage.study not in optuna.study.get_all_study_names(opened):
            raise InputError(missing)
        return sweep_of(optuna.load_study(study_name=storage.study, storage=opened), storage)


def sweep_of(study: Any, storage: Storage) -> Sweep:
    """As `read_sweep`, for an open Optuna study."""
    record = study.user_attrs.get(RECORD)
    if record is None:
        raise InputError(f"study {storage.study!r} was not made by fairvlm, or not completely: choose another --study")
    if record.get("version") != RECORD_VERSION:
        raise InputError(f"study {storage.study!r} was made by another fairvlm: update, or choose another --study")
    found = study.get_trials(deepcopy=False)
    any_complete = any(trial.state.name == "COMPLETE" for trial in found)
    front = {trial.number for trial in study.best_trials} if any_complete else set()
    space = Space.from_dict(record["space"])
    return Sweep(
        name=storage.study,
        shown=storage.shown,
        objectives=tuple(record["objectives"]),
        seeds=tuple(record["seeds"]),
        data=str(record["data"]["name"]),
        n_val=int(record["data"]["n_val"]),
        space=space,
        partial=tuple(next((t.user_attrs["partial"] for t in found if "partial" in t.user_attrs), ())),
        trials=tuple(_trial(t, t.number in front, space.preset) for t in found if counted(t)),
    )


def counted(trial: Any) -> bool:
    """Whether an Optuna trial is one of those asked for: not one that was given up and queued again, nor a surplus one."""
    return trial.state.name != "FAIL" or "error" in trial.user_attrs


def _trial(trial: Any, front: bool, preset: str) -> Trial:
    attributes = trial.user_attrs
    state = TrialState.FAILED if trial.state.name == "FAIL" else TrialState[trial.state.name]
    params = dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))
    finished = {int(seed): tuple(values) for seed, values in attributes.get("values", {}).items()}
    runs = {int(seed): run for seed, run in attributes.get("runs", {}).items()}
    return Trial(
        number=trial.number,
        state=state,
        preset=str(params.pop("preset", preset)),
        params=params,
        values=tuple(trial.values) if state == TrialState.COMPLETE else None,
        by_seed=tuple(sorted(finished.items())),
        runs=tuple(run for _, run in sorted(runs.items())),
        workspace=str(attributes.get("workspace", "")),
        front=front,
        message=str(attributes.get("error", "")),
    )
