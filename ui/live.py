"""What the live view says about runs that wait or are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fairvlm_core.jobs import Job
from fairvlm_core.jobs.progress import RunProgress, run_progress
from fairvlm_core.runs import Status
from fairvlm_core.words import duration, listed, many, number


def progress_line(status: Status, at: RunProgress) -> str:
    """How far a run is, in words.

    >>> progress_line(Status("running", epoch=1, epochs=4, step=30, steps=80), RunProgress(0.375, 2, 31.0))
    'epoch 2 of 4 · step 30 of 80 · about 31 s left'
    """
    if status.state == "queued":
        return "starting" if status.starting else "waits for its turn"
    if status.state != "running" and not status.epoch:
        return "ended before its first epoch did"
    if status.state != "running":
        return f"after epoch {status.epoch} of {status.epochs}"
    if not status.steps:
        return status.message or "starting"
    if status.step >= status.steps:
        return "evaluating and writing the result"
    left = [] if at.seconds_left is None else [f"about {duration(at.seconds_left)} left"]
    return " · ".join([f"epoch {at.epoch} of {status.epochs}", f"step {status.step:,} of {status.steps:,}", *left])


def queue_line(job: Job) -> str:
    """The state of a job, beside its name."""
    status = job.status
    if job.place and not status.starting:
        return f"number {job.place} in the queue of {status.device}"
    if status.silent is not None:
        return f"no heartbeat for {duration(status.silent)}"
    return progress_line(status, run_progress(status, []))


FOLDS = "All folds together: each pair is scored by the model that did not see its patient."


def folds_table(folds: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The folds of a cross-validated run, a row each.

    >>> folds_table([{"fold": 1, "n": 9, "n_patients": 7, "auc": 0.5, "probe_auc": None}]).iloc[0].to_list()
    [1.0, 9.0, 7.0, 0.5, nan]
    """
    columns = {
        "fold": "Fold", "n": "Pairs", "n_patients": "Patients", "auc": "Zero-shot AUC", "probe_auc": "Linear probe AUC",
    }  # fmt: skip
    frame = pd.DataFrame([{title: fold[name] for name, title in columns.items()} for fold in folds])
    return frame.astype({columns["auc"]: float, columns["probe_auc"]: float})


def outcome(test: Mapping[str, Any], folds: int = 0) -> str:
    """The test metrics of a finished run in one sentence."""
    es_auc = [f"{name} {number(facts['es_auc'])}" for name, facts in test["attributes"].items()]
    n = many(test["overall"]["n"], "test pair")
    if folds:
        n = f"the {many(test['overall']['n'], 'pair')} of {many(folds, 'fold')}"
    return f"Test AUC {number(test['overall']['auc'])} on {n}; ES-AUC {listed(es_auc) or 'without attributes'}."


def silent_line(seconds: float) -> str:
    """
    >>> silent_line(300)
    'No heartbeat for 5 min: the process is stopped or stuck. Cancel the run and resume it from its last whole epoch.'
    """
    return (
        f"No heartbeat for {duration(seconds)}: the process is stopped or stuck. Cancel the run and resume it from its "
        "last whole epoch."
    )
