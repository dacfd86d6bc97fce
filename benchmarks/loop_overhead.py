"""What the loop costs beyond the training itself: a step of `fit` against a bare open_clip step on the same batch shape.

    python benchmarks/loop_overhead.py [--model ViT-B-32:random --batch 4 --steps 8] [--model tiny --batch 64 --steps 60]

The two take turns inside one process: between any two steps of `fit` (preset clip: no mining, no fairness term) a second
model of the same kind makes one step of a bare loop: the same indexing of uint8 arrays, open_clip's forward pass and
`ClipLoss`, backward pass, clipping of the gradient, fused AdamW, clamp of the logit scale. Steps at the start of an epoch,
before which `fit` validates, are left out. Processor time as well as wall time, since a busy machine bends the latter.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from head import table_of

from fairvlm_core import RunConfig, fit
from fairvlm_core.features import PairArrays
from fairvlm_core.models import load_clip


def measure(name: str, batch: int, steps: int) -> float:
    """Prints and returns the median ratio of processor times."""
    ours, other = load_clip(name, seed=0), load_clip(name, seed=1)
    with tempfile.TemporaryDirectory() as place:
        table = table_of(max(40, batch * 12 // 7), Path(place), 0, 0)
    n_train = int((table.frame["split"] == "train").sum())
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (len(table), 3, *ours.image_size), dtype=torch.uint8, generator=generator)
    tokens, cut = ours.tokens(list(table.frame["text"]))
    arrays = PairArrays(pixels, tokens, cut)

    model, loss_of = other.module.train(), open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)
    size = min(batch, n_train)

    def bare() -> None:
        rows = torch.randperm(len(table), generator=generator)[:size]
        image = model.encode_image(other.normalise(pixels[rows]), normalize=True)
        text = model.encode_text(tokens[rows].long(), normalize=True)
        optimizer.zero_grad(set_to_none=True)
        loss_of(image, text, model.logit_scale.exp()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))

    def clocks() -> np.ndarray:
        return np.array([time.process_time(), time.perf_counter()])

    per_epoch = -(-n_train // size)
    epochs = 1 + -(-steps // max(1, per_epoch - 1))
    fits, bares, left = [], [], clocks()

    def on_step(step: int, _: int) -> None:
        nonlocal left
        fitted = clocks() - left
        begun = clocks()
        bare()
        took = clocks() - begun
        if step > per_epoch and step % per_epoch != 1:  # the first epoch warms both up
            fits.append(fitted)
            bares.append(took)
        left = clocks()

    config = RunConfig.build("clip", {"epochs": epochs, "batch_size": size, "warmup_share": 0.5})
    fit(table, config, arrays=arrays, clip=ours, on_step=on_step)
    ratio = np.array(fits) / np.array(bares)
    cpu, wall = np.median(ratio, axis=0)
    low, high = np.quantile(ratio[:, 0], [0.25, 0.75])
    print(
        f"{name}, batch {size}, {len(ratio)} steps of each: bare {1e3 * np.median(bares, axis=0)[0]:.1f} ms of processor "
        f"time; fit / bare: median {cpu:.3f} (middle half {low:.3f} to {high:.3f}), by the wall clock {wall:.3f}",
        flush=True,
    )
    return float(cpu)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--steps", type=int, action="append")
    options = parser.parse_args()
    names = options.model or ["tiny", "ViT-B-32:random"]
    batches, steps = options.batch or [64, 4], options.steps or [60, 8]
    print(f"{torch.get_num_threads()} threads")
    return sum(measure(*job) > 1.03 for job in zip(names, batches, steps, strict=True))


if __name__ == "__main__":
    sys.exit(main())
