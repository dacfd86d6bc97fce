from __future__ import annotations

import math

import numpy as np
import open_clip
import ot
import pytest
import torch
from torch.nn import functional as F

from fairvlm_core.mining import margin
from fairvlm_core.objective import Groups, LedgerDivergence, ReleasedDivergence, group_distances, pair_losses
from fairvlm_core.sinkhorn import group_sinkhorn


def features(n=12, d=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1) for _ in range(2)]


def test_the_mean_pair_loss_is_open_clips_loss():
    image, text = (f.float() for f in features())
    scale = torch.tensor(14.0)
    theirs = open_clip.ClipLoss()(image, text, scale)
    assert torch.allclose(pair_losses(image, text, scale).loss.mean(), theirs, atol=1e-6)


def test_similarity_is_the_diagonal_of_the_logits():
    image, text = features()
    pairs = pair_losses(image, text, torch.tensor(3.0))
    assert torch.allclose(pairs.similarity, 3 * (image * text).sum(1).float())


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_a_loss_does_not_depend_on_how_many_pairs_have_the_same_note(copies):
    """Each image is 2 nats nearer to its own note than to any other: every loss is log(1 + (B − 1) e⁻²) ."""
    notes = torch.arange(20) // copies
    text = torch.eye(20)[notes]
    pairs = pair_losses(text, text, torch.tensor(2.0), notes=notes)
    torch.testing.assert_close(pairs.loss, torch.full((20,), math.log(1 + 19 * math.exp(-2))))
    torch.testing.assert_close(margin(text, text, 2.0, notes=notes.numpy()), pairs.loss)
    nothing = pair_losses(text, text, torch.tensor(0.0), notes=notes)
    torch.testing.assert_close(nothing.loss, torch.full((20,), math.log(20)))


def test_common_and_rare_notes_in_one_batch_have_the_loss_of_their_fit():
    """13 pairs of one note and 7 of notes of their own, all alike: without notes the common ones would stand out."""
    notes = torch.tensor([0] * 13 + list(range(1, 8)))
    text = torch.eye(20)[notes]
    loss = pair_losses(text, text, torch.tensor(4.0), notes=notes).loss
    assert float(loss.max() - loss.min()) < 1e-5
    plain = pair_losses(text, text, torch.tensor(4.0)).loss
    assert float(plain[0] - plain[-1]) > 1.5


def test_a_batch_of_one_note_says_nothing():
    image = features(4)[0].float().requires_grad_()
    loss = pair_losses(image, torch.eye(4, 8), torch.tensor(3.0), notes=torch.zeros(4, dtype=torch.long)).loss
    loss.sum().backward()
    assert not loss.any()
    assert not image.grad.any()


def attributes(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "race": rng.choice(["Asian", "Black", "White"], n, p=[0.1, 0.2, 0.7]),
        "sex": rng.choice(["F", "M"], n),
    }


def test_groups_cover_every_attribute_and_weigh_it_once():
    groups = Groups.of(attributes(300), {"sex": 2.0})
    assert groups.names == (("race", "Asian"), ("race", "Black"), ("race", "White"), ("sex", "F"), ("sex", "M"))
    assert groups.membership[:3].sum(0).eq(1).all()
    assert torch.allclose(groups.coefficient, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0, 1.0]))


@pytest.mark.parametrize("normalise", [False, True])
def test_divergence_from_the_grid_is_that_of_the_values(normalise):
    """On its grid the ledger's divergence is that of the plain values: near W₂²/2 for a small blur."""
    n = 600
    groups = Groups.of(attributes(n))
    rng = np.random.default_rng(1)
    values = torch.from_numpy(rng.gamma(4.0, 0.5, n) + 0.8 * groups.membership[0].numpy())
    divergence = LedgerDivergence(groups, blur=0.05, normalise=normalise, knots=256)
    divergence.start_epoch(values, None)
    got = divergence.solve()
    for i, member in enumerate(groups.membership):
        x, y = values[member], values
        if normalise:
            x, y = x / x.mean(), y / y.mean()
        exact = 0.5 * float(ot.wasserstein_1d(x.numpy(), y.numpy(), p=2))
        assert float(got[i]) == pytest.approx(exact, rel=0.05, abs=2e-4)


