"""A ledger of a million pairs and twenty epochs: time to append an epoch, time to mine again, memory.

    python benchmarks/ledger.py [--pairs 1000000] [--epochs 20] [--channels loss]

Prints the median and largest time of an epoch (recorded in batches, then closed), the time of the first and of later
minings, the bytes held in memory and in files, and the growth of the process's own memory.
`--channels loss,similarity,margin,disagreement,mismatch,outlyingness` are the channels that a run of robustfair-plus
records. The exit status is the number of missed limits: 1 s, 0.2 s, 200 MB.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import psutil

from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import mine_bad_pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--channels", default="loss")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    channels, n = tuple(options.channels.split(",")), options.pairs
    rng = np.random.default_rng(0)
    level = rng.gamma(2.0, 0.5, n).astype(np.float32)
    level[: n // 20] += 4.0
    order, noise = rng.permutation(n), rng.normal(0, 0.1, n).astype(np.float32)
    loss = np.empty_like(level)
    before = own_memory()
    ledger = PairLossLedger([f"p{i:07d}" for i in range(n)], channels)
    took, walls = [], []
    for epoch in range(options.epochs):
        np.abs(level + np.roll(noise, 1009 * epoch), out=loss)
        tick, wall = time.process_time(), time.perf_counter()
        for first in range(0, n, options.batch):
            rows = order[first : first + options.batch]
            ledger.record(epoch, rows, loss=loss[rows])
        if channels[1:]:
            ledger.record(epoch, np.arange(n), **{name: loss / (1 + loss) for name in channels[1:]})
        ledger.close_epoch(epoch)
        took.append(time.process_time() - tick)
        walls.append(time.perf_counter() - wall)
    held, ids = ledger.nbytes, ledger.pair_ids.nbytes
    in_files = sum(ledger.channel(name).nbytes for name in channels) - (held - ids)
    grown = own_memory() - before
    print(f"{n:,} pairs x {options.epochs} epochs, channels {', '.join(channels)}; processor time")
    print(
        f"append an epoch       median {np.median(took):.2f} s, largest {max(took):.2f} s; "
        f"wall clock {np.median(walls):.2f} s"
    )
    print(
        f"held                  {held / 1e6:.0f} MB: values {(held - ids) / 1e6:.0f}, ids {ids / 1e6:.0f}; in files "
        f"{max(0, in_files) / 1e6:.0f} MB; the process's own memory grew by {grown / 1e6:.0f} MB"
    )
    rules = {"threshold": {}, "other limits": {"faulty_sd": 2.5}, "median and MAD": {"spread": "mad"}}
    rules |= {"mixture": {"rule": "mixture"}, "mixture, posterior": {"rule": "mixture", "weights": "posterior"}}
    if "mismatch" in channels:
        rules |= {"mismatch": {"rule": "mismatch", "weights": "posterior"}, "margin": {"channel": "margin"}}
    slowest = 0.0
    for name, settings in rules.items():
        tick = time.perf_counter()
        mine_bad_pairs(ledger, **settings)
        first = time.perf_counter() - tick  # later calls reuse the history, which is computed once
        times, walls = [], []
        for _ in range(options.repeats):
            tick, wall = time.process_time(), time.perf_counter()
            found = mine_bad_pairs(ledger, **settings)
            times.append(time.process_time() - tick)
            walls.append(time.perf_counter() - wall)
        slowest = max(slowest, float(np.median(times)))
        print(
            f"mine again, {name:19s}median {np.median(times):.3f} s, wall clock {np.median(walls):.3f} s, first time "
            f"{first:.3f} s  {found.n_flagged}",
            flush=True,
        )
    held = ledger.nbytes
    print(f"held after all that   {held / 1e6:.0f} MB, with the histories of {len(rules)} rules")
    return (max(took) > 1.0) + (slowest > 0.2) + (held > 200e6)


def own_memory() -> int:
    """Bytes of this process that are not backed by a file."""
    info = psutil.Process().memory_info()
    return info.rss - getattr(info, "shared", 0)


if __name__ == "__main__":
    sys.exit(main())
