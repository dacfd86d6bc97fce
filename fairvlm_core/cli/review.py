"""`fairvlm review`: queues, results, and checks, backups and exports of the log. Verdicts are given in the app."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ..cells import typed_path
from ..errors import InputError
from ..words import NOTHING, number, percent, span
from . import show

if TYPE_CHECKING:
    from ..fairness import Interval
    from ..review import Agreement, Estimate, ReviewStore, VerdictSet

app = typer.Typer(
    help="Queues for clinicians, results of their verdicts, and the review log.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on standard output")]
Workspace = Annotated[
    Path | None,
    typer.Option(
        "--workspace", help="Where runs and the review are kept [default: $FAIRVLM_WORKSPACE, else ./workspace]"
    ),
]
QueueId = Annotated[str, typer.Argument(metavar="QUEUE", help="Id of a queue, or `latest`")]


@app.command()
def make(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id or number of a run, or `latest`")],
    workspace: Workspace = None,
    name: Annotated[str, typer.Option(help="Name of the queue [default: the run's id]")] = "",
    by: Annotated[str | None, typer.Option(help="Who makes it [default: the system's user]")] = None,
    order: Annotated[str, typer.Option(help="suspicious, informative, balanced, random or given")] = "suspicious",
    size: Annotated[int | None, typer.Option(help="Pairs in all [default: every flagged pair, and controls]")] = None,
    kinds: Annotated[str | None, typer.Option(help="Kinds in the ordered part: faulty,noisy,clean")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="A=GROUP", help="Only this group; may be repeated")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=typed_path, help="File with one pair id per line: this selection"),
    ] = None,
    controls: Annotated[float, typer.Option(help="Share of random unflagged pairs, 0 to 0.9")] = 0.2,
    second: Annotated[float, typer.Option(help="Share of pairs with a blind second reader")] = 0.1,
    balance_by: Annotated[str | None, typer.Option(help="Attribute for the order balanced")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show readers why a pair is there")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random part")] = 0,
    json: Json = False,
) -> None:
    """Make a queue from a run's mined pairs; the last line is the queue's id."""
    from ..review import QueueSettings, ReviewStore, queue_from_run
    from ..runs import RunStore

    settings = QueueSettings(
        order=order,
        kinds=None if kinds is None else tuple(kind.strip() for kind in kinds.split(",")),
        where=_groups(where or []),
        pair_ids=None if pairs is None else _lines(pairs),
        size=size,
        control_share=controls,
        second_share=second,
        balance_by=balance_by,
        blind=not open_,
        seed=seed,
    )
    source = RunStore(workspace).get(run)
    with ReviewStore.open(workspace) as store:
        queue = queue_from_run(store, source, settings, name=name or source.id, by=by or getpass.getuser())
        items = store.items(queue.queue_id)
    counts = {
        "pairs": len(items),
        "controls": sum(i.control for i in items),
        "two_readers": sum(i.readers > 1 for i in items),
    }
    if json:
        show.print_json({"queue_id": queue.queue_id, "name": queue.name, "run_id": queue.run_id, **counts})
        return
    show.out.print(
        f"{counts['pairs']} pairs of {source.id}: {counts['controls']} drawn at random, "
        f"{counts['two_readers']} for two readers; open them on the app's Review page"
    )
    print(queue.queue_id)


@app.command()
def queues(workspace: Workspace = None, json: Json = False) -> None:
    """List the queues and their progress."""
    from ..review import ReviewStore

    found = []
    if ReviewStore.exists(workspace):
        with _store(workspace) as store:
            found = [(queue, store.progress(queue.queue_id)) for queue in store.queues()]
    if json:
        names = ("queue_id", "name", "run_id", "by", "at")
        show.print_json([{name: getattr(q, name) for name in names} | asdict(p) for q, p in found])
    elif not found:
        show.out.print("no queues yet: `fairvlm review make RUN` makes one")
    else:
        rows = [
            (q.queue_id, escape(q.name), q.run_id, f"{p.n_done}/{p.n_items}", p.n_readings, p.n_conflicts)
            for q, p in found
        ]
        show.table("Queues", ("queue", "name", "run", "done", "readings", "conflicts"), rows, numbers_from=3)


@app.command()
def report(queue: QueueId, workspace: Workspace = None, json: Json = False) -> None:
    """Results of a queue: the miner's precision and recall, verdicts by group, agreement of readers."""
    from ..review import review_summary

    with _store(workspace) as store:
        found = review_summary(store, _queue_id(store, queue))
    if json:
        show.print_json(found.to_dict())
        return
    p, miner = found.progress, found.miner
    readers = ", ".join(f"{name} {n}" for name, n in p.reviewers.items()) or "nobody yet"
    show.out.print(
        f"[bold]{found.queue.queue_id}[/] from {found.queue.run_id}: {p.n_done} of {p.n_items} pairs done, "
        f"{p.n_readings} readings ({escape(readers)}), {p.n_conflicts} conflicts\n"
    )
    rows: list[tuple[Any, ...]] = [
        ("precision: flagged pairs that are bad", *_estimate(miner.precision)),
        *((f"precision of {kind}", *_estimate(part)) for kind, part in miner.by_kind.items()),
        ("recall: bad pairs that are flagged", *_estimate(miner.recall)),
        ("bad pairs that were missed", *_estimate(miner.missed, digits=0)),
    ]
    show.table("The miner, estimated from the random part", ("", "estimate", "95 % interval", "judged"), rows)
    rows = [
        (r.by, r.group, r.n, r.n_bad, number(r.precision), span(r.low, r.high)) for r in found.precision.itertuples()
    ]
    columns = ("by", "group", "judged", "bad", "precision", "95 % interval")
    show.table("Flagged pairs that were judged", columns, rows, numbers_from=2)
    for name, frame in found.counts.items():
        show.table(f"Verdicts by {name}", tuple(frame.columns), frame.astype(object).to_numpy().tolist())
    rows = [_agreement_row("all, Fleiss", found.agreement)]
    rows += [_agreement_row(f"{', '.join(part.readers)}, Cohen", part) for part in found.by_readers]
    show.table("Agreement", ("readers", "pairs", "same verdict", "kappa", "95 % interval"), rows)
    if found.agreement.message:
        show.out.print(found.agreement.message)


