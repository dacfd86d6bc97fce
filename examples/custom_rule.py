"""A ranking rule and a weighting rule of your own.

    python examples/custom_rule.py DATA [--epochs 6]        train with the rule, judge it against the planted bad pairs

The file is also a plugin. With it, commands and the app know both rules by name:

    export FAIRVLM_PLUGINS=examples/custom_rule.py
    fairvlm train DATA --preset dbpm --set mining.rule="always among the worst" --set mining.weights="leave out" \\
        --set mining.faulty_sd=1.5
"""

from __future__ import annotations

import argparse

import numpy as np

from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.mining import Evidence, Flags, Judgement, ranking_rule, weighting_rule


@ranking_rule("always among the worst")
def always_among_the_worst(evidence: Evidence) -> Judgement:
    """Rank the pairs by loss in every epoch; a pair's score is its second-lowest rank."""
    losses = evidence.ledger.losses[: evidence.before]  # (epochs, pairs)
    ranks = losses.argsort(axis=1).argsort(axis=1)
    second_lowest = np.sort(ranks, axis=0)[min(1, len(ranks) - 1)]
    return evidence.by_limits(second_lowest.astype(float))


@weighting_rule("leave out")
def leave_out(flags: Flags) -> np.ndarray:
    """Flagged pairs do not count."""
    return np.zeros(len(flags.z))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="a folder with planted.csv; `fairvlm synth DATA` makes one")
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()

    table = PairTable.read(options.data)
    planted = table.planted().set_index("pair_id")["kind"]
    own = {"mining.rule": "always among the worst", "mining.weights": "leave out", "mining.faulty_sd": 1.5}
    for name, settings in {"own rules": own, "the paper's rule": {"mining.faulty_sd": 1.5}}.items():
        result = fit(table, RunConfig.build("dbpm", {"epochs": options.epochs} | settings))
        wrong = (planted[result.mining.pair_ids] == "mismatch").to_numpy()
        flagged = np.asarray(result.mining.kind == "faulty")
        print(
            f"{name}: test AUC {result.test.overall.auc:.3f}; {flagged.sum()} flagged as wrong notes, "
            f"{(flagged & wrong).sum()} of {wrong.sum()} planted ones among them"
        )


if __name__ == "__main__":
    main()
