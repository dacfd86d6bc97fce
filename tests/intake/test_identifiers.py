"""Likely identifiers in notes: what is found of planted ones, and how often a clinical note is taken for one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fairvlm_core.intake import count_identifiers
from fairvlm_core.intake.text import IDENTIFIERS
from fairvlm_core.pairs import PairTable
from fairvlm_core.synth import SynthConfig, synthesize

PLANTED = {
    "dates": (
        "03/04/2021", "3/4/21", "2021-03-04", "04.03.2021", "12-05-1999", "12-May-2020", "March 4, 2021", "4 March 2021",
        "the 4th of March 2021", "Mar 2021", "March 2021", "Sept. 2019", "on March 4", "on the 4th of March", "12 Jan 1987",
        "1987/01/12", "since 03/2021", "5 Nov", "Dec 24", "june 3rd, 1999",
    ),
    "phone-like numbers": (
        "617-555-0123", "(617) 555-0123", "617 555 0123", "617.555.0123", "+1 617 555 0123", "+16175550123",
        "+49 (30) 1234 5678", "Tel. 555-0123", "call 555 0123", "phone: 5550123", "(030) 1234-5678", "020 7946 0958",
        "mobile 555-01-23", "fax no. 555-0123", "1-617-555-0123",
    ),
    "record numbers": (
        "MRN 0012345", "MRN: 12345678", "MRN#445566", "record no. 123456", "Record number 99887", "chart 12345",
        "accession A1234567", "patient ID 123456", "Patient No: AB-123456", "case 2021-12345", "hospital number 123456",
        "SSN 123-45-6789", "123-45-6789", "NHS number 9434765919", "00123456",
    ),
    "names after a title": (
        "Mr. Smith", "Mr Smith", "Mrs. O'Neill", "Ms. García", "Dr. Miller", "Dr Müller-Lüdenscheidt", "Dr. van der Berg",
        "Prof. Ångström", "Miss Jones", "Dr. J. Smith", "Dr.Miller", "Mrs de la Cruz", "Doctor Brown", "Professor Chen",
        "Ms. X",
    ),
    "e-mail addresses": (
        "a@b.org", "jane.doe@example.com", "jane+eye@mail.example.co.uk", "J_DOE@EXAMPLE.COM", "dr-miller@clinic.example",
    ),
    "ages over 89": (
        "90-year-old woman", "93 year old man", "a 101-year-old", "92 yo patient", "95 y/o", "96 yrs old", "aged 91",
        "age 94", "Age: 97", "at the age of 99", "90 years of age", "110-year-old", "98 y.o. man",
    ),
}  # fmt: skip
FALSE_FRIENDS = (
    "VA 20/20 OD, 20/200 OS", "IOP 18/19 mmHg", "OCT 80 um, RNFL 92 microns", "CCT 567", "MD -7.5 dB", "cup-to-disc 0.7",
    "may 20 percent improve", "89-year-old woman", "59 yo man", "target pressure below 12", "goal 15-18 mmHg",
    "500-1000 mg acetazolamide", "refraction -2.25 -0.75 x 090", "field 24-2, 30-2", "MR imaging, MS excluded",
    "DR Grade 2", "visit 3 of 4", "timolol 0.5 % bid", "2 drops at 8 and 20", "stage 2 of 3", "BP 120/80",
    "size 1024 x 768", "follow up in 12 months", "since 2015", "1/2 disc diameter", "HbA1c 6.5", "90 degrees", "axis 95",
)  # fmt: skip
WORDS = ("Patient stable.", "Seen for glaucoma,", "IOP 18 mmHg;", "CDR 0.7")


@pytest.fixture(scope="module")
def notes() -> pd.Series:
    """1,000 notes of SynthFundus, which hold nobody's data."""
    config = SynthConfig(n_train=700, n_val=150, n_test=150, seed=11, size=32, shortcut_rate=0.1)
    return synthesize(config, workers=1).frame["text"]


@pytest.mark.parametrize("kind", list(IDENTIFIERS))
def test_planted_identifiers_are_found(kind, notes, capsys):
    """Every one of them, at the start, in the middle and at the end of a real note."""
    rng = np.random.default_rng(0)
    made = []
    for example in PLANTED[kind]:
        words = notes[int(rng.integers(len(notes)))].split(". ")
        for place in (0, len(words) // 2, len(words)):
            made.append(". ".join([*words[:place], f"Seen {example}", *words[place:]]))
        made.append(f"{WORDS[len(example) % 4]} {example}")
    found = count_identifiers(pd.Series(made))[kind]
    with capsys.disabled():
        print(f"\n{kind}: recall {found / len(made):.3f} of {len(made)}")
    assert found == len(made)


def test_notes_without_identifiers_raise_no_alarm(notes):
    """Some of its invented patients are over 89, and only their notes are counted."""
    old = int(notes.map(lambda note: any(f"{age}{joint}y" in note for age in range(90, 120) for joint in "- ")).sum())
    assert count_identifiers(notes) == dict.fromkeys(IDENTIFIERS, 0) | {"ages over 89": old}


def test_clinical_figures_are_not_taken_for_identifiers():
    assert {text: count_identifiers(pd.Series([text])) for text in FALSE_FRIENDS} == {
        text: dict.fromkeys(IDENTIFIERS, 0) for text in FALSE_FRIENDS
    }


def test_the_warning_gives_counts_by_kind_and_never_the_content():
    text = ["Mr. Smith, MRN 0012345, 93-year-old, seen 03/04/2021, tel. 617-555-0123, a@b.org", "IOP 18", "Dr. Miller"]
    frame = pd.DataFrame({"pair_id": list("abc"), "text": text, "label": [0, 1, 0], "split": ["train", "val", "test"]})
    report = PairTable.from_frame(frame).report
    assert report.identifiers == dict.fromkeys(IDENTIFIERS, 1) | {"names after a title": 2}
    (line,) = [line for line in report.to_dict()["warnings"] if "identify" in line]
    assert "names after a title in 2" in line
    assert "ages over 89 in 1" in line
    for content in ("Smith", "Miller", "0012345", "2021", "555", "b.org", "93"):
        assert content not in str(report.to_dict()["warnings"])


def test_a_long_note_is_searched_in_a_moment():
    """RE2 reads a text once whatever the pattern."""
    import time

    hostile = pd.Series(["1-" * 100_000, "Mr. " * 50_000, "9" * 200_000, "a@" * 100_000, "Mar 1 " * 40_000])
    started = time.perf_counter()
    count_identifiers(hostile)
    assert time.perf_counter() - started < 5
