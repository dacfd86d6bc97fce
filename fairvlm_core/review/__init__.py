"""Review of flagged pairs by clinicians, and the use of their verdicts.

`ReviewStore` keeps an append-only log in SQLite or PostgreSQL. `queue_from_run` draws a queue, `ReviewStore.next_pair` and
`judge` are the daily work, `review_summary` says what the readers found, `apply_verdicts` corrects the data of a new run.
"""

from __future__ import annotations

from .agreement import Agreement, agreement, agreement_by_readers
from .apply import AppliedVerdicts, apply_verdicts
from .drafts import Draft, Drafts
from .estimates import Estimate, MinerQuality, judged_frame, miner_quality, precision_table, verdict_counts
from .events import BAD, VERDICTS, Event, Verdict, VerdictKind, check_reviewer
from .export import export_csv, export_document, export_json, read_verdicts, readings_frame
from .log import Verification
from .queue import ORDERS, QueueItem, QueuePlan, QueueSettings, plan_queue
from .results import STANDINGS, ChainHead, Missing, PairVerdict, VerdictSet
from .roles import ACTIONS, ROLES, Roles, leads, may, open_results, read_roles, results_opened, role_of, sees_results
from .source import ReviewedData, best_notes, queue_from_run, reviewed_data
from .state import Conflict, Queue, ReviewProgress, ReviewTask
from .store import ReviewStore
from .summary import ReviewSummary, review_summary

__all__ = [
    "ACTIONS", "BAD", "ORDERS", "ROLES", "STANDINGS", "VERDICTS", "Agreement", "AppliedVerdicts", "ChainHead", "Conflict",
    "Draft", "Drafts", "Estimate", "Event", "MinerQuality", "Missing", "PairVerdict", "Queue", "QueueItem", "QueuePlan",
    "QueueSettings", "ReviewProgress", "ReviewStore", "ReviewSummary", "ReviewTask", "ReviewedData", "Roles", "Verdict",
    "VerdictKind", "VerdictSet", "Verification", "agreement", "agreement_by_readers", "apply_verdicts", "best_notes",
    "check_reviewer", "export_csv", "export_document", "export_json", "judged_frame", "leads", "may",
    "miner_quality",
    "open_results", "plan_queue", "precision_table", "queue_from_run", "read_roles", "read_verdicts", "readings_frame",
    "results_opened", "review_summary", "reviewed_data", "role_of", "sees_results", "verdict_counts",
]  # fmt: skip
