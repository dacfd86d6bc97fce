"""Which pairs and patients there are: ids that are unique, patients that stay within one split."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..cells import MISSING, alike, words_pattern
from ..errors import InputError
from ..words import listed
from .files import shown
from .rows import RawRows, strings
from .splits import SPLITS
from .warning import IntakeWarning, WarningKind

MAX_ID_CHARS = 200
_PATIENT_NAME = re.compile(r"(?i)patient|subject|person|\bmrn\b|case_?id|\bpid\b")
_DIGITS = re.compile(r"[0-9]+")
_STEM = re.compile(r"[^_.-]+[_-](?=.)")


def pair_ids(raw: RawRows, image: pa.Array) -> pa.Array:
    """The ids of the source, checked; or readable ones made from the image names."""
    if raw.pair_id is None:
        patients = None if raw.patient_id is None else raw.patient_id.to_pylist()
        return pa.array(readable_ids(image.to_pylist(), patients), pa.large_string())
    ids = pc.utf8_trim_whitespace(raw.pair_id)
    for mask, fault in (
        (pc.equal(ids, ""), "is empty; every pair needs an id"),
        (pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]"), "holds control characters; remove them"),
        (pc.greater(pc.utf8_length(ids), MAX_ID_CHARS), f"is longer than {MAX_ID_CHARS} characters; shorten it"),
    ):
        first = pc.index(mask, True).as_py()
        if first >= 0:
            raise InputError(f"{raw.place(first, 'pair_id')}: the pair_id {fault}")
    if pc.count_distinct(ids).as_py() < len(ids):
        series = pd.Series(strings(ids))
        twice = series.duplicated().to_numpy()
        second = int(np.argmax(twice))
        first = int(np.argmax((series == series.iloc[second]).to_numpy(bool)))
        raise InputError(
            f"{raw.place(second, 'pair_id')}: pair_id {shown(series.iloc[second])} is already in "
            f"{raw.where(first)}; {int(twice.sum())} ids are given twice; make them unique"
        )
    return ids


def readable_ids(images: list[str], patients: list[str] | None) -> list[str]:
    """Unique ids from image names: the name without its ending; equal names get the patient and then a count appended.

    >>> readable_ids(["a/x.png", "a/y.png", "b/y.png", "b/y.png"], ["1", "2", "3", "3"])
    ['x', 'y~2', 'y~3', 'y~3~2']
    """
    ids = [image.rsplit("/", 1)[-1].rsplit(".", 1)[0][: MAX_ID_CHARS - 60] or "pair" for image in images]
    if patients is not None:
        counts = Counter(ids)
        ids = [
            f"{stem}~{patient.strip()[:40]}" if counts[stem] > 1 and patient.strip() else stem
            for stem, patient in zip(ids, patients, strict=True)
        ]
    seen: Counter[str] = Counter()
    taken = set(ids)
    unique = []
    for one in ids:
        seen[one] += 1
        new = one
        while seen[one] > 1 and (new := f"{one}~{seen[one]}") in taken:
            seen[one] += 1
        taken.add(new)
        unique.append(new)
    return unique


def patients(raw: RawRows, pair_id: pa.Array) -> tuple[pa.Array, list[IntakeWarning]]:
    """Patient ids, and a warning where some are missing; a pair without one is a patient of its own."""
    if raw.patient_id is None:
        return pair_id, []
    ids = pc.utf8_trim_whitespace(raw.patient_id)
    gone = pc.match_substring_regex(ids, words_pattern(MISSING))
    count = pc.sum(gone).as_py() or 0
    if not count:
        return ids, []
    alone = pc.binary_join_element_wise(pa.scalar("no-patient", ids.type), pair_id, pa.scalar(":", ids.type))
    return pc.if_else(gone, alone, ids), [IntakeWarning(WarningKind.NO_PATIENT, values={"n": count})]


def patients_alike(raw: RawRows, frame: pd.DataFrame, rows: np.ndarray) -> tuple[np.ndarray, list[IntakeWarning]]:
    """Codes that patients share whose ids differ only in how they are written (-1: none do), and a warning where any do.

    Where the splits are given, `frame` has them, and the warning counts those of such patients that lie in several.
    """
    patient, ids = pd.factorize(frame["patient_id"])
    same = alike(ids)
    code = np.full(len(ids), -1)
    for k, spellings in enumerate(same):
        code[pd.Index(ids).get_indexer(spellings)] = k
    code = code[patient]
    if not same:
        return code, []
    examples = listed([raw.where(rows[np.argmax(frame["patient_id"] == one)]) for one in same[0]], limit=3)
    values: dict[str, int | str] = {"n": len(same), "examples": examples}
    if "split" not in frame:
        return code, [IntakeWarning(WarningKind.PATIENTS_ALIKE, values=values)]
    across = frame["split"][code >= 0].groupby(code[code >= 0]).nunique() > 1
    return code, [IntakeWarning(WarningKind.PATIENTS_ALIKE_SPLIT, values=values | {"across": int(across.sum())})]


def patients_from_paths(image: pa.Array, pattern: str) -> pa.Array:
    """Patient ids from image paths: what `pattern` matches first, without slashes and separators around it."""
    try:
        found = pc.extract_regex(image, f"(?P<patient>{pattern})")
    except pa.ArrowInvalid:
        raise InputError(
            f'description: entry "patient_pattern": {shown(pattern)} is no regular expression without groups, such as '
            f"patient[0-9]+"
        ) from None
    ids = pc.fill_null(pc.struct_field(found, "patient"), "")
    return pc.utf8_trim(ids, "/\\_-. ").cast(image.type)


def patients_in_paths(frame: pd.DataFrame, columns: Sequence[str], *, made: bool) -> list[IntakeWarning]:
    """What to say where the source has no patient column: of made splits always, of given ones where paths tell more."""
    pattern = repeated_names(frame["image"].tolist())
    people = None if pattern is None else np.array([_first(pattern, path) for path in frame["image"]], object)
    named = [name for name in columns if _PATIENT_NAME.search(name)]
    entry = '"patient_id" under "columns": the name of the column that holds patients'
    if named:
        entry = f'"columns": {json.dumps({"patient_id": named[0]})}, if that column holds patients'
    elif pattern is not None:
        entry = (
            f'"patient_pattern": {json.dumps(pattern)}, to take the names that repeat in the image paths as patients'
        )
    fix = f"write in dataset.json {entry}"
    if made:
        return [IntakeWarning(WarningKind.NO_PATIENT_COLUMN, values={"fix": fix})]
    across = 0 if people is None else int((frame["split"].groupby(people).nunique() > 1).sum())
    return [IntakeWarning(WarningKind.FOLDERS_ACROSS_SPLITS, values={"n": across, "fix": fix})] if across else []


def repeated_names(paths: Sequence[str]) -> str | None:
    r"""A pattern of the names in image paths that look like patients, each with a few images; None where there is none.

    Folder names are tried first, from the top, then the file name up to a separator.

    >>> repeated_names([f"train/patient{i // 2:05d}/view{i % 2}.jpg" for i in range(20)])
    'patient[0-9]+'
    >>> repeated_names([f"{i // 3:08d}_{i % 3:03d}.png" for i in range(30)])
    '[0-9]+_'
    >>> repeated_names([f"images/{i}.png" for i in range(20)]) is None
    True
    """
    parts = [path.split("/") for path in paths if path]
    if len(parts) < 10:
        return None
    for depth in range(min(len(part) for part in parts)):
        names = [part[depth] for part in parts]
        if depth == min(len(part) for part in parts) - 1:
            stems = [_STEM.match(part[-1]) for part in parts]
            names = [stem[0] if stem else "" for stem in stems]
        distinct = set(names)
        shape = {_DIGITS.sub("[0-9]+", name) for name in distinct}
        few_each = 2 * len(distinct) <= 2 * len(names) - 2 and len(names) <= 50 * len(distinct)
        if len(distinct) >= 5 and few_each and len(shape) == 1 and "[0-9]+" in (only := shape.pop()):
            return "[0-9]+".join(map(re.escape, only.split("[0-9]+")))
    return None


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, path)
    return found[0] if found else path


def shared_patients(raw: RawRows, frame: pd.DataFrame, rows: np.ndarray, allowed: bool) -> int:
    """Number of patients with pairs in several splits; refused unless allowed."""
    patient = pd.factorize(frame["patient_id"])[0]
    split = frame["split"].cat.codes.to_numpy()
    first = np.unique(patient, return_index=True)[1]
    strays = np.flatnonzero(split != split[first[patient]])
    count = len(np.unique(patient[strays]))
    if count and not allowed:
        one, other = first[patient[strays[0]]], strays[0]
        who = "a patient" if count == 1 else f"{count} patients"
        raise InputError(
            f"{raw.source}: {who} in more than one split, first {raw.where(rows[one])} ({SPLITS[split[one]]}) and "
            f"{raw.where(rows[other])} ({SPLITS[split[other]]}); put all pairs of a patient into one "
            f"split, or let them in with allow_shared_patients (--allow-shared-patients)"
        )
    return count
