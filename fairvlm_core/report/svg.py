"""Two kinds of chart as static SVG: small, printable, and readable without a script.

Text and grid have the CSS classes of the page, so that charts follow light and dark. Colours are those of Okabe and Ito
(2008), each with its own dash pattern for print and for colour-blind readers. All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B98100", "#7B5FD0", "#8A5A3B", "#3A98D4")
UNKNOWN_COLOUR = "#7A7F87"  # of patients whose group is not known
UNKNOWN_PLACE = -1
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2")
WIDTH = 640
_CHARACTER = 7.2  # width of a letter at 12 px, roughly
_LONGEST = 34


@dataclass(frozen=True)
class Line:
    """A curve: `x` and `y` of equal length, all finite; `place` of its colour, by default its place among the curves."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    place: int | None = None


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a value with its interval and a reference mark, or a `note` where there is no value."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    note: str = ""
    place: int = 0


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_title: str,
    y_title: str,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    x_whole: bool = True,
    end_mark: bool = False,
) -> Markup:
    """Curves on common axes, with a legend beside the chart. Nothing where there are no lines.

    Parameters
    ----------
    lines : sequence of Line
        Each with at least one point.
    title : str
        What the chart shows, for screen readers.
    y_range : (float, float), optional
        Default: the range of the values, from 0 where they come near it.
    diagonal : bool
        A dotted line from corner to corner (chance level of a ROC curve).
    x_whole : bool
        Ticks at whole numbers only.
    end_mark : bool
        A dot at the last point of each curve.
    """
    if not lines:
        return Markup()
    left, top, bottom = 58, 12, 226
    right = WIDTH - 48 - _CHARACTER * max(len(_short(line.name)) for line in lines)
    xs = [v for line in lines for v in line.x]
    x_range = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    y_range = y_range or _around([v for line in lines for v in line.y])
    x, y = _scale(x_range, left, right), _scale(y_range, bottom, top)
    parts = []
    for v in ticks(*y_range):
        parts += [_line(left, y(v), right, y(v), class_="grid"), _text(left - 7, y(v) + 4, f"{v:g}", anchor="end")]
    parts += [_text(x(v), bottom + 16, f"{v:g}") for v in ticks(*x_range, whole=x_whole)]
    middle = (top + bottom) / 2
    parts.append(_text((left + right) / 2, bottom + 38, x_title, class_="axis"))
    parts.append(_text(12, middle, y_title, class_="axis", transform=f"rotate(-90 12 {middle:g})"))
    if diagonal:
        parts.append(_line(left, bottom, right, top, class_="chance"))
    for i, line in enumerate(lines):
        colour = _colour(i if line.place is None else line.place)
        style: dict[str, Any] = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": DASHES[i % len(DASHES)]}
        points = [(x(a), y(b)) for a, b in zip(line.x, line.y, strict=True)]
        parts.append(_tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), fill="none", **style))
        if len(points) == 1 or end_mark:
            parts.append(_circle(*points[-1], 4.5, colour))
        key = top + 10 + 18 * i
        parts += [
            _line(right + 10, key, right + 32, key, **style),
            _text(right + 38, key + 4, line.name, anchor="start"),
        ]
    return _svg(270, title, parts)


def dot_chart(dots: Sequence[Dot], *, title: str, x_title: str) -> Markup:
    """A row for each dot with its interval; a vertical tick is its mark. Nothing where there are no dots."""
    if not dots:
        return Markup()
    top, bottom = 8, 8 + 24 * len(dots)
    left, right = 16 + _CHARACTER * max(len(_short(dot.name)) for dot in dots), WIDTH - 20
    known = [v for dot in dots for v in (dot.value, dot.low, dot.high, dot.mark) if v is not None]
    x_range = _around(known, near_zero=False) if known else (0.0, 1.0)
    x = _scale(x_range, left, right)
    parts = []
    for v in ticks(*x_range):
        parts += [_line(x(v), top, x(v), bottom, class_="grid"), _text(x(v), bottom + 16, f"{v:g}")]
    for i, dot in enumerate(dots):
        y, colour = top + 24 * (i + 0.5), _colour(dot.place)
        parts.append(_text(left - 10, y + 4, dot.name, anchor="end"))
        if dot.value is None:
            parts.append(_text(left + 6, y + 4, dot.note, anchor="start", class_="soft"))
            continue
        if dot.low is not None and dot.high is not None:
            parts.append(_line(x(dot.low), y, x(dot.high), y, stroke=colour, stroke_width=2))
        if dot.mark is not None:
            parts.append(_line(x(dot.mark), y - 8, x(dot.mark), y + 8, class_="mark"))
        parts.append(_circle(x(dot.value), y, 4.5, colour))
    parts.append(_text((left + right) / 2, bottom + 38, x_title, class_="axis"))
    return _svg(bottom + 44, title, parts)


def _colour(place: int) -> str:
    return UNKNOWN_COLOUR if place == UNKNOWN_PLACE else COLOURS[place % len(COLOURS)]


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Four to eight round numbers between two.

    >>> ticks(0.0, 1.0), ticks(1, 4, whole=True)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [1.0, 2.0, 3.0, 4.0])
    """
    rough = (high - low) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.99)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _around(values: Sequence[float], *, near_zero: bool = True) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return (0.0 if near_zero and 0 <= low < 0.35 * high else low - margin), high + margin


def _scale(values: tuple[float, float], start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (value - values[0]) / (values[1] - values[0])


def _svg(height: float, title: str, parts: Iterable[Markup]) -> Markup:
    inner = _tag("title", title) + Markup().join(parts)
    return _tag("svg", inner, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=title)


def _line(x1: float, y1: float, x2: float, y2: float, **more: Any) -> Markup:
    return _tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", **more)


def _circle(x: float, y: float, radius: float, colour: str) -> Markup:
    return _tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, fill=colour)


def _text(x: float, y: float, words: str, *, anchor: str = "middle", **more: str) -> Markup:
    words = words if more else _short(words)  # names are cut, titles and notes are not
    return _tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **more)


def _tag(name: str, content: str = "", **attributes: Any) -> Markup:
    """An element. `Markup.format` escapes the content, unless it is markup itself, and the values of the attributes."""
    written = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, content)


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
