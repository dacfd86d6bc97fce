"""Curves of one run over its epochs, from its lines of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .divergences import group_divergences, recorded

CURVES = ("epoch", "train_loss", "val_loss", "auc", "es_auc", "faulty", "noisy")


def training_curves(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row an epoch: the `CURVES`. AUC and ES-AUC (mean over attributes) are of validation; the flags are counts."""
    rows = []
    for line in lines:
        known = [facts["es_auc"] for facts in line["val"]["attributes"].values() if facts["es_auc"] is not None]
        es_auc = float(np.mean(known)) if known else None
        flagged = line["flagged"]
        head = (line["epoch"], line["train_loss"], line["val_loss"], line["val"]["overall"]["auc"], es_auc)
        rows.append((*head, flagged["faulty"], flagged["noisy"]))
    return pd.DataFrame(rows, columns=list(CURVES))


def divergence_curves(lines: Sequence[Mapping[str, Any]], quantity: str = "loss") -> pd.DataFrame:
    """Distance of each attribute's groups above chance (mean over them) by epoch: attribute, epoch, value.

    By the weights where these were recorded (`divergences.recorded`).
    """
    counted = recorded(lines)
    rows = [
        (one.attribute, line["epoch"], one.distance)
        for line in lines
        for one in group_divergences(line, quantity, counted)
    ]
    frame = pd.DataFrame(rows, columns=["attribute", "epoch", "value"])
    return frame.groupby(["attribute", "epoch"], as_index=False, sort=False)["value"].mean()
