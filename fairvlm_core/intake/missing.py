"""What means "missing" in a cell, kept in one place. Cells are compared without surrounding blanks, in any case."""

from __future__ import annotations

_EVERYWHERE = frozenset(("", "-1", "nan", "null", "<na>"))
# In a label column "none" can be a finding: that there is none.
LABEL = _EVERYWHERE
PATIENT = _EVERYWHERE | {"none"}
# "NA" is not among them: it is a word, a code, a country.
ATTRIBUTE = _EVERYWHERE | {"-1.0", "none", "unknown"}


def is_unknown(value: str) -> bool:
    """Whether an attribute's cell says that the group is not known.

    >>> [is_unknown(value) for value in ("", " ", "-1", "None", "NaN", "NA", "0")]
    [True, True, True, True, True, False, False]
    """
    return value.strip().casefold() in ATTRIBUTE
