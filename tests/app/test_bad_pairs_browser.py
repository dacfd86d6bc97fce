"""The workbench in a real browser: a loop on the map, sliders, rows, the keyboard, and notes that try to do harm."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from serving import in_a_browser, serve
from test_bad_pairs import PAGE, add_bench_run, flagged_by_hand, planted_losses
from test_browser import BAD_NOTE, Visit, browser, contexts, visit  # noqa: F401 - fixtures

from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore

pytestmark = in_a_browser
ADDRESS = PAGE.partition("_")[2].removesuffix(".py")


@pytest.fixture(scope="module")
def served(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with two runs: on the built-in data, and on data whose every note and half of whose groups are hostile."""
    place = tmp_path_factory.mktemp("served")
    store = RunStore(place / "workspace")
    add_bench_run(store, PairTable.read(data_folder))
    hostile = place / "hostile"
    shutil.copytree(data_folder, hostile)
    frame = pd.read_csv(hostile / "manifest.csv", dtype=str, keep_default_na=False)
    frame["text"] = BAD_NOTE
    frame.loc[frame.index % 2 == 0, "race"] = (
        "![g](http://example.invalid/g.png) <img src=http://example.invalid/h.png>"
    )
    frame.to_csv(hostile / "manifest.csv", index=False)
    add_bench_run(store, PairTable.read(hostile), seed=1)
    with serve(store.workspace) as address:
        yield f"{address}/{ADDRESS}"


def figures(visit: Visit) -> dict[str, str]:  # noqa: F811
    """The cards: title to value."""
    cards = visit.page.locator("[data-testid=stMetric]").all_inner_texts()
    return {card.split("\n")[0]: card.split("\n")[-1] for card in cards}


def map_of(visit: Visit):  # noqa: F811
    """The map's chart, scrolled into view and drawn."""
    plot = visit.page.locator(".js-plotly-plot:has(.gl-canvas)").first
    plot.scroll_into_view_if_needed()
    visit.settle()
    return plot


def loop(visit: Visit, left: float, right: float) -> None:  # noqa: F811
    """Draw a loop around a part of the map, given as shares of its width."""
    box = map_of(visit).locator(".nsewdrag").first.bounding_box()
    mouse = visit.page.mouse

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    mouse.move(*at(left, 0.04))
    mouse.down()
    for x, y in ((right, 0.04), (right, 0.96), (left, 0.96), (left, 0.06)):
        mouse.move(*at(x, y), steps=8)
    mouse.up()


def test_a_loop_on_the_map_filters_the_table_and_survives_a_slider(served, visit: Visit, table: PairTable) -> None:  # noqa: F811
    visit.open(f"{served}?run=1")
    visit.wait_for("60 of 60 training pairs")
    loop(visit, 0.02, 0.25)
    visit.wait_for("selected pairs, most suspicious first")
    n = int(re.search(r"(\d+) of (\d+) selected pairs", visit.text())[1])
    assert 0 < n < 60
    first = visit.page.evaluate("new URLSearchParams(location.search).get('pair')")
    # The training pairs lie along the left half of the map in their order: the loop holds the first of them.
    assert list(table.pair_ids[:60]).index(first) < n + 12
    chosen = visit.page.evaluate(
        "() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data || [])"
        ".filter(trace => trace.selectedpoints && trace.name !== 'in the inspector')"
        ".map(trace => trace.selectedpoints.length)"
    )
    assert sum(chosen) == n  # the others are grey
    slider = visit.page.get_by_role("slider").first
    slider.focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.wait_for_function("() => document.body.innerText.includes('2.9')")
    visit.settle()
    assert f"{n} of {n} selected pairs" in visit.text()
    visit.page.get_by_role("button", name="Clear the selection").click()
    visit.wait_for("60 of 60 training pairs")


def test_a_slider_mines_again(served, visit: Visit, table: PairTable) -> None:  # noqa: F811
    losses = planted_losses(table)
    visit.open(f"{served}?run=1")
    visit.wait_for("60 of 60 training pairs")
    assert figures(visit)["Wrong note"] == str(flagged_by_hand(losses, 3.0, 3.0)[0])
    slider = visit.page.get_by_role("slider").first
    slider.focus()
    for _ in range(25):
        visit.page.keyboard.press("ArrowLeft")
    expected = flagged_by_hand(losses, 0.5, 3.0)[0]
    visit.page.wait_for_function(
        "n => [...document.querySelectorAll('[data-testid=stMetric]')].some("
        "card => card.innerText.startsWith('Wrong note') && card.innerText.trim().endsWith('\\n' + n))",
        arg=str(expected),
    )
    visit.settle()
    assert figures(visit)["Wrong note"] == str(expected)
    visit.page.get_by_role("button", name="Back to the run's settings").click()
    visit.settle()
    assert figures(visit)["Wrong note"] == "1"


def test_a_row_opens_the_inspector_and_the_keyboard_goes_on(served, visit: Visit) -> None:  # noqa: F811
    visit.open(f"{served}?run=1")
    visit.wait_for("1 of 60")
    grid = visit.page.locator("[data-testid=stDataFrame]:visible").first
    grid.scroll_into_view_if_needed()
    first = visit.page.url
    box = grid.bounding_box()
    visit.page.mouse.click(box["x"] + 18, box["y"] + 38 + 35 * 2 + 17)  # the third row's mark
    visit.page.wait_for_function("before => location.href !== before", arg=first)
    visit.wait_for("3 of 60")
    visit.page.get_by_role("button", name="Next").focus()
    visit.page.keyboard.press("Enter")
    visit.wait_for("4 of 60")
    visit.page.keyboard.press("Control+ArrowLeft")
    visit.wait_for("3 of 60")


def test_fault_18_hostile_notes_and_groups_are_shown_and_fetch_nothing(served, visit: Visit) -> None:  # noqa: F811
    visit.open(f"{served}?run=2")
    visit.wait_for("60 of 60 training pairs")
    map_of(visit)
    visit.page.get_by_text("Findings recorded for this image").scroll_into_view_if_needed()
    visit.settle()
    assert BAD_NOTE in visit.text()
    assert visit.page.evaluate("window.taken") is None
    assert visit.page.locator("[src*=invalid], [href*=invalid]").count() == 0
    for tab in ("Images that match better", "Similar images", "Similar notes"):
        visit.page.get_by_role("tab", name=tab).click()
        visit.settle()
    assert visit.page.locator("[src*=invalid], [href*=invalid]").count() == 0
