"""Three kinds of chart as static SVG: a file with them is small, prints well, and needs no script to be read.

Ink and grid are the page's (by CSS classes), so that charts follow light and dark. Text is escaped by the XML writer.
Colours are those of Okabe and Ito (2008), each with a dash of its own, so that print and colour blindness lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B98100", "#7B5FD0", "#8A5A3B", "#3A98D4")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2")
_CHARACTER = 7.2  # width of a letter at 12 px, roughly
_LONGEST = 34


@dataclass(frozen=True)
class Line:
    """A curve: `x` and `y` of one length, both finite."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a value with its interval, and a mark to read it by; `note` stands where there is no value."""

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
) -> str:
    """Curves over a common axis, each named beside the chart.

    Parameters
    ----------
    lines : sequence of Line
        At least one, with at least one point each.
    title : str
        Read aloud by a screen reader: what the chart shows.
    y_range : (float, float), optional
        Default: the values, from 0 where they come near it.
    diagonal : bool
        A dotted line from corner to corner (chance, in a ROC curve).
    x_whole : bool
        Ticks at whole numbers only.
    """
    width, height, left, top, bottom = 640, 270, 58, 12, 44
    right = 24 + _CHARACTER * max(len(_short(line.name)) for line in lines) + 24
    inner, deep = width - left - right, height - top - bottom
    xs = [v for line in lines for v in line.x]
    ys = [v for line in lines for v in line.y]
    x_low, x_high = _widened(min(xs), max(xs))
    y_low, y_high = y_range or _around(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return left + inner * (x - x_low) / (x_high - x_low), top + deep * (y_high - y) / (y_high - y_low)

    root = _root(width, height, title)
    for y in ticks(y_low, y_high):
        _, at = place(x_low, y)
        _line(root, left, at, left + inner, at, "grid")
        _text(root, left - 7, at + 4, f"{y:g}", "end")
    for x in ticks(x_low, x_high, whole=x_whole):
        at, _ = place(x, y_low)
        _text(root, at, top + deep + 16, f"{x:g}", "middle")
    _text(root, left + inner / 2, height - 6, x_title, "middle", "axis")
    turned = _text(root, 12, top + deep / 2, y_title, "middle", "axis")
    turned.set("transform", f"rotate(-90 12 {top + deep / 2:g})")
    if diagonal:
        _line(root, left, top + deep, left + inner, top, "chance")
    for i, line in enumerate(lines):
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in zip(line.x, line.y, strict=True))
        style = {"fill": "none", "stroke": COLOURS[i % len(COLOURS)], "stroke-width": "2"}
        if DASHES[i % len(DASHES)]:
            style["stroke-dasharray"] = DASHES[i % len(DASHES)]
        Xml.SubElement(root, "polyline", points=points, **style)
        if len(line.x) == 1:
            x, y = place(line.x[0], line.y[0])
            Xml.SubElement(root, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="4", fill=style["stroke"])
        at = top + 10 + 18 * i
        key = Xml.SubElement(
            root, "line", x1=f"{width - right + 10:g}", x2=f"{width - right + 32:g}", y1=f"{at}", y2=f"{at}"
        )
        for name, value in style.items():
            key.set(name, value)
        _text(root, width - right + 38, at + 4, line.name, "start")
    return Xml.tostring(root, encoding="unicode")


def dot_chart(dots: Sequence[Dot], *, title: str, x_title: str) -> str:
    """A row a dot with its interval; an upright tick is its mark. Rows with `note` instead of a value say why.

    Parameters
    ----------
    dots : sequence of Dot
        At least one.
    """
    row, top, bottom, width = 24, 8, 44, 640
    left = 16 + _CHARACTER * max(len(_short(dot.name)) for dot in dots)
    inner, deep = width - left - 20, row * len(dots)
    known = [v for dot in dots for v in (dot.value, dot.low, dot.high, dot.mark) if v is not None]
    low, high = _around(min(known), max(known), near_zero=False) if known else (0.0, 1.0)
    root = _root(width, top + deep + bottom, title)

    def place(x: float) -> float:
        return left + inner * (x - low) / (high - low)

    for x in ticks(low, high):
        _line(root, place(x), top, place(x), top + deep, "grid")
        _text(root, place(x), top + deep + 16, f"{x:g}", "middle")
    for i, dot in enumerate(dots):
        at = top + row * (i + 0.5)
        colour = COLOURS[dot.place % len(COLOURS)]
        _text(root, left - 10, at + 4, dot.name, "end")
        if dot.value is None:
            _text(root, left + 6, at + 4, dot.note, "start", "soft")
            continue
        if dot.low is not None and dot.high is not None:
            bar = _line(root, place(dot.low), at, place(dot.high), at, "")
            bar.set("stroke", colour)
            bar.set("stroke-width", "2")
        if dot.mark is not None:
            _line(root, place(dot.mark), at - 8, place(dot.mark), at + 8, "mark")
        Xml.SubElement(root, "circle", cx=f"{place(dot.value):.1f}", cy=f"{at:.1f}", r="4.5", fill=colour)
    _text(root, left + inner / 2, top + deep + bottom - 6, x_title, "middle", "axis")
    return Xml.tostring(root, encoding="unicode")


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


def _around(low: float, high: float, *, near_zero: bool = True) -> tuple[float, float]:
    spare = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    if near_zero and 0 <= low < 0.35 * high:
        return 0.0, high + spare
    return low - spare, high + spare


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _root(width: float, height: float, title: str) -> Xml.Element:
    root = Xml.Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": title})
    Xml.SubElement(root, "title").text = title
    return root


def _line(root: Xml.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> Xml.Element:
    places = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    return Xml.SubElement(root, "line", places | ({"class": kind} if kind else {}))


def _text(root: Xml.Element, x: float, y: float, words: str, anchor: str, kind: str = "") -> Xml.Element:
    places = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    element = Xml.SubElement(root, "text", places | ({"class": kind} if kind else {}))
    element.text = _short(words) if not kind else words
    return element


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
