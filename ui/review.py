"""What the Review page says and decides, without drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.similarity_map import SimilarityMap
from fairvlm_core.review import REASONS, VERDICTS, Agreement, Estimate, Event, Progress, QueueItem, Verdict

from .words import figure, listed, many, percent, span


@dataclass(frozen=True)
class Choice:
    """A verdict as a button: its name in the store, what it says, its key, and when to use it."""

    verdict: str
    label: str
    key: str
    help: str


CHOICES = (
    Choice("fits", "Pair fits", "1", "The note describes this image."),
    Choice("wrong_note", "Wrong note", "2", "The note belongs to another image."),
    Choice("wrong_label", "Wrong label", "3", "Image and note agree; the label does not."),
    Choice("uninformative", "Uninformative", "4", "The note says nothing about this image."),
    Choice("unusable_image", "Unusable image", "5", "Nothing can be judged on this image."),
    Choice("unsure", "Unsure", "6", "You cannot tell, even after a second look."),
)
CHOICE_OF = {choice.verdict: choice for choice in CHOICES}
NO_REASON = ""
KEYS = (
    "**1 – 6** verdict · **U** undo · **S** skip · **M** map · in the image, once it is clicked: **+ −** zoom, "
    "**arrows** pan, **0** reset · **Tab** goes through everything else"
)


def verdict_name(verdict: str | None) -> str:
    """
    >>> verdict_name("wrong_note"), verdict_name(None)
    ('Wrong note', 'No decision yet')
    """
    return CHOICE_OF[verdict].label if verdict in CHOICE_OF else "No decision yet"


def reason_options() -> dict[str, str]:
    """Reasons by what is stored, each with the verdict it goes with.

    >>> reason_options()["other patient"]
    'Wrong note: other patient'
    """
    options = {NO_REASON: "No reason given"}
    for verdict, reasons in REASONS.items():
        options |= {reason: f"{CHOICE_OF[verdict].label}: {reason}" for reason in reasons}
    return options


def made_verdict(
    verdict: str, *, label: int, reason: str, comment: str, better: str | None, seconds: float | None
) -> Verdict:
    """The verdict that a press of its button stands for; a better note and a corrected label only where they belong.

    >>> made_verdict("wrong_label", label=0, reason="", comment=" ", better="p7", seconds=2.0)
    Verdict(verdict='wrong_label', reason='', comment='', better_pair_id=None, corrected_label=1, seconds=2.0)
    """
    return Verdict(
        verdict,
        reason=reason,
        comment=comment.strip(),
        better_pair_id=better if verdict == "wrong_note" else None,
        corrected_label=1 - label if verdict == "wrong_label" else None,
        seconds=seconds,
    )


def said(event: Event, label_names: Sequence[str]) -> list[str]:
    """A verdict event in words, one line a fact.

    The lines may hold a reader's own text: to be shown literally.
    """
    verdict = event.verdict
    lines = [verdict_name(verdict.verdict)]
    if verdict.corrected_label is not None:
        lines.append(f"label should be {label_names[verdict.corrected_label]}")
    if verdict.better_pair_id is not None:
        lines.append(f"better note: that of {verdict.better_pair_id}")
    if verdict.reason:
        lines.append(f"reason: {verdict.reason}")
    if verdict.comment:
        lines.append(f"comment: {verdict.comment}")
    return lines


def why(item: QueueItem) -> str:
    """Why a pair is in the queue, in words; for readers of a queue that is not blind.

    >>> why(QueueItem(0, "p", False, "faulty", 1, {"mean_loss": 4.2, "z": 3.14, "weight": 0.2}))
    'Flagged as faulty: image and note fit worse than usual. Mean loss 4.20, 3.1 standard deviations above average.'
    >>> why(QueueItem(0, "p", False, "clean", 1, {"mean_loss": 4.2, "z": 1.0, "weight": 0.6, "posterior": 0.4}))[-53:]
    'by the miner the note is wrong with a chance of 40 %.'
    """
    heads = {
        "faulty": "Flagged as faulty: image and note fit worse than usual.",
        "noisy": "Flagged as noisy: image and note fit better than content alone explains; both may share a mark.",
        "clean": "Not flagged: image and note fit about as usual.",
    }
    loss, z = item.facts.get("mean_loss"), item.facts.get("z")
    if loss is None or z is None:
        return f"{heads[item.stratum]} It was never seen in training, so there is no loss."
    chance = item.facts.get("posterior")
    if chance is not None:  # z then ranks, and is not that of the loss
        says = f"by the miner the note is wrong with a chance of {percent(chance)}"
        return f"{heads[item.stratum]} Mean loss {figure(loss, 2)}; {says}."
    side = "above" if z >= 0 else "below"
    return f"{heads[item.stratum]} Mean loss {figure(loss, 2)}, {figure(abs(z), 1)} standard deviations {side} average."


@dataclass(frozen=True)
class Standing:
    """How far a reader and the queue are: `share` in 0 to 1 for a bar, `line` for people."""

    share: float
    line: str


def standing(progress: Progress, reviewer: str) -> Standing:
    """
    >>> standing(Progress(10, 3, 4, 12, 2, 1, {"Ada": 3, "Bo": 1}), "ada").line
    "4 of 12 readings · 3 by you · 2 pairs in readers' hands · 1 conflict to decide"
    """
    mine = sum(n for name, n in progress.reviewers.items() if name.casefold() == reviewer.casefold())
    parts = [f"{progress.n_readings:,} of {many(progress.n_wanted, 'reading')}", f"{mine:,} by you"]
    if progress.n_leased:
        parts.append(f"{many(progress.n_leased, 'pair')} in readers' hands")
    if progress.n_conflicts:
        parts.append(f"{many(progress.n_conflicts, 'conflict')} to decide")
    return Standing(min(1.0, progress.n_readings / max(1, progress.n_wanted)), " · ".join(parts))


def nothing_left(progress: Progress) -> str:
    """What a reader is told who has no pair to read.

    >>> nothing_left(Progress(10, 10, 12, 12, 0, 0, {}))
    'Every pair of this queue has the readings it was to have. Thank you.'
    """
    if progress.n_readings >= progress.n_wanted:
        return "Every pair of this queue has the readings it was to have. Thank you."
    if progress.n_leased:
        return (
            f"Nothing is left for you right now: {many(progress.n_leased, 'pair')} held by other readers. "
            "Pairs that they do not finish come back here; reload the page in a while."
        )
    return "You have read all you can here: what is left waits for a second reader, who must be somebody else."


def top_words(found: SimilarityMap, n: int) -> list[tuple[str, float]]:
    """The words that drive the similarity, strongest first, each with its effect as a share of the strongest, signed.

    >>> from fairvlm_core.analysis.similarity_map import WordScore
    >>> found = SimilarityMap(0.3, np.zeros((1, 1)), (WordScore("thin", 0.04), WordScore("rim.", -0.08)))
    >>> top_words(found, 2)
    [('rim', -1.0), ('thin', 0.5)]
    """
    words = found.top_words(n)
    return [(word.word.strip(".,;:()") or word.word, word.score / abs(words[0].score)) for word in words]


def fitting_notes(images: np.ndarray, notes: np.ndarray, row: int, k: int = 8) -> list[int]:
    """Rows of the k notes that fit the image of `row` best, its own left out: candidates for the right note.

    Features are unit norm, (N, D) each. The list is as long for a good pair as for a bad one, so that it tells nothing
    about the miner's opinion.

    >>> fitting_notes(np.eye(3), np.eye(3)[[1, 0, 2]], 0, k=1)
    [1]
    """
    similarity = notes @ images[row]
    similarity[row] = -np.inf
    return np.argsort(-similarity, kind="stable")[: min(k, len(similarity) - 1)].tolist()


def estimate_line(estimate: Estimate) -> str:
    """What stands below an estimated share: its interval and n, or why there is none.

    >>> estimate_line(Estimate(None, None, 0, "no control pair is judged yet"))
    'no control pair is judged yet'
    """
    if estimate.value is None:
        return estimate.message
    if estimate.interval is None:
        return f"n = {estimate.n:,}"
    return f"95 %: {percent(estimate.interval.low)} to {percent(estimate.interval.high)}, n = {estimate.n:,}"


def agreement_frame(overall: Agreement, by_readers: Sequence[Agreement]) -> pd.DataFrame:
    """Agreement for people, the whole queue first; with a column Note only where there is one."""
    rows = []
    for name, one in (
        ("All readers (Fleiss)", overall),
        *((f"{listed(list(a.readers))} (Cohen)", a) for a in by_readers),
    ):
        rows.append(
            {
                "Readers": name,
                "Pairs read twice": one.n_pairs,
                "Same verdict": percent(one.observed),
                "95 % interval": _shares(*(getattr(one.observed_interval, end, None) for end in ("low", "high"))),
                "Kappa": figure(one.kappa, 2),
                "95 % interval of kappa": _interval(one.kappa_interval),
                "Kappa, bad or not": figure(one.kappa_bad, 2),
                "Note": one.message,
            }
        )
    frame = pd.DataFrame(rows)
    return frame if frame["Note"].any() else frame.drop(columns="Note")


def _interval(interval: Any) -> str:
    return span(None, None) if interval is None else span(interval.low, interval.high, 2)


def _shares(low: float | None, high: float | None) -> str:
    return span(None, None) if low is None or high is None else f"{percent(low)} to {percent(high)}"


def precision_frame(table: pd.DataFrame) -> pd.DataFrame:
    """`review.precision_table` for people."""
    return pd.DataFrame(
        {
            "By": table["by"],
            "Group": table["group"],
            "Judged": table["n"],
            "Bad": table["n_bad"],
            "Could not be told": table["n_unsure"],
            "Precision": [percent(_number(value)) for value in table["precision"]],
            "95 % interval": [
                _shares(_number(a), _number(b)) for a, b in zip(table["low"], table["high"], strict=True)
            ],
        }
    )


def counts_frame(table: pd.DataFrame) -> pd.DataFrame:
    """`review.verdict_counts` with the verdicts' names."""
    names = {verdict: CHOICE_OF[verdict].label for verdict in VERDICTS}
    return table.rename(columns={**names, "group": "Group", "conflict": "In conflict", "n": "Pairs"})


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def queue_label(queue: Any) -> str:
    """
    >>> class Q: queue_id, name, n_items, blind = "q001", "Week 12", 80, True
    >>> queue_label(Q)
    'q001 · Week 12 · 80 pairs · blind'
    """
    return f"{queue.queue_id} · {queue.name} · {many(queue.n_items, 'pair')}" + (" · blind" if queue.blind else "")


def selection_of(state: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Run and pair ids that another page selected for review (``{"run": …, "pair_ids": […]}``); None without one."""
    chosen = state.get("review.selection")
    if not isinstance(chosen, Mapping) or not chosen.get("pair_ids"):
        return None
    return str(chosen["run"]), tuple(dict.fromkeys(str(pair_id) for pair_id in chosen["pair_ids"]))
