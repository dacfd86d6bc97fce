"""Point values against closed forms, scikit-learn, fairlearn and the released evaluation code."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, demographic_parity_difference, equalized_odds_difference
from fairness_data import auc_by_pairs, binormal
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from fairvlm_core.fairness import (
    EquityScaled,
    FairnessReport,
    Undefined,
    equity_scaled_accuracy,
    equity_scaled_auc,
    roc_auc,
)


def points(label, score, attributes, **settings):
    return FairnessReport.from_predictions(label, score, attributes, n_resamples=0, n_permutations=0, **settings)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60))
def test_auc_with_many_ties_is_the_share_of_won_pairs(rows):
    label, score = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 6
    if label.all() or not label.any():
        return
    assert roc_auc(label, score) == pytest.approx(auc_by_pairs(label, score), abs=1e-12)
    assert roc_auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_auc_is_unchanged_by_monotone_maps_and_mirrored_by_swapped_labels():
    label, score, _ = binormal(np.random.default_rng(0), (300,), (0.8,))
    auc = roc_auc(label, score)
    assert roc_auc(label, np.log(score)) == pytest.approx(auc, abs=1e-12)
    assert roc_auc(~label, score) == pytest.approx(1 - auc, abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 12])
def test_every_group_auc_equals_scikit_learn(decimals):
    label, score, group = binormal(np.random.default_rng(1), (40, 90, 300), (0.6, 0.8, 0.9))
    score = score.round(decimals)
    es = equity_scaled_auc(label, score, group)
    overall = roc_auc_score(label, score)
    by_group = {name: roc_auc_score(label[group == name], score[group == name]) for name in np.unique(group)}
    assert es.groups == pytest.approx(by_group, abs=1e-12)
    assert float(es) == pytest.approx(overall / (1 + sum(abs(overall - a) for a in by_group.values())), abs=1e-12)
    assert es.overall == pytest.approx(overall, abs=1e-12)
    assert not es.partial


def test_equity_scaled_values_are_floats_that_survive_pickle_and_arithmetic():
    es = equity_scaled_accuracy([0, 1, 0, 1], [0.1, 0.8, 0.7, 0.9], ["a", "a", "b", "b"])
    assert isinstance(es, EquityScaled)
    assert es + 1 == 1.5
    back = pickle.loads(pickle.dumps(es))
    assert (float(back), back.groups, back.overall) == (float(es), es.groups, es.overall)


def test_rates_and_gaps_equal_fairlearn():
    rng = np.random.default_rng(2)
    label, score, group = binormal(rng, (60, 150, 400), (0.7, 0.8, 0.9))
    predicted = score >= 0.5
    result = points(label, score, {"g": group})["g"]
    accuracy = MetricFrame(metrics=accuracy_score, y_true=label, y_pred=predicted, sensitive_features=group)
    auc = MetricFrame(metrics=roc_auc_score, y_true=label, y_pred=score, sensitive_features=group)
    recall = MetricFrame(metrics=recall_score, y_true=label, y_pred=predicted, sensitive_features=group)
    for name, values in result.groups.items():
        assert values.accuracy == pytest.approx(accuracy.by_group[name], abs=1e-12)
        assert values.auc == pytest.approx(auc.by_group[name], abs=1e-12)
        assert values.true_positive_rate == pytest.approx(recall.by_group[name], abs=1e-12)
    assert result.accuracy_gap == pytest.approx(accuracy.difference(), abs=1e-12)
    assert result.auc_gap == pytest.approx(auc.difference(), abs=1e-12)
    assert result.worst_group_auc == pytest.approx(auc.group_min(), abs=1e-12)
    parity = demographic_parity_difference(label, predicted, sensitive_features=group)
    odds = equalized_odds_difference(label, predicted, sensitive_features=group)
    assert result.demographic_parity_difference == pytest.approx(parity, abs=1e-12)
    assert result.equalized_odds_difference == pytest.approx(odds, abs=1e-12)


def test_calibration_error_by_hand():
    # Bin 0.2-0.3: mean score 0.25, share positive 0.5; bin 0.9-1: mean 0.95, share 1. Half of the rows each.
    report = points([0, 1, 1, 1], [0.25, 0.25, 0.95, 0.95], {})
    assert report.overall.calibration_error == pytest.approx(0.5 * 0.25 + 0.5 * 0.05, abs=1e-12)


def test_calibration_error_of_a_calibrated_model_is_what_chance_gives():
    rng = np.random.default_rng(3)
    score = rng.random(4000)
    errors = [points(rng.random(4000) < score, score, {}).overall for _ in range(200)]
    seen = np.mean([e.calibration_error for e in errors])
    assert seen == pytest.approx(errors[0].calibration_error_by_chance, rel=0.05)


def test_released_evaluation_code_gives_the_same_values(shared):
    path = shared / "reference" / "oracles.json"
    if not path.is_file():
        pytest.skip("reference/oracles.json is missing beside the project")
    cases = json.loads(path.read_text(encoding="utf-8"))["fairness"]
    assert len(cases) >= 2
    for case in cases:
        expected = case["expected"]
        report = points(case["label"], case["score"], case["attributes"])
        assert report.overall.auc == pytest.approx(expected["auc"], abs=1e-6)
        assert report.overall.accuracy == pytest.approx(expected["accuracy"], abs=1e-6)
        for name in case["attributes"]:
            result, theirs = report[name], expected[name]
            for figure in ("es_auc", "es_accuracy", "demographic_parity_difference", "equalized_odds_difference"):
                assert getattr(result, figure) == pytest.approx(theirs[figure], abs=1e-6), (name, figure)
            aucs = [group.auc for group in result.groups.values()]
            assert aucs == pytest.approx(theirs["group_auc"], abs=1e-6)
            assert float(equity_scaled_auc(case["label"], case["score"], case["attributes"][name])) == pytest.approx(
                theirs["es_auc"], abs=1e-6
            )


def test_fairlearn_skips_an_undefined_group_and_we_do_not():
    label = np.array([0, 1, 0, 1, 0, 1, 1, 1])
    score = np.array([0.1, 0.8, 0.7, 0.4, 0.2, 0.9, 0.3, 0.6])
    group = np.array(list("aabbaacc"))

    def auc_or_nan(y_true, y_pred):
        return roc_auc_score(y_true, y_pred) if len(np.unique(y_true)) == 2 else np.nan

    frame = MetricFrame(metrics=auc_or_nan, y_true=label, y_pred=score, sensitive_features=group)
    assert np.isnan(frame.by_group["c"])
    assert frame.difference() == 1.0  # nothing tells that c is not in it
    result = points(label, score, {"g": group})["g"]
    assert result.auc_gap == 1.0
    assert result.partial
    assert result.undefined == {"c": "n+ = 2, n- = 0"}
    assert result.groups["c"].auc == Undefined("n+ = 2, n- = 0")
