"""Intake warnings: typed, stored with a run, and read back from older runs that stored the sentence alone."""

from __future__ import annotations

import json

import pytest

from fairvlm_core import PairTable
from fairvlm_core.intake.warning import IntakeWarning, WarningKind


def test_each_kind_found_says_what_it_concerns(manifest, rows):
    for row in rows:
        row["race"] = "Asian" if row["split"] == "val" else "Black"
    warnings = PairTable.read(manifest(rows)).report.warnings
    absent = [w for w in warnings if w.kind is WarningKind.GROUPS_ABSENT and w.attribute == "race"]
    assert {(w.split, w.values["groups"]) for w in absent} == {("train", "Asian"), ("val", "Black"), ("test", "Asian")}
    assert [IntakeWarning.from_stored(json.loads(json.dumps(w.to_dict()))) for w in warnings] == warnings


@pytest.mark.parametrize("kind", WarningKind)
def test_every_kind_about_an_attribute_is_hidden_with_small_groups(kind):
    """The rule depends on the kind: rewording a sentence cannot show a hidden count."""
    expected = kind.name.startswith("GROUP") or kind in (
        WarningKind.NOT_NUMBERS, WarningKind.UNNAMED_VALUES, WarningKind.ONE_GROUP, WarningKind.MANY_GROUPS,
        WarningKind.SAME_BUT_CASE, WarningKind.OFTEN_UNKNOWN, WarningKind.VARIES_IN_PATIENT,
    )  # fmt: skip
    assert kind.about_groups is expected


def test_sentences_of_older_runs_and_kinds_of_later_versions():
    old = IntakeWarning.from_stored("attribute race, split val: nobody in group Asian")
    assert old.kind.about_groups
    assert str(old) == "attribute race, split val: nobody in group Asian"
    known = "2 pairs have no patient_id; each counts as a patient of its own"
    assert not IntakeWarning.from_stored(known).kind.about_groups
    assert IntakeWarning.from_stored("2 patients have no entry for race").kind.about_groups
    later = IntakeWarning.from_stored({"kind": "of-2031", "values": {}, "text": "race: 3 pairs"})
    assert later.kind.about_groups
    assert str(later) == "race: 3 pairs"
    damaged = IntakeWarning.from_stored({"kind": "no-patient", "values": {}, "text": "2 pairs"})
    assert damaged.kind.about_groups
    assert str(damaged) == "2 pairs"
