"""Nothing leaks: no note and no name in a file, a file's name or a log; the workspace is its owner's; the app is local."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import pytest
from commands import QUIET, Ended, Zygote, http_answer
from fault_runs import SETTINGS

from fairvlm_core.config import RunConfig
from fairvlm_core.launch import Hooks, create_run, execute
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore

ROOT = Path(__file__).resolve().parents[2]
FAIRVLM = [sys.executable, "-m", "fairvlm_core"]
NOTE = "Canarynote Zyxwvut"
NAME = "Quetzalcoatl-Featherstone"
FOREIGN = "example.invalid"
OUTSIDE = f"http://{FOREIGN}"
HOSTILE = (
    f"<script>window.taken = 1; alert(1)</script> <img src={OUTSIDE}/i.png onerror='window.taken = 1'> "
    f"![x]({OUTSIDE}/x.png) [a]({OUTSIDE}) <iframe src='{OUTSIDE}'></iframe> <svg onload=alert(1)> $x^2$ "
    f":material/home: {OUTSIDE}/bare"
)


def rewritten(source: Path, target: Path, change) -> Path:
    """A copy of a manifest folder with every row changed."""
    shutil.copytree(source, target)
    with (target / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    changed = [change(i, row) for i, row in enumerate(rows)]
    with (target / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(changed[0]))
        writer.writeheader()
        writer.writerows(changed)
    return target


def fairvlm(zygote: Zygote, *arguments: object, workspace: Path, ok: bool = True) -> Ended:
    done = zygote.run([*map(str, arguments), "--workspace", str(workspace)], workspace, stdout="said")
    assert not ok or done.code == 0, done.said
    return done


@dataclass(frozen=True)
class Canary:
    """A run on data whose notes and patient ids hold words that occur nowhere else, and all output of the commands."""

    data: Path
    workspace: Path
    said: str


@pytest.fixture(scope="module")
def canary(few_pairs: Path, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Canary:
    place = tmp_path_factory.mktemp("canary")

    def marked(i: int, row: dict[str, str]) -> dict[str, str]:
        return row | {"text": f"{NOTE} {row['text']} {NOTE}", "patient_id": f"{NAME}-{i}"}

    data, workspace = rewritten(few_pairs, place / "data", marked), place / "workspace"
    (data / rows_of(data)[0]["image"]).write_bytes(b"no image")  # left out and reported
    apart = ("--set", "learning_rate=1e30", "--set", "gradient_clip=1e30")  # a run that fails
    said = [zygote.run(["check", str(data)], workspace, stdout="said").said]
    for arguments in (("train", data, *SETTINGS), ("train", data, *SETTINGS, *apart), ("runs",)):
        said.append(fairvlm(zygote, *arguments, workspace=workspace, ok=False).said)
    return Canary(data, workspace, "\n".join(said))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_fault_18_no_note_is_kept_in_the_workspace_or_told(canary):
    """Searched as bytes and, since Parquet packs its text, cell by cell."""
    assert len(RunStore(canary.workspace).runs()) == 2
    assert {run.status.state for run in RunStore(canary.workspace).runs()} == {"finished", "failed"}
    word = NOTE.split()[0]
    for path in canary.workspace.rglob("*"):
        assert word not in path.name
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            assert not any(frame[name].astype(str).str.contains(word).any() for name in frame.columns), path
        elif path.is_file():
            assert word.encode() not in path.read_bytes(), path
    assert word not in canary.said


def test_fault_18_no_patient_is_named_in_a_log_a_file_name_or_an_error(canary):
    for path in canary.workspace.rglob("*"):
        assert NAME not in path.name
        if path.suffix in (".txt", ".json", ".jsonl"):
            assert NAME.encode() not in path.read_bytes(), path
    assert NAME not in canary.said
    assert "not finite" in canary.said, "the failing run is reported"


def test_fault_18_a_defect_of_ours_is_logged_without_its_words(few_pairs, tmp_path):
    """A library's error may quote the text that caused it; the lines of code are enough to find the place."""

    def stumble(*_) -> None:
        raise KeyError(f"no embedding for {NOTE} of {NAME}")

    table = PairTable.read(few_pairs)
    config = RunConfig.build("clip", {"epochs": 1, "batch_size": 8})
    run = create_run(table, config, RunStore(tmp_path / "workspace"), read_options={})
    with pytest.raises(KeyError):
        execute(run, table=table, hooks=Hooks(on_step=stumble))
    assert run.status.state == "failed"
    said = (run.path / "log.txt").read_text() + (run.path / "status.json").read_text()
    assert "KeyError" in said
    assert "in stumble" in said
    assert NOTE not in said
    assert NAME not in said


