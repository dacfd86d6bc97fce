"""Paired comparison and DeLong: against the textbook's double sum, and with planted differences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fairness_data import auc_by_pairs, binormal
from scipy import stats

from fairvlm_core.errors import InputError
from fairvlm_core.fairness import FairnessReport, Undefined, compare_paired, compare_seeds, delong, mean_over_seeds


def structural_components(label, score):
    """DeLong's placements from the definition, pair by pair."""
    label, score = np.asarray(label, bool), np.asarray(score)
    positive, negative = score[label], score[~label]
    won = np.zeros((len(positive), len(negative)))
    for i, x in enumerate(positive):
        for j, y in enumerate(negative):
            won[i, j] = 1.0 if x > y else 0.5 if x == y else 0.0
    return won.mean(axis=1), won.mean(axis=0)


def two_models(seed=0, rho=0.6, gain=0.5, sizes=(60, 140)):
    rng = np.random.default_rng(seed)
    label, _, group = binormal(rng, sizes, (0.8,) * len(sizes))
    shared = rng.normal(size=sum(sizes))
    scores = []
    for distance in (1.0, 1.0 + gain):
        noise = np.sqrt(rho) * shared + np.sqrt(1 - rho) * rng.normal(size=sum(sizes))
        scores.append(1 / (1 + np.exp(-(noise + distance * (label - 0.5)))))
    return label, scores[0], scores[1], group


@pytest.mark.parametrize("decimals", [1, 15])
def test_delong_equals_the_textbook_form(decimals):
    label, a, b, _ = two_models()
    a, b = a.round(decimals), b.round(decimals)
    result = delong(label, a, b)
    v10, v01 = zip(*(structural_components(label, s) for s in (a, b)), strict=True)
    covariance = np.cov(v10) / label.sum() + np.cov(v01) / (~label).sum()
    assert result.covariance == pytest.approx(covariance, abs=1e-12)
    assert result.auc == pytest.approx([auc_by_pairs(label, a), auc_by_pairs(label, b)], abs=1e-12)
    change, error, p_value = result.difference()
    z = (result.auc[1] - result.auc[0]) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert (change, p_value) == pytest.approx((result.auc[1] - result.auc[0], 2 * stats.norm.sf(abs(z))), abs=1e-9)
    assert error == pytest.approx(change / z)


def test_clustered_delong_is_delong_for_single_rows_and_ignores_copies():
    label, a, b, _ = two_models()
    plain = delong(label, a, b)
    patients = np.repeat(np.arange(200), 3)
    copied = delong(np.repeat(label, 3), np.repeat(a, 3), np.repeat(b, 3), patients=patients)
    assert copied.auc == pytest.approx(plain.auc, abs=1e-12)
    assert copied.covariance == pytest.approx(plain.covariance, rel=0.02)
    naive = delong(np.repeat(label, 3), np.repeat(a, 3), np.repeat(b, 3))
    assert naive.covariance[0, 0] < 0.5 * plain.covariance[0, 0]


