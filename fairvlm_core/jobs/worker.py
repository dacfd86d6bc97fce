"""The worker of a device: trains queued runs in order, each in its own process, and ends when none is left.

When no run waits, it makes the maps of finished runs that have none. A worker may be started before a launch, so that the
launch does not wait for its imports (`stand_by`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

from filelock import FileLock, Timeout

from .. import safeio
from ..analysis.pairmap import make_map_if_possible
from ..errors import InputError, TrainingError
from ..processes import Process, process_of
from ..runs import STARTING, BusyError, Run, RunStore, State, without_message
from .detached import Detached, fairvlm
from .queue import cancel, jobs_folder, queue_held, waiting

STAND_BY = 900.0  # seconds
_PRELOADED = "fairvlm_core.jobs.preload"  # imported once per worker instead of once per run
_MAP_POLL = 1.0  # seconds between checks for a queued run while maps are made
_QUEUE_POLL = 0.2  # seconds between checks of an empty queue; longer where a check takes long


def serving(store: RunStore, device: str) -> Process | None:
    """The living worker of a device."""
    return _worker(store, device).process


def ensure_workers(store: RunStore) -> list[str]:
    """Start a worker for every device that has queued runs and no worker; returns these devices."""
    with queue_held(store):
        return start_workers(store)


def start_workers(store: RunStore) -> list[str]:
    """As `ensure_workers`, for a caller that holds the queue."""
    devices = dict.fromkeys(str(status.device) for _, status in waiting(store))
    started = [device for device in devices if serving(store, device) is None]
    for device in started:
        _start(store, device)
    return started


def stand_by(store: RunStore, device: str, seconds: float = STAND_BY) -> bool:
    """Start a worker before anything is launched; returns False where there is one.

    It ends after `seconds` without a queued run, or with the process that called this.

    Raises
    ------
    InputError
        The workspace cannot be written.
    """
    with queue_held(store):
        if serving(store, device) is not None:
            return False
        _start(store, device, seconds)
        return True


def _start(store: RunStore, device: str, stay: float = 0.0) -> None:
    command = fairvlm("work", "--device", device, "--workspace", str(store.workspace.resolve()))
    _worker(store, device).start(command + (["--stay", str(stay)] if stay else []), append=True)


def work(store: RunStore, device: str, stay: float = 0.0) -> int:
    """Serve the queue of a device until it is empty; returns the number of runs, 0 where another worker serves it.

    With an empty queue it waits for `stay` seconds, but not longer than the process that started this one lives.
    """
    path = _file(store, device, "worker.lock")
    lock = FileLock(path, mode=safeio.PRIVATE_FILE)
    with queue_held(store), safeio.storing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return 0
        _worker(store, device).write_record(process_of())
    multiprocessing.set_forkserver_preload([_PRELOADED])
    context = multiprocessing.get_context("forkserver")
    taken, tried = 0, set[str]()
    parent, until = os.getppid(), time.monotonic() + stay
    with lock:
        forkserver.ensure_running()
        while True:
            began = time.monotonic()
            unmapped = [run for run in _unmapped(store, device) if run.id not in tried]
            standing_by = began < until and os.getppid() == parent
            found = _next(store, device, lock, staying=bool(unmapped) or standing_by)
            if found is not None:
                taken += 1
                _train(context, store, *found)
                until = time.monotonic() + stay
            elif unmapped:
                tried |= {run.id for run in unmapped} - _map(context, store, device, unmapped)
            elif standing_by:
                time.sleep(max(_QUEUE_POLL, 20 * (time.monotonic() - began)))
            else:
                return taken


def _train(context: ForkServerContext, store: RunStore, run: Run, ticket: int) -> None:
    process = context.Process(target=_run_job, args=(str(store.workspace), run.id, ticket))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:  # Ctrl-C in a terminal: the run ends with its worker
        with contextlib.suppress(InputError):
            cancel(run)
        raise
    _settle(run, ticket, process.exitcode)


def _unmapped(store: RunStore, device: str) -> list[Run]:
    """Runs that were queued for this device, are finished and have no map."""
    found = []
    for run in store.runs():
        with contextlib.suppress(InputError):
            status = run.status
            if status.state == State.FINISHED and status.ticket is not None and status.device == device:
                found.append(run)
    return [run for run in found if not run.files.projection.exists()]


def _map(context: ForkServerContext, store: RunStore, device: str, runs: list[Run]) -> set[str]:
    """Make the maps of finished runs. Where a run is queued meanwhile, stop and return the ids that are left."""
    process = context.Process(target=_make_maps, args=([run.path for run in runs],))
    process.start()
    while process.is_alive():
        process.join(_MAP_POLL)
        if process.is_alive() and waiting(store, device):
            process.kill()
            process.join()
            return {run.id for run in runs if not run.files.projection.exists()}
    return set()


def _make_maps(paths: list[Path]) -> None:
    for path in paths:
        make_map_if_possible(Run(path))


def _next(store: RunStore, device: str, lock: FileLock, *, staying: bool) -> tuple[Run, int] | None:
    """The next run and its ticket. Without one, a worker that does not stay gives up its place while it holds the queue."""
    with queue_held(store):
        for run, status in waiting(store, device):
            with contextlib.suppress(BusyError), run.held():  # busy: trained in a terminal, or being cancelled
                run.set_status(message=STARTING)
                return run, int(status.ticket or 0)
        if not staying:
            _worker(store, device).record.unlink(missing_ok=True)
            lock.release(force=True)
    return None


def _run_job(workspace: str, run_id: str, ticket: int) -> None:
    """In its own process: train a run that still has its ticket, once the device is free."""
    os.setsid()
    run = RunStore(workspace).get(run_id)
    _print_into(run.files.output)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        device = str(run.status.device)
        with FileLock(_file(RunStore(workspace), device, "device.lock"), mode=safeio.PRIVATE_FILE), run.held():
            status = run.status
            if (status.state, status.ticket) == (State.QUEUED, ticket):
                from ..launch import execute

                execute(run, resume=bool(run.saved_states))
    except (InputError, TrainingError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        print(without_message(error), file=sys.stderr)
        sys.exit(1)


def _print_into(path: Path) -> None:
    """Send what this process and its libraries print to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, safeio.PRIVATE_FILE)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    faulthandler.enable()


