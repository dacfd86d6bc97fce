"""Hostile names of a data set, an attribute, its groups and a pair on every page in a browser: shown, never followed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recipes import ROOT, add_run
from recorded import record
from review_data import add_queue, add_reviewable_run
from test_browser import CHROMIUM, FLAGS, Visit, sync_api

from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore
from ui.frame import page_names

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]
HOSTILE = "![x](http://evil.invalid/x.png) <script>window.taken=1</script> $x$ :material/home:"
PAGES = [
    "",
    *(name.removesuffix(".py").split("_", 1)[1] for name in page_names().values()),
    "Data?view=Browse+pairs",
    "Data?view=Intake+report",
    "Fine_tune?view=Watch",
    "Loss_and_Sinkhorn?view=Quantiles",
    "Loss_and_Sinkhorn?view=Divergence+over+training",
    "Loss_and_Sinkhorn?view=Distance+and+fairness",
    "Review?view=New+queue",
]


@pytest.fixture(scope="module")
def address(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app over two runs and a queue, on data whose names are hostile."""
    place = tmp_path_factory.mktemp("hostile-names")
    folder, workspace = place / "data", place / "workspace"
    shutil.copytree(data_folder, folder)
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False).rename(columns={"race": HOSTILE})
    frame.loc[np.arange(len(frame)) % 2 == 0, HOSTILE] = HOSTILE
    frame.to_csv(folder / "manifest.csv", index=False)
    about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    about |= {"name": HOSTILE, "attributes": [HOSTILE, "gender"]}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    table = PairTable.read(folder)
    assert table.attributes == (HOSTILE, "gender")
    run = add_reviewable_run(workspace, table)
    add_queue(workspace, run, HOSTILE[:60])
    record(run)
    record(add_run(RunStore(workspace), table, "clip", 0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=ROOT,
        env=os.environ | {"FAIRVLM_WORKSPACE": str(workspace), "FAIRVLM_DATABASE_URL": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1),
            ):
                break
            time.sleep(0.1)
        else:
            pytest.fail("the server does not answer")
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def test_fault_18_hostile_names_are_shown_and_fetch_nothing(address: str) -> None:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        context = browser.new_context(viewport={"width": 1280, "height": 4000})
        visit = Visit(context.new_page())
        named = []
        for path in PAGES:
            visit.open(f"{address}/{path}")
            name = visit.page.get_by_label("Your name")
            if name.count():
                name.fill("Ada")
                visit.page.get_by_role("button", name="Start reviewing").click()
                visit.settle()
            visit.settle()
            html = visit.page.content()
            assert visit.page.evaluate("window.taken") is None, path
            assert visit.page.locator("[src*=evil], [href*=evil], .katex").count() == 0, path
            assert "encountered an error" not in visit.text(), path
            named.append("evil" in html)
        browser.close()
    assert visit.outside == []
    assert sum(named) >= len(PAGES) - 3  # the names are on the pages, not left out
