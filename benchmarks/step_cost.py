"""What a preset's training step costs against `clip`'s: same model, same batch, taken in turns.

    python benchmarks/step_cost.py [--model tiny] [--batch 64] [--pairs 640] [--turns 5]
    python benchmarks/step_cost.py --model ViT-B-32:random --batch 16 --pairs 112 --turns 3

Short fits with one thread follow each other, preset after preset, turn after turn. A step's cost is the processor time
between two steps of an epoch in which mining and the fairness term are at work, so that other work on the machine counts
little.
Printed: the median over turns of the ratio to `clip` in the same turn, its range, and milliseconds of a step.
Work between epochs (margins, agreement, divergences, evaluation) is not a step's; the last column holds the whole fit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.config import PRESETS
from fairvlm_core.features import pair_arrays
from fairvlm_core.models import load_clip
from fairvlm_core.synth import SynthConfig, synthesize, write_synth


def cost(table: PairTable, arrays: object, model: str, preset: str, batch: int) -> tuple[float, float]:
    """Processor seconds of a step (median of the second epoch, its first step left out), and of the whole fit."""
    ticks: list[float] = []
    config = RunConfig.build(preset, {"model": model, "batch_size": batch, "epochs": 2, "precision": "fp32"})
    clip = load_clip(model)
    started = time.process_time()
    fit(table, config, arrays=arrays, clip=clip, on_step=lambda _done, _all: ticks.append(time.process_time()))
    whole = time.process_time() - started
    return float(np.median(np.diff(ticks[len(ticks) // 2 :]))), whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="as for fairvlm train: NAME:random does for a cost")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=640, help="training pairs; at least three batches")
    parser.add_argument("--turns", type=int, default=5)
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
        cost(table, arrays, options.model, "clip", options.batch)  # warm-up
        ratios: dict[str, list[float]] = {preset: [] for preset in presets}
        seconds: dict[str, list[float]] = {preset: [] for preset in ("clip", *presets)}
        wholes: dict[str, list[float]] = {preset: [] for preset in ("clip", *presets)}
        for turn in range(options.turns):
            for preset in ("clip", *np.roll(presets, turn)):
                step, whole = cost(table, arrays, options.model, str(preset), options.batch)
                seconds[preset].append(step)
                wholes[preset].append(whole)
            for preset in presets:
                ratios[preset].append(seconds[preset][-1] / seconds["clip"][-1])
    print(f"{options.model}, batch {options.batch}, {options.pairs} pairs, one thread, {options.turns} turns")
    print("preset                 step (ms)  against clip [range]      whole fit against clip's")
    print(f"{'clip':<22} {1000 * np.median(seconds['clip']):9.1f}  1")
    for preset in presets:
        whole = np.median(np.array(wholes[preset]) / np.array(wholes["clip"]))
        print(
            f"{preset:<22} {1000 * np.median(seconds[preset]):9.1f}  {np.median(ratios[preset]):.3f} "
            f"[{min(ratios[preset]):.3f}, {max(ratios[preset]):.3f}]  {whole:22.3f}"
        )


if __name__ == "__main__":
    main()
