"""`jobs`, `cancel`, `resume`, `work`, `train --background`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..jobs import cancel, device_of, ensure_workers, estimate, jobs, launch, measure_step, resume, serving, work
from ..runs import Run, RunStore
from . import show


def list_jobs(workspace: Path | None, json: bool) -> None:
    """What runs and what waits."""
    store = RunStore(workspace)
    entries = []
    for job in jobs(store):
        status, config = job.status, job.run.config
        entries.append(
            {
                "run_id": job.run.id,
                "state": status.state,
                "place": job.place,
                "device": status.device or device_of(config),
                "epoch": status.epoch,
                "epochs": config.epochs,
                "step": status.step,
                "steps": status.steps,
                "pid": status.pid,
                "silent_seconds": status.silent,
                "message": status.message,
            }
        )
    served = {device: serving(store, device) is not None for device in {str(e["device"]) for e in entries}}
    if json:
        show.print_json({"workspace": str(store.workspace), "jobs": entries, "served": served})
        return
    if not entries:
        show.out.print(f"nothing runs or waits in {store.workspace}")
        return
    rows = [
        (
            e["run_id"],
            e["state"],
            e["place"] or "now",
            e["device"],
            f"{e['epoch']}/{e['epochs']}",
            f"no sign of life for {e['silent_seconds']:.0f} s" if e["silent_seconds"] else e["message"],
        )
        for e in entries
    ]
    show.table("", ("run", "state", "place", "device", "epoch", ""), rows, numbers_from=9)
    if stale := [str(e["device"]) for e in entries if e["state"] == "queued" and not served[str(e["device"])]]:
        show.out.print(f"nobody serves the queue of {', '.join(dict.fromkeys(stale))}: `fairvlm work` starts a worker")


def cancel_runs(names: Sequence[str], workspace: Path | None) -> None:
    store = RunStore(workspace)
    for run in [store.get(name) for name in names]:
        show.out.print(f"{run.id}  {cancel(run)}")


def resume_runs(names: Sequence[str], workspace: Path | None) -> None:
    store = RunStore(workspace)
    for run in [store.get(name) for name in names]:
        resume(store, run)
        show.out.print(f"{run.id}  {run.status.state}")


def launch_in_background(store: RunStore, run: Run, *, go_on: bool, json: bool) -> None:
    """Put a run into the queue; its id is the last line, as after a run in the foreground."""
    if go_on:
        resume(store, run)
    else:
        launch(store, [run])
    if json:
        show.print_json({"run_id": run.id, "status": run.status.state, "device": run.status.device})
    else:
        show.out.print("in the queue; `fairvlm jobs` shows how far it is, `fairvlm cancel` ends it")
        print(run.id)


def print_cost(folder: Path, preset: str, settings: dict[str, Any], read_options: dict[str, Any], json: bool) -> None:
    """What one run would take, by a step measured here."""
    from ..pairs import PairTable

    config = RunConfig.build(preset, settings)
    table = PairTable.read(folder, check_images=False, **read_options)
    step = measure_step(table, config)
    found = estimate([config], int((table.frame["split"] == "train").sum()), step)
    if json:
        show.print_json(
            {"step_seconds": step.seconds, "steps": found.steps, "pairs": found.pairs, "seconds": found.seconds}
        )
    else:
        show.out.print(
            f"{found.steps} steps of {step.seconds:.3f} s: about {found.seconds or 0:.0f} s of training steps; reading, "
            "evaluation and saving come on top"
        )


def serve_queue(workspace: Path | None, device: str | None, stay: float = 0.0) -> None:
    """Serve one device here, or start a worker in the background for each device that has a queue."""
    store = RunStore(workspace)
    if device is not None:
        taken = work(store, device, stay)
        show.out.print(f"{taken} runs taken from the queue of {device}")
        return
    started = ensure_workers(store)
    show.out.print(
        f"workers started for {', '.join(started)}" if started else "nothing waits that is not served already"
    )
