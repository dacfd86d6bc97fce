"""The Fine-tune page from the entry point: empty, one run, one at work, a damaged one; bad input; a real launch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from recipes import add_run, asked, methods_table, set_running, words_of
from streamlit.testing.v1 import AppTest

from fairvlm_core import jobs, safeio
from fairvlm_core.config import RunConfig
from fairvlm_core.runs import RunStore

PAGE = "2_Fine_tune.py"
TAG = "FAIRVLM_TEST_TAG"


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever the test launches is ended with it."""
    monkeypatch.setenv(TAG, str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TAG) == str(tmp_path):
                process.kill()
        except psutil.Error:
            continue


def said(app: AppTest) -> str:
    return words_of(app).replace("\\", "")


def button(app: AppTest, label: str):
    return next(one for one in app.button if one.label == label)


def test_an_empty_workspace_says_how_to_begin(open_page, empty_workspace) -> None:
    app = open_page(PAGE)
    assert "No data set yet" in said(app)
    assert not app.error
    app = open_page(PAGE, view="Watch")
    assert "No run yet" in said(app)
    assert not empty_workspace.exists()  # looking makes nothing


def test_the_form_starts_from_a_preset_and_counts_what_it_will_cost(open_page, workspace) -> None:
    app = open_page(PAGE)
    assert not app.error
    assert app.metric[0].value == "1"
    assert app.metric[1].value == str(60 * 6)
    assert app.metric[2].value == "–"  # the runs of this workspace measured nothing
    app.text_input(key="finetune.seed").set_value("0-2")
    app.text_input(key="finetune.fairness.weight").set_value("0, 0.1, 1")
    app.number_input(key="finetune.epochs").set_value(2).run()
    assert app.metric[0].value == "9"
    assert app.metric[1].value == f"{60 * 2 * 9:,}"
    assert "Launch 9 runs" in [one.label for one in app.button]
    assert RunStore(workspace).runs()[-1].id == "0004-robustfair-s1"  # nothing was launched by looking


@pytest.mark.usefixtures("workspace")
def test_bad_input_is_one_line_and_nothing_typed_is_lost(open_page) -> None:
    app = open_page(PAGE)
    app.number_input(key="finetune.epochs").set_value(17)
    app.text_input(key="finetune.learning_rate").set_value("fast").run()
    assert len(app.error) == 1
    assert "learning_rate" in app.error[0].value.replace("\\", "")
    assert "finetune.launch" not in [one.key for one in app.button]
    assert app.text_input(key="finetune.learning_rate").value == "fast"
    assert app.number_input(key="finetune.epochs").value == 17
    app.switch_page("pages/1_Data.py").run()
    app.switch_page(f"pages/{PAGE}").run()
    assert app.number_input(key="finetune.epochs").value == 17
    app.text_input(key="finetune.learning_rate").set_value("1e-3").run()
    assert not app.error
    assert "learning_rate = 0.001" in said(app)


@pytest.mark.usefixtures("workspace")
def test_a_preset_changes_the_method_and_keeps_the_rest(open_page) -> None:
    app = open_page(PAGE)
    app.number_input(key="finetune.epochs").set_value(9).run()
    app.radio(key="finetune.preset").set_value("clip").run()
    assert app.toggle(key="finetune.mining.enabled").value is False
    assert app.text_input(key="finetune.fairness.weight").value == "0"
    assert app.number_input(key="finetune.epochs").value == 9
    app.radio(key="finetune.preset").set_value("robustfair-plus").run()
    config = RunConfig.build("robustfair-plus")
    assert app.selectbox(key="finetune.mining.rule").value == config.mining.rule
    assert app.text_input(key="finetune.fairness.weight").value == f"{config.fairness.weight:g}"


