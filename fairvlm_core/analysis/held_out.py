"""A run's predictions on the test pairs, and the fairness report on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..errors import InputError
from ..fairness import FairnessReport
from ..runs import Run

RESAMPLES = 2000
_NEEDED = ("pair_id", "patient_id", "split", "label", "score")


def fairness_of(run: Run, n_resamples: int = RESAMPLES) -> dict[str, Any]:
    """The report on a run's test predictions with intervals and chance levels, as plain values.

    The report that was stored when the run finished; computed here if it has another number of resamples.
    """
    made = run.report().get("test_with_intervals") if run.files.report.exists() else None
    if made is not None and made["settings"]["n_resamples"] == n_resamples:
        return made
    return held_out_report(held_out_rows(run.predictions(), run.id), run.data["attributes"], n_resamples).to_dict()


def held_out_rows(predictions: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """The test pairs of a run's predictions, in the order of their ids, so that runs can be paired.

    Raises
    ------
    InputError
        A column is missing; `run_id` is named.
    """
    missing = [name for name in _NEEDED if name not in predictions]
    if missing:
        raise InputError(f"run {run_id}: predictions.parquet has no column {missing[0]!r}; train the run again")
    test = predictions[predictions["split"].astype(str) == "test"]
    return test.sort_values("pair_id", kind="stable").reset_index(drop=True)


def held_out_report(test: pd.DataFrame, attributes: Sequence[str], n_resamples: int = RESAMPLES) -> FairnessReport:
    """The report on test pairs as from `held_out_rows`, with intervals and chance levels, by patient."""
    return FairnessReport.from_predictions(
        test["label"].to_numpy(),
        test["score"].to_numpy(float),
        {name: test[name].astype(str).to_numpy() for name in attributes},
        patients=test["patient_id"].astype(str).to_numpy(),
        n_resamples=n_resamples,
        n_permutations=n_resamples,
    )
