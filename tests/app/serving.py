"""The app as a server in its own process, and a Chromium, for the tests in a real browser."""

from __future__ import annotations

import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from commands import shared_zygote

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serve(workspace: Path, *options: str, port: int | None = None, **environment: str) -> Iterator[str]:
    """The address of the app over a workspace, on a free port; `options` are Streamlit's."""
    port = port or free_port()
    zygote = shared_zygote()
    process = zygote.start_app(workspace, "--server.port", str(port), *options, **environment)
    address = f"http://localhost:{port}"
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                break
            time.sleep(0.1)
        else:
            pytest.fail("the server does not answer")
        yield address
    finally:
        zygote.stop_app(process)


@contextmanager
def chromium() -> Iterator:
    """A browser; a test makes its own profile in it."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()
