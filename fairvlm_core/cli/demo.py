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
from ..runs import Run, RunStore, State
from ..words import number
from . import show

if TYPE_CHECKING:
    from ..pairs import PairTable

PRESETS = ("clip", "robustfair", "robustfair-plus")
_RATES = {
    "Asian": 0.35,
    "Black": 0.20,
    "White": 0.10,
}  # share of wrong notes: the groups differ, to test fairness methods


def run_demo(workspace: Path | None, seeds: int) -> None:
    """Make the data and train the runs that are missing, then print the comparison."""
    from ..analysis.comparison import compare_runs
    from .metrics import print_table

    started = time.time()
    store = RunStore(workspace)
    table = _demo_table(store.workspace / "demo-data")
    chosen = _trained(store, table, seeds)
    show.out.print()
    print_table(compare_runs(chosen))
    _make_maps([run for run in reversed(chosen) if not run.files.projection.exists()])
    show.out.print(
        f"{len(chosen)} runs in {time.time() - started:.0f} s. `fairvlm mine {chosen[-1].id}` lists bad pairs."
    )


def _demo_table(folder: Path) -> PairTable:
    from ..pairs import PairTable
    from ..synth import SynthConfig, synthesize, write_synth

    with show.progress() as bar:
        if not folder.exists():
            bar.console.print("making the built-in data ...", highlight=False)
            data = synthesize(SynthConfig(mismatch_rate=_RATES), progress=show.watch(bar, "built-in images"))
            write_synth(data, folder)
        table = PairTable.read(folder, progress=show.watch(bar, "reading"))
    n = table.frame["split"].value_counts()
    planted = table.planted()
    kinds = {} if planted is None else planted["kind"].value_counts()
    show.out.print(
        f"SynthFundus in {folder}: {n['train']} training, {n['val']} validation, {n['test']} test pairs; "
        f"planted among the training pairs: {kinds['mismatch']} wrong notes, {kinds['shortcut']} shortcuts"
    )
    return table


def _trained(store: RunStore, table: PairTable, seeds: int) -> list[Run]:
    """A finished run of each preset and seed: found in the workspace, or trained now."""
    from ..config import RunConfig
    from ..features import pair_arrays
    from ..launch import Hooks, create_run, execute
    from ..models import load_clip

    finished = {(run.config.preset, run.config.seed): run for run in store.runs() if _is_demo(run, table)}
    arrays, chosen = None, []
    for seed in range(seeds):
        for preset in PRESETS:
            run = finished.get((preset, seed))
            if run is None:
                began = time.time()
                run = create_run(table, RunConfig.build(preset, {"seed": seed}), store, read_options={})
                with show.progress() as bar:
                    if arrays is None:
                        bar.console.print("decoding images ...", highlight=False)
                        arrays = pair_arrays(table, load_clip("tiny"), progress=show.watch(bar, "images"))
                    execute(run, table=table, arrays=arrays, hooks=Hooks(on_step=show.watch(bar, run.id)))
                auc = number(run.report()["test"]["overall"]["auc"])
                show.out.print(f"{run.id}  test AUC {auc}  {time.time() - began:.0f} s")
            chosen.append(run)
    return chosen


def _is_demo(run: Run, table: PairTable) -> bool:
    try:
        same_data = run.status.state == State.FINISHED and run.data["fingerprint"] == table.fingerprint
        return same_data and run.method_key == type(run.config).build(run.config.preset).method_key
    except InputError:
        return False


def _make_maps(runs: list[Run]) -> None:
    from ..analysis.pairmap import make_map_if_possible

    with show.progress() as bar:
        if runs:
            bar.console.print("making the maps of pairs ...", highlight=False)
        move = show.watch(bar, "maps")
        for done, run in enumerate(runs, start=1):
            make_map_if_possible(run)
            move(done, len(runs))


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
