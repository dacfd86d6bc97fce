"""A run from beginning to end: read the data, train, write the run's folder, and leave a truthful state behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import safeio
from .analysis.held_out import held_out_report, held_out_rows
from .analysis.pairmap import make_map_if_possible
from .cache import run_input
from .config import RunConfig
from .distributed import ALONE, Team, device_of
from .errors import InputError, TrainingError
from .fairness import FairnessReport
from .features import PairArrays
from .ledger import PairLossLedger
from .mining import audit_mining
from .models import Clip, check_name, load_clip
from .pairs import PairTable
from .review.apply import apply_verdicts, record
from .review.export import read_verdicts, write_verdicts
from .review.results import VerdictSet
from .runs import Run, RunStore, now, this_process
from .safeio import StorageError
from .train import EpochReport, FitResult, TrainState, check_table, fit

_KEPT_STATES = 2
_VERDICTS = "verdicts.json"
_GPU_IS_FULL = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)  # beside its own type
_HEARTBEAT = 2.0  # seconds between two signs of life, and between two words on the step reached


@dataclass(frozen=True)
class Hooks:
    """What a caller may watch; every one is optional."""

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
    """Register a run in state `queued`; `read_options` are what `PairTable.read` needs to read the same table again.

    `verdicts` of a review are kept with the run and applied to the table whenever the run is executed.

    Raises
    ------
    InputError
        The run could not even begin: a split is empty or of one label, an attribute or a model is unknown, there is no such
        device. Nothing is registered then.
    """
    check_name(config.model)
    _check_device(config.device)
    fingerprint = table.fingerprint
    applied = None if verdicts is None else apply_verdicts(table, verdicts)
    table = table if applied is None else applied.table
    check_table(table, config)
    data = {
        "folder": str(Path(table.root).resolve()),
        "read_options": read_options,
        "fingerprint": fingerprint,
        "name": table.info.name,
        "prompts": list(table.info.prompts),
        "attributes": list(table.attributes),
        "n": {split: int((table.frame["split"] == split).sum()) for split in ("train", "val", "test")},
        "warnings": [warning.to_dict() for warning in table.report.warnings],
    }
    columns = ["pair_id", "patient_id", "split", "label", *table.attributes]
    if verdicts is None or applied is None:
        return store.create(config, data, table.frame[columns])
    run = store.create(config, data | {"verdicts": record(applied, verdicts)}, table.frame[columns])
    write_verdicts(run.path / _VERDICTS, verdicts.of_data(fingerprint))
    return run


def _check_device(name: str) -> None:
    """Without a word to the device itself: who registers runs need not be who trains them."""
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
    resume: bool = False,
    map_pairs: bool = False,
    hooks: Hooks = Hooks(),
    team: Team = ALONE,
) -> FitResult:
    """Train a registered run in this process, or go on with an interrupted one.

    With `map_pairs` the map of its pairs is made once the run is finished and its figures stand. In a team all processes
    call this; the first one alone writes, calls the hooks and holds the run.

    Raises
    ------
    InputError
        The data changed since the run was made, or there is nothing to resume.
    TrainingError
        The run had to stop; its state is `failed` and its last good epoch is kept.
    """
    if not team.first:
        return _follow(run, table, arrays, resume, team)
    with run.held():
        result = _execute(run, table, arrays, resume, hooks, team)
    if map_pairs:
        make_map_if_possible(run)
    return result


def _execute(
    run: Run, table: PairTable | None, arrays: PairArrays | None, resume: bool, hooks: Hooks, team: Team
) -> FitResult:
    if run.status.state == "running":
        raise InputError(f"run {run.id} is running in another process (pid {run.status.pid})")
    if resume and run.status.state == "finished":
        raise InputError(f"run {run.id} is finished: there is nothing to resume")
    config = run.config
    for folder in (run.path, run.path / "resume"):
        safeio.sweep(folder)
    with safeio.storing(run.path / "cancel"):
        (run.path / "cancel").unlink(missing_ok=True)
    with _beating(run):
        run.set_status(state="running", message="reading the data", finished=None, step=0, steps=0, **this_process())
        run.log("resumed" if resume else "started")
        result = _train(run, config, table, arrays, resume, hooks, team)
        run.set_status(state="finished", message="finished", pid=None, finished=now())
    run.log("finished")
    shutil.rmtree(run.path / "resume", ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Begin:
    """What a run trains with; `options` are for `fit`."""

    table: PairTable
    options: dict[str, Any]


def _begin(
    run: Run,
    table: PairTable | None,
    arrays: PairArrays | None,
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
        applied = apply_verdicts(table, read_verdicts(run.path / _VERDICTS))
        table, trusted, arrays = applied.table, applied.trusted, None
    clip: Clip = load_clip(config.model, device=device_of(config.device, team), seed=config.seed)
    if arrays is None:
        arrays = run_input(table, clip, config, run.path.parents[1] / "cache", progress=on_images)
    return _Begin(table, {"arrays": arrays, "clip": clip, "trusted": trusted, "team": team})


def _follow(run: Run, table: PairTable | None, arrays: PairArrays | None, resume: bool, team: Team) -> FitResult:
    """What all processes of a team but the first do: the same, and nothing that is written."""
    try:
        begin = _begin(run, table, arrays, team)
        state = latest_state(run, log=False) if resume else None
        return fit(begin.table, run.config, state=state, **begin.options)
    except (InputError, TrainingError):
        raise
    except Exception as error:
        if line := _out_of_memory(error, run.config):
            raise TrainingError(line) from error
        raise


def _train(
    run: Run,
    config: RunConfig,
    table: PairTable | None,
    arrays: PairArrays | None,
    resume: bool,
    hooks: Hooks,
    team: Team,
) -> FitResult:
    try:
        begin = _begin(run, table, arrays, team, hooks.on_images)
        state = latest_state(run) if resume else None
        if state is not None:  # killed after this state was saved and before the rest was
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
            run.set_status(epoch=report.epoch, message=f"epoch {report.epoch} of {config.epochs}")
            if hooks.on_epoch is not None:
                hooks.on_epoch(report)

        told = time.monotonic()

        def on_step(step: int, steps: int) -> None:
            nonlocal told
            if time.monotonic() - told > _HEARTBEAT or step == steps:
                told = time.monotonic()
                run.set_status(step=step, steps=steps)
            if hooks.on_step is not None:
                hooks.on_step(step, steps)

        result = fit(begin.table, config, state=state, **begin.options, on_step=on_step, on_epoch=on_epoch)
        run.set_status(message="writing the result")
        _save_result(run, begin.table, result)
        return result
    except KeyboardInterrupt:
        _leave(run, "cancelled", "cancelled")
        raise
    except (InputError, TrainingError) as error:
        _leave(run, "failed", str(error))
        raise
    except Exception as error:
        if line := _out_of_memory(error, config):
            _leave(run, "failed", line)
            raise TrainingError(line) from error
        _leave(run, "failed", f"internal error: {type(error).__name__}")
        run.log_crash(error)
        raise


def _registered_table(run: Run) -> PairTable:
    """The table that the run was made with; where the rows tell that it is the same, images are decoded only once."""
    folder, options = run.data["folder"], run.data["read_options"]
    table = PairTable.read(folder, **options | {"check_images": False})
    return table if table.fingerprint == run.data["fingerprint"] else PairTable.read(folder, **options)


def _out_of_memory(error: Exception, config: RunConfig) -> str | None:
    """What to do, where there was not enough memory."""
    short_of = _short_of_memory(error)
    return short_of and (
        f"out of {short_of} memory: lower batch_size (now {config.batch_size}) or take a smaller model (now "
        f"{config.model}), in a new run with the same settings otherwise"
    )


def _short_of_memory(error: Exception) -> str | None:
    """Which memory was not enough, where that is what went wrong."""
    if isinstance(error, torch.OutOfMemoryError):
        return "GPU"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _GPU_IS_FULL):
        return "GPU"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)):
        return "main"
    return None


@contextlib.contextmanager
def _beating(run: Run) -> Iterator[None]:
    """Signs of life while the block runs, whatever it does: the time of a file, touched by a thread."""
    path, stop = run.path / "heartbeat", threading.Event()
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


def _leave(run: Run, state: str, message: str) -> None:
    """The last state, as far as the disk takes it: where it does not, readers find the process gone."""
    with contextlib.suppress(StorageError):
        run.set_status(state=state, message=message, pid=None)
    run.log(message if message == state else f"{state}: {message}")


def latest_state(run: Run, *, log: bool = True) -> TrainState | None:
    """The newest whole state of a run; None where it stopped before its first epoch ended.

    With `log`, states that are damaged and left out are named in the run's log.
    """
    folder = run.path / "resume"
    for path in sorted(folder.glob("[0-9]*"), reverse=True):
        problem = safeio.check_folder(path)
        if problem is None:
            try:
                values = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
                values["ledger"] = _to_arrays(values["ledger"])
                return TrainState.read(values)
            except Exception as error:  # what torch raises on foreign bytes differs by version; all of it is a refusal
                problem = f"it is no state of a run ({type(error).__name__})"
        if log:
            run.log(f"state {path.name} is not used: {problem}")
    return None


def _save_state(run: Run, state: TrainState) -> None:
    values = {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
    values["ledger"] = _to_tensors(state.ledger)
    place = run.path / "resume" / f"{state.epoch:04d}"
    with safeio.new_folder(place) as folder, (folder / "state.pt").open("wb") as file:
        torch.save(values, file)
    for path in sorted((run.path / "resume").glob("[0-9]*"))[:-_KEPT_STATES]:
        shutil.rmtree(path, ignore_errors=True)
    run.write_parquet("ledger.parquet", PairLossLedger.from_state_dict(state.ledger).to_wide_frame())


def _save_result(run: Run, table: PairTable, result: FitResult) -> None:
    run.write_parquet("ledger.parquet", result.ledger.to_wide_frame())
    run.write_parquet("mining.parquet", result.mining.to_frame())
    run.write_parquet("predictions.parquet", result.predictions)
    run.write_embeddings(result.image_features, result.text_features)
    train = np.asarray(table.frame["split"], str) == "train"
    audit = audit_mining(result.mining, {name: table.attribute(name)[train] for name in table.attributes})
    safeio.write_json(
        run.path / "report.json",
        {
            "schema_version": 1,
            "best_epoch": result.best_epoch,
            "test": result.test.to_dict(),
            "test_with_intervals": held_out_report(
                held_out_rows(result.predictions, run.id), table.attributes
            ).to_dict(),
            "val": result.val.to_dict(),
            "probe": _probe_report(result),
            "mining": {"flagged": result.mining.n_flagged, "audit": audit.to_dict()},
            "step_seconds": float(np.median([epoch.step_seconds for epoch in result.history])),
        },
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
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "UO" else {"ndarray": torch.from_numpy(value.copy())}
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return value["ndarray"].numpy() if set(value) == {"ndarray"} else {k: _to_arrays(v) for k, v in value.items()}
    return value
