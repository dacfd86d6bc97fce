"""Processes that are left after many launches and cancels: it should print 0.

    python benchmarks/orphans.py [--launches 50]

Every other run is cancelled in the midst of training, the rest at random moments after their launch, mostly before their
worker has finished its imports. A process counts as left when it carries the mark of this benchmark in its environment and
has not ended within five minutes of the last cancel; a worker that was starting ends when its imports are done.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

from fairvlm_core import PairTable, RunConfig, RunStore, jobs
from fairvlm_core.launch import create_run
from fairvlm_core.synth import SynthConfig, synthesize, write_synth

MARK = "FAIRVLM_ORPHAN_MARK"
PATIENCE = 300.0


def left(mark: str) -> list[psutil.Process]:
    """Living processes with the mark, but this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--launches", type=int, default=50)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds until a run is cancelled")
    options = parser.parse_args()
    mark = os.environ[MARK] = uuid.uuid4().hex
    waits = np.random.default_rng(0).uniform(0, 1, options.launches) ** 3 * options.longest
    with tempfile.TemporaryDirectory() as folder:
        config = SynthConfig(n_train=100, n_val=40, n_test=40, size=64, seed=1)
        data = write_synth(synthesize(config, workers=1), Path(folder) / "data")
        table, store = PairTable.read(data), RunStore(Path(folder) / "workspace")
        ways: Counter[str] = Counter()
        for seed, wait in enumerate(waits):
            chosen = RunConfig.build("clip", {"epochs": 10_000, "batch_size": 32, "seed": seed, "device": "cpu"})
            run = create_run(table, chosen, store, read_options={})
            jobs.launch(store, [run])
            until = time.monotonic() + PATIENCE
            while seed % 2 and run.status.state == "queued" and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(wait)
            ways[run.status.state] += 1
            jobs.cancel(run)
        states = Counter(run.status.state for run in store.runs())
        ended, until = time.monotonic(), time.monotonic() + PATIENCE
        while (orphans := left(mark)) and time.monotonic() < until:
            time.sleep(0.2)
        cancelled_while = ", ".join(f"{n} {state}" for state, n in ways.items())
        print(f"{options.launches} launches, cancelled while {cancelled_while}; states now: {dict(states)}")
        print(f"orphan processes: {len(orphans)} (looked for {time.monotonic() - ended:.0f} s after the last cancel)")
        for process in orphans:
            process.kill()
        raise SystemExit(bool(orphans))


if __name__ == "__main__":
    main()
