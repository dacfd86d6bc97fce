"""The order in which the groups of an attribute are listed, everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from ..cells import group_place


def group_order(groups: Iterable[str]) -> list[str]:
    """Groups by name, bands by their number, `Unknown` last.

    >>> group_order(["White", "Unknown", "Asian", "White"])
    ['Asian', 'White', 'Unknown']
    >>> group_order(["75+", "40-74", "100+", "<40"])
    ['<40', '40-74', '75+', '100+']
    """
    return sorted(set(groups), key=group_place)
