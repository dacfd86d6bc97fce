"""The order in which the groups of an attribute are listed, everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ..cells import UNKNOWN

_BAND = re.compile(r"([<≤]?)\s*(\d+(?:\.\d+)?)")


def group_order(groups: Iterable[str]) -> list[str]:
    """Groups by name, bands by their number, `Unknown` last.

    >>> group_order(["White", "Unknown", "Asian", "White"])
    ['Asian', 'White', 'Unknown']
    >>> group_order(["75+", "40-74", "100+", "<40"])
    ['<40', '40-74', '75+', '100+']
    """
    return sorted(set(groups), key=_place)


def _place(group: str) -> tuple[bool, float, str]:
    band = _BAND.match(group)
    number = math.inf if band is None else float(band[2]) - (0.5 if band[1] else 0.0)
    return group == UNKNOWN, number, group
