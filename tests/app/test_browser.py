"""The app in a real browser: every page cold by its address, no error in its console, no request beyond this machine."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlparse

import pandas as pd
import pytest
from recipes import set_running
from serving import chromium, in_a_browser, serve, sync_api

from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore

pytestmark = in_a_browser
HERE = ("127.0.0.1", "localhost", "")
BAD_NOTE = "<script>window.taken = 1</script> ![x](http://example.invalid/x.png) [a](http://example.invalid) $x^2$"


@dataclass(frozen=True)
class Served:
    address: str
    workspace: Path
    hostile: Path


@pytest.fixture(scope="module")
def served(_runs: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app on a free port, with the four runs, and a folder with a hostile note."""
    workspace = tmp_path_factory.mktemp("served") / "workspace"
    shutil.copytree(_runs, workspace)
    hostile = tmp_path_factory.mktemp("hostile") / "data"
    shutil.copytree(data_folder, hostile)
    frame = pd.read_csv(hostile / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[0, "text"] = BAD_NOTE
    frame.loc[frame.index % 2 == 0, "race"] = (
        "![g](http://example.invalid/g.png) <img src=http://example.invalid/h.png>"
    )
    frame.to_csv(hostile / "manifest.csv", index=False)
    with serve(workspace) as address:
        yield Served(address, workspace, hostile)


class Visit:
    """A page in the browser, with what it logged and asked for."""

    def __init__(self, page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)
        page.on("websocket", self._request)

    def _logged(self, message) -> None:
        # Opened by the address of a page, Streamlit looks for its server below that address first and then at the root.
        probe = urlparse(message.location["url"]).path.endswith(("/_stcore/health", "/_stcore/host-config"))
        if message.type == "error" and not (probe and "404" in message.text):
            self.errors.append(f"{message.text} ({message.location['url']})")

    def _request(self, request) -> None:
        parts = urlparse(request.url)
        if parts.scheme not in ("data", "blob", "about") and (parts.hostname or "") not in HERE:
            self.outside.append(request.url)

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_selector("h1")
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning' && "
            "!document.querySelector('[data-testid=stSpinner], [data-testid=stSkeleton], [data-stale=true]')",
            timeout=120_000,
        )
        self.page.wait_for_timeout(300)

    def wait_for(self, words: str) -> None:
        """Until the page says `words`; its text is in the failure where it does not."""
        try:
            self.page.get_by_text(words).first.wait_for(timeout=120_000)
        except sync_api.TimeoutError:
            pytest.fail(f"{words!r} is not on the page:\n{self.text()}")
        self.settle()

    def text(self) -> str:
        return self.page.inner_text("[data-testid=stMain]")


def press_until(slider, key: str, value: str) -> None:
    """Press a key on a slider until it has a value; its lowest and highest value are at most 100 steps apart."""
    for _ in range(100):
        if slider.input_value() == value:
            return
        slider.press(key)
    assert slider.input_value() == value


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def contexts(browser) -> dict:
    """One profile a theme, empty at first: what is loaded once need not be loaded for every test."""
    size = {"width": 1280, "height": 900}
    return {theme: browser.new_context(viewport=size, color_scheme=theme) for theme in ("light", "dark")}


@pytest.fixture
def visit(contexts) -> Iterator[Visit]:
    visit = Visit(contexts["light"].new_page())
    yield visit
    visit.page.close()
    assert visit.outside == []
    assert visit.errors == []


PAGES = {
    "": "Runs",
    "?run=2": "2 · clip · seed 1",
    "Data": "Groups and label rates",
    "Data?view=Intake+report": "Likely identifiers",
    "Data?view=Browse+pairs&run=3": "1 of 130",
    "Compare_runs": "AUC by group",
    "Compare_runs?run=1&run=3&attribute=gender": "AUC by group",
}


@pytest.mark.parametrize(
    ("path", "theme"), [*((path, "light") for path in PAGES), *((path, "dark") for path in ("", "Compare_runs"))]
)
def test_every_page_opens_by_its_address(contexts, served, path: str, theme: str) -> None:
    address = served.address
    visit = Visit(contexts[theme].new_page())
    visit.open(f"{address}/{path}")
    visit.wait_for(PAGES[path])
    text = visit.text()
    background = visit.page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    wide = visit.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    visit.page.close()
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[theme]
    assert not wide
    assert "encountered an error" not in text
    assert visit.outside == []
    assert visit.errors == []


