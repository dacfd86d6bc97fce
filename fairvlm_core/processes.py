"""Which process is meant: a pid alone may be another's by now.

A process is named by its pid, the moment it started, and the boot of the machine. On Linux the moment is counted from the
boot, so that setting the clock changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
        """This very process runs: not another with its pid, not one that ended and was not waited for."""
        try:
            now = process_of(self.pid)
            zombie = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
        return now.boot == self.boot and abs(now.started - self.started) < _SAME and not zombie


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
    """Ask a process and all below it to end; what is left after `grace` seconds is killed. Others are never signalled."""
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
        _signal(one.terminate)
    _, left = psutil.wait_procs(tree, timeout=grace)
    for one in left:
        _signal(one.kill)
    psutil.wait_procs(left, timeout=grace)


def _signal(send) -> None:
    """psutil looks itself whether the pid is still the same process's."""
    try:
        send()
    except psutil.NoSuchProcess:
        return
