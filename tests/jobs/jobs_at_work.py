"""Helpers for tests of jobs: the processes started for a workspace, and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

TAG = "FAIRVLM_TEST_TAG"
QUICK = {"epochs": 1, "batch_size": 32, "device": "cpu"}
LONG = QUICK | {"epochs": 5000}


def started_for(tag: Path) -> list[psutil.Process]:
    """Every other living process with the tag in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != psutil.Process().pid and process.environ().get(TAG) == str(tag):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
