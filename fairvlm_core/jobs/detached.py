"""Commands in a process of their own that outlive the page, server or terminal that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from .. import safeio
from ..errors import InputError
from ..processes import Process, process_of

_SCHEMA_VERSION = 1
_TAIL_BYTES = 4000


def fairvlm(*arguments: str) -> list[str]:
    """A command line of fairvlm, run by this Python."""
    return [sys.executable, "-m", "fairvlm_core", *arguments]


@dataclass(frozen=True)
class Detached:
    """A process that is named in the JSON file `record` and prints into the file `log`."""

    record: Path
    log: Path

    def start(
        self, command: Sequence[str], *, append: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a command in a new session; `append` keeps what the log holds already.

        Raises
        ------
        InputError
            The files cannot be written, or the process ended at once.
        """
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        with safeio.storing(self.log):
            safeio.make_folder(self.log.parent)
            with os.fdopen(os.open(self.log, flags, safeio.PRIVATE_FILE), "wb") as output:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | dict(environment or {}),
                )
        threading.Thread(target=process.wait, name="detached", daemon=True).start()  # so that it leaves no zombie
        try:
            self.write_record(process_of(process.pid))
        except psutil.NoSuchProcess:
            raise InputError(f"the process ended at once: see {self.log.parent.name}/{self.log.name}") from None

    def write_record(self, process: Process) -> None:
        safeio.write_json(self.record, {"schema_version": _SCHEMA_VERSION, "started": time.time()} | process.record())

    @property
    def started(self) -> float | None:
        """When a process was started, alive or not, in seconds since 1970; None where no record can be read."""
        return None if (found := self._read()) is None else found[1]

    @property
    def process(self) -> Process | None:
        """The process, if it is alive."""
        found = self._read()
        return found[0] if found is not None and found[0].alive else None

    def _read(self) -> tuple[Process, float] | None:
        try:
            values = safeio.read_versioned(self.record, _SCHEMA_VERSION)
            return Process.from_record(values), float(values.get("started", 0.0))
        except (InputError, KeyError, TypeError, ValueError):
            return None

    def tail(self, lines: int = 6) -> tuple[str, ...]:
        """The last lines of the log that are not empty."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ()
        kept = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
        return tuple(kept[-lines:])
