"""Rules of other methods: CLIP similarity and LEMoN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairvlm_core.errors import InputError
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import lemon_scores, mine_bad_pairs


def features(n: int = 60, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(n, width))
    return image, image + 0.5 * rng.normal(size=(n, width))


def slow_lemon(image, text, k, beta, gamma, tau_image, tau_text):
    """The formula of the paper, pair by pair."""

    def d(a, b):
        return 1 - float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))

    scores = []
    for i in range(len(image)):
        others = [j for j in range(len(image)) if j != i]
        by_image = sorted(others, key=lambda j, i=i: d(image[i], image[j]))[:k]
        by_text = sorted(others, key=lambda j, i=i: d(text[i], text[j]))[:k]
        near_image = near_text = 0.0
        for j in by_image:
            decay = math.exp(-tau_image[0] * d(image[i], image[j])) * math.exp(-tau_image[1] * d(image[j], text[j]))
            near_image += d(text[i], text[j]) * decay
        for j in by_text:
            decay = math.exp(-tau_text[0] * d(text[i], text[j])) * math.exp(-tau_text[1] * d(image[j], text[j]))
            near_text += d(image[i], image[j]) * decay
        scores.append(d(image[i], text[i]) + beta * near_image / k + gamma * near_text / k)
    return np.array(scores)


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 30, "beta": 5.0, "gamma": 5.0, "tau_image": (0.1, 5.0), "tau_text": (0.1, 5.0)},
        {"k": 7, "beta": 2.0, "gamma": 0.5, "tau_image": (1.0, 0.3), "tau_text": (3.0, 2.0)},
        {"k": 1, "beta": 0.0, "gamma": 20.0, "tau_image": (0.0, 0.0), "tau_text": (0.0, 1.0)},
    ],
)
def test_lemon_scores_are_those_of_the_formula(settings):
    image, text = features()
    np.testing.assert_allclose(lemon_scores(image, text, **settings), slow_lemon(image, text, **settings), rtol=1e-10)


def test_the_defaults_of_lemon_are_the_fixed_settings_of_the_paper():
    image, text = features()
    fixed = slow_lemon(image, text, 30, 5.0, 5.0, (0.1, 5.0), (0.1, 5.0))
    np.testing.assert_allclose(lemon_scores(image, text), fixed, rtol=1e-10)


def test_a_pair_is_never_its_own_neighbour_even_beside_copies():
    image, text = np.ones((5, 2)), np.eye(2)[[0, 1, 1, 1, 1]]  # all images alike, one note apart
    # Pair 0: d(x, y) = 1 − 1/√2, and all of its neighbours' notes are at distance 1; its own would be at 0.
    own = 1 - 1 / math.sqrt(2)
    assert lemon_scores(image, text, k=4, beta=1.0, gamma=0.0, tau_image=(0.0, 0.0))[0] == pytest.approx(own + 1)


def test_planted_swaps_are_ranked_first():
    image, _ = features(200)
    text = image + 0.1 * np.random.default_rng(2).normal(size=image.shape)
    apart = int(np.argmin(image @ image[0]))  # a pair that is unlike pair 0
    text[[0, apart]] = text[[apart, 0]]
    assert set(np.argsort(-lemon_scores(image, text))[:2]) == {0, apart}


def test_lemon_refuses_what_it_cannot_score():
    image, text = features()
    for wrong in ((image, text[:-1]), (image[:1], text[:1]), (image, np.full_like(text, np.nan))):
        with pytest.raises(InputError):
            lemon_scores(*wrong)
    with pytest.raises(InputError, match="k"):
        lemon_scores(image, text, k=0)


def ledger(**channels: np.ndarray) -> PairLossLedger:
    """Two epochs of 40 pairs; the first epoch's values in reverse order."""
    made = PairLossLedger([str(row) for row in range(40)], ("loss", *channels))
    for epoch, order in enumerate((-1, 1)):
        made.record(epoch, np.arange(40), loss=np.linspace(1, 2, 40), **{n: v[::order] for n, v in channels.items()})
        made.close_epoch(epoch)
    return made


@pytest.mark.parametrize(("rule", "channel", "sign"), [("similarity", "similarity", -1), ("lemon", "lemon", 1)])
def test_rules_flag_the_latest_values_beyond_the_limit_and_no_shared_marker(rule, channel, sign):
    values = np.linspace(-1, 1, 40)
    values[3], values[9] = sign * 10, sign * -10
    result = mine_bad_pairs(ledger(**{channel: values}), rule=rule, spread="mad", faulty_sd=3.0)
    assert np.flatnonzero(result.kind == "faulty").tolist() == [3]
    assert result.n_flagged == {"faulty": 1, "noisy": 0}
    middle = np.median(values)
    expected = sign * (values - middle) / (1.4826 * np.median(np.abs(values - middle)))
    np.testing.assert_allclose(result.z, expected, rtol=1e-5)


def test_a_ledger_without_the_channel_is_refused():
    for rule in ("similarity", "lemon"):
        with pytest.raises(InputError, match=rule):
            mine_bad_pairs(ledger(), rule=rule)
