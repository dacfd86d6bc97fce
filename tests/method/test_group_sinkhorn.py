"""group_sinkhorn: equals the pairwise divergence, with gradients for all groups in one call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairvlm_core.errors import InputError
from fairvlm_core.sinkhorn import ConvergenceWarning, group_sinkhorn, sinkhorn_divergence


def problem(seed: int = 0, n: int = 40, groups: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, generator=generator, dtype=torch.float64).exp()
    member = torch.rand(groups, n, generator=generator, dtype=torch.float64) < 0.35
    return values, member.double(), torch.rand(n, generator=generator, dtype=torch.float64) + 0.05


@pytest.mark.parametrize("blur", [1.0, 0.25, 0.05])
def test_every_group_equals_the_pairwise_divergence(blur):
    values, masses, total = problem()
    result = group_sinkhorn(values, masses, total, blur=blur, scale=None, tol=1e-9)
    for value, mass in zip(result.value, masses, strict=True):
        expected = float(sinkhorn_divergence(values, values, mass, total, blur=blur, tol=1e-9))
        assert float(value) == pytest.approx(expected, rel=1e-6, abs=1e-10)
    assert bool(result.converged.all())


def test_scale_follows_everyones_spread():
    values, masses, total = problem()
    share = total / total.sum()
    sd = float((share @ values**2 - (share @ values) ** 2).sqrt())
    assert group_sinkhorn(values, masses, total, blur=0.5).eps == pytest.approx((0.5 * sd) ** 2)
    small = group_sinkhorn(values, masses, blur=0.25).value
    large = group_sinkhorn(1e5 * values - 3e5, masses, blur=0.25).value
    torch.testing.assert_close(large / 1e10, small, rtol=1e-6, atol=1e-12)


def test_everyone_is_at_distance_zero_and_order_does_not_matter():
    values, masses, _ = problem()
    masses = torch.cat([masses, torch.ones(1, len(values))])
    result = group_sinkhorn(values, masses).value
    assert float(result[-1]) == pytest.approx(0, abs=1e-12)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(group_sinkhorn(values[order], masses[:, order]).value, result, rtol=1e-7, atol=1e-12)


def test_gradients_against_finite_differences():
    values, masses, total = problem(n=15, groups=3)
    masses = masses + 0.1
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)

    def objective(*inputs):
        return (group_sinkhorn(*inputs, blur=0.3, scale=None, tol=1e-12).value * weight).sum()

    inputs = [t.clone().requires_grad_() for t in (values, masses, total)]
    assert torch.autograd.gradcheck(objective, inputs, eps=1e-5, atol=1e-7, rtol=1e-5)


def test_slopes_are_the_derivatives_of_the_potentials_also_without_mass():
    """A group in the middle third, everyone in the lower two: between and beyond, by central differences."""
    values = torch.linspace(-2, 2, 801, dtype=torch.float64)
    masses = ((values.abs() < 0.6) & (torch.arange(801) % 7 == 0)).double()[None]
    masses[0, 600] = 1e-9  # a trace of mass far out: its potential is left open by the tolerance
    total = ((values < 0.7) & (torch.arange(801) % 5 == 0)).double()
    result = group_sinkhorn(values, masses, total, blur=0.3, scale=None)
    for potential, slope in (
        (result.group_potential, result.group_slope),
        (result.everyone_potential, result.everyone_slope),
    ):
        numeric = (potential[:, 2:] - potential[:, :-2]) / (values[2:] - values[:-2])
        torch.testing.assert_close(slope[:, 1:-1], numeric, rtol=0, atol=2e-4)


@pytest.mark.parametrize("blur", [1.0, 0.3])
def test_derivative_by_a_mass_that_is_zero(blur):
    """What a first grain of mass does to the divergence, against a one-sided difference."""
    values = torch.linspace(0, 3, 25, dtype=torch.float64)
    masses = torch.zeros(1, 25, dtype=torch.float64)
    masses[0, 4:9] = 1
    total = torch.ones(25, dtype=torch.float64)
    total[20:] = 0
    live = [masses.clone().requires_grad_(), total.clone().requires_grad_()]
    before = group_sinkhorn(values, *live, blur=blur, scale=None, tol=1e-12).value[0]
    gradients = torch.autograd.grad(before, live)
    for which, place in ((0, (0, 0)), (0, (0, 15)), (1, (22,))):
        changed = [masses.clone(), total.clone()]
        changed[which][place] = 1e-7
        after = group_sinkhorn(values, *changed, blur=blur, scale=None, tol=1e-12).value[0]
        assert float(gradients[which][place]) == pytest.approx(float(after - before.detach()) / 1e-7, rel=1e-3)


def test_an_empty_group_is_marked_and_pulls_nothing():
    values, masses, total = problem()
    masses[2] = 0
    inputs = [t.clone().requires_grad_() for t in (values, masses, total)]
    result = group_sinkhorn(*inputs)
    assert result.empty.tolist() == [False, False, True, False, False]
    assert float(result.value[2].detach()) == 0
    for gradient in torch.autograd.grad(result.value[2], inputs):
        assert not bool(gradient.any())
    rest = group_sinkhorn(values, masses[[0, 1, 3, 4]], total).value
    torch.testing.assert_close(result.value.detach()[[0, 1, 3, 4]], rest)


def test_points_without_mass_have_finite_potentials():
    values = torch.linspace(0, 30, 64, dtype=torch.float64)
    masses = torch.zeros(2, 64, dtype=torch.float64)
    masses[0, :3], masses[1, 40] = 1, 1
    masses.requires_grad_()
    total = torch.ones(64, dtype=torch.float64)
    total[50:] = 0
    result = group_sinkhorn(values, masses, total, blur=0.02)
    (gradient,) = torch.autograd.grad(result.value.sum(), masses)
    assert bool(torch.isfinite(gradient).all())
    assert bool(torch.isfinite(result.everyone_potential).all())


def test_float32_and_identical_values():
    values, masses, _ = problem()
    live = values.float().requires_grad_()
    result = group_sinkhorn(live, masses.float())
    (gradient,) = torch.autograd.grad(result.value.mean(), live)
    assert gradient.dtype == torch.float32
    assert result.value.dtype == torch.float64
    flat = group_sinkhorn(torch.full((40,), 1.3), masses)
    assert float(flat.value.abs().max()) == pytest.approx(0, abs=1e-12)


def test_no_convergence_warns():
    values, masses, total = problem()
    with pytest.warns(ConvergenceWarning):
        result = group_sinkhorn(values, masses, total, blur=0.02, max_iter=1)
    assert not bool(result.converged.all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masses": torch.ones(2, 39)}, "masses: must have shape"),
        ({"masses": -torch.ones(2, 40)}, "masses: must be finite and not negative"),
        ({"masses": torch.full((2, 40), torch.nan)}, "masses: must be finite"),
        ({"total": torch.zeros(40)}, "total: all weights are 0"),
        ({"total": torch.ones(3)}, "total: 3 weights for 40"),
        ({"values": torch.ones(2, 40)}, "values: must be one-dimensional"),
        ({"blur": -1.0}, "blur"),
    ],
)
def test_bad_input(change, message):
    values, masses, total = problem()
    arguments = {"values": values, "masses": masses, "total": total} | change
    with pytest.raises(InputError, match=message):
        group_sinkhorn(**arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_a_gpu():
    values, masses, total = problem(n=64, groups=11)
    expected = group_sinkhorn(values, masses, total).value
    inputs = values.cuda().requires_grad_(), masses.cuda(), total.cuda()
    result = group_sinkhorn(*inputs)
    result.value.sum().backward()
    torch.testing.assert_close(result.value.detach().cpu(), expected, rtol=1e-8, atol=1e-12)
    assert inputs[0].grad.is_cuda


def test_a_trace_of_mass_far_from_all_other_is_no_obstacle():
    """Pairs that mining turned down almost to nothing, at losses that nobody else has: their kernel values underflow."""
    knots = torch.linspace(0.5, 12.0, 96, dtype=torch.float64)
    rng = np.random.default_rng(0)
    bulk = np.exp(-0.5 * ((np.arange(96) - 18) / 8.0) ** 2) * (np.arange(96) < 60)
    for _ in range(15):
        masses = bulk * rng.gamma(1.5, 1, (6, 96))
        masses[masses <= 1e-4] = 0
        for group in masses:
            for _ in range(rng.integers(1, 4)):
                group[rng.integers(60, 96)] += 10.0 ** -rng.uniform(4, 15)
        masses = torch.from_numpy(masses / masses.sum(1, keepdims=True))
        masses.requires_grad_()
        result = group_sinkhorn(knots, masses, masses.detach().mean(0), blur=0.25)
        assert bool(result.converged.all())
        assert bool((result.value >= 0).all())
        (gradient,) = torch.autograd.grad(result.value.sum(), masses)
        assert bool(torch.isfinite(gradient).all())
