"""How well mining finds bad pairs that were planted on purpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from ..mining import RANKING_RULES
from .mined_pairs import PAIR_KINDS, MinedPairs

_CURVE = 400  # points of a curve
# The planted kind, the flag that it should get, and whether high (1) or low (-1) values are suspicious.
PLANTED_KINDS = (("mismatch", "faulty", 1.0), ("shortcut", "noisy", -1.0))


@dataclass(frozen=True, eq=False)
class TruthCurve:
    """How well a ranking finds one planted kind, whatever the limit.

    Attributes
    ----------
    planted, flag : str
        The planted kind and the flag that it should get.
    average_precision, chance : float
        0 to 1; chance is the share of this kind, the precision of flagging at random.
    curve : float ndarray of shape (K, 2)
        Recall and precision at every limit.
    """

    planted: str
    flag: str
    average_precision: float
    chance: float
    curve: np.ndarray


@dataclass(frozen=True, eq=False)
class TruthScore:
    """How well the current limits find one planted kind.

    Attributes
    ----------
    ranking : TruthCurve
    n, n_flagged, n_hit : int
        Planted, flagged so, and both.
    """

    ranking: TruthCurve
    n: int
    n_flagged: int
    n_hit: int

    @property
    def precision(self) -> float:
        """0 to 1; NaN where nothing is flagged."""
        return self.n_hit / self.n_flagged if self.n_flagged else math.nan

    @property
    def recall(self) -> float:
        return self.n_hit / self.n


def truth_curves(now: MinedPairs, planted: np.ndarray) -> list[TruthCurve]:
    """Precision against recall for every planted kind; `planted` is "" where nothing is known.

    Wrong notes (mismatch) are ranked by falling, shared markers (shortcut) by rising mean loss; by z where the rule has
    its own ranking.
    """
    known = _known(now, planted)
    truth = planted[known]
    score = (now.mean_loss if RANKING_RULES[now.result.rule].ranks_loss else now.z)[known]
    curves = []
    for name, flag, sign in PLANTED_KINDS:
        is_so = truth == name
        if not is_so.any():
            continue
        precision, recall, _ = precision_recall_curve(is_so, sign * score)
        keep = np.unique(np.linspace(0, len(recall) - 1, min(_CURVE, len(recall))).astype(int))
        average = float(average_precision_score(is_so, sign * score))
        points = np.stack([recall[keep], precision[keep]], axis=1)
        curves.append(TruthCurve(name, flag, average, float(is_so.mean()), points))
    return curves


def truth_scores(now: MinedPairs, planted: np.ndarray, curves: Sequence[TruthCurve]) -> list[TruthScore]:
    """What the current limits find of every planted kind."""
    known = _known(now, planted)
    scores = []
    for one in curves:
        is_so, flagged = known & (planted == one.planted), known & (now.kind == PAIR_KINDS.index(one.flag))
        scores.append(TruthScore(one, int(is_so.sum()), int(flagged.sum()), int((is_so & flagged).sum())))
    return scores


def _known(now: MinedPairs, planted: np.ndarray) -> np.ndarray:
    return now.mined & (planted != "") & np.isfinite(now.mean_loss)
