"""What a list of runs shows of each run, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..runs import Run
from .learning import StillLearning

DAMAGED = "damaged"
ACTIVE = ("queued", "running")


def number_of(run_id: str) -> int:
    """
    >>> number_of("0012-robustfair-s3")
    12
    """
    return int(run_id.split("-")[0])


@dataclass(frozen=True)
class RunEntry:
    """A run as lists show it: `settings` by dotted name; `test` is the test part of a finished run's report, `folds` its
    folds if it is cross-validated; `changes` what `methods.with_changes` adds to its name."""

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
    still_learning: StillLearning | None = None
    changes: str = ""
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    test: dict[str, Any] | None = field(default=None, repr=False)
    folds: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        """
        >>> RunEntry("0003-clip-s1", "running", preset="clip", seed=1).label
        '3 · clip · seed 1 · running'
        """
        if self.state == DAMAGED:
            return f"{number_of(self.id)} · {self.id.partition('-')[2]} · damaged"
        state = "" if self.state == "finished" else f" · {self.state}"
        changes = f" ({self.changes})" if self.changes else ""
        return f"{number_of(self.id)} · {self.method}{changes} · seed {self.seed}{state}"

    @property
    def method(self) -> str:
        """The preset, and whether verdicts of a review were used.

        >>> RunEntry("0003-clip-s1", "finished", preset="clip", verdicts="0a1b2c3d").method
        'clip with verdicts'
        """
        return f"{self.preset} with verdicts" if self.verdicts else self.preset

    @property
    def note(self) -> str:
        """What went wrong and how the run can be resumed; empty for a run without a problem.

        >>> RunEntry("0003-clip-s1", "interrupted", "epoch 2 of 6", epoch=2, epochs=6).note
        'stopped after epoch 2 of 6; `fairvlm train --resume 0003-clip-s1` goes on from there'
        """
        if self.state in ("interrupted", "cancelled"):
            where = f"after epoch {self.epoch} of {self.epochs}" if self.epoch else "before its first epoch ended"
            return f"stopped {where}; `fairvlm train --resume {self.id}` goes on from there"
        return "" if self.state in ("finished", *ACTIVE) else self.message


def _still_learning(report: dict[str, Any]) -> StillLearning | None:
    found = report.get("still_learning")  # not in runs of version 0.1
    return None if found is None else StillLearning(**found)


def read_entry(run: Run, *, with_report: bool = True) -> RunEntry:
    """A run's entry; a folder that cannot be read gives state `damaged` and a message of one line.

    A folder that was deleted meanwhile is damaged, too.
    """
    try:
        status, config, data = run.status, run.config, run.data
        report = run.report() if with_report and status.state == "finished" else None
        if report is not None and not isinstance(report["test"]["overall"]["n"], int):
            raise InputError(f"{run.id}/report.json has no test metrics")
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
            settings=config.without_paths().flat(),
            best_epoch=None if report is None else report.get("best_epoch"),
            still_learning=None if report is None else _still_learning(report),
            test=None if report is None else report["test"],
            folds=() if report is None else tuple(report.get("folds", ())),
        )
    except InputError as error:
        return RunEntry(run.id, DAMAGED, str(error))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return RunEntry(run.id, DAMAGED, f"its files do not hold what they should ({type(error).__name__}: {error})")
