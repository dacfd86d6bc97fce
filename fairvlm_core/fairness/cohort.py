"""Everything that is checked about labels, scores, groups and patients, in one place.

The other files of this package rely on a checked :class:`Cohort`. Every error is an :class:`InputError` of one line: which
argument, what arrived, how to fix it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from warnings import warn

import numpy as np

from ..cells import (
    MAX_GROUPS,
    UNKNOWN,
    alike,
    cell_text,
    group_name,
    group_place,
    is_missing,
    too_many_numbers,
    zero_one,
)
from ..errors import DataWarning, InputError


@dataclass(frozen=True)
class GroupCodes:
    """One attribute as codes into its sorted group names.

    Attributes
    ----------
    name : str
        "race", or "race × gender" for an intersection.
    names : tuple of str
        Groups in sorted order (numbers by value), "Unknown" last.
    code : intp ndarray of shape (n_used,)
    rows : intp ndarray of shape (n_used,) or None
        Rows of the cohort that are used; None means all of them.
    left_out : dict of group name to n
        What an `exclude` or the smallest cell size removed.
    """

    name: str
    names: tuple[str, ...]
    code: np.ndarray
    rows: np.ndarray | None
    left_out: Mapping[str, int]

    def of(self, values: np.ndarray) -> np.ndarray:
        """`values` (one per row of the cohort) on the rows that are used."""
        return values if self.rows is None else values[self.rows]


@dataclass(frozen=True)
class Cohort:
    """Labels, patients and groups of n predictions, checked.

    Attributes
    ----------
    label : bool ndarray of shape (n,)
    patient : intp ndarray of shape (n,) or None
        Codes 0 .. n_patients - 1; None where every row is a separate patient.
    groupings : tuple of GroupCodes
    intersections : tuple of GroupCodes
    """

    label: np.ndarray
    patient: np.ndarray | None
    groupings: tuple[GroupCodes, ...]
    intersections: tuple[GroupCodes, ...] = ()

    @property
    def n(self) -> int:
        return len(self.label)

    @property
    def n_patients(self) -> int:
        return self.n if self.patient is None else int(self.patient.max()) + 1


def check_cohort(
    label: Any,
    attributes: Any,
    *,
    patients: Any = None,
    exclude: Mapping[str, Sequence[str]] | None = None,
    intersections: Sequence[Sequence[str]] | int = (),
    min_cell: int = 20,
) -> Cohort:
    """Labels, groups and patients as a :class:`Cohort`; raises InputError for anything else."""
    label = check_label(label)
    n = len(label)
    if not isinstance(attributes, Mapping):
        raise InputError(f"attributes: a mapping of name to group values is needed, not {type(attributes).__name__}")
    coded = {str(name): _coded(str(name), values, n) for name, values in attributes.items()}
    exclude = {} if exclude is None else exclude
    _check_exclude(exclude, coded)
    groupings = tuple(_excluding(name, names, code, exclude.get(name, ())) for name, (names, code) in coded.items())
    for grouping in groupings:
        if grouping.rows is not None:
            _check_both_classes(grouping.of(label), f"attribute {grouping.name!r} after exclude")
    crossed = tuple(_crossed(parts, coded, exclude, min_cell) for parts in _wanted_crossings(intersections, coded))
    return Cohort(label, check_patients(patients, n), groupings, crossed)


def check_label(label: Any) -> np.ndarray:
    """A bool array of both classes from 0 and 1, or texts that say so ("1.0", "True")."""
    values = np.asarray(label)
    if values.ndim != 1:
        raise InputError(f"label: a one-dimensional array is needed, got shape {values.shape}")
    if len(values) == 0:
        raise InputError("label: it is empty; at least one positive and one negative row are needed")
    if values.dtype.kind in "OUS":
        answers = [zero_one(text) for text in _texts(values)]
        if None in answers:
            row = answers.index(None)
            what = "has no label" if is_missing(_texts(values)[row]) else f"is {_texts(values)[row][:40]!r}"
            raise InputError(f"label: row {row} {what}; every label must be 0 or 1")
        values = np.array(answers)
    good = (values == 0) | (values == 1)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(f"label: row {row} is {values[row]!s}; every label must be 0 or 1")
    label = values == 1
    _check_both_classes(label, "label")
    return label


def check_score(score: Any, n: int, *, probabilities: bool, name: str = "score") -> np.ndarray:
    """Finite float64 scores of shape (n,), between 0 and 1 where `probabilities` is asked for."""
    values = np.asarray(score)
    if values.ndim != 1:
        raise InputError(f"{name}: a one-dimensional array is needed, got shape {values.shape}")
    if len(values) != n:
        raise InputError(f"{name}: {len(values)} values for {n} labels; there must be one per row")
    values = _numbers(values, name, "every score must be a number") if values.dtype.kind in "OUS" else values
    values = values.astype(np.float64, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InputError(f"{name}: row {row} is {values[row]}; leave out rows without a finite score first")
    if probabilities and (values.min() < 0 or values.max() > 1):
        row = int(np.argmax((values < 0) | (values > 1)))
        raise InputError(
            f"{name}: row {row} is {values[row]:.6g}; a threshold and calibration need probabilities from 0 to 1: "
            "map the scores there first (a sigmoid for logits), or pass threshold=None for metrics without a threshold"
        )
    return values


def check_threshold(threshold: float | None) -> float | None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold: {threshold} is not a probability; choose one from 0 to 1, or None")
    return threshold


def check_counts(**counts: int) -> None:
    """Each named number must be a whole number of at least 0."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 0:
            raise InputError(f"{name}: {count!r} is not a whole number of at least 0")


