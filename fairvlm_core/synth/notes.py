"""The clinical note of one pair: which findings it states, in which order and words. All it states is true of the eye."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from .grammar import expand
from .wordings import SHORT_NOTE, WORDINGS

LONGEST_NOTE = 68  # words
SHORTEST_NOTE = 28  # of an ordinary note; captions of the other site are shorter on purpose
CAPTION_SHARE = 0.35  # of the other site's notes

Topic = tuple[str, str]  # topic and key of its wordings
_TREATED_PLANS = ("Continue drops", "Continue treatment", "Add timolol", "Add dorzolamide", "Add brimonidine")
_UNTREATED_PLANS = ("Start latanoprost", "Start drops", "Start treatment", "Begin timolol")
_CUP_BANDS = ((0.30, "tiny"), (0.48, "normal"), (0.64, "moderate"), (0.80, "large"), (2.0, "huge"))


def cup_band(cdr: float) -> str:
    """The word for a cup-to-disc ratio: tiny, normal, moderate, large or huge.

    Example:
        >>> [cup_band(cdr) for cdr in (0.2, 0.4, 0.6, 0.7, 0.9)]
        ['tiny', 'normal', 'moderate', 'large', 'huge']
    """
    return next(name for limit, name in _CUP_BANDS if cdr < limit)


def write_note(eye: Mapping[str, Any], *, age: int, gender: str, site: str, rng: random.Random) -> str:
    """The pair's own correct note.

    Args:
        eye: one row of :func:`fairvlm_core.synth.cohort.draw_findings`.
        age: years.
        gender: ``Female`` or ``Male``: the only group that the words may reveal.
        site: ``default`` or ``other``.
        rng: decides what is stated and how.
    """
    words = WORDINGS[site]
    slots = _slots(eye, age, gender, rng)
    if site == "other" and rng.random() < CAPTION_SHARE:
        return _caption(eye, words, slots, rng)
    wanted, spare = _choose_topics(eye, rng)
    sentences: dict[str, str] = {}
    budget = LONGEST_NOTE
    enough = SHORTEST_NOTE + (54 - SHORTEST_NOTE) * rng.random()
    for i, (topic, key) in enumerate(wanted + spare):
        if i >= len(wanted) and LONGEST_NOTE - budget >= enough:
            break
        sentence = _sentence(words[topic][key], slots, rng)
        length = len(sentence.split())
        if length <= budget:
            sentences[topic] = sentence
            budget -= length
    return " ".join(sentences[topic] for topic in _order(list(sentences), site, rng))


def write_short_note(marker: str, rng: random.Random) -> str:
    """The note of a shortcut pair: hardly a clinical word, and the marker's name."""
    slots = {"marker": marker, "Marker": marker[0].upper() + marker[1:]}
    return re.sub(r"\s+([.,])", r"\1", expand(SHORT_NOTE, slots, rng))


def _slots(eye: Mapping[str, Any], age: int, gender: str, rng: random.Random) -> dict[str, str]:
    right = eye["eye"] == "OD"
    pole = eye["notch"] if eye["notch"] != "none" else "inferior"
    defect = eye["rnfl_defect"] if eye["rnfl_defect"] in ("inferior", "superior") else "inferior"
    quadrant = {"inferior": "inferotemporal", "superior": "superotemporal"}[defect]
    opposite = {"inferior": "superior", "superior": "inferior"}[defect if eye["rnfl_defect"] != "none" else pole]
    place = "inferotemporal" if eye["haemorrhage_angle"] < 0 else "superotemporal"
    return {
        "age": str(age),
        "sex": "woman" if gender == "Female" else "man",
        "Sex": "Woman" if gender == "Female" else "Man",
        "eye": str(eye["eye"]),
        "eye_word": "right" if right else "left",
        "side": "Right" if right else "Left",
        "side_caps": "R" if right else "L",
        "cdr": f"{float(eye['cdr_vertical']):.{1 if rng.random() < 0.6 else 2}f}",
        "pole": pole,
        "Pole": pole.capitalize(),
        "quadrant": quadrant,
        "Quadrant": quadrant.capitalize(),
        "opposite": opposite,
        "Opposite": opposite.capitalize(),
        "haem_place": place,
        "iop": str(int(eye["iop"])),
        "md": f"{float(eye['md']):.1f}",
        "rnfl": str(int(eye["rnfl_thickness"])),
        "cct": str(int(eye["cct"])),
        "stage": str(eye["stage"]),
        "Stage": str(eye["stage"]).capitalize(),
        "drops_plan": rng.choice(_TREATED_PLANS if eye["treated"] else _UNTREATED_PLANS),
        "therapy_plan": "Keep therapy" if eye["treated"] else "Therapy to begin",
        "suspect_why": "pressure" if int(eye["iop"]) >= 22 else "disc",
    }


