"""What the overview says about runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fairvlm_core.analysis.entries import ACTIVE, RunEntry
from fairvlm_core.analysis.methods import methods_of
from fairvlm_core.words import NOTHING, listed, local_time, many, number

SEEDS_WANTED = 3
FINE_TUNE, COMPARE = "2_Fine_tune.py", "6_Compare_runs.py"
_COLUMNS = (
    "Run", "Method", "State", "Test AUC", "Lowest ES-AUC", "n test", "Epochs", "Data", "Started", "Note",
)  # fmt: skip


def runs_table(entries: Sequence[RunEntry]) -> pd.DataFrame:
    """One row a run, newest first: Run, Method, State, Test AUC, Lowest ES-AUC, n test, Epochs, Data, Started, Note."""
    rows = []
    for entry in reversed(entries):
        overall = entry.test["overall"] if entry.test else {}
        es_auc = [facts["es_auc"] for facts in entry.test["attributes"].values()] if entry.test else []
        known = [value for value in es_auc if value is not None]
        rows.append(
            {
                "Run": entry.id,
                "Method": entry.method + (f" ({entry.changes})" if entry.changes else ""),
                "State": [entry.state],
                "Test AUC": overall.get("auc"),
                "Lowest ES-AUC": min(known) if known else None,
                "n test": overall.get("n"),
                "Epochs": f"{entry.epoch}/{entry.epochs}" if entry.epochs else NOTHING,
                "Data": entry.data or NOTHING,
                "Started": local_time(entry.created),
                "Note": entry.note,
            }
        )
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.astype({"n test": "Int64", "Test AUC": float, "Lowest ES-AUC": float})


@dataclass(frozen=True)
class Headline:
    """A card: `title`, `value`, and `below` it what belongs to the value, such as n."""

    title: str
    value: str
    below: str
    help: str = ""


def headlines(test: dict[str, Any]) -> list[Headline]:
    """Test AUC, then ES-AUC for each attribute, from a report's test part.

    An attribute with a group without an AUC is marked "partial" and names that group.
    """
    overall = test["overall"]
    cards = [
        Headline(
            "Test AUC",
            number(overall["auc"]),
            f"{overall['n']:,} pairs" + (f", {overall['n_positive']:,} positive" if "n_positive" in overall else ""),
            "How often a patient with the finding scores higher than one without. 0.5 is chance.",
        )
    ]
    for attribute, facts in test["attributes"].items():
        groups = facts["groups"]
        scored = {name: group for name, group in groups.items() if group["auc"] is not None}
        without = [name for name in groups if name not in scored]
        if without:
            one = groups[without[0]]
            counts = f" (n = {one['n']})" if len(without) == 1 else ""
            below = f"partial: no AUC for {listed(without)}{counts}"
        elif scored:
            lowest = min(scored, key=lambda name: scored[name]["auc"])
            below = f"lowest: {lowest} {number(scored[lowest]['auc'])} (n = {scored[lowest]['n']:,})"
        else:
            below = "no group has an AUC"
        cards.append(
            Headline(
                f"ES-AUC, {attribute}",
                number(facts["es_auc"]),
                below,
                "AUC ÷ (1 + Σ |AUC − group AUC|): the test AUC, lowered by the distances of the groups' AUCs from it.",
            )
        )
    return cards


@dataclass(frozen=True)
class NextStep:
    """What to do next: a sentence, a command to copy, a page to open (with its runs)."""

    text: str
    command: str | None = None
    page: str | None = None
    runs: tuple[str, ...] = ()


def next_step(entries: Sequence[RunEntry]) -> NextStep:
    """The next useful thing to do in a workspace that has runs.

    >>> next_step([RunEntry("0001-clip-s0", "running", preset="clip", epoch=1, epochs=6)]).text
    'Run 0001-clip-s0 is being trained (epoch 1 of 6); its metrics appear here when it has finished.'
    """
    for entry in reversed(entries):
        if entry.state in ACTIVE:
            return _wait_for(entry)
    finished = [entry for entry in entries if entry.state == "finished"]
    return _compare(finished) if finished else _finish_one(entries)


def _wait_for(entry: RunEntry) -> NextStep:
    if entry.state == "queued":
        return NextStep(f"Run {entry.id} waits for its turn.")
    where = f"epoch {entry.epoch} of {entry.epochs}"
    return NextStep(f"Run {entry.id} is being trained ({where}); its metrics appear here when it has finished.")


def _finish_one(entries: Sequence[RunEntry]) -> NextStep:
    stopped = [entry for entry in entries if entry.state in ("interrupted", "cancelled")]
    if not stopped:
        return NextStep(
            "No run has finished yet. Start with plain fine-tuning, under Fine-tune or in a terminal:",
            command="fairvlm train DATA --preset clip", page=FINE_TUNE,
        )  # fmt: skip
    entry = stopped[-1]
    return NextStep(
        f"Run {entry.id} stopped after epoch {entry.epoch} of {entry.epochs}. Resume it under Fine-tune or in a terminal:",
        command=f"fairvlm train --resume {entry.id}", page=FINE_TUNE, runs=(entry.id,),
    )  # fmt: skip


def _compare(finished: Sequence[RunEntry]) -> NextStep:
    newest = finished[-1]
    same_data = [entry for entry in finished if entry.fingerprint == newest.fingerprint]
    methods = methods_of(same_data)
    if len(methods) == 1:
        other = "clip" if newest.preset != "clip" else "robustfair"
        return NextStep(
            f"All finished runs on {newest.data} use {newest.method}. To compare, train another method on the same data, "
            "under Fine-tune or in a terminal:",
            command=f"fairvlm train {newest.folder} --preset {other}", page=FINE_TUNE, runs=(newest.id,),
        )  # fmt: skip
    fewest = min(len(method.runs) for method in methods)
    text = f"{many(len(same_data), 'run')} of {len(methods)} methods on {newest.data} can be compared."
    if fewest < SEEDS_WANTED:
        text += f" One method has {many(fewest, 'seed')}; {SEEDS_WANTED} or more show how much metrics vary by chance."
    return NextStep(text, page=COMPARE, runs=tuple(entry.id for entry in same_data))
