"""The intake report: what was read, what was refused and what looks wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..cells import MANY_GROUPS, alike, too_many_numbers
from ..words import listed, many
from .images import ImageFacts
from .rows import DatasetInfo
from .splits import SPLITS
from .text import Truncation, count_identifiers, note_facts
from .warning import IntakeWarning, WarningKind, by_importance

SMALL_GROUP = 10


@dataclass(frozen=True)
class IntakeReport:
    """What was seen when a data folder was read. The command line and the pages present it.

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
        Pairs left out because their image cannot be used: row, pair_id, reason; also `file` where there is no row.
    left_out
        Pairs left out by rule: row, pair_id, reason ("empty note", "no label").
    columns_left_out
        Columns that were not taken as attributes, and why.
    truncation
        Counts for a tokenizer, once one was asked; see `with_truncation`.
    warnings
        What looks wrong, see `IntakeWarning`.
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
    warnings: list[IntakeWarning] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers, ready for JSON; of a warning its sentence.

        `summary` is one line; `decisions` are the warnings to act on, the most important first, with what to do.
        """
        return {
            "summary": self.summary,
            "decisions": [{"warning": str(one), "fix": one.fix} for one in self.decisions],
            **asdict(replace(self, warnings=[])),
            "warnings": [str(warning) for warning in by_importance(self.warnings)],
        }

    @property
    def decisions(self) -> list[IntakeWarning]:
        """Warnings that a person should act on before training, the most important first."""
        return [warning for warning in by_importance(self.warnings) if warning.kind.needs_decision]

    @property
    def summary(self) -> str:
        """One line: what is there, what is left out, and how much there is to decide."""
        out, n = len(self.refused) + len(self.left_out), len(self.decisions)
        to_decide = f"{many(n, 'decision')} to make" if n else "nothing to decide"
        return (
            f"{self.name} ({self.layout} layout): {many(self.n_pairs, 'pair')} of {many(self.n_patients, 'patient')} from "
            f"{many(self.n_rows, 'row')}, {self.labels['positive']} positive; "
            f"{many(out, 'row') if out else 'nothing'} left out; {to_decide}"
        )

    def with_truncation(self, truncation: Truncation) -> IntakeReport:
        """The report with a tokenizer's counts, and a warning where notes are cut."""
        warnings = [warning for warning in self.warnings if warning.kind is not WarningKind.TRUNCATED]
        if truncation.n_truncated:
            counts = {
                "n": truncation.n_truncated,
                "total": truncation.n,
                "context_length": truncation.context_length,
                "longest": truncation.longest,
            }
            warnings.append(IntakeWarning(WarningKind.TRUNCATED, values=counts))
        return replace(self, truncation=truncation, warnings=warnings)

    def with_warnings(self, more: Sequence[IntakeWarning]) -> IntakeReport:
        """The report with further warnings."""
        return replace(self, warnings=[*self.warnings, *more])


def build_report(
    frame: pd.DataFrame,
    info: DatasetInfo,
    *,
    n_rows: int,
    refused: list[dict[str, Any]],
    left_out: list[dict[str, Any]],
    columns_left_out: dict[str, str],
    facts: Sequence[ImageFacts] | None,
    warnings: Sequence[IntakeWarning],
) -> IntakeReport:
    """Count what is in a checked frame (see `PairTable`); `warnings` are those of the reading, put first."""
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
    image = pd.factorize(np.array([f.digest for f in facts]))[0] if facts else _image_codes(frame["image"])
    notes = note_facts(frame["text"])
    duplicates = {
        "notes": notes.pop("duplicates"),
        "images": int((image >= 0).sum()) - _distinct(image),
        "images_across_patients": _across(image, patient),
        "images_across_splits": _across(image, split),
    }
    identifiers = count_identifiers(frame["text"])
    attributes = {
        name: {
            "source": source,
            "unknown": int((frame[name] == "Unknown").sum()),
            **_group_counts(frame[name].cat, label, split),
        }
        for name, source in info.attribute_sources.items()
    }
    return IntakeReport(
        name=info.name,
        layout=info.layout,
        n_rows=n_rows,
        n_pairs=len(frame),
        n_patients=_distinct(patient),
        splits=splits,
        labels={"negative": int((label == 0).sum()), "positive": int(label.sum())},
        attributes=attributes,
        notes=notes,
        identifiers=identifiers,
        duplicates=duplicates,
        images=_image_counts(facts or ()),
        refused=refused,
        left_out=left_out,
        columns_left_out=columns_left_out,
        warnings=[
            *warnings,
            *_split_warnings(splits),
            *(w for name, seen in attributes.items() for w in _attribute_warnings(name, seen, len(frame))),
            *_patient_warnings(frame, list(attributes), patient),
            *_pair_warnings(duplicates, notes, identifiers, len(frame)),
        ],
    )


