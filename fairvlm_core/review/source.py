"""A queue and the run it comes from: draw a queue, and find its run and data again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.mining_again import mine_again
from ..errors import InputError
from ..pairs import PairTable
from ..runs import Run, RunStore
from .queue import QueueSettings, plan_queue
from .state import Queue
from .store import ReviewStore


def queue_from_run(
    store: ReviewStore,
    run: Run,
    settings: QueueSettings,
    *,
    name: str,
    by: str,
    event_id: str | None = None,
    **mining: Any,
) -> Queue:
    """Mine a run's ledger, draw a queue, and store it; `mining` changes settings of the miner, as in `mine_again`.

    Raises
    ------
    InputError
        The run has no ledger yet, or nothing is left to review.
    """
    mined = mine_again(run, **mining)
    result = mined.result
    posterior = pd.Series(result.posterior, index=result.pair_ids)
    rows = mined.rows.assign(posterior=mined.rows["pair_id"].map(posterior))
    plan = plan_queue(rows, settings, faulty_above=result.faulty_above, noisy_below=result.noisy_below)
    data, data_name = run.data["fingerprint"], run.data["name"]
    return store.make_queue(name, plan, by=by, run_id=run.id, data=data, data_name=data_name, event_id=event_id)


@dataclass(frozen=True)
class ReviewedData:
    """The run of a queue, and the data of that run as it was when the queue was made."""

    run: Run
    table: PairTable

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {pair_id: row for row, pair_id in enumerate(self.table.pair_ids.tolist())}

    def row(self, pair_id: str) -> int:
        """The row of a pair in the table."""
        try:
            return self._rows[pair_id]
        except KeyError:
            raise InputError(f"pair {pair_id!r} is no longer in the data folder of run {self.run.id}") from None


def reviewed_data(queue: Queue, runs: RunStore, read: Callable[..., PairTable] = PairTable.read) -> ReviewedData:
    """The run and the data of a queue; `read` is called with the folder and the run's options for reading it.

    Raises
    ------
    InputError
        The run or the data folder is gone, or the data has changed since.
    """
    try:
        run = runs.get(queue.run_id)
    except InputError:
        raise InputError(
            f"queue {queue.queue_id} was made from run {queue.run_id}, which is not in this workspace: "
            "open the workspace that has it"
        ) from None
    folder = Path(str(run.data["folder"]))
    if not folder.is_dir():
        raise InputError(
            f"the data folder of run {run.id} ({folder.name!r}) is gone: restore it to continue the review"
        )
    table = read(str(folder), **(run.data.get("read_options") or {}))
    if table.fingerprint != queue.data:
        raise InputError(
            f"the data folder of run {run.id} ({folder.name!r}) has changed since queue {queue.queue_id} was made: "
            "restore it, or make a new queue from a run on the changed data"
        )
    return ReviewedData(run, table)


def best_notes(images: np.ndarray, notes: np.ndarray, row: int, k: int = 8) -> list[int]:
    """Rows of the k notes that fit the image of `row` best, its own left out: candidates for the right note.

    Features are unit norm, (N, D) each. The list is as long for a good pair as for a bad one, so that it does not show the
    miner's opinion.

    >>> best_notes(np.eye(3), np.eye(3)[[1, 0, 2]], 0, k=1)
    [1]
    """
    similarity = notes @ images[row]
    similarity[row] = -np.inf
    return np.argsort(-similarity, kind="stable")[: min(k, len(similarity) - 1)].tolist()