def test_fault_18_the_workspace_is_for_its_owner_alone(canary):
    for path in [canary.workspace, *canary.workspace.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path.relative_to(canary.workspace)}: {mode:o}"


# The app ------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving(command: list[str], port: int, cwd: Path, workspace: Path) -> Iterator[str]:
    """The app as a process of its own, until it answers."""
    environment = QUIET | {"FAIRVLM_WORKSPACE": str(workspace), "HOME": str(cwd)}
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                break
            time.sleep(0.2)
        else:
            pytest.fail("the server does not answer")
        yield address
    finally:
        process.terminate()  # only this process: what it started must end with it
        process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            for _ in range(100):
                os.killpg(process.pid, 0)
                time.sleep(0.1)
            os.killpg(process.pid, 9)
            pytest.fail("the server outlives the command that started it")


def websocket_status(port: int, host: str, origin: str | None = None) -> str:
    lines = (
        "GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: {origin or 'http://' + host}", "Upgrade: websocket",
        "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return connection.recv(64).split()[1].decode()


def foreign_hosts(port: int) -> tuple[str, ...]:
    return (
        "example.invalid", f"example.invalid:{port}", f"localhost.example.invalid:{port}", f"0.0.0.0:{port}",
        f"localhost@example.invalid:{port}", "",
    )  # fmt: skip


@pytest.mark.parametrize("start", ["streamlit", "fairvlm"])
def test_fault_18_the_app_is_local_from_whatever_folder_it_is_started(tmp_path, start):
    """A hostile configuration in the folder it is started from and in the home folder changes nothing."""
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text(
        '[server]\naddress = "0.0.0.0"\nallowedHosts = ["*"]\nenableXsrfProtection = false\nenableCORS = false\n'
    )
    port = free_port()
    command = {
        "streamlit": [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)],
        "fairvlm": [*FAIRVLM, "app", "--port", str(port)],
    }[start]
    with serving(command, port, tmp_path, tmp_path / "workspace"):
        assert websocket_status(port, f"localhost:{port}") == "101"
        assert websocket_status(port, f"127.0.0.1:{port}") == "101"
        paths = ("/", "/Data", "/_stcore/health", "/_stcore/host-config", "/_stcore/upload_file/a/b", "/media/a.png",
                 "/component/a/b", "/static/a", "/_stcore/metrics")  # fmt: skip
        for host in foreign_hosts(port):
            assert websocket_status(port, host) in ("400", "403"), host
            for path in paths:
                status, body, _ = http_answer(port, path, host)
                assert (status, body) == (400, b"Invalid host header"), f"{host} {path}"
            assert http_answer(port, "/_stcore/upload_file/a/b", host, "PUT")[0] == 400
        status, _, headers = http_answer(port, "/", f"localhost:{port}")
        assert status == 200
        assert "connect-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert websocket_status(port, f"localhost:{port}", origin=OUTSIDE) == "403"
        upload = urllib.request.Request(f"http://127.0.0.1:{port}/_stcore/upload_file/a/b", data=b"x", method="PUT")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(upload, timeout=10)
        assert refused.value.code in (400, 403), "an upload without the token of a session"
        refused.value.close()
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for other in others - {"127.0.0.1", "127.0.1.1"}:
            with pytest.raises(OSError), socket.create_connection((other, port), timeout=2):
                pass


