"""Make the pictures of the documentation: every page, in light and dark.

    python examples/screenshots.py --workspace workspace --out docs/images

A workspace without runs gets the demo first (minutes), one without a review queue the queue of its newest run. The pictures
show the newest run, and Compare runs all of them. Needs `playwright` and a Chromium (``--chromium``). The server runs on a
free port and is stopped at the end.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from fairvlm_core import RunStore
from fairvlm_core.review import QueueSettings, ReviewStore, queue_from_run

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 600_000  # milliseconds; long, because a busy machine is slow
LOWEST = 760  # least height of a picture in pixels
COLOURS = 128  # a palette keeps the files small
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip


@contextmanager
def server(workspace: Path) -> Iterator[str]:
    """Serve the app on a free port; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    environment = os.environ | {"FAIRVLM_WORKSPACE": str(workspace.resolve())}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise RuntimeError("the server does not answer")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def prepare(workspace: Path) -> list[str]:
    """Make runs and a queue if there are none; returns the ids of the finished runs, oldest first."""
    if not RunStore(workspace).runs():
        demo = [sys.executable, "-m", "fairvlm_core", "demo", "--no-app", "--workspace", str(workspace)]
        subprocess.run(demo, check=True)
    runs = [run for run in RunStore(workspace).runs() if run.status.state == "finished"]
    reviews = ReviewStore.open(workspace)
    if not reviews.queues():
        queue_from_run(reviews, runs[-1], QueueSettings(size=40), name="First queue", by="demo")
    return [run.id for run in runs]


SETTLED = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    const busy = '[data-testid=stSpinner], [data-testid=stSkeleton], [data-stale=true]';
    const shown = boxes => [...document.querySelectorAll(boxes)].filter(box => box.checkVisibility());
    const drawn = (boxes, part) => shown(boxes).every(box => box.querySelector(part));
    return app?.dataset.testScriptState === 'notRunning' && !document.querySelector(busy)
        && drawn('[data-testid=stPlotlyChart]', '.main-svg') && drawn('[data-testid=stDataFrame]', 'canvas');
}"""


def settle(page: Page) -> None:
    """Wait until the script has ended, nothing is stale, and charts and tables have their content."""
    page.wait_for_selector("h1", timeout=PATIENCE)
    page.wait_for_function(SETTLED, timeout=PATIENCE)
    page.wait_for_timeout(900)


def sign_in(page: Page) -> None:
    """Type a name on the Review page, if it asks for one."""
    name = page.get_by_label("Your name")
    if name.count():
        name.fill("A. Reader")
        page.get_by_role("button", name="Start reviewing").click()
        settle(page)


def save(page: Page, path: Path, height: int | None) -> None:
    """Save the whole page (or its first `height` pixels) as a small PNG."""
    before, same = 0, 0
    while same < 2:  # charts are drawn, and get their height, when they come into view
        needed = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
        tall = max(LOWEST, min(needed + 8, height or 4000))
        page.set_viewport_size({"width": page.viewport_size["width"], "height": tall})
        settle(page)
        before, same = needed, same + 1 if needed == before else 0
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size / 1024:.0f} KB")


def shots(runs: list[str]) -> dict[str, tuple[str, int | None]]:
    """For each picture the address it shows and its largest height; `runs` as in ``?run=``."""
    many = "&".join(f"run={run}" for run in runs)
    one = f"run={runs[-1]}"
    best = f"run={next((run for run in reversed(runs) if run.endswith('-robustfair-plus-s2')), runs[-1])}"
    return {
        "overview": (f"?{one}", None),
        "data": (f"Data?{one}", None),
        "data-intake": (f"Data?view=Intake+report&{one}", None),
        "data-pairs": (f"Data?view=Browse+pairs&{one}", None),
        "fine-tune": (f"Fine_tune?{one}", None),
        "fine-tune-watch": (f"Fine_tune?view=Watch&{one}", None),
        "fine-tune-sweeps": (f"Fine_tune?view=Sweeps&{one}", None),
        "bad-pairs": (f"Bad_pairs?{best}", 800),
        "losses": (f"Loss_and_Sinkhorn?{best}", None),
        "losses-quantiles": (f"Loss_and_Sinkhorn?view=Quantiles&{one}", None),
        "losses-fairness": (f"Loss_and_Sinkhorn?view=Distance+and+fairness&{one}", None),
        "compare": (f"Compare_runs?{many}", 1900),
        "review": (f"Review?{one}", None),
        "review-results": (f"Review?view=Results&{one}", None),
        "report": (f"Report?{one}", 1400),
        "story": ("Story", None),
        "experiments": ("Experiments", None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    parser.add_argument("--only", nargs="*", help="names of pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = prepare(options.workspace)
    with server(options.workspace) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=options.chromium, args=list(FLAGS))
        for theme in options.themes:
            context = browser.new_context(
                viewport={"width": options.width, "height": 900}, color_scheme=theme, device_scale_factor=1
            )
            for name, (path, height) in shots(runs).items():
                if options.only and name not in options.only:
                    continue
                page = context.new_page()
                page.goto(f"{address}/{path}", timeout=PATIENCE)
                settle(page)
                sign_in(page)
                save(page, options.out / f"{name}-{theme}.png", height)
                page.close()
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
