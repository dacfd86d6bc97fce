"""A fine-tune launched, watched to its end, and one cancelled, in a real browser."""

from __future__ import annotations

import os

import psutil
import pytest
from serving import in_a_browser
from test_browser import Served, Visit, browser, contexts, served, visit  # noqa: F401 - fixtures

from fairvlm_core.runs import RunStore

pytestmark = [*in_a_browser, pytest.mark.timeout(900)]
PATIENCE = 240_000


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left(served: Served):  # noqa: F811
    """The workers that the page started serve the workspace of this test alone; they are ended with it."""
    yield
    for process in psutil.process_iter():
        try:
            if process.environ().get("FAIRVLM_WORKSPACE") == str(served.workspace) and _is_job(process):
                process.kill()
        except psutil.Error:
            continue


def _is_job(process: psutil.Process) -> bool:
    line = " ".join(process.cmdline())
    return process.pid != os.getpid() and ("fairvlm_core work" in line or "multiprocessing" in line)


def _set_up(visit: Visit, served: Served, epochs: int, seed: str) -> None:  # noqa: F811
    visit.open(f"{served.address}/Fine_tune?view=Set+up")
    visit.page.get_by_label("Epochs", exact=True).fill(str(epochs))
    visit.page.get_by_label("Epochs", exact=True).press("Enter")
    visit.settle()
    visit.page.get_by_label("Seeds", exact=True).fill(seed)
    visit.page.get_by_label("Seeds", exact=True).press("Enter")
    visit.settle()


def _shown(visit: Visit, words: str) -> None:  # noqa: F811
    visit.page.get_by_text(words).first.wait_for(timeout=PATIENCE)


def test_a_fine_tune_is_launched_and_watched_until_it_has_figures(served: Served, visit: Visit) -> None:  # noqa: F811
    _set_up(visit, served, epochs=2, seed="11")
    visit.page.get_by_role("button", name="Launch").click()
    _shown(visit, "Queue: 1 run")
    assert "view=Watch" in visit.page.url
    top = visit.page.locator(".js-plotly-plot").first
    top.wait_for(timeout=PATIENCE)
    before = top.bounding_box()["height"]
    _shown(visit, "Test AUC")
    run = RunStore(served.workspace).runs()[-1]
    assert (run.config.seed, run.config.epochs, run.status.state) == (11, 2, "finished")
    assert f"run={run.id}" in visit.page.url
    assert f"{run.report()['test']['overall']['auc']:.3f}" in visit.text()
    same = "height => document.querySelector('.js-plotly-plot')?.getBoundingClientRect().height === height"
    visit.page.wait_for_function(same, arg=before, timeout=PATIENCE)  # nothing jumped
    visit.page.get_by_role("link", name="Compare runs").last.click()
    visit.page.wait_for_selector("h1:has-text('Compare runs')")
    assert run.id in visit.page.url


def test_a_run_is_cancelled_from_the_page_and_goes_on(served: Served, visit: Visit) -> None:  # noqa: F811
    _set_up(visit, served, epochs=5000, seed="12")
    visit.page.get_by_role("button", name="Launch").click()
    _shown(visit, " of 5000 · step ")
    run = RunStore(served.workspace).runs()[-1]
    child = psutil.Process(run.status.pid)
    _press(visit, "Cancel", then="Resume")
    assert run.status.state == "cancelled"
    assert not child.is_running()
    _press(visit, "Resume", then="Cancel")
    assert run.status.state in ("queued", "running")
    _press(visit, "Cancel", then="Resume")
    assert run.status.state == "cancelled"
    assert (run.path / "log.txt").read_text().count("put into the queue again") == 1


def _press(visit: Visit, name: str, then: str) -> None:  # noqa: F811
    """Press the last button of a name and wait for the one that takes its place."""
    visit.page.get_by_role("button", name=name, exact=True).last.click()
    visit.page.get_by_role("button", name=then, exact=True).last.wait_for(timeout=PATIENCE)
    visit.settle()
