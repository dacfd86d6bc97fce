"""Agreement against other code, closed forms and planted agreement."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from fairvlm_core.review import VERDICTS, Event, Missing, agreement, agreement_by_readers

NAMES = list(VERDICTS)


def readings(ratings, readers=("Ada", "Bob")):
    """Verdict events from an array (pairs, readers) of category numbers; -1 for no reading."""
    events = []
    for i, row in enumerate(np.asarray(ratings)):
        for name, rating in zip(readers, row, strict=True):
            if rating >= 0:
                events.append(
                    Event(
                        len(events) + 1,
                        "",
                        "verdict",
                        "q001",
                        f"p{i}",
                        name,
                        "",
                        {"verdict": NAMES[rating]},
                        None,
                        "",
                        "",
                    )
                )
    return events


def random_ratings(n, agree, seed=0, readers=2):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, n)
    others = [np.where(rng.random(n) < agree, first, rng.integers(0, 3, n)) for _ in range(readers - 1)]
    return np.column_stack([first, *others])


def test_cohens_kappa_equals_scikit_learns():
    ratings = random_ratings(120, 0.6)
    (found,) = agreement_by_readers(readings(ratings))
    assert found.readers == ("Ada", "Bob")
    assert found.n_pairs == 120
    assert found.observed == np.mean(ratings[:, 0] == ratings[:, 1])
    assert found.kappa == pytest.approx(cohen_kappa_score(ratings[:, 0], ratings[:, 1]), abs=1e-12)
    bad = (ratings > 0).astype(int)  # of the first three verdicts "fits" alone is good
    assert found.kappa_bad == pytest.approx(cohen_kappa_score(bad[:, 0], bad[:, 1]), abs=1e-12)


def test_fleiss_kappa_of_two_readings_is_scotts_pi():
    ratings = random_ratings(200, 0.5, seed=1)
    observed = np.mean(ratings[:, 0] == ratings[:, 1])
    share = np.bincount(ratings.ravel(), minlength=3) / ratings.size
    chance = float((share**2).sum())
    assert agreement(readings(ratings)).kappa == pytest.approx((observed - chance) / (1 - chance), abs=1e-12)


def test_intervals_cover_the_planted_agreement():
    """Three equally frequent verdicts and a share of copies: kappa is that share."""
    inside = [
        0.6 in agreement(readings(random_ratings(80, 0.6, seed)), resamples=200).kappa_interval for seed in range(40)
    ]
    assert np.mean(inside) > 0.85


def test_readers_who_share_no_pair_are_not_compared_and_three_readers_are_all_compared():
    ratings = random_ratings(30, 0.7, seed=2, readers=3)
    ratings[:10, 2] = -1
    found = agreement_by_readers(readings(ratings, ("Ada", "Bob", "Cleo")), resamples=50)
    assert [(a.readers, a.n_pairs) for a in found] == [
        (("Ada", "Bob"), 30), (("Ada", "Cleo"), 20), (("Bob", "Cleo"), 20),
    ]  # fmt: skip
    alone = readings(np.array([[0, -1], [-1, 1]]))
    assert agreement_by_readers(alone) == ()
    assert agreement(alone).missing is Missing.NO_SECOND_READING


def test_where_there_is_no_kappa_the_reason_is_given():
    same = agreement(readings(np.zeros((20, 2), int)))
    assert (same.observed, same.kappa) == (1.0, None)
    assert same.missing is Missing.ONE_VERDICT
    few = agreement(readings(random_ratings(3, 0.5)))
    assert (few.kappa, few.missing) == (None, Missing.TOO_FEW)


def test_the_same_seed_gives_the_same_interval():
    events = readings(random_ratings(50, 0.5))
    assert agreement(events, resamples=100) == agreement(events, resamples=100)
    assert agreement(events, resamples=100, seed=1).kappa_interval != agreement(events, resamples=100).kappa_interval
