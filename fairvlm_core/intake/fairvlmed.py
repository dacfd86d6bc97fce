"""The folder layout of Harvard-FairVLMed: one .npz an eye, in a folder a split, notes in tables beside them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import InputError
from .csvtable import StringTable, read_csv_table
from .description import AttributeRule, Description
from .files import DamagedFile, in_threads, named, resolve_inside, shown, shown_name
from .images import ImageFacts, inspect_npz
from .layouts import SPLIT_FOLDERS, split_folders
from .npz import NpzFile, scalars
from .rows import Progress, RawRows
from .warning import IntakeWarning, WarningKind

SUMMARY = "data_summary.csv"
NOTE_FILES = {"summarized": "gpt-4_summarized_notes.csv", "original": "original_notes.csv"}
# Names of the summary's columns in small letters and digits.
_NOTE_COLUMNS = {
    "summarized": ("gpt4summary", "gpt4summarized", "gpt4summarizednotes", "gpt4note", "summary", "summarizednote"),
    "original": ("note", "notes", "originalnote", "originalnotes", "clinicalnote"),
}
RULES = {
    "race": AttributeRule(column="race", names={"0": "Asian", "1": "Black", "2": "White"}),
    "gender": AttributeRule(column="gender", names={"0": "Female", "1": "Male"}),
    "ethnicity": AttributeRule(column="ethnicity", names={"0": "Non-Hispanic", "1": "Hispanic"}),
    "language": AttributeRule(column="language", names={"0": "English", "1": "Spanish", "2": "Other"}),
}
LABEL = "glaucoma"
PATIENT_COLUMNS = ("patient_id", "patientid", "patient")


@dataclass(frozen=True)
class _Eye:
    """What was read of one file; `error` where it cannot be used."""

    path: str
    split: str
    values: dict[str, str] = field(default_factory=dict)
    facts: ImageFacts | None = None
    error: DamagedFile | None = None

    @property
    def stem(self) -> str:
        return _stem(self.path)


def fairvlmed_rows(
    folder: Path, description: Description, *, check_images: bool, progress: Progress | None = None
) -> tuple[RawRows, str]:
    """Read the files of a Harvard-FairVLMed folder; the second result says where the notes come from.

    Of each .npz the single values are read. With `check_images` the image's checksum is verified; no image is kept in
    memory. The folder of a file is its split; ``data_summary.csv`` is compared with it.
    """
    files = _files(folder)
    notes, note_source, note_file = _notes(folder, description.note_source)
    rules = _rules(description)
    own_note = {"note"} if notes is None else set()
    wanted = sorted({LABEL, *PATIENT_COLUMNS, *own_note, *(rule.column for rule in rules.values())})
    eyes = in_threads(lambda file: _read_one(folder, file, wanted, check_images), files, progress)
    summary = _summary(folder)
    kept, refused, left_out = _sorted_out(eyes, notes, note_file)
    patient, by_summary = _patients(kept, summary)
    warnings = _disagreements(eyes, summary, by_summary)
    if left_out:
        counts: dict[str, int | str] = {"n": len(left_out), "total": len(files), "file": note_file}
        warnings.insert(0, IntakeWarning(WarningKind.NO_NOTE, values=counts))
    absent = {title for title, rule in rules.items() if not any(rule.column in eye.values for eye in kept)}
    raw = RawRows(
        n=len(kept),
        source=f"{folder.resolve().name}/",
        row=lambda _: None,
        place=lambda index, role: f"{kept[index].path}, {'member ' + LABEL if role == 'label' else role}",
        text=_cells(kept, "note") if notes is None else _text([notes[eye.stem] for eye in kept]),
        label=_cells(kept, LABEL),
        image=_own(kept, "path"),
        pair_id=_own(kept, "stem"),
        patient_id=patient,
        split=_own(kept, "split"),
        attributes={t: (_cells(kept, rule.column), rule) for t, rule in rules.items() if t not in absent},
        asked=True,
        facts=[eye.facts for eye in kept if eye.facts] if check_images else None,
        refused=refused,
        left_out=left_out,
        columns_left_out={title: "no file holds it" for title in rules if kept and title in absent},
        warnings=warnings,
        n_found=len(files),
    )
    return raw, note_source


def _sorted_out(
    eyes: list[_Eye], notes: dict[str, str] | None, note_file: str
) -> tuple[list[_Eye], list[dict[str, Any]], list[dict[str, Any]]]:
    """Files to keep, those that cannot be used, and those without a note, with the reasons."""
    kept, refused, left_out = [], [], []
    for eye in eyes:
        entry = {"row": None, "pair_id": eye.stem, "file": eye.path}
        if eye.error is not None:
            refused.append(entry | {"reason": str(eye.error)})
        elif LABEL not in eye.values:
            refused.append(entry | {"reason": f"no member {LABEL!r}"})
        elif notes is not None and eye.stem not in notes:
            left_out.append(entry | {"reason": f"no note in {note_file}"})
        else:
            kept.append(eye)
    return kept, refused, left_out


def _files(folder: Path) -> list[tuple[str, str]]:
    """Paths below the folder, sorted, with the split of each; at least one."""
    found = []
    for name, split in split_folders(folder).items():
        try:
            entries = sorted(path.name for path in resolve_inside(folder, name).iterdir())
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except OSError as error:
            raise InputError(f"{name}: the folder cannot be listed ({type(error).__name__})") from None
        found += [
            (f"{name}/{entry}", split) for entry in entries if entry.endswith(".npz") and not entry.startswith(".")
        ]
    if not found:
        raise InputError(
            f"folder: no .npz files in {' or '.join(split_folders(folder)) or 'Training, Validation or Test'}; "
            f"unpack the data set there"
        )
    return found


def _read_one(folder: Path, file: tuple[str, str], wanted: list[str], check: bool) -> _Eye:
    path, split = file
    try:
        with NpzFile(folder, path) as npz:
            return _Eye(path, split, scalars(npz, wanted), inspect_npz(npz) if check else None)
    except DamagedFile as error:
        return _Eye(path, split, error=error)
    except InputError as error:
        raise InputError(f"{shown_name(path)}: {error}") from None


def _notes(folder: Path, source: str) -> tuple[dict[str, str] | None, str, str]:
    """Notes by file stem, the kind taken and the table they are in; None where they are in the .npz.

    Notes are in a table of their own, or in columns of the summary, as the set is published.
    """
    for kind in NOTE_FILES if source == "auto" else (source,):
        if kind == "npz":
            break
        if (folder / NOTE_FILES[kind]).exists():
            table = _table(folder, NOTE_FILES[kind])
            if len(table.columns) < 2:
                raise InputError(
                    f"{table.file}: one column only; the .npz name (first) and the note (third) are expected"
                )
            columns = list(table.columns)
            return _by_stem(table, columns[0], columns[min(2, len(columns) - 1)]), kind, table.file
        if (folder / SUMMARY).exists():
            table = _table(folder, SUMMARY)
            for name in table.columns:
                if re.sub("[^a-z0-9]", "", name.lower()) in _NOTE_COLUMNS[kind]:
                    return _by_stem(table, _file_column(table), name), kind, table.file
    if source in NOTE_FILES:
        raise InputError(
            f"{NOTE_FILES[source]}: the file is missing, and {SUMMARY} has no such notes; add it, or choose another "
            f'"note_source"'
        )
    return None, "npz", ""


def _by_stem(table: StringTable, key: str, note: str) -> dict[str, str]:
    notes: dict[str, str] = {}
    for i, (name, text) in enumerate(zip(*(table.columns[column].to_pylist() for column in (key, note)), strict=True)):
        stem = _stem(name.strip())
        if stem in notes:
            raise InputError(f"{table.file} row {table.row(i)}: a second note for {shown(stem)}; keep one")
        notes[stem] = text
    return notes


def _file_column(table: StringTable) -> str:
    """The column of a summary that names the .npz."""
    names = ("filename", "file", "file_name", "npz")
    return next((name for name in table.columns if name.lower() in names), next(iter(table.columns)))


def _rules(description: Description) -> dict[str, AttributeRule]:
    chosen = description.attributes
    if isinstance(chosen, dict):
        return dict(chosen)
    if chosen is None:
        return dict(RULES)
    return {name: RULES.get(name, AttributeRule(column=name)) for name in chosen}


def _summary(folder: Path) -> dict[str, dict[str, str]] | None:
    """Rows of data_summary.csv by file stem; None where it is not there."""
    if not (folder / SUMMARY).exists():
        return None
    table = _table(folder, SUMMARY)
    title = _file_column(table)
    wanted = {
        name.lower(): column.to_pylist()
        for name, column in table.columns.items()
        if name.lower() in ("use", "split", LABEL, *PATIENT_COLUMNS)
    }
    rows: dict[str, dict[str, str]] = {}
    for i, name in enumerate(table.columns[title].to_pylist()):
        stem = _stem(name.strip())
        if stem in rows:
            raise InputError(f"{SUMMARY} row {table.row(i)}: a second row for {shown(stem)}; keep one")
        rows[stem] = {column: cells[i].strip() for column, cells in wanted.items()}
    return rows


def _patients(eyes: list[_Eye], summary: dict[str, dict[str, str]] | None) -> tuple[pa.Array | None, bool]:
    """Patient ids from the files, else from the summary, else none; and whether from the summary."""
    for column in PATIENT_COLUMNS:
        if any(column in eye.values for eye in eyes):
            return _cells(eyes, column), False
    for column in PATIENT_COLUMNS:
        if summary and any(column in row for row in summary.values()):
            return _text([summary.get(eye.stem, {}).get(column, "") for eye in eyes]), True
    return None, False


def _disagreements(
    eyes: list[_Eye], summary: dict[str, dict[str, str]] | None, by_summary: bool
) -> list[IntakeWarning]:
    """Where data_summary.csv and the files differ; the files count."""
    if summary is None:
        return []
    missing = WarningKind.SUMMARY_LACKS_PATIENT if by_summary else WarningKind.SUMMARY_LACKS_FILE
    counts: Counter[WarningKind] = Counter()
    for eye in eyes:
        row = summary.get(eye.stem)
        if row is None:
            counts[missing] += 1
            continue
        split = row.get("use") or row.get("split") or ""
        counts[WarningKind.SUMMARY_SPLIT] += SPLIT_FOLDERS.get(split.lower(), eye.split) != eye.split
        label = {"yes": "1", "no": "0", "true": "1", "false": "0"}.get(row.get(LABEL, "").lower(), row.get(LABEL, ""))
        label = label.removesuffix(".0")
        counts[WarningKind.SUMMARY_LABEL] += label in ("0", "1") and eye.values.get(LABEL, label) != label
    counts[WarningKind.SUMMARY_WITHOUT_FILE] = len(set(summary) - {eye.stem for eye in eyes})
    order = (WarningKind.SUMMARY_SPLIT, WarningKind.SUMMARY_LABEL, missing, WarningKind.SUMMARY_WITHOUT_FILE)
    return [IntakeWarning(kind, values={"n": counts[kind]}) for kind in order if counts[kind]]


def _table(folder: Path, name: str) -> StringTable:
    with named(name):
        return read_csv_table(resolve_inside(folder, name), name=name, tidy=True)


def _stem(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".npz")


def _cells(eyes: list[_Eye], column: str) -> pa.Array:
    return _text([eye.values.get(column, "") for eye in eyes])


def _own(eyes: list[_Eye], name: str) -> pa.Array:
    return _text([getattr(eye, name) for eye in eyes])


def _text(values: list[str]) -> pa.Array:
    return pa.array(values, pa.large_string())
