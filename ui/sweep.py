"""What the view of sweeps says: points, the table of trials, sentences; decisions without drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.sweep import OBJECTIVES, Sweep, Trial

from .words import NOTHING, figure, listed, many

POINTS = ("trial", "x", "x_low", "x_high", "y", "y_low", "y_high", "front", "n_seeds", "settings")


def title(objective: str) -> str:
    """
    >>> title("auc"), title("es_auc"), title("worst_group:race")
    ('AUC', 'ES-AUC, mean over attributes', 'AUC of the worst group, race')
    """
    name, _, attribute = objective.partition(":")
    if attribute:
        return f"{OBJECTIVES[name]}, {attribute}"
    return OBJECTIVES[name] + (", mean over attributes" if name == "es_auc" else "")


def settings(trial: Trial) -> str:
    """What was drawn for a trial.

    >>> settings(Trial(0, "complete", "dbpm", {"mining.faulty_sd": 2.5}, (0.8,), (), (), "", True))
    'dbpm · mining.faulty_sd 2.5'
    """
    drawn = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in trial.params.items()
    ]
    return " · ".join([trial.preset, *drawn])


def points(sweep: Sweep, x: int, y: int) -> pd.DataFrame:
    """One row a complete trial, columns `POINTS`: means on validation and intervals over seeds (NaN for a single seed).

    `x` and `y` are places in the objectives; `front` marks trials that no other beats in all objectives together.
    """
    rows = []
    for trial in sweep.complete:
        values = trial.values or ()
        spans = [trial.interval(axis) or (np.nan, np.nan) for axis in (x, y)]
        rows.append(
            (trial.number, values[x], *spans[0], values[y], *spans[1], trial.front, len(trial.by_seed), settings(trial))
        )
    return pd.DataFrame(rows, columns=list(POINTS))


def trials_table(sweep: Sweep) -> pd.DataFrame:
    """One row a trial: the front first, then complete ones by the first objective, then the others as they came."""
    rest = sorted(sweep.complete, key=lambda trial: trial.values or (), reverse=True)
    order = [*sweep.front, *(t for t in rest if not t.front), *(t for t in sweep.trials if t.state != "complete")]
    rows = []
    for trial in order:
        row: dict[str, Any] = {
            "Trial": trial.number,
            "Front": trial.front,
            "State": trial.state,
            "Settings": settings(trial),
        }
        for i, name in enumerate(sweep.objectives):
            row[f"Validation {name}"] = trial.values[i] if trial.values else np.nan
            reach = trial.interval(i) if trial.values else None
            row[f"95 % over seeds, {name}"] = f"{figure(reach[0])} to {figure(reach[1])}" if reach else NOTHING
        rows.append(row | {"Seeds": len(trial.by_seed), "Runs": " ".join(trial.runs), "Note": trial.message})
    columns = [f"{kind} {name}" for name in sweep.objectives for kind in ("Validation", "95 % over seeds,")]
    every = ["Trial", "Front", "State", "Settings", *columns, "Seeds", "Runs", "Note"]
    return pd.DataFrame(rows, columns=every).astype({f"Validation {name}": float for name in sweep.objectives})


def runs_of(sweep: Sweep, numbers: Sequence[int], workspace: str, known: Sequence[str]) -> list[str]:
    """Ids of the runs of trials, as far as they are in this workspace."""
    there = set(known)
    chosen = [trial for trial in sweep.trials if trial.number in set(numbers) and trial.workspace == workspace]
    return [run for trial in chosen for run in trial.runs if run in there]


def progress_line(sweep: Sweep) -> str:
    """How far a study is, and on what it is judged."""
    states = [trial.state for trial in sweep.trials]
    parts = [f"{states.count(state)} {word}" for state, word in
             (("complete", "complete"), ("running", "at work"), ("waiting", "waiting"), ("pruned", "pruned"),
              ("failed", "failed")) if state in states]  # fmt: skip
    seeds = f"each the mean of {many(len(sweep.seeds), 'seed')}" if len(sweep.seeds) > 1 else "each a single seed"
    return f"{many(len(sweep.trials), 'trial')} ({listed(parts)}), {seeds}, judged on {sweep.n_val:,} validation pairs."


def front_line(sweep: Sweep) -> str:
    """Which trials are on the front, and how far that can be trusted."""
    numbers = [str(trial.number) for trial in sweep.front]
    names = listed([title(name) for name in sweep.objectives])
    one = len(numbers) == 1
    line = (
        f"{'Trial' if one else 'Trials'} {listed(numbers)} {'is' if one else 'are'} not beaten on validation {names}."
    )
    fewest = min(len(trial.by_seed) for trial in sweep.front)
    if fewest < 5:
        line += f" With {many(fewest, 'seed')} a trial, other seeds can change the front."
    return f"{line} The best of many trials looks better on validation than it is: compare its runs on test patients."
