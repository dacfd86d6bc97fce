"""From a bare folder of real images to a started fine-tune in a real browser, in few clicks and without the docs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from recipes import ROOT
from serving import in_a_browser, serve
from test_browser import Visit, browser, contexts, visit  # noqa: F401 - fixtures

from fairvlm_core.intake.describe import place_in_workspace
from fairvlm_core.runs import RunStore

SHARED = ROOT.parent / "shared" / "data"
pytestmark = [
    *in_a_browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not beside the checkout"),
]
MOST_CLICKS = 10
MOST_SECONDS = 120


@contextmanager
def served(workspace: Path) -> Iterator[str]:
    """The app over an empty workspace; workers that it has started are ended with it."""
    with serve(workspace) as address:
        try:
            yield address
        finally:
            for process in psutil.process_iter():
                try:
                    if "work" in process.cmdline() and process.environ().get("FAIRVLM_WORKSPACE") == str(workspace):
                        for child in (*process.children(recursive=True), process):
                            child.kill()
                except psutil.Error:
                    continue


@pytest.mark.parametrize(
    ("name", "n", "title"),
    [("derm", "3,421", "HAM10000"), ("skin", "206", "PAD-UFES-20"), ("cxr", "141", "COVID-19 chest X-ray collection")],
)
def test_from_the_bare_folder_to_a_fine_tune(name: str, n: str, title: str, tmp_path: Path, visit: Visit) -> None:  # noqa: F811
    workspace, clicks = tmp_path / "workspace", 0

    def click(label: str, role: str = "button") -> None:
        nonlocal clicks
        clicks += 1
        visit.page.get_by_role(role, name=label).first.click()
        visit.settle()

    with served(workspace) as address:
        began = time.monotonic()
        visit.open(f"{address}/Data")
        click("Open another folder")
        visit.page.get_by_label("Folder of image-note pairs on this machine").fill(str(SHARED / name))
        clicks += 1
        visit.page.get_by_test_id("stBaseButton-primaryFormSubmit").click()
        visit.wait_for("Ten pairs")
        assert n in visit.text()
        click("In the workspace", "radio")  # the folder may be read-only
        click("Save and fine-tune")
        visit.page.get_by_label("Epochs", exact=True).fill("1")
        visit.page.get_by_label("Epochs", exact=True).press("Enter")
        visit.settle()
        click("Launch")
        visit.page.get_by_text("Queue: 1 run").first.wait_for(timeout=120_000)
        seconds = time.monotonic() - began
        visit.settle()
        visit.page.goto("about:blank")  # before the server stops
    assert clicks <= MOST_CLICKS
    assert seconds <= MOST_SECONDS
    [run] = RunStore(workspace).runs()
    described = place_in_workspace(workspace, SHARED / name)
    assert run.data["read_options"] == {"description": str(described)}
    assert json.loads(described.read_text())["name"] == title
    print(f"\n{name}: {clicks} clicks, {seconds:.0f} s from the Data page to the queue")
