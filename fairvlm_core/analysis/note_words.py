"""Words of a note that are rare in the notes of similar images: what does not fit the image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

LIKE = 60  # similar images whose notes are compared
_LEVEL = 0.005  # a word in a note of the right image is rarer than this by chance
_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")


@dataclass(frozen=True)
class RareWord:
    """A word of a note; `n` of the `of` notes of similar images have it, and `p` is the probability of so few by chance."""

    word: str
    n: int
    of: int
    p: float


class NoteWords:
    """The words of all notes, counted once.

    Parameters
    ----------
    notes : sequence of str, length N
    """

    def __init__(self, notes: Sequence[str]):
        self._sets = [frozenset(words(note)) for note in notes]
        self._count = Counter(word for found in self._sets for word in found)

    def rare(self, note: str, like: np.ndarray) -> list[RareWord]:
        """Words of `note` that are rarer among the notes `like` (rows) than among all; the most surprising first.

        The probability is hypergeometric: as few or fewer of ``len(like)`` notes drawn at random would have the word.

        >>> found = NoteWords(["severe glaucoma"] * 50 + ["healthy disc"] * 50).rare("Healthy disc.", np.arange(30))
        >>> [(one.word, one.n, one.of) for one in found]
        [('disc', 0, 30), ('healthy', 0, 30)]
        """
        near = Counter(word for row in like for word in self._sets[row])
        found = []
        for word in sorted(set(words(note))):
            p = float(hypergeom.cdf(near[word], len(self._sets), self._count[word], len(like)))
            if p < _LEVEL and near[word] * len(self._sets) < self._count[word] * len(like):
                found.append(RareWord(word, near[word], len(like), p))
        return sorted(found, key=lambda one: one.p)


def words(note: str) -> list[str]:
    """The words of a note in lower case, without numbers.

    >>> words("IOP 21 mmHg, non-glaucomatous.")
    ['iop', 'mmhg', 'non-glaucomatous']
    """
    return _WORD.findall(note.lower())


def marked(note: str, chosen: Sequence[str]) -> list[tuple[str, bool]]:
    """A note in pieces, each with whether it is one of the chosen words (any case).

    >>> marked("No glaucoma.", ["glaucoma"])
    [('No ', False), ('glaucoma', True), ('.', False)]
    """
    wanted, pieces, at = set(chosen), [], 0
    for found in _WORD.finditer(note):
        if found.group().lower() in wanted:
            pieces += [(note[at : found.start()], False), (found.group(), True)]
            at = found.end()
    pieces.append((note[at:], False))
    return [piece for piece in pieces if piece[0]]
