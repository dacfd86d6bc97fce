"""What the Bad pairs page says: cards, colours, tables and sentences; what they are made of is in the core's analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairvlm_core.analysis.mined_pairs import PAIR_KINDS, MinedPairs, RunPairs, sample_rows
from fairvlm_core.analysis.planted_truth import TruthScore
from fairvlm_core.errors import InputError
from fairvlm_core.mining import MiningAudit
from fairvlm_core.words import KIND_TITLES, NOTHING, SPLITS, count, many, number, p_equals, percent

from .entries import Headline

NOT_REVIEWED = "Not reviewed"
LOWEST_SD, HIGHEST_SD, STEP_SD = 0.5, 5.0, 0.1
DRAWN = 5_000  # points on the map
LISTED = 60  # pairs of the list at once
EXCERPT = 110  # characters of a note in the list
# What the list shows, by the kinds that it is narrowed to.
KIND_CHOICES = {"faulty": "Wrong notes", "noisy": "Shared markers", "flagged": "All flagged", "all": "All"}
# How many to flag: factors of the run's own limits.
STRICTNESS = {"Far fewer": 1.5, "Fewer": 1.2, "As the run": 1.0, "More": 0.8, "Far more": 0.6}
# Settings that the page changes; the names are those of `MiningConfig`.
SETTINGS = ("faulty_sd", "noisy_sd", "history", "spread", "rule", "channel")
HISTORIES = {"mean": "Mean", "recency": "Recent more", "last": "Last"}
SPREADS = {"sd": "Standard", "mad": "Robust"}
CHANNELS = {"loss": "Loss", "margin": "Margin", "group_loss": "Loss within groups", "similarity": "Similarity"}
MINED_CHANNELS = ("loss", "margin", "group_loss")  # higher is worse; a similarity is the other way round


def slider_range(own: float) -> tuple[float, float]:
    """0.5 to 5, wider where the run's own setting lies outside.

    >>> slider_range(3.0), slider_range(7.5)
    ((0.5, 5.0), (0.5, 7.5))
    """
    return min(LOWEST_SD, own), max(HIGHEST_SD, own)


def cards(now: MinedPairs, own: MinedPairs) -> list[Headline]:
    """Wrong notes, shared markers, share flagged and weight removed, each beside what the run's own settings give."""

    def card(title: str, of: int, values: Sequence[str], help: str = "") -> Headline:
        whole = f"of {of:,}; " if of else ""
        return Headline(title, values[0], f"{whole}run's settings: {values[1]}", help)

    results = [now.result, own.result]
    n = len(now.result)
    flagged = [percent(m.flagged.sum() / n, 1) for m in (now, own)]
    removed = [percent(float(np.nansum(1.0 - m.weight)) / n, 1) for m in (now, own)]
    kinds = {kind: [count(r.n_flagged[kind]) for r in results] for kind in ("faulty", "noisy")}
    return [
        card(KIND_TITLES["faulty"], 0, kinds["faulty"], "Image and note disagree."),
        card(
            KIND_TITLES["noisy"], 0, kinds["noisy"],
            "Far more alike than a normal pair: image and note may share something that is not the clinical content.",
        ),
        card("Flagged", n, flagged),
        card("Weight removed", 0, removed, "1 minus the mean weight over all training pairs."),
    ]  # fmt: skip


def audit_words(audit: MiningAudit, attribute: str) -> tuple[bool, str]:
    """Whether one group of an attribute is flagged more often than chance explains, and that in words."""
    found = next(a for a in audit.attributes if a.attribute == attribute)
    if found.worse is not None:
        return True, found.warning(audit.n_tested)
    if audit.n_flagged == 0:
        return False, "Nothing is flagged, so no group loses data."
    if found.p_value is None:
        return False, f"{attribute} has one group among these pairs, or every pair is flagged: nothing to compare."
    return False, (
        f"No group of {attribute} is flagged more often than chance explains ({p_equals(found.p_adjusted)}, "
        f"{found.test}, Holm over {many(audit.n_tested, 'attribute')})."
    )


def audit_table(audit: MiningAudit, attribute: str) -> pd.DataFrame:
    """Group, Pairs, Flagged, Share, 95 % interval, Weight removed: what is lost of each group."""
    frame = audit.to_frame()
    frame = frame[frame["attribute"] == attribute]
    return pd.DataFrame(
        {
            "Group": frame["group"],
            "Pairs": frame["n"],
            "Flagged": frame["n_flagged"],
            "Share": [percent(rate, 1) for rate in frame["rate"]],
            f"{audit.confidence:.0%} interval".replace("%", " %"): [
                f"{percent(low, 1)} to {percent(high, 1)}" if np.isfinite(low) else NOTHING
                for low, high in zip(frame["rate_low"], frame["rate_high"], strict=True)
            ],
            "Weight removed": [percent(removed, 1) for removed in frame["removed_weight"]],
        }
    )


# The map ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Rows that are drawn, and a sentence where these are not all."""

    rows: np.ndarray
    words: str