def _settle(run: Run, ticket: int, code: int | None) -> None:
    """Write the state of a run whose process ended without writing it."""
    try:
        with run.held():
            status = run.status
            if (status.state, status.ticket) == (State.QUEUED, ticket):
                state, message = (
                    State.FAILED,
                    (f"its process ended before it could begin ({_cause(code)}): see output.txt in the run's folder"),
                )
            elif status.state == State.CANCELLED and status.pid is not None:
                state, message = State.CANCELLED, "cancelled"
            elif status.state == State.INTERRUPTED and status.pid is not None:
                state, message = State.INTERRUPTED, f"its process was ended ({_cause(code)})"
            else:
                return
            run.set_status(state=state, message=message, pid=None)
            run.log(f"{state}: {message}")
    except InputError as error:  # the folder is gone, the disk is full, or another process holds the run
        print(error, flush=True)


def _cause(code: int | None) -> str:
    """
    >>> _cause(-9)
    'killed; where memory ran out, lower batch_size or take a smaller model'
    >>> _cause(-11)
    'signal 11'
    """
    if code == -signal.SIGKILL:
        return "killed; where memory ran out, lower batch_size or take a smaller model"
    return f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"


def _worker(store: RunStore, device: str) -> Detached:
    return Detached(_file(store, device, "json"), _file(store, device, "log"))


def _file(store: RunStore, device: str, kind: str) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in device)
    return jobs_folder(store) / (f".{name}.{kind}" if kind.endswith("lock") else f"{name}.{kind}")
