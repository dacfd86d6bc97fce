"""What a single cell means: nothing, a number, true or false, or a code that can be written in several ways; typed paths.

Reading data folders, `fairvlm metrics` and the Python functions all use these rules, so that one cell means the same
everywhere. Cells are compared without surrounding blanks and in any case.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .errors import InputError

UNKNOWN = "Unknown"
# Groups of one attribute, Unknown aside; and from how many on numbers would say more as bands.
MAX_GROUPS = 50
MANY_GROUPS = 12

MISSING = frozenset(
    (
        "", "-1", "nan", "none", "null", "nil", "<na>", "na", "n/a", "n.a.", "#n/a", "#na", "nat", "unk", "unknown", "?",
        "-", "--", "missing", "not available",
    )
)  # fmt: skip
_QUOTES = {('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("`", "`"), ("<", ">")}
_LABELS = {"1": 1, "true": 1, "0": 0, "false": 0}
_WHOLE = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?")
_NUMBER = re.compile(
    r"(?:[<>≥≤~]|>=|<=|over|under|about)?\s*([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?)\s*"
    r"(?:(\+|or older|or more|and over|and older)|([a-z%/]+)\.?(?:[ -]old)?)?"
)
_RANGE = re.compile(r"\[?(\d+(?:\.\d+)?)\s*(?:-|–|to|,)\s*(\d+(?:\.\d+)?)[\])]?\s*(?:y|yrs?|years?)?")
_BAND = re.compile(r"([<≤]?)\s*(-?\d+(?:\.\d+)?)")
# A unit of age to years; a letter alone counts after a whole number only (DICOM's age string, 006M), "1.75 m" is a length.
_UNITS = {
    "y": 1.0, "yr": 1.0, "yrs": 1.0, "year": 1.0, "years": 1.0, "yo": 1.0, "y/o": 1.0, "month": 12.0, "months": 12.0,
    "mo": 12.0, "mos": 12.0, "week": 52.18, "weeks": 52.18, "wk": 52.18, "wks": 52.18, "day": 365.25, "days": 365.25,
}  # fmt: skip
_LETTERS = {"y": 1.0, "m": 12.0, "w": 52.18, "d": 365.25}
_PLAIN = frozenset(("kg", "g", "lb", "lbs", "cm", "mm", "m", "mmhg", "db", "%", "d"))


def is_missing(cell: str) -> bool:
    """Whether a cell says nothing.

    >>> [is_missing(cell) for cell in ("", " ", "-1.0", "None", "NaN", "N/A", "unk", "?", "0", "nasal")]
    [True, True, True, True, True, True, True, True, False, False]
    """
    return spelling(cell) in MISSING


def spelling(cell: str) -> str:
    """One way to write a word or number: without outer blanks, in lower case, a whole number without ".0".

    >>> spelling(" 1.0"), spelling("Male"), spelling("001"), spelling("1.50")
    ('1', 'male', '001', '1.50')
    """
    return group_name(cell).casefold()


def group_name(cell: str) -> str:
    """The name of the group that a cell stands for: without outer blanks, "1.0" as "1".

    >>> group_name(" 1.0"), group_name("1.5"), group_name("A.0")
    ('1', '1.5', 'A.0')
    """
    word = cell.strip()
    head, dot, tail = word.partition(".")
    return head if dot and not tail.strip("0") and head.lstrip("+-").isdigit() else word


def identity(cell: str) -> str:
    """What ids have in common that differ only in how they are written: zeros in front, ".0", case, blanks, width.

    >>> {identity(cell) for cell in ("100", "100.0", "00100", " 100 ")}, identity("P-07 a") == identity("p-07A")
    ({'100'}, True)
    """
    word = cell.lower() if cell.isascii() else unicodedata.normalize("NFKC", cell).casefold()
    word = "".join(word.split())
    if word[-1:].isalpha():
        return word
    whole = _WHOLE.fullmatch(word)
    return f"{whole[1].replace('+', '')}{whole[2]}" if whole else word


def alike(cells: Iterable[str]) -> list[list[str]]:
    """Different cells with one `identity`, missing ones aside: one sorted list for each such identity.

    >>> alike(["100", "7", "100.0", "00100", "7"])
    [['00100', '100', '100.0']]
    """
    found: dict[str, list[str]] = {}
    for cell in dict.fromkeys(cells):
        found.setdefault(identity(cell), []).append(cell)
    several = [sorted(same) for same in found.values() if len(same) > 1]
    return [same for same in several if not is_missing(same[0])]


def zero_one(cell: str) -> int | None:
    """1 or 0 for a cell that says 1, 1.0 or true, or 0, 0.0 or false; None for any other.

    >>> [zero_one(cell) for cell in ("1.0", "True", "FALSE", "0", "2", "")]
    [1, 1, 0, 0, None, None]
    """
    return _LABELS.get(spelling(cell))


def same_word(cell: str) -> str:
    """As `spelling`, with true and false as 1 and 0: to compare a cell with a list of words.

    >>> same_word("TRUE"), same_word("1.0"), same_word("NEV")
    ('1', '1', 'nev')
    """
    answer = zero_one(cell)
    return spelling(cell) if answer is None else str(answer)


def number(cell: str) -> float | None:
    """The number in a cell, with the forms in which tables give ages; None where there is none.

    DICOM's age strings (PS3.5, value representation AS: 058Y, 006M, 003W, 010D) and months, weeks or days become years.

    >>> [number(cell) for cell in ("61", "058Y", "6M", "50+", "> 89", "70,5", "58 years", "61.5 kg", "old")]
    [61.0, 58.0, 0.5, 50.0, 89.0, 70.5, 58.0, 61.5, None]
    """
    word = cell.strip().casefold()
    try:
        value = float(word)
        return value if abs(value) < float("inf") else None
    except ValueError:
        found = _NUMBER.fullmatch(word)
    if not found:
        return None
    value, unit = float(found[1].replace(",", ".")), found[3]
    if unit is None:
        return value
    if unit in _LETTERS and found[1].isdigit():
        return value / _LETTERS[unit]
    if unit in _UNITS:
        return value / _UNITS[unit]
    return value if unit in _PLAIN else None


def number_range(cell: str) -> tuple[float, float] | None:
    """Both ends of a cell such as "40-49" or "[40, 50)"; None where it is none.

    >>> number_range("40-49"), number_range("40")
    ((40.0, 49.0), None)
    """
    found = _RANGE.fullmatch(cell.strip().casefold())
    return (float(found[1]), float(found[2])) if found else None


def round_edges(numbers: Sequence[float]) -> list[float]:
    """Up to three round edges that cut numbers into bands of about equal size; none where they hardly differ.

    >>> round_edges([float(age) for age in range(18, 95)]), round_edges([1.0, 1.0])
    ([40.0, 60.0, 80.0], [])
    """
    ordered = sorted(numbers)
    if not ordered or ordered[0] == ordered[-1]:
        return []
    span = ordered[-1] - ordered[0]
    step = next(s * 10.0**k for k in range(-6, 13) for s in (1, 2, 5) if s * 10.0**k >= span / 8)
    edges = {round(round(ordered[len(ordered) * i // 4] / step) * step, 9) for i in (1, 2, 3)}
    return sorted(edge for edge in edges if ordered[0] < edge <= ordered[-1])


def too_many_numbers(values: Iterable[str], limit: int) -> list[float] | None:
    """Edges of bands for a column of more than `limit` different values that are nearly all numbers; else None.

    >>> too_many_numbers(map(str, range(18, 95)), 12)
    [40.0, 60.0, 80.0]
    >>> too_many_numbers(["A", "B"], 1) is None
    True
    """
    known = {value for value in values if not is_missing(value)}
    if len(known) <= limit:
        return None
    numbers = [value for value in map(number, known) if value is not None]
    return round_edges(numbers) if len(numbers) >= 0.9 * len(known) else None


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


def group_place(name: str) -> tuple[bool, bool, float, str]:
    """Key that sorts groups: numbers and bands by value, then text in any case, "Unknown" last.

    >>> sorted(["b", "75+", UNKNOWN, "40-74", "<40", "A", "100+"], key=group_place)
    ['<40', '40-74', '75+', '100+', 'A', 'b', 'Unknown']
    """
    found = _BAND.match(name)
    value = 0.0 if found is None else float(found[2]) - (0.5 if found[1] else 0.0)
    return name == UNKNOWN, found is None, value, name.casefold() + name


def band(cell: str, edges: Sequence[float]) -> str | None:
    """Name of the band in which a cell's number lies, or both ends of its range; None where there is no such band.

    >>> band("058Y", [50, 70]), band("50-59", [50, 70]), band("40-59", [50, 70]), band("old", [50, 70])
    ('50-69', '50-69', None, None)
    """
    one = number(cell)
    ends = (number_range(cell) or ()) if one is None else (one,)
    places = {bisect_right(edges, end) for end in ends}
    return band_names(edges)[places.pop()] if len(places) == 1 else None


def bands(values: Iterable[Any], edges: Sequence[float]) -> list[str]:
    """Numbers as names of bands, for the attributes of a report.

    Parameters
    ----------
    values
        Of any kind; texts as `number` reads them. What is no number becomes "Unknown".
    edges
        Rising, one or more. A band holds its lower edge and not its upper one.

    Raises
    ------
    InputError
        No edges, or edges that do not rise.

    >>> bands([61, "058Y", None, 90.5], [60, 75])
    ['60-74', '<60', 'Unknown', '75+']
    """
    if not edges or any(not low < high for low, high in pairwise(edges)):
        raise InputError(f"edges: {list(edges)}; one or more numbers in rising order are needed")
    return [(None if is_missing(text) else band(text, edges)) or UNKNOWN for text in map(cell_text, values)]


def words_pattern(words: Iterable[str], blank: str = r"[\s\pZ\p{Cf}]") -> str:
    """A pattern of RE2 that matches a cell which holds one of the words and nothing else.

    >>> words_pattern(["na", "-1"]).startswith("(?i)^")
    True
    """
    forms = [re.escape(word) + (r"(?:\.0*)?" if word.lstrip("-").isdigit() else "") for word in sorted(words)]
    return rf"(?i)^{blank}*(?:{'|'.join(forms)}){blank}*$"


def typed_path(given: str | Path) -> Path:
    r"""A path as a person types or pastes it: in quotes, as file:// address, with ~ or with escaped blanks.

    >>> [typed_path(text).as_posix() for text in ('"/data/a b"', "file:///data/a%20b", " /data/a\\ b ", "data")]
    ['/data/a b', '/data/a b', '/data/a b', 'data']
    """
    if not isinstance(given, str):
        return Path(given)
    text = given.strip()
    while len(text) > 1 and (text[0], text[-1]) in _QUOTES:
        text = text[1:-1].strip()
    if address := re.fullmatch(r"(?i)file:(?://(?:localhost)?)?(/.*)", text, re.DOTALL):
        text = unquote(address[1])
    elif "\\ " in text:  # as terminals write a dragged folder
        text = text.replace("\\ ", " ")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~name" of nobody
        return Path(text)


def cell_text(value: Any) -> str:
    """A value of any kind as a table would write it; None and not-a-number as nothing.

    >>> [cell_text(value) for value in (1.0, 1.5, float("nan"), None, True, "a ")]
    ['1', '1.5', '', '', 'True', 'a ']
    """
    if value is None:
        return ""
    if isinstance(value, float):  # numpy's float64 is one, too
        return "" if value != value else f"{value:.0f}" if value.is_integer() else str(value)
    text = str(value)
    return "" if text in ("<NA>", "NaT") else text
