"""Texts and tables of the Review page, made from the values of `fairvlm_core.review`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fairvlm_core.fairness import Interval
from fairvlm_core.review import VERDICTS, Agreement, Estimate, Event, Queue, QueueItem, ReviewProgress, Verdict
from fairvlm_core.words import NOTHING, known, listed, many, number, percent, span

KEYS = {verdict: str(place) for place, verdict in enumerate(VERDICTS, 1)}
ABOUT_KEYS = (
    f"**1 – {len(KEYS)}** verdict · **U** undo · **S** skip · **M** map · in the image, once it is clicked: **+ −** zoom, "
    "**arrows** pan, **0** reset · **Tab** reaches everything else"
)
FLAGS = {"faulty": "wrong note", "noisy": "shared marker", "clean": "not flagged"}
_WHY = {
    "faulty": "Flagged as wrong note: image and note fit worse than usual.",
    "noisy": "Flagged as shared marker: image and note fit better than their content explains.",
    "clean": "Not flagged: image and note fit about as usual.",
}


def verdict_name(verdict: str | None) -> str:
    """
    >>> verdict_name("wrong_note"), verdict_name(None)
    ('Wrong note', 'No decision yet')
    """
    return VERDICTS[verdict].label if verdict in VERDICTS else "No decision yet"


def label_words(names: Sequence[str], prompts: Sequence[object]) -> tuple[str, ...]:
    """What a label says, for a reader: the data's own names or, where these only say positive and negative, the finding.

    >>> label_words(("negative", "positive"), ("A photo of non-glaucoma", "A photo of glaucoma"))
    ('no glaucoma', 'glaucoma')
    >>> label_words(("benign", "malignant"), ("A photo of a mole", "A photo of a melanoma"))
    ('benign', 'malignant')
    """
    if tuple(names) != ("negative", "positive") or not all(isinstance(prompt, str) for prompt in prompts):
        return tuple(names)
    first, second = (str(prompt).split() for prompt in prompts)
    while len(first) > 1 and len(second) > 1 and first[0] == second[0]:
        first, second = first[1:], second[1:]
    without = " ".join(first)
    return (f"no {without[4:]}" if without.startswith("non-") else without, " ".join(second))


def reason_options() -> dict[str, str]:
    """Reasons as stored, to the text that names the verdict each belongs to.

    >>> reason_options()["other patient"]
    'Wrong note: other patient'
    """
    reasons = {reason: f"{kind.label}: {reason}" for kind in VERDICTS.values() for reason in kind.reasons}
    return {"": "No reason given"} | reasons


def made_verdict(
    verdict: str, *, label: int, reason: str, comment: str, better: str | None, seconds: float | None
) -> Verdict:
    """The verdict of a pressed button; a better note and a corrected label only with the verdicts they belong to.

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


def verdict_lines(event: Event, label_names: Sequence[str]) -> list[str]:
    """A verdict event as text, one fact per line. The lines may hold a reader's own text: show them literally."""
    verdict = event.verdict
    lines = [verdict_name(verdict.verdict)]
    if verdict.corrected_label is not None:
        lines.append(f"label should be {label_names[verdict.corrected_label]}")
    if verdict.better_pair_id is not None:
        lines.append(f"better note: that of {verdict.better_pair_id}")
    return lines + [f"{name}: {getattr(verdict, name)}" for name in ("reason", "comment") if getattr(verdict, name)]


def why(item: QueueItem) -> str:
    """Why a pair is in the queue; for readers of a queue that is not blind.

    >>> why(QueueItem(0, "p", False, "faulty", 1, {"mean_loss": 4.2, "z": 3.14, "weight": 0.2}))
    'Flagged as wrong note: image and note fit worse than usual. Mean loss 4.20, 3.1 standard deviations above average.'
    >>> why(QueueItem(0, "p", False, "clean", 1, {"mean_loss": 4.2, "z": 1.0, "weight": 0.6, "posterior": 0.4}))[-50:]
    'Mean loss 4.20. Probability of a wrong note: 40 %.'
    """
    loss, z, posterior = (item.facts.get(name) for name in ("mean_loss", "z", "posterior"))
    if loss is None or z is None:
        return f"{_WHY[item.stratum]} It was never seen in training, so there is no loss."
    if posterior is not None:  # z is then the rank of the pair, not of its loss
        reason = f"Mean loss {number(loss, 2)}. Probability of a wrong note: {percent(posterior)}."
    else:
        side = "above" if z >= 0 else "below"
        reason = f"Mean loss {number(loss, 2)}, {number(abs(z), 1)} standard deviations {side} average."
    return f"{_WHY[item.stratum]} {reason}"


