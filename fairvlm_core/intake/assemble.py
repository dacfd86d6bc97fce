"""From rows of text to a validated `PairTable`: every rule a pair must meet, in one place, whatever the layout.

A fault of the table (a label that is no label, an id given twice, a path that climbs out of the folder) refuses the
table. A fault of one file (missing, damaged) leaves that pair out, up to a share; above it the table is refused too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..pairs import COLUMNS, STRING, DatasetInfo, PairTable
from .description import DEFAULT_SHARES, AttributeRule, LabelRule
from .files import DamagedFile, open_inside, path_fault, shown
from .groups import MAX_GROUPS, to_groups, why_no_attribute
from .images import ImageFacts, inspect_many
from .report import build_report
from .splits import SPLITS, make_splits, related_units
from .warning import IntakeWarning, WarningKind

# Columns that fairvlm's own tables put beside the attributes; an attribute of that name would hide one of them.
OUTPUT_COLUMNS = frozenset(("kind", "mean_loss", "z", "weight", "score", "probe_score"))
MAX_ID_CHARS = 200
_SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
# "none" is not among them: as a finding it says that there is none.
_NO_LABEL = frozenset(("", "-1", "nan", "null", "<na>"))
_BAD_PATH = r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|[\x00-\x1f\x7f]"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RawRows:
    """Rows as a layout gives them: text, in the columns of a `PairTable`.

    Attributes
    ----------
    n
        Number of rows, the length of every array below.
    source
        Name of the table or folder, for messages.
    row
        Index to the row number (or None) that a person finds in the source.
    place
        Index and column to the words that begin a message, "manifest.csv row 7, column label".
    pair_id, patient_id, split
        None where the source has no such column.
    attributes
        Attribute name to cells and rule, in order.
    asked
        Whether somebody chose the attributes; if not, columns that cannot be groups are left out.
    facts
        Image facts of the rows where the layout has checked them while reading, else None.
    refused, left_out, warnings, n_found
        What the layout did not hand on; `n_found` counts those rows too.
    """

    n: int
    source: str
    row: Callable[[int], int | None]
    place: Callable[[int, str], str]
    text: pa.Array
    label: pa.Array
    image: pa.Array
    pair_id: pa.Array | None = None
    patient_id: pa.Array | None = None
    split: pa.Array | None = None
    attributes: Mapping[str, tuple[pa.Array, AttributeRule]] = field(default_factory=dict)
    orders: Mapping[str, list[str]] = field(default_factory=dict)
    asked: bool = False
    label_rule: LabelRule | None = None
    image_folder: str = ""
    facts: list[ImageFacts] | None = None
    refused: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    columns_left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: list[IntakeWarning] = field(default_factory=list)
    n_found: int = 0


def assemble(
    raw: RawRows,
    *,
    root: Path,
    name: str,
    layout: str,
    description: str = "none",
    prompts: tuple[str, str],
    label_names: tuple[str, str],
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    max_refused_share: float = 0.05,
    allow_shared_patients: bool = False,
    check_images: bool = True,
    note_source: str = "column",
    progress: Progress | None = None,
) -> PairTable:
    """Check the rows against every rule and build the table. Settings as in `PairTable.read`."""
    check_settings(seed, max_refused_share)
    n_found = max(raw.n_found, raw.n)
    if n_found == 0:
        raise InputError(f"{raw.source}: no rows; a data set needs one row a pair")
    check_refused_share(raw.refused, n_found, max_refused_share, raw.source)
    warnings = list(raw.warnings)

    image = image_paths(raw)
    pair_id = pair_ids(raw, image)
    label = labels(raw)
    split = split_codes(raw)
    refuse_nul(raw)
    blank = pc.invert(pc.match_substring_regex(raw.text, r"[^\s\pZ]")).to_numpy(zero_copy_only=False)

    left_out = list(raw.left_out)
    keep = np.ones(raw.n, bool)
    for reason, gone in (("no label", label < 0), ("empty note", blank)):
        for i in np.flatnonzero(gone & keep):
            left_out.append({"row": raw.row(i), "pair_id": pair_id[i].as_py(), "reason": reason})
        if gone.any():
            counts = {"n": int((gone & keep).sum()), "total": n_found, "reason": reason}
            warnings.append(IntakeWarning(WarningKind.LEFT_OUT, values=counts))
        keep &= ~gone

    refused = list(raw.refused)
    facts = raw.facts
    if check_images and facts is None:
        facts = check_all_images(raw, root, image, pair_id, keep, refused, progress)
        check_refused_share(refused, n_found, max_refused_share, raw.source)
    if refused:
        counts = {"n": len(refused), "total": n_found, "reason": "their image cannot be used"}
        warnings.append(IntakeWarning(WarningKind.LEFT_OUT, values=counts))
    if not keep.any():
        raise InputError(
            f"{raw.source}: no pair is left; {len(refused)} images cannot be used and "
            f"{len(left_out)} rows have no note or label"
        )

    rows = np.flatnonzero(keep)
    # Nothing is copied where nothing is left out: of a million notes there should be one copy.
    taken = pa.array(rows) if len(rows) < raw.n else None
    patient_id = patients(raw, pair_id, warnings)
    frame = pd.DataFrame(
        {
            "pair_id": _strings(_take(pair_id, taken)),
            "patient_id": _strings(_take(patient_id, taken)),
            "label": label[rows],
            "text": _strings(_take(raw.text, taken)),
            "image": _strings(_take(image, taken)),
        }
    )
    columns, columns_left_out = group_columns(raw, taken, warnings)
    kept_facts = [facts[i] for i in rows] if facts is not None and check_images else None
    if split is None:
        codes = _made_splits(frame, columns, kept_facts, root, dict(shares or DEFAULT_SHARES), seed)
        split_source = "made"
    else:
        codes, split_source = split[rows], "folder" if layout == "fairvlmed" else "column"
    frame.insert(2, "split", pd.Categorical.from_codes(codes, pd.Index(SPLITS, dtype="str")))
    for title, groups in columns.items():
        frame[title] = groups
    shared = shared_patients(raw, frame, rows, allow_shared_patients)
    if shared:
        warnings.insert(0, IntakeWarning(WarningKind.SHARED_PATIENTS, values={"n": shared}))

    attributes = tuple(columns)
    sources = {title: raw.attributes[title][1].column for title in attributes}
    report = build_report(
        frame, attributes, name=name, layout=layout, n_rows=n_found, refused=refused, left_out=left_out,
        columns_left_out=columns_left_out, sources=sources, facts=kept_facts, warnings=warnings,
    )  # fmt: skip
    info = DatasetInfo(
        name=name, layout=layout, prompts=prompts, label_names=label_names, description=description, source=raw.source,
        split_source=split_source, split_shares=dict(shares or DEFAULT_SHARES) if split is None else None,
        seed=seed if split is None else None, note_source=note_source,
        patient_source="column" if raw.patient_id is not None else "pair", shared_patients=shared,
        attribute_sources=sources,
    )  # fmt: skip
    return PairTable(frame=frame, attributes=attributes, root=root, info=info, report=report)


def check_settings(seed: object, max_refused_share: object) -> None:
    """Refuse settings outside their ranges."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed: {shown(seed)}; a whole number from 0 is wanted")
    if (
        isinstance(max_refused_share, bool)
        or not isinstance(max_refused_share, int | float | np.number)
        or not (0 <= max_refused_share <= 1)
    ):
        raise InputError(f"max_refused_share: {shown(max_refused_share)}; a share from 0 to 1 is wanted")


