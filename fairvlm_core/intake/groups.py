"""Columns to groups: codes get names, numbers get bands, and what is not known is a group of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .description import AttributeRule
from .warning import WarningKind

UNKNOWN = "Unknown"
MAX_GROUPS = 50
# "NA" is not among them: it is a word, a code, a country.
_NOT_KNOWN = frozenset(("", "-1", "-1.0", "none", "nan", "null", "<na>", "unknown"))


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
    odd: Mapping[WarningKind, dict[str, int | str]] = field(default_factory=dict)


def is_unknown(value: str) -> bool:
    """Whether a cell says that a value is not known.

    >>> [is_unknown(value) for value in ("", " ", "-1", "None", "NaN", "NA", "0")]
    [True, True, True, True, True, False, False]
    """
    return value.strip().casefold() in _NOT_KNOWN


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
    values = coded.dictionary.to_pylist()
    words = {word.strip().casefold() for word in rule.unknown}
    odd: dict[WarningKind, dict[str, int | str]] = {}
    counts = np.bincount(coded.indices.to_numpy(), minlength=len(values))
    if rule.bins is not None:
        names = [_band(value, rule.bins, words) for value in values]
        wrong = [i for i, name in enumerate(names) if name is None]
        if wrong:
            odd[WarningKind.NOT_NUMBERS] = {"n": int(counts[wrong].sum())}
        named = [name or UNKNOWN for name in names]
        order = band_names(rule.bins)
    else:
        known = {**(rule.names or {}), **{name: name for name in (rule.names or {}).values()}}
        named = []
        for value in values:
            missing = value.casefold() in words or (is_unknown(value) and value not in known)
            named.append(UNKNOWN if missing else known.get(value) or known.get(_whole(value)) or value)
        if rule.names is not None:
            unnamed = [i for i, name in enumerate(named) if name not in known and name != UNKNOWN]
            if unnamed:
                odd[WarningKind.UNNAMED_VALUES] = {"n": int(counts[unnamed].sum()), "values": len(unnamed)}
            order = list(dict.fromkeys(rule.names.values()))
    present = set(named)
    first = [name for name in order or () if name in present and name != UNKNOWN]
    rest = sorted(present - set(first) - {UNKNOWN}, key=_natural)
    categories = [*first, *rest, *([UNKNOWN] if UNKNOWN in present else [])]
    place = {name: i for i, name in enumerate(categories)}
    lookup = np.array([place[name] for name in named], np.int32) if named else np.empty(0, np.int32)
    codes = lookup[coded.indices.to_numpy()] if len(cells) else np.empty(0, np.int32)
    return GroupedColumn(pd.Categorical.from_codes(codes, pd.Index(categories, dtype="str")), odd)


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


def _band(value: str, edges: Sequence[float], words: set[str]) -> str | None:
    if is_unknown(value) or value.casefold() in words:
        return UNKNOWN
    try:
        number = float(value)
    except ValueError:
        return None
    if not np.isfinite(number):
        return None
    return band_names(edges)[int(np.searchsorted(edges, number, side="right"))]


def _whole(value: str) -> str:
    """'1.0' as '1': tools that met a missing value write whole numbers so."""
    head, dot, tail = value.partition(".")
    return head if dot and not tail.strip("0") else value


def _natural(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value.casefold() + value
