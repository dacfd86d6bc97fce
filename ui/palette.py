"""One colour and one marker for a group, wherever it is shown.

The colours extend those of Okabe and Ito (2008, "Color universal design"); the light ones are a little deeper, so that
each has a contrast of at least 3:1 with the light and with the dark background. The marker says the same as the colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.cells import UNKNOWN

UNKNOWN_COLOUR = "#7A7F87"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B98100", "#7B5FD0", "#8A5A3B", "#3A98D4")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
UNKNOWN_SYMBOL = "x"

ACCENT = "#2E7DA6"
NEUTRAL = "#7A7F87"
GRID = "rgba(128, 136, 148, 0.22)"
INK = {"light": "#37414C", "dark": "#C9D0D8"}
LIGHT_BACKGROUND, DARK_BACKGROUND = "#FFFFFF", "#14181D"

# White text on them has a contrast of 4.5:1 or more.
STATE_COLOURS = {
    "queued": "#6B7078",
    "running": "#27729A",
    "finished": "#00875F",
    "failed": "#C43D28",
    "cancelled": "#8A5A3B",
    "interrupted": "#946700",
    "damaged": "#C43D28",
}


def group_colours(groups: Iterable[str]) -> dict[str, str]:
    """A colour for each group of one attribute, the same on every page; give all groups of the data, not those in view.

    >>> group_colours(["White", "Asian", "Unknown"])
    {'Asian': '#0072B2', 'White': '#D55E00', 'Unknown': '#7A7F87'}
    """
    return _spread(groups, COLOURS, UNKNOWN_COLOUR)


def group_symbols(groups: Iterable[str]) -> dict[str, str]:
    """A plotly marker for each group, in step with its colour.

    >>> group_symbols(["White", "Asian"])
    {'Asian': 'circle', 'White': 'square'}
    """
    return _spread(groups, SYMBOLS, UNKNOWN_SYMBOL)


def _spread(groups: Iterable[str], values: tuple[str, ...], unknown: str) -> dict[str, str]:
    ordered = group_order(groups)
    return {group: unknown if group == UNKNOWN else values[i % len(values)] for i, group in enumerate(ordered)}


# Methods are never groups: their colours are other ones, each with a contrast of 3:1 with both backgrounds.
METHOD_COLOURS = ("#5E6C8E", "#C2306B", "#14848C", "#6C7F00", "#9A5BB8", "#B5562B", "#4C6FD1", "#A07A00")
METHOD_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def method_marks(methods: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and dash of each method, by place.

    >>> method_marks(["clip", "dbpm"])["dbpm"]
    ('#C2306B', 'square', 'dash')
    """
    return {
        name: (
            METHOD_COLOURS[i % len(METHOD_COLOURS)],
            METHOD_SYMBOLS[i % len(METHOD_SYMBOLS)],
            DASHES[i % len(DASHES)],
        )
        for i, name in enumerate(methods)
    }
