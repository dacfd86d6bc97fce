"""Runs with planted losses and metrics, for the pages that show what training recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.runs import Run

EPOCHS = 3


def planted_losses(pairs: pd.DataFrame, attribute: str, group: str, shift: float, seed: int = 0) -> np.ndarray:
    """Losses of the training pairs, shape (EPOCHS, N): unit normal around 5 - epoch, `shift` higher for one group."""
    train = pairs[pairs["split"].astype(str) == "train"]
    high = (train[attribute].astype(str) == group).to_numpy()
    noise = np.random.default_rng(seed).normal(size=(EPOCHS, len(train)))
    return noise + 5 - np.arange(1, EPOCHS + 1)[:, None] + shift * high


def record(run: Run, *, attribute: str = "gender", group: str = "Male", shift: float = 1.0, fall: float = 0.5) -> Run:
    """Write a ledger with planted losses, and metrics whose divergence falls by `fall` an epoch from 0.4.

    Validation ES-AUC is 0.70, 0.71, 0.72; the second epoch is the selected one.
    """
    pairs = run.pairs()
    train = pairs[pairs["split"].astype(str) == "train"]
    losses = planted_losses(pairs, attribute, group, shift, run.config.seed)
    ledger = PairLossLedger(train["pair_id"].astype(str).to_numpy(), ("loss", "similarity"))
    rows = np.arange(len(train))
    for epoch, line in enumerate(losses):
        ledger.record(epoch, rows, loss=line, similarity=-line)
        ledger.close_epoch(epoch)
    run.write_parquet(run.files.ledger, ledger.to_wide_frame())
    run.write_metrics([_line(run, train, epoch, fall) for epoch in range(1, EPOCHS + 1)])
    return run


def _line(run: Run, train: pd.DataFrame, epoch: int, fall: float) -> dict[str, Any]:
    attributes = run.data["attributes"]
    sinkhorn = [
        {"quantity": quantity, "attribute": name, "group": group, "n": int(n), "value": 0.4 * (1 - fall) ** (epoch - 1)}
        for quantity in ("loss", "similarity")
        for name in attributes
        for group, n in train[name].astype(str).value_counts().sort_index().items()
    ]
    return {
        "epoch": epoch,
        "train_loss": 5.0 - epoch,
        "val_loss": 5.5 - epoch,
        "val": {
            "overall": {"auc": 0.8},
            "attributes": {name: {"es_auc": 0.69 + 0.01 * epoch} for name in attributes},
        },
        "sinkhorn": sinkhorn,
        "flagged": {"faulty": epoch, "noisy": 0},
        "mean_weight": 0.99,
        "best": epoch <= 2,
    }
