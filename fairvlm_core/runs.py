"""Runs on disk: one folder each, written so that a reader never sees half a file.

```
workspace/runs/0007-robustfair-s0/
    config.json  data.json  environment.json      written when the run is made
    pairs.parquet                                 the table without notes: ids, split, label, attributes
    status.json                                   state, process, heartbeat, progress
    metrics.jsonl                                 one line an epoch
    ledger.parquet                                raw losses of every training pair by epoch
    predictions.parquet  embeddings.npz  mining.parquet
    report.json                                   point values, and those of the test split with intervals
    projection.parquet                            a map of the pairs, made after the run has finished
    checkpoint/                                   the selected model, as open_clip's local-dir: loads it
    resume/0003/                                  state after epoch 3; the two newest are kept
    log.txt                                       what happened, in words; output.txt what the process printed
    heartbeat                                     touched by the process that works on the run
    cancel                                        someone wants the run to end
    .lock                                         held by the process that works on the run
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
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError

from . import __version__, safeio
from .config import RunConfig
from .errors import InputError
from .ledger import PairLossLedger
from .processes import Process, process_of

SCHEMA_VERSION = 1
STATES = ("queued", "running", "finished", "failed", "cancelled", "interrupted")
SILENT_AFTER = 120.0  # seconds
_LOCK = ".lock"
_ID = re.compile(r"\d{4,}-[a-z0-9-]+")


def default_workspace() -> Path:
    """``$FAIRVLM_WORKSPACE``, else ``./workspace``."""
    return Path(os.environ.get("FAIRVLM_WORKSPACE") or "workspace")


class BusyError(InputError):
    """Another process works on the run."""


@dataclass(frozen=True)
class Status:
    """Where a run stands. `interrupted` is found out by the reader: the process is gone.

    `ticket` is the place in the order of the queue, None for a run that was never put there; `device` that of the queue.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    state: Literal["queued", "running", "finished", "failed", "cancelled", "interrupted"]
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
        """The process that works on the run, or did last."""
        if self.pid is None:
            return None
        return Process(self.pid, -1.0 if self.process_started is None else self.process_started, self.boot)

    @property
    def silent(self) -> float | None:
        """Seconds without a sign of life of a running process, where they are so many that it must be stopped or stuck.

        A clock that was set back makes nothing look silent.
        """
        if self.state != "running" or self.heartbeat is None:
            return None
        seconds = time.time() - self.heartbeat
        return seconds if seconds > SILENT_AFTER else None


_STATUS = TypeAdapter(Status)


