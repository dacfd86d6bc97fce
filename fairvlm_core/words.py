"""How numbers, intervals, counts, times and lists are written: once, for the command line, reports and pages."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

NOTHING = "–"
MINUS = "−"
SPLITS = {"train": "training", "val": "validation", "test": "test"}
# What mining says of a pair, as pages write it; files keep the keys.
KIND_TITLES = {"clean": "Clean", "faulty": "Wrong note", "noisy": "Shared marker", "not mined": "Not mined"}


def known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals; a dash for None, NaN and infinities.

    >>> number(0.87651), number(None), number(-0.5), number(-0.0001)
    ('0.877', '–', '−0.500', '0.000')
    """
    if value is None or not known(value):
        return NOTHING
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A number with its sign; zero has none.

    >>> signed(0.004), signed(-0.0111), signed(-0.0001)
    ('+0.004', '−0.011', '0.000')
    """
    if not known(value):
        return NOTHING
    text = f"{value:+.{digits}f}"
    return text.replace("-", MINUS) if text.strip("+-0.") else text[1:]


def percent(value: float | None, digits: int = 0) -> str:
    """
    >>> percent(0.505), percent(0.0512, 1), percent(None)
    ('50 %', '5.1 %', '–')
    """
    return f"{100 * value:.{digits}f} %" if known(value) else NOTHING  # type: ignore[operator]


def points(difference: float | None) -> str:
    """A difference of two values between 0 and 1, in percentage points.

    >>> points(0.0123), points(-0.004), points(0.0), points(None)
    ('+1.2 pp', '−0.4 pp', '0.0 pp', '–')
    """
    return f"{signed(100 * difference, 1)} pp" if known(difference) else NOTHING  # type: ignore[operator]


def points_span(low: float | None, high: float | None) -> str:
    """An interval of a difference, in percentage points.

    >>> points_span(-0.004, 0.009), points_span(None, None)
    ('−0.4 to +0.9 pp', '–')
    """
    return f"{points(low).removesuffix(' pp')} to {points(high)}" if known(low) and known(high) else NOTHING


def p_value(value: float | None) -> str:
    """
    >>> p_value(0.0317), p_value(0.00004), p_value(None)
    ('0.032', '< 0.001', '–')
    """
    return number(value) if value is None or not value < 0.001 else "< 0.001"


def p_equals(value: float | None) -> str:
    """
    >>> p_equals(0.0317), p_equals(0.00004), p_equals(None)
    ('p = 0.032', 'p < 0.001', 'p = –')
    """
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval.

    >>> span(0.81, 0.9), span(None, None)
    ('0.810 to 0.900', '–')
    """
    return f"{number(low, digits)} to {number(high, digits)}" if known(low) and known(high) else NOTHING


def mean_sd(mean: float | None, sd: float | None, digits: int = 3) -> str:
    """
    >>> mean_sd(0.81, 0.02), mean_sd(0.81, None), mean_sd(None, None)
    ('0.810 ± 0.020', '0.810', '–')
    """
    return number(mean, digits) + (f" ± {number(sd, digits)}" if known(mean) and known(sd) else "")


def undefined(n_positive: int, n_negative: int) -> str:
    """What stands in place of an AUC that does not exist.

    >>> undefined(0, 12)
    'undefined (n+ = 0, n− = 12)'
    """
    return f"undefined (n+ = {n_positive}, n− = {n_negative})"


def count(value: int | None) -> str:
    """
    >>> count(12345), count(None)
    ('12,345', '–')
    """
    return NOTHING if value is None else f"{value:,}"


def many(n: int, one: str, more: str | None = None) -> str:
    """A count with its noun.

    >>> many(1, "run"), many(1200, "pair"), many(0, "entry", "entries")
    ('1 run', '1,200 pairs', '0 entries')
    """
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def listed(items: Sequence[str], last: str = "and", limit: int | None = None) -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], limit=2)
    ('a', 'a, b and c', 'a, b and 2 more')
    """
    if limit is not None and len(items) > limit:
        return f"{', '.join(items[:limit])} and {len(items) - limit} more"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def setting(value: Any) -> str:
    """The value of a setting.

    >>> setting(True), setting(["race", "sex"]), setting([]), setting(0.1), setting(None)
    ('yes', 'race, sex', '(all)', '0.1', '–')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(str(item) for item in value) or "(all)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """
    >>> [duration(s) for s in (0.4, 42, 95, 5400, 200_000)]
    ['1 s', '42 s', '2 min', '1.5 h', '2.3 d']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def ago(moment: float | None, now: float | None = None) -> str:
    """How long ago a moment (seconds since 1970) was.

    >>> ago(100.0, 130.0), ago(0.0, 7200.0), ago(None)
    ('30 s ago', '2 h ago', '–')
    """
    if moment is None:
        return NOTHING
    seconds = max(0.0, (time.time() if now is None else now) - moment)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def local_time(moment: str | float | None) -> str:
    """A moment (ISO text or seconds since 1970) in this machine's time zone; a dash where it cannot be read.

    >>> local_time(None), local_time("yesterday")
    ('–', '–')
    """
    try:
        if isinstance(moment, str):
            when = datetime.fromisoformat(moment).astimezone()
        else:
            when = datetime.fromtimestamp(float(moment)).astimezone()  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return NOTHING
    return f"{when.day} {when:%b %Y, %H:%M}"


def utc_time(moment: str) -> str:
    """An ISO time in full, in UTC.

    >>> utc_time("2026-03-07T21:04:59+01:00")
    '7 March 2026, 20:04 UTC'
    """
    when = datetime.fromisoformat(moment).astimezone(UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def slug(name: str) -> str:
    """A name for a file.

    >>> slug("Harvard FairVLMed/1")
    'harvard-fairvlmed-1'
    """
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-") or "data"
