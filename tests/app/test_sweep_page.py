"""The view of sweeps: empty, a study with a front, a click on a trial, a damaged journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recipes import asked, words_of
from streamlit.testing.v1 import AppTest

from fairvlm_core.jobs.detached import Detached
from fairvlm_core.runs import RunStore
from fairvlm_core.sweep import Space, place_of, read_sweep, workspace_id
from ui.sweep_charts import front_chart

optuna = pytest.importorskip("optuna")
PAGE = "2_Fine_tune.py"


def said(app: AppTest) -> str:
    assert not app.exception, [error.value for error in app.exception]
    return words_of(app).replace("\\", "")


@pytest.fixture
def study(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    """Three complete trials of two seeds each, two of them on the front; the third one's runs were deleted."""
    monkeypatch.delenv("FAIRVLM_SWEEP_STORAGE", raising=False)
    return make(workspace, "first")


def make(workspace: Path, name: str, *, partial: tuple[str, ...] = ("race",)):
    store = RunStore(workspace)
    storage = place_of(name, workspace)
    made = optuna.create_study(study_name=name, storage=storage.open(), directions=["maximize"] * 2)
    record = {
        "version": 1,
        "objectives": ["auc", "es_auc"],
        "seeds": [0, 1],
        "data": {"name": "SynthFundus", "fingerprint": "f", "n_val": 30},
        "space": Space.read(["preset=clip|robustfair|dbpm"]).to_dict(),
    }
    made.set_user_attr("fairvlm", record)
    ids = [run.id for run in store.runs()]
    by_seed = [[(0.80, 0.70), (0.82, 0.72)], [(0.84, 0.66), (0.86, 0.68)], [(0.70, 0.60), (0.90, 0.64)]]
    for i, values in enumerate(by_seed):
        runs = ids[2 * i : 2 * i + 2] or ["0099-dbpm-s0", "0100-dbpm-s1"]
        made.add_trial(
            optuna.create_trial(
                values=list(map(float, np.mean(values, axis=0))),
                params={"preset": ("clip", "robustfair", "dbpm")[i]},
                distributions={"preset": optuna.distributions.CategoricalDistribution(("clip", "robustfair", "dbpm"))},
                user_attrs={
                    "values": {str(s): list(v) for s, v in enumerate(values)},
                    "runs": {str(s): run for s, run in enumerate(runs)},
                    "workspace": workspace_id(store),
                    "partial": list(partial),
                },
            )
        )
    return storage


def test_without_a_sweep_it_says_how_to_start_one(open_page, workspace, monkeypatch) -> None:
    monkeypatch.delenv("FAIRVLM_SWEEP_STORAGE", raising=False)
    text = said(open_page(PAGE, view="Sweeps"))
    assert "No sweep yet" in text
    assert "fairvlm sweep DATA --trials 20" in text
    assert not (workspace / "sweeps").exists()


@pytest.mark.usefixtures("study")
def test_a_study_shows_its_front_with_seeds_and_intervals(open_page) -> None:
    app = open_page(PAGE, view="Sweeps")
    text = said(app)
    assert not app.error
    assert "Study first" in text
    assert "3 trials (3 complete), each the mean of 2 seeds, judged on 30 validation pairs." in text
    assert "Trials 1 and 0 are on the Pareto front of validation AUC and ES-AUC, mean over attributes." in text
    assert "ES-AUC is partial for race" in text
    frame = app.dataframe[0].value
    assert frame["Trial"].tolist() == [1, 0, 2]
    assert frame["Front"].tolist() == [True, True, False]
    assert frame["Validation auc"].tolist() == pytest.approx([0.85, 0.81, 0.80])
    assert set(frame["Seeds"]) == {2}
    # 0.85 ± 12.706 · 0.01414 / √2 = 0.85 ± 0.1271
    assert frame["95 % over seeds, auc"].iloc[0] == "0.723 to 0.977"


def test_the_chart_holds_every_trial_with_its_interval(study) -> None:
    found = read_sweep(study)
    points = found.points(0, 1)
    assert points["front"].tolist() == [True, True, False]
    chart = front_chart(points, "AUC", "ES-AUC", stepped=True)
    line, beaten, best = chart.data
    assert list(line.x) == [0.81, 0.85]
    assert (list(beaten.customdata), list(best.customdata)) == ([2], [0, 1])
    assert (beaten.text, best.text) == (("2 · 2 seeds",), ("0 · 2 seeds", "1 · 2 seeds"))
    tied = front_chart(points.assign(x=0.8, y=0.7, front=True), "AUC", "ES-AUC", stepped=True)
    assert tied.data[2].text == ("0, 1, 2 · 2 seeds", "", "")
    assert best.error_x.array[1] == pytest.approx(12.7062 * np.std([0.84, 0.86], ddof=1) / np.sqrt(2), abs=1e-4)
    assert chart.layout.xaxis.title.text == "Validation AUC"
    assert chart.layout.yaxis.title.text == "Validation ES-AUC"


def test_a_trial_leads_to_its_runs_in_this_workspace_alone(study, workspace) -> None:
    found, own = read_sweep(study), workspace_id(RunStore(workspace))
    known = [run.id for run in RunStore(workspace).runs()]
    assert found.runs_of([1], own, known) == ["0003-robustfair-s0", "0004-robustfair-s1"]
    assert found.runs_of([2], own, known) == []  # deleted
    assert found.runs_of([1], "another", known) == []


@pytest.mark.usefixtures("study")
def test_a_click_opens_the_runs_in_compare(open_page, monkeypatch) -> None:
    """A browser sends what was clicked; here the chart answers as it would."""
    import streamlit as st

    from ui import sweep_page

    real = st.plotly_chart

    def clicked(*arguments, **options):
        real(*arguments, **options)
        return {"selection": {"points": [{"customdata": 1}]}}

    monkeypatch.setattr(sweep_page.st, "plotly_chart", clicked)
    app = open_page(PAGE, view="Sweeps")
    monkeypatch.setattr(sweep_page.st, "plotly_chart", real)
    assert app.title[0].value == "Compare runs"
    assert asked(app, "run") == ["0003-robustfair-s0", "0004-robustfair-s1"]


def test_a_damaged_journal_is_one_line(open_page, study) -> None:
    study.journal.write_text("{not json}\n{}\n")
    app = open_page(PAGE, view="Sweeps")
    assert "first.journal is damaged" in said(app)
    assert len(app.error) == 1


def test_a_sweep_is_started_from_the_page(open_page, workspace, monkeypatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(Detached, "start", lambda self, command: started.append([str(self.log), *command[3:]]))
    app = open_page("2_Fine_tune.py", view="Sweeps")
    app.text_input(key="sweep.params").input("fairness.weight=0.1..1 epochs=1|2")
    app.number_input(key="sweep.trials").set_value(3)
    next(button for button in app.button if button.label == "Start").click().run()
    (asked,) = started
    assert asked[0].endswith("sweeps/sweep.log")
    assert asked[1] == "sweep"
    assert asked[3:] == [
        "--study", "sweep", "--trials", "3", "--seeds", "1", "--param", "fairness.weight=0.1..1", "--param", "epochs=1|2",
        "--workspace", str(workspace.resolve()),
    ]  # fmt: skip
    app.text_input(key="sweep.study").input("../x")
    next(button for button in app.button if button.label == "Start").click().run()
    assert "use letters" in app.error[0].value
