"""How good the built-in model is on the default site, before and after a clean fine-tune.

python benchmarks/tiny.py [--seeds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.evaluate import zero_shot
from fairvlm_core.fairness import roc_auc
from fairvlm_core.features import embed, pair_arrays
from fairvlm_core.models import load_clip, tiny_folder
from fairvlm_core.synth import SynthConfig, synthesize, write_synth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    grid = Table(
        "data seed", "zero-shot AUC before", "after", "linear probe after", "seconds", title="2,000 clean pairs"
    )
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            config = SynthConfig(n_test=1000, seed=200 + seed, mismatch_rate=0.0, shortcut_rate=0.0)
            table = PairTable.read(write_synth(synthesize(config), Path(scratch) / str(seed)))
            clip = load_clip("tiny")
            arrays = pair_arrays(table, clip)
            test = np.flatnonzero(np.asarray(table.frame["split"]) == "test")
            image, _ = embed(clip, arrays, test)
            before = roc_auc(table.labels[test], zero_shot(clip, image, table.info.prompts))
            started = time.perf_counter()
            result = fit(table, RunConfig.build("clip", {"seed": seed}), arrays=arrays, clip=clip)
            held_out = result.predictions[result.predictions["split"].astype(str) == "test"]
            probe = roc_auc(held_out["label"].to_numpy(), held_out["probe_score"].to_numpy())
            rows.append((before, result.test.overall.auc, probe, time.perf_counter() - started))
            grid.add_row(str(200 + seed), *(f"{v:.3f}" for v in rows[-1][:3]), f"{rows[-1][3]:.0f}")
    mean, sd = np.mean(rows, 0), np.std(rows, 0, ddof=1) if seeds > 1 else np.zeros(4)
    grid.add_row("mean ± sd", *(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[:3], sd[:3], strict=True)), f"{mean[3]:.0f}")
    Console().print(grid)
    size = sum(f.stat().st_size for f in tiny_folder().iterdir()) / 2**20
    print(f"assets/tiny: {size:.1f} MB")


if __name__ == "__main__":
    main()
