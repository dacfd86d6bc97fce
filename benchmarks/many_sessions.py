"""Many people at once on one server: readers who judge pair after pair while others open pages.

    python benchmarks/many_sessions.py                 # 20 browse, 5 review, 10,000 pairs, 180 s
    python benchmarks/many_sessions.py --seconds 60

Makes the workspace of pages.py with a queue, serves the app in a process of its own, and opens one websocket a person, as a
browser does, with Streamlit's own messages; nothing is drawn. A browsing person opens pages in random order and pauses 5 to
15 s on each; a reader presses a verdict, gets the next pair, and pauses 2 to 6 s. Before the clock starts every page is
opened once, so that what the server imports and reads once is not counted. Printed: seconds from a request to the end of
the rerun, errors on pages, and verdicts pressed against verdicts in the log. The exit status is 1 where an error was shown
or a verdict was lost or counted twice.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: TID251
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: TID251
from websockets.asyncio.client import ClientConnection, connect

from fairvlm_core.review import QueueSettings, ReviewStore, queue_from_run
from fairvlm_core.runs import RunStore
from pages import ROOT, make_workspace

PAGES = (
    ("", ""), ("Data", ""), ("Data", "view=Browse+pairs"), ("Bad_pairs", "run=1"), ("Loss_and_Sinkhorn", "run=1"),
    ("Compare_runs", ""), ("Fine_tune", "view=Watch"), ("Report", "run=1"), ("Story", ""),
)  # fmt: skip
FAILED, GOES_ON = map(
    ForwardMsg.ScriptFinishedStatus.Value, ("FINISHED_WITH_COMPILE_ERROR", "FINISHED_EARLY_FOR_RERUN")
)
VERDICT = "Pair fits"


class Person:
    """One websocket: what it asked, how long the answers took, and what went wrong."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seconds: dict[str, list[float]] = {}
        self.errors: list[str] = []
        self.button: tuple[str, str] | None = None  # widget id and fragment of the verdict that is pressed
        self.page = ""

    async def ask(self, what: str, message: BackMsg) -> None:
        """Send, and read until the rerun has ended."""
        started = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        while True:
            answer = ForwardMsg.FromString(await asyncio.wait_for(self.socket.recv(), 120))
            kind = answer.WhichOneof("type")
            if kind == "new_session":
                self.page = answer.new_session.page_script_hash
            elif kind == "delta" and answer.delta.WhichOneof("type") == "new_element":
                self._element(answer.delta.new_element, answer.delta.fragment_id)
            elif kind == "script_finished" and answer.script_finished != GOES_ON:
                if answer.script_finished == FAILED:
                    self.errors.append("the script cannot be compiled")
                break
        self.seconds.setdefault(what, []).append(time.perf_counter() - started)

    def _element(self, element, fragment: str) -> None:
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.errors.append(element.exception.message)
        elif kind == "alert" and element.alert.format == element.alert.ERROR:
            self.errors.append(element.alert.body)
        elif kind == "button" and element.button.label == VERDICT:
            self.button = (element.button.id, fragment)

    async def open(self, name: str, query: str) -> None:
        message = BackMsg()
        message.rerun_script.page_name, message.rerun_script.query_string = name, query
        await self.ask(name or "Overview", message)

    async def judge(self) -> bool:
        """Press the verdict; whether there was one to press."""
        if self.button is None:
            return False
        (widget, fragment), self.button = self.button, None
        message = BackMsg()
        message.rerun_script.fragment_id, message.rerun_script.page_script_hash = fragment, self.page
        message.rerun_script.widget_states.widgets.add(id=widget, trigger_value=True)
        await self.ask("verdict", message)
        return True


async def browse(person: Person, until: float, chance: random.Random) -> int:
    while time.monotonic() < until:
        await person.open(*chance.choice(PAGES))
        await asyncio.sleep(chance.uniform(5, 15))
    return 0


async def review(person: Person, until: float, chance: random.Random) -> int:
    await person.open("Review", "")
    pressed = 0
    while time.monotonic() < until and await person.judge():
        pressed += 1
        await asyncio.sleep(chance.uniform(2, 6))
    return pressed


def arrive(port: int, reader: str = "") -> connect:
    """The websocket of a person; `reader` is the name of one who reviews."""
    return connect(
        f"ws://localhost:{port}/_stcore/stream", origin=f"http://localhost:{port}", subprotocols=["streamlit"],
        additional_headers={"Cookie": f"fairvlm_reader={reader}"} if reader else {}, max_size=None,
    )  # fmt: skip


async def everyone(port: int, browsing: int, reviewing: int, seconds: float) -> tuple[list[Person], int]:
    async with arrive(port, "First") as socket:
        first = Person(socket)
        for page in (*PAGES, ("Review", "")):
            await first.open(*page)
    until = time.monotonic() + seconds
    people: list[Person] = []

    async def one(place: int) -> int:
        reads = place < reviewing
        async with arrive(port, f"Reader{place}" if reads else "") as socket:
            people.append(Person(socket))
            return await (review if reads else browse)(people[-1], until, random.Random(place))

    return people, sum(await asyncio.gather(*map(one, range(browsing + reviewing))))


@contextmanager
def served(workspace: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    environment = os.environ | {
        "FAIRVLM_WORKSPACE": str(workspace),
        "FAIRVLM_DATABASE_URL": "",
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--browsing", type=int, default=20)
    parser.add_argument("--reviewing", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=180)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        make_workspace(Path(folder), options.pairs, 10, 6)
        workspace = Path(folder) / "workspace"
        with ReviewStore.open(workspace, url="") as store:
            run = RunStore(workspace).get("1")
            queue = queue_from_run(store, run, QueueSettings(size=2000, second_share=0.0), name="many", by="benchmark")
        with served(workspace) as port:
            people, pressed = asyncio.run(everyone(port, options.browsing, options.reviewing, options.seconds))
        with ReviewStore.open(workspace, url="") as store:
            stored = [event.pair_id for event in store.standing_readings(queue.queue_id)]
    by_kind: dict[str, list[float]] = {}
    for person in people:
        for what, seconds in person.seconds.items():
            by_kind.setdefault(what, []).extend(seconds)
    every = [value for values in by_kind.values() for value in values]
    print(f"{options.browsing} browse, {options.reviewing} review, {options.pairs:,} pairs, {options.seconds:g} s")
    for what, values in (*sorted(by_kind.items()), ("all", every)):
        median, late = np.percentile(values, [50, 95])
        print(f"{what:<20}{len(values):6d} answers   median {median:6.2f} s   95 % {late:6.2f} s")
    errors = [error for person in people for error in person.errors]
    lost, twice = pressed - len(stored), len(stored) - len(set(stored))
    print(f"errors {len(errors)}, verdicts pressed {pressed}, lost {lost}, counted twice {twice}")
    for error in sorted(set(errors)):
        print(f"  {error}")
    return int(bool(errors or lost or twice))


if __name__ == "__main__":
    sys.exit(main())
