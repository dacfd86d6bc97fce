"""A queue from a run: mine its ledger, draw, store."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..remine import mine_again
from ..runs import Run
from .queue import QueuePlan, QueueSettings, plan_queue
from .state import Queue
from .store import ReviewStore


def plan_from_run(run: Run, settings: QueueSettings, **mining: Any) -> QueuePlan:
    """What a queue of this run would hold; `mining` changes settings of the miner, as in `mine_again`.

    Raises
    ------
    InputError
        The run has no ledger yet, or nothing is left to review.
    """
    mined = mine_again(run, **mining)
    posterior = pd.Series(mined.result.posterior, index=mined.result.pair_ids)
    rows = mined.rows.assign(posterior=mined.rows["pair_id"].map(posterior))
    limits = {"faulty_above": mined.result.faulty_above, "noisy_below": mined.result.noisy_below}
    return plan_queue(rows, settings, **limits)


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
    """Plan a queue and store it with the run's id and the fingerprint of its data."""
    plan = plan_from_run(run, settings, **mining)
    data, data_name = run.data["fingerprint"], run.data["name"]
    return store.make_queue(name, plan, by=by, run_id=run.id, data=data, data_name=data_name, event_id=event_id)