def _image_counts(facts: Sequence[ImageFacts]) -> dict[str, Any]:
    return {
        "checked": len(facts),
        "formats": dict(Counter(f.format for f in facts).most_common()),
        "modes": dict(Counter(f.mode for f in facts).most_common()),
        "sizes": dict(Counter(f"{f.width}x{f.height}" for f in facts).most_common(10)),
        "odd": dict(sorted(Counter(kind for f in facts for kind in f.odd).items())),
    }


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


def _split_warnings(splits: Mapping[str, Mapping[str, int]]) -> Iterator[IntakeWarning]:
    for part, facts in splits.items():
        if not facts["n"]:
            yield IntakeWarning(WarningKind.SPLIT_EMPTY, split=part)
        elif facts["n_positive"] in (0, facts["n"]):
            counts = {name: facts[name] for name in ("n", "n_positive")}
            yield IntakeWarning(WarningKind.SPLIT_ONE_LABEL, split=part, values=counts)


def _attribute_warnings(name: str, facts: Mapping[str, Any], n: int) -> Iterator[IntakeWarning]:
    groups = list(facts["groups"])
    if len(groups) == 1:
        yield IntakeWarning(WarningKind.ONE_GROUP, name, values={"group": groups[0]})
    if len(groups) > MANY_GROUPS and too_many_numbers(groups, MANY_GROUPS) is None:  # numbers: said before
        yield IntakeWarning(WarningKind.MANY_GROUPS, name, values={"n": len(groups)})
    if same := alike(groups):
        yield IntakeWarning(WarningKind.SAME_BUT_CASE, name, values={"groups": "; ".join(map(", ".join, same[:3]))})
    if n and facts["unknown"] > 0.2 * n:
        yield IntakeWarning(WarningKind.OFTEN_UNKNOWN, name, values={"n": facts["unknown"], "total": n})
    for part, counts in facts["by_split"].items():
        if any(c["n"] for c in counts.values()):
            yield from _group_warnings(name, part, counts)


def _group_warnings(name: str, split: str, counts: Mapping[str, Mapping[str, Any]]) -> Iterator[IntakeWarning]:
    """Groups of one attribute in one split that are absent, have one label only, or are small."""
    found = {
        WarningKind.GROUPS_ABSENT: [group for group, c in counts.items() if c["n"] == 0],
        WarningKind.GROUPS_ONE_LABEL: [
            f"{group} ({c['n_positive']} positive of {c['n']})"
            for group, c in counts.items()
            if c["n"] and c["n_positive"] in (0, c["n"])
        ],
        WarningKind.GROUPS_SMALL: [f"{group} (n={c['n']})" for group, c in counts.items() if 0 < c["n"] < SMALL_GROUP],
    }
    for kind, groups in found.items():
        if groups:
            yield IntakeWarning(kind, name, split, {"groups": listed(groups, limit=5), "limit": SMALL_GROUP})


def _patient_warnings(frame: pd.DataFrame, attributes: Sequence[str], patient: np.ndarray) -> Iterator[IntakeWarning]:
    if _distinct(patient) == len(patient):
        return
    if _distinct(patient) < 10 and len(patient) >= 10 * _distinct(patient):
        yield IntakeWarning(WarningKind.FEW_PATIENTS, values={"n": _distinct(patient), "total": len(patient)})
    for name in attributes:
        codes = frame[name].cat.codes.to_numpy()
        known = (frame[name] != "Unknown").to_numpy(bool)
        differ = _across(np.where(known, patient, -1), codes)
        if differ:  # right for a band of age, which changes with the years; wrong for most others
            yield IntakeWarning(WarningKind.VARIES_IN_PATIENT, name, values={"patients": many(differ, "patient")})


def _pair_warnings(
    duplicates: Mapping[str, int], notes: Mapping[str, int], identifiers: Mapping[str, int], n: int
) -> Iterator[IntakeWarning]:
    if duplicates["notes"] > 0.05 * n:
        yield IntakeWarning(WarningKind.REPEATED_NOTES, values={"n": duplicates["notes"], "total": n})
    for kind, count in (
        (WarningKind.IMAGES_ACROSS_PATIENTS, duplicates["images_across_patients"]),
        (WarningKind.IMAGES_ACROSS_SPLITS, duplicates["images_across_splits"]),
        (WarningKind.LOST_CHARACTERS, notes["replacement_characters"]),
        (WarningKind.NO_SPACES, notes["without_spaces"]),
        (WarningKind.CONTROL_CHARACTERS, notes["control_characters"]),
    ):
        if count:
            yield IntakeWarning(kind, values={"n": count})
    found = [f"{kind} in {count}" for kind, count in identifiers.items() if count]
    if found:
        yield IntakeWarning(WarningKind.IDENTIFIERS, values={"found": ", ".join(found)})
