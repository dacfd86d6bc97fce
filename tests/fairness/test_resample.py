"""Bootstrap and shuffles: the vectorised engine against plain repetition, and the properties each must have."""

from __future__ import annotations

import numpy as np
import pytest
from fairness_data import auc_by_pairs, binormal
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from fairvlm_core.fairness import FairnessReport, auc_score_interval, equity_scaled_auc, holm
from fairvlm_core.fairness import resample as engine
from fairvlm_core.fairness.cohort import check_cohort
from fairvlm_core.fairness.definitions import group_values, summarise
from fairvlm_core.fairness.intervals import auc_interval, es_large_sample_interval, normal_interval, rate_interval


def tied_cohort(patients=None, seed=0):
    label, score, group = binormal(np.random.default_rng(seed), (30, 60, 110), (0.7, 0.8, 0.9))
    score = score.round(2)
    # Sorted beforehand, as the engine would, so that its weights can be drawn again here row by row.
    order = np.argsort(score, kind="stable")
    label, score, group = label[order], score[order], group[order]
    return check_cohort(label, {"g": group}, patients=patients), score, group


@pytest.mark.parametrize("clustered", [False, True])
def test_every_resample_equals_the_plain_figures_of_its_repeated_rows(clustered):
    cohort, score, _ = tied_cohort(np.arange(200) // 3 if clustered else None)
    grouping = cohort.groupings[0]
    draws = engine.bootstrap(cohort, [score], [grouping], threshold=0.5, n_resamples=7, seed=4)[0][0]
    strata = engine._strata(cohort.label, cohort.patient)
    stream = np.random.default_rng(np.random.SeedSequence([4, 1]).spawn(1)[0])
    weights = engine._patient_weights(strata, 7, stream).astype(int)
    weights = weights if cohort.patient is None else weights[cohort.patient]
    for b in range(7):
        rows = np.repeat(np.arange(200), weights[:, b])
        label, drawn, code = cohort.label[rows], score[rows], grouping.code[rows]
        groups = group_values(label, drawn, code, 3, 0.5)
        overall = {name: v[0] for name, v in group_values(label, drawn, code * 0, 1, 0.5).items()}
        for name, values in draws.groups.items():
            assert values[:, b] == pytest.approx(groups[name], abs=1e-12), name
        plain = summarise(overall, {name: groups[name] for name in draws.groups} | {"prevalence": groups["prevalence"]})
        for name, values in draws.summary.items():
            assert values[b] == pytest.approx(plain[name], abs=1e-12), name
        assert draws.groups["auc"][0, b] == pytest.approx(auc_by_pairs(label[code == 0], drawn[code == 0]), abs=1e-12)


def test_the_order_of_rows_does_not_matter_to_the_engine():
    rng = np.random.default_rng(12)
    label, score, group = binormal(rng, (30, 60, 110), (0.7, 0.8, 0.9))
    order = rng.permutation(200)
    for patients in (None, np.arange(200) // 2):
        here = check_cohort(label, {"g": group}, patients=patients, exclude={"g": ["g2"]})
        there = check_cohort(
            label[order],
            {"g": group[order]},
            patients=None if patients is None else patients[order],
            exclude={"g": ["g2"]},
        )
        kept = []
        for cohort, values in ((here, score), (there, score[order])):
            draws = engine.bootstrap(cohort, [values], cohort.groupings, threshold=0.5, n_resamples=20, seed=1)[0][0]
            kept.append(draws.summary)
        for name, values in kept[0].items():
            assert kept[1][name] == pytest.approx(values, abs=1e-12), name


def test_a_resample_keeps_patients_whole_and_the_size_of_each_class():
    label = np.array([True, True, False, False, False, True, False, True])
    patient = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    strata = engine._strata(label, patient)
    assert [list(s) for s in strata] == [[1, 2], [0, 3], [4]]
    weights = engine._patient_weights(strata, 500, np.random.default_rng(0))
    assert (weights[[1, 2]].sum(0) == 2).all()
    assert (weights[[0, 3]].sum(0) == 2).all()
    assert (weights[4] == 1).all()
    assert weights.mean() == pytest.approx(1)
    assert len(np.unique(weights[0])) == 3


def test_a_resample_without_a_class_in_a_group_is_missing_not_a_figure_of_fewer_groups():
    label, score, group = binormal(np.random.default_rng(5), (6, 100), (0.8, 0.8))
    label[:6] = [True, False, False, False, False, False]
    cohort = check_cohort(label, {"g": group})
    draws = engine.bootstrap(cohort, [score], cohort.groupings, threshold=None, n_resamples=400, seed=0)[0][0]
    lost = np.isnan(draws.groups["auc"][0])
    assert 0.2 < lost.mean() < 0.5  # (1 - 1/n+)^n+ is about 0.37
    assert np.isnan(draws.summary["es_auc"])[lost].all()
    assert not np.isnan(draws.summary["es_auc"])[~lost].any()


def test_shuffles_keep_class_counts_and_match_repeated_calls():
    cohort, score, _ = tied_cohort()
    grouping = cohort.groupings[0]
    shuffled = engine.shuffle(cohort, score, [grouping], threshold=None, n_permutations=5, seed=3)[0]
    strata = engine._strata(cohort.label, None)
    stream = np.random.default_rng(np.random.SeedSequence([3, 2]).spawn(1)[0])
    places = engine._permutations(strata, 5, stream)
    for b in range(5):
        code = grouping.code[places[:, b]]
        for side in (cohort.label, ~cohort.label):
            assert (np.bincount(code[side]) == np.bincount(grouping.code[side])).all()
        assert shuffled["es_auc"][b] == pytest.approx(float(equity_scaled_auc(cohort.label, score, code)), abs=1e-12)


def test_rates_under_shuffling_match_plain_counts():
    cohort, score, _ = tied_cohort()
    grouping = cohort.groupings[0]
    plan = engine._Plan(cohort.label, score, grouping, 0.5)
    code = np.random.default_rng(0).permutation(grouping.code)
    wanted = (*engine.WITHIN_LABEL, *engine.OVER_EVERYONE)
    found = plan.shuffled(code[:, None], wanted)
    plain = group_values(cohort.label, score, code, 3, 0.5)
    for name in wanted:
        assert found[name][:, 0] == pytest.approx(plain[name], abs=1e-12), name


def test_shuffling_moves_whole_patients():
    label = np.repeat([True, False], 40)
    patient = np.arange(80) // 4
    cohort = check_cohort(label, {"g": (patient % 3).astype(str)}, patients=patient)
    ((family, unit_of_row, strata),) = list(engine._families(cohort, cohort.groupings))
    assert family == [0]
    assert (unit_of_row == patient).all()
    assert [len(s) for s in strata] == [10, 10]
    # An attribute that varies within a patient: its units are the patient's rows of one group.
    mixed = check_cohort(label, {"eye": np.tile(["L", "R"], 40)}, patients=patient)
    ((_, unit_of_row, _),) = list(engine._families(mixed, mixed.groupings))
    assert len(np.unique(unit_of_row)) == 40


def test_the_same_seed_gives_the_same_report_whatever_the_threads(monkeypatch):
    label, score, group = binormal(np.random.default_rng(6), (50, 400), (0.7, 0.9))
    monkeypatch.setattr(engine, "_BLOCK_CELLS", 20_000)  # several blocks

    def report(seed):
        return FairnessReport.from_predictions(
            label, score, {"g": group}, n_resamples=200, n_permutations=200, seed=seed
        ).to_dict()

    several = report(1)
    monkeypatch.setattr(engine, "_MAX_THREADS", 1)
    assert report(1) == several
    assert report(2) != several


def test_a_planted_gap_is_found_and_no_gap_is_not():
    rng = np.random.default_rng(7)
    label, score, group = binormal(rng, (150, 600), (0.6, 0.9))
    race = FairnessReport.from_predictions(
        label, score, {"g": group, "coin": rng.choice(["h", "t"], 750)}, n_resamples=200, n_permutations=400
    )
    assert race["g"].chance["es_auc"].p_holm < 0.01
    assert race["g"].chance["es_auc"].beyond < -0.1
    assert race["coin"].chance["es_auc"].p_value > 0.05
    assert race["g"].es_auc in race["g"].intervals["es_auc"]


def test_permutation_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(8)
    p_values = []
    for seed in range(150):
        label, score, group = binormal(rng, (25, 60, 120), (0.8, 0.8, 0.8))
        report = FairnessReport.from_predictions(
            label, score, {"g": group}, n_resamples=0, n_permutations=99, seed=seed
        )
        p_values.append([c.p_value for c in report["g"].chance.values()])
    p_values = np.array(p_values)
    assert p_values.mean(0) == pytest.approx(0.5, abs=0.1)
    assert ((p_values <= 0.1).mean(0) < 0.2).all()


def test_small_groups_lower_es_auc_by_chance_and_the_report_says_so():
    rng = np.random.default_rng(9)
    label, score, group = binormal(rng, (20, 20, 400), (0.8,) * 3)
    chance = FairnessReport.from_predictions(label, score, {"g": group}, n_resamples=0, n_permutations=300)["g"].chance
    overall = FairnessReport.from_predictions(label, score, {}, n_resamples=0, n_permutations=0).overall.auc
    assert chance["es_auc"].expected < overall - 0.05
    assert chance["auc_spread"].expected > 0.08


def test_holm_equals_statsmodels():
    p_values = np.random.default_rng(0).random(9) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)
    gappy = np.array([0.01, np.nan, 0.02])
    assert holm(gappy)[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(holm(gappy)[1])


def test_holm_is_over_the_attributes_of_the_report():
    rng = np.random.default_rng(10)
    label, score, group = binormal(rng, (100, 300), (0.6, 0.9))
    groups = {"a": group, "b": rng.choice(["x", "y"], 400), "c": rng.choice(["x", "y"], 400)}
    report = FairnessReport.from_predictions(label, score, groups, n_resamples=0, n_permutations=200)
    raw = [report[name].chance["es_auc"].p_value for name in groups]
    corrected = [report[name].chance["es_auc"].p_holm for name in groups]
    assert corrected == pytest.approx(multipletests(raw, method="holm")[1], abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (5, 12), (12, 12), (80, 300)])
def test_rate_interval_is_wilsons(hits, n):
    interval = rate_interval(np.arange(n) < hits, None, 0.95)
    low, high = proportion_confint(hits, n, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_rate_interval_of_copied_rows_is_that_of_the_patients():
    hits = np.arange(40) < 13
    once, copied = rate_interval(hits, None, 0.95), rate_interval(np.repeat(hits, 5), np.repeat(np.arange(40), 5), 0.95)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=0.003)
    assert rate_interval(hits[:5], np.zeros(5, int), 0.95) is None


def test_score_interval_contains_exactly_what_is_not_contradicted():
    for auc, m, n in ((0.8, 12, 30), (0.55, 5, 5), (1.0, 8, 20), (0.0, 3, 9)):
        interval = auc_score_interval(auc, m, n)
        for bound in {interval.low, interval.high} - {0.0, 1.0}:
            half = (m + n) / 2 - 1
            variance = bound * (1 - bound) / (m * n)
            variance *= 1 + half * ((1 - bound) / (2 - bound) + bound / (1 + bound))
            assert abs(auc - bound) == pytest.approx(1.959964 * np.sqrt(variance), abs=2e-3)
        assert auc in interval
    assert auc_score_interval(1.0, 10, 10).high == 1.0
    mirrored = auc_score_interval(0.2, 12, 30)
    assert mirrored.low == pytest.approx(1 - auc_score_interval(0.8, 12, 30).high, abs=1e-9)


def test_auc_interval_is_never_of_width_zero():
    assert auc_interval(1.0, 500, 500, np.ones(100), 0.95).low < 1
    draws = np.random.default_rng(0).normal(0.9, 0.02, 5000)
    interval = auc_interval(0.9, 500, 500, draws, 0.95)
    assert interval.method == "bootstrap, logit"
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.02, rel=0.05)
    assert 0.9 - interval.low > interval.high - 0.9


