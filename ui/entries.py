"""What the overview says about runs: decisions without drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fairvlm_core.analysis.entries import ACTIVE, RunEntry

from .words import NOTHING, figure, listed, local_time, many

SEEDS_WANTED = 3
FINE_TUNE, COMPARE = "2_Fine_tune.py", "6_Compare_runs.py"
_COLUMNS = (
    "Run", "State", "Test AUC", "Lowest ES-AUC", "n test", "Epochs", "Data", "Started", "Note",
)  # fmt: skip


def runs_table(entries: Sequence[RunEntry]) -> pd.DataFrame:
    """One row a run, newest first: Run, State, Test AUC, Lowest ES-AUC, n test, Epochs, Data, Started, Note."""
    rows = []
    for entry in reversed(entries):
        overall = entry.test["overall"] if entry.test else {}
        es_auc = [facts["es_auc"] for facts in entry.test["attributes"].values()] if entry.test else []
        known = [value for value in es_auc if value is not None]
        rows.append(
            {
                "Run": entry.id,
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
    """One figure with what belongs to it: `title`, `value`, `below` (n and the weakest group)."""

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
            figure(overall["auc"]),
            f"n = {overall['n']:,}" + (f", n+ = {overall['n_positive']:,}" if "n_positive" in overall else ""),
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
            below = f"lowest: {lowest} {figure(scored[lowest]['auc'])} (n = {scored[lowest]['n']:,})"
        else:
            below = "no group has an AUC"
        cards.append(
            Headline(
                f"ES-AUC, {attribute}",
                figure(facts["es_auc"]),
                below,
                "AUC ÷ (1 + Σ |AUC − group AUC|): the test AUC, lowered by how far the groups are from it.",
            )
        )
    return cards


@dataclass(frozen=True)
class Step:
    """What to do next: a sentence, a command to copy, a page to go to (with the runs it opens on)."""

    text: str
    command: str | None = None
    page: str | None = None
    runs: tuple[str, ...] = ()


def next_step(entries: Sequence[RunEntry]) -> Step:
    """The next useful thing to do in a workspace that has runs.

    >>> next_step([RunEntry("0001-clip-s0", "running", preset="clip", epoch=1, epochs=6)]).text
    'Run 0001-clip-s0 is at work (epoch 1 of 6); its figures appear here when it has finished.'
    """
    active = [entry for entry in entries if entry.state in ACTIVE]
    if active:
        entry = active[-1]
        if entry.state == "queued":
            return Step(f"Run {entry.id} waits for its turn.")
        where = f"epoch {entry.epoch} of {entry.epochs}"
        return Step(f"Run {entry.id} is at work ({where}); its figures appear here when it has finished.")
    finished = [entry for entry in entries if entry.state == "finished"]
    stopped = [entry for entry in entries if entry.state in ("interrupted", "cancelled")]
    if not finished and stopped:
        entry = stopped[-1]
        return Step(
            f"Run {entry.id} stopped after epoch {entry.epoch} of {entry.epochs}. "
            "Go on from there, under Fine-tune or in a terminal:",
            command=f"fairvlm train --resume {entry.id}", page=FINE_TUNE, runs=(entry.id,),
        )  # fmt: skip
    if not finished:
        return Step(
            "No run has finished yet. Start with plain fine-tuning, under Fine-tune or in a terminal:",
            command="fairvlm train DATA --preset clip", page=FINE_TUNE,
        )  # fmt: skip
    newest = finished[-1]
    same_data = [entry for entry in finished if entry.fingerprint == newest.fingerprint]
    methods = {entry.method_key: entry for entry in same_data}
    if len(methods) == 1:
        other = "clip" if newest.preset != "clip" else "robustfair"
        return Step(
            f"All finished runs on {newest.data} use {newest.method}. Train another method on the same data to "
            "compare, under Fine-tune or in a terminal:",
            command=f"fairvlm train {newest.folder} --preset {other}", page=FINE_TUNE, runs=(newest.id,),
        )  # fmt: skip
    fewest = min(len({entry.seed for entry in same_data if entry.method_key == key}) for key in methods)
    text = f"{many(len(same_data), 'run')} of {len(methods)} methods on {newest.data} can be compared."
    if fewest < SEEDS_WANTED:
        text += f" A method here has {many(fewest, 'seed')}; with {SEEDS_WANTED} or more, chance between seeds shows."
    return Step(text, page=COMPARE, runs=tuple(entry.id for entry in same_data))
