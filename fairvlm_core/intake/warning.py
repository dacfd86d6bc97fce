"""What reading a data folder warns of: a kind with its values. The sentence is made from them, and never read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from string import Formatter
from typing import Any


class WarningKind(Enum):
    """The kinds of intake warnings; the value is how a kind is stored, the template is its sentence."""

    SHARED_PATIENTS = "shared-patients"
    LEFT_OUT = "left-out"
    NO_PATIENT = "no-patient"
    NO_PATIENT_COLUMN = "no-patient-column"
    FOLDERS_ACROSS_SPLITS = "folders-across-splits"
    PATIENTS_ALIKE = "patients-alike"
    PATIENTS_ALIKE_SPLIT = "patients-alike-split"
    FEW_PATIENTS = "few-patients"
    NEEDS_BANDS = "needs-bands"
    NOTES_ARE_FILES = "notes-are-files"
    NOTES_ARE_NUMBERS = "notes-are-numbers"
    PASSED_OVER = "passed-over"
    LABEL_NONE = "label-none"
    NO_NOTE = "no-note"
    SUMMARY_SPLIT = "summary-split"
    SUMMARY_LABEL = "summary-label"
    SUMMARY_LACKS_FILE = "summary-lacks-file"
    SUMMARY_LACKS_PATIENT = "summary-lacks-patient"
    SUMMARY_WITHOUT_FILE = "summary-without-file"
    SPLIT_EMPTY = "split-empty"
    SPLIT_ONE_LABEL = "split-one-label"
    NOT_NUMBERS = "not-numbers"
    UNNAMED_VALUES = "unnamed-values"
    ONE_GROUP = "one-group"
    MANY_GROUPS = "many-groups"
    SAME_BUT_CASE = "same-but-case"
    OFTEN_UNKNOWN = "often-unknown"
    GROUPS_ABSENT = "groups-absent"
    GROUPS_ONE_LABEL = "groups-one-label"
    GROUPS_SMALL = "groups-small"
    VARIES_IN_PATIENT = "varies-in-patient"
    REPEATED_NOTES = "repeated-notes"
    IMAGES_ACROSS_PATIENTS = "images-across-patients"
    IMAGES_ACROSS_SPLITS = "images-across-splits"
    LOST_CHARACTERS = "lost-characters"
    NO_SPACES = "no-spaces"
    CONTROL_CHARACTERS = "control-characters"
    IDENTIFIERS = "identifiers"
    TRUNCATED = "truncated"
    UNKNOWN_WORDS = "unknown-words"
    PROMPT_WORDS = "prompt-words"
    TEXT = "text"
    GROUP_TEXT = "group-text"

    @property
    def about_groups(self) -> bool:
        """Whether the sentence can tell how many pairs or patients a group has; a report that hides such counts omits it.

        >>> [kind.about_groups for kind in (WarningKind.GROUPS_SMALL, WarningKind.REPEATED_NOTES)]
        [True, False]
        """
        return self not in _NOT_ABOUT_GROUPS

    @property
    def needs_decision(self) -> bool:
        """Whether a person should act on it before training: results may be wrong, or may not mean what they seem to.

        >>> [kind.needs_decision for kind in (WarningKind.NO_PATIENT_COLUMN, WarningKind.GROUPS_SMALL)]
        [True, False]
        """
        return self in _FIXES


_NOT_ABOUT_GROUPS = frozenset(
    {
        WarningKind.SHARED_PATIENTS, WarningKind.LEFT_OUT, WarningKind.NO_PATIENT, WarningKind.NO_NOTE,
        WarningKind.NO_PATIENT_COLUMN, WarningKind.FOLDERS_ACROSS_SPLITS, WarningKind.PATIENTS_ALIKE,
        WarningKind.PATIENTS_ALIKE_SPLIT, WarningKind.FEW_PATIENTS, WarningKind.NEEDS_BANDS, WarningKind.NOTES_ARE_FILES,
        WarningKind.NOTES_ARE_NUMBERS, WarningKind.PASSED_OVER, WarningKind.LABEL_NONE,
        WarningKind.SUMMARY_SPLIT, WarningKind.SUMMARY_LABEL, WarningKind.SUMMARY_LACKS_FILE,
        WarningKind.SUMMARY_LACKS_PATIENT, WarningKind.SUMMARY_WITHOUT_FILE, WarningKind.SPLIT_EMPTY,
        WarningKind.SPLIT_ONE_LABEL, WarningKind.REPEATED_NOTES, WarningKind.IMAGES_ACROSS_PATIENTS,
        WarningKind.IMAGES_ACROSS_SPLITS, WarningKind.LOST_CHARACTERS, WarningKind.NO_SPACES,
        WarningKind.CONTROL_CHARACTERS, WarningKind.IDENTIFIERS, WarningKind.TRUNCATED, WarningKind.UNKNOWN_WORDS,
        WarningKind.PROMPT_WORDS, WarningKind.TEXT,
    }
)  # fmt: skip
_TEMPLATES = {
    WarningKind.SHARED_PATIENTS: "{n} patients have pairs in more than one split, let in by allow_shared_patients: "
    "scores on held-out pairs may be too good",
    WarningKind.LEFT_OUT: "{n} of {total} pairs are left out: {reason}",
    WarningKind.NO_PATIENT: "{n} pairs have no patient_id; each counts as a patient of its own",
    WarningKind.NO_PATIENT_COLUMN: "no patient column, and the splits are made here: each pair counts as a patient of its "
    "own, so pairs of one patient may lie in several splits and scores may be too good; {fix}",
    WarningKind.FOLDERS_ACROSS_SPLITS: "no patient column; {n} names in the image paths that look like patients lie in "
    "several splits: scores on held-out pairs may be too good; {fix}",
    WarningKind.PATIENTS_ALIKE: "patient ids that differ only in how they are written, as 100, 100.0 and 00100 do: {n} "
    "(first: {examples}); they are kept in one split but count as different patients; write each id in one way",
    WarningKind.PATIENTS_ALIKE_SPLIT: "patient ids that differ only in how they are written, as 100, 100.0 and 00100 do: "
    "{n} (first: {examples}), {across} of them in several splits: if each is one patient, scores on held-out pairs are too "
    "good; write each id in one way",
    WarningKind.FEW_PATIENTS: "{n} patients for {total} pairs: is the patient column really one of patients?",
    WarningKind.NEEDS_BANDS: "many different numbers in {columns}: as an attribute they say more in bands, {fix}",
    WarningKind.NOTES_ARE_FILES: "{n} of {total} notes are names of files, not text: name the column that holds the text, "
    'as "text" under "columns" in dataset.json',
    WarningKind.NOTES_ARE_NUMBERS: "{n} of {total} notes are numbers alone: name the column that holds the text, "
    'as "text" under "columns" in dataset.json',
    WarningKind.PASSED_OVER: "passed over: {what}",
    WarningKind.LABEL_NONE: "{n} label cells say none, which counts as no label; if it is a finding, list it: "
    '"label": {{"positive": [...], "negative": ["none"]}} in dataset.json',
    WarningKind.NO_NOTE: "{n} of {total} files have no note in {file}",
    WarningKind.SUMMARY_SPLIT: "files in another folder than data_summary.csv says: {n} (the folder counts)",
    WarningKind.SUMMARY_LABEL: "files with another label than data_summary.csv says: {n} (the file counts)",
    WarningKind.SUMMARY_LACKS_FILE: "files that are not in data_summary.csv: {n}",
    WarningKind.SUMMARY_LACKS_PATIENT: "files that are not in data_summary.csv: {n} (their patient is not known)",
    WarningKind.SUMMARY_WITHOUT_FILE: "rows of data_summary.csv without a file: {n}",
    WarningKind.SPLIT_EMPTY: "split {split} is empty",
    WarningKind.SPLIT_ONE_LABEL: "split {split} holds one label only ({n_positive} positive of {n})",
    WarningKind.NOT_NUMBERS: "attribute {attribute}: {n} cells are no number and count as Unknown",
    WarningKind.UNNAMED_VALUES: "attribute {attribute}: {n} cells hold {values} values without a name, kept as they are",
    WarningKind.ONE_GROUP: "attribute {attribute} has one group only ({group})",
    WarningKind.MANY_GROUPS: "attribute {attribute} has {n} groups; bands or fewer groups would say more",
    WarningKind.SAME_BUT_CASE: "attribute {attribute} has groups that differ only in how they are written ({groups}): "
    'write each in one way, or give them one name under "names" in dataset.json',
    WarningKind.OFTEN_UNKNOWN: "attribute {attribute} is Unknown for {n} of {total} pairs",
    WarningKind.GROUPS_ABSENT: "attribute {attribute}, split {split}: nobody in group {groups}",
    WarningKind.GROUPS_ONE_LABEL: "attribute {attribute}, split {split}: one label only, AUC undefined, in group {groups}",
    WarningKind.GROUPS_SMALL: "attribute {attribute}, split {split}: fewer than {limit} pairs in group {groups}",
    WarningKind.VARIES_IN_PATIENT: "attribute {attribute} differs between the pairs of {patients}",
    WarningKind.REPEATED_NOTES: "{n} of {total} pairs repeat the note of another pair: they are no negatives of each other",
    WarningKind.IMAGES_ACROSS_PATIENTS: "images under more than one patient_id: {n} "
    "(the same person twice, or a wrong path)",
    WarningKind.IMAGES_ACROSS_SPLITS: "images in more than one split: {n} (scores on held-out pairs will be too good)",
    WarningKind.LOST_CHARACTERS: "notes with the character for lost text (U+FFFD): {n} (saved in a wrong encoding before)",
    WarningKind.NO_SPACES: "notes of more than 30 characters without a space: {n}",
    WarningKind.CONTROL_CHARACTERS: "notes with control characters: {n}",
    WarningKind.IDENTIFIERS: "notes may identify people: {found} notes; remove them before sharing",
    WarningKind.TRUNCATED: "{n} of {total} notes are truncated: they have more than {context_length} tokens "
    "(the longest has {longest})",
    WarningKind.UNKNOWN_WORDS: "the model {model} knows {share} % of the notes' words (not, for example: {words}); {fix}",
    WarningKind.PROMPT_WORDS: "words of the prompts that no training note contains: {words}; the model learns nothing "
    "about them, so write the prompts in the words of the notes",
    WarningKind.TEXT: "{text}",
    WarningKind.GROUP_TEXT: "{text}",
}


# What to do about a kind, the most important first; empty where its sentence says so.
_FIXES = {
    WarningKind.SPLIT_EMPTY: "add pairs to it, or leave out the split column: then splits are made",
    WarningKind.SPLIT_ONE_LABEL: "add pairs with the other label, or leave out the split column: then splits are made",
    WarningKind.SHARED_PATIENTS: "put all pairs of a patient into one split",
    WarningKind.PATIENTS_ALIKE_SPLIT: "",
    WarningKind.FOLDERS_ACROSS_SPLITS: "",
    WarningKind.IMAGES_ACROSS_SPLITS: "put all pairs with one image into one split",
    WarningKind.NO_PATIENT_COLUMN: "",
    WarningKind.FEW_PATIENTS: 'name the right column, as "patient_id" under "columns" in dataset.json',
    WarningKind.PATIENTS_ALIKE: "",
    WarningKind.NOTES_ARE_FILES: "",
    WarningKind.NOTES_ARE_NUMBERS: "",
    WarningKind.LABEL_NONE: "",
    WarningKind.UNKNOWN_WORDS: "",
    WarningKind.PROMPT_WORDS: "",
    WarningKind.NOT_NUMBERS: 'list words for "not known" under "unknown" of the attribute in dataset.json',
    WarningKind.NEEDS_BANDS: "",
    WarningKind.SAME_BUT_CASE: "",
    WarningKind.IMAGES_ACROSS_PATIENTS: "give them one patient_id, or correct the paths",
    WarningKind.LOST_CHARACTERS: "export the notes again as UTF-8",
    WarningKind.IDENTIFIERS: "",
}


@dataclass(frozen=True)
class IntakeWarning:
    """One warning; ``str(warning)`` is its sentence.

    Attributes
    ----------
    kind
        What it is about.
    attribute, split
        The attribute and the split it concerns; None where it concerns all.
    values
        Counts and names that the sentence of this kind states.

    >>> str(IntakeWarning(WarningKind.GROUPS_ABSENT, "sex", "val", {"groups": "F"}))
    'attribute sex, split val: nobody in group F'
    """

    kind: WarningKind
    attribute: str | None = None
    split: str | None = None
    values: Mapping[str, int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        return _TEMPLATES[self.kind].format(**{"attribute": self.attribute, "split": self.split} | dict(self.values))

    @property
    def fix(self) -> str:
        """What to do about it; empty where there is nothing to do, or the sentence says so."""
        return _FIXES.get(self.kind, "")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_stored` reads it back."""
        return {
            "kind": self.kind.value,
            "attribute": self.attribute,
            "split": self.split,
            "values": dict(self.values),
            "text": str(self),
        }

    @classmethod
    def from_stored(cls, stored: str | Mapping[str, Any]) -> IntakeWarning:
        """A warning from the ``data.json`` of a run, whose earlier versions hold the sentence alone.

        A kind or a sentence that this version does not know counts as `about_groups`, so that no hidden count is shown.

        >>> IntakeWarning.from_stored("attribute sex is Unknown for 3 of 9 pairs").kind.name
        'GROUP_TEXT'
        >>> warning = IntakeWarning(WarningKind.NO_PATIENT, values={"n": 2})
        >>> IntakeWarning.from_stored(warning.to_dict()) == warning
        True
        """
        if isinstance(stored, str):
            harmless = any(pattern.fullmatch(stored) for pattern in _harmless_sentences())
            return cls(WarningKind.TEXT if harmless else WarningKind.GROUP_TEXT, values={"text": stored})
        try:
            known = cls(
                WarningKind(stored["kind"]), stored.get("attribute"), stored.get("split"), stored.get("values") or {}
            )
            str(known)
        except (KeyError, ValueError):
            return cls(WarningKind.GROUP_TEXT, values={"text": str(stored.get("text", ""))})
        return known


def by_importance(warnings: Iterable[IntakeWarning]) -> list[IntakeWarning]:
    """First those that need a decision, the most important first; then the others as they were."""
    order = {kind: place for place, kind in enumerate(_FIXES)}
    return sorted(warnings, key=lambda warning: order.get(warning.kind, len(order)))


@cache
def _harmless_sentences() -> list[re.Pattern[str]]:
    """What the sentences of kinds that are not about groups look like; counts are digits."""

    def pattern(template: str) -> re.Pattern[str]:
        parts = Formatter().parse(template)
        words = {name: ".*" for name in ("reason", "file", "found", "words", "fix", "model")}
        words |= {"split": r"\w+"}
        return re.compile(
            "".join(re.escape(text) + (words.get(name, r"\d+") if name else "") for text, name, *_ in parts)
        )

    return [pattern(_TEMPLATES[kind]) for kind in _NOT_ABOUT_GROUPS - {WarningKind.TEXT}]
