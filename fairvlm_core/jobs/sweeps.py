"""A sweep in a process of its own, started from the app."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from .detached import Detached, fairvlm


def start_sweep(
    workspace: Path, folder: str, *, study: str, trials: int, seeds: int, params: Sequence[str] = ()
) -> Detached:
    """Start a sweep on a data folder, or one more worker of a study that exists.

    Parameters
    ----------
    study : str
        Its name, letters, digits and ``-_.``.
    params : sequence of str
        As ``fairvlm sweep --param`` takes them; the sweep's defaults where there is none.

    Raises
    ------
    InputError
        The name cannot be used, a sweep of that study was started here and still works, or the workspace cannot be written.
    """
    if not study or not all(letter.isalnum() or letter in "-_." for letter in study) or study.startswith("."):
        raise InputError(f"study {study[:40]!r}: use letters, digits and - _ .")
    process = sweep_process(workspace, study)
    if process.process is not None:
        raise InputError(f"study {study!r} is at work: its trials appear below")
    command = ["sweep", folder, "--study", study, "--trials", str(trials), "--seeds", str(seeds)]
    for param in params:
        command += ["--param", param]
    process.start(fairvlm(*command, "--workspace", str(workspace)))
    return process


def sweep_process(workspace: Path, study: str) -> Detached:
    """The process of a study that the app started last."""
    folder = Path(workspace) / "sweeps"
    return Detached(folder / f"{study}.process.json", folder / f"{study}.log")
