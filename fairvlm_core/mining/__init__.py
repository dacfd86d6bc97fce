"""Bad-pair mining: which pairs are bad, how much weight they keep, and which groups of patients that affects.

`mine_bad_pairs` reads a ledger and flags pairs; `pair_weights` gives their weights inside a training step. `ranking_rule`
and `weighting_rule` register rules of your own beside the built-in ones. `margin` is a value to mine that is independent of
the batch; `word_features`, `disagreement` and `mismatch_probability` find wrong notes by comparison with the other pairs;
`outlyingness` finds pairs that share a marker. `audit_mining` asks whether one group of patients loses more of its data.
`lemon_scores` ranks pairs by another method, for comparison.
"""

from __future__ import annotations

from .agreement import (
    Disagreement,
    Mismatch,
    disagreement,
    mismatch_probability,
    outlyingness,
    shared_marker_probability,
    word_features,
)
from .audit import AttributeAudit, GroupAudit, MiningAudit, audit_mining
from .bad_pairs import KINDS, MiningResult, check_settings, fits, mine_bad_pairs, pair_weights
from .explain import explain_pair
from .margins import margin, within_groups
from .mixture import BadTail, fit_bad_tail
from .notices import Notice, Reason
from .rules import (
    RANKING_RULES,
    WEIGHTING_RULES,
    Evidence,
    Flags,
    Judgement,
    RankingRule,
    WeightingRule,
    location_and_spread,
    ranking_rule,
    weighting_rule,
)
from .similarity import lemon_scores

RANKING_RULES.close_built_in()
WEIGHTING_RULES.close_built_in()

__all__ = [
    "KINDS",
    "RANKING_RULES",
    "WEIGHTING_RULES",
    "AttributeAudit",
    "BadTail",
    "Disagreement",
    "Evidence",
    "Flags",
    "GroupAudit",
    "Judgement",
    "MiningAudit",
    "MiningResult",
    "Mismatch",
    "Notice",
    "RankingRule",
    "Reason",
    "WeightingRule",
    "audit_mining",
    "check_settings",
    "disagreement",
    "explain_pair",
    "fit_bad_tail",
    "fits",
    "lemon_scores",
    "location_and_spread",
    "margin",
    "mine_bad_pairs",
    "mismatch_probability",
    "outlyingness",
    "pair_weights",
    "ranking_rule",
    "shared_marker_probability",
    "weighting_rule",
    "within_groups",
    "word_features",
]