def test_a_pair_turned_down_to_nothing_does_not_drive_the_term():
    groups = Groups.of({"sex": np.array(["F"] * 100 + ["M"] * 100)})
    values = torch.linspace(1, 2, 200, dtype=torch.float64)
    values[:100] = values[100:]
    values[0] = 50.0
    divergence = LedgerDivergence(groups, blur=0.3)
    divergence.start_epoch(values, None)
    assert float(divergence.solve()[0]) > 1
    weights = np.ones(200)
    weights[0] = 0
    divergence.start_epoch(values, weights)
    assert float(divergence.solve()[0]) < 0.05


def test_gradient_at_the_live_values_is_that_of_the_whole_divergence():
    """With all pairs in the batch the term's gradient is the derivative of Σ coefficient · S, by finite differences."""
    n = 80
    groups = Groups.of(attributes(n, seed=3), {"sex": 0.5})
    rng = np.random.default_rng(2)
    values = torch.from_numpy(rng.normal(2, 1, n) + groups.membership[0].numpy())
    rows = torch.arange(n)
    divergence = LedgerDivergence(groups, blur=0.5, knots=512, refresh=1)
    divergence.start_epoch(values, None)
    live = values.clone().requires_grad_()
    divergence.term(rows, live).backward()

    def total(x):
        fresh = LedgerDivergence(groups, blur=0.5, knots=512)
        fresh.start_epoch(x, None)
        return float((fresh.solve() * groups.coefficient).sum())

    inner = torch.argsort(values)[5:-5:9]  # the grid's ends move with the extreme values
    for i in inner.tolist():
        step = torch.zeros(n, dtype=torch.float64)
        step[i] = 0.02
        numeric = (total(values + step) - total(values - step)) / 0.04
        assert float(live.grad[i]) == pytest.approx(numeric, abs=0.06 * float(live.grad.abs().max()))


def test_batches_estimate_the_same_gradient_without_bias():
    n, size = 240, 24
    groups = Groups.of(attributes(n, seed=5))
    values = torch.from_numpy(np.random.default_rng(4).normal(0, 1, n)) + groups.membership[1]
    whole = LedgerDivergence(groups, blur=0.5, refresh=1)
    whole.start_epoch(values, None)
    live = values.clone().requires_grad_()
    whole.term(torch.arange(n), live).backward()
    collected = torch.zeros(n, dtype=torch.float64)
    for start in range(0, n, size):
        rows = torch.arange(start, start + size)
        part = LedgerDivergence(groups, blur=0.5, refresh=1)
        part.start_epoch(values, None)
        mine = values[rows].clone().requires_grad_()
        part.term(rows, mine).backward()
        collected[rows] = mine.grad
    assert torch.allclose(collected * size / n, live.grad, atol=1e-9)


def test_gradient_is_that_of_the_samples_also_in_the_tails():
    """The grid is a means: alone far out or in the crowd, a pair is pulled as the exact divergence of the samples pulls."""
    groups = Groups.of({"sex": np.array(["F"] * 60 + ["M"] * 140)})
    values = torch.from_numpy(np.random.default_rng(0).normal(1, 0.3, 200))
    values[:60] += 0.7
    values[0] = 4.0
    divergence = LedgerDivergence(groups, blur=0.25, refresh=1)
    divergence.start_epoch(values, None)
    live, exact = values.clone().requires_grad_(), values.clone().requires_grad_()
    divergence.term(torch.arange(200), live).backward()
    samples = group_sinkhorn(exact, groups.membership.double(), blur=0.25)
    (samples.value * groups.coefficient).sum().backward()
    assert float((live.grad - exact.grad).norm()) < 0.02 * float(exact.grad.norm())
    assert float((live.grad - exact.grad).abs().max()) < 0.05 * float(exact.grad.abs().max())


