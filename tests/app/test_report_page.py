"""The report page in every state of a workspace."""

from __future__ import annotations

import json

import pytest
from recipes import add_run, set_running, words_of
from recorded import record

from fairvlm_core.report import ReportOptions, build_content, render_html
from fairvlm_core.runs import RunStore
from ui import report

PAGE = "8_Report.py"


@pytest.fixture
def recorded_workspace(workspace):
    for run in RunStore(workspace).runs():
        record(run)
    return workspace


def plain(app) -> str:
    return words_of(app).replace("\\", "").replace("\u2060", "")


def preview(app) -> str:
    """The HTML in the frame."""
    return app.get("iframe")[0].proto.srcdoc


def test_an_empty_workspace_says_what_to_do(open_page, empty_workspace) -> None:
    app = open_page(PAGE)
    assert "fairvlm report latest" in app.code[0].value
    assert not app.error
    assert not empty_workspace.exists()


@pytest.mark.usefixtures("recorded_workspace")
def test_the_preview_is_the_file(open_page) -> None:
    app = open_page(PAGE, run=["3"])
    assert not app.error, [error.value for error in app.error]
    html = preview(app)
    assert "0003-robustfair-s0" in html
    assert "Comparison with run 0001-clip-s0" in html  # of another method, the same seed
    baseline = app.main.selectbox[0]
    assert baseline.options == ["no baseline", "1 · clip · seed 0", "2 · clip · seed 1", "4 · robustfair · seed 1"]
    baseline.select("").run()
    assert "Comparison with run" not in preview(app)


def test_options_reach_the_report(open_page, recorded_workspace) -> None:
    app = open_page(PAGE, run=["1"])
    assert "rows of the data card are hidden" in plain(app)
    app.number_input[0].set_value(0).run()
    assert "No group is hidden" in plain(app)
    assert "withheld</td>" not in preview(app)
    content = report.report_content(RunStore(recorded_workspace).get("1"), None, ReportOptions(min_cell=0))
    listed = [row["pair_id"] for row in content["mining"]["pairs"]]
    assert all(pair_id in preview(app) for pair_id in listed)
    app.checkbox[0].uncheck().run()
    assert app.checkbox[1].disabled
    assert not any(f">{pair_id}<" in preview(app) for pair_id in listed)


@pytest.mark.usefixtures("recorded_workspace")
def test_notes_are_asked_for_and_labelled(open_page) -> None:
    app = open_page(PAGE, run=["1"])
    assert "contains full clinical notes" not in preview(app)
    assert not app.warning
    app.checkbox[1].check().run()
    assert "contains full clinical notes" in preview(app)
    assert "patient data" in app.warning[0].value


def test_json_and_html_come_from_one_content(recorded_workspace) -> None:
    content = build_content(RunStore(recorded_workspace).get("1"), options=ReportOptions(n_resamples=50))
    assert json.loads(report.json_of(content)) == content
    assert render_html(json.loads(report.json_of(content))) == render_html(content)


def test_one_run_has_no_baseline(open_page, tmp_path, monkeypatch, table) -> None:
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "one"))
    record(add_run(RunStore(tmp_path / "one"), table, "clip", 0))
    app = open_page(PAGE)
    assert app.main.selectbox[0].options == ["no baseline"]
    assert "0001-clip-s0" in preview(app)


def test_a_run_at_work_has_none_yet(open_page, recorded_workspace) -> None:
    set_running(RunStore(recorded_workspace).get("4"))
    app = open_page(PAGE, run=["4"])
    assert "has not finished (running)" in plain(app)
    assert not app.get("iframe")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"{", "is damaged"),
        ("predictions.parquet", b"PAR1", "predictions.parquet is damaged"),
        ("ledger.parquet", None, "no ledger.parquet"),
        ("environment.json", b"[1", "cannot be read"),
    ],
)
def test_a_damaged_run_is_one_clear_line(open_page, recorded_workspace, file: str, content, said: str) -> None:
    path = RunStore(recorded_workspace).get("3").path / file
    path.unlink() if content is None else path.write_bytes(content)
    app = open_page(PAGE, run=["3"])
    assert len(app.error) == 1
    assert said in app.error[0].value.replace("\\", "")
