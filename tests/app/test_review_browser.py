"""The Review page in a real browser: keys, double clicks, hostile notes, reloads, two readers at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pandas as pd
import pytest
from review_data import add_queue, add_reviewable_run
from serving import chromium, in_a_browser, serve

from fairvlm_core.pairs import PairTable
from fairvlm_core.review import VERDICTS, ReviewStore
from fairvlm_core.runs import Run

pytestmark = in_a_browser
HERE = ("127.0.0.1", "localhost", "")
BAD_NOTE = (
    "<script>window.taken = 1</script> <img src=x onerror='alert(1)'> ![x](http://example.invalid/x.png) "
    "[a](http://example.invalid) $x^2$ http://example.invalid/y"
)
KEYS = {str(place): verdict for place, verdict in enumerate(VERDICTS, 1)}
SHOWN = """before => {
  let canvas
  for (const element of document.querySelectorAll('.st-key-review-viewer *')) {
    canvas ??= element.shadowRoot?.querySelector('canvas')
  }
  const id = document.querySelector('[class*="st-key-review-fits-"]')?.className
  const pair = canvas?.dataset.pair
  return pair && id && pair !== before.pair && id !== before.id ? {pair, id} : null
}"""
NOTHING = {"pair": "", "id": ""}


@dataclass(frozen=True)
class Served:
    address: str
    workspace: Path
    run: Run

    def queue(self, name: str, pair_ids: list[str], **settings) -> str:
        """A new queue of just these pairs."""
        chosen = {"order": "given", "pair_ids": tuple(pair_ids), "control_share": 0} | settings
        return add_queue(self.workspace, self.run, name, **chosen).queue_id

    def verdicts(self, queue_id: str) -> list:
        with ReviewStore.open(self.workspace, url="") as store:
            return [e for e in store.events() if e.kind == "verdict" and e.queue_id == queue_id]


@pytest.fixture(scope="module")
def data(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """The data with a hostile note at its first training pair."""
    folder = tmp_path_factory.mktemp("reviewed") / "data"
    shutil.copytree(data_folder, folder)
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    frame.loc[np.flatnonzero(frame["split"] == "train")[0], "text"] = BAD_NOTE
    frame.to_csv(folder / "manifest.csv", index=False)
    return PairTable.read(folder)


@pytest.fixture(scope="module")
def served(data: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    workspace = tmp_path_factory.mktemp("review-served") / "workspace"
    run = add_reviewable_run(workspace, data)
    with serve(workspace) as address:
        yield Served(address, workspace, run)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def profile(browser):
    """A browser profile that keeps what it loaded once."""
    return browser.new_context(viewport={"width": 1280, "height": 900})


class Reader:
    """A reader in a tab of a browser profile, with what the page logged, asked for and popped up."""

    def __init__(self, profile, served: Served, name: str) -> None:
        profile.clear_cookies()  # of another test's reader
        self.page = profile.new_page()
        self.page.set_default_timeout(120_000)
        self.served, self.name = served, name
        self.problems: list[str] = []
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._request)
        self.page.on("dialog", self._dialog)

    def _logged(self, message) -> None:
        probe = urlparse(message.location["url"]).path.endswith(("/_stcore/health", "/_stcore/host-config"))
        if message.type == "error" and not (probe and "404" in message.text):
            self.problems.append(message.text)

    def _request(self, request) -> None:
        parts = urlparse(request.url)
        if parts.scheme not in ("data", "blob", "about") and (parts.hostname or "") not in HERE:
            self.problems.append(f"outside request: {request.url}")

    def _dialog(self, dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, queue_id: str) -> dict:
        self.page.goto(f"{self.served.address}/Review?queue={queue_id}")
        return self.sign_in()

    def sign_in(self) -> dict:
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_role("button", name="Start reviewing").click()
        return self.shown()

    def shown(self, before: dict = NOTHING) -> dict:
        """The pair whose image is drawn and whose buttons stand, once it is another than before."""
        return self.page.wait_for_function(SHOWN, arg=before, timeout=120_000).json_value()

    def close(self) -> None:
        self.page.close()
        assert self.problems == []


@pytest.fixture
def reader(profile, served) -> Iterator[Reader]:
    reader = Reader(profile, served, "Ada")
    yield reader
    reader.close()


def train_ids(data: PairTable) -> list[str]:
    return [str(pair_id) for pair_id in data.only("train").pair_ids]


def test_verdicts_by_keyboard_are_all_stored(served, reader, data) -> None:
    ids = train_ids(data)[1:13]
    queue = served.queue("keys", ids)
    seen = reader.open(queue)
    pressed = []
    for i, pair_id in enumerate(ids):
        assert seen["pair"] == pair_id
        key = str(1 + i % len(KEYS))
        pressed.append((pair_id, KEYS[key]))
        reader.page.keyboard.press(key)
        if pair_id != ids[-1]:
            seen = reader.shown(seen)
    reader.page.get_by_text("Every pair of this queue has all its readings").wait_for()
    assert [(event.pair_id, event.body["verdict"]) for event in served.verdicts(queue)] == pressed
    with ReviewStore.open(served.workspace, url="") as store:
        assert store.verify().ok


def test_fault_22_a_double_click_and_a_held_key_count_once(served, reader, data) -> None:
    ids = train_ids(data)[13:18]
    queue = served.queue("double", ids)
    seen = reader.open(queue)
    reader.page.get_by_role("button", name="Pair fits").dblclick()
    seen = reader.shown(seen)
    reader.page.wait_for_timeout(700)
    assert [event.pair_id for event in served.verdicts(queue)] == ids[:1]
    for _ in range(8):  # down without up: the browser marks all but the first as repeats
        reader.page.keyboard.down("2")
    reader.page.keyboard.up("2")
    reader.shown(seen)
    reader.page.wait_for_timeout(700)
    stored = served.verdicts(queue)
    assert [(event.pair_id, event.body["verdict"]) for event in stored] == [(ids[0], "fits"), (ids[1], "wrong_note")]


def test_keys_undo_skip_and_map(served, reader, data) -> None:
    ids = train_ids(data)[18:22]
    queue = served.queue("undo", ids)
    first = reader.open(queue)
    reader.page.keyboard.press("7")
    second = reader.shown(first)
    reader.page.keyboard.press("u")
    again = reader.shown(second)
    assert again["pair"] == first["pair"]
    with ReviewStore.open(served.workspace, url="") as store:
        assert [e for e in store.standing_readings() if e.queue_id == queue] == []
    reader.page.keyboard.press("s")
    assert reader.shown(again)["pair"] == ids[1]
    reader.page.keyboard.press("m")
    reader.page.get_by_text("Words with the largest effect").wait_for()
    assert served.verdicts(queue)[-1].body["verdict"] == "unsure"
    assert len(served.verdicts(queue)) == 1


def test_a_double_click_on_undo_takes_back_one_verdict(served, reader, data) -> None:
    ids = train_ids(data)[45:49]
    queue = served.queue("undo twice", ids)
    seen = reader.open(queue)
    for _ in range(2):
        reader.page.keyboard.press("1")
        seen = reader.shown(seen)
    reader.page.get_by_role("button", name="Undo").dblclick()
    assert reader.shown(seen)["pair"] == ids[1]
    reader.page.wait_for_timeout(700)
    with ReviewStore.open(served.workspace, url="") as store:
        assert [e.pair_id for e in store.events() if e.kind == "undo" and e.queue_id == queue] == [ids[1]]


def test_typing_a_comment_gives_no_verdict(served, reader, data) -> None:
    ids = train_ids(data)[22:25]
    queue = served.queue("typing", ids)
    seen = reader.open(queue)
    reader.page.get_by_text("Reason, comment, better note").click()
    reader.page.get_by_label("Comment").click()
    reader.page.keyboard.type("123 us 6")
    reader.page.wait_for_timeout(500)
    assert served.verdicts(queue) == []
    reader.page.get_by_role("button", name="Wrong note").click()
    reader.shown(seen)
    (event,) = served.verdicts(queue)
    assert (event.pair_id, event.body["verdict"], event.body["comment"]) == (ids[0], "wrong_note", "123 us 6")


def test_a_link_touched_right_after_typing_opens_its_page(browser, served, data) -> None:
    tablet = Reader(browser.new_context(viewport={"width": 1024, "height": 768}, has_touch=True), served, "Finger")
    tablet.open(served.queue("finger", train_ids(data)[49:51]))
    tablet.page.get_by_text("Reason, comment, better note").click()
    tablet.page.get_by_label("Comment").click()
    tablet.page.keyboard.type("a comment")
    box = tablet.page.get_by_role("link", name="Data", exact=True).bounding_box()
    finger = tablet.page.context.new_cdp_session(tablet.page)
    point = {"x": box["x"] + 20, "y": box["y"] + 8}
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    tablet.page.wait_for_timeout(80)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tablet.page.get_by_text("Groups and label rates").wait_for()
    tablet.page.wait_for_timeout(1000)
    assert tablet.page.get_by_text("Groups and label rates").is_visible()
    tablet.close()


def test_fault_18_a_hostile_note_is_shown_literally(served, reader, data) -> None:
    reader.open(served.queue("hostile", train_ids(data)[:1]))
    shown = reader.page.inner_text(".st-key-review_note")
    assert shown.strip() == BAD_NOTE
    reader.page.keyboard.press("m")
    reader.page.get_by_text("Words with the largest effect").wait_for()
    reader.page.wait_for_timeout(500)
    assert reader.page.evaluate("window.taken") is None
    assert reader.page.locator("[src*=invalid], [href*=invalid]").count() == 0


def test_a_reload_keeps_the_place(served, reader, data) -> None:
    ids = train_ids(data)[25:29]
    queue = served.queue("reload", ids)
    seen = reader.open(queue)
    reader.page.keyboard.press("1")
    second = reader.shown(seen)
    assert "Ada" not in reader.page.url
    reader.page.reload()
    back = reader.shown()  # without typing the name again
    assert f"queue={queue}" in reader.page.url
    assert back["pair"] == second["pair"] == ids[1]
    reader.page.get_by_role("button", name="Switch reader").click()
    reader.page.get_by_label("Your name").wait_for()
    reader.page.wait_for_timeout(500)
    reader.page.reload()
    reader.page.get_by_label("Your name").wait_for()  # the next person has to say who they are


def test_two_readers_never_get_the_same_pair_first(browser, served, data) -> None:
    ids = train_ids(data)[29:41]
    queue = served.queue("two", ids)
    size = {"width": 1280, "height": 900}
    readers = [Reader(browser.new_context(viewport=size), served, name) for name in ("Bo", "Cleo")]
    try:
        now = [reader.open(queue) for reader in readers]
        for _ in range(4):
            assert now[0]["pair"] != now[1]["pair"]
            for reader in readers:
                reader.page.keyboard.press("1")
            now = [reader.shown(seen) for reader, seen in zip(readers, now, strict=True)]
    finally:
        for reader in readers:
            reader.close()
    stored = served.verdicts(queue)
    assert len({event.pair_id for event in stored}) == len(stored) == 8
    assert {event.reviewer for event in stored} == {"Bo", "Cleo"}


def test_zoom_pan_and_window_change_what_is_drawn(served, reader, data) -> None:
    reader.open(served.queue("zoom", train_ids(data)[41:43]))
    canvas = reader.page.locator(".st-key-review-viewer canvas")
    picture = "canvas => { const c = canvas.getContext('2d'); const d = c.getImageData(0, 0, canvas.width, canvas.height).data; let s = 0; for (let i = 0; i < d.length; i += 4) s = (s * 31 + d[i]) % 2147483647; return s }"  # noqa: E501
    seen = [canvas.evaluate(picture)]
    canvas.click()
    reader.page.keyboard.press("+")
    seen.append(canvas.evaluate(picture))
    reader.page.keyboard.press("ArrowLeft")
    seen.append(canvas.evaluate(picture))
    reader.page.keyboard.press("0")
    assert canvas.evaluate(picture) == seen[0]
    window = reader.page.get_by_label("Window")
    window.focus()
    for _ in range(20):
        window.press("ArrowLeft")
    seen.append(canvas.evaluate(picture))
    assert len(set(seen)) == 4


def test_it_fits_a_tablet(browser, served, data) -> None:
    profile = browser.new_context(viewport={"width": 1024, "height": 768}, has_touch=True)
    tablet = Reader(profile, served, "Tab")
    queue = served.queue("tablet", train_ids(data)[43:45])
    seen = tablet.open(queue)
    names = [kind.label for kind in VERDICTS.values()]
    buttons = tablet.page.locator(".st-key-review_verdicts [data-testid^=stBaseButton]:visible")
    boxes = [buttons.nth(i).bounding_box() for i in range(buttons.count())]
    said = buttons.all_inner_texts()
    cut = buttons.evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length")
    wide = tablet.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    tablet.page.get_by_role("button", name="Unsure").tap()
    tablet.shown(seen)
    tablet.close()
    assert len(boxes) == len(names)
    assert all(text.startswith(name) for text, name in zip(said, names, strict=True))
    assert all(box["height"] >= 44 and box["width"] >= 100 and box["x"] + box["width"] <= 1024 for box in boxes)
    assert cut == 0
    assert not wide
    assert [event.body["verdict"] for event in served.verdicts(queue)] == ["unsure"]


def test_enter_in_a_field_makes_no_queue(served, reader) -> None:
    def made() -> int:
        with ReviewStore.open(served.workspace, url="") as store:
            return len(store.queues())

    reader.page.goto(f"{served.address}/Review?view=New+queue")
    reader.page.get_by_label("Your name").fill(reader.name)
    reader.page.get_by_role("button", name="Start reviewing").click()
    before = made()
    field = reader.page.get_by_label("Pairs in all")
    field.fill("7")
    field.press("Enter")
    reader.page.wait_for_timeout(1500)
    assert made() == before
    reader.page.get_by_role("button", name="Make the queue").click()
    reader.page.get_by_text("is made and selected").wait_for()
    assert made() == before + 1
