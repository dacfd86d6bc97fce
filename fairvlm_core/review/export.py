"""Verdicts and readings as files: CSV that is safe in a spreadsheet, JSON that a training can use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..intake.csvsafe import write_csv
from ..safeio import read_versioned, write_json
from .events import VERDICTS
from .results import STANDINGS, ChainHead, PairVerdict, VerdictSet
from .store import ReviewStore

_FORMAT = {"schema_version": 1, "kind": "fairvlm review"}
_OF_EVENT = ("sequence", "at", "queue_id", "pair_id", "reviewer")
_OF_VERDICT = ("verdict", "reason", "better_pair_id", "corrected_label", "seconds")


def readings_frame(
    store: ReviewStore,
    queue_id: str | None = None,
    *,
    comments: bool = False,
    notes: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row for each standing reading, in the order they were given.

    Parameters
    ----------
    queue_id
        Pairs of this queue only.
    comments
        Add the readers' comments, which are free text and may hold patient data.
    notes
        Pair id to note: add the notes. By default the export holds none.

    Returns
    -------
    DataFrame
        sequence, at, queue_id, pair_id, reviewer, verdict, reason, better_pair_id, corrected_label, seconds, then
        agreed_verdict and standing of the pair; comment and note where asked for. Missing values are None.
    """
    of_pair = {(v.data, v.pair_id): v for v in store.verdicts(queue_id=queue_id).verdicts}
    data = {queue.queue_id: queue.data for queue in store.queues()}
    rows: list[dict[str, Any]] = []
    for event in store.standing_readings(queue_id):
        verdict, pair = event.verdict, of_pair.get((data[event.queue_id], event.pair_id))
        row = {name: getattr(event, name) for name in _OF_EVENT}
        row |= {name: getattr(verdict, name) for name in _OF_VERDICT}
        row |= {"agreed_verdict": pair and pair.verdict, "standing": pair and pair.standing}
        rows.append(row | {"comment": verdict.comment, "note": (notes or {}).get(event.pair_id)})
    columns = [*_OF_EVENT, *_OF_VERDICT, "agreed_verdict", "standing"]
    columns += ["comment"] * comments + ["note"] * (notes is not None)
    return pd.DataFrame(rows, columns=columns).astype({"corrected_label": "Int64", "seconds": float})


def export_csv(store: ReviewStore, path: Path | str, queue_id: str | None = None, **columns: Any) -> Path:
    """`readings_frame` as CSV with its text neutralised; `intake.csvsafe.read_csv` restores it."""
    return write_csv(readings_frame(store, queue_id, **columns), Path(path))


def export_document(store: ReviewStore, queue_id: str | None = None, **columns: Any) -> dict[str, Any]:
    """One verdict for each pair, all standing readings, and the head of the log; `read_verdicts` reads it for training."""
    readings = records(readings_frame(store, queue_id, **columns))
    return _FORMAT | store.verdicts(queue_id=queue_id).to_dict() | {"readings": readings}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; None where one is missing."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def export_json(store: ReviewStore, path: Path | str, queue_id: str | None = None, **columns: Any) -> Path:
    """`export_document` as a file, written as a whole or not at all."""
    write_json(Path(path), export_document(store, queue_id, **columns))
    return Path(path)


def write_verdicts(path: Path, verdicts: VerdictSet) -> None:
    """Verdicts alone, without readers, reasons or texts: what a run stores of them."""
    write_json(path, _FORMAT | {"source": verdicts.source} | verdicts.to_dict())


def read_verdicts(path: Path | str) -> VerdictSet:
    """The verdicts of a file that `export_json` or `write_verdicts` wrote.

    Raises
    ------
    InputError
        The file is missing, damaged, of another kind, or of a newer fairvlm.
    """
    path = Path(path)
    values = read_versioned(path, 1)
    if values.get("kind") != _FORMAT["kind"]:
        raise InputError(f"{path.name}: no verdicts; it must be a file that `fairvlm review export` wrote")
    try:
        head = ChainHead(**values["head"])
        verdicts = tuple(_read_verdict(entry) for entry in values["verdicts"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path.name}: damaged ({type(error).__name__}); export the verdicts again") from None
    if len({(v.data, v.pair_id) for v in verdicts}) < len(verdicts):
        raise InputError(f"{path.name}: one pair has two verdicts; export the verdicts again")
    return VerdictSet(verdicts, head, str(values.get("source", path.name)))


def _read_verdict(entry: dict[str, Any]) -> PairVerdict:
    verdict = PairVerdict(**entry)
    known = (*VERDICTS, None)
    if verdict.verdict not in known or verdict.standing not in STANDINGS or verdict.corrected_label not in (0, 1, None):
        raise ValueError
    return verdict
