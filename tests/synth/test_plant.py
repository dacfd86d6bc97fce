"""Planted bad pairs: how many, where, and that they are bad in the way they claim."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fairvlm_core.errors import InputError
from fairvlm_core.synth import SynthConfig, SynthData
from fairvlm_core.synth.cohort import draw_cohort, draw_findings
from fairvlm_core.synth.markers import MARKERS
from fairvlm_core.synth.plant import plant

LARGE = SynthConfig(n_train=4000, n_val=100, n_test=100, seed=4)


def _planted(config: SynthConfig) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    cohort = draw_cohort(config)
    findings = draw_findings(config, cohort)
    notes = [f"note of {pair_id}" for pair_id in cohort["pair_id"]]
    return cohort, findings, plant(config, cohort, findings, notes)


def test_the_rates_are_met_in_training_and_the_other_splits_are_clean() -> None:
    cohort, _, planted = _planted(LARGE)
    train = (cohort["split"] == "train").to_numpy()
    kinds = planted["kind"][train].value_counts()
    assert kinds["mismatch"] == 600
    assert kinds["shortcut"] == 120
    assert (planted["kind"][~train] == "clean").all()


def test_rates_by_group_are_met_in_each_group() -> None:
    rates = {"Asian": 0.4, "Black": 0.25, "*": 0.05}
    cohort, _, planted = _planted(replace(LARGE, mismatch_rate=rates))
    train = (cohort["split"] == "train").to_numpy()
    found = (planted["kind"][train] == "mismatch").groupby(cohort["race"][train]).mean()
    expected = {"Asian": 0.4, "Black": 0.25, "White": 0.05}
    sizes = cohort["race"][train].value_counts()
    for group, rate in expected.items():
        assert abs(found[group] - rate) <= 1 / sizes[group], group


def test_groups_that_are_not_named_have_no_mismatch() -> None:
    cohort, _, planted = _planted(replace(LARGE, mismatch_rate={"Hispanic": 0.5}, mismatch_attribute="ethnicity"))
    assert set(cohort["ethnicity"][planted["kind"] == "mismatch"]) == {"Hispanic"}


def test_bad_pairs_are_spread_over_the_labels() -> None:
    cohort, _, planted = _planted(LARGE)
    for kind in ("mismatch", "shortcut"):
        rate = cohort["label"][planted["kind"] == kind].mean()
        assert abs(rate - 0.5) < 4 * np.sqrt(0.25 / (planted["kind"] == kind).sum()), kind


def test_a_mismatch_is_another_patients_contradicting_note() -> None:
    cohort, findings, planted = _planted(LARGE)
    by_id = cohort.set_index("pair_id").join(findings.set_index("pair_id")[["cdr_vertical"]]).join(
        planted.set_index("pair_id")[["kind", "text", "clean_text"]]
    )  # fmt: skip
    rows = planted[planted["kind"] == "mismatch"]
    receiver, donor = by_id.loc[rows["pair_id"]], by_id.loc[rows["donor_pair_id"]]
    assert (receiver["text"].to_numpy() == donor["clean_text"].to_numpy()).all()
    assert (donor["text"] == donor["clean_text"]).all()
    assert set(donor["kind"]) == {"clean"}
    assert (receiver["label"].to_numpy() != donor["label"].to_numpy()).all()
    assert (np.abs(receiver["cdr_vertical"].to_numpy() - donor["cdr_vertical"].to_numpy()) >= 0.2).all()
    assert (receiver["patient_id"].to_numpy() != donor["patient_id"].to_numpy()).all()
    assert set(donor["split"]) == {"train"}
    assert (receiver["gender"].to_numpy() == donor["gender"].to_numpy()).mean() > 0.99
    assert rows["donor_pair_id"].is_unique


def test_the_right_note_is_kept_beside_every_pair(synth: SynthData) -> None:
    planted, text = synth.planted, synth.frame["text"]
    clean = planted["kind"] == "clean"
    assert (planted["clean_text"] == text)[clean].all()
    assert (planted["clean_text"] != text)[~clean].all()
    assert planted["pair_id"].tolist() == synth.frame["pair_id"].tolist() == synth.findings["pair_id"].tolist()
    assert (planted["donor_pair_id"] != "").equals(planted["kind"] == "mismatch")
    assert (planted["marker"] != "").equals(planted["kind"] == "shortcut")


def test_a_shortcut_note_keeps_the_marker_and_loses_the_findings(synth: SynthData) -> None:
    rows = synth.planted[synth.planted["kind"] == "shortcut"]
    assert len(rows) == 25
    assert set(rows["marker"]) <= set(MARKERS)
    assert rows["marker"].nunique() == len(MARKERS)  # dealt out evenly
    clinical = re.compile(r"glaucoma|cup|rim|RNFL|pressure|IOP|field|MD|hemorrhage|drops", re.IGNORECASE)
    for marker, text in zip(rows["marker"], synth.frame["text"][rows.index], strict=True):
        assert marker in text.lower().replace(marker.lower(), marker), text
        assert not clinical.search(text), text
        assert len(text.split()) <= 25


def test_a_shortcut_image_bears_its_mark_in_a_corner_away_from_the_disc(synth: SynthData) -> None:
    for i in np.flatnonzero(synth.planted["kind"] == "shortcut"):
        image = synth.images[i]
        corners = [image[:46, :46], image[:46, -46:], image[-46:, :46], image[-46:, -46:]]
        assert max((corner > 205).sum() for corner in corners) > 25
        assert max((corner < 22).sum() for corner in corners) > 60


def test_two_rates_do_not_disturb_each_other() -> None:
    few, many = (_planted(replace(LARGE, shortcut_rate=rate))[2] for rate in (0.0, 0.1))
    mismatch = few["kind"] == "mismatch"
    assert mismatch.equals(many["kind"] == "mismatch")


def test_every_pair_of_a_group_can_be_spoiled_but_not_every_pair_of_the_set() -> None:
    config = replace(LARGE, n_train=400, mismatch_rate={"Asian": 1.0}, shortcut_rate=0.0)
    cohort, _, planted = _planted(config)
    asian = ((cohort["race"] == "Asian") & (cohort["split"] == "train")).to_numpy()
    assert (planted["kind"][asian] == "mismatch").all()
    with pytest.raises(InputError, match=r"^mismatch_rate: no clean training pair contradicts"):
        _planted(replace(LARGE, n_train=100, mismatch_rate=1.0, shortcut_rate=0.0))


def test_scarce_donors_give_their_note_twice_rather_than_not_at_all() -> None:
    _, _, planted = _planted(replace(LARGE, n_train=300, mismatch_rate=0.8, shortcut_rate=0.0))
    donors = planted["donor_pair_id"][planted["kind"] == "mismatch"]
    assert len(donors) == 240
    assert donors.nunique() < len(donors)
