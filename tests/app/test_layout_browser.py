"""What can be read and pressed in both themes and on a narrow window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import record
from serving import chromium, in_a_browser, serve
from test_browser import Visit

from fairvlm_core.runs import RunStore

pytestmark = in_a_browser
CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
PAGES = (
    "",
    "Data",
    "Fine_tune",
    "Fine_tune?view=Watch",
    "Bad_pairs",
    "Loss_and_Sinkhorn",
    "Compare_runs",
    "Review",
    "Story",
)


@pytest.fixture(scope="module")
def address(_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    workspace = tmp_path_factory.mktemp("layout") / "workspace"
    shutil.copytree(_runs, workspace)
    for run in RunStore(workspace).runs():
        record(run)
    with serve(workspace) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


def opened(browser, width: int = 1280, theme: str = "light") -> Visit:
    return Visit(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser, address: str, theme: str) -> None:
    visit = opened(browser, theme=theme)
    faint = {}
    for path in PAGES:
        visit.open(f"{address}/{path}")
        faint |= {path: found} if (found := visit.page.evaluate(CONTRAST)) else {}
    assert faint == {}


def test_a_narrow_window_cuts_nothing_off(browser, address: str) -> None:
    visit = opened(browser, width=820)
    for path in ("", "Bad_pairs"):
        visit.open(f"{address}/{path}")
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.innerText)"
        assert visit.page.locator("[data-testid=stMetricValue], [data-testid=stMetricValue] *").evaluate_all(cut) == []
        hidden = (
            "all => all.filter(one => one.getBoundingClientRect().right > one.closest('[data-testid=stMain]')"
            ".getBoundingClientRect().right).map(one => one.innerText)"
        )
        assert visit.page.locator("[data-testid=stMain] [data-testid=stButtonGroup] button").evaluate_all(hidden) == []
    visit.open(f"{address}/Loss_and_Sinkhorn")
    visit.page.wait_for_selector(".slider-rail-touch-rect")
    pause, slider = (
        visit.page.locator(name).last.bounding_box() for name in (".updatemenu-button", ".slider-container")
    )
    assert pause["y"] + pause["height"] <= slider["y"]
