"""Who is in the set: proportions, labels, patients, and that findings know nothing of groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, kruskal
from sklearn.metrics import roc_auc_score

from fairvlm_core.errors import InputError
from fairvlm_core.synth import SynthConfig
from fairvlm_core.synth.cohort import draw_cohort, draw_findings
from fairvlm_core.synth.config import ATTRIBUTES, BALANCED_SHARES, POSITIVE_RATE, REAL_SHARES

LARGE = SynthConfig(n_train=7000, n_val=1000, n_test=2000, seed=2)


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    return draw_cohort(LARGE)


@pytest.fixture(scope="module")
def findings(cohort: pd.DataFrame) -> pd.DataFrame:
    return draw_findings(LARGE, cohort)


def test_splits_have_the_sizes_asked_for_and_no_patient_is_in_two(cohort: pd.DataFrame) -> None:
    assert cohort["split"].value_counts().to_dict() == {"train": 7000, "val": 1000, "test": 2000}
    assert (cohort.groupby("patient_id")["split"].nunique() == 1).all()
    assert cohort["pair_id"].is_unique


def test_some_patients_bring_both_eyes_and_what_is_theirs_is_the_same_for_both(cohort: pd.DataFrame) -> None:
    by_patient = cohort.groupby("patient_id")
    sizes = by_patient.size()
    assert set(sizes) == {1, 2}
    both = cohort[cohort["patient_id"].isin(sizes.index[sizes == 2])].groupby("patient_id")
    assert (both["eye"].nunique() == 2).all()
    for name in (*ATTRIBUTES, "age", "marital_status"):
        assert (by_patient[name].nunique() == 1).all(), name


@pytest.mark.parametrize(("proportions", "shares"), [("real", REAL_SHARES), ("balanced", BALANCED_SHARES)])
def test_group_shares_lie_within_three_binomial_errors(proportions: str, shares: dict) -> None:
    cohort = draw_cohort(replace(LARGE, proportions=proportions))
    for name in ATTRIBUTES:
        for group, share in shares[name].items():
            # Both eyes of a patient count twice, which widens the binomial error a little.
            error = 3 * np.sqrt(1.2 * share * (1 - share) / len(cohort))
            assert abs((cohort[name] == group).mean() - share) <= error + 1e-9, (name, group)


def test_the_label_has_its_rate_and_is_independent_of_every_group(cohort: pd.DataFrame) -> None:
    assert abs(cohort["label"].mean() - POSITIVE_RATE) < 3 * np.sqrt(0.25 * 1.2 / len(cohort))
    for name in ATTRIBUTES:
        assert chi2_contingency(pd.crosstab(cohort[name], cohort["label"])).pvalue > 1e-3, name


def test_findings_do_not_depend_on_race_given_the_label(cohort: pd.DataFrame, findings: pd.DataFrame) -> None:
    for label in (0, 1):
        chosen = (cohort["label"] == label).to_numpy()
        for name in ("cdr_vertical", "iop", "md", "rnfl_thickness", "rnfl_defect_depth", "disc_radius_y"):
            groups = [findings[name][chosen & (cohort["race"] == race).to_numpy()] for race in REAL_SHARES["race"]]
            assert kruskal(*groups).pvalue > 1e-3, (label, name)


def test_spanish_speakers_are_mostly_hispanic_although_the_shares_hold(cohort: pd.DataFrame) -> None:
    spanish = cohort[cohort["language"] == "Spanish"]
    assert (spanish["ethnicity"] == "Hispanic").mean() > 0.6
    assert (cohort["ethnicity"] == "Hispanic").mean() == pytest.approx(0.037, abs=0.006)


def test_the_classes_overlap_as_in_a_clinic(cohort: pd.DataFrame, findings: pd.DataFrame) -> None:
    auc = roc_auc_score(cohort["label"], findings["cdr_vertical"])
    assert 0.93 < auc < 0.98
    by_diagnosis = findings.groupby("diagnosis")["cdr_vertical"].median()
    assert by_diagnosis["healthy"] < by_diagnosis["suspect"] < by_diagnosis["glaucoma"]
    assert ((findings["diagnosis"] == "glaucoma").to_numpy() == (cohort["label"] == 1).to_numpy()).all()


def test_findings_stay_in_their_ranges(findings: pd.DataFrame) -> None:
    for name, lowest, highest in (
        ("cdr_vertical", 0.1, 0.95), ("cdr_horizontal", 0.1, 0.95), ("iop", 8, 42), ("md", -30, 2),
        ("rnfl_thickness", 40, 125), ("cct", 440, 650), ("notch_depth", 0, 1), ("rnfl_defect_depth", 0, 1),
    ):  # fmt: skip
        assert findings[name].between(lowest, highest).all(), name
    assert (2 * findings["disc_radius_y"]).between(0.19, 0.31).all()
    assert ((findings["notch"] == "none") == (findings["notch_depth"] == 0)).all()
    assert ((findings["rnfl_defect"] == "none") == (findings["rnfl_defect_depth"] == 0)).all()


def test_a_split_does_not_change_with_the_size_of_another(cohort: pd.DataFrame, findings: pd.DataFrame) -> None:
    small = replace(LARGE, n_train=50)
    shrunk = draw_cohort(small)
    columns = ["split", "label", *ATTRIBUTES, "age", "eye"]
    test, test_small = cohort[cohort["split"] == "test"], shrunk[shrunk["split"] == "test"]
    pd.testing.assert_frame_equal(test[columns].reset_index(drop=True), test_small[columns].reset_index(drop=True))
    cups = findings["cdr_vertical"].to_numpy()[-2000:]
    np.testing.assert_array_equal(cups, draw_findings(small, shrunk)["cdr_vertical"].to_numpy()[-2000:])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"n_train": -1}, "n_train"),
        ({"n_val": 2.5}, "n_val"),
        ({"n_test": True}, "n_test"),
        ({"n_train": 0, "n_val": 0, "n_test": 0}, "n_train"),
        ({"seed": -3}, "seed"),
        ({"size": 16}, "size"),
        ({"size": -128}, "size"),
        ({"size": 100_000}, "size"),
        ({"site": "moon"}, "site"),
        ({"proportions": "fair"}, "proportions"),
        ({"mismatch_attribute": "income"}, "mismatch_attribute"),
        ({"mismatch_rate": 1.2}, "mismatch_rate"),
        ({"mismatch_rate": -0.1}, "mismatch_rate"),
        ({"mismatch_rate": float("nan")}, "mismatch_rate"),
        ({"mismatch_rate": "high"}, "mismatch_rate"),
        ({"mismatch_rate": {"Martian": 0.2}}, "mismatch_rate"),
        ({"mismatch_rate": {"Asian": 2.0}}, "mismatch_rate"),
        ({"mismatch_rate": {"Female": 0.2}}, "mismatch_rate"),
        ({"shortcut_rate": 7}, "shortcut_rate"),
        ({"group_appearance": 1.5}, "group_appearance"),
        ({"mismatch_rate": 0.8, "shortcut_rate": 0.3}, "mismatch_rate, shortcut_rate"),
        ({"n_train": 8}, "n_train"),
        ({"n_train": 3, "shortcut_rate": 0}, "n_train"),
    ],
)
def test_bad_configurations_are_refused_in_one_line_that_names_the_argument(settings: dict, named: str) -> None:
    with pytest.raises(InputError) as caught:
        SynthConfig(**settings)
    message = str(caught.value)
    assert message.startswith(named)
    assert "\n" not in message


def test_a_mapping_is_copied_and_its_star_stands_for_the_groups_not_named() -> None:
    rates = {"Asian": 0.4, "*": 0.1}
    config = SynthConfig(mismatch_rate=rates)
    rates["Asian"] = 0.9
    assert [config.rate_of(group) for group in ("Asian", "Black", "White")] == [0.4, 0.1, 0.1]
    assert SynthConfig(mismatch_rate={"Asian": 0.4}).rate_of("White") == 0
