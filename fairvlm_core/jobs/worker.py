"""The worker of a device: takes queued runs in their order, each in a process of its own; ends when none is left.

Maps of finished runs are made when no run waits, those that an earlier worker left included. A worker may be started
before there is anything to do, so that a launch need not wait for its imports (`stand_by`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from .. import safeio
from ..analysis.pairmap import make_map_if_possible
from ..errors import InputError, TrainingError
from ..processes import Process, process_of
from ..runs import BusyError, Run, RunStore, wordless
from .queue import cancel, jobs_folder, queue_held, waiting

_PRELOADED = "fairvlm_core.jobs.preload"  # once a worker, not once a run
_LOOK_AGAIN = 1.0
STAND_BY = 900.0  # seconds
_GLANCE = 0.2  # seconds between two looks at an empty queue; longer where looking takes long


def serving(store: RunStore, device: str) -> Process | None:
    """The living worker of a device."""
    try:
        record = safeio.read_json(_file(store, device, "json"))
        process = Process(int(record["pid"]), float(record["process_started"]), str(record["boot"]))
    except (InputError, KeyError, TypeError, ValueError):
        return None
    return process if process.alive else None


def ensure_workers(store: RunStore) -> list[str]:
    """See to it that every device with queued runs has a worker; gives the devices that one was started for."""
    with queue_held(store):
        return start_workers(store)


def start_workers(store: RunStore) -> list[str]:
    """As `ensure_workers`, for who holds the queue already."""
    devices = dict.fromkeys(str(status.device) for _, status in waiting(store))
    started = [device for device in devices if serving(store, device) is None]
    for device in started:
        _start(store, device)
    return started


def stand_by(store: RunStore, device: str, seconds: float = STAND_BY) -> bool:
    """See to it that a worker is ready before anything is launched; whether one was started.

    It ends when nothing was queued for so many seconds, or with the process that called this.

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
    """A worker in its own session: it outlives the page, the server and the terminal it was started from."""
    workspace = str(store.workspace.resolve())
    command = [sys.executable, "-m", "fairvlm_core", "work", "--device", device, "--workspace", workspace]
    command += ["--stay", str(stay)] if stay else []
    log = _file(store, device, "log")
    with safeio.storing(log), os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        )
    threading.Thread(target=process.wait, name="worker", daemon=True).start()  # so that it leaves no zombie
    try:
        _record(store, device, process_of(process.pid))
    except psutil.NoSuchProcess:
        raise InputError(f"the worker ended at once: its last words are in jobs/{log.name} of the workspace") from None


def work(store: RunStore, device: str, stay: float = 0.0) -> int:
    """Serve the queue of a device until it is empty; gives the number of runs it took, 0 where another worker serves.

    With an empty queue it stays for so many seconds, but no longer than the process that started this one.
    """
    path = _file(store, device, "worker.lock")
    lock = FileLock(path, mode=safeio.PRIVATE_FILE)
    with queue_held(store), safeio.storing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return 0
        _record(store, device, process_of())
    multiprocessing.set_forkserver_preload([_PRELOADED])
    context = multiprocessing.get_context("forkserver")
    taken, tried = 0, set[str]()
    parent, until = os.getppid(), time.monotonic() + stay
    with lock:
        forkserver.ensure_running()
        while True:
            looked = time.monotonic()
            unmapped = [run for run in _unmapped(store, device) if run.id not in tried]
            standing_by = looked < until and os.getppid() == parent
            found = _next(store, device, lock, staying=bool(unmapped) or standing_by)
            if found is not None:
                taken += 1
                _train(context, store, *found)
                until = time.monotonic() + stay
            elif unmapped:
                tried |= {run.id for run in unmapped} - _map(context, store, device, unmapped)
            elif standing_by:
                time.sleep(max(_GLANCE, 20 * (time.monotonic() - looked)))
            else:
                return taken


def _train(context: ForkServerContext, store: RunStore, run: Run, ticket: int) -> None:
    """One run in a process of its own."""
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
    """Runs that a job of this device finished and that have no map."""
    found = []
    for run in store.runs():
        with contextlib.suppress(InputError):
            status = run.status
            if status.state == "finished" and status.ticket is not None and status.device == device:
                found.append(run)
    return [run for run in found if not _mapped(run)]


def _mapped(run: Run) -> bool:
    return (run.path / "projection.parquet").exists()


def _map(context: ForkServerContext, store: RunStore, device: str, runs: list[Run]) -> set[str]:
    """The maps of finished runs, one after the other; ids of those that are left where a run was queued meanwhile."""
    process = context.Process(target=_make_maps, args=([run.path for run in runs],))
    process.start()
    while process.is_alive():
        process.join(_LOOK_AGAIN)
        if process.is_alive() and waiting(store, device):
            process.kill()
            process.join()
            return {run.id for run in runs if not _mapped(run)}
    return set()


def _make_maps(paths: list[Path]) -> None:
    for path in paths:
        make_map_if_possible(Run(path))


def _next(store: RunStore, device: str, lock: FileLock, *, staying: bool) -> tuple[Run, int] | None:
    """The next run and its ticket. Where there is none and the worker does not stay, it ends while it holds the queue."""
    with queue_held(store):
        for run, status in waiting(store, device):
            with contextlib.suppress(BusyError), run.held():  # busy: it is taken in a terminal, or being cancelled
                run.set_status(message="starting")
                return run, int(status.ticket or 0)
        if not staying:
            _file(store, device, "json").unlink(missing_ok=True)
            lock.release(force=True)
    return None


def _run_job(workspace: str, run_id: str, ticket: int) -> None:
    """In a process of its own: train a run that still holds its ticket, once the device is free."""
    os.setsid()
    run = RunStore(workspace).get(run_id)
    _speak_into(run.path / "output.txt")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        device = str(run.status.device)
        with FileLock(_file(RunStore(workspace), device, "device.lock"), mode=safeio.PRIVATE_FILE), run.held():
            status = run.status
            if (status.state, status.ticket) == ("queued", ticket):
                from ..launch import execute

                execute(run, resume=any((run.path / "resume").glob("[0-9]*")))
    except (InputError, TrainingError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        print(wordless(error), file=sys.stderr)
        sys.exit(1)


def _speak_into(path: Path) -> None:
    """What the process and the libraries below it print goes to a file of the run."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, safeio.PRIVATE_FILE)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    faulthandler.enable()


def _settle(run: Run, ticket: int, code: int | None) -> None:
    """A process ended: where it could not say so itself, say what became of the run."""
    try:
        with run.held():
            status = run.status
            if (status.state, status.ticket) == ("queued", ticket):
                message = (
                    f"its process ended before it could begin ({_cause(code)}): see output.txt in the run's folder"
                )
                run.set_status(state="failed", message=message, pid=None)
                run.log(f"failed: {message}")
            elif status.state in ("interrupted", "cancelled") and status.pid is not None:
                message = "cancelled" if status.state == "cancelled" else f"its process was ended ({_cause(code)})"
                run.set_status(state=status.state, message=message, pid=None)
                run.log(f"{status.state}: {message}")
    except InputError as error:  # its folder is gone, the disk is full, or another has it: not the queue's affair
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


def _record(store: RunStore, device: str, process: Process) -> None:
    values = {"pid": process.pid, "process_started": process.started, "boot": process.boot}
    safeio.write_json(_file(store, device, "json"), values)


def _file(store: RunStore, device: str, kind: str) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in device)
    return jobs_folder(store) / (f".{name}.{kind}" if kind.endswith("lock") else f"{name}.{kind}")
