"""Commands of `fairvlm` in processes of their own that need not import everything first: each is a fork of one that has."""

from __future__ import annotations

import functools
import http.client
import json
import os
import subprocess
import sys
import uuid
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


@dataclass(frozen=True)
class Started:
    """A command that runs."""

    zygote: Zygote
    pid: int
    out: Path
    said: Path

    def end(self, seconds: float) -> Ended:
        """Wait for its end."""
        code = self.zygote.wait(self.pid, seconds)
        return Ended(code, *(path.read_text(encoding="utf-8") for path in (self.said, self.out)))


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

    def start(self, arguments: list[str], folder: Path, **environment: str) -> Started:
        """Start `fairvlm arguments…` in a fork and do not wait for it; its output goes to new files in a folder."""
        files = [str(folder / f"{uuid.uuid4()}.txt") for _ in range(2)]
        job = {"arguments": arguments, "within": os.devnull, "background": files, "environment": environment}
        return Started(self, self._ask(job)["pid"], *map(Path, files))

    def wait(self, pid: int, seconds: float) -> int:
        """Exit status of a started process."""
        code = self._ask({"wait": pid, "seconds": seconds})["code"]
        assert code is not None, f"it still runs after {seconds} s"
        return code

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


def http_answer(port: int, path: str, host: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one request with any `Host`, as a page at a re-pointed name would send it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()
