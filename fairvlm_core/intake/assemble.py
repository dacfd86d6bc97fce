"""From rows of text to a checked table: every rule a pair must meet, whatever the layout.

A fault of the table (a label that is no label, an id given twice, a path that leaves the folder) refuses the table.
A fault of one file (missing, damaged) leaves its pair out, up to a share of all; above it the table is refused too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..cells import MAX_GROUPS, MISSING, is_missing, same_word, words_pattern, zero_one
from ..errors import InputError
from ..words import listed
from .description import DEFAULT_SHARES, LabelRule
from .files import DamagedFile, OutsideFolder, open_inside, path_fault, shown
from .groups import edges_for, to_groups, why_no_attribute
from .identity import pair_ids, patients, patients_alike, patients_in_paths, shared_patients
from .images import ImageFacts, inspect_many
from .locate import HOW_TO_DECLARE, FileFolder
from .report import IntakeReport, build_report
from .rows import COLUMNS, DatasetInfo, Origin, Progress, RawRows, ReadOptions, first_prompts, strings
from .splits import SPLITS, make_splits, related_units
from .warning import IntakeWarning, WarningKind

# Columns that fairvlm's own tables put beside the attributes; an attribute of that name would hide one of them.
OUTPUT_COLUMNS = frozenset(
    ("kind", "mean_loss", "z", "weight", "score", "probe_score", "note_score", "note_probe_score")
)
_SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NO_NOTE = words_pattern(MISSING)
_FILE_NAME = r"(?i)^\s*\S+\.(?:txt|png|jpe?g|tiff?|bmp|dcm|npz|npy|nii|gz|json|xml|csv|docx?|pdf)\s*$"
_NUMBER_ONLY = r"^\s*[+-]?\d+(?:[.,]\d+)?\s*$"
_BAD_PATH = r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|[\x00-\x1f\x7f]"


@dataclass(frozen=True)
class Assembled:
    """What a `PairTable` is made of; the attributes are documented there."""

    frame: pd.DataFrame
    attributes: tuple[str, ...]
    root: Path
    image_root: Path
    info: DatasetInfo
    report: IntakeReport


def assemble(raw: RawRows, origin: Origin, options: ReadOptions, progress: Progress | None = None) -> Assembled:
    """Check the rows against every rule and build the table."""
    n_found = max(raw.n_found, raw.n)
    if n_found == 0:
        raise InputError(f"{raw.source}: no rows; a data set needs one row a pair")
    check_refused_share(raw.refused, n_found, options.max_refused_share, raw.source)

    folder = origin.images or FileFolder(origin.root)
    image = image_paths(raw, folder, search=origin.images is not None)
    pair_id = pair_ids(raw, image)
    label = labels(raw)
    split = split_codes(raw)
    refuse_nul(raw)

    warnings = list(raw.warnings)
    left_out, refused = list(raw.left_out), list(raw.refused)
    keep = _leave_out(raw, pair_id, label, left_out, warnings, n_found)
    warnings += _labels_called_none(raw, label)
    facts = raw.facts
    if options.check_images and facts is None:
        facts = check_all_images(raw, folder.root, image, pair_id, keep, refused, progress)
        check_refused_share(refused, n_found, options.max_refused_share, raw.source)
    warnings += [_left_out_warning(len(refused), n_found, "their image cannot be used")] if refused else []
    _refuse_nothing(keep, raw.source, len(refused), len(left_out))

    rows = np.flatnonzero(keep)
    # Nothing is copied where nothing is left out: of a million notes there should be one copy.
    taken = pa.array(rows) if len(rows) < raw.n else None
    patient_id, without_patient = patients(raw, pair_id)
    warnings += without_patient
    frame = pd.DataFrame(
        {
            "pair_id": strings(_take(pair_id, taken)),
            "patient_id": strings(_take(patient_id, taken)),
            "label": label[rows],
            "text": strings(_take(raw.text, taken)),
            "image": strings(_take(image, taken)),
        }
    )
    columns, columns_left_out, on_groups = group_columns(raw, taken)
    warnings += on_groups
    kept_facts = [facts[i] for i in rows] if facts is not None and options.check_images else None
    made = None
    if split is None:
        made = dict(origin.shares or DEFAULT_SHARES)
        same, on_patients = patients_alike(raw, frame, rows)
        codes = _made_splits(frame, columns, kept_facts, folder.root, made, options.seed, same)
    else:
        codes = split[rows]
    frame.insert(2, "split", pd.Series(pd.Categorical.from_codes(codes, pd.Index(SPLITS, dtype="str"))))
    if split is not None:
        _, on_patients = patients_alike(raw, frame, rows)
    if raw.patient_id is None:
        on_patients += patients_in_paths(frame, raw.columns_there, made=split is None)
    warnings = on_patients + warnings + _odd_notes(frame["text"])
    for title, groups in columns.items():
        frame[title] = groups
    shared = shared_patients(raw, frame, rows, options.allow_shared_patients)
    if shared:
        warnings.insert(0, IntakeWarning(WarningKind.SHARED_PATIENTS, values={"n": shared}))

    info = DatasetInfo(
        name=origin.name, layout=origin.layout, prompts=first_prompts(origin.class_prompts), label_names=origin.label_names,
        class_prompts=origin.class_prompts, description=origin.description, source=raw.source,
        split_source="made" if made else "folder" if origin.layout == "fairvlmed" else "column",
        split_shares=made, seed=options.seed if made else None, note_source=origin.note_source,
        patient_source="column" if raw.patient_id is not None else "pair", shared_patients=shared,
        attribute_sources={title: raw.attributes[title][1].column for title in columns},
    )  # fmt: skip
    report = build_report(
        frame, info, n_rows=n_found, refused=refused, left_out=left_out, columns_left_out=columns_left_out,
        facts=kept_facts, warnings=warnings,
    )  # fmt: skip
    return Assembled(frame, tuple(columns), origin.root, folder.root, info, report)


def _labels_called_none(raw: RawRows, label: np.ndarray) -> list[IntakeWarning]:
    said_none = pc.match_substring_regex(raw.label, words_pattern(["none"])).to_numpy(zero_copy_only=False)
    n = int((said_none & (label < 0)).sum())
    return [IntakeWarning(WarningKind.LABEL_NONE, values={"n": n})] if n else []


def _refuse_nothing(keep: np.ndarray, source: str, n_refused: int, n_left_out: int) -> None:
    if not keep.any():
        raise InputError(
            f"{source}: no pair is left; {n_refused} images cannot be used and {n_left_out} rows have no note or label"
        )


def _leave_out(
    raw: RawRows, pair_id: pa.Array, label: np.ndarray, left_out: list[dict[str, Any]], warnings: list[IntakeWarning],
    n_found: int,
) -> np.ndarray:  # fmt: skip
    """Mask of the rows with a label and a note; the others are added to `left_out` and `warnings`."""
    blank = pc.match_substring_regex(raw.text, _NO_NOTE).to_numpy(zero_copy_only=False)
    keep = np.ones(raw.n, bool)
    for reason, gone in (("no label", label < 0), ("empty note", blank)):
        found = np.flatnonzero(gone & keep).tolist()
        left_out += [{"row": raw.row(i), "pair_id": pair_id[i].as_py(), "reason": reason} for i in found]
        if gone.any():
            warnings.append(_left_out_warning(len(found), n_found, reason))
        keep &= ~gone
    return keep


def _left_out_warning(n: int, total: int, reason: str) -> IntakeWarning:
    return IntakeWarning(WarningKind.LEFT_OUT, values={"n": n, "total": total, "reason": reason})


def check_refused_share(refused: list[dict[str, Any]], n: int, limit: float, source: str) -> None:
    """Refuse the whole table where too many pairs cannot be used; the message names the first three."""
    if len(refused) <= limit * n:
        return
    places = [entry.get("file") or f"row {entry['row']}" for entry in refused[:3]]
    named = [f"{place}: {entry['reason']}" for place, entry in zip(places, refused, strict=False)]
    more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
    raise InputError(
        f"{source}: {len(refused)} of {n} pairs cannot be used, more than max_refused_share={limit:g} allows "
        f"({'; '.join(named)}{more}); fix the files, or allow a larger share with --max-refused"
    )


def image_paths(raw: RawRows, folder: FileFolder, *, search: bool = False) -> pa.Array:
    """Paths below `folder.root`, in one spelling; empty where the cell is. A path out of the folder refuses the table.

    With `search`, files that the paths do not name are looked for (`FileFolder.found`).
    """
    cells = pc.replace_substring(pc.utf8_trim_whitespace(raw.image), "\\", "/")
    cells = pc.if_else(pc.match_substring_regex(cells, _NO_NOTE), "", cells)
    # Paths pasted from a file manager: in quotes, or as an address.
    cells = pc.replace_substring_regex(cells, r"""^["']\s*(.*?)\s*["']$""", r"\1")
    cells = pc.replace_substring_regex(cells, r"^(?i:file)://(?:localhost)?", "")
    if search and pc.any(pc.starts_with(cells, "/")).as_py():
        cells = pa.array([folder.inside(cell) for cell in cells.to_pylist()], cells.type)
    bad = pc.index(pc.match_substring_regex(cells, _BAD_PATH), True).as_py()
    if bad >= 0:
        fault = path_fault(cells[bad].as_py())
        how = f"; {HOW_TO_DECLARE}" if search and cells[bad].as_py().startswith("/") else ""
        raise InputError(f"{raw.place(bad, 'image')}: {fault}{how}")
    cells = pc.replace_substring_regex(cells, r"/+", "/")
    cells = pc.replace_substring_regex(cells, r"(^|/)(?:\./)+", r"\1")
    if search and (found := folder.found(pc.unique(cells).to_pylist())):
        cells = pa.array([found.get(cell, cell) for cell in cells.to_pylist()], cells.type)
    if folder.below:
        below = pc.binary_join_element_wise(pa.scalar(folder.below, cells.type), cells, pa.scalar("/", cells.type))
        cells = pc.if_else(pc.equal(cells, ""), cells, below)
    return cells


def labels(raw: RawRows) -> np.ndarray:
    """Labels as int8; -1 where a rule meets an empty cell. Without a rule an empty cell is an error, as any other."""
    fix = 'list it under "positive" or "negative" in the description\'s "label"' if raw.label_rule else "write 0 or 1"
    return _coded(raw, "label", label_coder(raw.label_rule), fix)


def label_coder(rule: LabelRule | None) -> Callable[[str], int | None]:
    """A cell to its label: 0, 1, -1 for a pair to leave out, None for a cell that the rule does not know.

    >>> code = label_coder(LabelRule(positive=("MEL",), left_out=("UNK",)))
    >>> code("mel"), code("NV"), code("unk"), code("")
    (1, 0, -1, -1)
    """
    if rule is None or rule.plain:
        left_out = () if rule is None else tuple(map(same_word, rule.left_out))
        return lambda value: -1 if same_word(value) in left_out else zero_one(value)
    lists = {name: tuple(map(same_word, getattr(rule, name) or ())) for name in ("positive", "negative", "left_out")}
    part = (rule.contains or rule.lacks or "").casefold()
    other = None if rule.positive and rule.negative is not None else int(not rule.positive)

    def code(value: str) -> int | None:
        word = same_word(value)
        if word in lists["left_out"]:
            return -1
        if part:
            return -1 if is_missing(value) else int((part in value.casefold()) == (rule.lacks is None))
        if word in lists["positive"]:
            return 1
        if word in lists["negative"]:
            return 0
        return -1 if is_missing(value) else other

    return code


def split_codes(raw: RawRows) -> np.ndarray | None:
    """Codes into ("train", "val", "test"), or None where the source has no splits."""
    codes = {name: SPLITS.index(split) for name, split in _SPLIT_NAMES.items()}
    if raw.split is None:
        return None
    return _coded(raw, "split", lambda value: codes.get(value.casefold()), "write train, val or test")


def _coded(raw: RawRows, column: str, code: Callable[[str], int | None], fix: str) -> np.ndarray:
    """A column as int8, each distinct cell coded once; a cell without a code is an error that ends with `fix`."""
    coded = pc.dictionary_encode(pc.utf8_trim_whitespace(getattr(raw, column)))
    values, indices = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    codes = [code(value) for value in values]
    if None in codes:
        wrong = codes.index(None)
        place = raw.place(int(np.argmax(indices == wrong)), column)
        raise InputError(f"{place}: the {column} is {shown(values[wrong])}; {fix}")
    return np.array(codes, np.int8)[indices] if codes else np.empty(0, np.int8)


def refuse_nul(raw: RawRows) -> None:
    """A NUL character would be lost or end the text in other programs."""
    first = pc.index(pc.match_substring_regex(raw.text, r"\x00"), True).as_py()
    if first >= 0:
        raise InputError(f"{raw.place(first, 'text')}: the note holds a NUL character; the file is damaged or binary")


def check_all_images(
    raw: RawRows, root: Path, image: pa.Array, pair_id: pa.Array, keep: np.ndarray, refused: list[dict[str, Any]],
    progress: Progress | None,
) -> list[ImageFacts]:  # fmt: skip
    """Facts of the kept rows' images; damaged ones clear `keep` and are added to `refused`, hostile ones raise."""
    rows = np.flatnonzero(keep)
    paths = image.take(pa.array(rows)).to_pylist()
    results = iter(inspect_many(root, [path for path in paths if path], progress=progress))
    facts: list[Any] = [None] * raw.n
    for i, path in zip(rows.tolist(), paths, strict=True):
        result = next(results) if path else DamagedFile("the image cell is empty")
        if isinstance(result, DamagedFile):
            keep[i] = False
            refused.append({"row": raw.row(i), "pair_id": pair_id[i].as_py(), "reason": str(result)})
        elif isinstance(result, InputError):
            how = f"; {HOW_TO_DECLARE}" if isinstance(result, OutsideFolder) else ""
            raise InputError(f"{raw.place(i, 'image')}: {result}{how}")
        else:
            facts[i] = result
    return facts


def group_columns(
    raw: RawRows, taken: pa.Array | None
) -> tuple[dict[str, pd.Categorical], dict[str, str], list[IntakeWarning]]:
    """The attributes as categoricals, the columns that are none with the reason, and warnings."""
    columns: dict[str, pd.Categorical] = {}
    left_out = dict(raw.columns_left_out)
    warnings: list[IntakeWarning] = []
    numbers: dict[str, list[float]] = {}
    for title, (cells, rule) in raw.attributes.items():
        place = f"{raw.source}: attribute {shown(title)}"
        if title in COLUMNS:
            raise InputError(f"{place} has the name of a column of every table; rename it")
        if title in OUTPUT_COLUMNS:
            reason = f"its name is that of a column in fairvlm's own results ({', '.join(sorted(OUTPUT_COLUMNS))})"
            if raw.asked:
                raise InputError(f"{place} cannot be used: {reason}; rename it")
            left_out[title] = reason
            if edges := edges_for(_take(cells, taken)):
                numbers[title] = edges
            continue
        chosen = _take(cells, taken)
        edges = edges_for(chosen) if rule.names is None and rule.bins is None else None
        if edges:
            numbers[title] = edges
        if not raw.asked and (unfit := why_no_attribute(chosen)):
            left_out[title] = unfit
            continue
        grouped = to_groups(chosen, rule, order=raw.orders.get(title))
        if len(grouped.groups.categories) > MAX_GROUPS + 1:
            fix = 'give it "names" in the description'
            if edges:
                fix = f"they are numbers: cut them into bands, {_banded(raw, [title], numbers, columns)}"
            raise InputError(
                f"{place} has {len(grouped.groups.categories)} groups, more than {MAX_GROUPS}; {fix}, or leave it out"
            )
        columns[title] = grouped.groups
        warnings += [IntakeWarning(kind, title, values=values) for kind, values in grouped.odd.items()]
    if numbers:
        values = {"columns": listed([shown(title)[1:-1] for title in numbers]),
                  "fix": _banded(raw, list(numbers), numbers, columns)}  # fmt: skip
        warnings.insert(0, IntakeWarning(WarningKind.NEEDS_BANDS, values=values))
    return columns, left_out, warnings


def _banded(
    raw: RawRows, titles: list[str], edges: Mapping[str, list[float]], columns: Mapping[str, pd.Categorical]
) -> str:
    """What to write to have bands of some columns beside the attributes that there are."""
    if not raw.described:
        title = titles[0]
        return f'as with fairvlm_core.bands(frame["{shown(title)[1:-1]}"], {_short(edges[title])})'
    rules: dict[str, Any] = {}
    if not raw.asked:  # the entry replaces the automatic choice
        rules = {title: raw.attributes[title][1].column for title in columns if title not in titles}
    rules |= {
        title + "_band" * (title in OUTPUT_COLUMNS): {
            "column": raw.attributes[title][1].column,
            "bins": _short(edges[title]),
        }
        for title in titles
    }
    entry = json.dumps({"attributes": rules}, ensure_ascii=False)
    return (
        f"with {entry} in dataset.json"
        if not raw.asked
        else f"with {entry[1:-1]} in dataset.json (merged with the others)"
    )


def _short(edges: Sequence[float]) -> list[float]:
    return [int(edge) if float(edge).is_integer() else edge for edge in edges]


def _odd_notes(notes: pd.Series) -> list[IntakeWarning]:
    """Notes that are hardly notes: names of files, or numbers alone, in more than a few pairs."""
    cells = pa.array(notes, pa.large_string())
    counts = {
        WarningKind.NOTES_ARE_FILES: pc.sum(pc.match_substring_regex(cells, _FILE_NAME)).as_py(),
        WarningKind.NOTES_ARE_NUMBERS: pc.sum(pc.match_substring_regex(cells, _NUMBER_ONLY)).as_py(),
    }
    return [
        IntakeWarning(kind, values={"n": n, "total": len(cells)})
        for kind, n in counts.items()
        if n and n > 0.05 * len(cells)
    ]


def _made_splits(
    frame: pd.DataFrame, columns: Mapping[str, pd.Categorical], facts: list[ImageFacts] | None, root: Path,
    shares: dict[str, float], seed: int, same_patient: np.ndarray,
) -> np.ndarray:  # fmt: skip
    # The same image under two patient ids is most likely the same person, as are ids that differ only in how they are
    # written: such patients stay together.
    if facts is not None:
        image = pd.factorize(np.array([fact.digest for fact in facts]))[0]
    else:
        image = _equal_files(root, frame["image"].tolist())
    unit = related_units(pd.factorize(frame["patient_id"])[0], image, same_patient)
    groups = [groups.codes for groups in columns.values()]
    return make_splits(frame["pair_id"].tolist(), unit, frame["label"].to_numpy(), groups, shares, seed)


def _equal_files(root: Path, paths: list[str]) -> np.ndarray:
    """Codes that are equal for equal files, -1 where there is none: as the image check finds them, without decoding.

    Only files of one size are compared, so that most are never opened.
    """
    home = str(Path(root).resolve())
    sizes: dict[str, int] = {}
    for path in dict.fromkeys(paths):
        try:
            sizes[path] = os.stat(f"{home}/{path}").st_size if path else -1  # noqa: PTH116 - a Path a file costs seconds
        except (OSError, ValueError):
            sizes[path] = -1
    counts = pd.Series(list(sizes.values())).value_counts()
    keys: dict[str, str | None] = {}
    for path, size in sizes.items():
        keys[path] = path or None
        if size >= 0 and counts[size] > 1:
            try:
                with open_inside(Path(home), path) as file:
                    keys[path] = hashlib.sha256(file.read()).hexdigest()
            except (InputError, OSError):
                pass
    return pd.factorize(pd.Series([keys[path] for path in paths], dtype=object))[0]


def _take(cells: pa.Array, rows: pa.Array | None) -> pa.Array:
    return cells if rows is None else cells.take(rows)
