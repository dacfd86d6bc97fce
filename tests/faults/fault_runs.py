"""Running the command line with faults, and what must be equal to an undisturbed run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from commands import Zygote

from fairvlm_core import safeio
from fairvlm_core.runs import Run, RunStore

LONG = os.environ.get("FAIRVLM_FAULTS") == "long"
SETTINGS = ("--preset", "robustfair", "--epochs", "2", "--batch-size", "8", "--seed", "5")


def train_arguments(data: Path, workspace: Path) -> list[str]:
    return ["train", str(data), *SETTINGS, "--no-map", "--workspace", str(workspace)]


def resume_arguments(run_id: str, workspace: Path) -> list[str]:
    return ["train", "--resume", run_id, "--no-map", "--workspace", str(workspace)]


@dataclass(frozen=True)
class Undisturbed:
    """A run without any fault, and the names of its changes to the disk in their order."""

    run: Run
    events: tuple[str, ...]


def assert_equal_runs(run: Run, other: Run) -> None:
    """Bit for bit but for times: model, ledger, metrics, predictions, embeddings, report."""
    assert run.status.state == other.status.state == "finished"
    for name in ("open_clip_model.safetensors", "open_clip_config.json"):
        assert (run.checkpoint / name).read_bytes() == (other.checkpoint / name).read_bytes()
    for name in ("ledger", "predictions", "pairs"):
        first, second = (pd.read_parquet(getattr(one.files, name)) for one in (run, other))
        assert first.equals(second), name
    embeddings, others = run.embeddings(), other.embeddings()
    assert all((embeddings[side] == others[side]).all() for side in ("image", "text"))
    assert [timeless(line) for line in run.metrics()] == [timeless(line) for line in other.metrics()]
    assert timeless(run.report()) == timeless(other.report())


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in ("seconds", "step_seconds")}


# Every change to the disk fails -------------------------------------------------------------------------------------

PIECES = 30 if LONG else 2
FEW = 1  # changes a piece in the short form


def assert_every_failure_is_survived(
    pairs: Path, undisturbed: Undisturbed, zygote: Zygote, folder: Path, piece: int, how: str
) -> None:
    """Train while one change to the disk fails, for each change of a piece; the run is whole and can be gone on with.

    `how` is "refuse" (this one change) or "full" (this one and all that follow).
    """
    for number in _places(undisturbed, piece, how):
        event = undisturbed.events[number]
        workspace = folder / str(number)
        ended = zygote.run(train_arguments(pairs, workspace), workspace, at=number, how=how)
        assert ended.code >= 0, f"{event}: killed"
        assert "Traceback" not in ended.said, f"{event}: {ended.said}"
        if ended.code != 0:
            assert ended.code in (1, 2), event
            line = ended.said.strip().splitlines()[-1]
            assert line.startswith("fairvlm: "), f"{event}: {line}"
            assert "cannot be written" in line, f"{event}: {line}"
        runs = RunStore(workspace).runs()
        assert len(runs) <= 1
        for run in runs:
            _assert_whole(run)
        # Refused the very last sync, a command fails although its run is finished.
        if not (runs and runs[0].status.state == "finished"):
            assert ended.code != 0, event
            arguments = resume_arguments("1", workspace) if runs else train_arguments(pairs, workspace)
            again = zygote.run(arguments, workspace)
            assert again.code == 0, f"{event}: {again.said}"
        assert_equal_runs(RunStore(workspace).get("1"), undisturbed.run)


def _places(undisturbed: Undisturbed, piece: int, how: str) -> list[int]:
    """Numbers of one piece of all changes to the disk: every one that can be refused, every fourth for a disk that stays
    full; a random few of them in the short form."""
    every = np.array_split(np.arange(len(undisturbed.events)), PIECES)[piece]
    if not LONG:
        return [int(number) for number in np.random.default_rng(piece).choice(every, FEW, replace=False)]
    return [int(number) for number in (every if how == "refuse" else every[::4])]


def _assert_whole(run: Run) -> None:
    """Whatever is there can be read."""
    assert run.status.state in ("queued", "failed", "interrupted", "finished")
    run.config, run.data, run.environment, run.pairs(), run.metrics()
    for path in (run.files.ledger, run.files.predictions):
        if path.exists():
            assert len(pd.read_parquet(path)) > 0
    if (run.path / "report.json").exists():
        assert run.report()["test"]
    if (run.path / "embeddings.npz").exists():
        assert len(run.embeddings()["image"]) == 96
    for folder in [run.checkpoint, *(run.path / "resume").glob("[0-9]*")]:
        if folder.exists():
            assert safeio.check_folder(folder) is None
