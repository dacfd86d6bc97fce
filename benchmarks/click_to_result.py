"""Seconds from a click on Launch to the test ES-AUC on disk, for a short fine-tune on the built-in data, and where they go.

    python benchmarks/click_to_result.py [--epochs 2] [--n-train 2000] [--repeats 2] [--reading 30 | --cold]

As on the page Fine-tune, a worker stands by while the form is read (`--reading` seconds); `--cold` launches at once, and
the first run pays for the worker's imports. A further run finds the worker at work. All is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from fairvlm_core import PairTable, RunConfig, RunStore, jobs
from fairvlm_core.launch import create_run
from fairvlm_core.processes import end_tree
from fairvlm_core.runs import Run
from fairvlm_core.synth import SynthConfig, synthesize, write_synth


def watched(run: Run, started: float, limit: float = 600.0) -> dict[str, float]:
    """Seconds from `started` until each of these was first seen, and the processor time of the run's own process."""
    seen: dict[str, float] = {}
    worked = 0.0
    while "ES-AUC on disk" not in seen:
        if time.time() - started > limit:
            raise SystemExit(f"{run.id} took longer than {limit:.0f} s (state: {run.status.state})")
        status = run.status
        if status.state in ("failed", "cancelled", "interrupted"):
            raise SystemExit(f"{run.id} is {status.state}: {status.message}")
        facts = {
            "worker ready, run begins": status.state in ("running", "finished"),
            "images read, first epoch done": status.epoch >= 1,
            "training done": status.epoch >= status.epochs,
            "ES-AUC on disk": (run.path / "report.json").exists(),
        }
        for name, true in facts.items():
            if true:
                seen.setdefault(name, time.time() - started)
        with contextlib.suppress(psutil.Error):
            if status.pid is not None:
                times = psutil.Process(status.pid).cpu_times()
                worked = times.user + times.system
        time.sleep(0.02)
    return seen | {"(processor time of the run)": worked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--n-train", type=int, default=2000)
    parser.add_argument("--preset", default="robustfair")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--reading", type=float, default=30.0, help="seconds between the page and the click")
    parser.add_argument("--cold", action="store_true", help="no worker stands by")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_synth(synthesize(SynthConfig(n_train=options.n_train, seed=1)), Path(folder) / "data")
        table, store = PairTable.read(data), RunStore(Path(folder) / "workspace")
        configs = [
            RunConfig.build(options.preset, {"epochs": options.epochs, "seed": seed, "device": "cpu"})
            for seed in range(options.repeats)
        ]
        if not options.cold:
            jobs.stand_by(store, "cpu")
            time.sleep(options.reading)
        load = os.getloadavg()[0]
        started = time.time()
        runs = [create_run(table, config, store, read_options={}) for config in configs]
        jobs.launch(store, runs)
        figures = []
        for place, run in enumerate(runs):
            seen = watched(run, started)
            print(f"{run.id} ({len(table):,} pairs, {options.n_train:,} of them trained on, {options.epochs} epochs)")
            for name, seconds in seen.items():
                print(f"  {seconds:6.1f} s  {name}")
            steps = sum(line["step_seconds"] for line in run.metrics()) * -(-options.n_train // configs[0].batch_size)
            print(f"  {steps:6.1f} s  of it in training steps")
            figures.append(seen | {"steps": steps})
            started = time.time() if place + 1 < len(runs) else started
        print(f"load before the launch {load:.1f} on {os.cpu_count()} cores, {datetime.now():%Y-%m-%d}")
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
        for job in jobs.jobs(store):
            jobs.cancel(job.run)
        worker = jobs.serving(store, "cpu")  # it would make the maps, and stand by
        if worker is not None:
            end_tree(worker, 5.0)


if __name__ == "__main__":
    main()
