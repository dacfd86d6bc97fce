"""Cached reads of what training recorded: per-pair values, and the lines of metrics.jsonl."""

from __future__ import annotations

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

from .reads import by_files


@st.cache_data(max_entries=512, show_spinner=False, hash_funcs=by_files("metrics"))
def run_metrics(run: Run) -> list[dict[str, Any]]:
    """The epochs of a run so far; empty where there are none or they cannot be read."""
    return [line for line in run.metrics() if {"epoch", "sinkhorn", "val", "best"} <= set(line)]


# Frozen and up to some hundred megabytes: one object for all sessions instead of a pickled copy for each.
@st.cache_resource(max_entries=4, show_spinner="Reading the losses …", hash_funcs=by_files("ledger"))
def pair_history(run: Run, quantity: str) -> History:
    """A quantity of every training pair by epoch, with the groups of the pairs."""
    return run_history(run, quantity)


@st.cache_data(max_entries=64, show_spinner="Counting losses …", hash_funcs=by_files("ledger"))
def group_distributions(run: Run, attribute: str, quantity: str) -> Distributions:
    """Densities by group for all epochs."""
    return distributions(pair_history(run, quantity), attribute)


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=by_files("ledger"))
def quantile_differences(run: Run, attribute: str, quantity: str, epoch: int) -> list[QuantileShift]:
    """Quantiles of each group minus everyone's at an epoch, with bootstrap bands."""
    return quantile_shifts(pair_history(run, quantity), attribute, epoch)
