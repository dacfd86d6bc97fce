"""A workspace to review in: a run with losses that are high where the data is wrong, its model and embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from recipes import add_run

from fairvlm_core.features import embed, pair_arrays
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.models import load_clip
from fairvlm_core.pairs import PairTable
from fairvlm_core.review import Queue, QueueSettings, ReviewStore, queue_from_run
from fairvlm_core.runs import Run, RunStore


def add_reviewable_run(workspace: Path, table: PairTable) -> Run:
    """A finished run whose ledger stands out for the planted mismatches; its checkpoint is the built-in model."""
    run = add_run(RunStore(workspace), table, "robustfair", 0)
    train = table.only("train")
    planted = table.planted().set_index("pair_id")["kind"]
    bad = np.array([planted[pair_id] == "mismatch" for pair_id in train.pair_ids])
    losses = np.random.default_rng(0).normal(2, 0.1, (2, len(train))) + 2 * bad
    run.write_parquet(run.files.ledger, PairLossLedger.from_values(losses, train.pair_ids).to_wide_frame())
    clip = load_clip("tiny")
    clip.save(run.checkpoint)
    images, notes = embed(clip, pair_arrays(table, clip))
    run.write_embeddings(images.numpy(), notes.numpy())
    return run


def add_queue(workspace: Path, run: Run, name: str = "Week 12", **settings) -> Queue:
    """A queue in the workspace's log, by default of everything that stands out, blind, with controls."""
    chosen = {"control_share": 0.3, "second_share": 0.0} | settings
    with ReviewStore.open(workspace, url="") as store:
        return queue_from_run(store, run, QueueSettings(**chosen), name=name, by="Admin", faulty_sd=1.5)
