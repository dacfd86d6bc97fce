"""Curves and thresholds by group, against scikit-learn, fairlearn and planted shifts."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fairlearn.metrics import equalized_odds_difference
from fairness_data import binormal
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from fairvlm_core.errors import InputError
from fairvlm_core.fairness import (
    Undefined,
    equalized_odds_what_if,
    precision_recall_by_group,
    roc_by_group,
    threshold_effect,
    thresholds_at_specificity,
)


def shifted(seed=0):
    """Two groups that are ranked equally well; the first one's scores are all higher."""
    label, score, group = binormal(np.random.default_rng(seed), (300, 500), (0.85, 0.85))
    logit = np.log(score / (1 - score)) + 1.2 * (group == "g0")
    return label, 1 / (1 + np.exp(-logit)), group


@pytest.mark.parametrize("decimals", [1, 12])
def test_roc_equals_scikit_learn(decimals):
    label, score, group = shifted()
    score = score.round(decimals)
    curves = roc_by_group(label, score, group)
    for name in ("g0", "g1"):
        mine = group == name
        false, true, cuts = roc_curve(label[mine], score[mine], drop_intermediate=False)
        ours = curves[name]
        place = np.searchsorted(-cuts, -ours.thresholds)
        assert cuts[place] == pytest.approx(ours.thresholds, abs=0)
        assert ours.false_positive_rate == pytest.approx(false[place], abs=1e-12)
        assert ours.true_positive_rate == pytest.approx(true[place], abs=1e-12)
        # What was left out lies on the straight pieces between the corners.
        along = ours.false_positive_rate + ours.true_positive_rate
        assert np.interp(false + true, along, ours.true_positive_rate) == pytest.approx(true, abs=1e-12)
        assert len(place) <= len(roc_curve(label[mine], score[mine])[0])
        area = np.trapezoid(ours.true_positive_rate, ours.false_positive_rate)
        assert area == pytest.approx(roc_auc_score(label[mine], score[mine]), abs=1e-12)
        assert ours.n_positive == label[mine].sum()


def test_precision_recall_equals_scikit_learn():
    label, score, group = shifted()
    score = score.round(2)
    curves = precision_recall_by_group(label, score, group)
    for name in ("g0", "g1"):
        mine = group == name
        precision, recall, _ = precision_recall_curve(label[mine], score[mine])
        assert curves[name].precision == pytest.approx(precision[:-1][::-1], abs=1e-12)
        assert curves[name].recall == pytest.approx(recall[:-1][::-1], abs=1e-12)
        expected = average_precision_score(label[mine], score[mine])
        assert curves[name].average_precision == pytest.approx(expected, abs=1e-12)


def test_a_group_without_positives_has_no_curve():
    curves = precision_recall_by_group([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3], list("aabb"))
    assert curves["b"] == Undefined("n+ = 0, n- = 2")
    assert roc_by_group([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3], list("aabb"))["b"] == Undefined("n+ = 0, n- = 2")


def test_thresholds_a_group_undo_a_planted_shift():
    label, score, group = shifted()
    cut = 1 / (1 + np.exp(-1.2))
    one, two = threshold_effect(label, score, group), threshold_effect(label, score, group, {"g0": cut, "g1": 0.5})
    assert one.true_positive_rate_gap > 0.15
    assert two.true_positive_rate_gap < 0.08
    assert one.equalized_odds_difference == pytest.approx(
        equalized_odds_difference(label, score >= 0.5, sensitive_features=group), abs=1e-12
    )
    assert np.isnan(two.overall.threshold)
    assert one.overall.threshold == 0.5


@pytest.mark.parametrize("wanted", [0.0, 0.8, 0.95, 1.0])
def test_sensitivity_at_a_specificity_is_the_best_that_keeps_it(wanted):
    label, score, group = shifted()
    score = score.round(2)
    everyone = thresholds_at_specificity(label, score, group, wanted).overall
    assert 1 - everyone.false_positive_rate >= wanted
    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    assert everyone.true_positive_rate == pytest.approx(true[1 - false >= wanted - 1e-12].max(), abs=1e-12)
    for point in thresholds_at_specificity(label, score, group, wanted, per_group=True).groups.values():
        assert 1 - point.false_positive_rate >= wanted


def test_a_group_of_one_class_stays_visible_in_the_effect():
    effect = threshold_effect([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3], list("aabb"))
    assert effect.partial
    assert str(effect.groups["b"].true_positive_rate) == "undefined (n+ = 0, n- = 2)"
    assert str(effect.true_positive_rate_gap) == "undefined (fewer than two groups have a value)"
    assert effect.false_positive_rate_gap == 0.0


def test_equalised_odds_what_if_closes_the_gap():
    label, score, group = shifted()
    before, after = threshold_effect(label, score, group), equalized_odds_what_if(label, score, group)
    assert before.equalized_odds_difference > 0.15
    assert after.equalized_odds_difference < 0.05
    again = equalized_odds_what_if(label, score, group)
    assert again.equalized_odds_difference == after.equalized_odds_difference


def test_without_fairlearn_the_what_if_says_how_to_get_it(monkeypatch):
    label, score, group = shifted()
    monkeypatch.setitem(sys.modules, "fairlearn.postprocessing", None)
    with pytest.raises(InputError, match=r"pip install 'fairvlm\[fairness\]'"):
        equalized_odds_what_if(label, score, group)


BAD = {
    "missing": (lambda a: threshold_effect(*a, {"a": 0.5}), "thresholds: group 'b' has none"),
    "extra": (lambda a: threshold_effect(*a, {"a": 0.5, "b": 0.5, "c": 1}), "thresholds: there is no group 'c'"),
    "specificity": (lambda a: thresholds_at_specificity(*a, 95), "specificity: 95 is not a share"),
    "no-negatives": (lambda a: thresholds_at_specificity(*a, per_group=True), "'b' has no negatives (n+ = 1)"),
    "one-class": (lambda a: equalized_odds_what_if(*a), "'b' has n+ = 1, n- = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    call, line = BAD[case]
    with pytest.raises(InputError) as caught:
        call(([0, 1, 1], [0.1, 0.9, 0.8], list("aab")))
    assert line in str(caught.value)
