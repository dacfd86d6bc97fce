"""Every page from the entry point: empty, one run, several, one at work, damaged ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from recipes import add_run, asked, methods_table, set_running, words_of

from fairvlm_core import safeio
from fairvlm_core.errors import InputError
from fairvlm_core.jobs import demo
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore

DATA, COMPARE = "1_Data.py", "6_Compare_runs.py"
PAGES = (None, DATA, COMPARE)


# An empty workspace


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_workspace_says_what_to_do(open_page, empty_workspace, page) -> None:
    app = open_page(page)
    assert "fairvlm" in "\n".join(code.value for code in app.code)
    assert not app.error
    assert not empty_workspace.exists()  # looking makes nothing


def test_the_demo_starts_once_and_outlives_the_page(open_page, empty_workspace) -> None:
    script = "import time; print('making the data', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", script]
    demo.start_demo(empty_workspace, command)
    try:
        for _ in range(100):
            status = demo.demo_status(empty_workspace)
            if status.lines:
                break
            time.sleep(0.05)
        assert status.state == "running"
        assert status.lines == ("making the data",)
        with pytest.raises(InputError, match="already runs"):
            demo.start_demo(empty_workspace, command)
        app = open_page()
        assert "The demo is running" in words_of(app)
        assert "making the data" in words_of(app)
        assert "overview.demo" not in [button.key for button in app.button]
    finally:
        process = psutil.Process(safeio.read_json(empty_workspace / "demo.json")["pid"])
        assert process.pid != psutil.Process().pid
        process.kill()
        process.wait(10)
    assert demo.demo_status(empty_workspace).state == "ended"
    app = open_page()
    assert "ended without a run" in words_of(app)
    assert "overview.demo" in [button.key for button in app.button]


def test_the_demo_is_the_command_line_of_this_python(tmp_path) -> None:
    command = demo.demo_command(tmp_path)
    assert command[0] == sys.executable
    done = subprocess.run([*command[:4], "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(option in done.stdout for option in command[4:6])


def test_a_damaged_demo_record_counts_as_none(empty_workspace) -> None:
    empty_workspace.mkdir()
    (empty_workspace / "demo.json").write_text('{"pid": "x"')
    assert demo.demo_status(empty_workspace).state == "none"


# Runs


def test_overview_shows_runs_figures_and_the_next_step(open_page, workspace) -> None:
    app = open_page()
    runs = RunStore(workspace).runs()
    test = runs[-1].report()["test"]
    assert app.metric[0].value == f"{test['overall']['auc']:.3f}"
    assert [metric.label for metric in app.metric][1:] == [f"ES\\-AUC, {name}" for name in test["attributes"]]
    frame = app.dataframe[0].value
    assert frame["Run"].tolist() == [run.id for run in reversed(runs)]
    assert frame["State"].map(list).tolist() == [["finished"]] * 4
    assert "can be compared" in words_of(app)


def test_the_run_in_the_address_is_shown_cold(open_page, workspace) -> None:
    app = open_page(run=["0001-clip-s0"])
    assert app.sidebar.selectbox[0].value == "0001-clip-s0"
    test = RunStore(workspace).get("1").report()["test"]
    assert app.metric[0].value == f"{test['overall']['auc']:.3f}"
    app.sidebar.selectbox[0].select("0003-robustfair-s0").run()
    assert asked(app, "run") == ["0003-robustfair-s0"]
    test = RunStore(workspace).get("3").report()["test"]
    assert app.metric[0].value == f"{test['overall']['auc']:.3f}"


@pytest.mark.usefixtures("workspace")
def test_a_run_that_is_not_there_is_said(open_page) -> None:
    app = open_page(run=["0099-clip-s0"])
    assert "no run 0099" in app.warning[0].value.replace("\\", "")
    assert app.metric[0].value


def test_a_run_at_work_is_followed(open_page, workspace) -> None:
    set_running(RunStore(workspace).get("4"))
    app = open_page()
    assert "is being trained (epoch 1 of 2)" in words_of(app).replace("\\", "")
    frame = app.dataframe[0].value.set_index("Run")
    assert list(frame.loc["0004-robustfair-s1", "State"]) == ["running"]
    assert frame.loc["0004-robustfair-s1", "Epochs"] == "1/2"
    app = open_page(COMPARE, run=["3", "4"])
    assert "is running: only finished runs" in words_of(app).replace("\\", "")
    assert methods_table(app)["Method"].tolist() == ["robustfair"]


DAMAGE = {
    "truncated parquet": lambda run: (run.path / "predictions.parquet").write_bytes(
        (run.path / "predictions.parquet").read_bytes()[:500]
    ),
    "no parquet": lambda run: (run.path / "predictions.parquet").unlink(),
    "no report": lambda run: (run.path / "report.json").unlink(),
    "half status": lambda run: (run.path / "status.json").write_text('{"state": "finis'),
    "no config": lambda run: (run.path / "config.json").unlink(),
    "newer schema": lambda run: safeio.write_json(
        run.path / "status.json", {"state": "finished", "schema_version": 99}
    ),
    "no folder": lambda run: shutil.rmtree(run.path),
    "empty folder": lambda run: [path.unlink() for path in run.path.iterdir()],
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_fault_23_a_damaged_run_never_takes_a_page_down(open_page, workspace, page, damage) -> None:
    run = RunStore(workspace).get("3")
    DAMAGE[damage](run)
    app = open_page(page, run=["1", "3"])
    text = words_of(app).replace("\\", "")
    assert "Traceback" not in text
    if page == COMPARE:
        named = "no run 3 in this workspace" if damage == "no folder" else run.id
        assert named in text  # and the other run is compared
        assert methods_table(app)["Method"].tolist() == ["clip"]
    elif page is None and damage not in ("no folder", "truncated parquet", "no parquet"):
        states = app.dataframe[0].value.set_index("Run")["State"]
        assert list(states[run.id]) == ["damaged"]


# Data


@pytest.mark.usefixtures("workspace")
def test_data_counts_are_those_of_the_table(open_page, table) -> None:
    app = open_page(DATA)
    assert app.metric[0].value == str(len(table))
    splits = app.dataframe[0].value.set_index("Split")
    assert splits.loc[["Training", "Validation", "Test", "All"], "Pairs"].tolist() == [60, 30, 40, 130]
    assert splits.loc["All", "Positive"] == table.labels.sum()


@pytest.mark.usefixtures("workspace")
def test_pairs_are_filtered_and_stepped_through(open_page, table) -> None:
    app = open_page(DATA, view="Browse pairs")
    assert asked(app, "pair") == [table.pair_ids[0]]
    app.button(key="data.next").click().run()
    assert asked(app, "pair") == [table.pair_ids[1]]
    assert table.frame["text"][1] in [text.value for text in app.text]
    app.multiselect(key="data.f.split").set_value(["test"])
    app.multiselect(key="data.f.label").set_value([1])
    next(button for button in app.button if button.label == "Show").click().run()
    expected = table.frame.query("split == 'test' and label == 1")["pair_id"].tolist()
    assert f"{len(expected)} of {len(table)} pairs pass" in words_of(app)
    assert f"1 of {len(expected)}" in words_of(app)
    assert asked(app, "pair") == [expected[0]]
    app.text_input(key="data.f.words").set_value("no-such-word")
    next(button for button in app.button if button.label == "Show").click().run()
    assert "No pair passes" in words_of(app)


@pytest.mark.usefixtures("workspace")
def test_a_pair_in_the_address_is_opened_with_what_was_planted(open_page, table) -> None:
    planted = table.planted()
    pair_id = planted.loc[planted["kind"] == "mismatch", "pair_id"].iloc[0]
    app = open_page(DATA, view="Browse pairs", pair=pair_id)
    row = table.pair_ids.tolist().index(pair_id)
    assert table.frame["text"][row] in [text.value for text in app.text]
    assert "planted: mismatch" in words_of(app)


@pytest.mark.usefixtures("workspace")
def test_another_folder_is_opened_or_refused_with_one_line(open_page, table, tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(table.root, other)
    app = open_page(DATA)
    for folder, line in ((tmp_path / "missing", "missing"), (tmp_path / "missing" / "..", "manifest")):
        app.text_input[0].set_value(str(folder))
        next(button for button in app.button if button.label == "Open").click().run()
        assert not app.exception
        assert len(app.error) == 1
        assert "\n" not in app.error[0].value
        assert line in app.error[0].value.replace("\\", "")
    app.text_input[0].set_value(str(other))
    next(button for button in app.button if button.label == "Open").click().run()
    assert not app.error
    assert asked(app, "folder") == [str(other)]
    assert len(app.selectbox(key="data.set").options) == 2
    again = open_page(DATA, folder=str(other))  # cold
    assert again.metric[0].value == "130"


def test_a_data_folder_that_is_gone_is_one_line(open_page, tmp_path, table, monkeypatch) -> None:
    folder = tmp_path / "data"
    shutil.copytree(table.root, folder)
    add_run(RunStore(tmp_path / "workspace"), PairTable.read(folder), "clip", 0)
    shutil.rmtree(folder)
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "workspace"))
    app = open_page(DATA)
    assert len(app.error) == 1
    assert "\n" not in app.error[0].value


def test_fault_18_a_note_is_shown_as_it_is(open_page, tmp_path, table, monkeypatch) -> None:
    note = "<script>alert(1)</script> ![x](http://example.invalid/x.png) $\\frac{1}{2}$ [a](http://example.invalid)"
    folder = tmp_path / "data"
    shutil.copytree(table.root, folder)
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[0, "text"] = note
    frame.loc[frame.index % 2 == 0, "race"] = "![g](http://example.invalid/g.png)"
    frame.to_csv(folder / "manifest.csv", index=False)
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "workspace"))
    app = open_page(DATA, folder=str(folder), view="Browse pairs")
    assert note in [text.value for text in app.text]
    for element in (*app.markdown, *app.caption, *app.warning, *app.error):
        assert "](http" not in element.value


# Compare


def test_methods_are_compared_over_seeds(open_page, workspace) -> None:
    app = open_page(COMPARE, run=["1", "2", "3", "4"])
    frame = methods_table(app)
    assert frame["Method"].tolist() == ["clip", "robustfair"]
    assert frame["Seeds"].tolist() == [2, 2]
    assert frame["n"].tolist() == [40, 40]
    assert all("±" in value for value in frame["Test AUC"])
    assert "AUC of everyone:" in words_of(app).replace("\\", "")
    assert "Paired by seed: 0 and 1." in words_of(app).replace("\\", "")
    differences = next(f.value for f in app.dataframe if "Verdict" in f.value).set_index("Metric")
    assert differences.loc["AUC, everyone", "Difference"].startswith("+")
    groups = next(f.value for f in app.dataframe if "Group" in f.value)
    assert groups.groupby("Method")["n+"].sum().nunique() == 1
    settings = next(f.value for f in app.dataframe if "Setting" in f.value)
    assert "mining.enabled" in settings["Setting"].tolist()
    assert asked(app, "run") == [run.id for run in RunStore(workspace).runs()]


@pytest.mark.usefixtures("workspace")
def test_the_selection_of_runs_goes_into_the_address(open_page) -> None:
    app = open_page(COMPARE)
    assert len(asked(app, "run")) == 4  # nothing chosen: all that can be compared
    app.multiselect(key="frame.runs").set_value(["0001-clip-s0"]).run()
    assert asked(app, "run") == ["0001-clip-s0"]
    assert methods_table(app)["Method"].tolist() == ["clip"]
    app.multiselect(key="frame.runs").set_value([]).run()
    assert "run" not in app.query_params
    assert "No run chosen" in words_of(app)


@pytest.mark.usefixtures("workspace")
def test_the_selection_survives_another_page(open_page) -> None:
    app = open_page(COMPARE, run=["2", "4"])
    app.switch_page("pages/1_Data.py").run()
    app.switch_page("pages/6_Compare_runs.py")
    app.query_params.clear()
    app.run()
    assert app.multiselect(key="frame.runs").value == ["0002-clip-s1", "0004-robustfair-s1"]


def test_runs_on_other_data_are_left_out_and_named(open_page, workspace, table) -> None:
    part = table.take(range(5, len(table)))
    add_run(RunStore(workspace), part, "dbpm", 0)
    app = open_page(COMPARE, run=["1", "5"])
    assert "is on other data" in words_of(app).replace("\\", "")
    assert methods_table(app)["Method"].tolist() == ["clip"]


# The frame


@pytest.mark.parametrize("page", [Path("app.py"), *sorted(Path("pages").glob("*.py"))], ids=str)
def test_pages_only_place(page: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    lines = (root / page).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert not [line for line in lines if line.startswith(("def ", "class "))]
    code = [line for line in lines if line and not line.startswith((" ", "from", "import", '"""', ")"))]
    # The overview's file is the server's as well.
    wanted = ['if __name__ != "__main__":', "else:"] if page.name == "app.py" else ["with page"]
    assert [line.split("(")[0].split("  #")[0] for line in code] == wanted


@pytest.mark.usefixtures("empty_workspace")
def test_real_data_with_missing_values_is_shown(open_page) -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "cxr"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data/cxr with real chest images is not there")
    app = open_page(DATA, folder=str(folder))
    assert not app.error
    assert app.dataframe[0].value.set_index("Split").loc["All", "Pairs"] == int(app.metric[0].value)
    app = open_page(DATA, folder=str(folder), view="Intake report")
    assert not app.error
    assert "Rows left out" in words_of(app)
    app = open_page(DATA, folder=str(folder), view="Browse pairs")
    assert not app.error
