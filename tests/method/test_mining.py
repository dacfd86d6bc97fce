"""Mining: what the method says, what faults 13 and 14 ask for, and clean data stay clean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fairvlm_core.errors import InputError
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import Reason, fit_bad_tail, margin, mine_bad_pairs, pair_weights


def planted(n: int = 400, epochs: int = 5, bad: int = 30, easy: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    losses = rng.normal(2.0, 0.3, n) + rng.normal(0, 0.05, (epochs, n))
    losses[:, :bad] += 3.0
    losses[:, bad : bad + easy] -= 4.0
    return losses


# The rule of the method -----------------------------------------------------------------------------------------------


def test_threshold_rule_by_hand():
    losses = planted()
    result = mine_bad_pairs(losses, faulty_sd=2.0, noisy_sd=2.5)
    m = losses.astype(np.float32).astype(float).mean(0)
    mu, sigma = m.mean(), m.std()
    assert (result.mu, result.sigma) == (pytest.approx(mu), pytest.approx(sigma))
    assert (result.faulty_above, result.noisy_below) == (pytest.approx(mu + 2 * sigma), pytest.approx(mu - 2.5 * sigma))
    np.testing.assert_array_equal(result.kind == "faulty", m > mu + 2 * sigma)
    np.testing.assert_array_equal(result.kind == "noisy", m < mu - 2.5 * sigma)
    np.testing.assert_allclose(result.z, (m - mu) / sigma, rtol=1e-9)
    expected = np.where(result.kind == "clean", 1.0, np.exp(-((m - mu) ** 2) / (2 * sigma**2)))
    np.testing.assert_allclose(result.weight, expected, rtol=1e-9)
    assert result.n_flagged == {"faulty": 30, "noisy": 5}
    assert result.message == ""


def test_planted_pairs_are_found_by_every_rule():
    losses = planted()
    for settings in ({"faulty_sd": 2}, {"spread": "mad"}, {"rule": "mixture"}, {"history": "recency", "faulty_sd": 2}):
        result = mine_bad_pairs(losses, **settings)
        assert (result.kind[:30] == "faulty").all(), settings
        assert (result.kind[35:] == "faulty").mean() < 0.02, settings


def test_history_before_an_epoch_uses_only_the_past():
    losses = planted()
    losses[3:, 200] = 50.0
    assert mine_bad_pairs(losses, before=3).kind[200] == "clean"
    assert mine_bad_pairs(losses).kind[200] == "faulty"
    assert mine_bad_pairs(losses, before=3).n_epochs == 3


def test_robust_spread_is_not_inflated_by_the_bad_pairs():
    losses = planted(bad=80, easy=0)
    assert mine_bad_pairs(losses).n_flagged["faulty"] == 0  # 20 % of bad pairs hide in their own standard deviation
    robust = mine_bad_pairs(losses, spread="mad")
    assert robust.n_flagged["faulty"] >= 80
    assert robust.sigma < mine_bad_pairs(losses).sigma


@pytest.mark.parametrize("weights", ["bounded", "posterior"])
def test_weights_are_bounded(weights):
    losses = 0.05 * planted()  # a small spread, where the density exceeds 1
    result = mine_bad_pairs(losses, rule="mixture", weights=weights)
    assert result.weight.min() >= 0
    assert result.weight.max() <= 1
    assert result.weight[:30].max() < 0.6


def test_pdf_weights_are_the_released_density():
    losses = 0.05 * planted()
    pdf, bounded = mine_bad_pairs(losses, faulty_sd=2, weights="pdf"), mine_bad_pairs(losses, faulty_sd=2)
    height = 1 / (pdf.sigma * math.sqrt(2 * math.pi))
    assert height > 1
    np.testing.assert_allclose(pdf.weight[:30], height * bounded.weight[:30], rtol=1e-12)
    np.testing.assert_array_equal(pdf.weight[pdf.kind == "clean"], 1.0)


def test_trajectory_and_frame():
    ledger = PairLossLedger.from_values(planted(), [f"p{i}" for i in range(400)])
    result = mine_bad_pairs(ledger)
    np.testing.assert_array_equal(result.trajectory("p3"), ledger.losses[:, 3])
    frame = result.to_frame()
    assert list(frame.columns) == ["pair_id", "kind", "mean_loss", "z", "weight"]
    assert list(frame["kind"].cat.categories) == ["clean", "faulty", "noisy"]
    assert mine_bad_pairs(ledger, rule="mixture").to_frame()["posterior"].between(0, 1).all()


def test_other_channels_can_be_mined():
    ledger = PairLossLedger(range(50), channels=("loss", "margin"))
    values = np.r_[9.0, np.linspace(0, 1, 49)]
    ledger.record(0, np.arange(50), loss=values[::-1], margin=values)
    ledger.close_epoch(0)
    assert mine_bad_pairs(ledger).kind[49] == "faulty"
    assert mine_bad_pairs(ledger, channel="margin").kind[0] == "faulty"


def test_pairs_that_were_never_seen_stay_clean():
    losses = planted()
    losses[:, 100] = np.nan
    result = mine_bad_pairs(losses, faulty_sd=2)
    assert (result.kind[100], result.weight[100]) == ("clean", 1.0)
    assert math.isnan(result.z[100])
    assert "1 of 400 pairs were never seen" in result.message
    assert result.n_flagged["faulty"] == 30


# Nothing to flag ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", ["sd", "mad"])
@pytest.mark.parametrize("rule", ["threshold", "mixture"])
@pytest.mark.parametrize("value", [0.0, 1.7, 0.1])
def test_fault_13_identical_losses_flag_nothing_without_a_warning(spread, rule, value):
    result = mine_bad_pairs(np.full((3, 200), value), spread=spread, rule=rule)
    assert result.n_flagged == {"faulty": 0, "noisy": 0}
    assert result.sigma == 0
    assert (result.weight == 1).all()
    assert (result.z == 0).all()
    assert "spread is 0" in result.message


@pytest.mark.parametrize("n", [1, 2, 10])
def test_fault_14_ten_pairs_or_fewer_say_that_nothing_can_be_flagged(n):
    losses = np.ones((2, n))
    losses[:, 0] = 1000.0
    result = mine_bad_pairs(losses)
    assert result.n_flagged == {"faulty": 0, "noisy": 0}
    assert result.message.startswith(f"nothing can be flagged: the largest possible |z| for {n} pairs is (N-1)/√N")


def test_fault_14_bound_is_sharp():
    losses = np.ones((1, 11))
    losses[0, 0] = 1000.0
    assert mine_bad_pairs(losses).n_flagged["faulty"] == 1
    assert mine_bad_pairs(losses[:, :10], faulty_sd=2.8, noisy_sd=2.8).n_flagged["faulty"] == 1


@pytest.mark.parametrize("recorded", [0, 1, 2])
def test_before_warmup_nothing_is_flagged(recorded):
    result = mine_bad_pairs(planted(), before=recorded, warmup=3)
    assert result.n_flagged == {"faulty": 0, "noisy": 0}
    assert result.message == f"nothing is flagged yet: {recorded} of 3 warm-up epochs are recorded"


def test_an_empty_ledger():
    result = mine_bad_pairs(PairLossLedger(["a", "b"]), warmup=0)
    assert "no epoch is recorded" in result.message
    assert (result.weight == 1).all()


CLEAN = {
    "normal": lambda rng, n: rng.normal(1, 0.3, n),
    "exponential": lambda rng, n: rng.gamma(1, 0.5, n),
    "gamma": lambda rng, n: rng.gamma(2, 0.5, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 0.5, n),
    "heavy lognormal": lambda rng, n: rng.lognormal(0, 1, n),
    "contrastive": lambda rng, n: np.log1p(63 * np.exp(-rng.normal(3, 1.2, n))),
    "student": lambda rng, n: rng.standard_t(4, n),
    "uniform": lambda rng, n: rng.uniform(0, 1, n),
}


@pytest.mark.parametrize("law", [law for law in CLEAN if law != "heavy lognormal"])
def test_clean_losses_are_hardly_flagged_by_the_threshold(law):
    """Its share is that of the law beyond 3 σ, up to 1.8 % for an exponential law; heavier tails are flagged by nature."""
    for seed in range(3):
        losses = CLEAN[law](np.random.default_rng(seed), 20_000)[None]
        assert mine_bad_pairs(losses).flagged.mean() < 0.02, seed


@pytest.mark.parametrize("law", CLEAN)
@pytest.mark.parametrize("n", [150, 2000, 20_000])
def test_clean_losses_are_hardly_flagged_by_the_mixture(law, n):
    if (law, n) == ("uniform", 150):
        pytest.skip("150 evenly spread values cannot be told from two groups")
    for seed in range(5):
        losses = CLEAN[law](np.random.default_rng(seed), n)[None]
        assert (mine_bad_pairs(losses, rule="mixture").kind == "faulty").mean() < 0.02, seed


# The mixture ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("law", ["normal", "gamma"])
def test_mixture_recovers_the_planted_share(law, share):
    rng = np.random.default_rng(1)
    n_bad = int(3000 * share)
    clean = rng.normal(1, 0.4, 3000 - n_bad) if law == "normal" else rng.gamma(2, 0.3, 3000 - n_bad)
    values = np.r_[rng.normal(3.5, 0.6, n_bad), clean]
    tail = fit_bad_tail(values)
    assert tail.share == pytest.approx(share, rel=0.25)
    assert tail.mean == pytest.approx(3.5, abs=0.3)
    bad = tail.posterior(values) > 0.5
    assert bad[:n_bad].mean() > 0.85
    assert bad[n_bad:].mean() < 0.02
    np.testing.assert_array_equal(values > tail.above, bad)


def test_mixture_moves_with_shift_and_scale():
    losses = planted(seed=3)[0]
    one, other = fit_bad_tail(losses), fit_bad_tail(1000 * losses - 7)
    assert other.share == pytest.approx(one.share, rel=1e-3)
    assert other.above == pytest.approx(1000 * one.above - 7, rel=1e-3)


def test_a_higher_loss_is_never_less_suspicious():
    tail = fit_bad_tail(planted(2000, bad=200)[0])
    posterior = tail.posterior(np.linspace(-10, 100, 1001))
    assert (np.diff(posterior) >= 0).all()
    assert posterior[0] == 0
    assert posterior[-1] > 0.9


def test_mixture_says_why_it_flags_nothing():
    assert fit_bad_tail(np.arange(20.0)).notice.reason is Reason.TOO_FEW_FOR_MIXTURE
    result = mine_bad_pairs(CLEAN["gamma"](np.random.default_rng(0), 500)[None], rule="mixture")
    assert "nothing as faulty" in result.message
    assert math.isnan(result.faulty_above)


# Weights of a batch ---------------------------------------------------------------------------------------------------


def test_pair_weights_follow_the_live_loss():
    result = mine_bad_pairs(planted(), faulty_sd=2)
    rows = np.array([0, 1, 100, 32])
    live = torch.tensor([2.2, 5.0, 9.0, 1.0], requires_grad=True)
    weights = pair_weights(result, rows, live)
    z = (live.detach().double() - result.mu) / result.sigma
    expected = torch.exp(-0.5 * z**2)
    expected[2] = 1.0  # not flagged, however high its loss is now
    torch.testing.assert_close(weights, expected.float())
    assert not weights.requires_grad
    torch.testing.assert_close(pair_weights(result, rows), torch.from_numpy(result.weight[rows]))


def test_posterior_weights_do_not_follow_a_single_loss():
    result = mine_bad_pairs(planted(), rule="mixture", weights="posterior", noisy_sd=2)
    live = torch.tensor([2.2, 2.2])
    torch.testing.assert_close(pair_weights(result, [0, 100], live), torch.from_numpy(result.weight[[0, 100]]).float())


@pytest.mark.parametrize(("rows", "live"), [([400], [1.0]), ([-1], [1.0]), ([0, 1], [1.0])])
def test_bad_rows(rows, live):
    with pytest.raises(InputError):
        pair_weights(mine_bad_pairs(planted()), rows, torch.tensor(live))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"faulty_sd": 0}, "faulty_sd: must be a number above 0"),
        ({"noisy_sd": math.nan}, "noisy_sd"),
        ({"history": "median"}, "history: must be one of"),
        ({"spread": "iqr"}, "spread"),
        ({"rule": "magic"}, "rule"),
        ({"weights": "none"}, "weights"),
        ({"weights": "posterior"}, "'posterior' needs a rule that gives P.wrong note.: mismatch, mixture"),
        ({"warmup": -1}, "warmup"),
        ({"channel": "margin"}, "channel 'margin' is not in the ledger"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        mine_bad_pairs(planted(), **settings)


@pytest.mark.parametrize("values", [np.ones(5), np.array([[np.inf, 1.0]]), np.array([["a"]])])
def test_bad_arrays(values):
    with pytest.raises(InputError):
        mine_bad_pairs(values)


# Margins --------------------------------------------------------------------------------------------------------------


def features(n: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.nn.functional.normalize(torch.randn(n, 16, generator=generator), dim=1)
    text = torch.nn.functional.normalize(image + 0.3 * torch.randn(n, 16, generator=generator), dim=1)
    return image, text


def test_full_reference_is_the_contrastive_loss_of_the_whole_set():
    image, text = features()
    logits = 8.0 * image @ text.T
    target = torch.arange(len(image))
    entropy = torch.nn.functional.cross_entropy
    expected = 0.5 * (entropy(logits, target, reduction="none") + entropy(logits.T, target, reduction="none"))
    torch.testing.assert_close(margin(image, text, 8.0, reference=None), expected, atol=1e-5, rtol=1e-5)


def test_subsampled_reference_keeps_the_ranking_and_the_level():
    image, text = features(2000)
    text[:40] = text[:40].flip(0)  # swapped notes
    whole, part = margin(image, text, 10.0, reference=None), margin(image, text, 10.0, reference=500, seed=1)
    assert float((part - whole).mean().abs()) < 0.05
    assert float(torch.corrcoef(torch.stack([whole, part]))[0, 1]) > 0.98
    assert float(part[:40].mean()) > 2 * float(part[40:].mean())
    torch.testing.assert_close(margin(image, text, 10.0, reference=500, seed=1), part)


@pytest.mark.parametrize(
    ("image", "text", "settings"),
    [
        (torch.ones(3, 2), torch.ones(2, 2), {}),
        (torch.ones(1, 2), torch.ones(1, 2), {}),
        (torch.full((3, 2), torch.nan), torch.ones(3, 2), {}),
        (torch.ones(3), torch.ones(3), {}),
        (torch.ones(3, 2), torch.ones(3, 2), {"scale": -1.0}),
        (torch.ones(3, 2), torch.ones(3, 2), {"reference": 1}),
    ],
)
def test_bad_features(image, text, settings):
    with pytest.raises(InputError):
        margin(image, text, **({"scale": 1.0} | settings))