def check_refused_share(refused: list[dict[str, Any]], n: int, limit: float, source: str) -> None:
    """Refuse the whole where too many pairs cannot be used; says which, as far as one line holds."""
    if len(refused) <= limit * n:
        return
    named = []
    for entry in refused[:3]:
        where = entry.get("file") or f"row {entry['row']}"
        named.append(f"{where}: {entry['reason']}")
    more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
    raise InputError(
        f"{source}: {len(refused)} of {n} pairs cannot be used, more than max_refused_share={limit:g} allows "
        f"({'; '.join(named)}{more}); mend the files, or allow a larger share"
    )


def image_paths(raw: RawRows) -> pa.Array:
    """Paths below the root, in one spelling; empty where the cell is. A path out of the folder refuses the table."""
    cells = pc.replace_substring(pc.utf8_trim_whitespace(raw.image), "\\", "/")
    bad = pc.index(pc.match_substring_regex(cells, _BAD_PATH), True).as_py()
    if bad >= 0:
        raise InputError(f"{raw.place(bad, 'image')}: {path_fault(cells[bad].as_py())}")
    cells = pc.replace_substring_regex(cells, r"/+", "/")
    cells = pc.replace_substring_regex(cells, r"(^|/)(?:\./)+", r"\1")
    folder = raw.image_folder.strip("/")
    if folder:
        below = pc.binary_join_element_wise(pa.scalar(folder, cells.type), cells, pa.scalar("/", cells.type))
        cells = pc.if_else(pc.equal(cells, ""), cells, below)
    return cells


