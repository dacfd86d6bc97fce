"""Processes named by pid, start time and boot of the machine, because a pid alone may be reused.

On Linux the start time is counted from the boot, so that setting the clock changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_PROC = Path("/proc")
_START_FIELD = 19  # of /proc/PID/stat, counted after the name in brackets: ticks from the boot to the start
_SAME = 0.005  # seconds; a tick is 0.01


@dataclass(frozen=True)
class Process:
    """One process of one boot; `started` in seconds after the boot (where there is no /proc: since 1970)."""

    pid: int
    started: float
    boot: str = ""

    @property
    def alive(self) -> bool:
        """Whether this process runs. False for another process with its pid and for a zombie."""
        try:
            now = process_of(self.pid)
            zombie = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
        return now.boot == self.boot and abs(now.started - self.started) < _SAME and not zombie

    def record(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_record` reads them."""
        return {"pid": self.pid, "process_started": self.started, "boot": self.boot}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Process:
        """Raises KeyError, TypeError or ValueError where an entry is missing or of a wrong type."""
        return cls(int(values["pid"]), float(values["process_started"]), str(values["boot"]))


def process_of(pid: int | None = None) -> Process:
    """The process that has a pid now (by default this one).

    Raises
    ------
    psutil.NoSuchProcess
        There is none.

    >>> process_of().alive
    True
    """
    pid = os.getpid() if pid is None else pid
    boot = _PROC / "sys" / "kernel" / "random" / "boot_id"
    if not boot.exists():
        return Process(pid, psutil.Process(pid).create_time())
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(stat.rpartition(")")[2].split()[_START_FIELD])
    except (OSError, IndexError, ValueError):
        raise psutil.NoSuchProcess(pid) from None
    return Process(pid, ticks / os.sysconf("SC_CLK_TCK"), boot.read_text().strip())


def end_tree(process: Process, grace: float) -> None:
    """Terminate a process and its descendants; kill those that still run after `grace` seconds."""
    if not process.alive:
        return
    try:
        top = psutil.Process(process.pid)
        tree = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    if not process.alive:  # it ended in between, and its pid may be another's
        return
    for one in tree:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil checks that the pid is still the same process
            one.terminate()
    _, left = psutil.wait_procs(tree, timeout=grace)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=grace)


def end_with_parent(parent: int) -> None:
    """In a process of a pool: end when the parent is gone, even if it was killed and could not say so."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
