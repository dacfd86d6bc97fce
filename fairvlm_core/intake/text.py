"""What can be said about notes without showing them: lengths, truncation, likely identifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError

# Patterns of RE2, which reads a text once from left to right whatever the pattern: no note can make it slow. They are
# meant to be a little too wide: the counts say "look here before you share this", not "this is a name".
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
# Without a year only as a name is written: "OCT 80" is a measurement, "may 20" a verb.
_MONTH_NAME = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_AGE = r"(?:9\d|1[01]\d)"
IDENTIFIERS = {
    "dates": r"(?i:\b\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)?\d{2}\b|\b(?:19|20)\d{2}[/.-]\d{1,2}[/.-]\d{1,2}\b"
    r"|\b(?:0?[1-9]|1[0-2])/(?:19|20)\d{2}\b"
    rf"|\b(?:{_DAY} (?:of )?)?{_MONTH}\.?,? (?:{_DAY},? )?(?:19|20)\d{{2}}\b|\b\d{{1,2}}-{_MONTH}-(?:19|20)?\d{{2}}\b)"
    rf"|\b{_MONTH_NAME}\.? {_DAY}\b|\b{_DAY} (?:of )?{_MONTH_NAME}\b",
    "phone-like numbers": r"(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\) ?|\b\d{2,4}[ .-])\d{3,4}[ .-]\d{3,4}\b|\+\d{9,14}\b"
    r"|(?i:\b(?:tel(?:ephone)?|phone|mobile|cell|fax|pager|call(?:ed)?)\b\W{0,3}(?:at |on |no\.? |number )?\d[\d .-]{5,})",
    "record numbers": r"(?i)\b(?:mrn|nhs|ssn|record|chart|accession|case|hospital|patient)\W{0,3}"
    r"(?:id|no|nr|number|num)?\W{0,3}[a-z]{0,3}-?\d[\d-]{4,}\b|\b\d{7,}\b|\b\d{3}-\d{2}-\d{4}\b",
    "names after a title": r"\b(?:Mr|Mrs|Ms|Miss|Mister|Dr|Doctor|Prof|Professor)\b\.? ?"
    r"(?:(?:van|von|de|del|della|der|den|la|bin|al|el)[ -])*\p{Lu}[\p{L}.'’-]*",
    "e-mail addresses": r"[\w.+-]+@[\w-]+\.[\w.-]+",
    "ages over 89": rf"(?i)\b{_AGE}[ -]?(?:years?|yrs?|y/?o|y\.o\.?)\b|\bage[ds]?\W{{0,3}}(?:of |is |about )?{_AGE}\b",
}


@dataclass(frozen=True)
class Truncation:
    """How many notes are longer than a model's context.

    Attributes
    ----------
    n
        Notes counted.
    n_truncated
        Notes with more tokens than fit.
    context_length
        Tokens that fit, those for start and end included.
    longest
        Tokens of the longest note.
    tokens_lost
        Share of all tokens that is cut off, 0 to 1.
    """

    n: int
    n_truncated: int
    context_length: int
    longest: int
    tokens_lost: float

    def to_dict(self) -> dict[str, int | float]:
        """Ready for JSON."""
        return asdict(self)


def count_truncated(
    texts: Sequence[str], tokenize_length: Callable[[list[str]], np.ndarray], context_length: int, *, batch: int = 4096
) -> Truncation:
    """Count the notes that a tokenizer would cut.

    Parameters
    ----------
    texts
        N notes. A note that occurs often is tokenized once.
    tokenize_length
        Notes to their numbers of tokens *before* cutting, those for start and end included: a list of n strings to n
        integers.
    context_length
        Tokens that fit, at least 1.
    batch
        Notes a call.

    Raises
    ------
    InputError
        `context_length` is below 1, or `tokenize_length` returns another number of lengths than it got notes.

    >>> words = lambda notes: np.array([len(note.split()) for note in notes])
    >>> count_truncated(["one two three", "one", "one"], words, 2)
    Truncation(n=3, n_truncated=1, context_length=2, longest=3, tokens_lost=0.2)
    """
    if context_length < 1:
        raise InputError(f"context_length: {context_length}; at least 1 token must fit")
    distinct: dict[str, int] = {}
    position = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        position[i] = distinct.setdefault(text, len(distinct))
    notes = list(distinct)
    lengths = np.empty(len(notes), np.int64)
    for at in range(0, len(notes), batch):
        piece = notes[at : at + batch]
        got = np.asarray(tokenize_length(piece))
        if got.shape != (len(piece),):
            raise InputError(
                f"tokenize_length: returned shape {got.shape} for {len(piece)} notes; one length a note is expected"
            )
        lengths[at : at + len(piece)] = got
    lengths = lengths[position]
    total = int(lengths.sum())
    lost = int(np.maximum(lengths - context_length, 0).sum())
    return Truncation(
        n=len(lengths),
        n_truncated=int((lengths > context_length).sum()),
        context_length=int(context_length),
        longest=int(lengths.max(initial=0)),
        tokens_lost=lost / total if total else 0.0,
    )


def note_facts(texts: pd.Series | pa.Array) -> dict[str, int]:
    """Counts over N notes: length in characters, notes seen more than once, without spaces, with damaged characters.

    >>> note_facts(pd.Series(["a b", "a b", "c\\ufffd"]))["duplicates"]
    1
    """
    notes = pa.array(texts, pa.large_string())
    if not len(notes):
        return dict.fromkeys(
            ("shortest", "median", "longest", "duplicates", "without_spaces", "replacement_characters",
             "control_characters"), 0)  # fmt: skip
    # One pass for all that is rare, and a closer look at the few notes it finds.
    strange = notes.filter(pc.match_substring_regex(notes, r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{FFFD}]"))
    lengths = pc.utf8_length(notes).to_numpy(zero_copy_only=False)
    return {
        "shortest": int(lengths.min()),
        "median": int(np.median(lengths)),
        "longest": int(lengths.max()),
        "duplicates": len(notes) - pc.count_distinct(notes).as_py(),
        "without_spaces": _count(pc.match_substring_regex(notes, r"^\S{31,}$")),
        "replacement_characters": _count(pc.match_substring(strange, "\ufffd")),
        "control_characters": _count(pc.match_substring_regex(strange, r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")),
    }


def count_identifiers(texts: pd.Series | pa.Array) -> dict[str, int]:
    """How many notes hold something that looks like an identifier, by kind; only counts leave this function.

    >>> found = count_identifiers(pd.Series(["Seen by Dr. Miller on 03/04/2021", "IOP 21, cup-to-disc 0.7"]))
    >>> found["dates"], found["names after a title"], found["record numbers"]
    (1, 1, 0)
    """
    notes = pa.array(texts, pa.large_string())
    return {kind: _count(pc.match_substring_regex(notes, pattern)) for kind, pattern in IDENTIFIERS.items()}


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)