def pair_ids(raw: RawRows, image: pa.Array) -> pa.Array:
    """The ids of the source, checked; or readable ones made from the image names."""
    if raw.pair_id is None:
        return pa.array(
            readable_ids(image.to_pylist(), None if raw.patient_id is None else raw.patient_id.to_pylist()),
            pa.large_string(),
        )
    ids = pc.utf8_trim_whitespace(raw.pair_id)
    for mask, fault in (
        (pc.equal(ids, ""), "is empty; every pair needs an id"),
        (pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]"), "holds control characters; remove them"),
        (pc.greater(pc.utf8_length(ids), MAX_ID_CHARS), f"is longer than {MAX_ID_CHARS} characters; shorten it"),
    ):
        first = pc.index(mask, True).as_py()
        if first >= 0:
            raise InputError(f"{raw.place(first, 'pair_id')}: the pair_id {fault}")
    if pc.count_distinct(ids).as_py() == len(ids):
        return ids
    series = pd.Series(_strings(ids))
    twice = series.duplicated().to_numpy()
    if twice.any():
        second = int(np.argmax(twice))
        first = int(np.argmax((series == series.iloc[second]).to_numpy(bool)))
        raise InputError(
            f"{raw.place(second, 'pair_id')}: pair_id {shown(series.iloc[second])} stands already in "
            f"{_where(raw, first)}; {int(twice.sum())} ids are given twice; make them unique"
        )
    return ids


def readable_ids(images: list[str], patients: list[str] | None) -> list[str]:
    """Unique ids from image names: the name without ending, and what tells equal ones apart behind it.

    First the patient, then a count in the order of the rows.

    >>> readable_ids(["a/x.png", "a/y.png", "b/y.png", "b/y.png"], ["1", "2", "3", "3"])
    ['x', 'y~2', 'y~3', 'y~3~2']
    """
    stems = [image.rsplit("/", 1)[-1].rsplit(".", 1)[0][: MAX_ID_CHARS - 60] or "pair" for image in images]
    ids = _tell_apart(stems, patients) if patients is not None else stems
    seen: dict[str, int] = {}
    taken = set(ids)
    unique = []
    for one in ids:
        seen[one] = seen.get(one, 0) + 1
        if seen[one] == 1:
            unique.append(one)
            continue
        while (new := f"{one}~{seen[one]}") in taken:
            seen[one] += 1
        taken.add(new)
        unique.append(new)
    return unique


def _tell_apart(stems: list[str], patients: list[str]) -> list[str]:
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem] = counts.get(stem, 0) + 1
    return [
        f"{stem}~{patient.strip()[:40]}" if counts[stem] > 1 and patient.strip() else stem
        for stem, patient in zip(stems, patients, strict=True)
    ]


