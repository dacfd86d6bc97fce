"""Cached reads of what training recorded: per-pair values, and the lines of metrics.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from fairvlm_core.analysis.loss_distributions import (
    Distributions,
    History,
    QuantileShift,
    distributions,
    quantile_shifts,
    run_history,
)
from fairvlm_core.runs import Run

from .reads import Stamp, stamp


def run_metrics(run: Run) -> list[dict[str, Any]]:
    """The epochs of a run so far; empty where there are none or they cannot be read."""
    return _metrics(str(run.path), stamp(run.files.metrics))


def pair_history(run: Run, quantity: str) -> History:
    """A quantity of every training pair by epoch, with the groups of the pairs."""
    return _history(str(run.path), stamp(run.files.ledger), quantity)


def group_distributions(run: Run, attribute: str, quantity: str) -> Distributions:
    """Densities by group for all epochs."""
    return _distributions(str(run.path), stamp(run.files.ledger), attribute, quantity)


def quantile_differences(run: Run, attribute: str, quantity: str, epoch: int) -> list[QuantileShift]:
    """Quantiles of each group minus everyone's at an epoch, with bootstrap bands."""
    return _shifts(str(run.path), stamp(run.files.ledger), attribute, quantity, epoch)


# The stamp of a file is part of each key: a changed file is read again.


@st.cache_data(max_entries=512, show_spinner=False)
def _metrics(path: str, stamps: Stamp) -> list[dict[str, Any]]:  # noqa: ARG001
    return [line for line in Run(Path(path)).metrics() if {"epoch", "sinkhorn", "val", "best"} <= set(line)]


# Frozen and up to some hundred megabytes: one object for all sessions instead of a pickled copy for each.
@st.cache_resource(max_entries=4, show_spinner="Reading the losses …")
def _history(path: str, stamps: Stamp, quantity: str) -> History:  # noqa: ARG001
    return run_history(Run(Path(path)), quantity)


@st.cache_data(max_entries=64, show_spinner="Counting losses …")
def _distributions(path: str, stamps: Stamp, attribute: str, quantity: str) -> Distributions:  # noqa: ARG001
    return distributions(pair_history(Run(Path(path)), quantity), attribute)


@st.cache_data(max_entries=128, show_spinner=False)
def _shifts(path: str, stamps: Stamp, attribute: str, quantity: str, epoch: int) -> list[QuantileShift]:  # noqa: ARG001
    return quantile_shifts(pair_history(Run(Path(path)), quantity), attribute, epoch)
