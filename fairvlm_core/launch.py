"""A run from start to end: read the data, train, write the run's folder, and write the state it ends in."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import safeio
from .analysis.held_out import held_out_report, held_out_rows
from .analysis.learning import still_learning
from .analysis.pairmap import make_map_if_possible
from .cache import run_input
from .config import RunConfig
from .cross_validation import all_training, check_folds, cross_validate
from .distributed import ALONE, Team, device_of
from .errors import InputError, TrainingError
from .fairness import FairnessReport
from .features import PairArrays
from .ledger import PairLossLedger
from .mining import audit_mining
from .models import Clip, check_name, load_clip
from .pairs import PairTable
from .processes import process_of
from .review.apply import apply_verdicts, record
from .review.export import read_verdicts, write_verdicts
from .review.results import VerdictSet
from .runs import Run, RunStore, State, now, without_message
from .safeio import StorageError
from .train import EpochReport, FitResult, TrainState, check_table, fit

_KEPT_STATES = 2
_GPU_IS_FULL = (  # messages of errors that are no torch.OutOfMemoryError
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_HEARTBEAT = 2.0  # seconds between heartbeats, and between writes of the step reached


@dataclass(frozen=True)
class Hooks:
    """Optional callbacks of a run."""

    on_images: Callable[[int, int], None] | None = None
    on_step: Callable[[int, int], None] | None = None
    on_epoch: Callable[[EpochReport], None] | None = None


def create_run(
    table: PairTable,
    config: RunConfig,
    store: RunStore,
    *,
    read_options: dict[str, Any],
    verdicts: VerdictSet | None = None,
) -> Run:
    """Register a run in state `queued`. `read_options` are the arguments with which `PairTable.read` reads the table again.

    `verdicts` of a review are kept with the run and applied to the table whenever the run is executed.

    Raises
    ------
    InputError
        The run could not start: a split is empty or has one label, an attribute or a model is unknown, or the device does
        not exist. Nothing is registered then.
    """
    check_name(config.model)
    _check_device(config.device)
    fingerprint = table.fingerprint
    applied = None if verdicts is None else apply_verdicts(table, verdicts)
    table = table if applied is None else applied.table
    (check_folds if config.folds else check_table)(table, config)
    table = all_training(table) if config.folds else table
    data = {
        "folder": str(Path(table.root).resolve()),
        "read_options": read_options,
        "fingerprint": fingerprint,
        "name": table.info.name,
        "prompts": list(table.info.prompts),
        "attributes": list(table.attributes),
        "n": table.sizes,
        "warnings": [warning.to_dict() for warning in table.report.warnings],
    }
    columns = ["pair_id", "patient_id", "split", "label", *table.attributes]
    if verdicts is None or applied is None:
        return store.create(config, data, table.frame[columns])
    run = store.create(config, data | {"verdicts": record(applied, verdicts)}, table.frame[columns])
    write_verdicts(run.files.verdicts, verdicts.of_data(fingerprint))
    return run


def _check_device(name: str) -> None:
    """Does not use the device: the process that registers a run need not be the one that trains it."""
    try:
        device = None if name == "auto" else torch.device(name)
    except RuntimeError:
        raise InputError(f"setting device: {name!r} is no device; use auto, cpu, cuda or cuda:N") from None
    if device is not None and device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"setting device: {name!r} is not available here; use cpu or auto")


def execute(
    run: Run,
    *,
    table: PairTable | None = None,
    arrays: PairArrays | None = None,
    clip: Clip | None = None,
    resume: bool = False,
    map_pairs: bool = False,
    hooks: Hooks = Hooks(),
    team: Team = ALONE,
) -> FitResult:
    """Train a registered run in this process, or resume one that stopped.

    `table`, `arrays` and `clip`, an untrained model, are read or loaded where they are not given. With `map_pairs` the map
    of its pairs is made after it has finished. In a team all processes call this; only the first
    one writes, calls the hooks and holds the run.

    Raises
    ------
    InputError
        The data changed since the run was made, or there is nothing to resume.
    TrainingError
        The run had to stop; its state is `failed` and its last complete epoch is kept.
    """
    if not team.first:
        with _memory_errors(run.config):
            begin = _begin(run, table, arrays, clip, team)
            state = latest_state(run, log=False) if resume else None
            return fit(begin.table, run.config, state=state, **begin.options)
    with run.held():
        result = _execute(run, table, arrays, clip, resume, hooks, team)
    if map_pairs:
        make_map_if_possible(run)
    return result


def _execute(
    run: Run,
    table: PairTable | None,
    arrays: PairArrays | None,
    clip: Clip | None,
    resume: bool,
    hooks: Hooks,
    team: Team,
) -> FitResult:
    if run.status.state == State.RUNNING:
        raise InputError(f"run {run.id} is running in another process (pid {run.status.pid})")
    if resume and run.status.state == State.FINISHED:
        raise InputError(f"run {run.id} is finished: there is nothing to resume")
    for folder in (run.path, run.files.states):
        safeio.sweep(folder)
    with safeio.storing(run.files.cancel):
        run.files.cancel.unlink(missing_ok=True)
    with _heartbeat(run):
        started = {"message": "reading the data", "finished": None, "step": 0, "steps": 0}
        run.set_status(state=State.RUNNING, **started, **process_of().record())
        run.log("resumed" if resume else "started")
        with _state_of_failure(run), _memory_errors(run.config):
            begin = _begin(run, table, arrays, clip, team, hooks.on_images)
            if run.config.folds:
                result, folds = _cross_validate(run, begin, resume, hooks, team)
                table = all_training(begin.table)
            else:
                result, folds, table = _train(run, begin, resume, hooks, team), (), begin.table
            run.set_status(message="writing the result")
            _save_result(run, table, result, folds)
        run.set_status(state=State.FINISHED, message="finished", pid=None, finished=now())
    run.log("finished")
    shutil.rmtree(run.files.states, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Begin:
    """What a run trains on; `options` are arguments of `fit`."""

    table: PairTable
    options: dict[str, Any]


def _begin(
    run: Run,
    table: PairTable | None,
    arrays: PairArrays | None,
    clip: Clip | None,
    team: Team,
    on_images: Callable[[int, int], None] | None = None,
) -> _Begin:
    config = run.config
    if table is None:
        table = _registered_table(run)
    if table.fingerprint != run.data["fingerprint"]:
        raise InputError(f"the data of run {run.id} has changed since it was made: start a new run")
    trusted: frozenset[str] = frozenset()
    if "verdicts" in run.data:
        applied = apply_verdicts(table, read_verdicts(run.files.verdicts))
        table, trusted, arrays = applied.table, applied.trusted, None
    clip = clip or load_clip(config.model, device=device_of(config.device, team), seed=config.seed)
    if arrays is None:
        arrays = run_input(table, clip, config, run.workspace / "cache", progress=on_images)
    return _Begin(table, {"arrays": arrays, "clip": clip, "trusted": trusted, "team": team})


def _registered_table(run: Run) -> PairTable:
    """The table that the run was made with. It is first read without decoding images, which the cache does anyway."""
    folder, options = run.data["folder"], run.data["read_options"]
    table = PairTable.read(folder, **options | {"check_images": False})
    return table if table.fingerprint == run.data["fingerprint"] else PairTable.read(folder, **options)


def _train(run: Run, begin: _Begin, resume: bool, hooks: Hooks, team: Team) -> FitResult:
    state = latest_state(run) if resume else None
    if state is not None:  # the process may have been killed after it saved this state and before it wrote the rest
        run.write_metrics(state.history)
        run.set_status(epoch=state.epoch)
    cut = begin.options["arrays"].cut
    if cut.any():
        run.log(f"{int(cut.sum())} of {len(cut)} notes are longer than the model's context and were cut")
    if team.size > 1:
        run.log(f"{team.size} processes train together")

    def on_epoch(report: EpochReport, reached: TrainState) -> None:
        _save_state(run, reached)
        run.write_metrics(reached.history)
        run.set_status(epoch=report.epoch, message=f"epoch {report.epoch} of {run.config.epochs}")
        if hooks.on_epoch is not None:
            hooks.on_epoch(report)

    return fit(begin.table, run.config, state=state, **begin.options, on_step=_on_step(run, hooks), on_epoch=on_epoch)


def _on_step(run: Run, hooks: Hooks) -> Callable[[int, int], None]:
    """Write the step reached, at most once in `_HEARTBEAT` seconds, and call the hook."""
    written = time.monotonic()

    def on_step(step: int, steps: int) -> None:
        nonlocal written
        if time.monotonic() - written > _HEARTBEAT or step == steps:
            written = time.monotonic()
            run.set_status(step=step, steps=steps)
        if hooks.on_step is not None:
            hooks.on_step(step, steps)

    return on_step


def _cross_validate(
    run: Run, begin: _Begin, resume: bool, hooks: Hooks, team: Team
) -> tuple[FitResult, tuple[dict[str, Any], ...]]:
    """A run of several folds; one that stopped scores its finished folds again and continues in the fold it was in."""
    if team.size > 1:
        raise InputError("setting folds: cross-validation runs in one process; start it without torchrun")
    config, clip = run.config, begin.options["clip"]

    def on_fold(entry: dict[str, Any]) -> None:
        run.set_status(message=f"fold {entry['fold']} of {config.folds}")
        run.log(f"fold {entry['fold']}: AUC {entry['auc']}, linear probe {entry['probe_auc']}")

    found = cross_validate(
        begin.table,
        config,
        arrays=begin.options["arrays"],
        clip_of_fold=lambda: load_clip(config.model, device=clip.device, seed=config.seed),
        trusted=begin.options["trusted"],
        state_of=lambda fold: latest_state(run, fold=fold) if resume else None,
        on_state=lambda fold, state: _save_state(run, state, fold),
        on_step=_on_step(run, hooks),
        on_fold=on_fold,
    )
    run.write_metrics([asdict(line) for line in found.result.history])
    run.set_status(epoch=config.epochs)
    return found.result, found.folds


@contextlib.contextmanager
def _state_of_failure(run: Run) -> Iterator[None]:
    """Write the state of a run that stops inside the block."""
    try:
        yield
    except KeyboardInterrupt:
        _leave(run, State.CANCELLED)
        raise
    except (InputError, TrainingError) as error:
        _leave(run, State.FAILED, str(error))
        raise
    except Exception as error:
        _leave(run, State.FAILED, f"internal error: {type(error).__name__}")
        run.log(without_message(error))
        raise


def _leave(run: Run, state: State, message: str = "") -> None:
    with contextlib.suppress(StorageError):  # readers then find that the process has ended
        run.set_status(state=state, message=message or state, pid=None)
    run.log(f"{state}: {message}" if message else state)


@contextlib.contextmanager
def _memory_errors(config: RunConfig) -> Iterator[None]:
    """Turn running out of memory inside the block into a `TrainingError` that says what to change."""
    try:
        yield
    except Exception as error:
        if (memory := _exhausted_memory(error)) is None:
            raise
        raise TrainingError(
            f"out of {memory} memory: lower batch_size (now {config.batch_size}) or take a smaller model (now "
            f"{config.model}), in a new run with the same settings otherwise"
        ) from error


def _exhausted_memory(error: Exception) -> str | None:
    if isinstance(error, torch.OutOfMemoryError):
        return "GPU"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _GPU_IS_FULL):
        return "GPU"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)):
        return "main"
    return None


@contextlib.contextmanager
def _heartbeat(run: Run) -> Iterator[None]:
    """Touch the run's heartbeat file while the block runs."""
    path, stop = run.files.heartbeat, threading.Event()
    with safeio.storing(path):
        path.touch(mode=safeio.PRIVATE_FILE)

    def beat() -> None:
        while not stop.wait(_HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# What is stored


def latest_state(run: Run, *, log: bool = True, fold: int | None = None) -> TrainState | None:
    """The newest complete state of a run, or of one of its folds; None where it stopped before the end of an epoch.

    With `log`, damaged states that are skipped are named in the run's log.
    """
    states = run.saved_states
    if fold is not None:
        first = fold * run.config.epochs
        states = [path for path in states if first < int(path.name) <= first + run.config.epochs]
    for path in reversed(states):
        problem = safeio.check_folder(path)
        if problem is None:
            try:
                values = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
                values["ledger"] = _to_arrays(values["ledger"])
                return TrainState.read(values)
            except Exception as error:  # what torch raises on foreign bytes differs by version
                problem = f"it is no state of a run ({type(error).__name__})"
        if log:
            run.log(f"state {path.name} is not used: {problem}")
    return None


def _save_state(run: Run, state: TrainState, fold: int = 0) -> None:
    values = {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
    values["ledger"] = _to_tensors(state.ledger)
    number = fold * run.config.epochs + state.epoch
    with safeio.new_folder(run.files.states / f"{number:04d}") as folder, (folder / "state.pt").open("wb") as file:
        torch.save(values, file)
    for path in run.saved_states[:-_KEPT_STATES]:
        if int(path.name) % run.config.epochs:  # a finished fold keeps its last state
            shutil.rmtree(path, ignore_errors=True)
    if not run.config.folds:  # a fold's ledger lacks the other folds' pairs
        run.write_parquet(run.files.ledger, PairLossLedger.from_state_dict(state.ledger).to_wide_frame())


def _save_result(run: Run, table: PairTable, result: FitResult, folds: Sequence[dict[str, Any]] = ()) -> None:
    run.write_parquet(run.files.ledger, result.ledger.to_wide_frame())
    run.write_parquet(run.files.predictions, result.predictions)
    run.write_embeddings(result.image_features, result.text_features)
    train = np.asarray(table.frame["split"], str) == "train"
    audit = audit_mining(result.mining, {name: table.attribute(name)[train] for name in table.attributes})
    test = held_out_rows(result.predictions, run.id)
    curves = [(epoch.val["overall"]["auc"], epoch.val_loss) for epoch in result.history]
    learning = still_learning(*zip(*curves, strict=True))
    run.write_report(
        {
            "best_epoch": result.best_epoch,
            "still_learning": None if learning is None else asdict(learning),
            "test": result.test.to_dict(),
            "test_with_intervals": held_out_report(test, table.attributes).to_dict(),
            "val": result.val.to_dict(),
            "probe": _probe_report(result),
            "mining": {"flagged": result.mining.n_flagged, "audit": audit.to_dict()},
            **({"folds": list(folds)} if folds else {}),
            "step_seconds": float(np.median([epoch.step_seconds for epoch in result.history])),
        }
    )
    with safeio.new_folder(run.checkpoint) as folder:
        result.clip.save(folder)


def _probe_report(result: FitResult) -> dict[str, Any] | None:
    test = result.predictions[result.predictions["split"] == "test"]
    if test["probe_score"].isna().any():
        return None
    attributes = {name: test[name].to_numpy(str) for name in result.test.attributes}
    label, score = test["label"].to_numpy(), test["probe_score"].to_numpy(float)
    return FairnessReport.from_predictions(label, score, attributes, n_resamples=0, n_permutations=0).to_dict()


def _to_tensors(value: Any) -> Any:
    """Values that `torch.load(weights_only=True)` reads; `_to_arrays` turns them back."""
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "UO" else {"ndarray": torch.from_numpy(value.copy())}
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return value["ndarray"].numpy() if set(value) == {"ndarray"} else {k: _to_arrays(v) for k, v in value.items()}
    return value
