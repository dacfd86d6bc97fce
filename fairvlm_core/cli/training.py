"""`train`, `runs`, `mine`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import RunConfig
from ..errors import InputError
from ..intake.csvsafe import write_csv
from ..runs import Run, RunStore
from ..words import number, percent
from . import show

if TYPE_CHECKING:
    from ..distributed import Team
    from ..mining import MiningAudit


def parse_settings(items: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` items; one `InputError` for an item without either."""
    settings = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise InputError(f"--set {item!r}: write KEY=VALUE, as in mining.faulty_sd=2")
        settings[key.strip()] = value.strip()
    return settings


def train_run(
    folder: Path | None,
    preset: str,
    settings: dict[str, Any],
    *,
    workspace: Path | None,
    resume: str | None,
    verdicts: str | None,
    read_options: dict[str, Any],
    json: bool,
    map_pairs: bool = False,
    background: bool = False,
    team: Team,
) -> None:
    store = RunStore(workspace)
    table = None
    quiet = json or not team.first
    if background and team.size > 1:
        raise InputError("--background puts one process into the queue: leave it out with torchrun")
    if resume is not None:
        if verdicts is not None:
            raise InputError("--resume goes on with the run's own verdicts: leave out --verdicts, or start anew")
        run = store.get(resume)
        same = RunConfig.read(_laid_over(run.config, settings))
        if same != run.config:
            raise InputError(
                f"--resume goes on with the settings of {run.id}: leave out {', '.join(settings)}, or start anew"
            )
    else:
        if folder is None:
            raise InputError("name a data folder, or --resume RUN; `fairvlm synth OUT` makes one")
        config = RunConfig.build(preset, settings)
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder; `fairvlm synth OUT` makes one")
        from ..launch import create_run
        from ..pairs import PairTable
        from .review import verdicts_for_training

        judged = None if verdicts is None else verdicts_for_training(verdicts, workspace)

        with show.progress(quiet) as bar:
            table = PairTable.read(folder, progress=show.watch(bar, "reading"), **read_options)
        new = create_run(table, config, store, read_options=read_options, verdicts=judged) if team.first else None
        run = new if team.size == 1 else store.get(team.tell("" if new is None else new.id))
        if "verdicts" in run.data and not quiet:
            counts = run.data["verdicts"]["counts"].items()
            show.out.print("verdicts: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts if n))
    if background:
        from .jobs import launch_in_background

        launch_in_background(store, run, go_on=resume is not None, json=json)
        return
    from ..launch import Hooks, execute

    with show.progress(quiet) as bar:

        def on_epoch(report) -> None:
            if not json:
                flagged = report.flagged
                line = (
                    f"epoch {report.epoch}/{run.config.epochs}  loss {report.train_loss:.3f}  "
                    f"val AUC {number(report.val['overall']['auc'])}  "
                    f"flagged {flagged['faulty']} faulty, {flagged['noisy']} noisy  {report.seconds:.1f} s"
                )
                bar.console.print(line, highlight=False)

        hooks = Hooks(show.watch(bar, "images"), show.watch(bar, "training"), on_epoch)
        execute(run, table=table, resume=resume is not None, map_pairs=map_pairs, hooks=hooks, team=team)
    if not team.first:
        return
    if json:
        show.print_json({"run_id": run.id, "status": run.status.state, **run.report()})
    else:
        print_result(run)
        print(run.id)


def _laid_over(config: RunConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """The configuration's values with `settings` in their places."""
    return RunConfig.build(config.preset, {**config.flat(), **settings}).to_dict()


def print_result(run: Run) -> None:
    """Test figures of a finished run, zero-shot and linear probe."""
    report = run.report()
    rows = [("all", "", *_cells(report["test"]["overall"]), None)]
    for attribute, facts in report["test"]["attributes"].items():
        for i, (group, cells) in enumerate(facts["groups"].items()):
            es_auc = (number(facts["es_auc"]) + ("*" if facts.get("partial") else "")) if facts["es_auc"] else None
            rows.append((attribute if i == 0 else "", group, *_cells(cells), es_auc if i == 0 else ""))
    show.table(
        f"Test split, zero-shot, model of epoch {report['best_epoch']}",
        ("attribute", "group", "n", "positive", "AUC", "ES-AUC"),
        rows,
        numbers_from=2,
    )
    probe = report["probe"]
    if probe is not None:
        show.out.print(f"Linear probe on the image features: test AUC {number(probe['overall']['auc'])}")
    if any(facts.get("partial") for facts in report["test"]["attributes"].values()):
        show.out.print("* partial: a group has no AUC, because it has one label only")


def _cells(values: dict[str, Any]) -> tuple[Any, Any, Any]:
    return values["n"], values.get("n_positive"), "undefined" if values["auc"] is None else number(values["auc"])


def list_runs(workspace: Path | None, json: bool) -> None:
    store = RunStore(workspace)
    entries = []
    for run in store.runs():
        try:
            status, config = run.status, run.config
            finished = status.state == "finished"
            test = run.report()["test"] if finished else None
            entries.append(
                {
                    "run_id": run.id,
                    "preset": config.preset,
                    "seed": config.seed,
                    "model": config.model,
                    "data": run.data["name"],
                    "state": status.state,
                    "epoch": status.epoch,
                    "epochs": config.epochs,
                    "created": status.created,
                    "auc": test["overall"]["auc"] if test else None,
                    "es_auc": {a: v["es_auc"] for a, v in test["attributes"].items()} if test else {},
                    "message": status.message,
                }
            )
        except InputError as error:
            entries.append({"run_id": run.id, "state": "damaged", "message": str(error)})
    if json:
        show.print_json({"workspace": str(store.workspace), "runs": entries})
    elif not entries:
        show.out.print(f"no runs in {store.workspace} yet: `fairvlm demo` or `fairvlm train DATA` makes some")
    else:
        rows = [
            (
                e["run_id"],
                e["state"],
                f"{e['epoch']}/{e['epochs']}" if "epoch" in e else None,
                e.get("data"),
                number(e.get("auc")),
                ", ".join(f"{a} {number(v)}" for a, v in e.get("es_auc", {}).items()) or e["message"],
            )
            for e in entries
        ]
        columns = ("run", "state", "epoch", "data", "test AUC", "ES-AUC")
        show.table(f"Runs in {store.workspace}", columns, rows, numbers_from=9)


def mine_run(
    run_id: str,
    workspace: Path | None,
    faulty_sd: float | None,
    noisy_sd: float | None,
    every: bool,
    csv: Path | None,
    json: bool,
) -> None:
    """Mine a run's stored ledger again; the rows keep the contract's columns."""
    from ..analysis.mining_again import mine_again

    run = RunStore(workspace).get(run_id)
    # A limit in standard deviations asks for the paper's rule, whatever the run itself used.
    rule = {} if faulty_sd is None else {"rule": "threshold", "weights": "bounded"}
    mined = mine_again(run, faulty_sd=faulty_sd, noisy_sd=noisy_sd, **rule)
    rows = mined.rows if every else mined.rows[mined.rows["kind"] != "clean"]
    if csv is not None:
        write_csv(rows, csv)
    if json:
        show.print_json(mined.to_dict(rows))
        return
    result = mined.result
    flagged = [
        f"{result.n_flagged[kind]} {kind}" + ("" if np.isnan(limit) else f" ({side} {limit:.3f})")
        for kind, side, limit in (("faulty", "above", result.faulty_above), ("noisy", "below", result.noisy_below))
    ]
    show.out.print(
        f"[bold]{run.id}[/]: {len(mined.rows)} training pairs, {', '.join(flagged)}; "
        f"mean {result.channel} {result.mu:.3f}, spread {result.sigma:.3f}\n"
    )
    if result.message:
        show.out.print(f"{result.message}\n")
    shown = rows.head(20)
    columns = [c for c in rows.columns if c not in {"split"}]
    cells = [[number(v) if isinstance(v, float) else v for v in row] for row in shown[columns].itertuples(index=False)]
    if len(cells):
        title = f"{len(rows)} pairs" + (f", the first {len(shown)}; --csv FILE writes all" if len(rows) > 20 else "")
        show.table(title, columns, cells, numbers_from=9)
    show.table(
        "Is the miner fair?",
        ("attribute", "group", "pairs", "flagged", "rate", "weight removed"),
        _audit_cells(mined.audit),
        numbers_from=2,
    )
    for line in mined.audit.warnings:
        show.out.print(f"[yellow]![/] {line}")


def _audit_cells(audit: MiningAudit) -> list[tuple[Any, ...]]:
    rows = []
    for attribute in audit.attributes:
        for i, group in enumerate(attribute.groups):
            reach = group.rate_interval
            interval = f" [{percent(reach[0], 1)}, {percent(reach[1], 1)}]" if reach else ""
            rows.append(
                (
                    attribute.attribute if i == 0 else "",
                    group.group,
                    group.n,
                    group.n_flagged,
                    f"{percent(group.rate, 1)}{interval}",
                    percent(group.removed_weight, 1),
                )
            )
    return rows
