"""What was read, what was refused and what looks odd: the intake report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..words import listed, many
from .images import ImageFacts
from .splits import SPLITS
from .text import Truncation, count_identifiers, note_facts

SMALL_GROUP = 10
MANY_GROUPS = 12


@dataclass(frozen=True)
class IntakeReport:
    """What was seen when a data folder was read. Rendering it is left to the command line and the pages.

    Attributes
    ----------
    name, layout
        Of the data; layout is "fairvlmed", "manifest", "foreign", "webdataset" or "memory".
    n_rows, n_pairs, n_patients
        Rows (or files) found, pairs kept, patients among the pairs.
    splits
        For each split: n, n_positive, n_patients.
    labels
        {"negative": n, "positive": n}.
    attributes
        For each attribute: `groups` (group -> n, n_positive, positive_rate), `by_split` (split -> the same), `unknown`
        (number of pairs without a value), `source` (the column it comes from).
    notes
        Lengths in characters and counts, see `text.note_facts`.
    identifiers
        Number of notes with something like a date, phone number, record number, name or address, by kind.
    duplicates
        `notes`: pairs whose note another pair has before them; `images`: the same for images (by content where images
        were checked, else by path); `images_across_patients`: images that pairs of several patients share.
    images
        `checked`, counts by `formats`, `modes` and `sizes` (the ten most frequent, "640x480"), and `odd` (kind -> n).
    refused
        Pairs left out because their image cannot be used: row, pair_id, reason; also `file` where a row has none.
    left_out
        Pairs left out by rule: row, pair_id, reason ("empty note", "no label").
    columns_left_out
        Columns that were not taken as attributes, and why.
    truncation
        Counts for a tokenizer, once one was asked; see `with_truncation`.
    warnings
        Plain sentences.
    """

    name: str
    layout: str
    n_rows: int
    n_pairs: int
    n_patients: int
    splits: dict[str, dict[str, int]]
    labels: dict[str, int]
    attributes: dict[str, dict[str, Any]]
    notes: dict[str, int]
    identifiers: dict[str, int]
    duplicates: dict[str, int]
    images: dict[str, Any]
    refused: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    columns_left_out: dict[str, str] = field(default_factory=dict)
    truncation: Truncation | None = None
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers, ready for JSON."""
        return asdict(self)

    def with_truncation(self, truncation: Truncation) -> IntakeReport:
        """The report with a tokenizer's counts, and a warning where notes are cut."""
        warnings = [line for line in self.warnings if "truncated" not in line]
        if truncation.n_truncated:
            warnings.append(
                f"{truncation.n_truncated} of {truncation.n} notes are truncated: they have more than "
                f"{truncation.context_length} tokens (the longest has {truncation.longest})"
            )
        return replace(self, truncation=truncation, warnings=warnings)


def build_report(
    frame: pd.DataFrame,
    attributes: Sequence[str],
    *,
    name: str,
    layout: str,
    n_rows: int,
    refused: list[dict[str, Any]],
    left_out: list[dict[str, Any]],
    columns_left_out: Mapping[str, str],
    sources: Mapping[str, str],
    facts: Sequence[ImageFacts] | None,
    warnings: Sequence[str],
) -> IntakeReport:
    """Count what is in a validated frame (see `PairTable`); `warnings` are those of the reading, put first."""
    split = frame["split"].cat.codes.to_numpy()
    label = frame["label"].to_numpy()
    patient = pd.factorize(frame["patient_id"])[0]
    splits = {
        part: {
            "n": int((split == i).sum()),
            "n_positive": int(label[split == i].sum()),
            "n_patients": _distinct(patient[split == i]),
        }
        for i, part in enumerate(SPLITS)
    }
    image_key = pd.factorize(np.array([f.digest for f in facts]))[0] if facts else _image_codes(frame["image"])
    duplicates = {
        "notes": 0,
        "images": int((image_key >= 0).sum()) - _distinct(image_key),
        "images_across_patients": _across(image_key, patient),
        "images_across_splits": _across(image_key, split),
    }
    notes = note_facts(frame["text"])
    duplicates["notes"] = notes.pop("duplicates")
    identifiers = count_identifiers(frame["text"])
    described = {
        attribute: {
            "source": sources.get(attribute, attribute),
            "unknown": int((frame[attribute] == "Unknown").sum()),
            **_group_counts(frame[attribute].cat, label, split),
        }
        for attribute in attributes
    }
    counts = {
        "checked": len(facts) if facts else 0,
        "formats": dict(Counter(f.format for f in facts or ()).most_common()),
        "modes": dict(Counter(f.mode for f in facts or ()).most_common()),
        "sizes": dict(Counter(f"{f.width}x{f.height}" for f in facts or ()).most_common(10)),
        "odd": dict(sorted(Counter(kind for f in facts or () for kind in f.odd).items())),
    }
    lines = [
        *warnings,
        *_split_warnings(splits),
        *_attribute_warnings(described, len(frame)),
        *_patient_warnings(frame, attributes, patient),
        *_duplicate_warnings(duplicates, len(frame)),
        *_note_warnings(notes, identifiers),
    ]
    return IntakeReport(
        name=name,
        layout=layout,
        n_rows=n_rows,
        n_pairs=len(frame),
        n_patients=_distinct(patient),
        splits=splits,
        labels={"negative": int((label == 0).sum()), "positive": int(label.sum())},
        attributes=described,
        notes=notes,
        identifiers=identifiers,
        duplicates=duplicates,
        images=counts,
        refused=refused,
        left_out=left_out,
        columns_left_out=dict(columns_left_out),
        warnings=lines,
    )


