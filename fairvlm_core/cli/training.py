"""`train` and `runs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import BUILT_IN, RunConfig, with_model
from ..errors import InputError
from ..runs import Run, RunStore
from ..words import number
from . import show

if TYPE_CHECKING:
    from ..analysis.entries import RunEntry
    from ..distributed import Team
    from ..models import Clip
    from ..pairs import PairTable
    from ..train import EpochReport


@dataclass(frozen=True)
class NewRun:
    """What the command line says about a run to be made."""

    folder: Path | None
    preset: str
    settings: dict[str, Any]
    verdicts: str | None
    read_options: dict[str, Any]


def parse_settings(items: Sequence[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` items; an `InputError` for an item without key or ``=``."""
    settings = {}
    for item in items or ():
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise InputError(f"--set {item!r}: write KEY=VALUE, as in mining.faulty_sd=2")
        settings[key.strip()] = value.strip()
    return settings


def train_run(
    new: NewRun,
    *,
    workspace: Path | None,
    resume: str | None,
    json: bool,
    map_pairs: bool,
    background: bool,
    team: Team,
) -> None:
    """Make a run, or find the one to resume; train it here or put it into the queue; print its result."""
    store, table, clip = RunStore(workspace), None, None
    quiet = json or not team.first
    if background and team.size > 1:
        raise InputError("--background puts one process into the queue: leave it out with torchrun")
    if resume is not None:
        run = _to_resume(store, resume, new)
    else:
        run, table, clip = _made(store, new, quiet, team)
    if background:
        from .jobs import launch_in_background

        return launch_in_background(store, run, resumed=resume is not None, json=json)
    from ..launch import Hooks, execute

    with show.progress(quiet) as bar:

        def on_epoch(report: EpochReport) -> None:
            if not json:
                bar.console.print(_epoch_line(report, run.config.epochs), highlight=False)

        hooks = Hooks(show.watch(bar, "images"), show.watch(bar, "training"), on_epoch)
        execute(run, table=table, clip=clip, resume=resume is not None, map_pairs=map_pairs, hooks=hooks, team=team)
    if not team.first:
        return None
    if json:
        return show.print_json(
            {"run_id": run.id, "status": run.status.state, "model": run.config.model, **run.report()}
        )
    print_result(run)
    return print(run.id)


def _to_resume(store: RunStore, name: str, new: NewRun) -> Run:
    if new.verdicts is not None:
        raise InputError("--resume uses the run's own verdicts: leave out --verdicts, or start a new run")
    run = store.get(name)
    config = run.config
    if RunConfig.read(RunConfig.build(config.preset, {**config.flat(), **new.settings}).to_dict()) != config:
        raise InputError(
            f"--resume uses the settings of {run.id}: leave out {', '.join(new.settings)}, or start a new run"
        )
    return run


