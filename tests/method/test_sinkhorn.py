"""sinkhorn_divergence: outside oracles, closed forms, properties, gradients, edge cases."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairvlm_core.errors import InputError
from fairvlm_core.sinkhorn import ConvergenceWarning, sinkhorn_divergence
from fairvlm_core.sinkhorn.core import solve

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "reference" / "oracles.json"


def samples(seed: int, n: int = 40, m: int = 25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 0.5, n), rng.normal(1.4, 0.7, m)


def pot_divergence(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, eps: float) -> float:
    """The same divergence by POT's log-domain solver: transport cost plus ε KL(P | a⊗b)."""

    def cost(x, y, a, b):
        matrix = 0.5 * (x[:, None] - y) ** 2
        plan = ot.sinkhorn(a, b, matrix, eps, method="sinkhorn_log", numItermax=20_000, stopThr=1e-11, warn=False)
        product = a[:, None] * b
        kl = plan[plan > 0] @ np.log(plan[plan > 0] / product[plan > 0])
        return (plan * matrix).sum() + eps * kl

    return cost(x, y, a, b) - 0.5 * cost(x, x, a, a) - 0.5 * cost(y, y, b, b)


# Outside oracles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "grid"])
def test_stored_oracle_values(method):
    if not ORACLES.exists():
        pytest.skip("shared/reference/oracles.json is not beside this checkout")
    for case in json.loads(ORACLES.read_text())["sinkhorn"]:
        for blur, expected in case["sinkhorn_divergence"].items():
            result = sinkhorn_divergence(case["x"], case["y"], blur=float(blur), method=method)
            assert float(result) == pytest.approx(expected, rel=1e-3)
        limit = sinkhorn_divergence(case["x"], case["y"], blur=1e-3)
        assert float(limit) == pytest.approx(case["wasserstein2_squared"] / 2, rel=1e-4)


def test_stored_entropic_transport_cost():
    """The plan behind the value: <P, C> of the oracle's problem (cost (x − y)², reg ε is ours with ε/2)."""
    if not ORACLES.exists():
        pytest.skip("shared/reference/oracles.json is not beside this checkout")
    for case in json.loads(ORACLES.read_text())["sinkhorn"]:
        x = torch.tensor(case["x"], dtype=torch.float64).sort().values
        y = torch.tensor(case["y"], dtype=torch.float64).sort().values
        for reg, expected in case["entropic_ot_cost"].items():
            plan = plan_of(x, y, float(reg) / 2)
            assert float((plan * (x[:, None] - y) ** 2).sum()) == pytest.approx(expected, rel=1e-6)


