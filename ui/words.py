"""How figures, times and foreign text are written."""

from __future__ import annotations

import html
import math
import re
import time
from datetime import datetime

NOTHING = "–"
MINUS = "−"


def figure(value: float | None, digits: int = 3) -> str:
    """A figure with three decimals; a dash where there is none.

    >>> figure(0.87651), figure(None), figure(-0.5)
    ('0.877', '–', '−0.500')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 0) -> str:
    """
    >>> percent(0.505), percent(0.0512, 1), percent(None)
    ('50 %', '5.1 %', '–')
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def points(difference: float | None) -> str:
    """A difference of two figures between 0 and 1, in percentage points.

    >>> points(0.0123), points(-0.004), points(0.0), points(None)
    ('+1.2 pp', '−0.4 pp', '0.0 pp', '–')
    """
    if difference is None or not math.isfinite(difference):
        return NOTHING
    value = round(100 * difference, 1) + 0.0
    return f"{value:+.1f} pp".replace("-", MINUS) if value else "0.0 pp"


def p_value(value: float | None) -> str:
    """
    >>> p_value(0.0317), p_value(0.00004), p_value(None)
    ('0.032', '< 0.001', '–')
    """
    return figure(value) if value is None or not value < 0.001 else "< 0.001"


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval.

    >>> span(0.81, 0.9), span(None, None)
    ('0.810 to 0.900', '–')
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return NOTHING
    return f"{figure(low, digits)} to {figure(high, digits)}"


def undefined(n_positive: int, n_negative: int) -> str:
    """What stands in the place of an AUC that does not exist.

    >>> undefined(0, 12)
    'undefined (n+ = 0, n− = 12)'
    """
    return f"undefined (n+ = {n_positive}, n− = {n_negative})"


def many(n: int, one: str, more: str | None = None) -> str:
    """
    >>> many(1, "run"), many(1200, "pair"), many(0, "entry", "entries")
    ('1 run', '1,200 pairs', '0 entries')
    """
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def listed(items: list[str], last: str = "and") -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


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


_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=])")
# Bare addresses become links even where every mark is escaped; a joiner of no width takes them apart.
_ADDRESS = re.compile(r"(://|www(?=\.)|@)", re.IGNORECASE)


def literal(text: object) -> str:
    """Foreign text (ids, group names, error lines) for a place that reads Markdown: shown as it is, nothing is fetched.

    >>> literal("![x](y) & z")
    '\\\\!\\\\[x\\\\]\\\\(y\\\\) &amp; z'
    """
    line = _ADDRESS.sub("\\1\u2060", " ".join(str(text).split()))
    return _MARKDOWN.sub(r"\\\1", line).replace("&", "&amp;")


def chart_text(text: object, longest: int = 40) -> str:
    """Foreign text for a chart: plotly reads a little HTML and, where it can, formulas between dollar signs.

    >>> chart_text("<b>A</b> & $x$")
    '&lt;b&gt;A&lt;/b&gt; &amp; ＄x＄'
    """
    line = " ".join(str(text).split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return html.escape(line, quote=False).replace("$", "＄")


def slug(name: str) -> str:
    """A name for a file.

    >>> slug("Harvard FairVLMed/1")
    'harvard-fairvlmed-1'
    """
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-") or "data"
