"""Wrong notes and shortcuts told by what the other pairs show: against closed forms and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from fairvlm_core import PairLossLedger, mine_bad_pairs
from fairvlm_core.errors import InputError
from fairvlm_core.mining import (
    Disagreement,
    Reason,
    disagreement,
    mismatch_probability,
    outlyingness,
    pair_weights,
    word_features,
)


def pairs(n: int, share: float, *, noise: float = 0.4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and note features of N pairs that share 8 directions, a share of the notes changed round; and which ones."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(n, 8))
    text = image + noise * rng.normal(size=(n, 8))
    wrong = np.zeros(n, bool)
    wrong[: round(share * n)] = True
    if wrong.any():
        text[wrong] = np.roll(text[wrong], 1, axis=0)
    return image, text, wrong


def test_one_direction_has_the_closed_form_of_a_normal_pair():
    rng, rho = np.random.default_rng(1), 0.8
    u = rng.normal(size=20_000)
    v = rho * u + np.sqrt(1 - rho**2) * rng.normal(size=20_000)
    found = disagreement(u[:, None], v[:, None], ridge=1e-9)
    exact = 0.5 * (np.log(1 - rho**2) + (rho**2 * (u**2 + v**2) - 2 * rho * u * v) / (1 - rho**2))
    assert np.abs(found.own - exact).max() < 0.3  # estimated moments; the far tail moves most
    assert np.abs(found.own - exact).mean() < 0.02


def test_features_that_know_nothing_of_each_other_give_nothing():
    rng = np.random.default_rng(2)
    found = disagreement(rng.normal(size=(3000, 6)), rng.normal(size=(3000, 6)))
    assert np.abs(found.own).mean() < 0.02
    assert found.own.mean() == pytest.approx(found.repaired.mean(), abs=0.005)


def test_a_wrong_note_ranks_above_right_ones():
    image, text, wrong = pairs(2000, 0.15)
    found = disagreement(torch.from_numpy(image), torch.from_numpy(text), ridge=0.1)
    assert average_precision_score(wrong, found.own) > 0.97
    assert found.repaired.shape == (2000, 4)


def test_a_pair_does_not_vouch_for_itself():
    # Fitted on 400 pairs of pure noise, directions found on the pairs themselves would call every own note right.
    rng = np.random.default_rng(3)
    noise = disagreement(rng.normal(size=(400, 40)), rng.normal(size=(400, 40)), ridge=1e-6)
    assert roc_auc_score(np.r_[np.zeros(400), np.ones(1600)], np.r_[noise.own, noise.repaired.ravel()]) < 0.56


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_what_is_flagged_is_wrong_and_the_share_is_no_overstatement(share):
    image, text, wrong = pairs(3000, share)
    judged = mismatch_probability(disagreement(image, text))
    assert judged.notice is None
    assert 0.4 * share < judged.share < share + 0.01  # of notes drawn at random half are let be, see its docstring
    flagged = judged.probability > 0.5
    assert flagged[wrong].mean() > 0.5
    assert flagged[~wrong].mean() < 0.005


def test_probability_never_falls_with_the_score():
    image, text, _ = pairs(1000, 0.3)
    found = disagreement(image, text)
    ordered = mismatch_probability(found).probability[np.argsort(found.own)]
    assert (np.diff(ordered) >= -1e-12).all()


def test_clean_pairs_are_left_alone():
    for seed in range(5):
        image, text, _ = pairs(2000, 0.0, seed=seed)
        judged = mismatch_probability(disagreement(image, text))
        assert not judged.probability.any()
        assert judged.notice.reason is Reason.SMALL_SHARE


def test_features_that_tell_too_little_flag_nobody():
    rng = np.random.default_rng(4)
    judged = mismatch_probability(disagreement(rng.normal(size=(500, 5)), rng.normal(size=(500, 5))))
    assert not judged.probability.any()
    assert judged.notice.reason is Reason.WEAK_FEATURES
    few = mismatch_probability(Disagreement(np.arange(50.0), np.arange(200.0)))
    assert few.notice.reason is Reason.TOO_FEW_FOR_MISMATCH


def test_a_share_that_falls_along_the_tail_flags_nobody():
    """Clean outliers: 10 % of own scores lie above the repaired 80 % quantile, but only 0.8 % above the 95 % quantile."""

    def own_with(shares):
        places = [(0.8, 0.9, shares[0] - shares[1]), (0.9, 0.95, shares[1] - shares[2]), (0.95, 1.0, shares[2])]
        tail = [np.linspace(low, high, round(10_000 * share), endpoint=False) for low, high, share in places]
        return np.concatenate([np.linspace(0, 0.3, 10_000 - sum(map(len, tail))), *tail])

    repaired = np.linspace(0, 1, 40_000, endpoint=False)
    falling = mismatch_probability(Disagreement(own_with((0.10, 0.03, 0.008)), repaired))
    assert falling.notice.reason is Reason.FALLING_TAIL
    assert str(falling.notice).startswith(
        "the share of notes that look like notes of other images falls from 50% to 16%"
    )
    assert not falling.probability.any()
    level = mismatch_probability(Disagreement(own_with((0.10, 0.05, 0.025)), repaired))
    assert level.notice is None
    assert (level.probability > 0.5).sum() > 100


def test_words_are_a_view_and_no_word_is_none():
    notes = ["large cup notch"] * 10 + ["healthy rim"] * 10
    views = word_features(notes)
    assert np.allclose(views[0], views[9])
    assert not np.allclose(views[0], views[10])
    assert word_features(["", "!?"] * 5).shape == (10, 1)


def test_a_shared_mark_lies_out_and_a_wrong_note_does_not():
    image, text, wrong = pairs(2000, 0.15)
    marked = np.arange(1900, 1950)
    image[marked, 3] += 9
    text[marked, 5] += 9
    far = outlyingness(torch.from_numpy(image), torch.from_numpy(text))
    assert average_precision_score(np.isin(np.arange(2000), marked), far) > 0.99
    assert abs(far[wrong].mean() - far[~wrong & (np.arange(2000) < 1900)].mean()) < 0.15
    assert far.mean() == pytest.approx(0, abs=1e-9)
    assert far.std() == pytest.approx(1)


def test_pairs_that_all_lie_equally_far_out_stand_out_nowhere():
    assert not outlyingness(np.array([[1.0], [-1.0]] * 5), np.array([[-2.0], [2.0]] * 5)).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_features": np.zeros((3, 2))}, "rows"),
        ({"image_features": np.full((4, 2), np.nan)}, "not finite"),
        ({"image_features": np.zeros(4)}, "shape"),
        ({"ridge": 0.0}, "ridge"),
    ],
)
def test_bad_input_is_named(change, words):
    good = {"image_features": np.eye(4, 2), "text_features": np.eye(4, 2)}
    for measure in (disagreement, outlyingness):
        with pytest.raises(InputError, match=words):
            measure(**(good | change))


# The rule that mines with them ----------------------------------------------------------------------------------------


def ledger_of(n: int = 200) -> PairLossLedger:
    """Row 0: an improbable note; row 1: fits well, far out on both sides; all others ordinary."""
    rng = np.random.default_rng(5)
    values = {name: rng.normal(size=n) for name in ("loss", "margin", "disagreement")}
    values |= {"mismatch": np.zeros(n), "outlyingness": rng.uniform(-1, 1, n)}
    for name, wrong, shortcut in (
        ("margin", 6, -1), ("disagreement", 6, -1), ("mismatch", 0.9, 0.0), ("outlyingness", 0, 5)
    ):  # fmt: skip
        values[name][:2] = wrong, shortcut
    ledger = PairLossLedger([f"p{i}" for i in range(n)], channels=tuple(values))
    ledger.record(0, np.arange(n), **values)
    ledger.close_epoch(0)
    return ledger


def test_the_mismatch_rule_ranks_and_flags_both_ends():
    result = mine_bad_pairs(ledger_of(), rule="mismatch", weights="posterior", warmup=0)
    assert (result.z.argmax(), result.z.argmin()) == (0, 1)
    assert list(result.kind[:2]) == ["faulty", "noisy"]
    assert result.n_flagged == {"faulty": 1, "noisy": 1}
    assert result.weight[0] == pytest.approx(0.1)
    assert result.weight[1] == pytest.approx(np.exp(-0.5 * result.z[1] ** 2))
    assert (result.weight[2:] == 1).all()


def test_its_weights_do_not_follow_the_live_loss():
    result = mine_bad_pairs(ledger_of(), rule="mismatch", weights="posterior", warmup=0)
    weights = pair_weights(result, [0, 1, 2], torch.tensor([0.0, 0.0, 50.0], dtype=torch.float64))
    assert weights.tolist() == result.weight[:3].tolist()


def test_a_higher_limit_flags_no_shortcut():
    assert mine_bad_pairs(ledger_of(), rule="mismatch", weights="posterior", noisy_sd=50).n_flagged["noisy"] == 0
