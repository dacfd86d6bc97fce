"""The miner in a training step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairvlm_core.config import RunConfig
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.miners import make_miner

N = 400


def live_miner(channel="loss", warmup=1, trusted=(), groups=2):
    mining = {"mining.live": True, "mining.channel": channel, "mining.warmup": warmup}
    config = RunConfig.build("dbpm", mining).mining
    old = np.arange(N) < 60
    membership = np.array([old, ~old]) if groups else np.zeros((0, 0), bool)
    trusted = np.isin(np.arange(N), trusted)
    return make_miner(config, trusted, ["note"] * N, membership, slots=4, epochs=3, seed=0)


def test_a_pair_is_judged_by_the_loss_that_it_has_in_the_step():
    """Pair 0 had a usual loss in the last epoch and pair 1 an unusual one: now it is the other way round."""
    before = np.random.default_rng(0).normal(3.0, 0.2, N)
    before[1] = 9.0
    miner = live_miner(trusted=[3])
    ledger = PairLossLedger.from_values(before[None])
    miner.begin_epoch(ledger)
    weight = miner.weigh(np.arange(4), torch.tensor([9.0, 3.0, 3.1, 9.0]))
    assert weight.tolist() == [0, 1, 1, 1]  # the last one is trusted
    assert miner.n_flagged == {"faulty": 2, "noisy": 0}
    miner.begin_epoch(PairLossLedger(ledger.pair_ids))  # in the warm-up every pair counts
    assert miner.weigh(np.arange(4), torch.tensor([9.0, 3.0, 3.1, 9.0])).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("channel", "expected"), [("loss", 0.0), ("group_loss", 1.0)])
def test_a_group_with_high_losses_is_compared_with_itself(channel, expected):
    losses = np.random.default_rng(1).normal(3.0, 0.2, N)
    losses[:60] += 0.6
    miner = live_miner(channel)
    miner.begin_epoch(PairLossLedger.from_values(losses[None]))
    first = np.argsort(losses[:60])[20:40]  # the middle of the group
    assert (miner.weigh(first, torch.from_numpy(losses[first])) == expected).all()
    assert miner.weigh(np.array([0, 100]), torch.tensor([9.0, 9.0])).tolist() == [0, 0]


@pytest.mark.parametrize("groups", [0, 2])
def test_from_the_first_epoch_the_pairs_seen_so_far_are_the_reference(groups):
    losses = torch.from_numpy(np.random.default_rng(2).normal(4.0, 0.2, N))
    losses[N - 1] = 8.0
    miner = live_miner("group_loss", warmup=0, groups=groups)
    miner.begin_epoch(PairLossLedger([str(row) for row in range(N)]))
    weights = torch.cat([miner.weigh(rows, losses[rows]) for rows in np.arange(N).reshape(-1, 40)])
    assert float(weights[N - 1]) == 0
    assert float(weights[:-1].mean()) > 0.9