def plan_of(x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
    from fairvlm_core.sinkhorn.solver import exponent, first_potential, solve_cross

    a, b = (torch.full((1, len(v)), 1 / len(v), dtype=torch.float64) for v in (x, y))
    start = first_potential(x, y, a, b) / eps
    cross = solve_cross(x, y, a, b, exponent(x, y, eps), start, eps, 1e-12, 200)
    log_plan = exponent(x, y, eps) + cross.f[0][:, None] + cross.g[0]
    return log_plan.exp() * a[0][:, None] * b[0]


@pytest.mark.parametrize("blur", [1.0, 0.3, 0.1])
def test_geomloss(blur):
    geomloss = pytest.importorskip("geomloss", reason="geomloss is the oracle here; it comes with fairvlm[test]")
    x, y = samples(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = geomloss.SamplesLoss("sinkhorn", p=2, blur=blur, scaling=0.99, backend="tensorized")
        expected = float(loss(torch.tensor(x)[:, None], torch.tensor(y)[:, None]))
    assert float(sinkhorn_divergence(x, y, blur=blur)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("blur", [1.0, 0.4])
def test_pot_with_weights(blur):
    x, y = samples(1, 20, 15)
    rng = np.random.default_rng(1)
    a, b = rng.dirichlet(np.ones(len(x))), rng.dirichlet(np.ones(len(y)))
    result = sinkhorn_divergence(x, y, a, b, blur=blur, tol=1e-10)
    assert float(result) == pytest.approx(pot_divergence(x, y, a, b, blur**2), rel=1e-6)


@pytest.mark.parametrize("blur", [1e-2, 1e-3, 1e-4, 1e-6, 1e-9])
def test_tends_to_half_the_squared_wasserstein_distance(blur):
    x, y = samples(2)
    result = sinkhorn_divergence(x, y, blur=blur)
    assert result.converged
    assert float(result) == pytest.approx(0.5 * ot.wasserstein_1d(x, y, p=2), rel=1e-3)


def test_gaussian_closed_form():
    """OT_ε of N(0, s²) and N(d, t²) for cost (x−y)²/2 (Janati et al., NeurIPS 2020), on a fine grid of both densities."""

    def entropic(s: float, t: float, eps: float) -> float:
        root = math.sqrt(4 * s**2 * t**2 / eps**2 + 1)
        return 0.5 * (s**2 + t**2) - 0.5 * eps * (root - 1 - math.log((root + 1) / 2))

    s, t, shift, eps = 1.0, 0.6, 0.8, 0.3
    expected = 0.5 * shift**2 + entropic(s, t, eps) - 0.5 * entropic(s, s, eps) - 0.5 * entropic(t, t, eps)
    at = np.linspace(-6, 6, 401)
    a, b = np.exp(-0.5 * (at / s) ** 2), np.exp(-0.5 * ((at - shift) / t) ** 2)
    assert float(sinkhorn_divergence(at, at, a, b, blur=eps**0.5)) == pytest.approx(expected, rel=1e-6)


# Properties -----------------------------------------------------------------------------------------------------------

numbers = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12)
blurs = st.sampled_from([0.03, 0.2, 1.0])


@settings(max_examples=60, deadline=None)
@given(numbers, numbers, blurs)
def test_properties(x, y, blur):
    value = float(sinkhorn_divergence(x, y, blur=blur, tol=1e-9))
    near = pytest.approx(value, rel=1e-5, abs=1e-7)
    assert value >= 0
    assert float(sinkhorn_divergence(x, x, blur=blur, tol=1e-9)) == pytest.approx(0, abs=1e-9)
    assert float(sinkhorn_divergence(y, x, blur=blur, tol=1e-9)) == near
    assert float(sinkhorn_divergence(x[::-1], sorted(y), blur=blur, tol=1e-9)) == near
    moved = [v + 3.5 for v in x], [v + 3.5 for v in y]
    assert float(sinkhorn_divergence(*moved, blur=blur, tol=1e-9)) == near
    wider = [10 * v for v in x], [10 * v for v in y]
    assert float(sinkhorn_divergence(*wider, blur=10 * blur, tol=1e-9)) / 100 == near


def test_integer_weights_equal_repeated_points():
    x, y = samples(3, 8, 6)
    counts = np.array([1, 3, 2, 1, 0, 2, 1, 4])
    one = sinkhorn_divergence(x, y, counts, blur=0.2)
    other = sinkhorn_divergence(np.repeat(x, counts), y, blur=0.2)
    assert float(one) == pytest.approx(float(other), rel=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_blur_in_standard_deviations_means_the_same_at_any_scale(scale):
    x, y = samples(4)
    expected = float(sinkhorn_divergence(x, y, blur=0.2, scale="sd"))
    result = sinkhorn_divergence(scale * x + 5 * scale, scale * y + 5 * scale, blur=0.2, scale="sd")
    assert float(result) / scale**2 == pytest.approx(expected, rel=1e-6)


def test_scale_is_the_pooled_standard_deviation():
    x = np.array([0.0, 2.0])
    y = np.array([4.0, 4.0, 4.0])
    sd = math.sqrt(0.5 * (x**2).mean() + 0.5 * 16 - (0.5 * 1 + 0.5 * 4) ** 2)
    assert sinkhorn_divergence(x, y, blur=0.5, scale="sd").eps == pytest.approx((0.5 * sd) ** 2)
    assert sinkhorn_divergence(x, y, blur=0.5, scale=3.0).eps == pytest.approx(2.25)


# Gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "swapped", "exact"])
@pytest.mark.parametrize("blur", [0.5, 0.1, 0.03])
def test_gradients_against_finite_differences(blur, method):
    rng = np.random.default_rng(5)
    x, y = (torch.tensor(rng.normal(m, s, n)) for m, s, n in ((0, 1, 9), (0.5, 1.4, 7)))
    a, b = (torch.tensor(rng.random(n) + 0.1) for n in (9, 7))
    if method == "swapped":
        x, y, a, b = y, x, b, a

    def value(*inputs):
        return sinkhorn_divergence(
            *inputs, blur=blur, tol=1e-12, method="exact" if method == "exact" else "dense"
        ).value

    inputs = [t.clone().requires_grad_() for t in (x, y, a, b)]
    gradients = torch.autograd.grad(value(*inputs), inputs)
    for k, gradient in enumerate(gradients):
        for i in range(len(gradient)):
            above, below = [t.clone() for t in (x, y, a, b)], [t.clone() for t in (x, y, a, b)]
            above[k][i] += 1e-5
            below[k][i] -= 1e-5
            slope = float(value(*above) - value(*below)) / 2e-5
            assert float(gradient[i]) == pytest.approx(slope, abs=2e-7)


def test_grid_gradient_is_close_to_the_dense_one():
    x, y = (torch.tensor(v) for v in samples(6, 300, 200))
    gradients = []
    for method in ("dense", "grid"):
        inputs = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        value = sinkhorn_divergence(*inputs, blur=0.2, method=method).value
        gradients.append(torch.cat(torch.autograd.grad(value, inputs)))
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 5e-3


def test_gradient_reaches_float32_and_descends():
    y = torch.linspace(2, 3, 30)
    x = torch.zeros(20, requires_grad=True)
    start = float(sinkhorn_divergence(x.detach(), y, blur=0.1))
    result = sinkhorn_divergence(x, y, blur=0.1)
    (gradient,) = torch.autograd.grad(result.value, x)
    assert gradient.dtype == torch.float32
    assert float(sinkhorn_divergence(x.detach() - 20 * gradient, y, blur=0.1)) < 0.1 * start


# The large path -------------------------------------------------------------------------------------------------------


def test_large_samples_use_the_grid_and_agree_with_the_exact_limit():
    rng = np.random.default_rng(7)
    everyone = rng.gamma(2.0, 0.5, 200_000)
    group = np.r_[rng.choice(everyone, 20_000), rng.normal(3, 0.5, 2_000)]
    result = sinkhorn_divergence(everyone, group, blur=0.02, scale="sd")
    assert result.method == "grid"
    assert result.converged
    assert float(result) == pytest.approx(0.5 * ot.wasserstein_1d(everyone, group, p=2), rel=2e-3)


@pytest.mark.parametrize("blur", [0.05, 0.2, 1.0])
def test_grid_equals_dense(blur):
    x, y = samples(8, 900, 400)
    x = np.r_[x, 400.0]  # a far outlier: cells grow towards it
    dense = sinkhorn_divergence(x, y, blur=blur, method="dense")
    grid = sinkhorn_divergence(x, y, blur=blur, method="grid")
    assert (dense.method, grid.method) == ("dense", "grid")
    assert float(grid) == pytest.approx(float(dense), rel=1e-3)


def test_grid_that_would_be_too_fine():
    x, y = samples(9, 3000, 3000)
    assert sinkhorn_divergence(x, y, blur=1e-4).method == "exact"
    with pytest.raises(InputError, match="needs more than"):
        sinkhorn_divergence(x, y, blur=1e-4, method="grid")


# Result, convergence --------------------------------------------------------------------------------------------------


def test_result_reads_as_a_number():
    x, y = samples(10)
    result = sinkhorn_divergence(x, y, blur=0.1)
    assert float(result) == result.item() == float(np.asarray(result)) == float(result.value)
    assert result.value.shape == ()
    assert result.converged
    assert result.marginal_error <= 1e-6
    assert float(sinkhorn_divergence(torch.tensor(x, requires_grad=True), y, blur=0.1)) == pytest.approx(float(result))


def test_potentials_are_the_derivatives_by_the_weights():
    x, y = samples(12)
    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64, requires_grad=True)
    result = sinkhorn_divergence(x, y, weights, blur=0.2)
    (gradient,) = torch.autograd.grad(result.value, weights)
    centred = result.x_potential - result.x_potential.mean()
    torch.testing.assert_close(gradient - gradient.mean(), centred, atol=1e-9, rtol=1e-9)


def test_no_convergence_warns():
    x, y = samples(13)
    with pytest.warns(ConvergenceWarning, match="marginals are off"):
        result = sinkhorn_divergence(x, y, blur=0.05, max_iter=1)
    assert not result.converged
    assert result.marginal_error > 1e-6


def test_both_marginals_are_measured():
    """The reported error is that of the plan, rows and columns."""
    x, y = (torch.tensor(v).sort().values for v in samples(14))
    plan = plan_of(x, y, 0.05)
    assert float((plan.sum(1) - 1 / len(x)).abs().sum()) < 1e-10
    assert float((plan.sum(0) - 1 / len(y)).abs().sum()) < 1e-10
    a, b = (torch.full((1, len(v)), 1 / len(v), dtype=torch.float64) for v in (x, y))
    early = solve(x, y, a, b, 0.05, tol=1e-12, max_iter=2)
    assert float(early.error) > 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_converges_on_awkward_input_at_any_blur(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 120, 2)
    x = [
        rng.normal(size=n) * 10 ** rng.uniform(-6, 6),
        rng.gamma(0.5, 1, n),
        rng.standard_cauchy(n),
        np.round(rng.normal(size=n), 1),
        np.r_[rng.normal(size=n), 1e4],
    ][seed % 5]
    y = rng.permutation(x)[:m] if seed % 2 else rng.normal(size=m) * np.std(x) + np.mean(x)
    weights = rng.random(len(x)) ** 4 if seed % 3 == 0 else None
    result = sinkhorn_divergence(x, y, weights, blur=10 ** rng.uniform(-4, 1), scale="sd")
    assert result.converged
    assert 0 <= float(result) < math.inf


# Edges and refusals ---------------------------------------------------------------------------------------------------


def test_single_and_identical_values():
    assert float(sinkhorn_divergence([1.0], [4.0], blur=0.1)) == pytest.approx(4.5)
    assert float(sinkhorn_divergence([2.0] * 5, [2.0] * 3, blur=0.1, scale="sd")) == pytest.approx(0, abs=1e-15)
    assert float(sinkhorn_divergence([2.0] * 5, [2.5] * 3, blur=0.1)) == pytest.approx(0.125)


def test_zero_weight_points_change_nothing():
    x, y = samples(15)
    kept = sinkhorn_divergence(x, y, blur=0.1)
    padded = sinkhorn_divergence(np.r_[x, 50.0], y, np.r_[np.ones(len(x)), 0.0], blur=0.1)
    assert float(padded) == pytest.approx(float(kept), rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "settings_", "message"),
    [
        (([], [1.0]), {}, "x: is empty"),
        (([1.0], [math.nan]), {}, "y: entry 0 is nan"),
        (([1.0, math.inf], [1.0]), {}, "x: entry 1 is inf"),
        (([[1.0]], [1.0]), {}, "x: must be one-dimensional"),
        ((["a"], [1.0]), {}, "x: must be numbers"),
        (([1.0], [1.0], [-1.0]), {}, "x_weights: entry 0 is -1"),
        (([1.0], [1.0], [0.0]), {}, "x_weights: all weights are 0"),
        (([1.0], [1.0], None, [1.0, 2.0]), {}, "y_weights: 2 weights for 1 values"),
        (([1.0], [1.0]), {"blur": 0}, "blur: must be a number above 0"),
        (([1.0], [1.0]), {"blur": math.nan}, "blur"),
        (([1.0], [1.0]), {"scale": "mad"}, "scale"),
        (([1.0], [1.0]), {"method": "fast"}, "method"),
        (([1.0], [1.0]), {"tol": 0}, "tol"),
        (([1.0], [1.0]), {"max_iter": 0}, "max_iter"),
    ],
)
def test_bad_input(arguments, settings_, message):
    with pytest.raises(InputError, match=message) as caught:
        sinkhorn_divergence(*arguments, **settings_)
    assert "\n" not in str(caught.value)
