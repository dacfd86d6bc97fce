"""Commands of `fairvlm` in processes of their own that need not import everything first: each is a fork of one that has."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DRIVER = ROOT / "tests" / "faults" / "driver.py"
QUIET = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status (negative for a signal), standard error, standard output.

    Without ``stdout`` in the plan `out` is empty; with ``stdout="said"`` it is part of `said`.
    """

    code: int
    said: str
    out: str = ""


class Zygote:
    """A process that forks a child for every command; see faults/driver.py."""

    def __init__(self) -> None:
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(DRIVER), "serve"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=QUIET)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def run(self, arguments: list[str], within: Path | str = os.devnull, **plan: Any) -> Ended:
        """Run `fairvlm arguments…` in a fork; `plan` as in faults/driver.py."""
        return Ended(**self._ask(plan | {"arguments": arguments, "within": str(within)}))

    def start_app(self, workspace: Path, *options: str, **environment: str) -> int:
        """The process id of the app that serves a workspace; `options` are Streamlit's."""
        environment = {"FAIRVLM_WORKSPACE": str(workspace), "FAIRVLM_DATABASE_URL": ""} | environment
        return self._ask({"app": ["app.py", *options], "cwd": str(ROOT), "environment": environment})["pid"]

    def stop_app(self, pid: int) -> None:
        self._ask({"stop": pid})

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        if self.process.poll() is not None:
            self.process = self._start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except BaseException:  # out of time: the next test must not read this one's answer
            self.process.kill()
            self.close()
            raise

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


@functools.cache
def shared_zygote() -> Zygote:
    """The one of this test process."""
    return Zygote()
