"""What a sweep found so far: trials with their validation figures, and those that no other beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ..errors import InputError
from .space import Space
from .storage import Storage, load_optuna

OBJECTIVES = {"auc": "AUC", "es_auc": "ES-AUC", "worst_group": "AUC of the worst group"}
RECORD, RECORD_VERSION = "fairvlm", 1
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Trial:
    """One trial: the mean over its seeds.

    Attributes
    ----------
    number : int
    state : str
        waiting, running, complete, pruned, or failed.
    preset : str
    params : mapping of setting to value
    values : tuple of float or None, one an objective
        Means over the seeds, on validation; None unless complete.
    by_seed : tuple of (seed, values)
        Seeds that are done.
    runs : tuple of str
        Ids of its runs, by seed, in the workspace `workspace` (an identifier).
    front : bool
        No complete trial is as good in all objectives and better in one.
    message : str
        Why it failed.
    """

    number: int
    state: str
    preset: str
    params: Mapping[str, Any]
    values: tuple[float, ...] | None
    by_seed: tuple[tuple[int, tuple[float, ...]], ...]
    runs: tuple[str, ...]
    workspace: str
    front: bool
    message: str = ""

    def interval(self, objective: int) -> tuple[float, float] | None:
        """95 % for the mean over other seeds on the same validation patients (Student's t); None below two seeds."""
        return seed_interval([values[objective] for _, values in self.by_seed])


@dataclass(frozen=True)
class Sweep:
    """A study as it stands. `objectives` are names as in `OBJECTIVES`, with ``:attribute`` where it is a single one.

    `partial` names attributes in which a validation group has no AUC, so that ES-AUC and the worst group leave it out.
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

    @property
    def complete(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.state == "complete")

    @property
    def front(self) -> tuple[Trial, ...]:
        """The complete trials that no other beats, best in the first objective first."""
        best = [trial for trial in self.complete if trial.front]
        return tuple(sorted(best, key=lambda trial: trial.values or (), reverse=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        trials = []
        for trial in self.trials:
            values = dict(zip(self.objectives, trial.values or (), strict=False)) or None
            ranges = {name: trial.interval(i) for i, name in enumerate(self.objectives)} if values else {}
            trials.append(
                {
                    "number": trial.number,
                    "state": trial.state,
                    "preset": trial.preset,
                    "params": dict(trial.params),
                    "validation": values,
                    "n_seeds": len(trial.by_seed),
                    "interval_over_seeds": {name: r and list(r) for name, r in ranges.items()},
                    "runs": list(trial.runs),
                    "message": trial.message,
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
    reach = float(stdtrit(k - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(k)
    return max(0.0, mean - reach), min(1.0, mean + reach)


def read_sweep(storage: Storage) -> Sweep:
    """A study as it stands now.

    Raises
    ------
    InputError
        There is no such study, it is not one of fairvlm's, or the storage cannot be read.
    """
    if storage.journal is not None and not storage.journal.exists():
        raise InputError(f"there is no study {storage.study!r} in {storage.shown}; `fairvlm sweep` makes one")
    optuna = load_optuna()
    opened = storage.open()
    with storage.plain_errors():
        if storage.study not in optuna.study.get_all_study_names(opened):
            raise InputError(f"there is no study {storage.study!r} in {storage.shown}; `fairvlm sweep` makes one")
        return sweep_of(optuna.load_study(study_name=storage.study, storage=opened), storage)


def sweep_of(study: Any, storage: Storage) -> Sweep:
    """As `read_sweep`, of an open Optuna study."""
    record = study.user_attrs.get(RECORD)
    if record is None:
        raise InputError(f"study {storage.study!r} was not made by fairvlm, or not wholly: choose another --study")
    if record.get("version") != RECORD_VERSION:
        raise InputError(f"study {storage.study!r} was made by another fairvlm: update, or choose another --study")
    found = study.get_trials(deepcopy=False)
    front = {trial.number for trial in study.best_trials} if any(t.state.name == "COMPLETE" for t in found) else set()
    space = Space.from_dict(record["space"])
    trials = tuple(_trial(t, t.number in front, space.preset) for t in found if counted(t) or t.state.name == "FAIL")
    return Sweep(
        name=storage.study,
        shown=storage.shown,
        objectives=tuple(record["objectives"]),
        seeds=tuple(record["seeds"]),
        data=str(record["data"]["name"]),
        n_val=int(record["data"]["n_val"]),
        space=space,
        partial=tuple(next((t.user_attrs["partial"] for t in found if "partial" in t.user_attrs), ())),
        trials=tuple(trial for trial in trials if trial.state != "replaced"),
    )


def counted(trial: Any) -> bool:
    """Whether an Optuna trial is one of those asked for: not one that was given up and queued again, nor one too many."""
    return trial.state.name != "FAIL" or "error" in trial.user_attrs


_STATES = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned"}


def _trial(trial: Any, front: bool, preset: str) -> Trial:
    attributes = trial.user_attrs
    state = _STATES.get(trial.state.name, "failed" if "error" in attributes else "replaced")
    params = dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))
    done = {int(seed): tuple(values) for seed, values in attributes.get("values", {}).items()}
    return Trial(
        number=trial.number,
        state=state,
        preset=str(params.pop("preset", preset)),
        params=params,
        values=tuple(trial.values) if state == "complete" else None,
        by_seed=tuple(sorted(done.items())),
        runs=tuple(name for _, name in sorted((int(s), r) for s, r in attributes.get("runs", {}).items())),
        workspace=str(attributes.get("workspace", "")),
        front=front,
        message=str(attributes.get("error", "")),
    )
