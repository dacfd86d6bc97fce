"""Columns to groups: codes get names, numbers get bands, and what is not known is a group of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..cells import (
    MANY_GROUPS,
    MAX_GROUPS,
    UNKNOWN,
    band,
    band_names,
    group_name,
    group_place,
    is_missing,
    spelling,
    too_many_numbers,
)
from .description import AttributeRule
from .warning import WarningKind


@dataclass(frozen=True)
class GroupedColumn:
    """A column as groups.

    Attributes
    ----------
    groups
        Categorical of length N; "Unknown" is the last category where there is any, and absent otherwise.
    odd
        What was odd (cells that are no number, values without a name), with the values that its warning states.
    """

    groups: pd.Categorical
    odd: Mapping[WarningKind, Mapping[str, int]] = field(default_factory=dict)


def to_groups(cells: pa.Array, rule: AttributeRule, *, order: Sequence[str] | None = None) -> GroupedColumn:
    """Group a column of text.

    Parameters
    ----------
    cells
        Arrow text of length N.
    rule
        Names or bands, and further words for "not known".
    order
        The groups' order where the source has one; else that of the rule's names, else by number or alphabet.

    >>> got = to_groups(pa.array(["M", "F", "", "F"]), AttributeRule(column="sex", names={"F": "Female", "M": "Male"}))
    >>> list(got.groups), list(got.groups.categories)
    (['Male', 'Female', 'Unknown', 'Female'], ['Female', 'Male', 'Unknown'])
    """
    coded = pc.dictionary_encode(pc.utf8_trim_whitespace(cells))
    values, indices = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    counts = np.bincount(indices, minlength=len(values))
    unknown = {spelling(word) for word in rule.unknown}
    if rule.bins is None:
        names, unnamed = _named(values, rule.names, unknown)
        order = order if rule.names is None else list(dict.fromkeys(rule.names.values()))
        kind, facts = WarningKind.UNNAMED_VALUES, {"values": len(unnamed)}
    else:
        names, unnamed = _banded(values, rule.bins, unknown)
        order = band_names(rule.bins)
        kind, facts = WarningKind.NOT_NUMBERS, {}
    odd = {kind: {"n": int(counts[unnamed].sum()), **facts}} if unnamed else {}
    present = set(names) - {UNKNOWN}
    first = list(dict.fromkeys(name for one in order or () for name in (one, group_name(one)) if name in present))
    rest = sorted(present - set(first), key=group_place)
    categories = pd.Index([*first, *rest, *([UNKNOWN] if UNKNOWN in names else [])], dtype="str")
    lookup = categories.get_indexer(pd.Index(names, dtype="str")).astype(np.int32)
    return GroupedColumn(pd.Categorical.from_codes(lookup[indices], categories), odd)


def _named(values: list[str], names: Mapping[str, str] | None, unknown: set[str]) -> tuple[list[str], list[int]]:
    """The group of each value, and the places of values without a name; none where there are no names at all."""
    known = {**(names or {}), **{name: name for name in (names or {}).values()}}
    known = {group_name(code): name for code, name in known.items()} | known
    groups, unnamed = [], []
    for i, value in enumerate(values):
        if spelling(value) in unknown or (is_missing(value) and not known.keys() & {value, group_name(value)}):
            groups.append(UNKNOWN)
            continue
        name = known.get(value) or known.get(group_name(value))
        if names is not None and name is None:
            unnamed.append(i)
        groups.append(name or group_name(value))
    return groups, unnamed


def _banded(values: list[str], edges: Sequence[float], unknown: set[str]) -> tuple[list[str], list[int]]:
    """The band of each value, and the places of values that are no number."""
    groups, wrong = [], []
    for i, value in enumerate(values):
        group = UNKNOWN
        if not is_missing(value) and spelling(value) not in unknown:
            found = band(value, edges)
            if found is None:
                wrong.append(i)
            group = found or UNKNOWN
        groups.append(group)
    return groups, wrong


def edges_for(cells: pa.Array) -> list[float] | None:
    """Edges for a column of so many different numbers that bands would say more; None for any other column.

    Whole numbers that all differ and reach beyond an age are taken as ids.
    """
    known = _known(cells)
    edges = too_many_numbers(known, MANY_GROUPS)
    if edges and len(known) == len(cells) and all(value.isdecimal() for value in known):
        return edges if max(map(int, known)) <= 120 else None
    return edges or None


def _known(cells: pa.Array) -> list[str]:
    """The different values of a column, without those that mean "missing"."""
    return [value for value in pc.unique(pc.utf8_trim_whitespace(cells)).to_pylist() if not is_missing(value)]


def why_no_attribute(cells: pa.Array) -> str | None:
    """Why a column that nobody asked for is not taken as an attribute; None where it can be.

    >>> why_no_attribute(pa.array([str(i) for i in range(60)]))
    'every value is different'
    """
    known = _known(cells)
    if not known:
        return "it is empty"
    if len(cells) > 10 and len(known) == len(cells):
        return "every value is different"
    if len(known) > MAX_GROUPS:
        edges = edges_for(cells)
        bins = (
            f'; with bands it can be one, as with "bins": {[f"{edge:g}" for edge in edges]}'.replace("'", "")
            if edges
            else ""
        )
        return f"it has {len(known)} different values, more than {MAX_GROUPS}{bins}"
    return None
