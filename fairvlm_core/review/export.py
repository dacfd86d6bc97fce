"""Verdicts and readings as files: CSV that is safe in a spreadsheet, JSON that a training can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..intake.csvsafe import write_csv
from ..safeio import read_versioned, write_json
from .events import VERDICTS
from .results import STANDINGS, ChainHead, PairVerdict, VerdictSet
from .store import ReviewStore

EXPORT_VERSION = 1
EXPORT_KIND = "fairvlm review"


def readings_frame(
    store: ReviewStore,
    queue_id: str | None = None,
    *,
    comments: bool = False,
    notes: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row a standing reading, in the order they were given.

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
    said = {(v.data, v.pair_id): v for v in store.verdicts(queue_id=queue_id).verdicts}
    data = {queue.queue_id: queue.data for queue in store.queues()}
    rows: list[dict[str, Any]] = []
    for event in store.standing_readings(queue_id):
        verdict, pair = event.verdict, said.get((data[event.queue_id], event.pair_id))
        row = {name: getattr(event, name) for name in ("sequence", "at", "queue_id", "pair_id", "reviewer")}
        row |= {name: getattr(verdict, name) for name in ("verdict", "reason", "better_pair_id", "corrected_label")}
        row |= {"seconds": verdict.seconds, "agreed_verdict": pair and pair.verdict, "standing": pair and pair.standing}
        if comments:
            row["comment"] = verdict.comment
        if notes is not None:
            row["note"] = notes.get(event.pair_id)
        rows.append(row)
    columns = ["sequence", "at", "queue_id", "pair_id", "reviewer", "verdict", "reason", "better_pair_id",
               "corrected_label", "seconds", "agreed_verdict", "standing"]  # fmt: skip
    columns += ["comment"] * comments + ["note"] * (notes is not None)
    return pd.DataFrame(rows, columns=columns).astype({"corrected_label": "Int64", "seconds": float})


def export_csv(store: ReviewStore, path: Path | str, queue_id: str | None = None, **columns: Any) -> Path:
    """`readings_frame` as CSV with its text neutralised; `intake.csvsafe.read_csv` restores it."""
    return write_csv(readings_frame(store, queue_id, **columns), Path(path))


def export_document(store: ReviewStore, queue_id: str | None = None, **columns: Any) -> dict[str, Any]:
    """One verdict a pair, all standing readings, and the head of the log; `read_verdicts` reads it back for training."""
    verdicts = store.verdicts(queue_id=queue_id)
    readings = readings_frame(store, queue_id, **columns)
    return {
        "schema_version": EXPORT_VERSION,
        "kind": EXPORT_KIND,
        "head": asdict(verdicts.head),
        "verdicts": [verdict.to_dict() for verdict in verdicts.verdicts],
        "readings": readings.astype(object).where(readings.notna(), None).to_dict("records"),
    }


def export_json(store: ReviewStore, path: Path | str, queue_id: str | None = None, **columns: Any) -> Path:
    """`export_document` as a file; the old one or the new one, never half."""
    write_json(Path(path), export_document(store, queue_id, **columns))
    return Path(path)


def write_verdicts(path: Path, verdicts: VerdictSet) -> None:
    """Verdicts alone, without readers, reasons or texts: what a run keeps of them."""
    write_json(
        path,
        {
            "schema_version": EXPORT_VERSION,
            "kind": EXPORT_KIND,
            "source": verdicts.source,
            "head": asdict(verdicts.head),
            "verdicts": [verdict.to_dict() for verdict in verdicts.verdicts],
        },
    )


def read_verdicts(path: Path | str) -> VerdictSet:
    """The verdicts of a file that `export_json` or `write_verdicts` wrote.

    Raises
    ------
    InputError
        The file is missing, damaged, of another kind, or of a newer fairvlm.
    """
    path = Path(path)
    values = read_versioned(path, EXPORT_VERSION)
    if values.get("kind") != EXPORT_KIND:
        raise InputError(f"{path.name}: no verdicts; a file that `fairvlm review export` wrote is wanted")
    try:
        head = ChainHead(**values["head"])
        verdicts = tuple(_read_verdict(entry) for entry in values["verdicts"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path.name}: damaged ({type(error).__name__}); export the verdicts anew") from None
    if len({(v.data, v.pair_id) for v in verdicts}) < len(verdicts):
        raise InputError(f"{path.name}: a pair stands there twice; export the verdicts anew")
    return VerdictSet(verdicts, head, str(values.get("source", path.name)))


def _read_verdict(entry: dict[str, Any]) -> PairVerdict:
    verdict = PairVerdict(**entry)
    known = (*VERDICTS, None)
    if verdict.verdict not in known or verdict.standing not in STANDINGS or verdict.corrected_label not in (0, 1, None):
        raise ValueError
    return verdict
