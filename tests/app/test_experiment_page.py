"""The Experiments page: a real experiment's sentences, table and files; runs put into the queue; damaged files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from recipes import words_of
from streamlit.testing.v1 import AppTest

from fairvlm_core import PairTable
from fairvlm_core.experiment import (
    folder_of,
    make_table,
    read_experiment,
    read_stored,
    stored_experiments,
    train_missing,
)
from fairvlm_core.experiment.formats import write_formats
from fairvlm_core.runs import RunStore, State
from ui.experiment_charts import methods_chart

PAGE = "5_Experiments.py"
OpenPage = Callable[..., AppTest]
TEXT = """
title = "Two methods"
attributes = ["gender", "race"]
scores = ["zero-shot", "probe"]
[set]
epochs = 1
trainable = "head"
[methods.clip]
preset = "clip"
[methods.plus]
preset = "robustfair-plus"
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "w"))
    return RunStore(tmp_path / "w")


@pytest.fixture
def trained(store: RunStore, synth_folder: Path, tmp_path: Path):
    path = tmp_path / "two.toml"
    path.write_text(TEXT)
    experiment, table = read_experiment(path), PairTable.read(synth_folder)
    done = train_missing(experiment, table, store, processes=1)
    assert not done.failed
    return experiment


def said(app: AppTest) -> str:
    assert not app.exception, [error.value for error in app.exception]
    return words_of(app).replace("\\", "")


@pytest.mark.usefixtures("trained")
def test_the_table_is_made_on_request_and_then_shown(store: RunStore, open_page: OpenPage) -> None:
    app = open_page(PAGE)
    assert "2 of 2 runs finished" in said(app)
    assert "No experiment yet" not in said(app)
    next(button for button in app.button if button.label == "Make the table of 2 runs").click().run()
    assert (folder_of("two", store) / "table.tex").is_file()
    assert "ES-AUC by gender" in said(app)
    frame = app.dataframe[0].value
    assert list(frame["method"]) == ["clip", "plus"]
    assert {"AUC", "ES-AUC", "AUC Female"} <= set(frame.columns)


@pytest.mark.usefixtures("trained")
def test_the_stored_table_is_read(store: RunStore, open_page: OpenPage) -> None:
    stored = read_stored("two", store)
    made = make_table(stored.experiment, list(stored.runs), stored.finished, folder_of("two", store))
    write_formats(made, folder_of("two", store))
    app = open_page(PAGE)
    assert not any(button.label.startswith("Make the table") for button in app.button)
    entries = [entry for entry in made.entries if (entry.score, entry.attribute) == ("zero-shot", "race")]
    assert len(methods_chart(entries, "clip").data) == 4  # two methods, two metrics


@pytest.mark.usefixtures("trained")
def test_runs_of_a_new_experiment_are_queued(store: RunStore, open_page: OpenPage) -> None:
    app = open_page(PAGE)
    next(box for box in app.selectbox if box.key == "experiment.file").set_value("demo")
    next(field for field in app.number_input if field.key == "experiment.seeds").set_value(1)
    next(button for button in app.button if button.label == "Put the runs into the queue").click().run()
    assert not app.error, [error.value for error in app.error]
    assert "5 runs: 0 finished before, the others queued" in app.success[0].value
    assert stored_experiments(store) == ["demo", "two"]
    queued = [run for run in store.runs() if run.status.ticket is not None]
    assert len(queued) == 5
    until = time.monotonic() + 100
    while time.monotonic() < until and all(run.status.state == State.QUEUED for run in queued):
        time.sleep(0.5)
    assert any(run.status.state in (State.RUNNING, State.FINISHED) for run in queued)


@pytest.mark.usefixtures("trained")
def test_a_damaged_list_is_one_line(store: RunStore, open_page: OpenPage) -> None:
    (folder_of("two", store) / "plan.json").write_text('{"schema_version": 1, "cells": [{}]}')
    app = open_page(PAGE)
    assert not app.exception
    assert "is damaged: run the experiment again" in " ".join(error.value for error in app.error).replace("\\", "")
