"""Runs on disk: one folder each, written so that a reader never sees half a file.

```
workspace/runs/0007-robustfair-s0/
    config.json  data.json  environment.json      written when the run is made
    pairs.parquet                                 the table without notes: ids, split, label, attributes
    status.json                                   state, process, heartbeat, progress
    metrics.jsonl                                 one line an epoch
    ledger.parquet                                raw losses of every training pair by epoch
    predictions.parquet  embeddings.npz  report.json  mining.parquet
    checkpoint/                                   the selected model, as open_clip's local-dir: loads it
    resume/0003/                                  state after epoch 3; the two newest are kept
    log.txt
```
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from filelock import FileLock

from . import __version__, safeio
from .config import RunConfig
from .errors import InputError
from .ledger import PairLossLedger

SCHEMA_VERSION = 1
STATES = ("queued", "running", "finished", "failed", "cancelled", "interrupted")
_ID = re.compile(r"\d{4,}-[a-z0-9-]+")


def default_workspace() -> Path:
    """``$FAIRVLM_WORKSPACE``, else ``./workspace``."""
    return Path(os.environ.get("FAIRVLM_WORKSPACE") or "workspace")


@dataclass(frozen=True)
class Status:
    """Where a run stands. `interrupted` is found out by the reader: the process is gone or its heartbeat stopped."""

    state: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    message: str = ""
    pid: int | None = None
    process_started: float | None = None
    heartbeat: float | None = None
    created: str = ""
    finished: str | None = None


class Run:
    """One run's folder. Everything is read when asked for; `InputError` names what is missing."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.id = self.path.name

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @cached_property
    def config(self) -> RunConfig:
        return RunConfig.read(safeio.read_json(self.path / "config.json"))

    @cached_property
    def data(self) -> dict[str, Any]:
        """Folder, name, fingerprint, prompts and attributes of the data, and what was decided on reading it."""
        return safeio.read_json(self.path / "data.json")

    @property
    def status(self) -> Status:
        values = safeio.read_json(self.path / "status.json")
        if values.pop("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION:
            raise InputError(f"run {self.id} was written by a newer fairvlm: update to read it")
        status = Status(**values)
        if status.state == "running" and not _alive(status):
            return Status(**(asdict(status) | {"state": "interrupted"}))
        return status

    def set_status(self, **changes: Any) -> Status:
        path = self.path / "status.json"
        values = safeio.read_json(path) if path.exists() else {"state": "queued", "created": now()}
        values = values | changes | {"heartbeat": time.time(), "schema_version": SCHEMA_VERSION}
        safeio.write_json(path, values)
        values.pop("schema_version")
        return Status(**values)

    def metrics(self) -> list[dict[str, Any]]:
        """One entry an epoch; a last line that is only half there is left out."""
        path = self.path / "metrics.jsonl"
        lines: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    break
        return lines

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        safeio.write_text(self.path / "metrics.jsonl", text)

    def ledger(self) -> PairLossLedger:
        return PairLossLedger.from_frame(self._parquet("ledger.parquet"))

    def pairs(self) -> pd.DataFrame:
        """pair_id, patient_id, split, label and attributes of every pair, in the order of the embeddings."""
        return self._parquet("pairs.parquet")

    def predictions(self) -> pd.DataFrame:
        return self._parquet("predictions.parquet")

    def report(self) -> dict[str, Any]:
        """The fairness report of the test split (and of validation), as evaluated once at the end."""
        return safeio.read_json(self.path / "report.json")

    def embeddings(self) -> dict[str, np.ndarray]:
        """`image` and `text`, float32 (N, D), rows as in `pairs`."""
        path = self.path / "embeddings.npz"
        if not path.exists():
            raise InputError(f"run {self.id} has no embeddings: they are written when it finishes")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name].astype(np.float32) for name in ("image", "text")}
        except Exception as error:
            raise InputError(f"run {self.id}: embeddings.npz is damaged ({type(error).__name__})") from error

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    def write_parquet(self, name: str, frame: pd.DataFrame) -> None:
        with safeio.new_file(self.path / name) as temporary:
            frame.to_parquet(temporary, index=False)

    def write_embeddings(self, image: np.ndarray, text: np.ndarray) -> None:
        with safeio.new_file(self.path / "embeddings.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, image=image.astype(np.float16), text=text.astype(np.float16))

    def log(self, line: str) -> None:
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{now()} {line}\n")

    def _parquet(self, name: str) -> pd.DataFrame:
        path = self.path / name
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            raise InputError(f"run {self.id} has no {name} yet (state: {self.status.state})") from None
        except Exception as error:
            raise InputError(f"run {self.id}: {name} is damaged ({type(error).__name__})") from error


class RunStore:
    """All runs of a workspace, numbered in the order they were made."""

    def __init__(self, workspace: Path | str | None = None):
        self.workspace = Path(workspace) if workspace is not None else default_workspace()
        self.root = self.workspace / "runs"

    def create(self, config: RunConfig, data: dict[str, Any], pairs: pd.DataFrame) -> Run:
        """A new run in state `queued`. The folder appears whole."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.workspace.chmod(0o700)
        except OSError as error:
            raise InputError(f"workspace cannot be written ({error.strerror}): choose another --workspace") from error
        with FileLock(self.root / ".lock"):
            number = max((int(run.id.split("-")[0]) for run in self.runs()), default=0) + 1
            path = self.root / f"{number:04d}-{config.preset}-s{config.seed}"
            with safeio.new_folder(path, manifest=False) as folder:
                run = Run(folder)
                safeio.write_json(folder / "config.json", config.to_dict())
                safeio.write_json(folder / "data.json", data)
                safeio.write_json(folder / "environment.json", _environment())
                run.write_parquet("pairs.parquet", pairs)
                run.set_status(state="queued", epochs=config.epochs)
        return Run(path)

    def runs(self) -> list[Run]:
        """Oldest first."""
        if not self.root.is_dir():
            return []
        found = [path for path in self.root.iterdir() if path.is_dir() and _ID.fullmatch(path.name)]
        return [Run(path) for path in sorted(found, key=lambda p: int(p.name.split("-")[0]))]

    def get(self, run_id: str) -> Run:
        """A run by its id, by its number, or `latest`."""
        runs = self.runs()
        if run_id == "latest" and runs:
            return runs[-1]
        for run in runs:
            if run.id == run_id or (run_id.isdigit() and int(run.id.split("-")[0]) == int(run_id)):
                return run
        known = ", ".join(run.id for run in runs[-3:]) or "none"
        raise InputError(f"there is no run {run_id!r} in this workspace (latest: {known}); `fairvlm runs` lists them")


def _alive(status: Status) -> bool:
    """The very process that wrote the status still runs: same pid, same start, and not a zombie."""
    if status.pid is None:
        return False
    try:
        process = psutil.Process(status.pid)
        same = status.process_started is None or abs(process.create_time() - status.process_started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def this_process() -> dict[str, Any]:
    """What `Status` keeps of the process that works on a run."""
    process = psutil.Process()
    return {"pid": process.pid, "process_started": process.create_time()}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _environment() -> dict[str, Any]:
    packages = {}
    for name in ("torch", "open_clip_torch", "numpy", "pandas", "scikit-learn", "pot"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "schema_version": SCHEMA_VERSION,
        "fairvlm": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "created": now(),
    }
