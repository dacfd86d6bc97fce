"""Foreign text made safe for Markdown and charts; how numbers and times are written is in `fairvlm_core.words`."""

from __future__ import annotations

import html
import re

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
