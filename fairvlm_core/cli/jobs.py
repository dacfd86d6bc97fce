"""`jobs`, `cancel`, `resume`, `work`, `cost` and `train --background`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig, with_model
from ..jobs import (
    Job,
    cancel,
    device_of,
    ensure_workers,
    estimate,
    jobs,
    launch,
    measure_step,
    resume,
    serving,
    work,
)
from ..runs import Run, RunStore, State
from . import show


def list_jobs(workspace: Path | None, json: bool) -> None:
    """Runs that run and runs that wait."""
    store = RunStore(workspace)
    entries = [_values(job) for job in jobs(store)]
    served = {device: serving(store, device) is not None for device in {entry["device"] for entry in entries}}
    if json:
        show.print_json({"workspace": str(store.workspace), "jobs": entries, "served": served})
        return
    if not entries:
        show.out.print(f"nothing runs or waits in {store.workspace}")
        return
    rows = []
    for e in entries:
        silent, epoch = e["silent_seconds"], f"{e['epoch']}/{e['epochs']}"
        message = f"no heartbeat for {silent:.0f} s" if silent else e["message"]
        rows.append((e["run_id"], e["state"], e["place"] or "now", e["device"], epoch, message))
    show.table("", ("run", "state", "place", "device", "epoch", ""), rows, numbers_from=9)
    waiting = dict.fromkeys(entry["device"] for entry in entries if entry["state"] == State.QUEUED)
    if stale := [device for device in waiting if not served[device]]:
        show.out.print(f"no worker serves the queue of {', '.join(stale)}: `fairvlm work` starts one")


def _values(job: Job) -> dict[str, Any]:
    status, config = job.status, job.run.config
    return {
        "run_id": job.run.id,
        "state": status.state,
        "place": job.place,
        "device": str(status.device or device_of(config)),
        "epoch": status.epoch,
        "epochs": config.epochs,
        "step": status.step,
        "steps": status.steps,
        "pid": status.pid,
        "silent_seconds": status.silent,
        "message": status.message,
    }


def cancel_runs(names: Sequence[str], workspace: Path | None) -> None:
    store = RunStore(workspace)
    for run in [store.get(name) for name in names]:
        show.out.print(f"{run.id}  {cancel(run)}")


def resume_runs(names: Sequence[str], workspace: Path | None) -> None:
    store = RunStore(workspace)
    for run in [store.get(name) for name in names]:
        resume(store, run)
        show.out.print(f"{run.id}  {run.status.state}")


def launch_in_background(store: RunStore, run: Run, *, resumed: bool, json: bool) -> None:
    """Put a run into the queue; its id is the last line, as after a run in the foreground."""
    if resumed:
        resume(store, run)
    else:
        launch(store, [run])
    if json:
        show.print_json({"run_id": run.id, "status": run.status.state, "device": run.status.device})
    else:
        show.out.print("in the queue; `fairvlm jobs` shows its progress, `fairvlm cancel` ends it")
        print(run.id)


def print_cost(folder: Path, preset: str, settings: dict[str, Any], read_options: dict[str, Any], json: bool) -> None:
    """The time one run would take, from a training step measured here."""
    from ..pairs import PairTable

    RunConfig.build(preset, settings)  # refused before the data is read
    table = PairTable.read(folder, check_images=False, **read_options)
    config = RunConfig.build(preset, with_model(table, settings))
    step = measure_step(table, config)
    found = estimate([config], table.sizes, step)
    if json:
        show.print_json(
            {
                "model": config.model,
                "step_seconds": step.seconds,
                "between_seconds": step.between,
                "once_seconds": step.once,
                "steps": found.steps,
                "pairs": found.pairs,
                "seconds": found.seconds,
            }
        )
    else:
        show.out.print(
            f"model {config.model}: {found.steps} steps of {step.seconds:.3f} s; about {found.seconds or 0:.0f} s with "
            "reading, evaluation and saving"
        )


def serve_queue(workspace: Path | None, device: str | None, stay: float = 0.0) -> None:
    """Serve the queue of one device here, or start a worker in the background for each device that has a queue."""
    store = RunStore(workspace)
    if device is not None:
        show.out.print(f"{work(store, device, stay)} runs taken from the queue of {device}")
        return
    started = ensure_workers(store)
    nothing = "nothing waits, or a worker serves it already"
    show.out.print(f"workers started for {', '.join(started)}" if started else nothing)
