"""Runs on disk: one folder for each. Files are written so that a reader never sees a part of one.

```
workspace/runs/0007-robustfair-s0/
    config.json  data.json  environment.json      written when the run is made
    pairs.parquet                                 the table without notes: ids, split, label, attributes
    verdicts.json                                 of a review, where the run uses one
    status.json                                   state, process, heartbeat, progress
    metrics.jsonl                                 one line for each epoch
    ledger.parquet                                losses of every training pair by epoch
    predictions.parquet  embeddings.npz
    report.json                                   metrics, and those of the test split with intervals
    projection.parquet                            map of the pairs, made after the run has finished
    checkpoint/                                   the selected model; open_clip loads it as local-dir:
    resume/0003/                                  state after epoch 3; the two newest are kept
    log.txt  output.txt                           what happened; what the process printed
    map.json  map.log                             the process that makes the map on request, and its output
    heartbeat                                     touched by the process that trains the run
    cancel                                        a request to end the run
    .lock  .map.lock                              held while the run or its map is made
```
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError

from . import __version__, safeio
from .config import RunConfig
from .errors import InputError
from .ledger import PairLossLedger
from .processes import Process

SCHEMA_VERSION = 1
SILENT_AFTER = 120.0  # seconds
STARTING = "starting"  # in status.json: the message of a queued run that a worker has taken
_ID = re.compile(r"\d{4,}-[a-z0-9-]+")


class State(StrEnum):
    """The state of a run. `INTERRUPTED` is never written: a reader finds that the process has ended."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def resumable(self) -> bool:
        return self in (State.INTERRUPTED, State.FAILED, State.CANCELLED)


def default_workspace() -> Path:
    """``$FAIRVLM_WORKSPACE``, else ``./workspace``."""
    return Path(os.environ.get("FAIRVLM_WORKSPACE") or "workspace")


class BusyError(InputError):
    """Another process holds the run."""


@dataclass(frozen=True)
class Status:
    """State and progress of a run.

    `ticket` is its position in the queue, None for a run that was never queued; `device` is the device of that queue.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    state: State
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    message: str = ""
    pid: int | None = None
    process_started: float | None = None
    boot: str = ""
    heartbeat: float | None = None
    created: str = ""
    finished: str | None = None
    ticket: int | None = None
    device: str | None = None

    @property
    def process(self) -> Process | None:
        """The process that trains the run, or did last."""
        if self.pid is None:
            return None
        return Process(self.pid, -1.0 if self.process_started is None else self.process_started, self.boot)

    @property
    def starting(self) -> bool:
        """Whether a worker has taken the run from the queue and starts its process."""
        return self.state == State.QUEUED and self.message == STARTING

    @property
    def silent(self) -> float | None:
        """Seconds since the last heartbeat of a running process, if above `SILENT_AFTER`: it is stopped or hangs."""
        if self.state != State.RUNNING or self.heartbeat is None:
            return None
        seconds = time.time() - self.heartbeat
        return seconds if seconds > SILENT_AFTER else None


_STATUS = TypeAdapter(Status)


class RunFiles:
    """Paths of a run's files. No other module spells their names."""

    def __init__(self, folder: Path):
        self.config = folder / "config.json"
        self.data = folder / "data.json"
        self.environment = folder / "environment.json"
        self.pairs = folder / "pairs.parquet"
        self.verdicts = folder / "verdicts.json"
        self.status = folder / "status.json"
        self.metrics = folder / "metrics.jsonl"
        self.ledger = folder / "ledger.parquet"
        self.predictions = folder / "predictions.parquet"
        self.embeddings = folder / "embeddings.npz"
        self.report = folder / "report.json"
        self.projection = folder / "projection.parquet"
        self.states = folder / "resume"
        self.log = folder / "log.txt"
        self.output = folder / "output.txt"
        self.map_process = folder / "map.json"
        self.map_log = folder / "map.log"
        self.heartbeat = folder / "heartbeat"
        self.cancel = folder / "cancel"
        self.lock = folder / ".lock"
        self.map_lock = folder / ".map.lock"


