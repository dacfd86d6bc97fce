"""Cost of a preset's training step relative to `clip`: same model, same batch, steps in turn.

    python benchmarks/step_cost.py [--model tiny] [--batch 64] [--pairs 640] [--epochs 5]
    python benchmarks/step_cost.py --model ViT-B-32:random --batch 16 --pairs 160 --epochs 3

All fits run at the same time and take turns, one step each, so that other work on the machine affects all of them alike.
Every fit has one thread; the cost of a step is that thread's processor time. The first epoch, in which nothing is mined
yet, and the first step of every epoch are not counted. Prints the milliseconds of a step, and the median and the middle
80 % of the ratio to `clip`'s same steps, over rounds of eight steps (the divergence is solved once in eight steps). Work
between epochs (margins, agreement, divergences, evaluation) is not part of a step; the last column covers the whole fit.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.config import PRESETS
from fairvlm_core.features import PairArrays, pair_arrays
from fairvlm_core.models import load_clip
from fairvlm_core.synth import SynthConfig, synthesize, write_synth

ROUND = 8


class Turns:
    """Lets several threads work one at a time, in a fixed order."""

    def __init__(self, names: Sequence[str]):
        self.ring, self.changed = list(names), threading.Condition()

    def wait(self, name: str) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.ring[0] == name)

    def end(self, name: str, *, leave: bool = False) -> None:
        with self.changed:
            self.ring.remove(name)
            if not leave:
                self.ring.append(name)
            self.changed.notify_all()


def measure(
    table: PairTable, arrays: PairArrays, model: str, presets: Sequence[str], batch: int, epochs: int
) -> dict[str, tuple[np.ndarray, float]]:
    """Processor seconds of every step, shape (epochs, steps), and of the whole fit, for every preset."""
    turns = Turns(presets)
    found: dict[str, tuple[np.ndarray, float]] = {}

    def work(preset: str) -> None:
        torch.set_num_threads(1)
        steps: list[float] = []
        config = RunConfig.build(preset, {"model": model, "batch_size": batch, "epochs": epochs, "precision": "fp32"})
        turns.wait(preset)
        begun = since = time.thread_time()

        def stepped(_done: int, _all: int) -> None:
            nonlocal since
            steps.append(time.thread_time() - since)
            turns.end(preset)
            turns.wait(preset)
            since = time.thread_time()

        try:
            fit(table, config, arrays=arrays, clip=load_clip(model), on_step=stepped)
            found[preset] = np.reshape(steps, (epochs, -1)), time.thread_time() - begun
        finally:
            turns.end(preset, leave=True)

    threads = [threading.Thread(target=work, args=(preset,)) for preset in presets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="as for fairvlm train; NAME:random is enough to measure cost")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=640, help="training pairs; at least nine batches")
    parser.add_argument("--epochs", type=int, default=5, help="at least 2")
    parser.add_argument("--presets", default="dbpm,fairclip-plus,robustfair,robustfair-plus,robustfair-released")
    options = parser.parse_args()
    presets = options.presets.split(",")
    if unknown := set(presets) - set(PRESETS):
        parser.error(f"no such preset: {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    threadpool_limits(1)
    with tempfile.TemporaryDirectory() as folder:
        config = SynthConfig(n_train=options.pairs, n_val=24, n_test=24, seed=5, mismatch_rate=0.15)
        table = PairTable.read(write_synth(synthesize(config, workers=1), Path(folder) / "data"))
        arrays = pair_arrays(table, load_clip(options.model))
        found = measure(table, arrays, options.model, ["clip", *presets], options.batch, options.epochs)
    print(f"{options.model}, batch {options.batch}, {options.pairs} pairs, one thread a fit, {options.epochs} epochs")
    print("preset                 step (ms)  against clip [10 %, 90 %]      whole fit against clip's")
    for preset, (steps, whole) in found.items():
        clip_steps, clip_whole = found["clip"]
        ratio = _rounds(steps) / _rounds(clip_steps)
        low, high = np.quantile(ratio, (0.1, 0.9))
        print(
            f"{preset:<22} {1000 * np.median(_rounds(steps)):9.1f}  {np.median(ratio):.3f} [{low:.3f}, {high:.3f}]  "
            f"{whole / clip_whole:23.3f}"
        )


def _rounds(steps: np.ndarray) -> np.ndarray:
    """Mean seconds of a step in every round of eight, without the first epoch and the first step of every epoch."""
    counted = steps[1:, 1:].ravel()
    return counted[: len(counted) // ROUND * ROUND].reshape(-1, ROUND).mean(1)


if __name__ == "__main__":
    main()