def test_fault_18_foreign_text_is_shown_and_fetches_nothing(served, visit: Visit) -> None:
    address, hostile = served.address, served.hostile
    visit.open(f"{address}/Data?folder={quote(str(hostile))}&view=Browse+pairs")
    visit.wait_for("1 of 130")
    assert BAD_NOTE in visit.text()
    assert visit.page.evaluate("window.taken") is None
    assert visit.page.locator("[src*=invalid], [href*=invalid]").count() == 0
    visit.page.get_by_role("tab", name="Who is in the set").click()
    visit.page.wait_for_selector(".js-plotly-plot .bars")
    visit.settle()
    assert visit.page.locator("[src*=invalid], [href*=invalid]").count() == 0


def test_navigation_keeps_the_run_and_works_with_the_keyboard(served, visit: Visit) -> None:
    address = served.address
    visit.open(f"{address}/?run=0001-clip-s0")
    link = visit.page.get_by_role("link", name="Data", exact=True)
    link.focus()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_selector("h1:has-text('Data')")
    visit.settle()
    assert "run=0001-clip-s0" in visit.page.url
    visit.page.get_by_role("tab", name="Browse pairs").click()
    visit.settle()
    visit.page.wait_for_function("location.search.includes('pair=')")
    first = visit.page.url
    visit.page.get_by_role("button", name="Next").focus()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_function("before => location.href !== before", arg=first)
    visit.settle()
    assert "2 of 130" in visit.text()


def test_a_thumbnail_opens_its_pair(served, visit: Visit, table: PairTable) -> None:
    address = served.address
    visit.open(f"{address}/Data?view=Browse+pairs&run=1")
    visit.page.locator(".one img").nth(2).click()
    visit.page.wait_for_function("id => location.search.includes(id)", arg=str(table.pair_ids[2]))
    visit.settle()
    assert table.frame["text"][2] in visit.text()


def test_light_and_dark_are_switched_in_the_menu(served, contexts) -> None:
    visit = Visit(contexts["light"].browser.new_context(color_scheme="light").new_page())
    visit.open(f"{served.address}/Compare_runs")
    colour = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    assert visit.page.evaluate(colour) == "rgb(255, 255, 255)"
    visit.page.get_by_test_id("stMainMenuButton").click()
    visit.page.get_by_test_id("stMainMenuItem-theme-Dark").click()
    visit.page.wait_for_function(f"() => {colour} === 'rgb(20, 24, 29)'")
    visit.page.keyboard.press("Escape")
    visit.settle()
    inks = "[...document.querySelectorAll('.js-plotly-plot .xtitle')].map(one => getComputedStyle(one).fill)"
    assert set(visit.page.evaluate(inks)) == {"rgb(201, 208, 216)"}  # the charts followed
    visit.page.context.close()


def test_a_run_that_ends_is_seen_without_a_reload(served, visit: Visit) -> None:
    address = served.address
    run = RunStore(served.workspace).get("4")
    kept = {name: (run.path / name).read_bytes() for name in ("predictions.parquet", "report.json")}
    set_running(run)
    visit.open(f"{address}/")
    visit.wait_for("epoch 1 of 2")
    for name, content in kept.items():
        (run.path / name).write_bytes(content)
    run.set_status(state="finished", epoch=2, message="finished", pid=None)
    visit.page.wait_for_function("() => document.body.innerText.includes('can be compared')", timeout=15_000)
    visit.settle()
    assert "epoch 1 of 2" not in visit.text()


def test_only_this_machine_is_answered(served) -> None:
    address = served.address
    port = urlparse(address).port
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for other in addresses - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError), socket.create_connection((other, port), timeout=2):
            pass
    answers = {}
    for host in ("localhost", "example.invalid"):  # a name that another site points at this machine
        lines = (
            "GET /_stcore/stream HTTP/1.1", f"Host: {host}:{port}", f"Origin: http://{host}:{port}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
        )  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall("\r\n".join(lines).encode())
            answers[host] = connection.recv(64).split()[1].decode()
    assert answers == {"localhost": "101", "example.invalid": "400"}


def test_a_click_on_the_text_of_a_run_opens_it(served, visit: Visit) -> None:
    visit.open(f"{served.address}/")
    grid = visit.page.locator("[data-testid=stDataFrame]:visible").first
    grid.scroll_into_view_if_needed()
    visit.settle()
    box = grid.bounding_box()
    visit.page.mouse.click(box["x"] + 60, box["y"] + 36 + 35 + 17)  # the id in the second row
    visit.page.wait_for_url("**/Fine_tune?**")
    visit.settle()
    assert "view=Watch" in visit.page.url
    assert "run=0003-robustfair-s0" in visit.page.url
