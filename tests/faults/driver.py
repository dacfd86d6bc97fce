"""The command line with a fault at its system calls: started as a process of its own, never inside pytest.

`driver.py PLAN ARGUMENTS…` runs `fairvlm ARGUMENTS…` with PLAN, a JSON object:

* ``within``: folder whose changes count. Every mkdir, opening for writing, rename, removal and fsync below it is one event,
  numbered from 0; Python announces the first four itself (audit events), fsync is wrapped.
* ``at`` and ``how``: what happens at event number ``at``: "kill" (SIGKILL to itself), "refuse" (this one call fails),
  "full" (this one and every later call that needs room fails, and no byte can be written any more: RLIMIT_FSIZE 0).
* ``count``: file that gets the names of all events at the end.

`driver.py serve` does the same for many plans without paying for the imports each time: it reads lines of JSON, a plan with
``arguments``, and answers each with the exit status and standard error of a child forked for it.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

NEEDS_ROOM = ("os.mkdir", "open", "os.fsync")


class Fault:
    """Counts what changes below a folder, and lets one of the calls go wrong."""

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
        importlib.import_module(f"fairvlm_core.{name}")  # what every child would import anew
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        from_child, to_parent = os.pipe()  # a limit on the size of files does not reach a pipe
        child = os.fork()
        if child == 0:
            os.close(from_child)
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor, target in ((nothing, 0), (nothing, 1), (to_parent, 2)):
                os.dup2(descriptor, target)
            os._exit(_exit_code(job))
        os.close(to_parent)
        with os.fdopen(from_child, encoding="utf-8", errors="replace") as pipe:
            said = pipe.read()
        status = os.waitpid(child, 0)[1]
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "stderr": said}), flush=True)


def _exit_code(job: dict[str, Any]) -> int:
    try:
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
