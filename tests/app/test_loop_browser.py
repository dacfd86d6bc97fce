"""Flagged pairs, a queue, verdicts, training with them, and before and after: all of it in the app."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from serving import in_a_browser, serve
from test_bad_pairs import add_bench_run
from test_browser import Visit, browser, contexts, visit  # noqa: F401 - fixtures

from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore

pytestmark = in_a_browser
VERDICTS = 3


@pytest.fixture(scope="module")
def served(table: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunStore]]:
    place = tmp_path_factory.mktemp("loop")
    store = RunStore(place / "workspace")
    add_bench_run(store, table)
    with serve(store.workspace) as address:
        yield address, store
    shutil.rmtree(place, ignore_errors=True)


def test_from_flagged_pairs_to_before_and_after_in_few_clicks(served, visit: Visit) -> None:  # noqa: F811
    address, store = served
    clicks = 0

    def press(name: str) -> None:
        nonlocal clicks
        visit.page.get_by_role("button", name=name).first.click()
        clicks += 1

    visit.open(f"{address}/Bad_pairs?run=1&faulty_sd=1.5")
    press("flagged pairs to Review")
    visit.page.get_by_label("Your name").fill("Ada")
    press("Start reviewing")
    visit.wait_for("is made and selected")
    for i in range(VERDICTS):
        visit.page.get_by_role("button", name="Wrong note").first.click()
        visit.wait_for(f"{i + 1} of ")
    visit.wait_for(f"{VERDICTS} verdicts on this data")
    press("Train with these verdicts")
    visit.wait_for("Before and after")
    text = visit.text()
    assert "AUC of everyone" in text
    assert clicks <= 12
    before, after = store.runs()
    assert after.data["verdicts"]["n_verdicts"] == VERDICTS
    assert after.config == before.config