def drawn(
    candidates: np.ndarray, strata: np.ndarray, flagged: np.ndarray, wanted: np.ndarray, chance: np.ndarray,
    limit: int = DRAWN,
) -> Drawn:  # fmt: skip
    """As `sample_rows`, with a sentence.

    >>> yes, no = np.ones(10, bool), np.zeros(10, bool)
    >>> drawn(yes, np.arange(10) // 5, np.arange(10) == 3, no, np.linspace(0, 0.9, 10), limit=5).words
    '5 of 10 pairs are drawn, all 1 flagged among them.'
    """
    rows = sample_rows(candidates, strata, flagged, wanted, chance, limit)
    n, n_flagged, n_drawn = int(candidates.sum()), int((candidates & flagged).sum()), int(flagged[rows].sum())
    if len(rows) == n:
        return Drawn(rows, "")
    among = f"all {n_flagged:,}" if n_drawn == n_flagged else f"{n_drawn:,} of {n_flagged:,}"
    return Drawn(rows, f"{limit:,} of {n:,} pairs are drawn, {among} flagged among them.")


def colour_choices(attributes: Sequence[str], verdicts: bool = False) -> dict[str, str]:
    """What the map can be coloured by, name to title.

    >>> list(colour_choices(["race"]).values())
    ['Kind', 'Mean loss', 'race', 'Label', 'Split']
    """
    named = {f"group:{name}": name for name in attributes}
    review = {"verdict": "Verdict"} if verdicts else {}
    return {"kind": "Kind", "loss": "Mean loss", **named, "label": "Label", "split": "Split", **review}


@dataclass(frozen=True, eq=False)
class Colouring:
    """`values`: a word for every pair, or None for the mean loss; `order`: the words; `candidates`: pairs that have one."""

    values: np.ndarray | None
    order: tuple[str, ...]
    candidates: np.ndarray


def colouring(pairs: RunPairs, now: MinedPairs, by: str, verdicts: np.ndarray | None = None) -> Colouring:
    """What each pair is coloured by; validation and test pairs are drawn where split or verdict is asked for."""
    everyone = np.ones(len(pairs), bool)
    if by == "loss":
        return Colouring(None, (), now.mined & np.isfinite(now.mean_loss))
    if by == "kind":
        titles = np.array([KIND_TITLES[kind] for kind in PAIR_KINDS])
        return Colouring(titles[now.kind], tuple(titles[:3]), now.mined)
    if by == "label":
        return Colouring(np.char.add("label ", pairs.labels.astype(str)), ("label 0", "label 1"), now.mined)
    if by == "split":
        words = np.array(list(SPLITS.values()))
        codes = np.select([pairs.splits == "train", pairs.splits == "val"], [0, 1], 2)
        return Colouring(words[codes], tuple(words), everyone)
    if by == "verdict":
        if verdicts is None:
            raise InputError("colour: no pair of this data set has a verdict; choose another")
        given = [str(word) for word in np.unique(verdicts) if word != NOT_REVIEWED]
        return Colouring(verdicts, (NOT_REVIEWED, *given), everyone)
    name = by.removeprefix("group:")
    if name not in pairs.groups:
        raise InputError(f"colour: {by!r} is not known; choose another")
    return Colouring(pairs.groups[name], tuple(np.unique(pairs.groups[name])), now.mined)


# Tables -----------------------------------------------------------------------------------------------------------------


def kinds_of(choice: str) -> tuple[str, ...]:
    """The kinds that a choice of `KIND_CHOICES` lists; empty: all.

    >>> kinds_of("flagged"), kinds_of("all")
    (('faulty', 'noisy'), ())
    """
    return {"flagged": ("faulty", "noisy"), "all": ()}.get(choice, (choice,))


def first_choice(now: MinedPairs) -> str:
    """Wrong notes where there are any, else shared markers, else all pairs."""
    return next((kind for kind in ("faulty", "noisy") if now.result.n_flagged[kind]), "all")


def counted(rows: np.ndarray, pairs: RunPairs, now: MinedPairs, narrowed: str = "") -> str:
    """How many pairs the filters let through, by kind; `rows` are of all kinds, `narrowed` says by what.

    >>> from fairvlm_core.analysis.mined_pairs import mine_pairs
    >>> from fairvlm_core.config import MiningConfig
    >>> from fairvlm_core.ledger import PairLossLedger
    >>> ledger = PairLossLedger.from_values([[1.0] * 19 + [9.0]], [f"p{i}" for i in range(20)])
    >>> frame = pd.DataFrame({"pair_id": ledger.pair_ids, "patient_id": "q", "split": "train", "label": 0})
    >>> pairs = RunPairs.of(ledger, frame, [])
    >>> now = mine_pairs(pairs, MiningConfig())
    >>> counted(np.arange(20), pairs, now)
    'Wrong notes 1 · Shared markers 0 · 20 training pairs'
    """
    kinds = now.kind[rows]
    of = many(len(rows), "training pair") if not narrowed else f"{len(rows):,} of {len(pairs.place):,} pairs{narrowed}"
    return f"Wrong notes {int((kinds == 1).sum()):,} · Shared markers {int((kinds == 2).sum()):,} · {of}"


def truth_table(scores: Sequence[TruthScore]) -> pd.DataFrame:
    """A column a planted kind, in words: planted, flagged, both, precision, recall, average precision, chance."""
    names = ["Planted", "Flagged", "Both", "Precision", "Recall", "Average precision", "Chance"]
    columns = {"": names}
    for s in scores:
        columns[f"{s.ranking.planted.capitalize()}"] = [
            *(count(value) for value in (s.n, s.n_flagged, s.n_hit)),
            *(number(value) for value in (s.precision, s.recall, s.ranking.average_precision, s.ranking.chance)),
        ]
    return pd.DataFrame(columns)
