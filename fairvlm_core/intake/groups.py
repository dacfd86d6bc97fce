"""Columns to groups: codes get names, numbers get bands, and what is not known is a group of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .description import AttributeRule
from .missing import is_unknown
from .warning import WarningKind

UNKNOWN = "Unknown"
MAX_GROUPS = 50


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


def band_names(edges: Sequence[float]) -> list[str]:
    """Names of the bands that edges cut, n + 1 for n edges; each holds its lower edge and not its upper one.

    >>> band_names([40, 60, 75])
    ['<40', '40-59', '60-74', '75+']
    >>> band_names([0.5])
    ['<0.5', '0.5+']
    """
    whole = all(float(edge).is_integer() for edge in edges)
    written = [f"{edge:g}" for edge in edges]
    between = [
        f"{written[i]}-{edges[i + 1] - 1:g}" if whole else f"{written[i]} to <{written[i + 1]}"
        for i in range(len(edges) - 1)
    ]
    return [f"<{written[0]}", *between, f"{written[-1]}+"]


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
    unknown = {word.strip().casefold() for word in rule.unknown}
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
    first = [name for name in order or () if name in present]
    rest = sorted(present - set(first), key=_natural)
    categories = pd.Index([*first, *rest, *([UNKNOWN] if UNKNOWN in names else [])], dtype="str")
    lookup = categories.get_indexer(pd.Index(names, dtype="str")).astype(np.int32)
    return GroupedColumn(pd.Categorical.from_codes(lookup[indices], categories), odd)


def _named(values: list[str], names: Mapping[str, str] | None, unknown: set[str]) -> tuple[list[str], list[int]]:
    """The group of each value, and the places of values without a name; none where there are no names at all."""
    known = {**(names or {}), **{name: name for name in (names or {}).values()}}
    groups, unnamed = [], []
    for i, value in enumerate(values):
        if value.casefold() in unknown or (is_unknown(value) and value not in known):
            groups.append(UNKNOWN)
            continue
        name = known.get(value) or known.get(_whole(value))
        if names is not None and name is None:
            unnamed.append(i)
        groups.append(name or value)
    return groups, unnamed


def _banded(values: list[str], edges: Sequence[float], unknown: set[str]) -> tuple[list[str], list[int]]:
    """The band of each value, and the places of values that are no number."""
    bands, groups, wrong = band_names(edges), [], []
    for i, value in enumerate(values):
        group = UNKNOWN
        if not is_unknown(value) and value.casefold() not in unknown:
            number = _number(value)
            if number is None:
                wrong.append(i)
            else:
                group = bands[int(np.searchsorted(edges, number, side="right"))]
        groups.append(group)
    return groups, wrong


def why_no_attribute(cells: pa.Array) -> str | None:
    """Why a column that nobody asked for is not taken as an attribute; None where it can be.

    >>> why_no_attribute(pa.array([str(i) for i in range(60)]))
    'every value is different'
    """
    values = pc.unique(pc.utf8_trim_whitespace(cells)).to_pylist()
    known = [value for value in values if not is_unknown(value)]
    if not known:
        return "it is empty"
    if len(cells) > 10 and len(known) == len(cells):
        return "every value is different"
    if len(known) > MAX_GROUPS:
        return f"it has {len(known)} different values, more than {MAX_GROUPS}"
    return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _whole(value: str) -> str:
    """'1.0' as '1': tools that met a missing value write whole numbers so."""
    head, dot, tail = value.partition(".")
    return head if dot and not tail.strip("0") else value


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers by size, then words by the alphabet."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value.casefold() + value
