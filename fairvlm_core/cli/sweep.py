"""`sweep`: search settings, and print the Pareto front."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs import RunStore
from ..sweep import DEFAULT, Plan, Space, Sweep, Trial, TrialState, place_of, read_space_file, sweep
from . import show


def plan_of(
    trials: int,
    objective: str | None,
    params: Sequence[str],
    space_file: Path | None,
    preset: str | None,
    settings: dict[str, Any],
    seeds: int | None,
    sampler: str,
    prune: bool,
) -> Plan:
    """The plan from the options. Where no option says what to vary, the study's own space is kept."""
    objectives = None if objective is None else tuple(name.strip() for name in objective.split(",") if name.strip())
    plan = Plan(trials, objectives, None, seeds, sampler, prune)
    items: list[str] = []
    if space_file is not None:
        items, of_file, its_preset = read_space_file(space_file)
        settings, preset = of_file | settings, preset or its_preset
    items += params
    if not items and not settings and preset is None:
        return plan
    given = {item.partition("=")[0].strip() for item in items} | set(settings)
    defaults = [item for item in DEFAULT if item.partition("=")[0] not in given]
    return replace(plan, space=Space.read(items or defaults, preset or "robustfair", settings))


def run_sweep(
    folder: Path,
    plan: Plan,
    *,
    workspace: Path | None,
    study: str,
    where: str | None,
    read_options: dict[str, Any],
    map_pairs: bool,
    json: bool,
) -> None:
    from ..pairs import PairTable

    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; `fairvlm synth OUT` makes one")
    store = RunStore(workspace)
    storage = place_of(study, store.workspace, where)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the run is kept, the trial queued again
    ended = 0

    with show.progress(json) as bar:
        table = PairTable.read(folder, progress=show.watch(bar, "reading"), **read_options)

        def on_trial(now: Sweep, trial: Trial) -> None:
            nonlocal ended
            ended += 1
            if not json:
                bar.console.print(trial_line(now, trial), highlight=False, markup=False, soft_wrap=True)

        try:
            found = sweep(
                table,
                store,
                storage,
                plan,
                read_options=read_options,
                map_pairs=map_pairs,
                on_trial=on_trial,
                on_images=show.watch(bar, "images"),
            )
        except KeyboardInterrupt:
            show.err.print(f"{ended} trials finished; the same command continues with the interrupted one")
            raise
    if json:
        show.print_json({"workspace": str(store.workspace)} | found.to_dict())
    else:
        print_sweep(found)


def trial_line(sweep: Sweep, trial: Trial) -> str:
    """One line on a trial that has ended."""
    if trial.values is None:
        return f"trial {trial.number}  {trial.state}  {trial.settings}  {trial.message}".rstrip()
    values = "  ".join(f"{n} {v:.3f}" for n, v in zip(sweep.objectives, trial.values, strict=True))
    return f"trial {trial.number}  validation {values}  {trial.settings}"


def print_sweep(found: Sweep) -> None:
    """The Pareto front, with intervals over seeds where there are several."""
    rows = []
    for trial in found.front:
        cells = [f"{value:.3f}" for value in trial.values or ()]
        for i in range(len(cells)):
            if interval := trial.interval(i):
                cells[i] += " [{:.3f}, {:.3f}]".format(*interval)
        rows.append((trial.number, trial.settings, *cells, len(trial.by_seed), " ".join(trial.runs)))
    title = "Pareto front" if len(found.objectives) > 1 else "Best"
    columns = ("trial", "settings", *(f"val {name}" for name in found.objectives), "seeds", "runs")
    show.table(
        f"{title}, of {len(found.complete)} complete trials of study {found.name}", columns, rows, numbers_from=9
    )
    lines = [f"Means over seeds on {found.n_val} validation pairs; the test split was not used."]
    if any(len(trial.by_seed) > 1 for trial in found.front):
        lines.append("In brackets: 95 % interval over seeds, on the same validation patients.")
    lines.append("The best of many trials looks better on validation than it is: judge it by `fairvlm compare`.")
    if found.partial:
        lines.append(f"ES-AUC is partial for {', '.join(found.partial)}: a validation group has one label only.")
    pruned, failed, running = (found.count(s) for s in (TrialState.PRUNED, TrialState.FAILED, TrialState.RUNNING))
    if pruned or failed or running:
        lines.append(f"{pruned} pruned, {failed} failed, {running} running in other workers.")
    for line in lines:
        show.out.print(line, markup=False)
