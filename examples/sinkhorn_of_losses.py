"""Sinkhorn divergence of each group's losses from everyone's, epoch by epoch, from the ledger of a stored run.

python examples/sinkhorn_of_losses.py RUN --attribute race [--workspace workspace]
"""

from __future__ import annotations

import argparse

import numpy as np

from fairvlm_core import RunStore, sinkhorn_divergence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="id or number of a run, or `latest`")
    parser.add_argument("--attribute", required=True)
    parser.add_argument("--workspace", default="workspace")
    options = parser.parse_args()

    run = RunStore(options.workspace).get(options.run)
    ledger = run.ledger()
    group_of = run.pairs().set_index("pair_id")[options.attribute].astype(str)
    groups = group_of[ledger.pair_ids].to_numpy()
    for group in sorted(set(groups)):
        values = []
        for losses in ledger.losses:
            losses = losses.astype(float)
            values.append(float(sinkhorn_divergence(losses[groups == group], losses, blur=0.25, scale="sd").value))
        print(f"{group} (n = {np.sum(groups == group)}): " + " ".join(f"{value:.4f}" for value in values))


if __name__ == "__main__":
    main()
