"""What the overview says about runs: decisions without drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fairvlm_core.errors import InputError
from fairvlm_core.runs import STATES, Run

from .selection import number_of
from .words import NOTHING, figure, listed, local_time, many

DAMAGED = "damaged"
ACTIVE = ("queued", "running")
SEEDS_WANTED = 3
FINE_TUNE, COMPARE = "2_Fine_tune.py", "6_Compare_runs.py"
_COLUMNS = (
    "Run", "State", "Test AUC", "Lowest ES-AUC", "n test", "Epochs", "Data", "Started", "Note",
)  # fmt: skip


@dataclass(frozen=True)
class RunEntry:
    """A run as lists show it; `test` is the test part of its report once it is finished."""

    id: str
    state: str
    message: str = ""
    preset: str = ""
    seed: int = 0
    model: str = ""
    data: str = ""
    folder: str = ""
    method_key: str = ""
    verdicts: str = ""
    fingerprint: str = ""
    epoch: int = 0
    epochs: int = 0
    created: str = ""
    heartbeat: float | None = None
    best_epoch: int | None = None
    test: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """
        >>> RunEntry("0003-clip-s1", "running", preset="clip", seed=1).label
        '3 · clip · seed 1 · running'
        """
        if self.state == DAMAGED:
            return f"{number_of(self.id)} · {self.id.partition('-')[2]} · damaged"
        state = "" if self.state == "finished" else f" · {self.state}"
        return f"{number_of(self.id)} · {self.method} · seed {self.seed}{state}"

    @property
    def method(self) -> str:
        """The preset, and whether verdicts of a review were used.

        >>> RunEntry("0003-clip-s1", "finished", preset="clip", verdicts="0a1b2c3d").method
        'clip with verdicts'
        """
        return f"{self.preset} with verdicts" if self.verdicts else self.preset

    @property
    def note(self) -> str:
        """What went wrong and, where the run can go on, how; nothing for a run that is well.

        >>> RunEntry("0003-clip-s1", "interrupted", "epoch 2 of 6", epoch=2, epochs=6).note
        'stopped after epoch 2 of 6; `fairvlm train --resume 0003-clip-s1` goes on from there'
        """
        if self.state in ("interrupted", "cancelled"):
            where = f"after epoch {self.epoch} of {self.epochs}" if self.epoch else "before its first epoch ended"
            return f"stopped {where}; `fairvlm train --resume {self.id}` goes on from there"
        return "" if self.state in ("finished", *ACTIVE) else self.message


def read_entry(run: Run) -> RunEntry:
    """A run's entry; whatever is wrong with its folder makes it `damaged`, with one line that says what.

    A run whose folder is gone is damaged, too: the caller may hold a list that is a moment old.
    """
    try:
        status, config, data = run.status, run.config, run.data
        if status.state not in STATES:
            raise InputError(f"{run.id}/status.json has the unknown state {status.state!r}")
        report = run.report() if status.state == "finished" else None
        if report is not None and not isinstance(report["test"]["overall"]["n"], int):
            raise InputError(f"{run.id}/report.json has no test figures")
        return RunEntry(
            id=run.id,
            state=status.state,
            message=status.message,
            preset=config.preset,
            seed=config.seed,
            model=config.model,
            data=str(data["name"]),
            folder=str(data["folder"]),
            method_key=run.method_key,
            verdicts=run.verdicts,
            fingerprint=str(data["fingerprint"]),
            epoch=status.epoch,
            epochs=config.epochs,
            created=status.created,
            heartbeat=status.heartbeat,
            best_epoch=None if report is None else report.get("best_epoch"),
            test=None if report is None else report["test"],
        )
    except InputError as error:
        return RunEntry(run.id, DAMAGED, str(error))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return RunEntry(run.id, DAMAGED, f"its files do not hold what they should ({type(error).__name__}: {error})")


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