def own_share(progress: ReviewProgress, reviewer: str, left: int) -> float:
    """How much of what a person can read in a queue is read, 0 to 1.

    >>> own_share(ReviewProgress(10, 3, 4, 12, 2, 1, {"Ada": 3, "Bo": 1}), "Ada", 9), own_share(
    ...     ReviewProgress(0, 0, 0, 0, 0, 0, {}), "Ada", 0)
    (0.25, 1.0)
    """
    mine = progress.read_by(reviewer)
    return mine / (mine + left) if mine + left else 1.0


def progress_line(progress: ReviewProgress, reviewer: str, left: int) -> str:
    """
    >>> progress_line(ReviewProgress(10, 3, 4, 12, 2, 1, {"Ada": 3, "Bo": 1}), "ada", 7)
    '3 of 10 pairs read by you · all readers: 4 of 12 readings · 2 being read now · 1 conflict to decide'
    """
    mine = progress.read_by(reviewer)
    parts = [
        f"{mine:,} of {many(mine + left, 'pair')} read by you",
        f"all readers: {progress.n_readings:,} of {many(progress.n_wanted, 'reading')}",
    ]
    parts += [f"{progress.n_leased:,} being read now"] if progress.n_leased else []
    parts += [f"{many(progress.n_conflicts, 'conflict')} to decide"] if progress.n_conflicts else []
    return " · ".join(parts)


def nothing_left(progress: ReviewProgress) -> tuple[str, str]:
    """Title and text for a reader who has no pair to read.

    >>> nothing_left(ReviewProgress(10, 10, 12, 12, 0, 0, {}))
    ('All done', 'Every pair of this queue has all its readings. Thank you.')
    """
    if progress.n_readings >= progress.n_wanted:
        return "All done", "Every pair of this queue has all its readings. Thank you."
    if progress.n_leased:
        return (
            "Nothing for you right now",
            f"{many(progress.n_leased, 'pair')} being read by others. What they do not finish comes back here; reload the "
            "page later.",
        )
    return "All done", "You have read every pair you can read here. The rest need a second reader."


def estimate_line(estimate: Estimate) -> str:
    """The line below an estimated share: its interval and n, or why there is none.

    >>> from fairvlm_core.review import Missing
    >>> estimate_line(Estimate(missing=Missing.NONE_BAD))
    'no bad pair was found'
    """
    if estimate.value is None:
        return estimate.message
    interval = "" if estimate.interval is None else f"95 %: {_shares(estimate.interval)}, "
    return f"{interval}n = {estimate.n:,}"


def agreement_frame(overall: Agreement, by_readers: Sequence[Agreement]) -> pd.DataFrame:
    """Agreement as a table, the whole queue first; with a column Note only where there is one."""
    names = ["All readers (Fleiss)", *(f"{listed(list(one.readers))} (Cohen)" for one in by_readers)]
    frame = pd.DataFrame(
        {
            "Readers": name,
            "Pairs read twice": one.n_pairs,
            "Same verdict": percent(one.observed),
            "95 % interval": _shares(one.observed_interval),
            "Kappa": number(one.kappa, 2),
            "95 % interval of kappa": span(one.kappa_interval.low, one.kappa_interval.high, 2)
            if one.kappa_interval
            else NOTHING,
            "Kappa, bad or not": number(one.kappa_bad, 2),
            "Note": one.message,
        }
        for name, one in zip(names, (overall, *by_readers), strict=True)
    )
    return frame if frame["Note"].any() else frame.drop(columns="Note")


def precision_frame(table: pd.DataFrame) -> pd.DataFrame:
    """`review.precision_table` with its columns named and its shares in percent."""
    intervals = [
        f"{percent(low)} to {percent(high)}" if known(low) else NOTHING
        for low, high in zip(table["low"], table["high"], strict=True)
    ]
    return pd.DataFrame(
        {
            "By": table["by"],
            "Group": [
                FLAGS[group] if by == "kind" else group for by, group in zip(table["by"], table["group"], strict=True)
            ],
            "Judged": table["n"],
            "Bad": table["n_bad"],
            "Unsure": table["n_unsure"],
            "Precision": table["precision"].map(percent),
            "95 % interval": intervals,
        }
    )


def counts_frame(table: pd.DataFrame) -> pd.DataFrame:
    """`review.verdict_counts` with its columns named."""
    names = {verdict: kind.label for verdict, kind in VERDICTS.items()}
    return table.rename(columns={**names, "group": "Group", "conflict": "In conflict", "n": "Pairs"})


def _shares(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def queue_label(queue: Queue) -> str:
    """For example "q001 · Week 12 · 80 pairs · blind"."""
    return f"{queue.queue_id} · {queue.name} · {many(queue.n_items, 'pair')}" + (" · blind" if queue.blind else "")


def selection_of(state: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Run and pair ids that another page selected for review (``{"run": …, "pair_ids": […]}``); None without one."""
    chosen = state.get("review.selection")
    if not isinstance(chosen, Mapping) or not chosen.get("pair_ids"):
        return None
    return str(chosen["run"]), tuple(dict.fromkeys(str(pair_id) for pair_id in chosen["pair_ids"]))