def labels(raw: RawRows) -> np.ndarray:
    """Labels as int8; -1 where a rule meets an empty cell. Without a rule an empty cell is an error, as any other."""
    rule = raw.label_rule
    coded = pc.dictionary_encode(pc.utf8_trim_whitespace(raw.label))
    values = coded.dictionary.to_pylist()
    indices = coded.indices.to_numpy()
    numbers = np.empty(len(values), np.int8)
    for i, value in enumerate(values):
        number = _label(value, rule)
        if number is None:
            first = int(np.argmax(indices == i))
            mend = (
                "write 0 or 1"
                if rule is None
                else 'list it under "positive" or "negative" in the description\'s "label"'
            )
            raise InputError(f"{raw.place(first, 'label')}: the label is {shown(value)}; {mend}")
        numbers[i] = number
    return numbers[indices] if len(values) else np.empty(0, np.int8)


def _label(value: str, rule: LabelRule | None) -> int | None:
    folded = value.casefold()
    if rule is None:
        return _LABELS.get(folded)
    if rule.contains is not None:
        return -1 if folded in _NO_LABEL else int(rule.contains.casefold() in folded)
    if folded in {word.strip().casefold() for word in rule.positive or ()}:
        return 1
    if rule.negative is not None and folded in {word.strip().casefold() for word in rule.negative}:
        return 0
    if folded in _NO_LABEL:
        return -1
    return None if rule.negative is not None else 0


def split_codes(raw: RawRows) -> np.ndarray | None:
    """Codes into ("train", "val", "test"), or None where the source has no splits."""
    if raw.split is None:
        return None
    coded = pc.dictionary_encode(pc.utf8_trim_whitespace(raw.split))
    indices = coded.indices.to_numpy()
    codes = []
    for i, value in enumerate(coded.dictionary.to_pylist()):
        known = _SPLIT_NAMES.get(value.casefold())
        if known is None:
            raise InputError(
                f"{raw.place(int(np.argmax(indices == i)), 'split')}: the split is {shown(value)}; "
                f"write train, val or test"
            )
        codes.append(SPLITS.index(known))
    return np.array(codes, np.int8)[indices] if codes else np.empty(0, np.int8)


def refuse_nul(raw: RawRows) -> None:
    """A NUL character would be lost or end the text in other programs."""
    first = pc.index(pc.match_substring_regex(raw.text, r"\x00"), True).as_py()
    if first >= 0:
        raise InputError(f"{raw.place(first, 'text')}: the note holds a NUL character; the file is damaged or binary")


def check_all_images(
    raw: RawRows, root: Path, image: pa.Array, pair_id: pa.Array, keep: np.ndarray, refused: list[dict[str, Any]],
    progress: Progress | None,
) -> list[ImageFacts | None]:  # fmt: skip
    """Check the images of the kept rows; damaged ones clear `keep` and are added to `refused`, hostile ones raise."""
    rows = np.flatnonzero(keep)
    paths = image.take(pa.array(rows)).to_pylist()
    checked = inspect_many(root, [path for path in paths if path], progress=progress)
    results = iter(checked)
    facts: list[ImageFacts | None] = [None] * raw.n
    for i, path in zip(rows.tolist(), paths, strict=True):
        result = next(results) if path else DamagedFile("the image cell is empty")
        if isinstance(result, DamagedFile):
            keep[i] = False
            refused.append({"row": raw.row(i), "pair_id": pair_id[i].as_py(), "reason": str(result)})
        elif isinstance(result, InputError):
            raise InputError(f"{raw.place(i, 'image')}: {result}")
        else:
            facts[i] = result
    return facts


def patients(raw: RawRows, pair_id: pa.Array, warnings: list[IntakeWarning]) -> pa.Array:
    """Patient ids; a pair without one is a patient of its own."""
    if raw.patient_id is None:
        return pair_id
    ids = pc.utf8_trim_whitespace(raw.patient_id)
    missing = pc.is_in(pc.utf8_lower(ids), value_set=pa.array(["", "-1", "none", "nan", "null", "<na>"], ids.type))
    count = pc.sum(missing).as_py() or 0
    if not count:
        return ids
    warnings.append(IntakeWarning(WarningKind.NO_PATIENT, values={"n": count}))
    alone = pc.binary_join_element_wise(pa.scalar("no-patient", ids.type), pair_id, pa.scalar(":", ids.type))
    return pc.if_else(missing, alone, ids)


