"""The folder layout of Harvard-FairVLMed: one .npz an eye, in a folder a split, notes in tables beside them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import InputError
from .csvtable import StringTable, read_csv_table
from .description import AttributeRule, Description
from .files import DamagedFile, resolve_inside, shown
from .images import ImageFacts, inspect_npz
from .layouts import SPLIT_FOLDERS, split_folders
from .npz import NpzFile, scalars
from .rows import Progress, RawRows
from .warning import IntakeWarning, WarningKind

SUMMARY = "data_summary.csv"
NOTE_FILES = {"summarized": "gpt-4_summarized_notes.csv", "original": "original_notes.csv"}
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

    values: dict[str, str]
    facts: ImageFacts | None = None
    error: DamagedFile | None = None


def fairvlmed_rows(
    folder: Path,
    description: Description,
    *,
    check_images: bool,
    progress: Progress | None = None,
) -> tuple[RawRows, str]:
    """Read the files of a Harvard-FairVLMed folder; the second result says where the notes come from.

    Of each .npz the single values are read, and with `check_images` the image is run through its checksum; no image is
    ever held. The folder a file lies in is its split; ``data_summary.csv`` is compared with it.
    """
    files = _files(folder)
    if not files:
        raise InputError(
            f"folder: no .npz files in {' or '.join(split_folders(folder)) or 'Training, Validation or Test'}; "
            f"unpack the data set there"
        )
    notes, note_source = _notes(folder, description.note_source)
    rules = _rules(description)
    wanted = {LABEL, *PATIENT_COLUMNS, *(rule.column for rule in rules.values())}
    if notes is None:
        wanted.add("note")
    eyes = _read_all(folder, [path for path, _ in files], sorted(wanted), check_images, progress)
    summary = _summary(folder)

    refused: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    kept: list[int] = []
    for i, ((path, _), eye) in enumerate(zip(files, eyes, strict=True)):
        entry = {"row": None, "pair_id": _stem(path), "file": path}
        if eye.error is not None:
            refused.append(entry | {"reason": str(eye.error)})
        elif LABEL not in eye.values:
            refused.append(entry | {"reason": f"no member {LABEL!r}"})
        elif notes is not None and _stem(path) not in notes:
            left_out.append(entry | {"reason": f"no note in {NOTE_FILES[note_source]}"})
        else:
            kept.append(i)
    warnings = []
    if left_out:
        counts: dict[str, int | str] = {"n": len(left_out), "total": len(files), "file": NOTE_FILES[note_source]}
        warnings.append(IntakeWarning(WarningKind.NO_NOTE, values=counts))
    paths = [files[i][0] for i in kept]
    stems = [_stem(path) for path in paths]
    values = [eyes[i].values for i in kept]
    patient, by_summary = _patients(stems, values, summary)
    warnings += _disagreements(files, eyes, summary, by_summary)
    raw = RawRows(
        n=len(kept),
        source=f"{folder.resolve().name}/",
        row=lambda _: None,
        place=lambda index, role: f"{paths[index]}, {'member ' + LABEL if role == 'label' else role}",
        text=_text([notes[stem] for stem in stems] if notes is not None else [v.get("note", "") for v in values]),
        label=_text([v[LABEL] for v in values]),
        image=_text(paths),
        pair_id=_text(stems),
        patient_id=patient,
        split=_text([files[i][1] for i in kept]),
        attributes={
            title: (_text([v.get(rule.column, "") for v in values]), rule)
            for title, rule in rules.items()
            if any(rule.column in v for v in values)
        },
        asked=True,
        facts=[fact for i in kept if (fact := eyes[i].facts)] if check_images else None,
        refused=refused,
        left_out=left_out,
        columns_left_out={
            title: "no file holds it"
            for title, rule in rules.items()
            if values and not any(rule.column in v for v in values)
        },
        warnings=warnings,
        n_found=len(files),
    )
    return raw, note_source


def _files(folder: Path) -> list[tuple[str, str]]:
    """Paths below the folder, sorted, with the split of each."""
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
    return found


def _read_all(folder: Path, paths: list[str], wanted: list[str], check: bool, progress: Progress | None) -> list[_Eye]:
    def read(block: list[str]) -> list[_Eye | InputError]:
        return [_read_one(folder, path, wanted, check) for path in block]

    blocks = [paths[at : at + 32] for at in range(0, len(paths), 32)]
    eyes: list[_Eye] = []
    with ThreadPoolExecutor() as pool:
        for results in pool.map(read, blocks):
            for result in results:
                if isinstance(result, InputError):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise result
                eyes.append(result)
            if progress is not None:
                progress(len(eyes), len(paths))
    return eyes


def _read_one(folder: Path, path: str, wanted: list[str], check: bool) -> _Eye | InputError:
    try:
        with NpzFile(folder, path) as file:
            return _Eye(scalars(file, wanted), inspect_npz(file) if check else None)
    except DamagedFile as error:
        return _Eye({}, error=error)
    except InputError as error:
        return InputError(f"{_shown_path(path)}: {error}")


def _notes(folder: Path, source: str) -> tuple[dict[str, str] | None, str]:
    """Notes by file stem and the kind taken; None where they are in the .npz."""
    if source == "npz":
        return None, "npz"
    there = [kind for kind, name in NOTE_FILES.items() if (folder / name).exists() and source in ("auto", kind)]
    if not there:
        if source == "auto":
            return None, "npz"
        raise InputError(f'{NOTE_FILES[source]}: the file is missing; add it, or choose another "note_source"')
    table = _table(folder, NOTE_FILES[there[0]])
    if len(table.columns) < 2:
        raise InputError(f"{table.file}: one column only; the .npz name (first) and the note (third) are wanted")
    columns = list(table.columns.values())
    names, texts = columns[0].to_pylist(), columns[min(2, len(columns) - 1)].to_pylist()
    notes: dict[str, str] = {}
    for i, (name, text) in enumerate(zip(names, texts, strict=True)):
        stem = _stem(name.strip())
        if stem in notes:
            raise InputError(f"{table.file} row {table.row(i)}: a second note for {shown(stem)}; keep one")
        notes[stem] = text
    return notes, there[0]


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
    title = next(
        (name for name in table.columns if name.lower() in ("filename", "file", "file_name", "npz")),
        next(iter(table.columns)),
    )
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


def _patients(
    stems: list[str], values: list[dict[str, str]], summary: dict[str, dict[str, str]] | None
) -> tuple[pa.Array | None, bool]:
    """Patient ids from the files, else from the summary, else none."""
    for column in PATIENT_COLUMNS:
        if any(column in v for v in values):
            return _text([v.get(column, "") for v in values]), False
    for column in PATIENT_COLUMNS:
        if summary and any(column in row for row in summary.values()):
            return _text([summary.get(stem, {}).get(column, "") for stem in stems]), True
    return None, False


def _disagreements(
    files: list[tuple[str, str]], eyes: list[_Eye], summary: dict[str, dict[str, str]] | None, by_summary: bool
) -> list[IntakeWarning]:
    """Where data_summary.csv and the files differ; the files are believed."""
    if summary is None:
        return []
    missing = WarningKind.SUMMARY_LACKS_PATIENT if by_summary else WarningKind.SUMMARY_LACKS_FILE
    counts: Counter[WarningKind] = Counter()
    for (path, split), eye in zip(files, eyes, strict=True):
        row = summary.get(_stem(path))
        if row is None:
            counts[missing] += 1
            continue
        said = row.get("use") or row.get("split")
        if said and SPLIT_FOLDERS.get(said.lower(), split) != split:
            counts[WarningKind.SUMMARY_SPLIT] += 1
        label = {"yes": "1", "no": "0", "true": "1", "false": "0"}.get(row.get(LABEL, "").lower(), row.get(LABEL, ""))
        if label.removesuffix(".0") in ("0", "1") and eye.values.get(LABEL, label) != label.removesuffix(".0"):
            counts[WarningKind.SUMMARY_LABEL] += 1
    counts[WarningKind.SUMMARY_WITHOUT_FILE] = len(set(summary) - {_stem(path) for path, _ in files})
    order = (WarningKind.SUMMARY_SPLIT, WarningKind.SUMMARY_LABEL, missing, WarningKind.SUMMARY_WITHOUT_FILE)
    return [IntakeWarning(kind, values={"n": counts[kind]}) for kind in order if counts[kind]]


def _table(folder: Path, name: str) -> StringTable:
    try:
        return read_csv_table(resolve_inside(folder, name), name=name)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None


def _stem(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".npz")


def _shown_path(path: str) -> str:
    return shown(path, 120)[1:-1]


def _text(values: list[str]) -> pa.Array:
    return pa.array(values, pa.large_string())
