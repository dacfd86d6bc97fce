"""Group methods: closed forms of their weights and draws, and what they do to a run."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fairvlm_core import InputError, RunConfig, fit
from fairvlm_core.config import GroupsConfig
from fairvlm_core.group_weights import (
    GroupDRO,
    InferredGroups,
    Sampling,
    inclusion,
    inverse_frequency,
    make_group_weights,
    systematic_draw,
)
from fairvlm_core.objective import Groups
from fairvlm_core.train import check_table

RACE = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
SEX = ["f", "m"] * 50


def sampling(n: int = 100, batch_size: int = 20) -> Sampling:
    return Sampling(n, batch_size, lambda epoch: np.random.default_rng([7, epoch]))


def made(method: str, attributes: dict[str, list[str]], batch_size: int = 20, **settings):
    config = GroupsConfig(method=method, **settings)
    return make_group_weights(config, sampling(batch_size=batch_size), Groups.of(attributes), seed=0)


def weights_of(method) -> np.ndarray:
    return method.weigh(np.arange(100), torch.zeros(100)).numpy()


# Closed forms


def test_reweighting_gives_every_group_the_same_total_weight():
    weight = weights_of(made("reweight", {"race": RACE}))
    for group, n in (("a", 60), ("b", 30), ("c", 10)):
        np.testing.assert_allclose(weight[np.array(RACE) == group], 100 / (3 * n), rtol=1e-6)
    assert weight.mean() == pytest.approx(1)


def test_several_attributes_are_averaged_and_large_weights_capped():
    weight = inverse_frequency(Groups.of({"race": RACE, "sex": SEX}), cap=10)
    np.testing.assert_allclose(weight[90:], (100 / 30 + 1) / 2)
    capped = np.minimum(weight, 1.5)
    np.testing.assert_allclose(
        inverse_frequency(Groups.of({"race": RACE, "sex": SEX}), cap=1.5), capped / capped.mean()
    )


def test_chances_are_proportional_and_certain_pairs_leave_the_rest_to_the_others():
    np.testing.assert_allclose(inclusion(np.ones(10), 4), 0.4)
    weight = np.array([100.0, 100.0, 1.0, 1.0, 2.0])
    np.testing.assert_allclose(inclusion(weight, 3), [1, 1, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(inclusion(weight, 5), 1)


def test_draws_are_distinct_and_as_frequent_as_their_chances():
    share = inclusion(np.random.default_rng(0).exponential(size=30), 12)
    rng = np.random.default_rng(1)
    drawn = np.zeros(30)
    for _ in range(4000):
        rows = systematic_draw(share, rng)
        assert len(set(rows.tolist())) == len(rows) == 12
        drawn[rows] += 1
    assert np.abs(drawn / 4000 - share).max() < 4 * math.sqrt(0.25 / 4000)


def test_balanced_batches_hold_every_group_equally_often():
    method = made("balanced", {"race": RACE}, batch_size=24)
    race, count, epochs = np.array(RACE), dict.fromkeys("abc", 0), 200
    for epoch in range(epochs):
        batches = list(method.batches(epoch))
        assert [len(rows) for rows, _ in batches] == [24] * 5  # as many as without
        assert all(len(fill) == 0 and len(set(rows)) == 24 for rows, fill in batches)
        for rows, _ in batches:
            for group in count:
                count[group] += int((race[rows] == group).sum())
    total = sum(count.values())
    assert all(abs(n / total - 1 / 3) < 0.01 for n in count.values()), count
    again, first = next(method.batches(0)), next(method.batches(0))
    assert np.array_equal(again[0], first[0])


def test_group_dro_by_hand_on_two_groups():
    method = GroupDRO(sampling(4, 4), Groups.of({"race": ["a", "a", "a", "b"]}), 0.5)
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)  # mean 2 and 4
    weight = method.weigh(np.arange(4), losses)
    q = np.array([math.exp(0.5 * 2), math.exp(0.5 * 4)])
    q /= q.sum()
    np.testing.assert_allclose(method.q.numpy(), q)
    assert not weight.requires_grad
    assert float((weight * losses.detach()).mean()) == pytest.approx(q @ [2, 4], rel=1e-6)
    weight = method.weigh(np.array([3, 0]), torch.tensor([4.0, 0.0]))
    q *= np.exp([0, 2])
    q /= q.sum()
    np.testing.assert_allclose(weight.numpy(), [2 * q[1], 2 * q[0]], rtol=1e-6)


def test_a_group_that_is_not_in_the_batch_keeps_its_weight():
    method = GroupDRO(sampling(6, 6), Groups.of({"race": ["a", "a", "b", "b", "c", "c"]}), 1.0)
    weight = method.weigh(np.array([0, 2, 3]), torch.tensor([1.0, 3.0, 3.0]))
    e = math.exp(2)
    np.testing.assert_allclose(method.q.numpy(), [2 / 3 / (1 + e), 2 / 3 * e / (1 + e), 1 / 3])
    assert float(weight.mean()) == pytest.approx(1)
    np.testing.assert_allclose(weight.numpy(), [3 / (1 + e), 1.5 * e / (1 + e), 1.5 * e / (1 + e)], rtol=1e-6)


def test_group_dro_averages_attributes():
    both = made("dro", {"race": RACE, "sex": SEX})
    rows, losses = np.arange(0, 100, 3), torch.rand(34, generator=torch.manual_seed(0))
    single = [made("dro", {name: values}).weigh(rows, losses) for name, values in (("race", RACE), ("sex", SEX))]
    torch.testing.assert_close(both.weigh(rows, losses), (single[0] + single[1]) / 2)


def test_the_worst_group_gains_weight_and_large_steps_stay_finite():
    method = made("dro", {"race": RACE}, step_size=1e4)
    losses = torch.where(torch.arange(100) >= 90, 5.0, 1.0)
    weight = method.weigh(np.arange(100), losses).numpy()
    np.testing.assert_allclose(weight, np.where(np.arange(100) >= 90, 10, 0), atol=1e-6)


def test_inferred_groups_are_the_clusters_of_images():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 100)
    image = torch.from_numpy(np.eye(3)[kind] + 0.05 * rng.normal(size=(100, 3))).float()
    method = InferredGroups(sampling(), 3, 0.01, seed=0)
    method.observe(image)
    weight = weights_of(method)
    for group in range(3):  # q is uniform at equal losses
        np.testing.assert_allclose(weight[kind == group], 100 / (3 * (kind == group).sum()), rtol=1e-6)
    again = InferredGroups(sampling(), 3, 0.01, seed=0)
    again.load(method.state())
    losses = torch.rand(100, generator=torch.manual_seed(1))
    assert torch.equal(again.weigh(np.arange(100), losses), method.weigh(np.arange(100), losses))


# In a run


@pytest.fixture(scope="module")
def balanced(table, arrays):
    config = RunConfig.build("group-balanced", {"epochs": 2, "batch_size": 16, "fairness.attributes": "race"})
    return fit(table, config, arrays=arrays)


def test_pairs_that_were_not_drawn_are_in_the_ledger_too(balanced):
    assert np.isfinite(balanced.ledger.losses).all()
    assert np.isfinite(balanced.ledger.channel("similarity")).all()
    assert np.isfinite(balanced.ledger.channel("margin")).all()
    assert [epoch.mean_weight for epoch in balanced.history] == [1.0, 1.0]


def test_values_of_pairs_that_were_not_drawn_are_comparable(table, arrays):
    """With a model that does not change, their losses are those of any batch."""
    settings = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-12}
    even, uneven = (
        fit(table, RunConfig.build(preset, settings), arrays=arrays).ledger for preset in ("clip", "group-balanced")
    )
    np.testing.assert_allclose(uneven.channel("margin"), even.channel("margin"), rtol=1e-4, atol=1e-4)
    assert uneven.losses.mean() == pytest.approx(even.losses.mean(), rel=0.1)


def test_group_weights_of_one_change_nothing(table, arrays):
    """All pairs in one group: every method is the plain one, bit for bit."""
    alike = replace(table, frame=table.frame.assign(race="all"))
    settings = {"epochs": 2, "batch_size": 16, "fairness.attributes": "race"}
    plain = fit(alike, RunConfig.build("clip", settings), arrays=arrays)
    for preset in ("group-weights", "group-dro"):
        result = fit(alike, RunConfig.build(preset, settings), arrays=arrays)
        np.testing.assert_allclose(result.ledger.losses, plain.ledger.losses, rtol=1e-5)


def test_a_method_that_needs_an_attribute_is_refused_without_one(table):
    bare = replace(table, attributes=())
    for preset in ("group-weights", "group-balanced", "group-dro"):
        with pytest.raises(InputError, match="needs an attribute"):
            check_table(bare, RunConfig.build(preset))
    check_table(bare, RunConfig.build("inferred-groups"))
