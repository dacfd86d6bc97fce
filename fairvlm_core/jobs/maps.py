"""Making the map of a run in a process of its own, on request of the app."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ..analysis.pairmap import map_is_being_made
from ..errors import InputError
from ..runs import Run
from .detached import Detached, fairvlm


class MapState(StrEnum):
    NONE = "none"
    RUNNING = "running"
    MADE = "made"
    STOPPED = "stopped"  # a process was started and ended without a map


def map_command(run: Run) -> list[str]:
    """``fairvlm map`` for a run."""
    return fairvlm("map", run.id, "--workspace", str(run.workspace.resolve()))


def start_map(run: Run, command: Sequence[str] | None = None) -> None:
    """Start `map_command` (or another) with its output in a log of the run.

    Raises
    ------
    InputError
        The map is being made already, or the run's folder cannot be written.
    """
    if map_state(run) == MapState.RUNNING:
        raise InputError("the map is being made already")
    _maker(run).start(map_command(run) if command is None else command, environment={"OMP_NUM_THREADS": "1"})


def map_state(run: Run) -> MapState:
    """Whether a run has a map, or a process makes one."""
    maker = _maker(run)
    if map_is_being_made(run) or maker.process is not None:
        return MapState.RUNNING
    if run.files.projection.exists():
        return MapState.MADE
    return MapState.NONE if maker.started is None else MapState.STOPPED


def last_line(run: Run) -> str:
    """The last line that the process printed; empty where there is none."""
    return "".join(_maker(run).tail(1))


def _maker(run: Run) -> Detached:
    return Detached(run.files.map_process, run.files.map_log)
