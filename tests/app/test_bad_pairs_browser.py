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
from test_browser import BAD_NOTE, Visit, browser, contexts, press_until, visit  # noqa: F401 - fixtures

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


def loop(visit: Visit, left: float, right: float) -> None:  # noqa: F811
    """Draw a loop around a part of the map, given as shares of its width."""
    visit.page.get_by_role("button", name="Lasso").click()
    box = visit.page.locator(".board canvas").bounding_box()
    mouse = visit.page.mouse

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    mouse.move(*at(left, 0.005))
    mouse.down()
    for x, y in ((right, 0.005), (right, 0.995), (left, 0.995), (left, 0.01)):
        mouse.move(*at(x, y), steps=8)
    mouse.up()


def ring(visit: Visit) -> str:  # noqa: F811
    """The pair that is marked on the map."""
    return visit.page.locator(".board canvas").get_attribute("data-ring")


def opened(visit: Visit) -> str:  # noqa: F811
    """The pair in the inspector."""
    return visit.page.locator(".st-key-bad_pairs_inspector strong").first.inner_text()


def all_pairs(visit: Visit) -> None:  # noqa: F811
    visit.page.get_by_role("radio", name="All", exact=True).or_(
        visit.page.get_by_role("button", name="All", exact=True)
    ).first.click()
    visit.wait_for("of 60")


def test_a_loop_on_the_map_filters_the_list_and_the_ring_follows(served, visit: Visit, table: PairTable) -> None:  # noqa: F811
    visit.open(f"{served}?run=1")
    visit.wait_for("60 training pairs")
    all_pairs(visit)
    before = ring(visit)
    loop(visit, 0.02, 0.25)
    visit.wait_for("(in the loop)")
    n = int(re.search(r"(\d+) of 60 pairs \(in the loop\)", visit.text())[1])
    assert 0 < n < 60
    first = visit.page.evaluate("new URLSearchParams(location.search).get('pair')")
    # The training pairs lie along the left half of the map in their order: the loop holds the first of them.
    assert list(table.pair_ids[:60]).index(first) < n + 12
    assert ring(visit) == opened(visit) == first
    assert visit.page.locator(".one").count() == n
    visit.page.get_by_role("button", name="in the loop").click()
    visit.wait_for("60 training pairs")
    assert before is not None


def test_a_click_on_the_map_or_on_a_row_opens_the_pair_and_hovering_shows_it(served, visit: Visit) -> None:  # noqa: F811
    visit.open(f"{served}?run=1")
    all_pairs(visit)
    row = visit.page.locator(".one").nth(3)
    row.locator("p").hover()
    assert visit.page.locator(".tip").inner_text().startswith(row.get_attribute("data-id"))
    row.locator("p").click()  # on its text
    visit.page.wait_for_function("id => location.search.includes(id)", arg=row.get_attribute("data-id"))
    visit.settle()
    assert opened(visit) == ring(visit) == row.get_attribute("data-id")
    for lasso in (False, True):  # a click opens in either mode
        if lasso:
            visit.page.get_by_role("button", name="Lasso").click()
        box = visit.page.locator(".board canvas").bounding_box()
        before = visit.page.url
        # The first pair of the table lies in the lower left corner of the map.
        visit.page.mouse.click(box["x"] + (0.03 + 0.25 * lasso) * box["width"], box["y"] + 0.97 * box["height"])
        visit.page.wait_for_function("before => location.href !== before", arg=before)
        visit.settle()
        assert opened(visit) == ring(visit)


def test_the_first_wrong_note_is_in_view_with_nothing_to_scroll(served, visit: Visit) -> None:  # noqa: F811
    visit.page.set_viewport_size({"width": 1280, "height": 800})
    visit.open(f"{served}?run=1")
    for part in (
        ".board .one",
        ".board canvas",
        ".st-key-bad_pairs_inspector strong",
        ".st-key-bad_pairs_inspector canvas",
    ):
        box = visit.page.locator(part).first.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800, part
    assert visit.page.locator(".st-key-bad_pairs_inspector").inner_text().find("Wrong note") >= 0


def test_a_slider_mines_again(served, visit: Visit, table: PairTable) -> None:  # noqa: F811
    losses = planted_losses(table)
    visit.open(f"{served}?run=1")
    visit.wait_for("60 training pairs")
    assert figures(visit)["Wrong note"] == str(flagged_by_hand(losses, 3.0, 3.0)[0])
    visit.page.get_by_role("button", name="How strict").click()
    visit.page.get_by_text("Advanced", exact=True).click()
    slider = visit.page.get_by_role("slider", name="Limit for wrong notes")
    press_until(slider, "ArrowLeft", "0.5")
    expected = flagged_by_hand(losses, 0.5, 3.0)[0]
    visit.page.wait_for_function(
        "n => [...document.querySelectorAll('[data-testid=stMetric]')].some("
        "card => card.innerText.startsWith('Wrong note') && card.innerText.trim().endsWith('\\n' + n))",
        arg=str(expected),
    )
    visit.settle()
    assert figures(visit)["Wrong note"] == str(expected)
    visit.page.wait_for_timeout(1000)
    assert slider.input_value() == "0.5"  # the page has not moved it
    visit.page.get_by_role("button", name="Back to the run's settings").click()
    visit.settle()
    assert figures(visit)["Wrong note"] == "1"


def test_arrows_and_buttons_go_on(served, visit: Visit) -> None:  # noqa: F811
    visit.open(f"{served}?run=1")
    all_pairs(visit)
    visit.page.locator(".one").nth(2).click()
    visit.wait_for("3 of 60")
    visit.page.keyboard.press("ArrowDown")
    visit.wait_for("4 of 60")
    visit.page.keyboard.press("Control+ArrowLeft")
    visit.wait_for("3 of 60")
    visit.page.locator(".st-key-inspector-next button").first.click()
    visit.wait_for("4 of 60")


def test_fault_18_hostile_notes_and_groups_are_shown_and_fetch_nothing(served, visit: Visit) -> None:  # noqa: F811
    visit.open(f"{served}?run=2")
    visit.wait_for("60 training pairs")
    assert BAD_NOTE in visit.text()
    visit.page.locator(".one").first.hover()
    visit.page.get_by_text("Losses and findings").click()
    visit.settle()
    visit.page.get_by_text("Similar pairs").click()
    visit.settle()
    assert visit.page.evaluate("window.taken") is None
    assert visit.page.locator("[src*=invalid], [href*=invalid]").count() == 0
    for tab in ("Images that match better", "Similar images", "Similar notes"):
        visit.page.get_by_role("tab", name=tab).click()
        visit.settle()
    assert visit.page.locator("[src*=invalid], [href*=invalid]").count() == 0
