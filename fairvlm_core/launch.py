"""A run from beginning to end: read the data, train, write the run's folder, and leave a truthful state behind."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import safeio
from .config import RunConfig
from .errors import InputError, TrainingError
from .fairness import FairnessReport
from .features import PairArrays, pair_arrays
from .ledger import PairLossLedger
from .mining import audit_mining
from .models import load_clip
from .pairs import PairTable
from .runs import Run, RunStore, now, this_process
from .train import EpochReport, FitResult, TrainState, check_table, fit

_KEPT_STATES = 2
_HEARTBEAT = 2.0  # seconds between two signs of life


@dataclass(frozen=True)
class Hooks:
    """What a caller may watch; every one is optional."""

    on_images: Callable[[int, int], None] | None = None
    on_step: Callable[[int, int], None] | None = None
    on_epoch: Callable[[EpochReport], None] | None = None


def create_run(table: PairTable, config: RunConfig, store: RunStore, *, read_options: dict[str, Any]) -> Run:
    """Register a run in state `queued`; `read_options` are what `PairTable.read` needs to read the same table again."""
    check_table(table, config)
    data = {
        "folder": str(Path(table.root).resolve()),
        "read_options": read_options,
        "fingerprint": table.fingerprint,
        "name": table.info.name,
        "prompts": list(table.info.prompts),
        "attributes": list(table.attributes),
        "n": {split: int((table.frame["split"] == split).sum()) for split in ("train", "val", "test")},
        "warnings": list(table.report.warnings),
    }
    columns = ["pair_id", "patient_id", "split", "label", *table.attributes]
    return store.create(config, data, table.frame[columns])


def execute(
    run: Run,
    *,
    table: PairTable | None = None,
    arrays: PairArrays | None = None,
    resume: bool = False,
    hooks: Hooks = Hooks(),
) -> FitResult:
    """Train a registered run in this process, or go on with an interrupted one.

    Raises
    ------
    InputError
        The data changed since the run was made, or there is nothing to resume.
    TrainingError
        The run had to stop; its state is `failed` and its last good epoch is kept.
    """
    if run.status.state == "running":
        raise InputError(f"run {run.id} is running in another process (pid {run.status.pid})")
    if resume and run.status.state == "finished":
        raise InputError(f"run {run.id} is finished: there is nothing to resume")
    config = run.config
    run.set_status(state="running", message="reading the data", finished=None, **this_process())
    run.log("resumed" if resume else "started")
    try:
        if table is None:
            table = PairTable.read(run.data["folder"], **run.data["read_options"])
        if table.fingerprint != run.data["fingerprint"]:
            raise InputError(f"the data of run {run.id} has changed since it was made: start a new run")
        state = latest_state(run) if resume else None
        clip = load_clip(config.model, device="cpu", seed=config.seed)
        arrays = arrays if arrays is not None else pair_arrays(table, clip, progress=hooks.on_images)
        if arrays.cut.any():
            run.log(f"{int(arrays.cut.sum())} of {len(arrays)} notes are longer than the model's context and were cut")

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

        result = fit(table, config, state=state, arrays=arrays, clip=clip, on_step=on_step, on_epoch=on_epoch)
        _save_result(run, table, result)
    except KeyboardInterrupt:
        run.set_status(state="cancelled", message="cancelled", pid=None)
        run.log("cancelled")
        raise
    except (InputError, TrainingError) as error:
        run.set_status(state="failed", message=str(error), pid=None)
        run.log(f"failed: {error}")
        raise
    except Exception as error:
        run.set_status(state="failed", message=f"internal error: {type(error).__name__}", pid=None)
        run.log(traceback.format_exc())
        raise
    run.set_status(state="finished", message="finished", pid=None, finished=now())
    run.log("finished")
    shutil.rmtree(run.path / "resume", ignore_errors=True)
    return result


def latest_state(run: Run) -> TrainState | None:
    """The newest whole state of a run; None where it stopped before its first epoch ended."""
    folder = run.path / "resume"
    for path in sorted(folder.glob("[0-9]*"), reverse=True):
        problem = safeio.check_folder(path)
        if problem is None:
            values = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
            values["ledger"] = _to_arrays(values["ledger"])
            return TrainState(**values)
        run.log(f"state {path.name} is not used: {problem}")
    return None


def _save_state(run: Run, state: TrainState) -> None:
    values = {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
    values["ledger"] = _to_tensors(state.ledger)
    with safeio.new_folder(run.path / "resume" / f"{state.epoch:04d}") as folder:
        torch.save(values, folder / "state.pt")
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
