"""`demo` and `app`: built-in data, fine-tuning, comparison; and the server of the app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..fairness import difference_words
from ..runs import Run, RunStore, State
from ..words import number
from . import show

if TYPE_CHECKING:
    from ..analysis.comparison import RunComparison
    from ..config import RunConfig
    from ..features import PairArrays
    from ..pairs import PairTable

BASE, OURS = "clip", "robustfair-plus"
PRESETS = (BASE, "robustfair", OURS)
FRONT = (0.0, 1.0)  # λ of the further runs of `OURS`, for the trade-off between AUC and ES-AUC
ATTRIBUTE, GROUP = "race", "Black"  # whose images come from another device


def run_demo(workspace: Path | None, seeds: int, *, maps: bool) -> None:
    """Make the data, train the missing runs, print the comparison and what came out; `maps`: those of the first seed."""
    from ..analysis.comparison import compare_runs
    from .metrics import print_table

    started = time.time()
    store = RunStore(workspace)
    table = _demo_table(store.workspace / "demo-data")
    chosen = _trained(store, table, seeds)
    methods = _standard_methods()
    standard = [run for run in chosen if run.method_key in methods]
    comparison = compare_runs(standard)
    show.out.print()
    print_table(comparison)
    if maps:
        _make_maps([run for run in standard[: len(PRESETS)] if not run.files.projection.exists()])
    show.out.print(f"{len(chosen)} runs in {time.time() - started:.0f} s. What came out:")
    show.out.print(_what_came_out(comparison))


def _what_came_out(comparison: RunComparison) -> str:
    """Two sentences: ES-AUC by the disadvantaged attribute, and AUC, of our method against plain fine-tuning."""
    methods = {scored.name: scored for scored in comparison.methods}  # one of each preset, named after it
    found = comparison.differences[OURS].comparison
    sentences = []
    for title, attribute in ((f"ES-AUC by {ATTRIBUTE}", ATTRIBUTE), ("AUC", None)):
        before, after = (methods[preset].value(attribute).mean for preset in (BASE, OURS))
        change = difference_words(found.cell(attribute), OURS, with_size=False)
        sentences.append(f"{title} is {number(after)} with {OURS} and {number(before)} with {BASE} ({change}).")
    return " ".join(sentences)


def _demo_table(folder: Path) -> PairTable:
    from ..pairs import PairTable
    from ..synth import SynthConfig, synthesize, write_synth

    with show.progress() as bar:
        if not folder.exists():
            bar.console.print("making the built-in data ...", highlight=False)
            config = SynthConfig(n_test=3000, mismatch_rate=0.15, disparity=(f"{ATTRIBUTE}={GROUP}:device",))
            write_synth(synthesize(config, progress=show.watch(bar, "built-in images")), folder)
        table = PairTable.read(folder, progress=show.watch(bar, "reading"))
    n = table.frame["split"].value_counts()
    planted = table.planted()
    kinds = {} if planted is None else planted["kind"].value_counts()
    show.out.print(
        f"SynthFundus in {folder}: {n['train']} training, {n['val']} validation, {n['test']} test pairs. "
        f"Among the training pairs {kinds['mismatch']} have a wrong note and {kinds['shortcut']} a shared marker. "
        f"The images of {GROUP} patients come from another device, which shows them inverted."
    )
    return table


def _configs(seeds: int) -> list[RunConfig]:
    from ..config import RunConfig

    front = [RunConfig.build(OURS, {"fairness.weight": weight}) for weight in FRONT]
    return front + [RunConfig.build(preset, {"seed": seed}) for seed in range(seeds) for preset in PRESETS]


def _standard_methods() -> set[str]:
    from ..config import RunConfig

    return {RunConfig.build(preset).method_key for preset in PRESETS}


def _trained(store: RunStore, table: PairTable, seeds: int) -> list[Run]:
    """A finished run of each configuration: found in the workspace, or trained now, one on each core."""
    from joblib import Parallel, delayed

    from ..features import pair_arrays
    from ..launch import create_run
    from ..models import load_clip

    finished = {(run.method_key, run.config.seed): run for run in store.runs() if _is_finished(run, table)}
    configs = _configs(seeds)
    missing = [config for config in configs if (config.method_key, config.seed) not in finished]
    with show.progress() as bar:
        arrays = None
        if missing:
            bar.console.print(f"decoding images, then {len(missing)} runs ...", highlight=False)
            arrays = pair_arrays(table, load_clip("tiny"), progress=show.watch(bar, "images"))
        move = show.watch(bar, "runs")
        made = [create_run(table, config, store, read_options={}) for config in missing]
        processes = Parallel(n_jobs=max(1, min(len(made), cpu_count() or 1)), return_as="generator_unordered")
        for done, run_id in enumerate(processes(delayed(_train)(run, table, arrays) for run in made), start=1):
            auc = number(store.get(run_id).report()["test"]["overall"]["auc"])
            show.out.print(f"{run_id}  test AUC {auc}")
            move(done, len(made))
    finished |= {(run.method_key, run.config.seed): run for run in made}
    return [finished[config.method_key, config.seed] for config in configs]


def _train(run: Run, table: PairTable, arrays: PairArrays) -> str:
    """Train a run on one core; in a process of its own."""
    import torch

    from ..launch import execute

    torch.set_num_threads(1)
    execute(run, table=table, arrays=arrays)
    return run.id


def _is_finished(run: Run, table: PairTable) -> bool:
    try:
        return run.status.state == State.FINISHED and run.data["fingerprint"] == table.fingerprint
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


def make_maps_later(workspace: Path | None) -> None:
    """Start a process of its own that makes the missing maps, so that the app need not wait for them."""
    from ..jobs.detached import Detached, fairvlm

    folder = RunStore(workspace).workspace.resolve()
    command = fairvlm("map", "--missing", "--workspace", str(folder))
    Detached(folder / "maps.json", folder / "maps.log").start(command, environment={"OMP_NUM_THREADS": "1"})
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
