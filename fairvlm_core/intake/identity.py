"""Which pairs and patients there are: ids that are unique, patients that stay within one split."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from . import missing
from .files import shown
from .rows import RawRows, strings
from .splits import SPLITS
from .warning import IntakeWarning, WarningKind

MAX_ID_CHARS = 200


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
    gone = pc.is_in(pc.utf8_lower(ids), value_set=pa.array(sorted(missing.PATIENT), ids.type))
    count = pc.sum(gone).as_py() or 0
    if not count:
        return ids, []
    alone = pc.binary_join_element_wise(pa.scalar("no-patient", ids.type), pair_id, pa.scalar(":", ids.type))
    return pc.if_else(gone, alone, ids), [IntakeWarning(WarningKind.NO_PATIENT, values={"n": count})]


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
            f"split, or let them in with allow_shared_patients"
        )
    return count