def test_every_step_down_the_term_brings_groups_together():
    n = 200
    groups = Groups.of({"sex": np.array(["F"] * 60 + ["M"] * 140)})
    values = torch.from_numpy(np.random.default_rng(0).normal(1, 0.3, n))
    values[:60] += 0.7
    divergence = LedgerDivergence(groups, blur=0.25, refresh=1)
    divergence.start_epoch(values, None)
    course = []
    for _ in range(80):
        live = values.clone().requires_grad_()
        term = divergence.term(torch.arange(n), live)
        term.backward()
        course.append(float(term.detach()))
        values = values - 20 * live.grad
    assert np.all(np.diff(course[:60]) < 0)
    assert course[-1] < 1e-4 * course[0]


def test_no_pair_is_pulled_harder_than_the_limit():
    """One outlier of a group of four: its pull is cut, that of the others is as it was."""
    groups = Groups.of({"sex": np.array(["F"] * 4 + ["M"] * 96)})
    values = torch.linspace(1, 2, 100, dtype=torch.float64)
    values[0] = 6.0
    pulls = []
    for limit in (float("inf"), 0.1):
        divergence = LedgerDivergence(groups, blur=0.25)
        divergence.start_epoch(values, None)
        live = values.clone().requires_grad_()
        divergence.term(torch.arange(100), live, -limit, limit).backward()
        pulls.append(live.grad)
    assert float(pulls[0][0]) > 0.5
    assert int((pulls[1] != pulls[0]).sum()) == 1
    assert float(pulls[1][0]) == pytest.approx(0.1)