class Run:
    """The folder of one run. Files are read on access; an `InputError` names what is missing or damaged."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.id = self.path.name
        self.files = RunFiles(self.path)
        self.checkpoint = self.path / "checkpoint"

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def workspace(self) -> Path:
        return self.path.parent.parent

    @cached_property
    def config(self) -> RunConfig:
        return RunConfig.from_stored(safeio.read_versioned(self.files.config, SCHEMA_VERSION))

    @cached_property
    def data(self) -> dict[str, Any]:
        """Folder, name, fingerprint, prompts and attributes of the data, and the options it was read with."""
        return safeio.read_versioned(self.files.data, SCHEMA_VERSION)

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, system and time when the run was made."""
        return safeio.read_versioned(self.files.environment, SCHEMA_VERSION)

    @property
    def verdicts(self) -> str:
        """Hash (8 hex digits) of the review log whose verdicts the run uses; empty without a review."""
        record = self.data.get("verdicts")
        return "" if record is None else str(record["head"]["hash"])[:8]

    @property
    def method_key(self) -> str:
        """Equal for runs with the same verdicts and the same settings except the seed."""
        return f"{self.config.method_key}+{self.verdicts}" if self.verdicts else self.config.method_key

    # State

    @property
    def status(self) -> Status:
        values = safeio.read_versioned(self.files.status, SCHEMA_VERSION)
        try:
            status = _STATUS.validate_python(values)
        except ValidationError:
            raise InputError(
                f"{self.id}/{self.files.status.name} is damaged: an entry is missing, unknown or of a wrong kind"
            ) from None
        with contextlib.suppress(OSError):
            status = replace(status, heartbeat=self.files.heartbeat.stat().st_mtime)
        if status.state == State.RUNNING and (status.process is None or not status.process.alive):
            return replace(status, state=State.CANCELLED if self.files.cancel.exists() else State.INTERRUPTED)
        return status

    def set_status(self, **changes: Any) -> Status:
        path = self.files.status
        start = {"state": State.QUEUED, "created": now()}
        values = safeio.read_versioned(path, SCHEMA_VERSION) if path.exists() else start
        status = _STATUS.validate_python(values | changes | {"heartbeat": time.time()})
        safeio.write_json(path, _STATUS.dump_python(status) | {"schema_version": SCHEMA_VERSION})
        return status

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run: one process at a time trains it or changes its state. May be nested.

        Raises
        ------
        BusyError
            Another process holds it.
        """
        if not self.path.is_dir():
            raise InputError(f"run {self.id} is not there any more")
        with safeio.storing(self.files.lock):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise BusyError(f"run {self.id} is used by another process: wait for it or cancel it") from None
        try:
            yield
        finally:
            self._lock.release()

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self.files.lock, mode=safeio.PRIVATE_FILE)

    @property
    def saved_states(self) -> list[Path]:
        """Folders of the states that training can resume from, oldest first.

        They are numbered by epoch; with folds of E epochs, epoch e of the k-th fold has the number (k − 1) E + e.
        """
        found = [path for path in self.files.states.glob("[0-9]*") if path.name.isdecimal()]
        return sorted(found, key=lambda path: int(path.name))

    # Results

    def metrics(self) -> list[dict[str, Any]]:
        """One entry for each epoch; an incomplete last line is left out."""
        path, name = self.files.metrics, f"{self.id}/{self.files.metrics.name}"
        try:
            texts = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        except OSError as error:
            raise InputError(f"{name} cannot be read ({type(error).__name__})") from error
        lines: list[dict[str, Any]] = []
        for text in texts:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not isinstance(line, dict):
                break
            safeio.check_version(line.pop("schema_version", 1), SCHEMA_VERSION, name)
            lines.append(line)
        return lines

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        version = {"schema_version": SCHEMA_VERSION}
        text = "".join(json.dumps(version | line, allow_nan=False) + "\n" for line in lines)
        safeio.write_text(self.files.metrics, text)

    def ledger(self, channel: str | None = None) -> PairLossLedger:
        """The losses of every training pair by epoch; with `channel`, only this one is read."""
        path, columns = self.files.ledger, None
        if channel is not None:
            with self._reading(path):
                columns = [name for name in pq.read_schema(path).names if name.rpartition("_")[0] == channel]
            if not columns:
                raise InputError(f"run {self.id}: {path.name} has no {channel}; train the run again")
            columns.insert(0, "pair_id")
        return PairLossLedger.from_frame(self._parquet(path, columns))

    def pairs(self) -> pd.DataFrame:
        """pair_id, patient_id, split, label and attributes of every pair, in the order of the embeddings."""
        return self._parquet(self.files.pairs)

    def predictions(self) -> pd.DataFrame:
        """Labels, scores and attributes of validation and test pairs."""
        return self._parquet(self.files.predictions)

    def projection(self) -> pd.DataFrame:
        """The map of the pairs: pair_id, image_x, image_y, text_x, text_y, method; rows as in `pairs`."""
        return self._parquet(self.files.projection)

    def report(self) -> dict[str, Any]:
        """The fairness reports of the test and the validation split, computed once at the end."""
        return safeio.read_versioned(self.files.report, SCHEMA_VERSION)

    def embeddings(self) -> dict[str, np.ndarray]:
        """`image` and `text`, float32 (N, D), rows as in `pairs`."""
        path = self.files.embeddings
        if not path.exists():
            raise InputError(f"run {self.id} has no embeddings: they are written when it finishes")
        with self._reading(path), np.load(path, allow_pickle=False) as arrays:
            version = int(arrays["schema_version"]) if "schema_version" in arrays else 1
            safeio.check_version(version, SCHEMA_VERSION, f"{self.id}/{path.name}")
            return {name: arrays[name].astype(np.float32) for name in ("image", "text")}

    def write_embeddings(self, image: np.ndarray, text: np.ndarray) -> None:
        with safeio.new_file(self.files.embeddings) as temporary, temporary.open("wb") as file:
            version = np.array(SCHEMA_VERSION)
            np.savez(file, schema_version=version, image=image.astype(np.float16), text=text.astype(np.float16))

    def write_parquet(self, file: Path | str, frame: pd.DataFrame) -> None:
        """Write one of `files`, or a file of the folder by its name, with the schema version in its metadata."""
        frame = frame.copy(deep=False)
        frame.attrs = {"schema_version": SCHEMA_VERSION}
        with safeio.new_file(file if isinstance(file, Path) else self.path / file) as temporary:
            frame.to_parquet(temporary, index=False)

    def write_report(self, values: dict[str, Any]) -> None:
        safeio.write_json(self.files.report, {"schema_version": SCHEMA_VERSION} | values)

    def _parquet(self, path: Path, columns: list[str] | None = None) -> pd.DataFrame:
        with self._reading(path):
            frame = pd.read_parquet(path, columns=columns)
        safeio.check_version(frame.attrs.pop("schema_version", 1), SCHEMA_VERSION, f"{self.id}/{path.name}")
        return frame

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Turn every failed read of a file into one `InputError`."""
        try:
            yield
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f"run {self.id} has no {path.name} yet (state: {self.status.state})") from None
        except Exception as error:
            raise InputError(f"run {self.id}: {path.name} is damaged ({type(error).__name__})") from error

    # Log

    def log(self, line: str) -> None:
        safeio.append_line(self.files.log, f"{now()} {line}")

    def log_lines(self) -> list[str]:
        """The log; empty where it is missing or cannot be read."""
        try:
            return self.files.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []


