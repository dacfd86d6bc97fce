"""The queue: what waits, what runs, and how runs get in and out."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .. import safeio
from ..config import RunConfig
from ..errors import InputError
from ..processes import end_tree
from ..runs import BusyError, Run, RunStore, Status

GRACE = 10.0  # seconds between asking a process to end and killing it
_PATIENCE = 30.0  # seconds; the queue is held for moments only
_LOOK_AGAIN = 0.1
_CAN_GO_ON = ("interrupted", "failed", "cancelled")


@dataclass(frozen=True)
class Job:
    """A run that waits or works; `place` 1 is the next one of its device, 0 works now."""

    run: Run
    status: Status
    place: int


def jobs_folder(store: RunStore) -> Path:
    return store.workspace / "jobs"


@contextmanager
def queue_held(store: RunStore) -> Iterator[None]:
    """Hold the order of the queue of a workspace."""
    folder = jobs_folder(store)
    lock = FileLock(folder / ".queue.lock", mode=safeio.PRIVATE_FILE)
    with safeio.storing(folder):
        safeio.make_folder(folder)
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise InputError("the queue is held by another process that does not let go: try again") from None
    try:
        yield
    finally:
        lock.release()


def device_of(config: RunConfig) -> str:
    """Whose queue a run stands in: ``cpu``, ``cuda:0``, … ; ``auto`` is looked up on this machine.

    >>> device_of(RunConfig.build("clip", {"device": "cuda"}))
    'cuda:0'
    """
    name = config.device
    if name == "auto":
        name = "cuda" if _has_gpu() else "cpu"
    return f"{name}:0" if name == "cuda" else name


@cache
def _has_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU; torch, which would know for certain, takes seconds to import."""
    if (program := shutil.which("nvidia-smi")) is None:
        return False
    try:
        found = subprocess.run([program, "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and found.stdout.startswith(b"GPU ")


def waiting(store: RunStore, device: str | None = None) -> list[tuple[Run, Status]]:
    """Queued runs with a ticket, in their order; of one device or of all."""
    found = [
        (run, status)
        for run, status in _readable(store)
        if status.state == "queued" and status.ticket is not None and device in (None, status.device)
    ]
    return sorted(found, key=lambda item: item[1].ticket or 0)


def jobs(store: RunStore) -> list[Job]:
    """What runs (also in a terminal) and then what waits, in order."""
    running = [Job(run, status, 0) for run, status in _readable(store) if status.state == "running"]
    places: dict[str | None, int] = {}
    queued = []
    for run, status in waiting(store):
        places[status.device] = places.get(status.device, 0) + 1
        queued.append(Job(run, status, places[status.device]))
    return running + queued


def _readable(store: RunStore) -> Iterator[tuple[Run, Status]]:
    for run in store.runs():
        try:
            yield run, run.status
        except InputError:  # a damaged run is shown elsewhere and holds nobody up
            continue


def launch(store: RunStore, runs: Sequence[Run]) -> None:
    """Put registered runs into the queue and see to it that a worker serves them; returns at once.

    Raises
    ------
    InputError
        A run is running or finished, or the workspace cannot be written.
    """
    from .worker import start_workers

    with queue_held(store):
        ticket = max((status.ticket or 0 for _, status in _readable(store)), default=0)
        for run in runs:
            ticket += 1
            _enqueue(run, ticket)
        start_workers(store)


def _enqueue(run: Run, ticket: int) -> None:
    with run.held():
        status = run.status
        if status.state not in ("queued", *_CAN_GO_ON):
            raise InputError(
                f"run {run.id} is {status.state}: only a run that waits or stopped can be put into the queue"
            )
        (run.path / "cancel").unlink(missing_ok=True)
        run.set_status(
            state="queued", ticket=ticket, device=device_of(run.config), message="", finished=None, step=0, steps=0
        )
        if status.state != "queued":
            run.log("put into the queue again")


def resume(store: RunStore, run: Run) -> None:
    """Put a run that was interrupted, failed or cancelled into the queue again; it goes on from its last whole epoch.

    Raises
    ------
    InputError
        The run waits, works or is finished.
    """
    state = run.status.state
    if state not in _CAN_GO_ON:
        raise InputError(f"run {run.id} is {state}: there is nothing to resume")
    launch(store, [run])


def clone(store: RunStore, run: Run, settings: Mapping[str, Any] | None = None) -> Run:
    """Register a new run on the same data with the same configuration, `settings` laid over it. It is not launched.

    Raises
    ------
    InputError
        A setting is unknown or out of range, or an attribute is not in the data.
    """
    values = run.config.flat() | {"preset": run.config.preset} | dict(settings or {})
    preset = values.pop("preset")
    values.pop("schema_version", None)
    config = RunConfig.build(preset, values)
    data = run.data
    for name in (*config.fairness.attributes, *config.fairness.attribute_weights):
        if name not in data["attributes"]:
            raise InputError(
                f"attribute {name!r} is not in the data; there are {', '.join(data['attributes']) or 'none'}"
            )
    new = store.create(config, data, run.pairs())
    verdicts = run.path / "verdicts.json"
    if verdicts.exists():
        with safeio.new_file(new.path / verdicts.name) as temporary:
            shutil.copyfile(verdicts, temporary)
    return new


def cancel(run: Run, grace: float = GRACE) -> str:
    """End a run: one that waits is cancelled at once, one that works is asked to end and killed after `grace` seconds.

    Returns the state it is left in: `cancelled`, or `finished` where it was faster.

    Raises
    ------
    InputError
        The run neither waits nor works.
    """
    before = run.status.state
    if before not in ("queued", "running"):
        raise InputError(f"run {run.id} is {before}: there is nothing to cancel")
    marker, until = run.path / "cancel", time.monotonic() + 3 * grace
    while True:
        try:
            with run.held():
                return _settle_cancelled(run)
        except BusyError:
            if time.monotonic() > until:
                raise
        status = run.status
        if status.state == "finished":  # only its map is being made
            return "finished"
        if status.state == "running" and status.process is not None:
            with safeio.storing(marker):
                marker.touch(mode=safeio.PRIVATE_FILE)
            end_tree(status.process, grace)
        time.sleep(_LOOK_AGAIN)


def _settle_cancelled(run: Run) -> str:
    """Nobody works on the run: write down that it is cancelled, unless it came to an end of its own."""
    if run.status.state != "finished":
        told = run.status.message == "cancelled"
        run.set_status(state="cancelled", message="cancelled", pid=None)
        if not told:
            run.log("cancelled")
    (run.path / "cancel").unlink(missing_ok=True)
    return run.status.state