def pull_of(values, weights, rows=None, *, lowest=-math.inf, highest=math.inf, groups=None, **options):
    """The term's gradient at some live values of a ledger that holds `values`."""
    groups = groups or Groups.of(
        {"sex": np.array(["F"] * (len(values) // 4) + ["M"] * (len(values) - len(values) // 4))}
    )
    divergence = LedgerDivergence(groups, blur=0.25, **options)
    divergence.start_epoch(values, weights)
    rows = torch.arange(len(values)) if rows is None else rows
    live = values[rows].nan_to_num(0.0).clone().requires_grad_()
    divergence.term(rows, live, lowest, highest).backward()
    return live.grad


def test_both_limits_follow_the_weight_so_that_no_loss_is_pushed_up_and_no_flagged_pair_outweighs_others():
    values = torch.cat([torch.linspace(3, 4, 50), torch.linspace(0, 1, 150)]).double()
    weights = np.linspace(0, 1, 200)
    pull = pull_of(values, weights, lowest=-1e-3, highest=2e-3)
    assert float(pull.max()) > 1e-4
    assert (pull >= -1e-3 * torch.from_numpy(weights) - 1e-12).all()
    assert (pull <= 2e-3 * torch.from_numpy(weights) + 1e-12).all()
    assert float(pull[0]) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_pairs_that_may_have_a_wrong_note_are_no_part_of_the_term(sign):
    """Outliers of a group that as a whole lies higher, and pairs of a low weight; for losses and similarities."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    values[:100] += 3.0
    values[:6] += 8.0
    weights = np.ones(400)
    weights[200:210] = 0.4
    pull = sign * pull_of(torch.from_numpy(sign * values), weights, outlier_sd=4.0 * sign)
    assert (pull[:6] == 0).all()
    assert (pull[200:210] == 0).all()
    assert (pull[6:100] > 0).all()  # none of them is an outlier of its own group
    without = np.r_[6:200, 210:400]
    alone = pull_of(torch.from_numpy(sign * values[without]), None, groups=Groups.of({"sex": ["F"] * 94 + ["M"] * 290}))
    torch.testing.assert_close(pull[without], sign * alone)


def test_in_standard_deviations_the_pull_is_the_same_at_any_scale_of_the_losses():
    values = torch.cat([torch.linspace(1, 4, 50), torch.linspace(0, 2, 150)]).double()
    for factor in (0.01, 30.0):
        torch.testing.assert_close(pull_of(factor * values, None, in_sd=True), pull_of(values, None, in_sd=True))
    torch.testing.assert_close(pull_of(30 * values, None), 30 * pull_of(values, None))


def test_a_group_that_differs_by_chance_alone_is_left_alone():
    rng, kept = np.random.default_rng(3), []
    for shift in (0.0, 1.0):
        pulled = []
        for _ in range(20):
            values = rng.normal(size=400)
            values[:40] += shift
            groups = Groups.of({"sex": np.array(["F"] * 40 + ["M"] * 360)})
            with_all, above = (
                float(pull_of(torch.from_numpy(values), None, groups=groups, above_chance=on)[:40].abs().sum())
                for on in (False, True)
            )
            pulled.append(above / with_all)
        kept.append(np.mean(pulled))
    assert kept[0] < 0.1
    assert kept[1] > 0.75


def test_pairs_without_a_value_count_once_they_were_seen():
    values = torch.full((200,), math.nan, dtype=torch.float64)
    groups = Groups.of({"sex": np.array(["F", "M"] * 100)})
    divergence = LedgerDivergence(groups, blur=0.25)
    divergence.start_epoch(values, None)
    of_batch = torch.tensor([3.0, 0.0] * 32, dtype=torch.float64)
    first, second = of_batch.clone().requires_grad_(), of_batch.clone().requires_grad_()
    divergence.term(torch.arange(64), first).backward()
    divergence.term(torch.arange(64, 128), second).backward()
    alone = pull_of(of_batch, None, groups=Groups.of({"sex": np.array(["F", "M"] * 32)}))
    torch.testing.assert_close(first.grad, alone)
    assert float(second.grad[0]) > 0 > float(second.grad[1])
    both = Groups.of({"sex": np.array(["F"] * 9 + ["M"] * 191)})
    only_m = Groups(both.names, both.membership, torch.tensor([0.0, 0.5]))
    of_batch, rows = torch.tensor([3.0] * 5 + [0.0] * 59).double(), torch.cat([torch.arange(5), torch.arange(100, 159)])
    pulls = []
    for groups in (both, only_m):  # five of nine values of a group are too few
        divergence = LedgerDivergence(groups, blur=0.25)
        divergence.start_epoch(values, None)
        live = of_batch.clone().requires_grad_()
        divergence.term(rows, live).backward()
        pulls.append(live.grad)
    assert pulls[1].any()
    torch.testing.assert_close(*pulls)


def test_identical_values_give_zero_and_no_gradient():
    groups = Groups.of({"sex": np.array(["F", "M"] * 10)})
    divergence = LedgerDivergence(groups, blur=0.25)
    values = torch.full((20,), 1.5, dtype=torch.float64)
    divergence.start_epoch(values, None)
    live = values.clone().requires_grad_()
    term = divergence.term(torch.arange(20), live)
    term.backward()
    assert float(term.detach()) == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(live.grad).all()


def test_the_released_term_draws_whole_batches_of_any_group():
    groups = Groups.of({"race": np.array(["A"] * 3 + ["B"] * 30)})
    released = ReleasedDivergence(groups, batch_size=8, generator=torch.Generator().manual_seed(0))
    for stream, n in zip(released.streams, (3, 30), strict=True):
        drawn = [next(stream) for _ in range(40)]
        assert all(len(rows) == 8 for rows in drawn)
        assert len(torch.cat(drawn).unique()) == n


def test_the_released_distance_is_unnormalised_against_normalised_without_gradient_for_the_group():
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    group = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    released = ReleasedDivergence(Groups.of({"a": np.array(["x"] * 6)}), 6, torch.Generator())
    released.distance(logits, group).backward()
    assert group.grad is None
    x = torch.diagonal(logits @ logits).detach().sort().values
    y = torch.diagonal(group @ group).detach()
    y = (y / y.sum()).sort().values
    assert float(released.distance(logits, group).detach()) == pytest.approx(float(((x - y) ** 2).mean() / 2), rel=1e-5)


def test_weights_of_almost_nothing_keep_the_term_finite():
    n = 400
    groups = Groups.of(attributes(n, seed=7))
    rng = np.random.default_rng(7)
    values = torch.from_numpy(rng.gamma(4, 0.5, n))
    weights = np.where(rng.random(n) < 0.1, 10.0 ** -rng.uniform(5, 300, n), 1.0)
    divergence = LedgerDivergence(groups, blur=0.25)
    divergence.start_epoch(values, weights)
    live = values.clone().requires_grad_()
    divergence.term(torch.arange(n), live).backward()
    assert torch.isfinite(divergence.divergence).all()
    assert torch.isfinite(live.grad).all()


def chance_to_second_order(n, total, blur):
    """Mean S_ε of n out of `total` uniform values from all: (ε/2) (1/n − 1/total) Σ_k λ_k / (1 − λ_k²).

    The Hessian of S_ε at equal distributions (Lavenant et al., arXiv 2405.04987, section 3), averaged over groups drawn at
    random. λ_k are the eigenvalues below 1 of the plan of the values with themselves, here by POT.
    """
    knots = (np.arange(80) + 0.5) / 80
    eps = blur**2 * knots.var()
    plan = ot.sinkhorn(np.full(80, 1 / 80), np.full(80, 1 / 80), (knots[:, None] - knots) ** 2 / 2, eps, stopThr=1e-12)
    eigenvalues = np.linalg.eigvalsh(80 * plan)[:-1]
    return eps / 2 * (1 / n - 1 / total) * (eigenvalues / (1 - eigenvalues**2)).sum()


def test_the_level_by_chance_is_that_of_the_second_order():
    n, k = 6000, 30
    values = torch.from_numpy(np.random.default_rng(0).random(n))
    groups = Groups.of({"site": np.arange(n) % k})
    found = group_distances(groups, values, np.ones(n), blur=0.5, seed=1)
    expected = chance_to_second_order(n // k, n, 0.5)
    assert found.chance.mean() == pytest.approx(expected, rel=0.1)
    assert torch.equal(found.weighted, found.value)
    assert torch.equal(found.weighted_chance, found.chance)


def test_equal_groups_are_at_the_level_by_chance_and_a_shift_is_above_it():
    rng = np.random.default_rng(2)
    groups = Groups.of({"sex": np.arange(1000) % 2})
    noise = rng.normal(size=(12, 1000))
    same = [group_distances(groups, torch.from_numpy(x), np.ones(1000), blur=0.25, seed=3) for x in noise]
    above = torch.stack([one.value - one.chance for one in same]).mean()
    assert abs(above) < 0.5 * torch.stack([one.chance for one in same]).mean()
    # Each mean is 0.25 from the middle.
    shifted = torch.from_numpy(noise[0] + 0.5 * (np.arange(1000) % 2))
    found = group_distances(groups, shifted, np.ones(1000), blur=0.25, seed=3)
    assert (found.value - found.chance).numpy() == pytest.approx(0.25**2 / 2, rel=0.3)
    assert (found.value > 10 * found.chance).all()


def test_pairs_of_little_weight_do_not_make_a_group_look_far_away():
    """The miner turns down pairs that stay high: over all pairs their group is far away, by the weights it is not."""
    rng = np.random.default_rng(4)
    race = np.where(np.arange(1200) < 300, "A", "B")
    values, weights = rng.normal(size=1200), np.ones(1200)
    values[:60] += 8.0
    weights[:60] = 1e-3
    groups = Groups.of({"race": race, "site": np.where(np.arange(1200) < 60, "bad", "other")})
    found = group_distances(groups, torch.from_numpy(values), weights, blur=0.25, seed=0)
    assert found.value[0] > 0.3
    assert found.weighted[0] - found.weighted_chance[0] < 0.02
    left_out = group_distances(groups, torch.from_numpy(values), (weights == 1) * 1.0, blur=0.25, seed=0)
    assert torch.isnan(left_out.weighted).tolist() == [False, False, True, False]
    again = group_distances(groups, torch.from_numpy(values), weights, blur=0.25, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(vars(again).values(), vars(found).values(), strict=True))
