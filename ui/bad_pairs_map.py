"""Making the map of a run in a process of its own: it goes on when the page or the server is closed."""

from __future__ import annotations

import os
import subprocess
import sys

from fairvlm_core import safeio
from fairvlm_core.analysis.pairmap import map_is_being_made
from fairvlm_core.errors import InputError
from fairvlm_core.runs import Run

_LOG = "map.log"
_STARTED: dict[str, subprocess.Popen] = {}  # held, so that a process that ends is waited for and leaves no zombie


def map_command(run: Run) -> list[str]:
    """What runs in that process: this very Python."""
    return [sys.executable, "-m", "fairvlm_core", "map", run.id, "--workspace", str(run.path.parent.parent.resolve())]


def start_map(run: Run, command: list[str] | None = None) -> None:
    """Start `map_command` (or another) in its own session, with its output in ``map.log`` of the run.

    Raises
    ------
    InputError
        It is being made already, or the run's folder cannot be written.
    """
    if map_state(run) == "running":
        raise InputError("the map is being made already")
    path = run.path / _LOG
    with safeio.storing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, safeio.PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as log:
            _STARTED[str(run.path)] = subprocess.Popen(
                map_command(run) if command is None else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
            )


def map_state(run: Run) -> str:
    """One of "made", "running", "stopped" (started here and ended without a map) or "none"."""
    process = _STARTED.get(str(run.path))
    if process is not None and process.poll() is None:
        return "running"
    if map_is_being_made(run):
        return "running"
    if (run.path / "projection.parquet").exists():
        return "made"
    return "none" if process is None else "stopped"


def last_line(run: Run) -> str:
    """The last line that the process wrote; empty where there is none."""
    try:
        lines = (run.path / _LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
