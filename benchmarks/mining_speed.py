"""Ledger and mining at a million pairs: time of an epoch, of mining, of mining again; memory.

python benchmarks/mining_speed.py [--pairs 1000000] [--epochs 20]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import audit_mining, mine_bad_pairs


def timed(call: Callable[[], object], repeats: int = 3) -> float:
    """Least wall time in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1024)
    arguments = parser.parse_args()
    n = arguments.pairs
    rng = np.random.default_rng(0)
    level = rng.gamma(2.0, 0.5, n)
    level[: n // 20] += 4.0

    ledger = PairLossLedger([f"pair-{i:07d}" for i in range(n)])
    times = []
    for epoch in range(arguments.epochs):
        loss = (level + rng.normal(0, 0.1, n)).astype(np.float32)
        order = rng.permutation(n)
        start = time.perf_counter()
        for first in range(0, n, arguments.batch):
            rows = order[first : first + arguments.batch]
            ledger.record(epoch, rows, loss=loss[rows])
        ledger.close_epoch(epoch)
        times.append(1e3 * (time.perf_counter() - start))
    held = ledger.losses.base.nbytes
    print(f"{n:,} pairs, {arguments.epochs} epochs, batches of {arguments.batch}")
    print(f"an epoch appended and closed   {np.median(times):8.0f} ms (largest {max(times):.0f})")
    print(f"ledger in memory               {held / 1e6:8.0f} MB ({ledger.losses.nbytes / 1e6:.0f} MB of values)")

    start = time.perf_counter()
    mine_bad_pairs(ledger)
    print(f"mined for the first time       {1e3 * (time.perf_counter() - start):8.0f} ms")
    settings = {
        "other thresholds": {"faulty_sd": 2.5, "noisy_sd": 2.0},
        "median and MAD": {"spread": "mad"},
        "mixture": {"rule": "mixture"},
        "mixture, posterior": {"rule": "mixture", "weights": "posterior"},
    }
    for name, values in settings.items():
        result = mine_bad_pairs(ledger, **values)
        print(
            f"mined again: {name:18s}{timed(lambda v=values: mine_bad_pairs(ledger, **v)):8.0f} ms  {result.n_flagged}"
        )
    race = rng.choice(["Asian", "Black", "White"], n, p=[0.08, 0.15, 0.77])
    print(f"audited by one attribute       {timed(lambda: audit_mining(result, {'race': race})):8.0f} ms")
    start = time.perf_counter()
    restored = PairLossLedger.from_state_dict(ledger.state_dict())
    same = restored.losses.tobytes() == ledger.losses.tobytes()
    print(f"state taken and restored       {1e3 * (time.perf_counter() - start):8.0f} ms, bit for bit: {same}")


if __name__ == "__main__":
    main()
