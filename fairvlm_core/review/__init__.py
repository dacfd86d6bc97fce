"""Review of flagged pairs by clinicians, and what their verdicts are good for.

`ReviewStore` keeps an append-only log in SQLite or PostgreSQL. `plan_queue` draws whom to ask what, `ReviewStore.next_pair`
and `judge` are the daily work, `ReviewStore.verdicts` says what the readers found.
"""

from __future__ import annotations

from .agreement import Agreement, agreement, agreement_by_readers
from .apply import AppliedVerdicts, apply_verdicts
from .estimates import Estimate, MinerQuality, judged_frame, miner_quality, precision_table, verdict_counts
from .events import BAD, REASONS, VERDICTS, Event, Verdict, check_reviewer
from .export import export_csv, export_document, export_json, read_verdicts, readings_frame
from .log import Verification
from .make import plan_from_run, queue_from_run
from .queue import ORDERS, QueueItem, QueuePlan, QueueSettings, plan_queue
from .results import STANDINGS, ChainHead, PairVerdict, VerdictSet
from .roles import ACTIONS, ROLES, Roles, may, read_roles, require, role_of
from .state import Conflict, Progress, Queue, Task
from .store import ReviewStore

__all__ = [
    "ACTIONS",
    "BAD",
    "ORDERS",
    "REASONS",
    "ROLES",
    "STANDINGS",
    "VERDICTS",
    "Agreement",
    "AppliedVerdicts",
    "ChainHead",
    "Conflict",
    "Estimate",
    "Event",
    "MinerQuality",
    "PairVerdict",
    "Progress",
    "Queue",
    "QueueItem",
    "QueuePlan",
    "QueueSettings",
    "ReviewStore",
    "Roles",
    "Task",
    "Verdict",
    "VerdictSet",
    "Verification",
    "agreement",
    "agreement_by_readers",
    "apply_verdicts",
    "check_reviewer",
    "export_csv",
    "export_document",
    "export_json",
    "judged_frame",
    "may",
    "miner_quality",
    "plan_from_run",
    "plan_queue",
    "precision_table",
    "queue_from_run",
    "read_roles",
    "read_verdicts",
    "readings_frame",
    "require",
    "role_of",
    "verdict_counts",
]