def _made(store: RunStore, new: NewRun, quiet: bool, team: Team) -> tuple[Run, PairTable, Clip | None]:
    """A new run, made by the first process of a team, its data, and its model if it was loaded."""
    if new.folder is None:
        raise InputError("name a data folder, or --resume RUN; `fairvlm synth OUT` makes one")
    RunConfig.build(new.preset, new.settings)  # refused before the data is read
    if not new.folder.is_dir():
        raise InputError(f"{new.folder}: there is no such folder; `fairvlm synth OUT` makes one")
    from ..analysis.vocabulary import vocabulary_warnings
    from ..analysis.without_effect import without_effect
    from ..launch import create_run
    from ..models import load_clip
    from ..pairs import PairTable
    from .review import verdicts_for_training

    verdicts = None if new.verdicts is None else verdicts_for_training(new.verdicts, store.workspace)
    with show.progress(quiet) as bar:
        table = PairTable.read(new.folder, progress=show.watch(bar, "reading"), **new.read_options)
    config = RunConfig.build(new.preset, with_model(table, new.settings))
    if team.first:
        run = create_run(table, config, store, read_options=new.read_options, verdicts=verdicts)
        team.tell(run.id)
    else:
        run = store.get(team.tell(""))
    clip = load_clip(config.model) if config.model in BUILT_IN else None
    if team.first:
        words = [] if clip is None else vocabulary_warnings(table, clip)
        for one in (*table.report.decisions, *words, *without_effect(config, table.attributes)):
            show.err.print(f"warning: {one}", markup=False, soft_wrap=True)
    if "verdicts" in run.data and not quiet:
        counts = run.data["verdicts"]["counts"].items()
        show.out.print("verdicts: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts if n))
    return run, table, clip


def _epoch_line(report: EpochReport, epochs: int) -> str:
    return (
        f"epoch {report.epoch}/{epochs}  loss {report.train_loss:.3f}  "
        f"val AUC {number(report.val['overall']['auc'])}  "
        f"flagged {report.flagged['faulty']} faulty, {report.flagged['noisy']} noisy  {report.seconds:.1f} s"
    )


def print_result(run: Run) -> None:
    """Test metrics of a finished run, zero-shot and linear probe, and whether it was still learning."""
    from ..analysis.entries import read_entry

    report = run.report()
    test, folds = report["test"], report.get("folds", [])
    rows: list[tuple[Any, ...]] = [("all", "", *_cells(test["overall"]), None)]
    for attribute, facts in test["attributes"].items():
        es_auc = None if facts["es_auc"] is None else number(facts["es_auc"]) + "*" * bool(facts.get("partial"))
        names = [(attribute, es_auc)] + [("", "")] * (len(facts["groups"]) - 1)  # once for each attribute
        for (shown, value), (group, cells) in zip(names, facts["groups"].items(), strict=True):
            rows.append((shown, group, *_cells(cells), value))
    show.table(
        f"All {len(folds)} folds, zero-shot, each pair by the model that did not see it"
        if folds
        else f"Test split, zero-shot, model of epoch {report['best_epoch']}",
        ("attribute", "group", "n", "positive", "AUC", "ES-AUC"),
        rows,
        numbers_from=2,
    )
    if report["probe"] is not None:
        show.out.print(f"Linear probe on the image features: test AUC {number(report['probe']['overall']['auc'])}")
    if folds:
        rows = [
            (one["fold"], one["n"], one["n_patients"], number(one["auc"]), number(one["probe_auc"])) for one in folds
        ]
        show.table("Folds", ("fold", "pairs", "patients", "zero-shot AUC", "linear probe AUC"), rows, numbers_from=0)
    if learning := read_entry(run).still_learning:
        show.out.print(str(learning))
    if any(facts.get("partial") for facts in test["attributes"].values()):
        show.out.print("* partial: a group has no AUC, because it has one label only")


def _cells(values: dict[str, Any]) -> tuple[Any, Any, Any]:
    return values["n"], values.get("n_positive"), "undefined" if values["auc"] is None else number(values["auc"])


def list_runs(workspace: Path | None, json: bool) -> None:
    """The runs of a workspace; damaged ones with what is wrong."""
    from ..analysis.entries import read_entry

    store = RunStore(workspace)
    entries = [read_entry(run) for run in store.runs()]
    if json:
        show.print_json({"workspace": str(store.workspace), "runs": [_entry_values(entry) for entry in entries]})
    elif not entries:
        show.out.print(f"no runs in {store.workspace} yet: `fairvlm demo` or `fairvlm train DATA` makes some")
    else:
        rows = []
        for entry in entries:
            values = _entry_values(entry)
            es_auc = ", ".join(f"{name} {number(value)}" for name, value in values.get("es_auc", {}).items())
            epoch = f"{entry.epoch}/{entry.epochs}" if "epoch" in values else None
            auc = number(values.get("auc"))
            rows.append((entry.id, entry.state, epoch, values.get("data"), auc, es_auc or entry.message))
        columns = ("run", "state", "epoch", "data", "test AUC", "ES-AUC")
        show.table(f"Runs in {store.workspace}", columns, rows, numbers_from=9)


def _entry_values(entry: RunEntry) -> dict[str, Any]:
    if entry.state == "damaged":
        return {"run_id": entry.id, "state": entry.state, "message": entry.message}
    test = entry.test
    return {
        "run_id": entry.id,
        **{name: getattr(entry, name) for name in ("preset", "seed", "model", "data", "state", "epoch", "epochs")},
        "created": entry.created,
        "auc": None if test is None else test["overall"]["auc"],
        "es_auc": {} if test is None else {name: facts["es_auc"] for name, facts in test["attributes"].items()},
        "message": entry.message,
    }
