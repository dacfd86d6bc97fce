"""The notes: true of the eye, varied, and silent about groups."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from fairvlm_core.errors import InputError
from fairvlm_core.synth import SynthConfig, SynthData
from fairvlm_core.synth.cohort import draw_cohort, draw_findings
from fairvlm_core.synth.generate import write_notes
from fairvlm_core.synth.grammar import _parse, expand
from fairvlm_core.synth.wordings import WORDINGS

GROUP_WORDS = re.compile(
    r"\b(asian|black|white|african|caucasian|hispanic|latin[oa]|spanish|english|interpreter|language|race|ethnic\w*)\b",
    re.IGNORECASE,
)


def _wordings(template: tuple) -> int:
    """How many texts a parsed template can expand to; a slot counts as one."""
    return math.prod(sum(map(_wordings, piece)) for piece in template if isinstance(piece, list))


@pytest.fixture(scope="module")
def noted() -> pd.DataFrame:
    """3,000 notes beside the findings and groups they belong to; no image is needed for that."""
    config = SynthConfig(n_train=3000, n_val=0, n_test=0, seed=8, proportions="balanced")
    cohort = draw_cohort(config)
    findings = draw_findings(config, cohort)
    clash = [name for name in findings if name in cohort]
    return pd.concat([cohort, findings.drop(columns=clash)], axis=1).assign(text=write_notes(config, cohort, findings))


def test_notes_have_the_length_of_a_clinical_summary(noted: pd.DataFrame) -> None:
    words = noted["text"].str.split().str.len()
    assert words.between(24, 70).mean() == 1
    assert 34 < words.median() < 50


def test_wordings_are_many(noted: pd.DataFrame) -> None:
    assert noted["text"].nunique() > 0.99 * len(noted)
    sentences = {s for text in noted["text"] for s in re.split(r"(?<=[a-z)])\. ", re.sub(r"[-\d.]*\d", "#", text))}
    assert len(sentences) > 800
    per_topic = {
        topic: sum(_wordings(_parse(template)) for template in keys.values())
        for topic, keys in WORDINGS["default"].items()
    }
    assert sum(per_topic.values()) > 1500
    assert min(per_topic.values()) >= 10, per_topic


def test_no_slot_brace_or_stray_mark_is_left(noted: pd.DataFrame, other_site: SynthData) -> None:
    for text in (*noted["text"], *other_site.frame["text"]):
        assert not re.search(r"[<>{}|]| ,| \.|\.\.|,,|  |,\.", text), text
        assert text == text.strip()
        assert not re.search(r"\b(\w{4,}) \1\b", text), text  # a word said twice


def test_every_number_in_a_note_is_the_findings_number(noted: pd.DataFrame) -> None:
    told = {"cdr": 0, "iop": 0, "md": 0, "rnfl": 0, "cct": 0}
    for row in noted.itertuples():
        if found := re.search(r"(?:ratio|C/D|CDR)(?: is| of| measures| estimated at| about)? (0\.\d+|1\.0)", row.text):
            assert float(found[1]) == pytest.approx(row.cdr_vertical, abs=0.0501)
            told["cdr"] += 1
        if found := re.search(r"(?:IOP|pressure|Pressure|Tonometry|Applanation)(?: of| is| measured)? (\d+)", row.text):
            assert int(found[1]) == row.iop or "Target" in row.text
            told["iop"] += 1
        if found := re.search(r"MD (-?\d+\.\d)", row.text):
            assert float(found[1]) == pytest.approx(row.md, abs=0.051)
            told["md"] += 1
        if found := re.search(r"RNFL(?: thickness)? (\d+) (?:um|microns)", row.text):
            assert int(found[1]) == row.rnfl_thickness
            told["rnfl"] += 1
        if found := re.search(r"(?:Pachymetry|CCT|Central corneal thickness) (\d+)", row.text):
            assert int(found[1]) == row.cct
            told["cct"] += 1
    assert min(told.values()) > 300, told


@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        (r"emorrhage (?:at the|present|infero|supero)", lambda r: r.haemorrhage),
        (r"(?:No|Without|No evidence of) (?:disc |optic disc |splinter )?hemorrhage", lambda r: ~r.haemorrhage),
        (r"(?:inferior rim notch|Notching of the inferior|Rim notched inferiorly|Inferior pole notch)",
         lambda r: r.notch == "inferior"),
        (r"(?:superior rim notch|Notching of the superior|Rim notched superiorly|Superior pole notch)",
         lambda r: r.notch == "superior"),
        (r"No visual field defect|Full (?:visual )?field|(?:field|24-2|Field) (?:full|normal|within|without)",
         lambda r: r.md > -2.2),
        (r"arcuate (?:scotoma|field)", lambda r: r.md <= -2.2),
        (r"\bOD\b|right eye", lambda r: r.eye == "OD"),
        (r"\bOS\b|left eye", lambda r: r.eye == "OS"),
        (r"[Ll]arge cup|Near-total|Marked cupping|excavated|Enlarged cup(?!\w)", lambda r: r.cdr_vertical >= 0.48),
        (r"Small (?:physiologic )?cup|Minimal cupping|Cup (?:is )?small", lambda r: r.cdr_vertical < 0.30),
        (r"POAG|[Oo]pen-angle glaucoma|uncontrolled|Glaucomatous", lambda r: r.label == 1),
        (r"[Nn]o (?:definite |evidence of |signs of )?glaucoma|Healthy optic|Normal optic|[Ss]uspect|Non-glaucomatous",
         lambda r: r.label == 0),
        (r"(?:latanoprost|timolol|brimonidine|bimatoprost|travoprost) (?:bid|qhs|nightly|twice|at bedtime)",
         lambda r: r.treated),
        (r"\bwoman\b", lambda r: r.gender == "Female"),
        (r"\bman\b", lambda r: r.gender == "Male"),
    ],
)  # fmt: skip
def test_a_note_says_only_what_is_true(noted: pd.DataFrame, pattern: str, holds) -> None:
    said = noted["text"].str.contains(pattern)
    assert said.sum() > 15, "the wording is never used"
    wrong = noted[said & ~holds(noted)]
    assert wrong.empty, wrong["text"].iloc[0]


def test_the_diagnosis_stands_in_most_notes_but_not_in_all(noted: pd.DataFrame) -> None:
    named = r"[Gg]laucoma(?! (?:check|evaluation|service))|POAG|suspect|[Nn]ormal (?:disc|optic)|Healthy optic"
    without_history = noted["text"].str.replace(
        r"(?:Family history|FHx|family history) of glaucoma|(?:Mother|Father|Sibling) has glaucoma", "", regex=True
    )
    assert 0.75 < without_history.str.contains(named).mean() < 0.95


def test_no_note_names_a_group_other_than_gender(noted: pd.DataFrame, other_site: SynthData) -> None:
    for text in (*noted["text"], *other_site.frame["text"]):
        assert not GROUP_WORDS.search(text), text


def _bag_of_words_auc(texts: pd.Series, target: np.ndarray) -> float:
    words = CountVectorizer(min_df=5, ngram_range=(1, 2), binary=True).fit_transform(texts)
    scores = cross_val_predict(
        LogisticRegression(C=0.05, max_iter=500), words, target, method="decision_function", cv=4
    )
    return roc_auc_score(target, scores)


@pytest.mark.parametrize(
    ("attribute", "group"), [("race", "Asian"), ("race", "Black"), ("ethnicity", "Hispanic"), ("language", "Spanish")]
)
def test_words_cannot_tell_a_group(noted: pd.DataFrame, attribute: str, group: str) -> None:
    target = (noted[attribute] == group).to_numpy()
    assert abs(_bag_of_words_auc(noted["text"], target) - 0.5) < 0.045


def test_words_can_tell_the_label(noted: pd.DataFrame) -> None:
    assert _bag_of_words_auc(noted["text"], noted["label"].to_numpy()) > 0.97


def test_the_other_site_writes_otherwise_and_captions_some_images(noted: pd.DataFrame, other_site: SynthData) -> None:
    texts = other_site.frame["text"]
    captions = texts.str.match(
        r"(?:a )?(?:photo|fundus photo|picture) of (?:non-)?(?:mild |moderate |severe )?glaucoma"
    )
    assert 0.2 < captions.mean() < 0.5
    says_non = texts[captions].str.contains("non-glaucoma")
    assert (says_non == (other_site.frame["label"][captions] == 0)).all()

    def vocabulary(notes: pd.Series) -> set[str]:
        return set(re.findall(r"[a-z]{3,}", " ".join(notes).lower()))

    shared = vocabulary(texts) & vocabulary(noted["text"][:160])
    assert {"glaucoma", "cup", "rim"} <= shared
    assert len(shared) < 0.6 * len(vocabulary(texts))


@pytest.mark.parametrize("template", ["{a|b", "a}b", "a|b", "{a|{b}", "<nobody> here"])
def test_a_broken_template_is_refused(template: str) -> None:
    with pytest.raises(InputError, match=r"^template: "):
        expand(template, {"somebody": "x"}, random.Random(0))


def test_expand_reaches_every_alternative_about_equally_often() -> None:
    rng = random.Random(1)
    drawn = pd.Series([expand("{a|b|}{<x>|d}", {"x": "!"}, rng) for _ in range(3000)]).value_counts()
    assert set(drawn.index) == {"a!", "ad", "b!", "bd", "!", "d"}
    assert drawn.between(400, 600).all()