def check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence: {confidence} is not between 0.5 and 1; 0.95 gives 95 % intervals")


def check_groups(groups: Any, n: int, name: str = "groups") -> GroupCodes:
    """The groups of n rows; for functions that take a single attribute."""
    names, code = _coded(name, groups, n)
    return GroupCodes(name, names, code, None, {})


def one_group(n: int) -> GroupCodes:
    """Everyone as one group."""
    return GroupCodes("overall", ("overall",), np.zeros(n, np.intp), None, {})


def _check_both_classes(label: np.ndarray, what: str) -> None:
    n_positive = int(np.count_nonzero(label))
    if n_positive in (0, len(label)):
        kind = "0" if n_positive == 0 else "1"
        raise InputError(f"{what}: all {len(label)} rows have label {kind}; AUC and rates need both classes")


def _numbers(values: np.ndarray, name: str, need: str) -> np.ndarray:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        for row, value in enumerate(values):
            try:
                float(value)
            except (TypeError, ValueError):
                raise InputError(f"{name}: row {row} is {str(value)[:40]!r}; {need}") from None
        raise


def _coded(name: str, values: Any, n: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Sorted group names and the code of each row; blank, None, NaN and -1 become "Unknown", which comes last."""
    values = np.asarray(values)
    if values.ndim != 1 or len(values) != n:
        raise InputError(f"attribute {name!r}: shape {values.shape} for {n} labels; there must be one value per row")
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        if not (values[known] == np.floor(values[known])).all():
            raise InputError(f"attribute {name!r}: has fractions; cut a continuous quantity into named bands first")
        values = np.where(known, values, -1).astype(np.int64)
    if values.dtype.kind not in "biuU":
        values = np.array(_texts(values))
    present, code = np.unique(values, return_inverse=True)
    texts = [group_name(str(value)) for value in present]
    texts = [UNKNOWN if is_missing(text) else text for text in texts]
    names = sorted(set(texts), key=group_place)
    if len(names) > MAX_GROUPS + 1:
        edges = too_many_numbers(names, MAX_GROUPS)
        fix = "give rows of one group the same name"
        if edges:
            edges = [int(edge) if edge.is_integer() else edge for edge in edges]
            fix = f"cut the numbers into bands first, as with fairvlm_core.bands(values, {edges})"
        raise InputError(f"attribute {name!r}: {len(names)} different values, more than {MAX_GROUPS} groups; {fix}")
    if same := alike(names):
        warn(
            f"attribute {name!r}: groups that differ only in how they are written ({', '.join(same[0])}); "
            "write each in one way",
            DataWarning,
            stacklevel=2,
        )
    if names == texts:
        return tuple(names), code
    place = {text: i for i, text in enumerate(names)}
    return tuple(names), np.array([place[text] for text in texts], np.intp)[code]


def _check_exclude(exclude: Any, coded: Mapping[str, tuple[tuple[str, ...], np.ndarray]]) -> None:
    if not isinstance(exclude, Mapping):
        raise InputError('exclude: a mapping such as {"ethnicity": ["Unknown"]} is needed')
    for name, groups in exclude.items():
        _known_attribute(name, coded, "exclude")
        if isinstance(groups, str):
            raise InputError(f"exclude: {name!r} needs a list of group names, not the text {groups!r}")
        for group in groups:
            if group not in coded[name][0]:
                there = ", ".join(coded[name][0])
                raise InputError(f"exclude: attribute {name!r} has no group {group!r}; it has {there}")


def _known_attribute(name: str, coded: Mapping[str, Any], argument: str) -> None:
    if name not in coded:
        raise InputError(f"{argument}: there is no attribute {name!r}; there are {', '.join(coded) or 'none'}")


def _excluding(name: str, names: tuple[str, ...], code: np.ndarray, groups: Sequence[str]) -> GroupCodes:
    if not groups:
        return GroupCodes(name, names, code, None, {})
    return _keeping(name, names, code, [group not in groups for group in names])


def _keeping(name: str, names: tuple[str, ...], code: np.ndarray, keep: Sequence[bool]) -> GroupCodes:
    if not any(keep):
        raise InputError(f"attribute {name!r}: every group is left out; keep at least one")
    sizes = np.bincount(code, minlength=len(names))
    mask = np.asarray(keep)
    rows = np.flatnonzero(mask[code])
    new_code = (np.cumsum(mask) - 1)[code[rows]]
    kept = tuple(group for group, here in zip(names, keep, strict=True) if here)
    left_out = {group: int(size) for group, here, size in zip(names, keep, sizes, strict=True) if not here}
    return GroupCodes(name, kept, new_code, rows, left_out)


def _wanted_crossings(intersections: Sequence[Sequence[str]] | int, coded: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if isinstance(intersections, int):
        if intersections not in (0, 2, 3):
            raise InputError(f"intersections: {intersections} is not 2 or 3; or name the attributes to cross")
        return list(combinations(coded, intersections)) if intersections else []
    wanted = [(parts,) if isinstance(parts, str) else tuple(parts) for parts in intersections]
    for parts in wanted:
        if not 2 <= len(set(parts)) <= 3 or len(set(parts)) != len(parts):
            raise InputError(f"intersections: {parts} must name two or three different attributes")
        for name in parts:
            _known_attribute(name, coded, "intersections")
    return wanted


def _crossed(
    parts: tuple[str, ...],
    coded: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    exclude: Mapping[str, Sequence[str]],
    min_cell: int,
) -> GroupCodes:
    """Cells of two or three attributes; cells below `min_cell` rows, or in an excluded group, are left out and counted."""
    if min_cell < 1:
        raise InputError(f"min_cell: {min_cell} is not at least 1")
    full = np.zeros(len(next(iter(coded.values()))[1]), np.intp)
    for name in parts:
        full = full * len(coded[name][0]) + coded[name][1]
    shape = tuple(len(coded[name][0]) for name in parts)
    cells, code = np.unique(full, return_inverse=True)
    places = np.stack(np.unravel_index(cells, shape), axis=1)
    groups = [[coded[name][0][i] for name, i in zip(parts, place, strict=True)] for place in places]
    sizes = np.bincount(code)
    keep = [
        size >= min_cell and not any(g in exclude.get(name, ()) for name, g in zip(parts, group, strict=True))
        for size, group in zip(sizes, groups, strict=True)
    ]
    title = " × ".join(parts)
    names = tuple(" × ".join(group) for group in groups)
    if all(keep):
        return GroupCodes(title, names, code, None, {})
    if not any(keep):
        return GroupCodes(title, (), code[:0], np.arange(0), dict(zip(names, map(int, sizes), strict=True)))
    return _keeping(title, names, code, keep)


def check_patients(patients: Any, n: int) -> np.ndarray | None:
    """Codes of patient ids; None where there are none, or every row has an id of its own.

    A row without an id is a patient of its own.
    """
    if patients is None:
        return None
    values = np.asarray(patients)
    if values.ndim != 1 or len(values) != n:
        raise InputError(f"patients: shape {values.shape} for {n} labels; there must be one patient id per row")
    if values.dtype.kind not in "biu":
        values = np.array(_texts(values)) if values.dtype.kind != "U" else np.char.strip(values)
    ids, code = np.unique(values, return_inverse=True)
    texts = [str(one) for one in ids]
    gone = np.array([is_missing(text) for text in texts])[code]
    if n_gone := int(gone.sum()):
        warn(f"patients: {n_gone} rows have no id; each counts as a patient of its own", DataWarning, stacklevel=2)
        code[gone] = len(ids) + np.arange(n_gone)
        code = np.unique(code, return_inverse=True)[1]
    if same := alike(texts) if values.dtype.kind == "U" else []:
        warn(
            f"patients: {len(same)} ids are written in several ways ({', '.join(same[0])}) and count as different "
            "patients, which makes intervals too narrow if they are not; write each in one way",
            DataWarning,
            stacklevel=2,
        )
    return None if code.max() + 1 == n else code


def _texts(values: np.ndarray) -> list[str]:
    """Values of any kind as the cells of a table."""
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else cell_text(value) for value in values.tolist()
    ]
