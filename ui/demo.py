"""The demo in a process of its own: it goes on when the page or the server is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from fairvlm_core import safeio
from fairvlm_core.errors import InputError

COMMAND = "fairvlm demo"
_RECORD, _LOG = "demo.json", "demo.log"
_TAIL_BYTES = 4000
_STARTED: list[subprocess.Popen] = []  # held, so that a demo that ends is waited for and leaves no zombie


@dataclass(frozen=True)
class DemoStatus:
    """`state` is "none", "running" or "ended"; `lines` are the last ones of its log."""

    state: str
    started: float | None = None
    lines: tuple[str, ...] = ()


def demo_command(workspace: Path) -> list[str]:
    """What runs in the demo's process: this very Python, so that it works outside a virtual environment's PATH."""
    return [sys.executable, "-m", "fairvlm_core", "demo", "--no-app", "--workspace", str(workspace)]


def start_demo(workspace: Path, command: list[str] | None = None) -> None:
    """Start `demo_command` (or another) on a workspace, in its own session, with its output in `demo.log` there.

    Raises
    ------
    InputError
        A demo is at work in this workspace, or the workspace cannot be written.
    """
    workspace = Path(workspace)
    command = demo_command(workspace) if command is None else command
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace / ".demo.lock", timeout=5):
            if demo_status(workspace).state == "running":
                raise InputError("the demo is at work already: its runs appear below")
            descriptor = os.open(workspace / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
                )
            _STARTED.append(process)
            created = psutil.Process(process.pid).create_time()
            safeio.write_json(
                workspace / _RECORD, {"pid": process.pid, "process_started": created, "started": time.time()}
            )
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "another start is under way"
        raise InputError(f"the demo cannot be started in the workspace ({reason})") from error
    except psutil.Error as error:
        raise InputError("the demo stopped at once: run `fairvlm demo` in a terminal to see why") from error


def demo_status(workspace: Path) -> DemoStatus:
    """How the demo of a workspace fares; a record that cannot be read counts as none."""
    workspace = Path(workspace)
    _STARTED[:] = [process for process in _STARTED if process.poll() is None]
    try:
        record = safeio.read_json(workspace / _RECORD)
        pid, created, started = int(record["pid"]), float(record["process_started"]), float(record["started"])
    except (InputError, KeyError, TypeError, ValueError):
        return DemoStatus("none")
    return DemoStatus("running" if _alive(pid, created) else "ended", started, _tail(workspace / _LOG))


def _alive(pid: int, created: float) -> bool:
    """The very process that was started, and not a dead one that nobody has waited for."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _tail(path: Path, lines: int = 6) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    kept = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return tuple(kept[-lines:])
