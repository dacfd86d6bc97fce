"""Words of a note that are rare in the notes of similar images: what does not fit the image."""

from __future__ import annotations

import re
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
        self._place: dict[str, int] = {}
        # Places of words, not the words themselves: a hundred thousand notes take some megabytes.
        self._of_note = [
            np.unique([self._place.setdefault(word, len(self._place)) for word in words(note)]).astype(np.int32)
            for note in notes
        ]
        self._count = self._counted(self._of_note)

    def _counted(self, notes: Sequence[np.ndarray]) -> np.ndarray:
        """In how many of the notes each word is."""
        return np.bincount(np.concatenate([np.zeros(0, np.int32), *notes]), minlength=len(self._place))

    def rare(self, note: str, like: np.ndarray) -> list[RareWord]:
        """Words of `note` that are rarer among the notes `like` (rows) than among all; the most surprising first.

        The probability is hypergeometric: as few or fewer of ``len(like)`` notes drawn at random would have the word.

        >>> found = NoteWords(["severe glaucoma"] * 50 + ["healthy disc"] * 50).rare("Healthy disc.", np.arange(30))
        >>> [(one.word, one.n, one.of) for one in found]
        [('disc', 0, 30), ('healthy', 0, 30)]
        """
        near, n = self._counted([self._of_note[row] for row in like]), len(self._of_note)
        found = []
        for word in sorted(set(words(note)) & set(self._place)):
            place = self._place[word]
            p = float(hypergeom.cdf(near[place], n, self._count[place], len(like)))
            if p < _LEVEL and near[place] * n < self._count[place] * len(like):
                found.append(RareWord(word, int(near[place]), len(like), p))
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
    targets, pieces, at = set(chosen), [], 0
    for found in _WORD.finditer(note):
        if found.group().lower() in targets:
            pieces += [(note[at : found.start()], False), (found.group(), True)]
            at = found.end()
    pieces.append((note[at:], False))
    return [piece for piece in pieces if piece[0]]