@app.command()
def verify(
    workspace: Workspace = None,
    head: Annotated[
        list[str] | None, typer.Option(metavar="N:HASH", help="A head noted earlier; may be repeated")
    ] = None,
    json: Json = False,
) -> None:
    """Check the hash chain; names the first event that is broken."""
    with _store(workspace) as store:
        result = store.verify(_heads(head or []))
        name = store.name
    if json:
        show.print_json(
            {"ok": result.ok, "n_events": result.n_events, "head": asdict(result.head), "problem": result.problem}
        )
        if not result.ok:
            raise typer.Exit(2)
    elif not result.ok:
        raise InputError(f"review log {name}: {result.problem}; replace it by a backup")
    else:
        show.out.print(f"{result.n_events} events, the chain is complete")
        print(f"{result.head.sequence}:{result.head.hash}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Replaced when the copy is complete")],
    workspace: Workspace = None,
) -> None:
    """Copy the log into one SQLite file; readers may continue meanwhile."""
    with _store(workspace) as store:
        result = store.backup(file)
    show.out.print(f"{result.n_events} events in {file}, the chain is complete")


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Ends in .csv (readings) or .json (for `train --verdicts`)")
    ],
    workspace: Workspace = None,
    queue: Annotated[str | None, typer.Option(help="Pairs of this queue only")] = None,
    comments: Annotated[bool, typer.Option("--comments", help="With the readers' comments")] = False,
    notes: Annotated[Path | None, typer.Option(metavar="DATA", help="With the notes of this data folder")] = None,
) -> None:
    """Write verdicts and readings; comments and notes only on request, because they may hold patient data."""
    from ..review import export_csv, export_json

    write = {".csv": export_csv, ".json": export_json}.get(file.suffix.lower())
    if write is None:
        raise InputError(f"{file.name}: must be a file that ends in .csv or .json")
    with _store(workspace) as store:
        chosen = None if queue is None else _queue_id(store, queue)
        write(store, file, chosen, comments=comments, notes=None if notes is None else _notes(notes))
        n = len(store.standing_readings(chosen))
    show.out.print(f"{n} readings in {file}")


def _store(workspace: Path | None) -> ReviewStore:
    """The existing review; only `make` makes one."""
    from ..review import ReviewStore

    if not ReviewStore.exists(workspace):
        raise InputError("there is no review in this workspace yet: `fairvlm review make RUN` makes a queue")
    return ReviewStore.open(workspace)


def verdicts_for_training(source: str, workspace: Path | None) -> VerdictSet:
    """`train --verdicts`: ``latest`` for the workspace's review, else an exported file."""
    from ..review import read_verdicts

    if source != "latest":
        return read_verdicts(typed_path(source))
    with _store(workspace) as store:
        verdicts = store.verdicts()
    if not verdicts.verdicts:
        raise InputError(
            "--verdicts latest: nothing was judged in this workspace yet; name an exported file, or review first"
        )
    return verdicts


def _queue_id(store: ReviewStore, name: str) -> str:
    known = store.queues()
    return known[-1].queue_id if name == "latest" and known else store.queue(name).queue_id


def _groups(items: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for item in items:
        name, sign, group = item.partition("=")
        if not sign or not name:
            raise InputError(f"--where {item!r}: write ATTRIBUTE=GROUP, as in race=Black")
        groups[name] = (*groups.get(name, ()), group)
    return groups


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip().strip('"') for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        return tuple(lines[1:] if lines[:1] == ["pair_id"] else lines)  # a column of a spreadsheet has a header
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: cannot be read ({type(error).__name__}); write one pair id per line") from None


def _heads(items: Sequence[str]) -> list[Any]:
    from ..review import ChainHead

    heads = []
    for item in items:
        number, _, value = item.partition(":")
        if not number.isdigit() or len(value) != 64:
            raise InputError(f"--head {item[:20]!r}: write NUMBER:HASH, as `fairvlm review verify` prints it")
        heads.append(ChainHead(int(number), value))
    return heads


def _notes(folder: Path) -> dict[str, str]:
    from ..pairs import PairTable

    frame = PairTable.read(folder, check_images=False).frame
    return dict(zip(frame["pair_id"].astype(str), frame["text"].astype(str), strict=True))


def _estimate(estimate: Estimate, digits: int = 3) -> tuple[str, str, int]:
    if estimate.value is None:
        return NOTHING, estimate.message, estimate.n
    return number(estimate.value, digits), _interval(estimate.interval, digits), estimate.n


def _interval(interval: Interval | None, digits: int) -> str:
    return NOTHING if interval is None else span(interval.low, interval.high, digits)


def _agreement_row(name: str, part: Agreement) -> tuple[Any, ...]:
    return name, part.n_pairs, percent(part.observed), number(part.kappa, 2), _interval(part.kappa_interval, 2)
