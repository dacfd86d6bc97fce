"""The demo as a process of its own, started from the app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from .. import safeio
from ..errors import InputError
from .detached import Detached, fairvlm

COMMAND = "fairvlm demo"
_PATIENCE = 5.0  # seconds


class DemoState(StrEnum):
    NONE = "none"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class DemoStatus:
    """State, start time (seconds since 1970) and last lines of the log."""

    state: DemoState
    started: float | None = None
    lines: tuple[str, ...] = ()


def demo_command(workspace: Path) -> list[str]:
    """The demo on a workspace, without the app."""
    return fairvlm("demo", "--no-app", "--workspace", str(workspace))


def start_demo(workspace: Path, command: Sequence[str] | None = None) -> None:
    """Start `demo_command` (or another) with its output in ``demo.log`` of the workspace.

    Raises
    ------
    InputError
        A demo already runs in this workspace, or the workspace cannot be written.
    """
    workspace = Path(workspace)
    lock = FileLock(workspace / ".demo.lock", mode=safeio.PRIVATE_FILE)
    with safeio.storing(workspace):
        safeio.make_folder(workspace)
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise InputError("another process starts the demo in this workspace: try again") from None
    with lock:
        if demo_status(workspace).state == DemoState.RUNNING:
            raise InputError("the demo already runs: its runs appear below")
        _demo(workspace).start(demo_command(workspace) if command is None else command)


def demo_status(workspace: Path) -> DemoStatus:
    """State of the demo of a workspace; a record that cannot be read counts as none."""
    demo = _demo(Path(workspace))
    if demo.started is None:
        return DemoStatus(DemoState.NONE)
    state = DemoState.ENDED if demo.process is None else DemoState.RUNNING
    return DemoStatus(state, demo.started, demo.tail())


def _demo(workspace: Path) -> Detached:
    return Detached(workspace / "demo.json", workspace / "demo.log")
