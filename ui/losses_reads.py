"""Cached reads of what training recorded: per-pair values, and the lines of metrics.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import streamlit as st

from fairvlm_core.errors import InputError
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.runs import SCHEMA_VERSION, Run
from fairvlm_core.safeio import check_version

from .losses import History, QuantileShift, Ridges, history, quantile_shifts, ridges
from .reads import Stamp, stamp


def run_metrics(run: Run) -> list[dict[str, Any]]:
    """The epochs of a run so far; empty where there are none or they cannot be read."""
    return _metrics(str(run.path), stamp(run.path / "metrics.jsonl"))


@st.cache_data(max_entries=512, show_spinner=False)
def _metrics(path: str, stamps: Stamp) -> list[dict[str, Any]]:  # noqa: ARG001 - the stamp is part of the key
    return [line for line in Run(Path(path)).metrics() if {"epoch", "sinkhorn", "val", "best"} <= set(line)]


def pair_history(run: Run, quantity: str) -> History:
    """A quantity of every training pair by epoch, with the groups of the pairs."""
    return _history(str(run.path), stamp(run.path / "ledger.parquet"), quantity)


# Frozen and up to some hundred megabytes: one object for all sessions instead of a pickled copy for each.
@st.cache_resource(max_entries=4, show_spinner="Reading the losses …")
def _history(path: str, stamps: Stamp, quantity: str) -> History:  # noqa: ARG001
    run = Run(Path(path))
    kept = history(_channel(run, quantity), run.pairs(), run.data["attributes"], quantity)
    if not kept.epochs:
        raise InputError(
            f"run {run.id}: ledger.parquet holds no whole epoch yet; open the page again after the first one"
        )
    return kept


def _channel(run: Run, quantity: str) -> PairLossLedger:
    """One channel of a run's ledger; the others stay on disk."""
    path = run.path / "ledger.parquet"
    try:
        names = [name for name in pq.read_schema(path).names if name.rpartition("_")[0] == quantity]
        frame = pd.read_parquet(path, columns=["pair_id", *names])
    except FileNotFoundError:
        raise InputError(f"run {run.id} has no ledger.parquet yet (state: {run.status.state})") from None
    except Exception as error:
        raise InputError(f"run {run.id}: ledger.parquet is damaged ({type(error).__name__})") from error
    check_version(frame.attrs.pop("schema_version", 1), SCHEMA_VERSION, f"{run.id}/ledger.parquet")
    if not names:
        raise InputError(f"run {run.id}: ledger.parquet has no {quantity}; train the run again")
    return PairLossLedger.from_frame(frame)


def ridge_lines(run: Run, attribute: str, quantity: str) -> Ridges:
    """Densities by group for all epochs."""
    return _ridges(str(run.path), stamp(run.path / "ledger.parquet"), attribute, quantity)


@st.cache_data(max_entries=64, show_spinner="Counting losses …")
def _ridges(path: str, stamps: Stamp, attribute: str, quantity: str) -> Ridges:  # noqa: ARG001
    return ridges(pair_history(Run(Path(path)), quantity), attribute)


def quantile_differences(run: Run, attribute: str, quantity: str, epoch: int) -> list[QuantileShift]:
    """Quantiles of each group minus everyone's at an epoch, with bootstrap bands."""
    return _shifts(str(run.path), stamp(run.path / "ledger.parquet"), attribute, quantity, epoch)


@st.cache_data(max_entries=128, show_spinner=False)
def _shifts(path: str, stamps: Stamp, attribute: str, quantity: str, epoch: int) -> list[QuantileShift]:  # noqa: ARG001
    return quantile_shifts(pair_history(Run(Path(path)), quantity), attribute, epoch)