def test_a_run_at_work_is_watched_and_its_settings_are_used_again(open_page, workspace, table) -> None:
    run = add_run(RunStore(workspace), table, "dbpm", 7, epochs=3, batch_size=16)
    set_running(run)
    app = open_page(PAGE, run=[run.id])  # a deep link
    text = said(app)
    assert "Queue: 1 run" in text
    assert "Run 5 · dbpm · seed 7 · running" in text
    assert [one.label for one in app.button].count("Cancel") == 2  # in the queue and beside the run
    button(app, "Use these settings again").click().run()
    assert app.radio(key="finetune.preset").value == "dbpm"
    assert app.number_input(key="finetune.batch_size").value == 16
    assert app.text_input(key="finetune.seed").value == "7"


def test_a_finished_run_says_what_came_out(open_page, workspace) -> None:
    app = open_page(PAGE, run=["1"], view="Watch")
    test = RunStore(workspace).get("1").report()["test"]
    assert f"Test AUC {test['overall']['auc']:.3f} on 40 test pairs" in said(app)
    assert f"race {test['attributes']['race']['es_auc']:.3f}" in said(app)
    assert "Cancel" not in [one.label for one in app.button]


@pytest.mark.parametrize("view", ["Set up", "Watch"])
def test_fault_23_a_damaged_run_does_not_take_the_page_down(open_page, workspace, view) -> None:
    run = RunStore(workspace).get("3")
    (run.path / "status.json").write_text('{"state": "finis')
    app = open_page(PAGE, run=[run.id], view=view)
    if view == "Watch":
        assert "is damaged" in said(app)
    else:
        assert app.metric[0].value == "1"


def test_a_silent_process_is_said(open_page, workspace) -> None:
    run = RunStore(workspace).get("4")
    set_running(run)
    (run.path / "heartbeat").touch()
    os.utime(run.path / "heartbeat", (0, 0))
    app = open_page(PAGE, run=[run.id])
    assert "No heartbeat" in said(app)


def test_a_queue_that_nobody_serves_is_said(open_page, workspace) -> None:
    run = RunStore(workspace).get("4")
    run.set_status(state="queued", ticket=1, device="cpu", message="", pid=None)
    app = open_page(PAGE, run=[run.id])
    assert "No worker serves the queue" in said(app)
    assert "live.work" in [one.key for one in app.button]
    app = next(one for one in reversed(app.button) if one.label == "Cancel").click().run()
    assert run.status.state == "cancelled"
    assert "Resume" in [one.label for one in app.button]


@pytest.mark.usefixtures("ended")
def test_launch_watch_and_cancel(open_page, workspace) -> None:
    app = open_page(PAGE)
    app.number_input(key="finetune.epochs").set_value(5000)
    app.text_input(key="finetune.device").set_value("cpu")
    app.text_input(key="finetune.seed").set_value("3-4").run()
    button(app, "Launch 2 runs").click().run()
    assert not app.exception
    store = RunStore(workspace)
    made = store.runs()[-2:]
    assert [(run.config.seed, run.config.epochs) for run in made] == [(3, 5000), (4, 5000)]
    assert {job.run.id for job in jobs.jobs(store)} == {run.id for run in made}
    assert asked(app, "run") == [made[0].id]
    assert "Queue: 2 runs" in said(app)
    assert jobs.serving(store, "cpu") is not None
    for run in reversed(made):
        app.button(key=f"live.Cancel.queue.{run.id}").click().run()
        assert run.status.state == "cancelled"
    assert not app.exception
    assert jobs.jobs(store) == []


def test_a_run_that_ended_before_its_first_epoch_says_so_and_draws_nothing(open_page, workspace) -> None:
    run = RunStore(workspace).get("1")
    run.set_status(state="cancelled", epoch=0, message="cancelled", finished=None)
    (run.path / "metrics.jsonl").unlink(missing_ok=True)
    app = open_page("2_Fine_tune.py", view="Watch", run=[run.id])
    words = words_of(app)
    assert "after epoch 0" not in words
    assert "ended before its first epoch did" in words
    assert "No epoch was completed" in words
    assert not app.get("plotly_chart")


