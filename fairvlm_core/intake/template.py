"""Notes and paths composed from the cells of a row: ``"{dx}, on the {localization}, {age}-year-old {sex}"``.

A template is cut into parts at ``", "``, ``"; "``, ``". "`` and line breaks. A part that names a missing cell is left out
with the mark before it. Square brackets enclose a smaller part: ``"{sex}[ of {age} years]"`` keeps the sex where the age
is missing. A row in which every named cell is missing gives the empty text.

``{column:pattern}`` takes the part of the cell that a regular expression (RE2, without braces and groups) matches first:
``"RET{ID:[0-9]+}OD.jpg"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ..cells import group_name, is_missing
from ..errors import InputError
from .files import shown

_CUT = re.compile(r"([,;.]\s+|\s*\n\s*)")
_FIELD = re.compile(r"\{([^{}]*)\}")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")

Names = Mapping[str, Mapping[str, str]]


def is_template(text: str) -> bool:
    """Whether a text names columns in braces."""
    return bool(_FIELD.search(text))


def fields(template: str) -> list[str]:
    """The columns that a template names, each once.

    >>> fields("{dx}, {age}-year-old {sex}")
    ['dx', 'age', 'sex']
    """
    return list(dict.fromkeys(name.strip() for name in _FIELD.findall(template)))


def template_fault(text: str) -> str | None:
    """Why a text is no template; None where it is one, or names no column at all.

    >>> template_fault("{dx, on the {site}")
    'a brace { is not closed or not opened; write {column}'
    """
    rest = _FIELD.sub("", text)
    if is_template(text) and ("{" in rest or "}" in rest):
        return "a brace { is not closed or not opened; write {column}"
    if is_template(text) and ("[" in (rest := _BRACKET.sub("", rest)) or "]" in rest):
        return "a bracket [ is not closed or not opened; write [optional text]"
    return None


@dataclass(frozen=True)
class Template:
    """A template in parts; see the module's text for its rules.

    >>> note = Template("{dx}, on the {site}, {age}-year-old {sex}")
    >>> note.fill({"dx": "nevus", "site": "back", "age": "50.0", "sex": "male"})
    'nevus, on the back, 50-year-old male'
    >>> note.fill({"dx": "nevus", "site": "", "age": "50.0", "sex": "unknown"})
    'nevus'
    >>> Template("Nevus[ of a {age}-year-old]. Site: {site}.").fill({"age": "", "site": "hand"})
    'Nevus. Site: hand.'
    """

    text: str

    @property
    def fields(self) -> list[str]:
        """The columns named, each once."""
        return fields(self.text)

    def fill(self, cells: Mapping[str, str]) -> str:
        """The text for one row; `cells` maps each field to its cell."""
        names = self.fields
        known = {str(i): _written(cells[name]) for i, name in enumerate(names)}
        if not any(known.values()):
            return ""
        # Numbers for names, since a pattern may hold brackets.
        text = _FIELD.sub(lambda match: f"{{{names.index(match[1].strip())}}}", self.text)
        marks: list[str] = []

        def protect(match: re.Match) -> str:
            """A bracket as one character, so that a mark inside it does not cut."""
            marks.append(match[1])
            return f"\0{len(marks) - 1}\0"

        pieces = _CUT.split(_BRACKET.sub(protect, text))
        filled = ""
        for i in range(0, len(pieces), 2):
            piece = _fill(pieces[i], known)
            if piece is None:
                continue
            piece = re.sub(r"\0(\d+)\0", lambda match: _fill(marks[int(match[1])], known) or "", piece)
            filled += (pieces[i - 1] if i and filled else "") + piece
        return re.sub(r" {2,}", " ", filled).strip()


def _fill(piece: str, known: Mapping[str, str]) -> str | None:
    """A part with its cells; None where one is missing."""
    if not all(known[place] for place in _FIELD.findall(piece)):
        return None
    return _FIELD.sub(lambda match: known[match[1]], piece)


def _written(cell: str) -> str:
    """A cell as it stands in a text: trimmed, a whole number without ``.0``, nothing where it is missing."""
    return "" if is_missing(cell) else group_name(cell)


def composed(sources: str | Sequence[str], columns: Mapping[str, pa.Array], names: Names, place: str) -> pa.Array:
    """A column of text from columns and templates.

    Parameters
    ----------
    sources
        A column, a template, or several of these, joined as sentences: ". " between two of them, or a blank where the
        first ends with a mark.
    columns
        Column name to cells, each Arrow text of length N.
    names
        Column name to code to name; a name of "" makes the cell missing.
    place
        What a message begins with.

    Raises
    ------
    InputError
        A named column is not there.
    """
    chosen = [sources] if isinstance(sources, str) else list(sources)
    templates = [Template("{%s}" % source if source in columns else source) for source in chosen]  # noqa: UP031
    needed = list(dict.fromkeys(name for template in templates for name in template.fields))
    said = [_named(_cells(name, columns, place), names.get(name, {})) for name in needed or chosen]
    # Each different combination of cells is written once.
    seen: dict[tuple[str, ...], str] = {}
    texts = []
    for row in zip(*said, strict=True):
        if row not in seen:
            cells = dict(zip(needed, row, strict=True))
            seen[row] = _joined([template.fill(cells) for template in templates])
        texts.append(seen[row])
    return pa.array(texts, pa.large_string())


def _cells(field: str, columns: Mapping[str, pa.Array], place: str) -> pa.Array:
    """The cells of a column, or the part of them that a pattern after its name matches."""
    if field in columns:
        return columns[field]
    name, colon, pattern = field.partition(":")
    if not colon or name not in columns:
        raise InputError(
            f"{place}: no column {shown(field)}; there are {', '.join(shown(one, 30) for one in list(columns)[:20])}"
        )
    try:
        found = pc.extract_regex(columns[name], f"(?P<part>{pattern})")
    except pa.ArrowInvalid:
        raise InputError(f"{place}: {shown(pattern)} is no regular expression without groups, such as [0-9]+") from None
    return pc.fill_null(pc.struct_field(found, "part"), "").cast(pa.large_string())


def _named(cells: pa.Array, names: Mapping[str, str]) -> list[str]:
    if not names:
        return cells.to_pylist()
    coded = pc.dictionary_encode(pc.utf8_trim_whitespace(cells))
    values = [names.get(value, names.get(_written(value), value)) for value in coded.dictionary.to_pylist()]
    return [values[code] for code in coded.indices.to_pylist()]


def _joined(texts: Sequence[str]) -> str:
    """
    >>> _joined(["No effusion.", "", "Normal heart", "Clear lungs"])
    'No effusion. Normal heart. Clear lungs'
    """
    joined = ""
    for text in filter(None, texts):
        joined += (" " if joined.endswith((".", "!", "?", ":", ";", "。")) else ". ") + text if joined else text
    return joined
