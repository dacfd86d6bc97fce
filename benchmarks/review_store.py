"""The review log under load: many readers at once, and kill -9 while they write, on SQLite and on PostgreSQL.

    python benchmarks/review_store.py [--readers 8] [--verdicts 500] [--kills 25] [--databases sqlite,postgresql]

Every reader is a separate process that leases a pair, judges it, sends one verdict in twenty twice (a double click), and
notes the event id when the verdict is acknowledged. Afterwards the log must hold every acknowledged verdict exactly once,
no pair may have two readers, and the chain must be intact. PostgreSQL is started in a temporary folder from the installed
programs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fairvlm_core.review import QueueSettings, ReviewStore, Verdict, plan_queue

DATA = "0" * 64
PROGRAMS = "/usr/lib/postgresql"


@dataclass(frozen=True)
class Outcome:
    """Acknowledged verdicts compared with the log."""

    acknowledged: list[str]
    milliseconds: np.ndarray
    seconds: float
    lost: int
    doubled: int
    pairs_read_twice: int
    chain: str

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.pairs_read_twice or self.chain)


def fill(store: ReviewStore, n_pairs: int) -> str:
    """Make a queue of `n_pairs` pairs, one reader each."""
    z = np.linspace(9, 3, n_pairs)
    rows = pd.DataFrame({"pair_id": [f"p{i:06d}" for i in range(n_pairs)], "kind": "faulty", "mean_loss": z, "z": z})
    plan = plan_queue(rows.assign(weight=0.1), QueueSettings(control_share=0, second_share=0))
    return store.make_queue("load", plan, by="Bench", run_id="0001-bench", data=DATA).queue_id


def work(folder: str, url: str, queue_id: str, name: str, count: int) -> None:
    """Run as a reader: print event id and milliseconds of each acknowledged verdict."""
    rng = np.random.default_rng(uuid.uuid4().int % 2**32)
    with ReviewStore.open(folder, url=url) as store:
        for _ in range(count):
            tick = time.perf_counter()
            task = store.next_pair(queue_id, name)
            if task is None:
                return
            event_id, verdict = str(uuid.uuid4()), Verdict(str(rng.choice(["fits", "wrong_note"])))
            for _ in range(2 if rng.random() < 0.05 else 1):
                store.judge(queue_id, task.pair_id, name, verdict, event_id=event_id)
            print(event_id, 1e3 * (time.perf_counter() - tick), flush=True)


def start_reader(folder: str, url: str, queue_id: str, name: str, count: int, log: Path) -> subprocess.Popen:
    command = [sys.executable, __file__, "--work", folder, url, queue_id, name, str(count)]
    with log.open("w") as out:
        return subprocess.Popen(command, stdout=out, env=os.environ | {"OMP_NUM_THREADS": "1"})


def read_log(log: Path) -> list[tuple[str, float]]:
    """Acknowledged verdicts; an incomplete last line was not acknowledged."""
    lines = log.read_text().split("\n")[:-1]
    return [(event_id, float(ms)) for event_id, ms in (line.split() for line in lines)]


def load(folder: Path, url: str, readers: int, verdicts: int) -> Outcome:
    """Run all readers at the same time, each with the given number of verdicts."""
    with ReviewStore.open(folder, url=url) as store:
        queue_id = fill(store, readers * verdicts)
        logs = [folder / f"reader-{i}.log" for i in range(readers)]
        started = time.perf_counter()
        processes = [
            start_reader(str(folder), url, queue_id, f"Reader {i}", verdicts, log) for i, log in enumerate(logs)
        ]
        codes = [process.wait() for process in processes]
        seconds = time.perf_counter() - started
        if any(codes):
            raise SystemExit(f"a reader stopped with {codes}")
        return check(store, [entry for log in logs for entry in read_log(log)], seconds)


def kills(folder: Path, url: str, times: int, *, n_pairs: int = 30_000, seed: int = 0) -> Outcome:
    """Run two readers and kill one of them at a random moment; repeat."""
    rng = np.random.default_rng(seed)
    acknowledged: list[tuple[str, float]] = []
    started = time.perf_counter()
    with ReviewStore.open(folder, url=url) as store:
        queue_id = fill(store, n_pairs)
        quiet = start_reader(str(folder), url, queue_id, "Survivor", 100_000, folder / "survivor.log")
        try:
            for i in range(times):
                log = folder / f"killed-{i}.log"
                process = start_reader(str(folder), url, queue_id, f"Killed {i}", 100_000, log)
                while log.stat().st_size == 0 and process.poll() is None:
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, 0.2))
                process.send_signal(signal.SIGKILL)
                process.wait()
                acknowledged += read_log(log)
        finally:
            quiet.kill()
            quiet.wait()
        acknowledged += read_log(folder / "survivor.log")
        return check(store, acknowledged, time.perf_counter() - started)


def check(store: ReviewStore, entries: list[tuple[str, float]], seconds: float) -> Outcome:
    stored = [event for event in store.events() if event.kind == "verdict"]
    held = pd.Series([event.event_id for event in stored]).value_counts()
    acknowledged = [event_id for event_id, _ in entries]
    pairs = pd.Series([event.pair_id for event in stored]).value_counts()
    return Outcome(
        acknowledged=acknowledged,
        milliseconds=np.array([ms for _, ms in entries]),
        seconds=seconds,
        lost=len(set(acknowledged) - set(held.index)),
        doubled=int((held > 1).sum()) + len(acknowledged) - len(set(acknowledged)),
        pairs_read_twice=int((pairs > 1).sum()),
        chain=store.verify().problem,
    )


def postgres_programs() -> Path | None:
    """The newest installed PostgreSQL; None without one."""
    found = sorted(Path(PROGRAMS).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


@contextlib.contextmanager
def postgres_server(*settings: str) -> Iterator[str]:
    """Start a server in a temporary folder, reached through a socket there; yields the URL of its first database.

    `settings` are further ones of the server, such as ``fsync=off``.

    PostgreSQL refuses to run as root: root starts it as the user `postgres`.
    """
    programs = postgres_programs()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="fairvlm-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    options = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        init = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "fairvlm", "-A", "trust", "--no-sync"]
        subprocess.run([*init, "-E", "UTF8", "--locale", "C"], check=True, **options)
        settings = ("listen_addresses=", f"unix_socket_directories={folder}", *settings)
        asked = [part for setting in settings for part in ("-c", setting)]
        server = subprocess.Popen([str(programs / "postgres"), "-D", str(folder / "data"), *asked], **options)
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", str(folder)]
            for _ in range(300):
                if subprocess.run(ready, check=False).returncode == 0:
                    break
                time.sleep(0.1)
            yield f"postgresql://fairvlm@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)  # no clean shutdown: its folder is deleted
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(url: str) -> str:
    """Create an empty database on the server; returns its URL."""
    from sqlalchemy import create_engine, make_url, text

    name = f"review_{uuid.uuid4().hex[:12]}"
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def line(database: str, what: str, outcome: Outcome) -> str:
    middle, late = np.percentile(outcome.milliseconds, [50, 99])
    return (
        f"| {database} | {what} | {len(outcome.acknowledged):,} | {outcome.lost} | {outcome.doubled} | "
        f"{outcome.pairs_read_twice} | {outcome.chain or 'whole'} | {outcome.seconds:.1f} | {middle:.0f} | {late:.0f} |"
    )


def measure(database: str, url: str, arguments: argparse.Namespace) -> bool:
    many = f"{arguments.readers} readers, {arguments.verdicts} verdicts each"
    loads: dict[str, Callable[[Path, str], Outcome]] = {
        many: lambda folder, place: load(folder, place, arguments.readers, arguments.verdicts),
        f"kill -9, {arguments.kills} times": lambda folder, place: kills(folder, place, arguments.kills),
    }
    good = True
    for what, run in loads.items():
        with tempfile.TemporaryDirectory(prefix="fairvlm-review-") as folder:
            outcome = run(Path(folder), new_database(url) if url else "")
        print(line(database, what, outcome), flush=True)
        good &= outcome.good
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--verdicts", type=int, default=500)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        *place, count = arguments.work
        work(*place, int(count))
        return
    print("| database | load | acknowledged | lost | doubled | pairs read twice | chain | s | median ms | 99 % ms |")
    print("|---|---|---:|---:|---:|---:|---|---:|---:|---:|")
    good = True
    for database in arguments.databases.split(","):
        with postgres_server() if database == "postgresql" else contextlib.nullcontext("") as url:
            good &= measure(database, url, arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
