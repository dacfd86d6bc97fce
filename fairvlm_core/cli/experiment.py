"""`experiment`: train what is missing, print the table and write it as CSV, LaTeX and HTML."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import InputError
from ..runs import Run, RunStore
from ..words import many, number
from . import show

if TYPE_CHECKING:
    from ..experiment import Cell, Experiment, ExperimentTable, Trained
    from ..pairs import PairTable


@dataclass(frozen=True)
class Options:
    """What the command line says besides file and folder."""

    settings: dict[str, Any] = field(default_factory=dict)
    models: Sequence[str] = ()
    seeds: int | None = None
    processes: int | None = None
    read_options: dict[str, Any] = field(default_factory=dict)


def run_experiment(
    file: Path, folder: Path | None, *, workspace: Path | None, options: Options, background: bool, json: bool
) -> None:
    """Train what is missing, or queue it; print the table of what is finished."""
    from ..config import AUTO
    from ..experiment import queue_missing, read_experiment
    from ..models import check_name

    experiment = read_experiment(file).changed(options.settings, options.models, options.seeds)
    for model in experiment.models:  # refused before data are made or read
        if model != AUTO:
            check_name(model)
    store = RunStore(workspace)
    table, read_options = data_of(experiment, folder, store, options.read_options, quiet=json)
    if background:
        trained = queue_missing(experiment, table, store, read_options)
        if not trained.finished:
            return _say_queued(trained, store, json)
    else:
        trained = train(experiment, table, store, options, read_options, quiet=json)
    if not trained.finished:
        raise InputError(_failures(trained))
    made, files = tabulate(experiment, trained, store, quiet=json)
    if json:
        failed = [{"run": str(cell), "message": why} for cell, why in trained.failed.items()]
        paths = {path.suffix[1:]: str(path) for path in files}
        show.print_json({"workspace": str(store.workspace), "files": paths, "failed": failed} | made.to_dict())
    else:
        print_table(made)
        show.out.print(f"also as {', '.join(path.suffix[1:].upper() for path in files)} in {files[0].parent}")
    if trained.failed and json:  # the document has the reasons
        raise typer.Exit(2)
    if trained.failed:
        raise InputError(_failures(trained))
    return None


def _say_queued(trained: Trained, store: RunStore, json: bool) -> None:
    if json:
        runs = [cell.facts | {"run": run.id} for cell, run in trained.runs.items()]
        return show.print_json({"workspace": str(store.workspace), "queued": runs})
    return show.out.print(f"{many(len(trained.runs), 'run')} queued; the same command prints the table")


def _failures(trained: Trained) -> str:
    reasons = "; ".join(f"{cell}: {why}" for cell, why in list(trained.failed.items())[:3])
    return f"{many(len(trained.failed), 'run')} failed and are not in the table: {reasons}"


def data_of(
    experiment: Experiment, folder: Path | None, store: RunStore, read_options: dict[str, Any], *, quiet: bool
) -> tuple[PairTable, dict[str, Any]]:
    """The table, and the options that read it again; built-in data are made where the experiment is on them."""
    from ..pairs import PairTable
    from ..synth import synthesize, write_synth

    if folder is None and experiment.synth is None:
        raise InputError(f"experiment {experiment.name} needs a data folder: fairvlm experiment FILE DATA")
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    with show.progress(quiet) as bar:
        if folder is None:
            folder, read_options = store.workspace / f"{experiment.name}-data", {}
            if not folder.exists():
                bar.console.print("making the built-in data ...", highlight=False)
                data = synthesize(experiment.synth_config(), progress=show.watch(bar, "built-in images"))
                write_synth(data, folder)
        return PairTable.read(folder, progress=show.watch(bar, "reading"), **read_options), read_options


def train(
    experiment: Experiment,
    table: PairTable,
    store: RunStore,
    options: Options,
    read_options: dict[str, Any],
    *,
    quiet: bool,
) -> Trained:
    """Train what is missing, with a line for each run that ends."""
    from ..experiment import Progress, train_missing

    done, total = 0, 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: every run is kept
    with show.progress(quiet) as bar:
        move = show.watch(bar, "runs")

        def on_begin(finished: int, cells: int) -> None:
            nonlocal done, total
            done, total = finished, cells
            move(done, total)
            if not quiet and done < total:
                bar.console.print(f"{many(total, 'run')}, {done} of them finished before", highlight=False)

        def on_run(cell: Cell, run: Run, why: str) -> None:
            nonlocal done
            done += 1
            move(done, total)
            if not quiet:
                ended = why or f"test AUC {number(run.report()['test']['overall']['auc'])}"
                bar.console.print(f"{run.id}  {cell}  {ended}", highlight=False, markup=False, soft_wrap=True)

        return train_missing(
            experiment,
            table,
            store,
            read_options=read_options,
            processes=options.processes,
            progress=Progress(on_begin, show.watch(bar, "images"), on_run),
        )


def tabulate(
    experiment: Experiment, trained: Trained, store: RunStore, *, quiet: bool
) -> tuple[ExperimentTable, list[Path]]:
    """The table of the finished runs and the files that have it."""
    from ..experiment import folder_of, make_table
    from ..experiment.formats import write_formats

    folder = folder_of(experiment.name, store)
    with show.progress(quiet) as bar:
        bar.add_task("intervals", total=None)
        made = make_table(experiment, list(trained.runs), trained.finished, folder)
    return made, write_formats(made, folder)


def print_table(table: ExperimentTable) -> None:
    """Each block of the table, and the differences from the baseline below it."""
    from ..experiment.formats import changes, heading, notes, summary, wide

    for model, score, attribute, entries in table.blocks():
        title = heading(model, score, attribute, entries)
        against = f"{score}{f' · by {attribute}' if attribute else ''}: difference from {table.baseline}"
        for frame, said in ((wide(entries, intervals=False), title), (changes(entries, groups=False), against)):
            if not frame.empty:
                rows = [(method, *cells) for method, *cells in frame.itertuples()]
                show.table(said, ("method", *frame.columns), rows)
    for line in (*notes(table, intervals=False), "", "What came out:", *summary(table)):
        show.out.print(line, markup=False)
