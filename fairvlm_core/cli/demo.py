"""`demo` and `app`: built-in data, fine-tuning, comparison; and the server of the app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..runs import Run, RunStore
from . import show

if TYPE_CHECKING:
    from ..pairs import PairTable


def run_demo(workspace: Path | None, seeds: int, *, maps: bool) -> None:
    """Run the bundled experiment `demo`; `maps`: make the maps of the first seed's runs, too."""
    from ..experiment import read_experiment
    from .experiment import Options, data_of, print_table, tabulate, train

    started, store = time.time(), RunStore(workspace)
    experiment = read_experiment(Path("demo")).changed({}, seeds=seeds)
    table, read_options = data_of(experiment, None, store, {}, quiet=False)
    _say_what_was_planted(table)
    trained = train(experiment, table, store, Options(), read_options, quiet=False)
    made, _ = tabulate(experiment, trained, store, quiet=False)
    if maps:
        first = [run for cell, run in trained.finished.items() if cell.seed == 0 and not cell.config.changes]
        _make_maps([run for run in first if not run.files.projection.exists()])
    show.out.print(f"{len(trained.runs)} runs in {time.time() - started:.0f} s")
    print_table(made)


def _say_what_was_planted(table: PairTable) -> None:
    n, planted = table.frame["split"].value_counts(), table.planted()
    kinds = {} if planted is None else planted["kind"].value_counts()
    show.out.print(
        f"SynthFundus in {table.root}: {n['train']} training, {n['val']} validation, {n['test']} test pairs. "
        f"Among the training pairs {kinds['mismatch']} have a wrong note and {kinds['shortcut']} a shared marker. "
        "The images of Black patients come from another device, which shows them inverted."
    )


def _make_maps(runs: list[Run]) -> None:
    from ..analysis.pairmap import make_map_if_possible

    with show.progress() as bar:
        if runs:
            bar.console.print("making the maps of pairs ...", highlight=False)
        move = show.watch(bar, "maps")
        for done, run in enumerate(runs, start=1):
            make_map_if_possible(run)
            move(done, len(runs))


def make_maps_later(workspace: Path | None, *, quiet: bool = False) -> None:
    """Start a process of its own that makes the missing maps, so that nothing waits for them."""
    from ..jobs.detached import Detached, fairvlm

    folder = RunStore(workspace).workspace.resolve()
    command = fairvlm("map", "--missing", "--workspace", str(folder))
    Detached(folder / "maps.json", folder / "maps.log").start(command, environment={"OMP_NUM_THREADS": "1"})
    if not quiet:
        show.out.print("the maps of pairs are being made in the background and appear on the Bad pairs page")


def app_script() -> Path:
    """The app's entry point: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_app", package.parent):
        if (folder / "ui" / "frame.py").is_file():
            return folder / "app.py"
    raise InputError("the app is missing: install fairvlm again")


def serve(workspace: Path | None, port: int) -> None:
    """Run the app in the foreground, on loopback only."""
    script = app_script()
    workspace = RunStore(workspace).workspace.resolve()
    show.out.print(f"the app is on http://localhost:{port} (Ctrl-C stops it)")
    # The address is given here, so that a STREAMLIT_SERVER_ADDRESS in the environment does not open the app to the network.
    # Modules in the working directory are not imported (-P); Streamlit adds the folder of the script.
    options = ("--server.port", str(port), "--server.address", "127.0.0.1")
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(script), *options]
    with subprocess.Popen(command, env=os.environ | {"FAIRVLM_WORKSPACE": str(workspace)}) as server:
        for ending in (signal.SIGTERM, signal.SIGHUP):  # the server must not outlive the command
            signal.signal(ending, lambda *_: server.terminate())
        try:
            code = server.wait()
        except KeyboardInterrupt:  # the terminal sent the signal to the server as well
            server.wait()
            code = 0
    raise SystemExit(code)
