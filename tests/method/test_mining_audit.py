"""audit_mining: who loses data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from fairvlm_core.errors import InputError
from fairvlm_core.mining import audit_mining, mine_bad_pairs


def mined(flagged: np.ndarray):
    """A result in which exactly these pairs are faulty."""
    losses = np.where(flagged, 10.0, 1.0) + np.linspace(0, 0.1, len(flagged))
    result = mine_bad_pairs(losses[None], faulty_sd=0.5, noisy_sd=1e9)
    assert ((result.kind == "faulty") == flagged).all()
    return result


def mask(n: int, k: int) -> np.ndarray:
    flagged = np.zeros(n, bool)
    flagged[:k] = True
    return flagged


def test_counts_rates_and_wilson_intervals():
    result = mined(mask(300, 30))
    race = np.array(["A"] * 60 + ["B"] * 240)
    audit = audit_mining(result, {"race": race}).attributes[0]
    a, b = audit.groups
    assert (a.group, a.n, a.n_flagged, a.rate) == ("A", 60, 30, 0.5)
    assert (b.group, b.n, b.n_flagged, b.rate) == ("B", 240, 0, 0.0)
    z = stats.norm.ppf(0.975)
    centre, half = (0.5 + z**2 / 120) / (1 + z**2 / 60), z * math.sqrt(0.25 / 60 + z**2 / (4 * 60**2)) / (1 + z**2 / 60)
    assert a.rate_interval == pytest.approx((centre - half, centre + half))
    removed = 1 - result.weight[:60]
    assert a.removed_weight == pytest.approx(removed.mean())
    t = stats.t.interval(0.95, 59, removed.mean(), stats.sem(removed))
    assert a.removed_interval == pytest.approx((max(0, t[0]), min(1, t[1])))
    assert b.removed_interval == (0.0, b.rate_interval[1])
    assert math.isinf(audit.ratio)


def test_two_groups_use_fishers_exact_test():
    race = np.array(["A", "B"] * 50)
    audit = audit_mining(mined(mask(100, 10)), {"race": race}).attributes[0]
    assert audit.test == "Fisher's exact test"
    assert audit.p_value == pytest.approx(stats.fisher_exact([[5, 5], [45, 45]]).pvalue)
    assert audit.ratio == 1.0


def test_large_tables_use_chi_square():
    flagged = mask(600, 90)
    groups = np.random.default_rng(0).choice(["A", "B", "C"], 600)
    audit = audit_mining(mined(flagged), {"race": groups}).attributes[0]
    table = [[(flagged & (groups == g)).sum(), (~flagged & (groups == g)).sum()] for g in "ABC"]
    assert audit.test == "chi-square test"
    assert audit.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_sparse_tables_use_random_tables_of_the_same_margins():
    flagged = mask(40, 4)
    groups = np.array(["A"] * 4 + ["B"] * 18 + ["C"] * 18)
    audit = audit_mining(mined(flagged), {"race": groups}, n_permutations=19_999).attributes[0]
    assert audit.test == "permutation test (19999 tables)"
    exact = 1 / math.comb(40, 4)  # only this table is as extreme
    assert audit.p_value == pytest.approx(exact, abs=3e-4)


def test_permutation_p_values_are_uniform_without_an_effect():
    rng = np.random.default_rng(2)
    result = mined(mask(60, 6))
    p = [
        audit_mining(result, {"g": rng.permutation(np.repeat(["A", "B", "C"], 20))}, n_permutations=499).attributes[0]
        for _ in range(200)
    ]
    assert np.mean([audit.p_value <= 0.05 for audit in p]) < 0.1
    assert np.mean([audit.p_value <= 0.5 for audit in p]) < 0.65


def test_holm_over_attributes_and_warning():
    flagged = mask(400, 40)
    race = np.where(np.arange(400) < 80, "Black", "White")
    noise = np.random.default_rng(1).choice(["F", "M"], 400)
    audit = audit_mining(mined(flagged), {"race": race, "gender": noise})
    by_race, by_gender = audit.attributes
    assert by_race.p_adjusted == pytest.approx(2 * by_race.p_value)
    assert by_gender.p_adjusted == pytest.approx(max(by_gender.p_value, by_race.p_adjusted))
    assert len(audit.warnings) == 1
    assert audit.warnings[0].startswith("race: pairs of group 'Black' are flagged more often: 50.0 % of 80")
    assert "0.0 % of the other 320" in audit.warnings[0]


def test_no_warning_without_a_difference():
    audit = audit_mining(mined(mask(200, 20)), {"gender": ["F", "M"] * 100})
    assert audit.warnings == ()


def test_unknown_is_a_group_of_its_own_shown_last():
    groups = ["Z"] * 50 + [None] * 5 + [float("nan")] * 5 + ["  "] * 5 + ["A"] * 35
    names = [g.group for g in audit_mining(mined(mask(100, 10)), {"race": groups}).attributes[0].groups]
    assert names == ["A", "Z", "Unknown"]


def test_a_group_of_one_has_no_interval():
    groups = ["A"] + ["B"] * 99
    one = audit_mining(mined(mask(100, 10)), {"race": groups}).attributes[0].groups[0]
    assert (one.n, one.rate_interval, one.removed_interval) == (1, None, None)


def test_nothing_flagged_and_one_group_are_not_tested():
    quiet = mine_bad_pairs(np.ones((1, 50)))
    audit = audit_mining(quiet, {"race": ["A", "B"] * 25})
    assert (audit.attributes[0].test, audit.attributes[0].p_value, audit.attributes[0].ratio) == ("none", None, None)
    assert audit_mining(mined(mask(50, 5)), {"site": ["X"] * 50}).attributes[0].p_adjusted is None


def test_dict_is_json_and_frame_has_a_row_a_group():
    race = np.array(["A"] * 60 + ["B"] * 240)
    audit = audit_mining(mined(mask(300, 30)), {"race": race})
    document = json.loads(json.dumps(audit.to_dict(), allow_nan=False))
    assert document["attributes"]["race"]["groups"]["A"]["n_flagged"] == 30
    assert document["attributes"]["race"]["ratio"] is None
    assert document["attributes"]["race"]["ratio_is_infinite"]
    assert list(audit.to_frame()["group"]) == ["A", "B"]


def test_a_million_pairs_are_audited():
    n = 1_000_000
    rng = np.random.default_rng(3)
    flagged = rng.random(n) < 0.01
    audit = audit_mining(mined(flagged), {"race": rng.choice(["A", "B", "C"], n)})
    assert audit.n_flagged == flagged.sum()
    assert audit.warnings == ()


@pytest.mark.parametrize(
    ("attributes", "settings", "message"),
    [
        ({"race": ["A"] * 3}, {}, "attribute 'race': 3 values for 100"),
        ({"race": ["A"] * 100}, {"confidence": 1.0}, "confidence"),
        ({"race": ["A"] * 100}, {"n_permutations": 5}, "n_permutations"),
    ],
)
def test_bad_input(attributes, settings, message):
    with pytest.raises(InputError, match=message):
        audit_mining(mined(mask(100, 10)), attributes, **settings)