def test_normal_interval_is_centred_and_cut():
    interval = normal_interval(0.02, np.random.default_rng(0).normal(0.1, 0.05, 4000), 0.9)
    assert interval.low == 0.0
    assert interval.high == pytest.approx(0.02 + 1.645 * 0.05, abs=0.005)
    assert normal_interval(0.5, np.full(10, np.nan), 0.95) is None


def test_large_sample_interval_reaches_from_no_gap_to_the_largest_plausible_gap():
    rng = np.random.default_rng(0)
    overall = 0.8 + 0.01 * rng.normal(size=4000)
    groups = np.stack([0.78 + 0.05 * rng.normal(size=4000), 0.82 + 0.04 * rng.normal(size=4000)])
    interval = es_large_sample_interval(0.8, np.array([0.78, 0.82]), overall, groups, 0.95)
    assert interval.high > 0.8  # a gap of zero is plausible, so the overall AUC is
    assert interval.low < 0.8 / (1 + 0.04 + 1.96 * 0.09)
    assert 0.8 / 1.04 in interval


def test_copies_of_rows_do_not_narrow_the_interval():
    label, score, group = binormal(np.random.default_rng(11), (60, 90), (0.75, 0.85))
    once = FairnessReport.from_predictions(label, score, {"g": group}, n_resamples=600, n_permutations=99)
    copies = {"g": np.repeat(group, 4)}
    copied = FairnessReport.from_predictions(
        np.repeat(label, 4), np.repeat(score, 4), copies, patients=np.repeat(np.arange(150), 4),
        n_resamples=600, n_permutations=99,
    )  # fmt: skip
    for ours, theirs in ((once.overall, copied.overall), (once["g"].groups["g0"], copied["g"].groups["g0"])):
        for figure in ("auc", "accuracy"):
            a, b = ours.intervals[figure], theirs.intervals[figure]
            assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.15)
    assert copied["g"].chance["es_auc"].expected == pytest.approx(once["g"].chance["es_auc"].expected, abs=0.02)