class Run:
    """One run's folder. Everything is read when asked for; `InputError` names what is missing."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.id = self.path.name

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @cached_property
    def config(self) -> RunConfig:
        values = safeio.read_versioned(self.path / "config.json", SCHEMA_VERSION)
        return RunConfig.read(values)

    @cached_property
    def data(self) -> dict[str, Any]:
        """Folder, name, fingerprint, prompts and attributes of the data, and what was decided on reading it."""
        return safeio.read_versioned(self.path / "data.json", SCHEMA_VERSION)

    @property
    def verdicts(self) -> str:
        """The head of the review log whose verdicts the run was trained with (8 hex digits); empty without a review."""
        record = self.data.get("verdicts")
        return "" if record is None else str(record["head"]["hash"])[:8]

    @property
    def method_key(self) -> str:
        """Runs that share it are repetitions of one another: the same settings but the seed, and the same verdicts."""
        return f"{self.config.method_key}+{self.verdicts}" if self.verdicts else self.config.method_key

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, system and time of the making of the run."""
        return safeio.read_versioned(self.path / "environment.json", SCHEMA_VERSION)

    @property
    def status(self) -> Status:
        values = safeio.read_versioned(self.path / "status.json", SCHEMA_VERSION)
        try:
            status = _STATUS.validate_python(values)
        except ValidationError:
            raise InputError(
                f"{self.id}/status.json is damaged: an entry is missing, unknown or of a wrong kind"
            ) from None
        with contextlib.suppress(OSError):
            status = replace(status, heartbeat=(self.path / "heartbeat").stat().st_mtime)
        if status.state == "running" and (status.process is None or not status.process.alive):
            return replace(status, state="cancelled" if (self.path / "cancel").exists() else "interrupted")
        return status

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run: one process at a time works on it or changes its state. May be nested.

        Raises
        ------
        BusyError
            Another process holds it.
        """
        if not self.path.is_dir():
            raise InputError(f"run {self.id} is not there any more")
        with safeio.storing(self.path / _LOCK):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise BusyError(f"run {self.id} is in the hands of another process: wait for it or cancel it") from None
        try:
            yield
        finally:
            self._lock.release()

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self.path / _LOCK, mode=safeio.PRIVATE_FILE)

    def set_status(self, **changes: Any) -> Status:
        path = self.path / "status.json"
        start = {"state": "queued", "created": now()}
        values = safeio.read_versioned(path, SCHEMA_VERSION) if path.exists() else start
        values = values | changes | {"heartbeat": time.time(), "schema_version": SCHEMA_VERSION}
        safeio.write_json(path, values)
        values.pop("schema_version")
        return Status(**values)

    def metrics(self) -> list[dict[str, Any]]:
        """One entry an epoch; a last line that is only half there is left out."""
        path = self.path / "metrics.jsonl"
        lines: list[dict[str, Any]] = []
        if path.exists():
            try:
                texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError as error:
                raise InputError(f"{self.id}/metrics.jsonl cannot be read ({type(error).__name__})") from error
            for text in texts:
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    break
                if not isinstance(line, dict):
                    break
                safeio.check_version(line.pop("schema_version", 1), SCHEMA_VERSION, f"{self.id}/metrics.jsonl")
                lines.append(line)
        return lines

    def write_metrics(self, lines: list[dict[str, Any]]) -> None:
        version = {"schema_version": SCHEMA_VERSION}
        text = "".join(json.dumps(version | line, allow_nan=False) + "\n" for line in lines)
        safeio.write_text(self.path / "metrics.jsonl", text)

    def ledger(self) -> PairLossLedger:
        return PairLossLedger.from_frame(self._parquet("ledger.parquet"))

    def pairs(self) -> pd.DataFrame:
        """pair_id, patient_id, split, label and attributes of every pair, in the order of the embeddings."""
        return self._parquet("pairs.parquet")

    def predictions(self) -> pd.DataFrame:
        return self._parquet("predictions.parquet")

    def projection(self) -> pd.DataFrame:
        """The map of the pairs: pair_id, image_x, image_y, text_x, text_y, method; rows as in `pairs`."""
        return self._parquet("projection.parquet")

    def report(self) -> dict[str, Any]:
        """The fairness report of the test split (and of validation), as evaluated once at the end."""
        return safeio.read_versioned(self.path / "report.json", SCHEMA_VERSION)

    def embeddings(self) -> dict[str, np.ndarray]:
        """`image` and `text`, float32 (N, D), rows as in `pairs`."""
        path = self.path / "embeddings.npz"
        if not path.exists():
            raise InputError(f"run {self.id} has no embeddings: they are written when it finishes")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                version = int(arrays["schema_version"]) if "schema_version" in arrays else 1
                safeio.check_version(version, SCHEMA_VERSION, f"{self.id}/embeddings.npz")
                return {name: arrays[name].astype(np.float32) for name in ("image", "text")}
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"run {self.id}: embeddings.npz is damaged ({type(error).__name__})") from error

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    def write_parquet(self, name: str, frame: pd.DataFrame) -> None:
        frame = frame.copy(deep=False)
        frame.attrs = {"schema_version": SCHEMA_VERSION}  # pandas keeps it in the file's metadata
        with safeio.new_file(self.path / name) as temporary:
            frame.to_parquet(temporary, index=False)

    def write_embeddings(self, image: np.ndarray, text: np.ndarray) -> None:
        with safeio.new_file(self.path / "embeddings.npz") as temporary, temporary.open("wb") as file:
            version = np.array(SCHEMA_VERSION)
            np.savez(file, schema_version=version, image=image.astype(np.float16), text=text.astype(np.float16))

    def log(self, line: str) -> None:
        safeio.append_line(self.path / "log.txt", f"{now()} {line}")

    def log_crash(self, error: BaseException) -> None:
        """Where a defect of ours showed, without its words."""
        self.log(wordless(error))

    def _parquet(self, name: str) -> pd.DataFrame:
        path = self.path / name
        try:
            frame = pd.read_parquet(path)
        except FileNotFoundError:
            raise InputError(f"run {self.id} has no {name} yet (state: {self.status.state})") from None
        except Exception as error:
            raise InputError(f"run {self.id}: {name} is damaged ({type(error).__name__})") from error
        safeio.check_version(frame.attrs.pop("schema_version", 1), SCHEMA_VERSION, f"{self.id}/{name}")
        return frame


class RunStore:
    """All runs of a workspace, numbered in the order they were made."""

    def __init__(self, workspace: Path | str | None = None):
        self.workspace = Path(workspace) if workspace is not None else default_workspace()
        self.root = self.workspace / "runs"

    def create(self, config: RunConfig, data: dict[str, Any], pairs: pd.DataFrame) -> Run:
        """A new run in state `queued`. The folder appears whole."""
        with safeio.storing(self.root):
            safeio.make_folder(self.root)
            self.workspace.chmod(safeio.PRIVATE_FOLDER)
            with FileLock(self.root / ".lock", mode=safeio.PRIVATE_FILE):
                safeio.sweep(self.root)
                number = max((int(run.id.split("-")[0]) for run in self.runs()), default=0) + 1
                path = self.root / f"{number:04d}-{config.preset}-s{config.seed}"
                with safeio.new_folder(path, manifest=False) as folder:
                    run = Run(folder)
                    safeio.write_json(folder / "config.json", config.to_dict())
                    safeio.write_json(folder / "data.json", {"schema_version": SCHEMA_VERSION} | data)
                    safeio.write_json(folder / "environment.json", _environment())
                    run.write_parquet("pairs.parquet", pairs)
                    run.set_status(state="queued", epochs=config.epochs)
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


def wordless(error: BaseException) -> str:
    """The type of an error and the lines of code it came through. Not its words, which may quote a note."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__} (its words are left out: they may quote the data)\n{frames.rstrip()}"


def this_process() -> dict[str, Any]:
    """What `Status` keeps of the process that works on a run."""
    process = process_of()
    return {"pid": process.pid, "process_started": process.started, "boot": process.boot}


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