def test_clustered_delong_agrees_with_the_spread_over_samples():
    rng = np.random.default_rng(1)
    aucs, variances = [], []
    for _ in range(300):
        noise = np.repeat(rng.normal(size=60), 2)  # an eye of each side, one label each
        label = rng.random(120) < 0.5
        score = 0.8 * noise + 0.6 * rng.normal(size=120) + label
        result = delong(label, score, patients=np.arange(120) // 2)
        aucs.append(result.auc[0])
        variances.append(result.covariance[0, 0])
    assert np.mean(variances) == pytest.approx(np.var(aucs), rel=0.2)


def test_delong_needs_two_of_each_class():
    with pytest.raises(InputError, match="1 positive and 3 negative rows"):
        delong([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(InputError, match="at least one score"):
        delong([0, 1])


def test_a_model_compared_with_itself_does_not_differ():
    label, a, _, group = two_models()
    for metric in ("auc", "es_auc", "equalized_odds_difference", "calibration_error"):
        result = compare_paired(label, a, a, {"g": group}, metric=metric, n_resamples=50)
        every = [result.overall, *result.attributes.values(), *result.groups["g"].values()]
        assert all(d.difference == 0 and d.p_value == 1 and not d.reliable for d in every)
        assert result.overall.verdict == "no reliable difference: 0.0 to 0.0 points, n = 200"


def test_a_planted_difference_is_found_with_its_sign_and_swaps_with_the_models():
    label, a, b, group = two_models(gain=1.5)
    forth = compare_paired(label, a, b, {"g": group}, n_resamples=400)
    back = compare_paired(label, b, a, {"g": group}, n_resamples=400)
    assert forth.overall.reliable
    assert forth.overall.verdict.startswith("B is better: +")
    assert back.overall.verdict.startswith("B is worse: −")
    assert back["g"].difference == -forth["g"].difference
    assert back["g"].interval.low == pytest.approx(-forth["g"].interval.high)
    assert forth.overall.method == "DeLong"


def test_values_are_those_of_the_reports():
    label, a, b, group = two_models()
    reports = [
        FairnessReport.from_predictions(label, s, {"g": group}, n_resamples=0, n_permutations=0)["g"] for s in (a, b)
    ]
    for metric in ("es_auc", "auc_gap", "es_accuracy", "demographic_parity_difference", "worst_group_auc"):
        d = compare_paired(label, a, b, {"g": group}, metric=metric, n_resamples=20)["g"]
        assert (d.a, d.b) == pytest.approx([getattr(r, metric) for r in reports], abs=1e-12)
        assert d.difference == pytest.approx(d.b - d.a, abs=1e-12)


def test_the_paired_interval_is_narrower_than_two_intervals_apart():
    label, a, b, group = two_models(rho=0.9, gain=0.1, sizes=(300, 700))
    paired = compare_paired(label, a, b, {"g": group}, n_resamples=400)["g"]
    single = FairnessReport.from_predictions(label, a, {"g": group}, n_resamples=400, n_permutations=0)["g"]
    width = single.intervals["es_auc"].high - single.intervals["es_auc"].low
    assert paired.interval.high - paired.interval.low < width


def test_bootstrap_and_delong_agree_on_auc():
    label, a, b, _ = two_models(sizes=(200, 400))
    by_delong = compare_paired(label, a, b, {}, metric="auc").overall.interval
    one = compare_paired(label, a, b, {"g": np.full(600, "x")}, metric="worst_group_auc", n_resamples=3000)[
        "g"
    ].interval
    assert (one.low, one.high) == pytest.approx((by_delong.low, by_delong.high), abs=0.004)


def test_a_group_with_one_class_is_said_to_have_no_comparison():
    label, a, b, group = two_models()
    group = np.where(label & (group == "g0"), "g1", group)
    result = compare_paired(label, a, b, {"g": group}, n_resamples=50)
    lost = result.groups["g"]["g0"]
    assert isinstance(lost.difference, Undefined)
    assert lost.verdict.startswith("no comparison: undefined (n+ = 0")
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert "no comparison" in text


def test_seeds_follow_the_formula_and_count_both_sources():
    rng = np.random.default_rng(3)
    label, _, group = binormal(rng, (80, 220), (0.8, 0.8))
    shared = rng.normal(size=300)

    def run(distance):
        noise = shared + 0.4 * rng.normal(size=300)
        return 1 / (1 + np.exp(-(noise + distance * (label - 0.5))))

    a, b = [run(1.0) for _ in range(5)], [run(1.6) for _ in range(5)]
    d = compare_seeds(label, a, b, {"g": group}, metric="auc", n_resamples=500).overall
    changes = [auc_by_pairs(label, y) - auc_by_pairs(label, x) for x, y in zip(a, b, strict=True)]
    paired_t = stats.ttest_rel([auc_by_pairs(label, y) for y in b], [auc_by_pairs(label, x) for x in a])
    low, high = paired_t.confidence_interval(0.95)
    assert (d.seeds_interval.low, d.seeds_interval.high) == pytest.approx((low, high), abs=1e-9)
    assert d.difference == pytest.approx(np.mean(changes), abs=1e-12)
    assert d.sd_difference == pytest.approx(np.std(changes, ddof=1), abs=1e-12)
    assert d.interval.high - d.interval.low > 2 * 1.9 * np.std(changes, ddof=1) / np.sqrt(5)
    assert d.n_seeds == 5
    assert d.verdict.endswith("points, 5 seeds")
    assert (d.p_value < 0.05) == (d.interval.low > 0)


def test_seeds_with_nothing_between_them_are_not_a_reliable_difference():
    rng = np.random.default_rng(4)
    label, _, group = binormal(rng, (80, 220), (0.8, 0.8))
    runs = [1 / (1 + np.exp(-(label + rng.normal(size=300)))) for _ in range(10)]
    result = compare_seeds(label, runs[:5], runs[5:], {"g": group, "h": group[::-1]}, n_resamples=200)
    assert not result["g"].reliable
    assert result["g"].p_holm >= result["g"].p_value
    assert result["g"].verdict.startswith("no reliable difference: ")
    json.dumps(result.to_dict(), allow_nan=False)


def with_a_tiny_group(n_positive, n_negative, runs, seed=5):
    """400 rows and a group that every run ranks perfectly."""
    rng = np.random.default_rng(seed)
    label = np.r_[np.arange(400) % 2, np.ones(n_positive, int), np.zeros(n_negative, int)]
    group = np.r_[np.full(400, "large"), np.full(n_positive + n_negative, "tiny")]
    scores = []
    for _ in range(runs):
        score = 1 / (1 + np.exp(-(label + rng.normal(size=len(label)))))
        tiny = group == "tiny"
        score[tiny] = 0.2 + 0.6 * label[tiny] + 0.1 * rng.random(tiny.sum())
        scores.append(score)
    return label, scores, group


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize(
    ("n_positive", "n_negative", "words"),
    [
        (2, 4, "2 positive patients, an interval needs 8"),
        (30, 1, "1 negative patient, an interval needs 8"),
        (30, 30, "the same in every resample"),
    ],
)
def test_a_group_that_every_run_ranks_perfectly_has_no_interval(n_positive, n_negative, words, runs):
    label, scores, group = with_a_tiny_group(n_positive, n_negative, 2 * runs)
    if runs == 1:
        result = compare_paired(label, *scores, {"g": group}, n_resamples=100)
    else:
        result = compare_seeds(label, scores[:3], scores[3:], {"g": group}, n_resamples=100)
    d = result.groups["g"]["tiny"]
    assert (d.a, d.b, d.difference) == (1.0, 1.0, 0.0)
    assert (d.interval, d.p_value, d.reliable) == (None, None, False)
    assert d.verdict.startswith("no interval: 0.0 points, ")
    assert words in d.verdict
    assert words in d.to_dict()["undefined"]["interval"]
    assert result.groups["g"]["large"].interval is not None


def test_eight_patients_of_each_class_are_enough_and_rows_of_one_patient_are_one():
    label, a, b, _ = two_models()
    few = np.where(np.cumsum(label) <= 8, label, False) | ~label
    group = np.where(few & (np.cumsum(~label) <= 20), "few", "rest")
    assert compare_paired(label, a, b, {"g": group}, n_resamples=50).groups["g"]["few"].interval is not None
    patients = np.arange(200)
    patients[np.flatnonzero((group == "few") & label)[:2]] = 0
    d = compare_paired(label, a, b, {"g": group}, patients=patients, n_resamples=50).groups["g"]["few"]
    assert d.no_interval == "7 positive patients, an interval needs 8"


def test_rates_need_the_class_that_they_are_rates_of():
    label, scores, group = with_a_tiny_group(2, 30, 2)
    for metric, exists in (("true_positive_rate", False), ("false_positive_rate", True), ("selection_rate", True)):
        scores[1][-1], scores[0][-2] = 0.9, 0.9
        d = compare_paired(label, *scores, {"g": group}, metric=metric, n_resamples=100).groups["g"]["tiny"]
        assert (d.interval is not None) == exists, metric


def test_the_mean_over_seeds_follows_the_formula():
    rng = np.random.default_rng(8)
    label, _, group = binormal(rng, (80, 220), (0.8, 0.8))
    shared = rng.normal(size=300)
    runs = [1 / (1 + np.exp(-(shared + 0.5 * rng.normal(size=300) + 1.2 * label))) for _ in range(4)]
    mean = mean_over_seeds(label, runs, {"g": group}, n_resamples=4000).overall
    aucs = [auc_by_pairs(label, run) for run in runs]
    assert (mean.mean, mean.sd) == pytest.approx((np.mean(aucs), np.std(aucs, ddof=1)), abs=1e-12)
    # DeLong's variance of the mean AUC is the outside value of the patients' part.
    of_seeds, of_patients = np.var(aucs, ddof=1) / 4, delong(label, *runs).covariance.mean()
    df = (of_seeds + of_patients) ** 2 / (of_seeds**2 / 3 + of_patients**2 / 299)
    reach = stats.t.ppf(0.975, df) * np.sqrt(of_seeds + of_patients)
    assert mean.interval.high - mean.mean == pytest.approx(reach, rel=0.04)
    assert mean.mean - mean.interval.low == pytest.approx(mean.interval.high - mean.mean)


def test_the_mean_over_seeds_covers_other_seeds_and_other_patients():
    rng = np.random.default_rng(9)
    truth = stats.norm.cdf(1.2 / np.sqrt(2))
    hits = 0
    for _ in range(120):
        label = np.arange(120) % 2
        shared = rng.normal(size=120)
        runs = [np.sqrt(0.5) * (shared + rng.normal(size=120)) + 1.2 * label for _ in range(3)]
        runs = [1 / (1 + np.exp(-run)) for run in runs]
        interval = mean_over_seeds(label, runs, {}, metric="auc", n_resamples=100).overall.interval
        hits += interval.low <= truth <= interval.high
    assert 107 <= hits <= 120  # 95 % of 120 is 114; three standard errors are 7


def test_means_say_why_there_is_none():
    label, scores, group = with_a_tiny_group(2, 4, 3)
    means = mean_over_seeds(label, scores, {"g": group}, n_resamples=50)
    assert means["g"].interval is not None
    tiny = means.groups["g"]["tiny"]
    assert (tiny.mean, tiny.interval) == (1.0, None)
    assert "2 positive patients" in json.dumps(means.to_dict(), allow_nan=False)
    one_class = mean_over_seeds(label, scores, {"g": np.where(label == 1, "sick", group)}, n_resamples=50)
    assert str(one_class.groups["g"]["sick"].mean) == "undefined (n+ = 202, n- = 0)"
    with pytest.raises(InputError, match="at least two seeds"):
        mean_over_seeds(label, scores[:1], {})
    with pytest.raises(InputError, match="no mean of es_auc for 'h'"):
        means["h"]


BAD = {
    "metric": ({"metric": "auroc"}, "metric: 'auroc' is not known; choose from auc,"),
    "lengths": ({"score_b": [0.5]}, "score_b: 1 values for 4 labels"),
    "nan": ({"score_a": [0.1, np.nan, 0.2, 0.3]}, "score_a: row 1 is nan"),
    "resamples": ({"n_resamples": 1}, "n_resamples: 1 is too few"),
    "threshold": ({"metric": "accuracy", "threshold": None}, "threshold: accuracy needs one"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    change, line = BAD[case]
    good = {"label": [0, 1, 0, 1], "score_a": [0.1, 0.9, 0.4, 0.6], "score_b": [0.2] * 4, "attributes": {}}
    with pytest.raises(InputError) as caught:
        compare_paired(**(good | change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_seeds_must_be_paired():
    with pytest.raises(InputError, match="2 and 3 runs"):
        compare_seeds([0, 1], [[0, 1]] * 2, [[0, 1]] * 3, {})
    with pytest.raises(InputError, match=r"scores_b\[1\]: 1 values for 4 labels"):
        compare_seeds([0, 1, 0, 1], [[0.1] * 4] * 2, [[0.1] * 4, [0.1]], {})
    with pytest.raises(InputError, match="no difference of auc for 'g'"):
        compare_paired([0, 1, 0, 1], [0.1] * 4, [0.1] * 4, {"g": list("xxyy")}, metric="auc", n_resamples=5)["g"]
