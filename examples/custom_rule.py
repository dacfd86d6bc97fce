"""A mining rule of your own on the ledger of a fine-tune, beside the paper's, judged against the planted bad pairs.

python examples/custom_rule.py DATA [--epochs 6] [--share 0.15]

The rule: in every epoch rank the pairs by loss, take each pair's worst rank but one, flag the given share of pairs.
"""

from __future__ import annotations

import argparse

import numpy as np

from fairvlm_core import PairLossLedger, PairTable, RunConfig, fit, mine_bad_pairs


def always_among_the_worst(ledger: PairLossLedger, share: float) -> np.ndarray:
    """Flags, bool (N,): pairs whose loss is high in nearly every epoch."""
    losses = ledger.losses  # (epochs, pairs)
    ranks = losses.argsort(axis=1).argsort(axis=1)
    second_lowest = np.sort(ranks, axis=0)[min(1, len(ranks) - 1)]
    return second_lowest >= np.quantile(second_lowest, 1 - share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a folder with planted.csv; `fairvlm synth DATA` makes one")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--share", type=float, default=0.15)
    options = parser.parse_args()

    table = PairTable.read(options.data)
    ledger = fit(table, RunConfig.build("clip", {"epochs": options.epochs})).ledger
    planted = table.planted().set_index("pair_id")["kind"]
    bad = (planted[ledger.pair_ids] == "mismatch").to_numpy()
    rules = {
        "own rule": always_among_the_worst(ledger, options.share),
        "mean + 2 sd": mine_bad_pairs(ledger, faulty_sd=2).to_frame()["kind"].eq("faulty").to_numpy(),
    }
    for name, flags in rules.items():
        hits = int((flags & bad).sum())
        print(f"{name}: {int(flags.sum())} flagged, {hits} of {int(bad.sum())} planted mismatches among them")


if __name__ == "__main__":
    main()
