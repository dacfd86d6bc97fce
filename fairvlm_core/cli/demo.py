"""`fairvlm demo`: built-in data, a few fine-tunes, the comparison; and the app."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..errors import InputError
from ..runs import RunStore
from ..words import number
from . import show

PRESETS = ("clip", "robustfair", "robustfair-plus")
# A tenth of the White, a third of the Asian patients' notes are wrong: what a fairness method has to get right.
_RATES = {"Asian": 0.35, "Black": 0.20, "White": 0.10}


def run_demo(workspace: Path | None, seeds: int) -> None:
    """Make the data unless it is there, train what is missing, print the comparison."""
    from ..analysis.comparison import compare_runs
    from ..analysis.pairmap import make_map_if_possible
    from ..config import RunConfig
    from ..features import pair_arrays
    from ..launch import Hooks, create_run, execute
    from ..models import load_clip
    from ..pairs import PairTable
    from ..synth import SynthConfig, synthesize, write_synth
    from .metrics import print_table

    started = time.time()
    store = RunStore(workspace)
    folder = store.workspace / "demo-data"
    with show.progress() as bar:
        if not folder.exists():
            bar.console.print("making the built-in data ...", highlight=False)
            data = synthesize(SynthConfig(mismatch_rate=_RATES), progress=show.watch(bar, "built-in images"))
            write_synth(data, folder)
        table = PairTable.read(folder, progress=show.watch(bar, "reading"))
        bar.console.print("decoding images ...", highlight=False)
        arrays = pair_arrays(table, load_clip("tiny"), progress=show.watch(bar, "images"))
    n = table.frame["split"].value_counts()
    planted = table.planted()["kind"].value_counts()
    show.out.print(
        f"SynthFundus in {folder}: {n['train']} training, {n['val']} validation, {n['test']} test pairs; "
        f"planted among the training pairs: {planted['mismatch']} wrong notes, {planted['shortcut']} shortcuts"
    )
    finished = {run.config.preset + str(run.config.seed): run for run in store.runs() if _is_demo(run, table)}
    chosen = []
    for seed in range(seeds):
        for preset in PRESETS:
            run = finished.get(preset + str(seed))
            if run is None:
                tick = time.time()
                run = create_run(table, RunConfig.build(preset, {"seed": seed}), store, read_options={})
                with show.progress() as bar:
                    execute(run, table=table, arrays=arrays, hooks=Hooks(on_step=show.watch(bar, run.id)))
                auc = number(run.report()["test"]["overall"]["auc"])
                show.out.print(f"{run.id}  test AUC {auc}  {time.time() - tick:.0f} s")
            chosen.append(run)
    show.out.print()
    print_table(compare_runs(chosen))
    unmapped = [run for run in reversed(chosen) if not (run.path / "projection.parquet").exists()]
    with show.progress() as bar:
        if unmapped:
            bar.console.print("making the maps of pairs ...", highlight=False)
        move = show.watch(bar, "maps")
        for done, run in enumerate(unmapped, start=1):
            make_map_if_possible(run)
            move(done, len(unmapped))
    show.out.print(
        f"{len(chosen)} runs in {time.time() - started:.0f} s. `fairvlm mine {chosen[-1].id}` lists bad pairs."
    )


def _is_demo(run, table) -> bool:
    try:
        return (
            run.status.state == "finished"
            and run.data["fingerprint"] == table.fingerprint
            and (run.method_key == type(run.config).build(run.config.preset).method_key)
        )
    except InputError:
        return False


def serve(workspace: Path | None, port: int) -> None:
    """Run the app in the foreground; loopback only."""
    script = Path(__file__).resolve().parents[2] / "app.py"
    if not script.is_file():
        raise InputError("the app is part of the checkout: run `streamlit run app.py` there")
    environment = dict(os.environ)
    if workspace is not None:
        environment["FAIRVLM_WORKSPACE"] = str(workspace.resolve())
    elif "FAIRVLM_WORKSPACE" not in environment:
        environment["FAIRVLM_WORKSPACE"] = str(Path("workspace").resolve())
    show.out.print(f"the app is on http://localhost:{port} (Ctrl-C stops it)")
    # Given here, so that a STREAMLIT_SERVER_ADDRESS left in the environment does not open the app to the network.
    command = [
        sys.executable, "-m", "streamlit", "run", script.name, "--server.port", str(port), "--server.address", "127.0.0.1",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=script.parent, env=environment) as server:
        for ending in (signal.SIGTERM, signal.SIGHUP):  # the server must not outlive the command
            signal.signal(ending, lambda *_: server.terminate())
        try:
            code = server.wait()
        except KeyboardInterrupt:  # the terminal told the server as well
            server.wait()
            code = 0
    raise SystemExit(code)
