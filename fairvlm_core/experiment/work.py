"""Training the runs of an experiment: here, on several cores and by several calls at once, or by the queue's workers.

What is left to do is read from the workspace each time, so an experiment that was stopped continues where it was. A run is
held by the process that trains it: several calls on one workspace, also from machines that share its folder, divide the
runs.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from joblib import Parallel, delayed

from .. import safeio
from ..cache import run_input
from ..distributed import ALONE, device_of
from ..errors import InputError, TrainingError
from ..jobs import launch
from ..launch import create_run, execute
from ..models import load_clip
from ..pairs import PairTable
from ..processes import end_with_parent
from ..runs import BusyError, Run, RunStore, State
from .plan import Cell, Experiment

SCHEMA_VERSION = 1
_PLAN = "plan.json"
_POLL = 1.0  # seconds between looks at a run that another process trains


@dataclass(frozen=True)
class Progress:
    """Optional callbacks: (runs finished before, runs in all); images decoded or embedded; a run that ended, with why it
    failed or an empty string."""

    on_begin: Callable[[int, int], None] | None = None
    on_images: Callable[[int, int], None] | None = None
    on_run: Callable[[Cell, Run, str], None] | None = None


@dataclass(frozen=True)
class Trained:
    """The runs of an experiment.

    Attributes
    ----------
    runs : mapping of Cell to Run
        Registered ones, finished or not.
    failed : mapping of Cell to str
        Why training stopped.
    """

    runs: Mapping[Cell, Run]
    failed: Mapping[Cell, str]

    @property
    def finished(self) -> dict[Cell, Run]:
        return finished_of(self.runs)


def finished_of(runs: Mapping[Cell, Run]) -> dict[Cell, Run]:
    """The runs that are finished."""
    return {cell: run for cell, run in runs.items() if run.status.state == State.FINISHED}


def find_runs(cells: Sequence[Cell], table: PairTable, store: RunStore) -> dict[Cell, Run]:
    """The run of each cell that a workspace has: the oldest finished one, else the newest that can be trained on."""
    needs_test_auc = {cell.key: cell.config.test_every_epoch for cell in cells}
    finished, others = dict[tuple[str, int], Run](), dict[tuple[str, int], Run]()
    for run in store.runs():
        try:
            key = run.method_key, run.config.seed
            if key not in needs_test_auc or run.data["fingerprint"] != table.fingerprint:
                continue
            if run.config.test_every_epoch or not needs_test_auc[key]:
                if run.status.state == State.FINISHED:
                    finished.setdefault(key, run)
                else:
                    others[key] = run
        except InputError:  # a damaged run is no result
            continue
    found = others | finished
    return {cell: found[cell.key] for cell in cells if cell.key in found}


def train_missing(
    experiment: Experiment,
    table: PairTable,
    store: RunStore,
    *,
    read_options: Mapping[str, Any] | None = None,
    processes: int | None = None,
    progress: Progress = Progress(),
) -> Trained:
    """Train every run of an experiment that the workspace lacks, and return all of them.

    Parameters
    ----------
    read_options : mapping
        With which `PairTable.read` reads the table again.
    processes : int, optional
        Runs that are trained at the same time. Default: one a core on CPUs; one with a GPU. The cores are divided among
        them in the same way whatever is missing, so that a result does not depend on where an experiment was stopped.

    Raises
    ------
    InputError
        The data do not fit the experiment. A run that fails is in `Trained.failed`, and the others are trained.
    """
    cells = experiment.cells(table)
    processes = processes or _processes(cells)
    threads = max(1, (os.cpu_count() or 1) // processes) if processes > 1 else None
    made = _registered(experiment, cells, table, store, dict(read_options or {}))
    waiting = {run.id: cell for cell, run in made.items() if run.status.state != State.FINISHED}
    if progress.on_begin is not None:
        progress.on_begin(len(cells) - len(waiting), len(cells))
    _fill_cache(list(waiting.values()), table, store, progress)
    pool = Parallel(
        processes, return_as="generator_unordered", batch_size=1, initializer=end_with_parent, initargs=(os.getpid(),)
    )
    results = pool(delayed(_train)(made[cell], table, threads) for cell in waiting.values())
    failed: dict[Cell, str] = {}
    try:
        for run_id, why in results:
            cell = waiting[run_id]
            failed |= {cell: why} if why else {}
            if progress.on_run is not None:
                progress.on_run(cell, made[cell], why)
    finally:
        with warnings.catch_warnings():  # of an interrupt, joblib warns that it cancels what has not begun
            warnings.simplefilter("ignore")
            results.close()
    return Trained(made, failed)


def queue_missing(
    experiment: Experiment, table: PairTable, store: RunStore, read_options: Mapping[str, Any] | None = None
) -> Trained:
    """Put every run of an experiment that is missing or has stopped into the workspace's queue, and return at once."""
    made = _registered(experiment, experiment.cells(table), table, store, dict(read_options or {}))
    launch(store, [run for run in made.values() if _can_be_queued(run)])
    return Trained(made, {})


