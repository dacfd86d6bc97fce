"""What the readers of one queue found, in one object: progress, the miner's quality, verdicts by group, agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from .agreement import Agreement, agreement, agreement_by_readers
from .estimates import MinerQuality, miner_quality, precision_table, verdict_counts
from .export import records
from .state import Queue, ReviewProgress
from .store import ReviewStore


@dataclass(frozen=True)
class ReviewSummary:
    """Results of a queue."""

    queue: Queue
    progress: ReviewProgress
    miner: MinerQuality
    precision: pd.DataFrame  # `precision_table`
    counts: Mapping[str, pd.DataFrame]  # `verdict_counts` by attribute, and of "all" pairs
    agreement: Agreement  # of all readers
    by_readers: tuple[Agreement, ...]  # of every two readers

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "queue_id": self.queue.queue_id,
            "progress": asdict(self.progress),
            "miner": self.miner.to_dict(),
            "precision": records(self.precision),
            "verdicts": {name: records(frame) for name, frame in self.counts.items()},
            "agreement": {"all": self.agreement.to_dict(), "by_readers": [a.to_dict() for a in self.by_readers]},
        }


def review_summary(store: ReviewStore, queue_id: str) -> ReviewSummary:
    """The results of a queue as it is now."""
    queue, items = store.queue(queue_id), store.items(queue_id)
    verdicts, readings = store.verdicts(queue_id=queue_id), store.standing_readings(queue_id)
    precision = precision_table(items, verdicts)
    attributes = [name for name in dict.fromkeys(precision["by"]) if name not in {"all", "kind"}]
    return ReviewSummary(
        queue=queue,
        progress=store.progress(queue_id),
        miner=miner_quality(items, queue.population, verdicts),
        precision=precision,
        counts={name or "all": verdict_counts(items, verdicts, name) for name in (None, *attributes)},
        agreement=agreement(readings),
        by_readers=agreement_by_readers(readings),
    )
