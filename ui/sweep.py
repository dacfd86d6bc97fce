"""The table of trials and the sentences of the sweeps view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.sweep import OBJECTIVES, Sweep, TrialState
from fairvlm_core.words import NOTHING, listed, many, span

_ORDER = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING, TrialState.PRUNED, TrialState.FAILED)


def title(objective: str) -> str:
    """
    >>> title("auc"), title("es_auc"), title("worst_group:race")
    ('AUC', 'ES-AUC, mean over attributes', 'AUC of the worst group, race')
    """
    name, _, attribute = objective.partition(":")
    if attribute:
        return f"{OBJECTIVES[name]}, {attribute}"
    return OBJECTIVES[name] + (", mean over attributes" if name == "es_auc" else "")


def trials_table(sweep: Sweep) -> pd.DataFrame:
    """One row a trial: the front first, then complete ones by the first objective, then the others by number."""
    rest = sorted(sweep.complete, key=lambda trial: trial.values or (), reverse=True)
    order = [
        *sweep.front,
        *(t for t in rest if not t.front),
        *(t for t in sweep.trials if t.state != TrialState.COMPLETE),
    ]
    columns = [f"{kind} {name}" for name in sweep.objectives for kind in ("Validation", "95 % over seeds,")]
    rows = []
    for trial in order:
        values: list[Any] = []
        for i in range(len(sweep.objectives)):
            interval = trial.interval(i) if trial.values else None
            values += [trial.values[i] if trial.values else np.nan, span(*interval) if interval else NOTHING]
        head = (trial.number, trial.front, str(trial.state), trial.settings)
        rows.append((*head, *values, len(trial.by_seed), " ".join(trial.runs), trial.message))
    frame = pd.DataFrame(rows, columns=["Trial", "Front", "State", "Settings", *columns, "Seeds", "Runs", "Note"])
    return frame.astype({f"Validation {name}": float for name in sweep.objectives})


def progress_line(sweep: Sweep) -> str:
    """How many trials a study has in each state, and what they are judged on."""
    parts = [f"{n} {state}" for state in _ORDER if (n := sweep.count(state))]
    seeds = f"each the mean of {many(len(sweep.seeds), 'seed')}" if len(sweep.seeds) > 1 else "each a single seed"
    return f"{many(len(sweep.trials), 'trial')} ({listed(parts)}), {seeds}, judged on {sweep.n_val:,} validation pairs."


def front_line(sweep: Sweep) -> str:
    """Which trials are on the front, and how far that can be trusted."""
    numbers = [str(trial.number) for trial in sweep.front]
    names = listed([title(name) for name in sweep.objectives])
    what = "Trial {} is" if len(numbers) == 1 else "Trials {} are"
    line = f"{what.format(listed(numbers))} on the Pareto front of validation {names}."
    fewest = min(len(trial.by_seed) for trial in sweep.front)
    if fewest < 5:
        line += f" With {many(fewest, 'seed')} a trial, other seeds can change the front."
    return f"{line} The best of many trials looks better on validation than it is: compare its runs on test patients."
