"""Hostile names of a data set, an attribute, its groups and a pair on every page in a browser: shown, never followed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pandas as pd
import pytest
from commands import http_answer
from recipes import add_run
from recorded import record
from review_data import add_queue, add_reviewable_run
from serving import chromium, in_a_browser, serve
from test_browser import Visit

from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore
from ui.frame import page_names

pytestmark = in_a_browser
HOSTILE = "![x](http://evil.invalid/x.png) <script>window.taken=1</script> $x$ :material/home:"
PAGES = [
    "",
    *(name.removesuffix(".py").split("_", 1)[1] for name in page_names().values()),
    "Data?view=Browse+pairs",
    "Data?view=Intake+report",
    "Fine_tune?view=Watch",
    "Loss_and_Sinkhorn?view=Quantiles",
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
    with serve(workspace) as address:
        yield address


def test_fault_18_hostile_names_are_shown_and_fetch_nothing(address: str) -> None:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 1400})
        visit = Visit(context.new_page())
        named, dialogs, pictures = [], [], set()
        visit.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for path in PAGES:
            visit.open(f"{address}/{path}")
            name = visit.page.get_by_label("Your name")
            if name.count():
                name.fill("Ada")
                visit.page.get_by_role("button", name="Start reviewing").click()
                visit.settle()
            html = visit.page.content()
            assert visit.page.evaluate("window.taken") is None, path
            for frame in visit.page.frames:  # the page, and the preview of a report
                assert frame.locator("[src*=evil], [href*=evil], .katex").count() == 0, path
            assert "encountered an error" not in visit.text(), path
            named.append("evil" in html)
            pictures |= {src for src in visit.page.eval_on_selector_all("img", "all => all.map(one => one.src)")}
    assert dialogs == []
    port = urlparse(address).port
    media = [urlparse(src).path for src in pictures if "/media/" in src]
    hosts = ("localhost", "evil.invalid")
    answers = {(host, http_answer(port, path, f"{host}:{port}")[0]) for path in media for host in hosts}
    assert answers == {("localhost", 200), ("evil.invalid", 400)}, "pictures are for names of this machine alone"
    assert visit.outside == []
    assert visit.errors == []
    assert sum(named) >= len(PAGES) - 3  # the names are on the pages, not left out
