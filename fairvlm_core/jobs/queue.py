"""The queue: which runs wait and run; launch, resume, copy and cancel runs."""

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
from ..runs import BusyError, Run, RunStore, State, Status

GRACE = 10.0  # seconds between asking a process to end and killing it
_PATIENCE = 30.0  # seconds; the queue is held for moments only
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Job:
    """A run that waits or runs; `place` 0 is running, 1 is the next one of its device."""

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
            raise InputError(f"another process has held the queue for {_PATIENCE:.0f} s: try again") from None
    try:
        yield
    finally:
        lock.release()


def device_of(config: RunConfig) -> str:
    """The device in whose queue a run waits: ``cpu``, ``cuda:0``, …; ``auto`` depends on this machine.

    >>> device_of(RunConfig.build("clip", {"device": "cuda"}))
    'cuda:0'
    """
    name = config.device
    if name == "auto":
        name = "cuda" if _has_gpu() else "cpu"
    return f"{name}:0" if name == "cuda" else name


@cache
def _has_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU. Asking torch would take seconds to import it."""
    if (program := shutil.which("nvidia-smi")) is None:
        return False
    try:
        found = subprocess.run([program, "-L"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and found.stdout.startswith(b"GPU ")


def waiting(store: RunStore, device: str | None = None) -> list[tuple[Run, Status]]:
    """Queued runs with a ticket, in order; of one device or of all."""
    found = [
        (run, status)
        for run, status in _readable(store)
        if status.state == State.QUEUED and status.ticket is not None and device in (None, status.device)
    ]
    return sorted(found, key=lambda item: item[1].ticket or 0)


def jobs(store: RunStore) -> list[Job]:
    """Runs that run (also in a terminal), then runs that wait, in order."""
    running = [Job(run, status, 0) for run, status in _readable(store) if status.state == State.RUNNING]
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
        except InputError:  # a damaged run does not stop the queue
            continue


def launch(store: RunStore, runs: Sequence[Run]) -> None:
    """Put registered runs into the queue, start workers where needed, and return at once.

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
        state = run.status.state
        if state != State.QUEUED and not state.resumable:
            raise InputError(f"run {run.id} is {state}: only a run that waits or stopped can be put into the queue")
        run.files.cancel.unlink(missing_ok=True)
        changes = {"ticket": ticket, "device": device_of(run.config), "message": "", "finished": None}
        run.set_status(state=State.QUEUED, step=0, steps=0, **changes)
        if state != State.QUEUED:
            run.log("put into the queue again")


def resume(store: RunStore, run: Run) -> None:
    """Queue a run that was interrupted, failed or cancelled; it continues from its last complete epoch.

    Raises
    ------
    InputError
        The run waits, runs or is finished.
    """
    state = run.status.state
    if not state.resumable:
        raise InputError(f"run {run.id} is {state}: there is nothing to resume")
    launch(store, [run])


def clone(store: RunStore, run: Run, settings: Mapping[str, Any] | None = None) -> Run:
    """Register a new run on the same data with the same configuration, except for `settings`. It is not launched.

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
    if run.files.verdicts.exists():
        with safeio.new_file(new.files.verdicts) as temporary:
            shutil.copyfile(run.files.verdicts, temporary)
    return new


def cancel(run: Run, grace: float = GRACE) -> State:
    """End a run: a waiting one at once; a running one is asked to end, and killed after `grace` seconds.

    Returns `CANCELLED`, or `FINISHED` where the run finished first.

    Raises
    ------
    InputError
        The run neither waits nor runs.
    """
    before = run.status.state
    if before not in (State.QUEUED, State.RUNNING):
        raise InputError(f"run {run.id} is {before}: there is nothing to cancel")
    until = time.monotonic() + 3 * grace
    while True:
        try:
            with run.held():
                return _settle_cancelled(run)
        except BusyError:
            if time.monotonic() > until:
                raise
        status = run.status
        if status.state == State.FINISHED:  # only its map is being made
            return State.FINISHED
        if status.state == State.RUNNING and status.process is not None:
            with safeio.storing(run.files.cancel):
                run.files.cancel.touch(mode=safeio.PRIVATE_FILE)
            end_tree(status.process, grace)
        time.sleep(_POLL)


def _settle_cancelled(run: Run) -> State:
    """Write that a run is cancelled, unless it finished or its own process wrote that already."""
    status = run.status
    written = status.state == State.CANCELLED and status.pid is None
    if status.state != State.FINISHED and not written:
        run.set_status(state=State.CANCELLED, message="cancelled", pid=None)
        run.log("cancelled")
    run.files.cancel.unlink(missing_ok=True)
    return run.status.state