def test_fault_18_the_configuration_says_so():
    import tomllib

    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["server"]["address"] == "127.0.0.1"
    assert set(config["server"]["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert config["server"]["enableXsrfProtection"] is True
    assert config["server"]["enableCORS"] is True
    assert config["server"]["xsrfCookieSameSite"] == "strict"
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"]["showErrorDetails"] == "none"
    assert config["client"]["showErrorLinks"] is False


# Hostile content in a real browser ----------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = ["", *sorted(path.stem.split("_", 1)[1] for path in (ROOT / "pages").glob("[0-9]*_*.py"))]


@pytest.fixture(scope="module")
def hostile(few_pairs: Path, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The app on a run whose ids, notes and groups are all hostile; address and data folder."""
    place = tmp_path_factory.mktemp("hostile")

    def changed(i: int, row: dict[str, str]) -> dict[str, str]:
        group = f"{HOSTILE[:90]} {i % 2}"
        return row | {
            "pair_id": f"{HOSTILE[:60]}{i}",
            "text": f"{HOSTILE} {i}",
            "race": group,
            f"{HOSTILE[:40]}": group,
        }

    data, workspace = rewritten(few_pairs, place / "data", changed), place / "workspace"
    for name in ("planted.csv", "dataset.json"):
        (data / name).unlink(missing_ok=True)
    for settings in (("--preset", "robustfair"), ("--preset", "clip", "--no-map")):
        fairvlm(zygote, "train", data, *settings, "--epochs", 2, "--batch-size", 8, workspace=workspace)
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with serving(command, port, ROOT, workspace) as address:
        yield address.replace("127.0.0.1", "localhost"), data


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_fault_18_hostile_content_opens_no_dialog_and_asks_nobody_outside(browser, hostile, page):
    address, data = hostile
    dialogs, outside, refused = [], [], []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()

    def asked(request) -> None:
        parts = urlparse(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname not in ("localhost", "127.0.0.1"):
            outside.append(request.url)

    def told(message) -> None:
        if "Content Security Policy" in message.text:
            refused.append(message.text)

    def spoke(dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    tab.on("dialog", spoke)
    tab.on("request", asked)
    tab.on("websocket", asked)
    tab.on("console", told)
    query = f"folder={urllib.request.pathname2url(str(data))}&run=1&run=2"
    tab.goto(f"{address}/{page}?{query}")
    tab.wait_for_selector("h1", timeout=60_000)
    tab.wait_for_function(
        "() => !document.querySelector('[data-testid=stStatusWidget], [data-testid=stSpinner], [data-testid=stSkeleton], "
        "[data-stale=true]')",
        timeout=90_000,
    )
    for name in tab.get_by_role("tab").all():  # open each once
        name.click()
        tab.wait_for_timeout(400)
    tab.wait_for_timeout(500)
    if page == "Bad_pairs":
        tab.get_by_text("Similar pairs").click()
        tab.get_by_role("tab", name="Similar images").click()
    if page in ("Data", "Bad_pairs"):
        tab.wait_for_selector("img[src*='/media/']", state="attached")
    taken = tab.evaluate("window.taken")
    links = tab.locator("[src*='example.invalid'], [href*='example.invalid'], [srcset*='example.invalid']").count()
    frames = tab.locator("[data-testid=stMain] iframe[src*='example.invalid'], [data-testid=stMain] script").count()
    words = tab.inner_text("body")
    port = urlparse(address).port
    pictures = {urlparse(src).path for src in tab.eval_on_selector_all("img", "images => images.map(one => one.src)")}
    media = sorted(path for path in pictures if path.startswith("/media/"))
    hosts = ("localhost", FOREIGN)
    answers = {(host, http_answer(port, path, f"{host}:{port}")[0]) for path in media[:3] for host in hosts}
    context.close()
    if media or page in ("Data", "Bad_pairs"):
        assert answers == {("localhost", 200), (FOREIGN, 400)}, "pictures are for names of this machine alone"
    assert dialogs == []
    assert outside == []
    assert refused == [], "what the pages need is within the policy"
    assert taken is None
    assert (links, frames) == (0, 0)
    assert "Traceback" not in words
    assert page != "Data" or "<img src=" in words, "the hostile words are there, as words"
