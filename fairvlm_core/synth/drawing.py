"""Draw many images at once: here, or in processes of our own where that is faster.

Drawing is many small array operations, which Python's threads cannot share out. The worker processes are started as
``python -m fairvlm_core.synth.worker`` with their tasks on standard input and bare pixels on standard output, not by
``multiprocessing``: that would run a caller's unguarded script again in every worker, or fork a process with torch's
threads in it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from .config import SynthConfig
from .fundus import render_fundus
from .looks import draw_look
from .markers import stamp

Progress = Callable[[int, int], None]
WORTH_A_PROCESS = 250  # pairs: drawing fewer takes less time than starting a process
_MOST_WORKERS = 8


class Task(NamedTuple):
    """One image to draw."""

    eye: Mapping[str, Any]  # a row of the findings
    person: Mapping[str, Any]  # split, race, gender, ethnicity, language, age
    index: int  # of the pair within its split
    marker: str  # to burn in, or empty


def draw_pair(config: SynthConfig, task: Task) -> np.ndarray:
    """The image of one pair, uint8 [size, size]; depends on the configuration's seed and the task alone."""
    split = task.person["split"]
    grain = config.generator("image", split, task.index)
    groups = {name: task.person[name] for name in ("race", "gender", "ethnicity", "language", "age")}
    quality, appearance = task.eye["quality"], config.group_appearance
    look = draw_look(grain, **groups, quality=quality, site=config.site, group_appearance=appearance)
    shape = config.generator("vessels", split, task.index)
    image = render_fundus(task.eye, look, config.size, shape, grain)
    return stamp(image, task.marker, config.generator("marker", split, task.index)) if task.marker else image


def draw_all(config: SynthConfig, tasks: list[Task], workers: int | None, progress: Progress | None) -> np.ndarray:
    """Images of all tasks, uint8 [n, size, size]; the same bytes whatever the number of workers.

    Args:
        config, tasks: what to draw.
        workers: processes; None takes one a processor core (at most 8), and fewer where they would not pay.
        progress: called with (done, in all) from the calling thread.
    """
    images = np.empty((len(tasks), config.size, config.size), dtype=np.uint8)
    if workers is None:
        workers = min(os.cpu_count() or 1, _MOST_WORKERS, max(1, len(tasks) // WORTH_A_PROCESS))
    if workers == 1 or not sys.executable:
        for i, task in enumerate(tasks):
            images[i] = draw_pair(config, task)
            if progress is not None:
                progress(i + 1, len(tasks))
        return images

    arrived: SimpleQueue[None] = SimpleQueue()  # one entry an image, or one a worker that gave up
    processes = [_start() for _ in range(min(workers, len(tasks)))]
    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            reads = [
                pool.submit(_collect, process, config, tasks, range(k, len(tasks), len(processes)), images, arrived)
                for k, process in enumerate(processes)
            ]
            try:
                for done in range(1, len(tasks) + 1):
                    arrived.get()
                    if any(read.done() and read.exception() for read in reads):
                        raise RuntimeError("a drawing process failed")
                    if progress is not None:
                        progress(done, len(tasks))
            except BaseException:  # an interrupt, a failed reader: the other readers end because their processes do
                _kill(processes)
                for read in reads:
                    if read.done():
                        read.result()
                raise
            for read in reads:
                read.result()
    finally:
        _kill(processes)
        for process in processes:
            process.stdout.close()
            process.wait()
    return images


def _start() -> subprocess.Popen:
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "fairvlm_core.synth.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )


def _collect(
    process: subprocess.Popen, config: SynthConfig, tasks: list[Task], share: range, images: np.ndarray,
    arrived: SimpleQueue,
) -> None:  # fmt: skip
    try:
        pickle.dump((config, [tasks[i] for i in share]), process.stdin)
        process.stdin.close()
        for i in share:
            pixels = process.stdout.read(images[i].nbytes)
            if len(pixels) != images[i].nbytes:
                raise RuntimeError(
                    f"a drawing process ended early (exit status {process.wait()}); see its message above"
                )
            images[i] = np.frombuffer(pixels, np.uint8).reshape(images[i].shape)
            arrived.put(None)
    except BaseException:
        process.kill()
        for _ in share:  # wake the waiting caller, who finds the exception
            arrived.put(None)
        raise


def _kill(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