def _image_codes(image: pd.Series) -> np.ndarray:
    codes = pd.factorize(image)[0]
    return np.where((image == "").to_numpy(bool), -1, codes)


def _distinct(codes: np.ndarray) -> int:
    """Number of different codes; negative ones do not count."""
    return int(np.count_nonzero(np.bincount(codes[codes >= 0])))


def _across(key: np.ndarray, owner: np.ndarray) -> int:
    """How many values of `key` (negative: none) occur with more than one owner."""
    pairs = pd.DataFrame({"key": key, "owner": owner})[key >= 0].drop_duplicates()
    return int((pairs["key"].value_counts() > 1).sum())


def _group_counts(groups: Any, label: np.ndarray, split: np.ndarray) -> dict[str, Any]:
    codes, names = groups.codes.to_numpy(), list(groups.categories)

    def count(rows: np.ndarray) -> dict[str, dict[str, Any]]:
        n = np.bincount(codes[rows], minlength=len(names))
        positive = np.bincount(codes[rows], label[rows], minlength=len(names))
        return {
            name: {"n": int(a), "n_positive": int(b), "positive_rate": float(b / a) if a else None}
            for name, a, b in zip(names, n, positive, strict=True)
        }

    return {
        "groups": count(np.ones(len(codes), bool)),
        "by_split": {part: count(split == i) for i, part in enumerate(SPLITS)},
    }


def _split_warnings(splits: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = []
    for part, facts in splits.items():
        if not facts["n"]:
            lines.append(f"split {part} is empty")
        elif facts["n_positive"] in (0, facts["n"]):
            lines.append(f"split {part} holds one label only ({facts['n_positive']} positive of {facts['n']})")
    return lines


def _attribute_warnings(attributes: Mapping[str, Mapping[str, Any]], n: int) -> list[str]:
    lines = []
    for name, facts in attributes.items():
        groups = facts["groups"]
        if len(groups) == 1:
            lines.append(f"attribute {name} has one group only ({next(iter(groups))})")
        if len(groups) > MANY_GROUPS:
            lines.append(f"attribute {name} has {len(groups)} groups; bands or fewer groups would say more")
        folded = Counter(group.strip().casefold() for group in groups)
        if any(count > 1 for count in folded.values()):
            lines.append(f"attribute {name} has groups that differ only in upper and lower case")
        if n and facts["unknown"] > 0.2 * n:
            lines.append(f"attribute {name} is Unknown for {facts['unknown']} of {n} pairs")
        for part, counts in facts["by_split"].items():
            total = sum(c["n"] for c in counts.values())
            if not total:
                continue
            absent = [group for group, c in counts.items() if c["n"] == 0]
            single = [
                f"{group} ({c['n_positive']} positive of {c['n']})"
                for group, c in counts.items()
                if c["n"] and c["n_positive"] in (0, c["n"])
            ]
            small = [f"{group} (n={c['n']})" for group, c in counts.items() if 0 < c["n"] < SMALL_GROUP]
            if absent:
                lines.append(f"attribute {name}, split {part}: nobody in group {listed(absent, limit=5)}")
            if single:
                lines.append(
                    f"attribute {name}, split {part}: one label only, AUC undefined, in group {listed(single, limit=5)}"
                )
            if small:
                lines.append(
                    f"attribute {name}, split {part}: fewer than {SMALL_GROUP} pairs in group {listed(small, limit=5)}"
                )
    return lines


def _patient_warnings(frame: pd.DataFrame, attributes: Sequence[str], patient: np.ndarray) -> list[str]:
    lines = []
    if _distinct(patient) == len(patient):
        return lines
    for name in attributes:
        codes = frame[name].cat.codes.to_numpy()
        known = (frame[name] != "Unknown").to_numpy(bool)
        differ = _across(np.where(known, patient, -1), codes)
        if differ:  # right for a band of age, which moves on with the years; wrong for most else
            lines.append(f"attribute {name} differs between the pairs of {many(differ, 'patient')}")
    return lines


def _duplicate_warnings(duplicates: Mapping[str, int], n: int) -> list[str]:
    lines = []
    if duplicates["notes"] > 0.05 * n:
        lines.append(
            f"{duplicates['notes']} of {n} pairs repeat the note of another pair: in a batch they are "
            f"each other's negatives"
        )
    if duplicates["images_across_patients"]:
        lines.append(
            f"images under more than one patient_id: {duplicates['images_across_patients']} "
            f"(the same person twice, or a wrong path)"
        )
    if duplicates["images_across_splits"]:
        lines.append(
            f"images in more than one split: {duplicates['images_across_splits']} "
            f"(scores on held-out pairs will be too good)"
        )
    return lines


def _note_warnings(notes: Mapping[str, int], identifiers: Mapping[str, int]) -> list[str]:
    lines = []
    if notes["replacement_characters"]:
        lines.append(
            f"notes with the character for lost text (U+FFFD): {notes['replacement_characters']} "
            f"(saved in a wrong encoding before)"
        )
    if notes["without_spaces"]:
        lines.append(f"notes of more than 30 characters without a space: {notes['without_spaces']}")
    if notes["control_characters"]:
        lines.append(f"notes with control characters: {notes['control_characters']}")
    found = [f"{kind} in {n}" for kind, n in identifiers.items() if n]
    if found:
        lines.append(f"notes may identify people: {', '.join(found)} notes; remove them before sharing")
    return lines