def shared_patients(raw: RawRows, frame: pd.DataFrame, rows: np.ndarray, allowed: bool) -> int:
    """Number of patients with pairs in several splits; refused unless allowed."""
    patient = pd.factorize(frame["patient_id"])[0]
    split = frame["split"].cat.codes.to_numpy()
    first = np.full(int(patient.max(initial=-1)) + 1, -1, np.int64)
    first[patient[::-1]] = np.arange(len(patient))[::-1]
    strays = np.flatnonzero(split != split[first[patient]])
    if not len(strays):
        return 0
    count = len(np.unique(patient[strays]))
    if not allowed:
        one, other = first[patient[strays[0]]], strays[0]
        who = "a patient" if count == 1 else f"{count} patients"
        raise InputError(
            f"{raw.source}: {who} in more than one split, first {_where(raw, rows[one])} ({SPLITS[split[one]]}) and "
            f"{_where(raw, rows[other])} ({SPLITS[split[other]]}); put all pairs of a patient into one "
            f"split, or let them in with allow_shared_patients"
        )
    return count


def group_columns(
    raw: RawRows, taken: pa.Array | None, warnings: list[IntakeWarning]
) -> tuple[dict[str, pd.Categorical], dict[str, str]]:
    """The attributes as categoricals, and the columns that are none with the reason."""
    columns, left_out = {}, dict(raw.columns_left_out)
    for title, (cells, rule) in raw.attributes.items():
        if title in COLUMNS:
            raise InputError(
                f"{raw.source}: attribute {shown(title)} has the name of a column of every table; rename it"
            )
        if title in OUTPUT_COLUMNS:
            reason = f"its name is that of a column in fairvlm's own results ({', '.join(sorted(OUTPUT_COLUMNS))})"
            if raw.asked:
                raise InputError(f"{raw.source}: attribute {shown(title)} cannot be used: {reason}; rename it")
            left_out[title] = reason
            continue
        chosen = _take(cells, taken)
        if not raw.asked and (reason := why_no_attribute(chosen)):
            left_out[title] = reason
            continue
        grouping = to_groups(chosen, rule, order=raw.orders.get(title))
        if len(grouping.groups.categories) > MAX_GROUPS + 1:
            raise InputError(
                f"{raw.source}: attribute {shown(title)} has {len(grouping.groups.categories)} groups, more than "
                f'{MAX_GROUPS}; give it "bins" or "names" in the description, or leave it out'
            )
        columns[title] = grouping.groups
        warnings.extend(IntakeWarning(kind, title, values=values) for kind, values in grouping.odd.items())
    return columns, left_out


def _made_splits(
    frame: pd.DataFrame, columns: Mapping[str, pd.Categorical], facts: list[ImageFacts] | None, root: Path,
    shares: dict[str, float], seed: int,
) -> np.ndarray:  # fmt: skip
    # The same picture under two patient ids is most likely the same person: such patients stay together.
    if facts is not None:
        image = pd.factorize(np.array([fact.digest for fact in facts]))[0]
    else:
        image = _equal_files(root, frame["image"].tolist())
    unit = related_units(pd.factorize(frame["patient_id"])[0], image)
    return make_splits(
        frame["pair_id"].tolist(), unit, frame["label"].to_numpy(), [groups.codes for groups in columns.values()],
        shares, seed,
    )  # fmt: skip


def _equal_files(root: Path, paths: list[str]) -> np.ndarray:
    """Codes that are equal for equal files, -1 where there is none: what the image check would find, without decoding.

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
                    keys[path] = hashlib.file_digest(file, "sha256").hexdigest()
            except (InputError, OSError):
                pass
    return pd.factorize(pd.Series([keys[path] for path in paths], dtype=object))[0]


def _where(raw: RawRows, index: int) -> str:
    row = raw.row(int(index))
    return f"row {row}" if row is not None else raw.place(int(index), "pair_id").split(",")[0]


def _take(cells: pa.Array, rows: pa.Array | None) -> pa.Array:
    return cells if rows is None else cells.take(rows)


def _strings(cells: pa.Array) -> pd.api.extensions.ExtensionArray:
    return pd.array(cells, dtype=STRING)
