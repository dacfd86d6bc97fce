"""What can happen in a review, as values: verdicts, events, and the hash chain over the events."""

from __future__ import annotations

import hashlib
import json
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class VerdictKind:
    """One of the verdicts a reader can give."""

    label: str
    help: str  # when to give it
    bad: bool | None  # whether such a pair counts as bad; None: unknown
    reasons: tuple[str, ...] = ()  # offered with it


# A new verdict is a new entry here; `apply` says what it does to training.
VERDICTS: Mapping[str, VerdictKind] = MappingProxyType(
    {
        "fits": VerdictKind("Pair fits", "The note describes this image.", bad=False),
        "wrong_note": VerdictKind(
            "Wrong note", "The note belongs to another image.", True,
            ("contradicts the image", "other eye or side", "other patient", "other examination"),
        ),
        "wrong_label": VerdictKind(
            "Wrong label", "Image and note agree; the label does not.", True, ("clearly positive", "clearly negative")
        ),
        "uninformative": VerdictKind(
            "Uninformative", "The note says nothing about this image.", True,
            ("administrative text", "empty or cut off", "other organ only", "boilerplate"),
        ),
        "unusable_image": VerdictKind(
            "Unusable image", "Nothing can be judged on this image.", True,
            ("blurred", "too dark or too bright", "wrong field of view", "artefact"),
        ),
        "shared_marker": VerdictKind(
            "Shared marker or stamp", "Image and note share a mark that is no clinical finding.", True,
            ("stamp", "text in the image", "frame or ruler"),
        ),
        "unsure": VerdictKind(
            "Unsure", "You cannot tell, even after looking twice.", None,
            ("borderline finding", "image quality", "more information needed"),
        ),
    }
)  # fmt: skip
BAD = tuple(name for name, kind in VERDICTS.items() if kind.bad)
GENESIS = "0" * 64
LONGEST_NAME, LONGEST_REASON, LONGEST_COMMENT = 64, 200, 4000


@dataclass(frozen=True)
class Verdict:
    """A reader's verdict on one pair, checked when it is made.

    Attributes
    ----------
    verdict : str
        A key of `VERDICTS`.
    reason : str
        Up to 200 characters; `VERDICTS` offers some.
    comment : str
        Free text, up to 4,000 characters. It may hold patient data: it is never logged, and exported on request only.
    better_pair_id : str, optional
        With "wrong_note": the pair whose note fits this image.
    corrected_label : int, optional
        With "wrong_label": the right label, 0 or 1. None means the other one.
    seconds : float, optional
        Reading time; not negative.

    Raises
    ------
    InputError
        An unknown verdict, a text that is too long, or a correction that does not go with the verdict.

    >>> Verdict("wrong_note", better_pair_id="p7").bad
    True
    """

    verdict: str
    reason: str = ""
    comment: str = ""
    better_pair_id: str | None = None
    corrected_label: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InputError(f"verdict: {str(self.verdict)[:40]!r} is not one of {', '.join(VERDICTS)}")
        for name, longest in (("reason", LONGEST_REASON), ("comment", LONGEST_COMMENT)):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > longest:
                raise InputError(f"{name}: must be text of at most {longest:,} characters")
        if self.better_pair_id is not None and (self.verdict != "wrong_note" or not str(self.better_pair_id)):
            raise InputError("better_pair_id: must be a pair id, and only goes with the verdict wrong_note")
        if self.corrected_label is not None and (self.verdict != "wrong_label" or self.corrected_label not in (0, 1)):
            raise InputError("corrected_label: must be 0 or 1, and only goes with the verdict wrong_label")
        if self.seconds is not None and not 0 <= self.seconds < 1e7:
            raise InputError(f"seconds: must be 0 or more (got {self.seconds})")

    @property
    def bad(self) -> bool | None:
        """Whether something is wrong with the pair; None where the reader cannot tell."""
        return VERDICTS[self.verdict].bad


@dataclass(frozen=True)
class Event:
    """One entry of the log. Order is by `sequence`, never by `at`.

    Attributes
    ----------
    sequence : int
        1, 2, 3, … without a gap.
    event_id : str
        UUID made by the client: the same id again is the same event.
    kind : str
        "queue", "lease", "release", "verdict", "undo" or "adjudication".
    queue_id, pair_id, reviewer : str
        Empty where the kind has none.
    at : str
        Server time in UTC, ISO 8601 with milliseconds.
    body : mapping
        What the kind adds: a verdict's fields, a lease's end, a queue's settings.
    refers : str, optional
        With "undo": the event id that is taken back.
    previous, hash : str
        SHA-256 of the event before and of this one, in hexadecimal.
    """

    sequence: int
    event_id: str
    kind: str
    queue_id: str
    pair_id: str
    reviewer: str
    at: str
    body: Mapping[str, Any] = field(repr=False)
    refers: str | None
    previous: str = field(repr=False)
    hash: str = field(repr=False)

    @property
    def verdict(self) -> Verdict:
        """The verdict that a "verdict" or "adjudication" event carries."""
        return Verdict(**self.body)

    def content(self) -> dict[str, Any]:
        """What is hashed: everything but the hash itself, and `refers`, which the body holds."""
        return {name: value for name, value in asdict(self).items() if name not in {"hash", "refers"}}


def canonical(value: Any) -> str:
    """JSON with one form only: sorted keys, no spaces, ASCII, no NaN.

    >>> canonical({"b": 1, "a": "ü"})
    '{"a":"\\\\u00fc","b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def check_event_id(event_id: str | None) -> str:
    """A UUID in its usual form; a new one for None.

    >>> check_event_id("{12345678-1234-5678-1234-567812345678}")
    '12345678-1234-5678-1234-567812345678'
    """
    if event_id is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(event_id))
    except (ValueError, AttributeError, TypeError):
        raise InputError(f"event id: {str(event_id)[:40]!r} is no UUID; make one with uuid.uuid4()") from None


def check_reviewer(name: str) -> str:
    """A reviewer's name as it is stored: composed Unicode, single spaces, 1 to 64 letters, digits and ``. ' - _ @``.

    A typed name is no authentication: it says who works here, it does not prove it.

    Raises
    ------
    InputError
        No letter or digit in it, too long, or other characters.

    >>> check_reviewer("  Dr.  Ada Example ")
    'Dr. Ada Example'
    """
    text = " ".join(unicodedata.normalize("NFC", str(name)).split())
    allowed = all(c.isalnum() or c in " .'’-_@" or unicodedata.category(c).startswith("M") for c in text)
    if not allowed or not any(c.isalnum() for c in text) or len(text) > LONGEST_NAME:
        raise InputError(f"reviewer name: use letters, digits and . ' - _ @ (at most {LONGEST_NAME})")
    return text


@lru_cache(maxsize=4096)
def person(name: str) -> str:
    """The same value for every spelling of one name: upper and lower case are one person.

    >>> person("Ada") == person("ADA")
    True
    """
    return check_reviewer(name).casefold()
