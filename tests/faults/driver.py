"""The command line with a fault at one of its system calls: a process of its own, never part of pytest's.

`driver.py PLAN ARGUMENTS…` runs `fairvlm ARGUMENTS…` with PLAN, a JSON object:

* ``within``: folder whose changes count. Every mkdir, opening for writing, rename, removal and fsync below it is one event,
  numbered from 0; Python announces the first four itself (audit events), fsync is wrapped.
* ``at`` and ``how``: what happens at event number ``at``: "kill" (SIGKILL to itself), "refuse" (this one call fails),
  "full" (this one and every later call that needs room fails, and no byte can be written any more: RLIMIT_FSIZE 0).
* ``count``: file that gets the names of all events at the end.

`driver.py serve` does the same for many plans and imports everything only once: it reads lines of JSON, a plan with
``arguments``, and answers each with the exit status and standard error of a child forked for it. More of such a plan:

* ``after``: seconds after which the child is killed from outside, wherever it is.
* ``cwd``: the folder it runs in; ``environment``: variables added to its own.
* ``stdout``: "out" to answer with what it prints as well, "said" to answer with it before standard error, in one text.
* ``background``: file for what it prints and file for standard error; the answer comes at once and has the child's ``pid``.
  ``{"wait": pid, "seconds": n}`` gives its exit status, null where it still runs then.
* ``app``: arguments of `streamlit run` instead of ``arguments``; the answer comes at once and has the child's ``pid``.
  ``{"stop": pid}`` kills it.
* ``plain_user``: for root no folder is read-only; a child that may not override permissions is a user like any other.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

NEEDS_ROOM = ("os.mkdir", "open", "os.fsync")


class Fault:
    """Counts the changes below a folder, and makes one of the calls fail."""

    def __init__(self, plan: dict[str, Any]):
        self.within = os.fspath(Path(plan["within"]).absolute())
        self.at, self.how = plan.get("at", -1), plan.get("how", "")
        self.names: list[str] = []
        self.full = False
        self.fsync = os.fsync

    def install(self) -> None:
        sys.addaudithook(self.audited)
        os.fsync = self.synced

    def audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            changing = flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            path, changing = arguments[0], True
        else:
            return
        if changing and isinstance(path, str | bytes | os.PathLike) and self.counts(path):
            self.happen(event, os.fsdecode(path))

    def counts(self, path: Any) -> bool:
        return str(Path(os.fsdecode(path)).absolute()).startswith(self.within)

    def synced(self, descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if self.counts(path):
            self.happen("os.fsync", path)
        self.fsync(descriptor)

    def happen(self, event: str, path: str) -> None:
        number = len(self.names)
        self.names.append(f"{event} {os.path.relpath(path, self.within)}")
        if number == self.at and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.at and self.how == "full":
            self.full = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        if (number == self.at and self.how == "refuse") or (self.full and event in NEEDS_ROOM):
            code = errno.ENOSPC if event in NEEDS_ROOM else errno.EIO
            raise OSError(code, os.strerror(code), path)


def run(plan: dict[str, Any], arguments: list[str]) -> None:
    from fairvlm_core.cli import main

    fault = Fault(plan)
    fault.install()
    try:
        main(arguments)
    finally:
        fault.at, fault.full = -1, False
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if "count" in plan:
            Path(plan["count"]).write_text("\n".join(fault.names), encoding="utf-8")


def serve() -> None:
    for name in ("cli.app", "cli.training", "intake.folder", "launch", "models"):
        importlib.import_module(f"fairvlm_core.{name}")  # so that no child needs to import them
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "app" in job or "stop" in job:
            print(json.dumps({"pid": start_app(job) if "app" in job else stop_app(job["stop"])}), flush=True)
            continue
        if "background" in job or "wait" in job:
            print(json.dumps(start(job) if "background" in job else wait(job["wait"], job["seconds"])), flush=True)
            continue
        from_child, to_parent = os.pipe()  # a limit on the size of files does not reach a pipe
        printed, to_print = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(from_child)
            os.close(printed)
            nothing = os.open(os.devnull, os.O_RDWR)
            output = {"out": to_print, "said": to_parent}.get(job.get("stdout"), nothing)
            for descriptor, target in ((nothing, 0), (output, 1), (to_parent, 2)):
                os.dup2(descriptor, target)
            os.close(to_print)
            os.close(to_parent)
            os._exit(_exit_code(job))
        os.close(to_parent)
        os.close(to_print)
        killer = threading.Timer(job["after"], os.kill, (child, signal.SIGKILL)) if "after" in job else None
        if killer is not None:
            killer.start()
        out: list[str] = []
        reader = threading.Thread(target=lambda pipe=printed, out=out: out.append(_read(pipe)))
        reader.start()
        said = _read(from_child)
        for thread in (killer, reader):  # before the pid is given back, and no thread is left to be forked
            if isinstance(thread, threading.Timer):
                thread.cancel()
            if thread is not None:
                thread.join()
        status = os.waitpid(child, 0)[1]
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "said": said, "out": out[0]}), flush=True)


def _read(descriptor: int) -> str:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as pipe:
        return pipe.read()


def start(job: dict[str, Any]) -> dict[str, int]:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background of a shell ignores it
        for path, target in zip((os.devnull, *job["background"]), range(3), strict=True):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), target)
        os._exit(_exit_code(job))
    return {"pid": child}


def wait(child: int, seconds: float) -> dict[str, int | None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return {"code": os.waitstatus_to_exitcode(status)}
        time.sleep(0.02)
    return {"code": None}


def start_app(job: dict[str, Any]) -> int:
    """The app as a server in a fork; what its pages import from other packages is there already."""
    for name in (
        "streamlit.web.cli",
        "streamlit.web.bootstrap",
        "uvicorn",
        "starlette.routing",
        "plotly.graph_objects",
    ):
        importlib.import_module(name)
    child = os.fork()
    if child == 0:
        with Path(os.devnull).open("r+b") as nothing:
            for target in (0, 1, 2):
                os.dup2(nothing.fileno(), target)
        os.environ |= job["environment"]
        os.chdir(job["cwd"])
        sys.argv = ["streamlit", "run", *job["app"]]
        sys.path[0] = job["cwd"]
        try:
            importlib.import_module("streamlit.web.cli").main()
        finally:
            os._exit(0)
    return child


def stop_app(child: int) -> int:
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[0]


def without_special_rights() -> None:
    """Root's right to override permissions, given up for good."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface; this process
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(header, data) == 0:
        for place in (0, 1):
            data[place] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if libc.capset(header, data) == 0:
            return
    raise OSError(ctypes.get_errno(), "capset")


def _exit_code(job: dict[str, Any]) -> int:
    try:
        os.chdir(job.get("cwd", "."))
        os.environ |= job.get("environment", {})
        if job.get("plain_user"):
            without_special_rights()
        run(job, job["arguments"])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        run(json.loads(sys.argv[1]), sys.argv[2:])