def test_the_comparison_of_a_finished_run_has_all_runs_and_plain_fine_tuning_as_reference(
    open_page, workspace, table
) -> None:
    store = RunStore(workspace)
    added = [add_run(store, table, "dbpm", seed, shift=2.5) for seed in range(4)]
    app = open_page("2_Fine_tune.py", view="Watch", run=[added[-1].id])
    links = [one.proto.query_string for one in app.get("page_link") if one.proto.label == "Compare runs"]
    (link,) = [link for link in links if "run=" in link]
    asked_for = [part.partition("=")[2] for part in link.split("&")]
    assert asked_for == [run.id for run in store.runs()]
    app = open_page("6_Compare_runs.py", run=asked_for)
    assert app.selectbox(key="compare.a").value == "clip"
    assert sum(methods_table(app)["Seeds"]) == 8


@pytest.fixture
def skin_folder(tmp_path: Path) -> Path:
    """24 pairs that are not SynthFundus; no note has a word of the prompts."""
    folder = tmp_path / "skin"
    folder.mkdir()
    lines = ["pair_id,image,text,label,split,sex"]
    for i in range(24):
        Image.new("RGB", (32, 32), (10 * i, 90, 40)).save(folder / f"{i}.png")
        split = ("train", "val", "test")[i // 2 % 3]
        lines.append(f"p{i},{i}.png,{('a brown nevus', 'dark melanoma')[i % 2]} {i},{i % 2},{split},{'FM'[i // 6 % 2]}")
    (folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"name": "Skin", "prompts": ["healthy tissue", "melanoma"]}))
    return folder


@pytest.mark.usefixtures("workspace")
def test_the_model_and_what_it_sets_follow_the_data_until_the_user_changes_them(open_page, skin_folder) -> None:
    app = open_page(PAGE)
    values = lambda: [app.text_input(key=f"finetune.{name}").value for name in ("model", "learning_rate")]  # noqa: E731
    assert values() == ["tiny", "0.0003"]
    assert "Model tiny for this data" in said(app)
    app.query_params["folder"] = str(skin_folder)
    app.run()
    assert values() == ["base", "1e-05"]
    assert app.selectbox(key="finetune.trainable").value == "head"
    text = said(app)
    assert "Model base for this data: it was trained on everyday images" in text
    assert "no training note contains: healthy, tissue" in text
    assert "Changed from the preset" not in text
    app.text_input(key="finetune.model").set_value("tiny").run()
    assert values() == ["tiny", "0.0003"]
    assert "the model base is usual" in said(app)
    app.text_input(key="finetune.learning_rate").set_value("0.01").run()
    app.text_input(key="finetune.model").set_value("base").run()
    assert values() == ["base", "0.01"]
    app.radio(key="finetune.preset").set_value("clip").run()
    assert app.selectbox(key="finetune.trainable").value == "head"
    assert "Changed from the preset: learning_rate = 0.01." in said(app)


def test_a_cross_validated_run_shows_its_folds_and_no_test_split(open_page, workspace, table) -> None:
    run = add_run(RunStore(workspace), table, "clip", 8, folds=3)
    folds = [
        {"fold": k, "n": 43 + k, "n_patients": 40 + k, "auc": 0.7 + k / 100, "probe_auc": None, "best_epoch": 1}
        for k in (1, 2, 3)
    ]
    safeio.write_json(run.path / "report.json", run.report() | {"folds": folds})
    app = open_page(PAGE, run=[run.id], view="Watch")
    assert "All folds together: each pair is scored by the model that did not see its patient." in said(app)
    assert "on the 40 pairs of 3 folds" in said(app)
    assert "test split" not in said(app)
    shown = next(frame.value for frame in app.dataframe if "Linear probe AUC" in frame.value)
    assert shown["Pairs"].to_list() == [44, 45, 46]
    assert shown["Zero-shot AUC"].to_list() == [0.71, 0.72, 0.73]
    assert shown["Linear probe AUC"].isna().all()
