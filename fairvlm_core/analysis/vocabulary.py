"""Whether a model knows the words of the notes, and whether the notes contain the words of the prompts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from ..intake.report import IntakeReport
from ..intake.text import count_truncated
from ..intake.warning import IntakeWarning, WarningKind
from ..models import BUILT_IN, Clip
from ..pairs import PairTable

_LETTERS_PER_TOKEN = 2.5  # a word in shorter pieces is spelled out rather than known
_ENOUGH = 0.7  # share of the words that a model should know
_SHOWN = 5
_COMMON = frozenset(
    "and are for from has image its not photo picture showing shows that the this with without".split()  # noqa: SIM905
)


def words_of(texts: Iterable[str]) -> Counter[str]:
    """Words of at least three letters, lower case, with how often they occur.

    >>> words_of(["A large cup, a rim"]).most_common()
    [('large', 1), ('cup', 1), ('rim', 1)]
    """
    return Counter(word for text in texts for word in re.findall(r"[^\W\d_]{3,}", text.lower()))


def known_words(clip: Clip, words: Iterable[str]) -> dict[str, bool]:
    """Whether the model's tokenizer has each word in one piece, or in pieces of 2.5 letters or more on average."""
    names = list(words)
    start_and_end = int(clip.token_lengths([""])[0]) if names else 0
    lengths = clip.token_lengths(names) - start_and_end
    return {word: bool(n <= max(1, len(word) / _LETTERS_PER_TOKEN)) for word, n in zip(names, lengths, strict=True)}


def report_for_model(table: PairTable, clip: Clip) -> IntakeReport:
    """The table's intake report with what the model makes of the notes: notes that are cut, words it does not know."""
    texts = np.asarray(table.frame["text"], str)
    report = table.report.with_truncation(count_truncated(list(texts), clip.token_lengths, clip.context_length))
    return report.with_warnings(vocabulary_warnings(table, clip))


def vocabulary_warnings(table: PairTable, clip: Clip) -> list[IntakeWarning]:
    """Warnings where the model knows less than 70 % of the notes' words, or no training note has a prompt's word."""
    found = []
    words = words_of(np.asarray(table.frame["text"], str))
    known = known_words(clip, words)
    share = sum(n for word, n in words.items() if known[word]) / max(1, sum(words.values()))
    if share < _ENOUGH:
        unknown = ", ".join([word for word, _ in words.most_common() if not known[word]][:_SHOWN])
        built_in = clip.name in BUILT_IN and clip.name != "base"
        fix = "choose another model, such as base" if built_in else "choose a model that was trained on such notes"
        values: dict[str, int | str] = {"model": clip.name, "share": round(100 * share), "words": unknown, "fix": fix}
        found.append(IntakeWarning(WarningKind.UNKNOWN_WORDS, values=values))
    train = np.asarray(table.frame["split"], str) == "train"
    in_notes = words_of(np.asarray(table.frame["text"], str)[train])
    missing = [
        w
        for w in words_of(p for one in table.info.class_prompts for p in one)
        if w not in in_notes and w not in _COMMON
    ]
    if missing:
        found.append(IntakeWarning(WarningKind.PROMPT_WORDS, values={"words": ", ".join(missing)}))
    return found