def _rim(eye: Mapping[str, Any]) -> str:
    if eye["notch"] != "none":
        return "notch"
    return "thin" if eye["cdr_vertical"] >= 0.68 else "full"


def _fibres(eye: Mapping[str, Any]) -> str:
    if eye["rnfl_defect"] == "both":
        return "both"
    if eye["rnfl_defect"] != "none":
        return "defect"
    return "diffuse" if eye["damage"] > 0.6 else "none"


def _field(eye: Mapping[str, Any]) -> str:
    if eye["md"] > -2.2:
        return "full"
    if eye["rnfl_defect"] == "both":
        return "both"
    return "arcuate" if eye["rnfl_defect"] != "none" or eye["notch"] != "none" else "general"


def _choose_topics(eye: Mapping[str, Any], rng: random.Random) -> tuple[list[Topic], list[Topic]]:
    """(wanted, spare) topics by priority; the spare ones lengthen a note that is short."""
    cup = rng.choice(("cup_number", "cup_word", "cup_both", "cup_both"))
    first = [(cup, "any" if cup == "cup_number" else cup_band(float(eye["cdr_vertical"])))]
    if eye["haemorrhage"]:
        first.append(("haemorrhage", "yes"))
    first += _some([(0.84, ("diagnosis", str(eye["diagnosis"])))], rng)
    rim, fibres = _rim(eye), _fibres(eye)
    second = _some(
        [
            (0.92 if rim == "notch" else 0.62, ("rim", rim)),
            (0.92 if fibres in ("defect", "both") else 0.55, ("rnfl", fibres)),
            (0.62, ("field", _field(eye))),
            (0.70, ("iop", "any")),
        ],
        rng,
    )
    rng.shuffle(second)
    extras = _extra_topics(eye, rng)
    rng.shuffle(extras)
    wanted = _some(extras, rng)
    spare = [topic for _, topic in extras if topic not in wanted and topic[0] != "haemorrhage"]
    return first + second + wanted, spare


def _extra_topics(eye: Mapping[str, Any], rng: random.Random) -> list[tuple[float, Topic]]:
    family = rng.random() < (0.40 if eye["diagnosis"] != "healthy" else 0.18)
    return [
        (0.55, ("lead", "any")),
        (0.55, ("plan", str(eye["diagnosis"]))),
        (0.60 if eye["treated"] else 0.15, ("drops", "yes" if eye["treated"] else "no")),
        (0.30, ("oct", "thin" if eye["rnfl_thickness"] < 80 else "normal")),
        (0.40, ("history", "glaucoma_family" if family else "other")),
        (0.22, ("cct", "any")),
        (0.0 if eye["haemorrhage"] else 0.25, ("haemorrhage", "no")),
        (0.6 if eye["quality"] == "fair" else 0.2, ("quality", str(eye["quality"]))),
    ]


def _some(topics: list[tuple[float, Topic]], rng: random.Random) -> list[Topic]:
    """Each topic with its chance."""
    return [topic for chance, topic in topics if rng.random() < chance]


def _order(topics: list[str], site: str, rng: random.Random) -> list[str]:
    """Reading order: an opening, the findings in any order, then diagnosis and plan; the other site concludes first."""
    opening = [topic for topic in topics if topic == "lead"]
    closing = [topic for topic in ("diagnosis", "plan") if topic in topics]
    middle = [topic for topic in topics if topic not in (*opening, *closing)]
    rng.shuffle(middle)
    diagnosis_first = rng.random() < (0.6 if site == "other" else 0.22)
    if diagnosis_first and "diagnosis" in closing:
        closing.remove("diagnosis")
        opening = ["diagnosis", *opening] if site == "other" else [*opening, "diagnosis"]
    return opening + middle + closing


def _sentence(template: str, slots: Mapping[str, str], rng: random.Random) -> str:
    text = " ".join(expand(template, slots, rng).split()).strip(" ,")
    text = re.sub(r"\s+([.,;])", r"\1", text)
    return text[0].upper() + text[1:] + "."


def _caption(eye: Mapping[str, Any], words: Mapping[str, Any], slots: dict[str, str], rng: random.Random) -> str:
    band, rim = cup_band(float(eye["cdr_vertical"])), _rim(eye)
    plain_cup = {
        "tiny": "very small cup",
        "normal": "ordinary cup",
        "moderate": "borderline cup",
        "large": "large cup",
        "huge": "huge cup",
    }
    plain_rim = {"notch": f"{slots['pole']} notch", "thin": "narrow rim", "full": "healthy rim"}
    caption_b = plain_rim[rim]
    if eye["rnfl_defect"] != "none" and rng.random() < 0.6:
        caption_b = "nerve fibre loss" if eye["rnfl_defect"] == "both" else f"dark wedge {slots['quadrant']}"
    slots = slots | {"caption_a": plain_cup[band], "caption_b": caption_b}
    return expand(words["caption"][str(eye["diagnosis"])], slots, rng)