class RunStore:
    """All runs of a workspace, numbered in the order they were made."""

    def __init__(self, workspace: Path | str | None = None):
        self.workspace = Path(workspace) if workspace is not None else default_workspace()
        self.root = self.workspace / "runs"

    def create(self, config: RunConfig, data: dict[str, Any], pairs: pd.DataFrame) -> Run:
        """A new run in state `queued`. Its folder appears with all its files at once."""
        with safeio.storing(self.root):
            safeio.make_folder(self.root)
            self.workspace.chmod(safeio.PRIVATE_FOLDER)
            with FileLock(self.root / ".lock", mode=safeio.PRIVATE_FILE):
                safeio.sweep(self.root)
                number = max((int(run.id.split("-")[0]) for run in self.runs()), default=0) + 1
                path = self.root / f"{number:04d}-{config.preset}-s{config.seed}"
                with safeio.new_folder(path, manifest=False) as folder:
                    run = Run(folder)
                    safeio.write_json(run.files.config, config.to_dict())
                    safeio.write_json(run.files.data, {"schema_version": SCHEMA_VERSION} | data)
                    safeio.write_json(run.files.environment, _environment())
                    run.write_parquet(run.files.pairs, pairs)
                    run.set_status(state=State.QUEUED, epochs=config.epochs)
        return Run(path)

    def runs(self) -> list[Run]:
        """Oldest first."""
        if self.workspace.is_file():
            raise InputError(f"workspace {str(self.workspace)!r} is a file, not a folder: choose another --workspace")
        try:
            paths = list(self.root.iterdir()) if self.root.is_dir() else []
            found = [path for path in paths if path.is_dir() and _ID.fullmatch(path.name)]
        except OSError as error:
            raise InputError(f"workspace cannot be read ({error.strerror}): choose another --workspace") from error
        return [Run(path) for path in sorted(found, key=lambda p: int(p.name.split("-")[0]))]

    def get(self, run_id: str) -> Run:
        """A run by its id, by its number, or `latest`."""
        runs = self.runs()
        if run_id == "latest" and runs:
            return runs[-1]
        number = run_id.lstrip("0") if run_id.isdecimal() else None
        for run in runs:
            if run.id == run_id or run.id.split("-")[0].lstrip("0") == number:
                return run
        known = ", ".join(run.id for run in runs[-3:]) or "none"
        raise InputError(f"there is no run {run_id!r} in this workspace (latest: {known}); `fairvlm runs` lists them")


def without_message(error: BaseException) -> str:
    """The type and the traceback of an error. Its message is left out, because it may quote a note."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__} (message left out: it may quote the data)\n{frames.rstrip()}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _environment() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
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
