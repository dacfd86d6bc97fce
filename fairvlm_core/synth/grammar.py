"""A small template language for the notes: ``{this|that|}`` chooses, ``<slot>`` fills in, nesting is allowed."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache

from fairvlm_core.errors import InputError

_TOKEN = re.compile(r"[{|}]|<[A-Za-z_]+>|[^{|}<]+|<")


def expand(template: str, slots: Mapping[str, str], rng: random.Random) -> str:
    """One wording of a template.

    Args:
        template: text with ``{a|b}`` alternatives (equally likely, may be empty, may nest) and ``<slot>`` names.
        slots: what the names stand for.
        rng: decides between alternatives.

    Raises:
        InputError: braces that do not match, or a slot without a value.

    Example:
        >>> expand("{Cup|Cupping} <size>", {"size": "0.7"}, random.Random(3))
        'Cup 0.7'
    """
    return "".join(_pick(_parse(template), slots, rng))


def _pick(sequence: tuple, slots: Mapping[str, str], rng: random.Random) -> list[str]:
    words: list[str] = []
    for piece in sequence:
        if isinstance(piece, str):
            words.append(piece)
        elif isinstance(piece, tuple):
            if piece[0] not in slots:
                raise InputError(f"template: slot <{piece[0]}> has no value; known are {', '.join(sorted(slots))}")
            words.append(slots[piece[0]])
        else:
            words += _pick(piece[int(rng.random() * len(piece))], slots, rng)
    return words


@cache
def _parse(template: str) -> tuple:
    tokens = _TOKEN.findall(template)
    sequence, end = _sequence(tokens, 0, template)
    if end != len(tokens):
        raise InputError(f"template: {template!r} has an unmatched {tokens[end]!r} outside braces; balance the braces")
    return sequence


def _sequence(tokens: list[str], at: int, template: str) -> tuple[tuple, int]:
    pieces: list = []
    while at < len(tokens) and tokens[at] not in "|}":
        token = tokens[at]
        if token == "{":
            alternatives, at = _alternatives(tokens, at + 1, template)
            pieces.append(alternatives)
            continue
        pieces.append((token[1:-1],) if token[0] == "<" and len(token) > 1 else token)
        at += 1
    return tuple(pieces), at


def _alternatives(tokens: list[str], at: int, template: str) -> tuple[list, int]:
    found = []
    while True:
        sequence, at = _sequence(tokens, at, template)
        found.append(sequence)
        if at >= len(tokens):
            raise InputError(f"template: {template!r} has an opening brace without its closing one; balance the braces")
        at += 1
        if tokens[at - 1] == "}":
            return found, at
