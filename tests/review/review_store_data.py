"""Mined rows, stores and the benchmark's helpers, for the tests of the review."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from fairvlm_core.review import Queue, QueueSettings, ReviewStore, plan_queue

DATA = "d" * 64
PLAIN = QueueSettings(control_share=0, second_share=0)

_spec = importlib.util.spec_from_file_location(
    "review_store_benchmark", Path(__file__).parents[2] / "benchmarks" / "review_store.py"
)
bench = sys.modules["review_store_benchmark"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)


class Clock:
    """A server's clock that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def move(self, **delta: float) -> None:
        self.time += timedelta(**delta)


def mined_rows(n: int = 40, n_faulty: int = 10, n_noisy: int = 2, seed: int = 0) -> pd.DataFrame:
    """Rows as a run mines them: `n_faulty` high, `n_noisy` low, the rest in the middle, in mixed order."""
    rng = np.random.default_rng(seed)
    n_clean = n - n_faulty - n_noisy
    kind = np.array(["faulty"] * n_faulty + ["noisy"] * n_noisy + ["clean"] * n_clean)
    z = np.concatenate([rng.uniform(3, 6, n_faulty), rng.uniform(-5, -3, n_noisy), rng.uniform(-2.9, 2.9, n_clean)])
    frame = pd.DataFrame({"pair_id": [f"p{i:04d}" for i in range(n)], "patient_id": "someone", "split": "train"})
    frame = frame.assign(kind=kind, mean_loss=5 + z, z=z, weight=np.exp(-0.5 * z**2))
    frame["race"] = rng.choice(["Asian", "Black", "White"], n, p=[0.1, 0.3, 0.6])
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def add_queue(store: ReviewStore, rows: pd.DataFrame | None = None, settings: QueueSettings = PLAIN) -> Queue:
    plan = plan_queue(mined_rows() if rows is None else rows, settings)
    return store.make_queue("first", plan, by="Ada", run_id="0001-dbpm-s0", data=DATA)
