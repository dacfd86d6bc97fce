"""The report: what is undefined, unknown, left out or too small is said; JSON has the contract's keys; input is checked."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from fairness_data import binormal

from fairvlm_core.errors import InputError
from fairvlm_core.fairness import FairnessReport, Undefined, equity_scaled_auc, roc_auc

QUICK = {"n_resamples": 60, "n_permutations": 40}


def points(label, score, attributes, **settings):
    return FairnessReport.from_predictions(label, score, attributes, n_resamples=0, n_permutations=0, **settings)


def cohort(seed=0, sizes=(30, 80, 200)):
    return binormal(np.random.default_rng(seed), sizes, (0.8,) * len(sizes))


def test_fault_02_a_group_with_one_class_is_undefined_shown_and_marks_es_auc_partial():
    label, score, group = cohort()
    group = np.where((group == "g0") & ~label, "only negatives", group)
    report = FairnessReport.from_predictions(label, score, {"site": group}, **QUICK)
    site, n = report["site"], int((group == "only negatives").sum())
    lost = site.groups["only negatives"]
    assert str(lost.auc) == f"undefined (n+ = 0, n- = {n})"
    assert isinstance(lost.true_positive_rate, Undefined)
    assert 0 <= lost.false_positive_rate <= 1
    assert (lost.n, lost.n_positive, lost.n_negative) == (n, 0, n)
    assert site.partial
    assert set(site.undefined) == {"only negatives", "g0"}
    es = equity_scaled_auc(label, score, group)
    assert es.partial
    assert set(es.undefined) == set(site.undefined)
    assert float(es) == site.es_auc
    json_group = report.to_dict()["attributes"]["site"]["groups"]["only negatives"]
    assert json_group["auc"] is None
    assert json_group["undefined"]["auc"] == f"n+ = 0, n- = {n}"
    assert "auc" not in json_group["intervals"]


def test_fault_03_a_group_of_one_shows_its_n_without_an_interval():
    label, score, group = cohort()
    group = np.array(group, dtype="<U8")
    group[0] = "single"
    report = FairnessReport.from_predictions(label, score, {"site": group}, **QUICK)
    single = report["site"].groups["single"]
    assert single.n == single.n_patients == 1
    assert single.intervals == {}
    assert isinstance(single.auc, Undefined)
    assert report["site"].partial
    assert report["site"].groups["g1"].intervals["auc"].low < report["site"].groups["g1"].auc
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_group_of_two_has_an_auc_and_an_honest_interval():
    label, score, group = cohort()
    group = np.array(group, dtype="<U8")
    group[[int(np.flatnonzero(label)[0]), int(np.flatnonzero(~label)[0])]] = "pair"
    pair = FairnessReport.from_predictions(label, score, {"site": group}, **QUICK)["site"].groups["pair"]
    assert pair.n == 2
    assert pair.intervals["auc"].high - pair.intervals["auc"].low > 0.7


@pytest.mark.parametrize("missing", [None, "", " ", "-1", "nan", float("nan")])
def test_a_missing_attribute_is_the_group_unknown_last(missing):
    label, score, group = cohort()
    values = group.astype(object)
    values[:25] = missing
    groups = points(label, score, {"site": values})["site"].groups
    assert list(groups)[-1] == "Unknown"
    assert groups["Unknown"].n == 25


def test_codes_sort_by_value_and_minus_one_is_unknown():
    label, score, _ = cohort()
    codes = np.random.default_rng(0).choice([-1, 2, 10], len(label))
    for values in (codes, codes.astype(float), codes.astype(str), codes.astype(object)):
        assert list(points(label, score, {"site": values})["site"].groups) == ["2", "10", "Unknown"]


def test_leaving_a_group_out_equals_dropping_its_rows_and_is_recorded():
    label, score, group = cohort()
    full = FairnessReport.from_predictions(label, score, {"site": group}, exclude={"site": ["g1"]}, **QUICK)
    keep = group != "g1"
    alone = points(label[keep], score[keep], {"site": group[keep]})
    assert full["site"].left_out == {"g1": 80}
    assert full["site"].n == 230
    assert full["site"].es_auc == alone["site"].es_auc
    assert full["site"].overall.auc == alone.overall.auc
    assert full.overall.n == 310
    assert full.to_dict()["attributes"]["site"]["left_out"] == {"g1": 80}


def test_intersections_list_the_cells_that_are_too_small():
    label, score, group = cohort()
    sex = np.random.default_rng(1).choice(["F", "M"], len(label))
    report = FairnessReport.from_predictions(
        label, score, {"site": group, "sex": sex}, intersections=2, min_cell=20, **QUICK
    )
    crossed = report["site × sex"]
    sizes = {f"{a} × {b}": int(((group == a) & (sex == b)).sum()) for a in np.unique(group) for b in "FM"}
    assert crossed.left_out == {cell: n for cell, n in sizes.items() if n < 20}
    assert crossed.left_out
    assert {name: g.n for name, g in crossed.groups.items()} == {c: n for c, n in sizes.items() if n >= 20}
    assert crossed.groups["g2 × F"].auc == roc_auc(
        label[(group == "g2") & (sex == "F")], score[(group == "g2") & (sex == "F")]
    )
    assert list(report.attributes) == ["site", "sex"]
    triple = points(label, score, {"site": group, "sex": sex, "sex2": sex}, intersections=3, min_cell=400)
    assert str(triple["site × sex × sex2"].es_auc) == "undefined (no cell is large enough)"


def test_json_has_the_contract_and_no_nan():
    label, score, group = cohort()
    sex = np.where(np.arange(len(label)) % 2, "F", "M")
    plain = FairnessReport.from_predictions(label, score, {"site": group, "sex": sex}, **QUICK).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert {"n", "auc", "accuracy"} <= set(plain["overall"])
    wanted = {"es_auc", "es_accuracy", "demographic_parity_difference", "equalized_odds_difference", "groups"}
    for attribute in plain["attributes"].values():
        assert wanted <= set(attribute)
        for values in attribute["groups"].values():
            assert {"n", "n_positive", "auc"} <= set(values)
    # Every figure that has an interval or a chance level has a value beside it.
    site = plain["attributes"]["site"]
    assert set(site["chance"]) <= set(site)
    assert {"es_auc", "equalized_odds_difference"} <= set(site["chance"])


def test_one_group_only_has_no_gap_rather_than_a_gap_of_zero():
    label, score, _ = cohort()
    site = points(label, score, {"site": np.full(len(label), "x")})["site"]
    assert str(site.demographic_parity_difference) == "undefined (one group only)"
    assert site.es_auc == pytest.approx(roc_auc(label, score), abs=1e-15)


def test_without_a_threshold_any_scale_gives_auc_and_says_what_is_missing():
    label, score, group = cohort()
    logits = np.log(score / (1 - score))
    report = FairnessReport.from_predictions(label, logits, {"site": group}, threshold=None, **QUICK)
    expected = points(label, score, {"site": group})
    assert report["site"].es_auc == pytest.approx(expected["site"].es_auc, abs=1e-12)
    assert str(report["site"].es_accuracy) == "undefined (no threshold)"
    assert report["site"].groups["g0"].prevalence == expected["site"].groups["g0"].prevalence


def test_an_attribute_may_be_called_overall():
    label, score, group = cohort()
    named = FairnessReport.from_predictions(label, score, {"overall": group}, **QUICK)
    plain = FairnessReport.from_predictions(label, score, {"site": group}, **QUICK)
    assert named.overall == plain.overall
    assert named["overall"].intervals == plain["site"].intervals


GOOD = {"label": [0, 1, 0, 1], "score": [0.1, 0.9, 0.4, 0.6], "attributes": {"a": list("xxyy")}}
BAD = {
    "lengths": ({"score": [0.1, 0.9]}, "score: 2 values for 4 labels"),
    "score-nan": ({"score": [0.1, np.nan, 0.4, 0.6]}, "score: row 1 is nan"),
    "score-inf": ({"score": [0.1, 0.2, np.inf, 0.6]}, "score: row 2 is inf"),
    "score-text": ({"score": ["0.1", "high", "0.4", "0.6"]}, "score: row 1 is 'high'"),
    "score-range": ({"score": [0.1, 1.9, 0.4, 0.6]}, "sigmoid for logits"),
    "score-2d": ({"score": [[0.1, 0.9]] * 4}, "score: a one-dimensional array"),
    "label-2": ({"label": [0, 1, 2, 1]}, "label: row 2 is 2"),
    "label-nan": ({"label": [0, 1, np.nan, 1]}, "label: row 2 is nan"),
    "label-text": ({"label": ["0", "yes", "0", "1"]}, "label: row 1 is 'yes'"),
    "one-class": ({"label": [1, 1, 1, 1]}, "label: all 4 rows have label 1"),
    "empty": ({"label": [], "score": [], "attributes": {}}, "label: it is empty"),
    "attribute-length": ({"attributes": {"a": list("xxy")}}, "attribute 'a': shape"),
    "attribute-fractions": ({"attributes": {"age": [1.5, 2.5, 3.1, 4.0]}}, "attribute 'age': has fractions"),
    "attributes-list": ({"attributes": list("xxyy")}, "attributes: a mapping"),
    "exclude-unknown-attribute": ({"exclude": {"b": ["x"]}}, "exclude: there is no attribute 'b'; there are a"),
    "exclude-unknown-group": ({"exclude": {"a": ["z"]}}, "exclude: attribute 'a' has no group 'z'; it has x, y"),
    "exclude-text": ({"exclude": {"a": "x"}}, "exclude: 'a' needs a list"),
    "exclude-all": ({"exclude": {"a": ["x", "y"]}}, "every group is left out"),
    "cross-unknown": ({"intersections": [("a", "b")]}, "intersections: there is no attribute 'b'"),
    "cross-itself": ({"intersections": [("a", "a")]}, "two or three different"),
    "patients-length": ({"patients": ["p"]}, "patients: shape (1,) for 4 labels"),
    "threshold": ({"threshold": 1.5}, "threshold: 1.5 is not a probability"),
    "confidence": ({"confidence": 95}, "confidence: 95"),
    "resamples": ({"n_resamples": -1}, "n_resamples: -1"),
    "permutations": ({"n_permutations": 2.5}, "n_permutations: 2.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_the_argument(case):
    change, line = BAD[case]
    arguments = GOOD | {"n_resamples": 0, "n_permutations": 0} | change
    with pytest.raises(InputError) as caught:
        FairnessReport.from_predictions(**arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_attribute_of_a_report_names_those_there_are():
    with pytest.raises(InputError, match="no 'race' in this report; there are a"):
        points(**GOOD)["race"]


def test_several_rows_a_patient_are_fine_and_counted():
    label, score, group = cohort()
    patients = np.arange(len(label)) // 2
    report = FairnessReport.from_predictions(label, score, {"site": group}, patients=patients, **QUICK)
    assert report.overall.n_patients == 155
    assert report["site"].groups["g0"].n_patients == 15
    ids = np.array([f"p{i}" for i in patients], object)
    same = FairnessReport.from_predictions(label, score, {"site": group}, patients=ids, **QUICK)
    assert same.overall.n_patients == 155


def test_the_package_needs_neither_torch_nor_pandas():
    program = (
        "import sys, fairvlm_core.fairness as f; f.METRICS; print({'torch', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
