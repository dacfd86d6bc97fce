"""Hand-made runs with known metrics, and the text of a page, for the tests of the app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from streamlit.testing.v1 import AppTest

from fairvlm_core import safeio
from fairvlm_core.config import RunConfig
from fairvlm_core.fairness import FairnessReport
from fairvlm_core.pairs import PairTable
from fairvlm_core.processes import process_of
from fairvlm_core.runs import Run, RunStore, now

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as `streamlit run app.py` does
TIMEOUT = 60


def add_run(store: RunStore, table: PairTable, preset: str, seed: int, *, shift: float = 2.0, **settings: Any) -> Run:
    """A finished run whose scores are the label times `shift` plus noise that all runs of a seed share."""
    config = RunConfig.build(preset, {"seed": seed, "epochs": 2} | settings)
    data = {
        "folder": str(table.root),
        "read_options": {},
        "fingerprint": table.fingerprint,
        "name": table.info.name,
        "prompts": list(table.info.prompts),
        "attributes": list(table.attributes),
        "n": {},
        "warnings": [],
    }
    run = store.create(config, data, table.frame[["pair_id", "patient_id", "split", "label", *table.attributes]])
    held_out = table.frame[table.frame["split"] != "train"].reset_index(drop=True)
    noise = np.random.default_rng(seed).normal(size=len(held_out))
    predictions = held_out[["pair_id", "patient_id", "split", "label"]].copy()
    predictions["score"] = 1 / (1 + np.exp(-(shift * (predictions["label"].to_numpy() - 0.5) + noise)))
    predictions["probe_score"] = predictions["score"]
    for name in table.attributes:
        predictions[name] = held_out[name].astype(str)
    run.write_parquet(run.files.predictions, predictions)
    safeio.write_json(
        run.path / "report.json",
        {"schema_version": 1, "best_epoch": 2, "test": report_of(predictions, table), "val": {}, "probe": None},
    )
    run.set_status(state="finished", epoch=2, message="finished", finished=now())
    return run


def report_of(predictions: pd.DataFrame, table: PairTable) -> dict[str, Any]:
    test = predictions[predictions["split"] == "test"]
    return FairnessReport.from_predictions(
        test["label"].to_numpy(), test["score"].to_numpy(), {a: test[a].to_numpy(str) for a in table.attributes},
        n_resamples=0, n_permutations=0,
    ).to_dict()  # fmt: skip


def set_running(run: Run, epoch: int = 1) -> None:
    """Give a run the state of one that this process trains."""
    for name in ("predictions.parquet", "report.json"):
        (run.path / name).unlink(missing_ok=True)
    run.set_status(state="running", epoch=epoch, message=f"epoch {epoch} of 2", finished=None, **process_of().record())


def words_of(app: AppTest) -> str:
    """All text of a page."""
    parts = [app.title, app.subheader, app.markdown, app.caption, app.text, app.error, app.warning, app.info, app.code]
    return "\n".join(str(element.value) for elements in parts for element in elements)


def asked(app: AppTest, name: str) -> list[str]:
    """The values of one name in the address, in their order."""
    value = app.query_params.get(name, [])
    return [value] if isinstance(value, str) else list(value)


def methods_table(app: AppTest) -> pd.DataFrame:
    """The table of methods on the page that compares runs."""
    return next(frame.value for frame in app.dataframe if {"Method", "Seeds", "Test AUC"} <= set(frame.value.columns))
