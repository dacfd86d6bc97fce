"""The wheel contains the app: `fairvlm app` serves it outside a checkout, too."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APP = "fairvlm_core/_app/"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", "workspace", "*_cache", "docs", "benchmarks", "tests")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    build = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    return next(folder.glob("*.whl"))


def test_the_wheel_contains_the_app_and_the_model(wheel) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    pages = [f"pages/{file.name}" for file in (ROOT / "pages").glob("*.py")]
    shared = [f"ui/{file.name}" for file in (ROOT / "ui").iterdir() if file.is_file()]
    assert {APP + name for name in ("app.py", ".streamlit/config.toml", *pages, *shared)} <= names
    assert "fairvlm_core/_assets/tiny/open_clip_model.safetensors" in names
    assert not [name for name in names if name.endswith(".pyc") or "secrets" in name]


def test_the_installed_app_is_served_from_any_folder(wheel, tmp_path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(site), "FAIRVLM_WORKSPACE": "here"}
    command = [sys.executable, "-P", "-m", "fairvlm_core", "app", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=elsewhere, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        address = f"http://localhost:{port}"
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert (
                "default-src 'self'" in answer.headers["Content-Security-Policy"]
            )  # of the app, not of Streamlit alone
    finally:
        server.terminate()
        server.wait(60)
    assert not (site / APP / "workspace").exists()
