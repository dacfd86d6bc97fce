"""A thousand verdicts by keyboard in a real browser: lost or doubled verdicts, and the time until the next pair is shown.

    python benchmarks/review_keyboard.py [--verdicts 1000] [--seconds 240]

Makes a SynthFundus set and a run with a ledger in a temporary workspace, serves the app and drives Chromium. For each pair
it waits until image and buttons are drawn, presses a key from 1 to 6, and measures the time from the key press until the
next pair is drawn, and the server's processor time. Then it checks the log: as many verdicts as key presses, each pair
once, each with the verdict of the pressed key, and an intact hash chain. The exit status is 1 if that does not hold. After
--seconds no further key is pressed. The pairs share 100 images, each pair in a separate file.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from playwright.sync_api import Page, sync_playwright

from fairvlm_core.config import RunConfig
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.models import load_clip
from fairvlm_core.pairs import PairTable
from fairvlm_core.review import VERDICTS, Queue, QueueSettings, ReviewStore, queue_from_run
from fairvlm_core.runs import Run, RunStore, now
from fairvlm_core.synth import SynthConfig, synthesize, write_synth

ROOT = Path(__file__).resolve().parent.parent
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
DRAWN = 100  # different images
KEYS = {str(place): verdict for place, verdict in enumerate(VERDICTS, 1)}


def make_run(workspace: Path, n: int, size: int) -> Run:
    """A finished run over n training pairs with losses in its ledger, made without training."""
    drawn = SynthConfig(n_train=min(n, DRAWN), n_val=0, n_test=0, size=size, seed=4, mismatch_rate=0, shortcut_rate=0)
    folder = write_synth(synthesize(drawn), workspace.parent / "synthfundus")
    repeat(folder, n)
    table = PairTable.read(folder, check_images=False)
    config = RunConfig.build("robustfair", {"epochs": 2})
    data = {
        "folder": str(table.root), "read_options": {"check_images": False}, "fingerprint": table.fingerprint,
        "name": table.info.name, "prompts": list(table.info.prompts), "attributes": list(table.attributes), "n": {},
        "warnings": [],
    }  # fmt: skip
    run = RunStore(workspace).create(
        config, data, table.frame[["pair_id", "patient_id", "split", "label", *table.attributes]]
    )
    losses = np.random.default_rng(0).gamma(4, 1, (2, n)).astype(np.float32)
    ledger = PairLossLedger.from_values(losses, table.pair_ids)
    run.write_parquet(run.files.ledger, ledger.to_wide_frame())
    load_clip("tiny").save(run.checkpoint)
    run.write_report({})
    run.set_status(state="finished", epoch=2, message="finished", finished=now())
    return run


def repeat(folder: Path, n: int) -> None:
    """Extend a data folder to n pairs by repeating its pairs under other ids, each with its own image file."""
    frame = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    rows = frame.iloc[np.arange(n) % len(frame)].reset_index(drop=True)
    for i in range(len(frame), n):
        name = f"images/again_{i:05d}.png"
        shutil.copyfile(folder / rows.at[i, "image"], folder / name)
        rows.loc[i, ["pair_id", "patient_id", "image"]] = [f"again_{i:05d}", f"again_{i:05d}", name]
    rows.to_csv(folder / "manifest.csv", index=False)


def make_queue(store: ReviewStore, run: Run) -> Queue:
    """All pairs of the run, read once each."""
    ids = tuple(run.pairs()["pair_id"].astype(str))
    settings = QueueSettings(order="given", pair_ids=ids, control_share=0, second_share=0)
    return queue_from_run(store, run, settings, name="keyboard", by="Benchmark")


@contextmanager
def server(workspace: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the app on a free port; yields its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=ROOT, env=os.environ | {"FAIRVLM_WORKSPACE": str(workspace), "FAIRVLM_DATABASE_URL": ""},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://localhost:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError("the server does not answer")
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=120)


# A pair counts as shown when its image is drawn and its own buttons are there; the time is the browser's.
WAIT = """async before => {
  const root = () => document.querySelector('.st-key-review-viewer')
  const canvas = () => {
    for (const element of root()?.querySelectorAll('*') ?? []) {
      const found = element.shadowRoot?.querySelector('canvas')
      if (found) return found
    }
    return root()?.querySelector('canvas')
  }
  const button = () => document.querySelector('[class*="st-key-review-fits-"]')?.className ?? ''
  const ended = performance.now() + 120000
  while (performance.now() < ended) {
    const pair = canvas()?.dataset.pair, key = button()
    if (pair && pair !== before.pair && key && key !== before.key) {
      await new Promise(requestAnimationFrame)
      return {pair, key, at: performance.now()}
    }
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  throw new Error('the next pair does not come')
}"""
WATCH = "window.addEventListener('keydown', event => { window.pressedAt = performance.now() }, true)"


def press_all(page: Page, n: int, rng: np.random.Generator, limit: float) -> tuple[dict[str, str], list[float]]:
    """Judge n pairs, or as many as `limit` seconds allow.

    Returns the verdict pressed for each pair and the seconds until each next pair was drawn.
    """
    ended = time.perf_counter() + limit
    page.evaluate(WATCH)
    seen = page.evaluate(WAIT, {"pair": "", "key": ""})
    pressed: dict[str, str] = {}
    seconds: list[float] = []
    for done in range(n):
        key = str(rng.integers(1, 7))
        pressed[seen["pair"]] = KEYS[key]
        page.keyboard.press(key)
        if done == n - 1:
            page.get_by_text("Every pair of this queue has all its readings").wait_for(timeout=120_000)
            break
        seen = page.evaluate(WAIT, {"pair": seen["pair"], "key": seen["key"]})
        seconds.append((seen["at"] - page.evaluate("window.pressedAt")) / 1000)
        if time.perf_counter() > ended:
            break
    return pressed, seconds


def processor_time(process: psutil.Process) -> float:
    """Processor seconds of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verdicts", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    parser.add_argument("--seconds", type=float, default=math.inf, help="press no key after this time")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        store = ReviewStore.open(workspace, url="")
        make_queue(store, make_run(workspace, options.verdicts, options.size))
        with server(workspace) as (address, process), sync_playwright() as play:
            browser = play.chromium.launch(executable_path=options.chromium, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)  # the first page waits for imports
            page.goto(f"{address}/Review")
            page.get_by_label("Your name").fill("Benchmark")
            page.get_by_role("button", name="Start reviewing").click()
            page.evaluate(WAIT, {"pair": "", "key": ""})
            started, busy = time.perf_counter(), processor_time(process)
            pressed, seconds = press_all(page, options.verdicts, np.random.default_rng(0), options.seconds)
            took, busy = time.perf_counter() - started, processor_time(process) - busy
            browser.close()
        given = {event.pair_id: event.body["verdict"] for event in store.events() if event.kind == "verdict"}
        n_events = sum(event.kind == "verdict" for event in store.events())
        chain = store.verify()
        store.close()
    wrong = sum(given.get(pair_id) != verdict for pair_id, verdict in pressed.items())
    median, p95 = np.quantile(seconds, [0.5, 0.95])
    print(f"keys pressed {len(pressed):,}, verdict events {n_events:,}, pairs with a verdict {len(given):,}")
    print(f"verdicts other than pressed: {wrong}; chain {'whole' if chain.ok else chain.problem}")
    print(f"next pair on the screen after {median:.3f} s (median), {p95:.3f} s (95th percentile); {took:.0f} s in all")
    print(f"processor time of the server: {1000 * busy / len(pressed):.0f} ms a verdict; load {os.getloadavg()[0]:.1f}")
    if wrong or not chain.ok or not len(pressed) == n_events == len(given):
        sys.exit(1)


if __name__ == "__main__":
    main()
