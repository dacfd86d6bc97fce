"""Bad-pair mining: which pairs hold each other back, how much weight they keep, and for whom that matters.

`mine_bad_pairs` reads a ledger and flags pairs, `pair_weights` turns the result into weights inside a training step,
`margin` gives a quantity to mine that does not depend on the batch, `word_features`, `disagreement` and
`mismatch_probability` tell wrong notes by what the other pairs show, `outlyingness` tells pairs that share what no other
pair has, `audit_mining` asks whether one group of patients loses more of its data than others.
"""

from __future__ import annotations

from .agreement import Disagreement, Mismatch, disagreement, mismatch_probability, outlyingness, word_features
from .audit import AttributeAudit, GroupAudit, MiningAudit, audit_mining
from .bad_pairs import MiningResult, mine_bad_pairs, pair_weights
from .margins import margin
from .mixture import BadTail, fit_bad_tail

__all__ = [
    "AttributeAudit",
    "BadTail",
    "Disagreement",
    "GroupAudit",
    "MiningAudit",
    "MiningResult",
    "Mismatch",
    "audit_mining",
    "disagreement",
    "fit_bad_tail",
    "margin",
    "mine_bad_pairs",
    "mismatch_probability",
    "outlyingness",
    "pair_weights",
    "word_features",
]
