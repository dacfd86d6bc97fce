"""Milliseconds a step of the built-in model on all cores, alone and beside a busy process, by how waiting threads wait.

    python benchmarks/beside_other_work.py [--rounds 3]

`fairvlm` sets GOMP_SPINCOUNT=1000 where nothing else is set; the OpenMP library's own choice is 300,000 turns. Each figure
is the median over rounds of the median step of a run of its own; settings take turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "the library's own": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}


def inner(folder: Path) -> None:
    """Train three epochs and print the milliseconds of a step."""
    from fairvlm_core import PairTable, RunConfig, fit

    times: list[float] = []
    config = RunConfig.build("clip", {"epochs": 3, "device": "cpu"})
    fit(PairTable.read(folder), config, on_step=lambda *_: times.append(time.perf_counter()))
    print(1e3 * statistics.median(b - a for a, b in itertools.pairwise(times[2:])))


def step(folder: Path, way: dict[str, str], busy: bool) -> float:
    """Milliseconds a step of a run in a process of its own, if asked for beside one that never rests."""
    names = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        command = [sys.executable, __file__, "--inner", str(folder)]
        done = subprocess.run(command, env=environment | way, check=True, capture_output=True, text=True)
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        inner(arguments.inner)
        return
    from fairvlm_core.synth import SynthConfig, synthesize, write_synth

    with tempfile.TemporaryDirectory() as place:
        config = SynthConfig(n_train=512, n_val=24, n_test=24, size=64)
        folder = write_synth(synthesize(config, workers=1), Path(place) / "data")
        cases = list(itertools.product(WAYS, (False, True)))
        rounds = [{case: step(folder, WAYS[case[0]], case[1]) for case in cases} for _ in range(arguments.rounds)]
    print(f"{'waiting threads':<22}{'alone (ms)':>12}{'beside one busy process (ms)':>30}")
    for way in WAYS:
        alone, beside = (statistics.median(one[way, busy] for one in rounds) for busy in (False, True))
        print(f"{way:<22}{alone:>12.0f}{beside:>30.0f}")


if __name__ == "__main__":
    main()
