"""Two processes on two cores compared with one process on one core: seconds a step of the whole loop, same total batch.

    python benchmarks/two_processes.py [--rounds 3] [--models tiny,ViT-B-32:random] [--preset robustfair]

Every process has one thread and, on Linux, its own core. One and two processes take turns. Prints medians over steps, then
the median ratio over rounds; the first two steps of a run are left out. Processor time leaves out waiting, for the other
process and for other work on the machine: it is an upper limit of the speed-up. Also printed is what the machine allows:
two independent runs of half the batch at the same time, compared with the one process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# pairs, image side, global batch, epochs
SIZES = {"tiny": (512, 64, 64, 4), "ViT-B-32:random": (128, 64, 32, 1)}


def inner(model: str, preset: str, folder: Path, out: Path, core: int, share: int) -> None:
    """Run as one process of a run; the first one writes the median seconds of a step."""
    import torch

    from fairvlm_core import PairTable, RunConfig, fit
    from fairvlm_core.distributed import joined

    torch.set_num_threads(1)
    core += int(os.environ["LOCAL_RANK"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    _, _, batch, epochs = SIZES[model]
    times = []
    with joined() as team:
        config = RunConfig.build(
            preset, {"model": model, "batch_size": batch // share, "epochs": epochs, "device": "cpu"}
        )
        fit(PairTable.read(folder), config, team=team, on_step=lambda *_: times.append(clocks()))
        wall, processor = (statistics.median([b[i] - a[i] for a, b in itertools.pairwise(times)][1:]) for i in (0, 1))
        if team.first:
            out.write_text(json.dumps({"step": wall, "processor": processor}))


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def run(processes: int, model: str, preset: str, folder: Path, core: int = 0, share: int = 1) -> dict[str, float]:
    """Median seconds of a step with 1/`share` of the batch, on the cores from `core` on."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "seconds.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        options = ["--inner", "--models", model, "--preset", preset, "--data", str(folder), "--out", str(out)]
        options += ["--core", str(core), "--share", str(share)]
        subprocess.run([*torchrun, __file__, *options], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
        return json.loads(out.read_text())


def apart(model: str, preset: str, folder: Path) -> float:
    """Mean seconds a step of two independent runs at the same time, each with half the batch and its own core."""
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda core: run(1, model, preset, folder, core, 2)["step"], (0, 1))
        return statistics.mean(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default=",".join(SIZES))
    parser.add_argument("--preset", default="robustfair")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        inner(arguments.models, arguments.preset, arguments.data, arguments.out, arguments.core, arguments.share)
        return
    from fairvlm_core.synth import SynthConfig, synthesize, write_synth

    for model in arguments.models.split(","):
        pairs, side, batch, _ = SIZES[model]
        with tempfile.TemporaryDirectory() as place:
            config = SynthConfig(n_train=pairs, n_val=24, n_test=24, size=side)
            folder = write_synth(synthesize(config, workers=1), Path(place) / "data")
            rounds = [[run(n, model, arguments.preset, folder) for n in (1, 2)] for _ in range(arguments.rounds)]
            alone = [apart(model, arguments.preset, folder) for _ in range(arguments.rounds)]
        one, two = (statistics.median(pair[i]["step"] for pair in rounds) for i in (0, 1))
        busy = [pair[0]["processor"] / pair[1]["processor"] for pair in rounds]
        ratios = [pair[0]["step"] / pair[1]["step"] for pair in rounds]
        print(
            f"{model}, {arguments.preset}, batch {batch}: one process {1e3 * one:.0f} ms a step, two {1e3 * two:.0f} ms; "
            f"{statistics.median(ratios):.2f} x (rounds {', '.join(f'{r:.2f}' for r in ratios)}); "
            f"by the first process's own processor time {statistics.median(busy):.2f} x; "
            f"two independent runs of half the batch: {one / statistics.median(alone):.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
