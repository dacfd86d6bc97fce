"""A description proposed for a folder as it is: which table, which column holds what, and why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cells import spelling
from ..errors import InputError
from ..words import listed, many
from .assemble import label_coder
from .csvtable import StringTable
from .description import Description, JoinRule, LabelRule, known_descriptions, parse_description
from .files import shown, tidy_path
from .guess import (
    SAMPLE_ROWS,
    Column,
    Guess,
    Reason,
    columns_of,
    common,
    compose_note,
    guess_attributes,
    guess_classes,
    guess_label,
    guess_notes,
    guess_patients,
    guess_prompts,
    guess_split,
)
from .layouts import MANIFESTS, check_folder, find_layout
from .locate import IMAGE_ENDINGS, NOTE_ENDINGS, FileFolder
from .tablefile import PACKED, TABLE_ENDINGS, is_utf16, read_any_table, table_header
from .tables import read_tables

DATASET = "dataset.json"
_NO_TABLES = re.compile(
    r"(?i)planted\.csv|findings\.csv|sample_submission.*|.*bbox.*|readme.*|licen[cs]e.*|requirements\.txt"
)
_DEPTH = 3
_LAST_PART = r"[^/\\]+$"
_MOST_TABLES = 40


@dataclass(frozen=True)
class Proposal:
    """A description for a folder, with the reasons.

    Attributes
    ----------
    description
        The content of a ``dataset.json``.
    reasons
        One for each decision, in the order of the entries.
    columns
        Names of the table's columns, with a few values each, for a person who changes a guess.
    """

    description: dict[str, Any]
    reasons: tuple[Reason, ...]
    columns: Mapping[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """``{"description": {...}, "reasons": [...]}``, ready for JSON."""
        return {"description": self.description, "reasons": [reason.to_dict() for reason in self.reasons]}


def describe_folder(folder: Path | str, images: Path | str | None = None) -> Proposal:
    """Propose a description for whatever lies in a folder; nothing is written.

    Parameters
    ----------
    folder
        Holds a table (CSV with any separator, Excel, Parquet, JSON lines) and images, or needs no description.
    images
        The folder of the images, where they lie elsewhere.

    Raises
    ------
    InputError
        There is no such folder, or no table in it.
    """
    folder = check_folder(folder)
    if (own := _own_layout(folder)) is not None:
        return own
    tables = _tables(folder)
    if inner := next((path for path in tables if path.rpartition("/")[2] in MANIFESTS), None):
        raise InputError(
            f"folder: the data set is in its folder {shown(inner.rpartition('/')[0])} ({inner}); open that one"
        )
    if not tables:
        for path in sorted(folder.iterdir()):
            if path.is_file() and _may_be_table(path):
                read_any_table(path)  # its error says why it is none, such as an encoding
        raise InputError(
            f"folder: no table in {folder.name!r}: a CSV, TSV, Excel, Parquet or JSON lines file with one row an image is "
            "needed; images in folders named by class have no notes"
        )
    start = FileFolder.of(folder, "", images)
    guess = Guess()
    if images is not None:
        guess.put("images", str(start.root), "given")
    return _known(folder, tables, start, guess) or _unknown(folder, tables, start, guess)


def needs_description(folder: Path | str) -> bool:
    """Whether a folder has neither a description of its own nor a layout that needs none."""
    folder = check_folder(folder)
    return not (folder / DATASET).exists() and _own_layout(folder) is None


def place_in_workspace(workspace: Path, folder: Path | str) -> Path:
    """Where a workspace keeps the description of a data folder that cannot be written to."""
    folder = Path(folder).resolve()
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(workspace) / "descriptions" / f"{re.sub(r'[^A-Za-z0-9]+', '-', folder.name)[:60]}-{digest}.json"


def write_description(
    folder: Path, description: Mapping[str, Any], path: Path | None = None, *, replace: bool = False
) -> Path:
    """Write a checked description to ``dataset.json`` in the folder, or to `path`.

    A different one that is there is replaced only if `replace`.

    Raises
    ------
    InputError
        The description is wrong, another one is there, or the place cannot be written to.
    """
    parse_description(description, "description")
    path = path or Path(folder) / DATASET
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    try:
        if not replace and path.exists() and path.read_text(encoding="utf-8-sig") != text:
            raise InputError(
                f"{path.name}: there is one already in {path.parent.name!r}; move it away first, or edit it"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path.name}: cannot be written ({type(error).__name__}); save it elsewhere and pass it with --description"
        ) from None
    return path


def _own_layout(folder: Path) -> Proposal | None:
    """For a folder that needs no description: an empty one that says so."""
    try:
        layout = find_layout(folder, {})
    except InputError:
        return None
    if layout.kind == "foreign":
        return None
    text = (
        f"the {layout.kind} layout is read without a description; entries for names, prompts or attributes may be added"
    )
    reasons = [Reason("", text)]
    if layout.kind != "fairvlmed" and layout.description.prompts is None:
        text = "without prompts, zero-shot scores ask for glaucoma: write prompts for your two labels"
        reasons.append(Reason("prompts", text, False))
    return Proposal({"schema": 1, "name": folder.resolve().name}, tuple(reasons), {})


def _tables(folder: Path) -> dict[str, list[str]]:
    """Paths of tables in the folder and its subfolders, with their column names; nearest first."""
    found: dict[str, list[str]] = {}
    level = [folder]
    for _ in range(_DEPTH):
        deeper: list[Path] = []
        for place in level:
            try:
                entries = sorted(place.iterdir())
            except OSError:
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                if entry.is_dir():
                    deeper.append(entry)
                elif (
                    (_may_be_table(entry) or (place == folder and _is_text_export(entry)))
                    and len(found) < _MOST_TABLES
                    and len(header := table_header(entry)) > 1
                ):
                    found[entry.relative_to(folder).as_posix()] = header
        level = deeper[:200]
    return found


def _may_be_table(path: Path) -> bool:
    ending = Path(path.stem).suffix.lower() if path.suffix.lower() == PACKED else path.suffix.lower()
    return (ending in TABLE_ENDINGS or not ending) and not _NO_TABLES.fullmatch(path.name)


def _is_text_export(path: Path) -> bool:
    """Whether a .txt is a table with tabs in UTF-16, as Excel writes Unicode text."""
    return path.suffix.lower() == ".txt" and is_utf16(path)


def _known(folder: Path, tables: Mapping[str, list[str]], start: FileFolder, guess: Guess) -> Proposal | None:
    """The ready description of a public set whose columns a table has."""
    fitting = [
        (one, paths)
        for one in known_descriptions().values()
        if (paths := [path for path, header in tables.items() if set(one.recognise) <= set(header)])
    ]
    if not fitting:
        return None
    description, paths = max(fitting, key=lambda one: len(one[0].recognise))
    content = description.model_dump(by_alias=True, exclude_defaults=True, mode="json") | guess.entries
    one = len(paths) == 1 and isinstance(description.table, str)
    content |= {"schema": 1, "table": paths[0] if one else paths}
    del content["recognise"]
    table = read_tables(folder, content["table"])
    columns = {column.name: column for column in columns_of(table)}
    first = content["columns"][0] if isinstance(content["columns"], list) else content["columns"]
    if "patient_id" in columns and "patient_pattern" not in content:
        first.setdefault("patient_id", "patient_id")
    text = f"the columns are those of {description.name}: {description.about}"
    reasons = [Reason("table", text, True, tuple(paths)), *guess.reasons]
    image = columns.get(first["image"])
    if image is not None:
        trial = _try(image, start, start.files())
        if "images" not in guess.entries:
            content |= {"images": trial.images}
        reasons.append(_image_reason(image, trial))
    if not content.get("images"):
        content.pop("images", None)
    reasons += _said(content, first)
    return Proposal(_ordered(content), tuple(reasons), {name: column.examples for name, column in columns.items()})


def _said(content: Mapping[str, Any], columns: Mapping[str, str]) -> list[Reason]:
    """What a ready description says of notes, patients, label and groups."""
    patient = columns.get("patient_id") or content.get("patient_pattern")
    label = content.get("label") or columns.get("label")
    entries = {
        "columns.text": f"the note: {_shown(columns['text'])}",
        "columns.patient_id": f"the patient: {_shown(patient)}" if patient else "",
        "label": f"{content['label_names'][1]}: {_shown(label)}",
        "attributes": f"groups: {listed(list(content['attributes']))}" if content.get("attributes") else "",
    }
    return [Reason(entry, text) for entry, text in entries.items() if text]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class _Trial:
    """Which of a column's values are files: `share` of the sample, below `images`, with `ending` added.

    `beside` where they lie in the folder of the table.
    """

    share: float = 0.0
    images: str = ""
    ending: str = ""
    places: tuple[str, ...] = ()
    beside: bool = False


def _try(
    column: Column, start: FileFolder, files: Sequence[str], endings: frozenset[str] = IMAGE_ENDINGS, table: str = ""
) -> _Trial:
    """Look for the files that the cells of a column name, first in the folder of the table."""
    cells = [start.inside(tidy_path(cell)) for cell in dict.fromkeys(column.cells) if cell]
    cells = [cell for cell in cells if ".." not in cell and len(cell) < 500]
    if not cells or not files:
        return _Trial()
    if beside := table.rpartition("/")[0]:
        places = {f"{beside}/{cell}" for cell in cells} & set(files)
        if places:
            return _Trial(len(places) / len(cells), beside, "", tuple(sorted(places)), beside=True)
    found = start.places(cells, endings, files)
    if not found:
        return _Trial()
    ways = set()
    for cell, place in found.items():
        stem = place if place.endswith(cell) else place[: place.rfind(".")]
        ways.add((stem[: -len(cell)], place[len(stem) :]) if stem.endswith(cell) else None)
    way = common(ways) or ("", "")
    return _Trial(len(found) / len(cells), way[0].rstrip("/"), way[1], tuple(found.values()))


def _image_reason(column: Column, trial: _Trial, side: str = "columns.image") -> Reason:
    if trial.share > 0:
        where = f" in {trial.images}/" if trial.images else ""
        ending = f", with {trial.ending} added" if trial.ending else ""
        said = f"{trial.share:.0%} of its first cells are the names of files{where}{ending}"
        return Reason(side, f"column {shown(column.name)}: {said}", trial.share > 0.5, trial.places[:3])
    text = (
        f"column {shown(column.name)}: no such files were found; if the images lie elsewhere, name their folder: "
        '--images FOLDER, or "images" in dataset.json'
    )
    return Reason(side, text, False, column.examples)


def _unknown(folder: Path, tables: Mapping[str, list[str]], start: FileFolder, guess: Guess) -> Proposal:
    """A description from the names and cells of the columns."""
    files = start.files()
    best, columns, trials = _best_table(folder, tables, start, files)
    same = [path for path, header in tables.items() if header == tables[best]]
    table = _guess_tables(folder, tables, same, guess)
    if set(table.columns) != set(tables[best]):
        columns = columns_of(table)
    image = _guess_images(guess, columns, trials, same, start)
    trial = _Trial() if image is None else trials[image.name]
    if image is not None and image.name.lower().endswith(tuple(IMAGE_ENDINGS)):
        raise InputError(
            f"{best}: its first row names an image, {shown(image.name)}, where the names of the columns belong: add a row "
            "above it, such as image,note,label"
        )
    if image is not None and not (trial.beside and len(same) > 1) and (n := _repeated(table, image)):
        guess.put("group_by", image.name, f"{n:,} rows repeat an image: rows of one image are one pair")
    _guess_note_files(guess, columns, image, start, files)
    notes = "text" in guess.entries.get("columns", {}) or "notes" in guess.entries or guess_notes(guess, columns)
    guess_split(guess, [column for column in columns if column.name not in ("table", "folder")])
    if "split" not in guess.entries.get("columns", {}) and len(same) > 1:
        _split_by_table(guess, columns)
    guess_patients(guess, columns, trial.places)
    label = None if guess_classes(guess, columns) else guess_label(guess, columns)
    guess_attributes(guess, columns)
    if not notes:
        compose_note(guess, columns, label)
    _finish(guess, label)
    return Proposal(
        _ordered({"schema": 1, "name": folder.resolve().name} | guess.entries),
        tuple(sorted(guess.reasons, key=lambda reason: reason.sure)),
        {column.name: column.examples for column in columns},
    )


def _guess_tables(folder: Path, tables: Mapping[str, list[str]], same: Sequence[str], guess: Guess) -> StringTable:
    """The table, or those with the same columns as one, with further tables joined."""
    name = same[0] if len(same) == 1 else list(same)
    others = [path for path in tables if path not in same]
    table = read_tables(folder, name)
    joined = _joins(folder, table, others)
    others = [path for path in others if path not in {rule.table for rule in joined}]
    also = f"; other tables: {listed([shown(path) for path in others], limit=4)}" if others else ""
    guess.put("table", name, f"{many(len(tables[same[0]]), 'column')}{also}", sure=not others)
    if not joined:
        return table
    said = listed([f"{shown(rule.table)} by {rule.on}" for rule in joined])
    guess.put("join", [rule.model_dump() for rule in joined], f"columns of further tables: {said}")
    return read_tables(folder, name, join=joined)


def _finish(guess: Guess, label: Column | None) -> None:
    """Prompts, and the label of rows that are one pair."""
    rule = LabelRule.model_validate(guess.entries["label"]) if "label" in guess.entries else None
    guess_prompts(guess, label, label_coder(rule))
    if "group_by" in guess.entries and label is not None and rule is None and label.words <= {"0", "1"}:
        guess.put("label", {"contains": "1"}, "1 where any row of the image says so")


def _joins(folder: Path, table: StringTable, others: Sequence[str]) -> list[JoinRule]:
    """Tables that have one row for nearly every row of the table, by a column of the same name."""
    found: list[JoinRule] = []
    for path in others:
        try:
            other = read_tables(folder, path)
        except InputError:
            continue
        new = set(other.columns) - set(table.columns)
        for name in [name for name in table.columns if name in other.columns] if new and len(found) < 4 else ():
            keys = [spelling(cell) for cell in other.columns[name].to_pylist()]
            mine = {spelling(cell) for cell in table.columns[name].slice(0, SAMPLE_ROWS).to_pylist()} - {""}
            if len(set(keys)) == len(keys) > 1 and len(mine) > 1 and len(mine & set(keys)) >= 0.9 * len(mine):
                found.append(JoinRule(table=path, on=name))
                break
    return found


def _repeated(table: StringTable, image: Column) -> int:
    """Rows beyond the first of each image, where they are many; several images of one name are none."""
    cells = [cell for cell in table.columns[image.name].to_pylist() if cell.strip()]
    extra = len(cells) - len(set(cells))
    return extra if extra > 0.05 * len(cells) else 0


def _best_table(
    folder: Path, tables: Mapping[str, list[str]], start: FileFolder, files: Sequence[str]
) -> tuple[str, list[Column], dict[str, _Trial]]:
    """The table whose cells name the most images, its columns, and what was found for each of them."""
    best: tuple[float, str, list[Column], dict[str, _Trial]] | None = None
    for path in tables:
        try:
            columns = columns_of(read_tables(folder, path))
        except InputError:
            continue
        trials = {column.name: _try(column, start, files, table=path) for column in columns}
        score = max((trial.share for trial in trials.values()), default=0.0) + 0.001 * min(len(columns), 100)
        if best is None or score > best[0]:
            best = score, path, columns, trials
    if best is None:
        raise InputError(f"folder: no table in {folder.name!r} can be read; the first is {shown(next(iter(tables)))}")
    return best[1], best[2], best[3]


def _guess_images(
    guess: Guess, columns: Sequence[Column], trials: Mapping[str, _Trial], tables: Sequence[str], start: FileFolder
) -> Column | None:
    def score(column: Column) -> tuple[float, bool]:
        named = bool(column.named(r"image|img|file|path|picture|photo|dicom|scan"))
        return round(trials.get(column.name, _Trial()).share, 1) + 0.05 * named, named

    image = max(columns, key=score)
    trial = trials.get(image.name, _Trial())
    if trial.share == 0 and not score(image)[1]:
        text = 'no column names files of the folder; name the column of the images, and "images" if they lie elsewhere'
        guess.reasons.append(Reason("columns.image", text, False))
        return None
    if trial.beside and len(tables) > 1:  # each table names the files beside it
        guess.put("columns.image", f"{{folder}}/{{{image.name}}}{trial.ending}", "", column=image)
    elif trial.share > 0 and _elsewhere(image, start):  # paths on another machine: files are found by their names
        guess.put("columns.image", f"{{{image.name}:{_LAST_PART}}}", "", column=image)
    else:
        value = (
            f"{{{image.name}}}{trial.ending}" if trial.ending and re.fullmatch(r"[^:{}]+", image.name) else image.name
        )
        guess.put("columns.image", value, "", column=image)
        if trial.images and "images" not in guess.entries:
            guess.put("images", trial.images, "the images lie there")
    guess.reasons = [reason for reason in guess.reasons if reason.entry != "columns.image"]
    guess.reasons.append(_image_reason(image, trial))
    return image


def _elsewhere(column: Column, start: FileFolder) -> bool:
    """Whether the cells are absolute paths, with a drive or without, that do not lead into the folder."""
    cells = [start.inside(tidy_path(cell)) for cell in column.cells if cell]
    return bool(cells) and all(re.match(r"(?:[A-Za-z]:)?[\\/]", cell) for cell in cells) and ":" not in column.name


def _guess_note_files(
    guess: Guess, columns: Sequence[Column], image: Column | None, start: FileFolder, files: Sequence[str]
) -> None:
    """Notes in .txt files that a column names: its cells, its cells behind letters (s123.txt), or the images' names."""
    texts = [
        path for path in files if path.lower().endswith(".txt") and not _NO_TABLES.fullmatch(path.rpartition("/")[2])
    ]
    if len(texts) < 5 or start.links is not None:
        return
    letters = common({re.split(r"\d", path.rpartition("/")[2])[0] for path in texts}) or ""
    for column in sorted(columns, key=lambda one: one is image):
        for before in dict.fromkeys(("", letters)):
            cells = tuple(before + re.sub(r"(\.[^./]*)?$", ".txt", cell) for cell in column.cells if cell)
            trial = _try(dataclasses.replace(column, cells=cells), start, texts, NOTE_ENDINGS)
            if trial.share <= 0.5:
                continue
            guess.put("notes", trial.images, f"{many(len(texts), 'note file')}; column {shown(column.name)} names them")
            if column is not image:
                guess.put(
                    "columns.text", f"{before}{{{column.name}}}" if before else column.name, "names the note files"
                )
            return


def _split_by_table(guess: Guess, columns: Sequence[Column]) -> None:
    for title in ("folder", "table"):
        column = next((one for one in columns if one.name == title), None)
        pattern = "train|valid|val|dev|test"
        if column is not None and all(re.search(pattern, value.lower()) for value in column.counts):
            text = "the names of the tables"
            guess.put("columns.split", f"{{{title}:{pattern}}}", text, column=column)
            guess.reasons = [reason for reason in guess.reasons if reason.entry != "splits"]
            return


def _ordered(entries: dict[str, Any]) -> dict[str, Any]:
    order = [field.alias or name for name, field in Description.model_fields.items()]
    return {name: entries[name] for name in sorted(entries, key=order.index)}