def _can_be_queued(run: Run) -> bool:
    status = run.status
    return status.state.resumable or (status.state == State.QUEUED and status.ticket is None)


def _processes(cells: Sequence[Cell]) -> int:
    on_cpu = all(device_of(cell.config.device, ALONE).type == "cpu" for cell in cells)
    return min(os.cpu_count() or 1, len(cells)) if on_cpu else 1


def folder_of(name: str, store: RunStore) -> Path:
    """Where an experiment's table and the list of its runs are."""
    return store.workspace / "experiments" / name


@dataclass(frozen=True)
class Stored:
    """An experiment that was started in a workspace, with the run of each cell that is still there."""

    experiment: Experiment
    runs: Mapping[Cell, Run]
    n_cells: int

    @property
    def finished(self) -> dict[Cell, Run]:
        return finished_of(self.runs)


def stored_experiments(store: RunStore) -> list[str]:
    """Names of the experiments that were started in a workspace, the latest first."""
    paths = sorted((store.workspace / "experiments").glob(f"*/{_PLAN}"), key=lambda path: -path.stat().st_mtime_ns)
    return [path.parent.name for path in paths]


def read_stored(name: str, store: RunStore) -> Stored:
    """One of `stored_experiments`.

    Raises
    ------
    InputError
        Its list of runs is missing or damaged.
    """
    path = folder_of(name, store) / _PLAN
    try:
        values = safeio.read_versioned(path, SCHEMA_VERSION)
        experiment, cells = Experiment.model_validate(values["experiment"]), values["cells"]
        runs = {}
        for cell in cells:
            run = Run(store.root / str(cell["run"]))
            if run.path.is_dir():
                runs[Cell(cell["method"], cell["model"], cell["attribute"], cell["seed"], run.config)] = run
    except (KeyError, TypeError, ValueError):
        raise InputError(f"experiments/{name}/{_PLAN} is damaged: run the experiment again") from None
    return Stored(experiment, runs, len(cells))


def _registered(
    experiment: Experiment, cells: Sequence[Cell], table: PairTable, store: RunStore, read_options: dict[str, Any]
) -> dict[Cell, Run]:
    """A run for every cell; two calls at once register each cell once. Cells that are the same run share it."""
    lock = store.workspace / "experiments" / ".lock"
    with safeio.storing(lock):
        safeio.make_folder(lock.parent)
        with FileLock(lock, mode=safeio.PRIVATE_FILE):
            found = {cell.key: run for cell, run in find_runs(cells, table, store).items()}
            for cell in cells:
                if cell.key not in found:
                    found[cell.key] = create_run(table, cell.config, store, read_options=read_options)
            plan = [cell.facts | {"run": found[cell.key].id} for cell in cells]
            safeio.make_folder(folder := folder_of(experiment.name, store))
            values = {"experiment": experiment.model_dump(mode="json"), "cells": plan}
            safeio.write_json(folder / _PLAN, {"schema_version": SCHEMA_VERSION} | values)
    return {cell: found[cell.key] for cell in cells}


def _fill_cache(cells: Sequence[Cell], table: PairTable, store: RunStore, progress: Progress) -> None:
    """Decode or embed the images once for each model, before several processes need them."""
    done = set()
    for cell in cells:
        config = cell.config
        if (what := (config.model, config.trainable == "head")) not in done:
            done.add(what)
            clip = load_clip(config.model, device=device_of(config.device, ALONE), seed=config.seed)
            run_input(table, clip, config, store.workspace / "cache", progress=progress.on_images)


def _train(run: Run, table: PairTable, threads: int | None) -> tuple[str, str]:
    """Train a run, or wait for the process that does; its id, and why it failed or an empty string.

    `threads`: of torch, in a process of a pool; None in the caller's own process, whose threads stay as they are.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    while run.status.state != State.FINISHED:
        try:
            execute(run, table=table, resume=bool(run.saved_states))
        except BusyError:
            time.sleep(_POLL)
        except (InputError, TrainingError) as error:
            if run.status.state not in (State.RUNNING, State.FINISHED):  # else another process has it
                return run.id, str(error)
            time.sleep(_POLL)
    return run.id, ""
