"""Epoch slider and play, and a report that is saved and opened, in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import record
from serving import chromium, in_a_browser, serve
from test_browser import Visit

from fairvlm_core.runs import RunStore

pytestmark = in_a_browser


@pytest.fixture(scope="module")
def address(_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on a free port, with four runs that recorded their losses."""
    workspace = tmp_path_factory.mktemp("served") / "workspace"
    shutil.copytree(_runs, workspace)
    store = RunStore(workspace)
    for run in store.runs():
        record(run)
    with serve(workspace) as address:
        yield address


@pytest.fixture(scope="module")
def context() -> Iterator:
    with chromium() as browser:
        yield browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)


@pytest.fixture
def visit(context) -> Iterator[Visit]:
    visit = Visit(context.new_page())
    yield visit
    visit.page.close()
    assert visit.outside == []
    assert visit.errors == []


def outlines(visit: Visit) -> list[str]:
    return visit.page.evaluate("[...document.querySelectorAll('.js-line')].map(line => line.getAttribute('d'))")


def epoch(visit: Visit) -> str:
    return visit.page.locator(".slider-label").first.text_content()


def wait_for_epoch(visit: Visit, number: int) -> None:
    visit.page.wait_for_function(
        "text => document.querySelector('.slider-label').textContent === text", arg=f"Epoch {number}", timeout=10_000
    )
    visit.page.wait_for_timeout(600)  # the transition into it


def test_the_slider_and_play_move_through_the_epochs(visit: Visit, address: str) -> None:
    sent: list[object] = []
    visit.page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    visit.open(f"{address}/Loss_and_Sinkhorn?run=3&attribute=gender")
    assert sent  # what a run of the page looks like
    visit.page.wait_for_selector(".slider-rail-touch-rect")
    assert epoch(visit) == "Epoch 3"
    last = outlines(visit)
    sent.clear()
    visit.page.locator(".slider-rail-touch-rect").scroll_into_view_if_needed()
    rail = visit.page.locator(".slider-rail-touch-rect").bounding_box()
    visit.page.mouse.click(rail["x"] + 2, rail["y"] + rail["height"] / 2)
    wait_for_epoch(visit, 1)
    first = outlines(visit)
    assert first != last
    visit.page.locator(".updatemenu-button").first.click()
    wait_for_epoch(visit, 3)
    assert outlines(visit) == last
    assert sent == []  # the server was asked for nothing


def test_the_quantile_slider_works_with_the_keyboard(visit: Visit, address: str) -> None:
    visit.open(f"{address}/Loss_and_Sinkhorn?run=3&attribute=gender&view=Quantiles")
    visit.wait_for("Farthest from everyone")
    before = outlines(visit)
    knob = visit.page.get_by_role("slider").first
    knob.focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.wait_for_function(
        "before => [...document.querySelectorAll('.js-line')].map(l => l.getAttribute('d')).join() !== before",
        arg=",".join(before),
    )
    visit.settle()


@pytest.mark.parametrize("view", ["Divergence+over+training", "Distance+and+fairness"])
def test_the_other_views_open_by_their_address(visit: Visit, address: str, view: str) -> None:
    visit.open(f"{address}/Loss_and_Sinkhorn?run=3&attribute=gender&view={view}")
    visit.page.wait_for_selector(".js-plotly-plot .scatterlayer")
    visit.settle()
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if "fairness" in view:
        assert re.search(r"The divergence .* ES-AUC changed by", visit.text())


def test_a_report_is_previewed_saved_and_opened(visit: Visit, address: str, tmp_path: Path) -> None:
    visit.open(f"{address}/Report?run=3")
    frame = visit.page.frame_locator("iframe").first
    frame.get_by_role("heading", name="Test results").wait_for(timeout=30_000)
    saved = {}
    for label in ("Download HTML", "Download JSON"):
        with visit.page.expect_download() as waiting:
            visit.page.get_by_role("button", name=label).click()
        saved[label] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(saved[label])
    assert [path.name for path in saved.values()] == [
        "0003-robustfair-s0-report.html",
        "0003-robustfair-s0-report.json",
    ]
    context = visit.page.context.browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(saved["Download HTML"].as_uri())
    assert "0003-robustfair-s0" in page.inner_text("h1")
    assert asked == [saved["Download HTML"].as_uri()]
    context.close()
