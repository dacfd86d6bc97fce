"""`fairvlm review`: queues, figures, and the care of the log. Judging itself is done in the app."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ..errors import InputError
from ..words import number, percent, span
from . import show

if TYPE_CHECKING:
    from ..review import Agreement, Estimate, Progress, ReviewStore, VerdictSet

app = typer.Typer(
    help="Queues for clinicians, what their verdicts say, and the care of the review log.",
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
    name: Annotated[str, typer.Option(help="Name of the queue [the run's id]")] = "",
    by: Annotated[str | None, typer.Option(help="Who makes it [the system's user]")] = None,
    order: Annotated[str, typer.Option(help="suspicious, informative, balanced, random or given")] = "suspicious",
    size: Annotated[int | None, typer.Option(help="Pairs in all [every flagged pair, and controls]")] = None,
    kinds: Annotated[str | None, typer.Option(help="faulty,noisy,clean: of the ordered part")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="A=GROUP", help="This group only; may be repeated")] = None,
    pairs: Annotated[Path | None, typer.Option(help="File with a pair id a line: this selection")] = None,
    controls: Annotated[float, typer.Option(help="Share of random unflagged pairs, 0 to 0.9")] = 0.2,
    second: Annotated[float, typer.Option(help="Share of pairs with a blind second reader")] = 0.1,
    balance_by: Annotated[str | None, typer.Option(help="Attribute for the order balanced")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show readers why a pair is there")] = False,
    seed: Annotated[int, typer.Option(help="Of the random part")] = 0,
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
        f"{counts['pairs']} pairs of {source.id}, {counts['controls']} of them drawn at random, "
        f"{counts['two_readers']} for two readers; the app's Review page shows them"
    )
    print(queue.queue_id)


@app.command()
def queues(workspace: Workspace = None, json: Json = False) -> None:
    """List the queues and how far they are."""
    from ..review import ReviewStore

    found = []
    if ReviewStore.exists(workspace):
        with _store(workspace) as store:
            found = [(queue, store.progress(queue.queue_id)) for queue in store.queues()]
    if json:
        show.print_json(
            [
                {"queue_id": q.queue_id, "name": q.name, "run_id": q.run_id, "by": q.by, "at": q.at, **_progress(p)}
                for q, p in found
            ]
        )
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
    """What a queue's verdicts say: the miner's precision and recall, verdicts by group, agreement of readers."""
    from ..review import agreement, agreement_by_readers, miner_quality, precision_table, verdict_counts

    with _store(workspace) as store:
        queue = _queue_id(store, queue)
        found, items, verdicts = store.queue(queue), store.items(queue), store.verdicts(queue_id=queue)
        readings, progress = store.standing_readings(queue), store.progress(queue)
    quality = miner_quality(items, found.population, verdicts)
    precision = precision_table(items, verdicts)
    attributes = [name for name in dict.fromkeys(precision["by"]) if name not in {"all", "kind"}]
    counts = {name: verdict_counts(items, verdicts, name) for name in attributes}
    overall = verdict_counts(items, verdicts)
    all_readers, by_readers = agreement(readings), agreement_by_readers(readings)
    if json:
        show.print_json(
            {
                "queue_id": queue,
                "progress": _progress(progress),
                "miner": quality.to_dict(),
                "precision": _records(precision),
                "verdicts": {"all": _records(overall), **{name: _records(frame) for name, frame in counts.items()}},
                "agreement": {"all": all_readers.to_dict(), "by_readers": [a.to_dict() for a in by_readers]},
            }
        )
        return
    show.out.print(f"[bold]{queue}[/] from {found.run_id}: {_progress_line(progress)}\n")
    rows = [
        ("precision: flagged pairs that are bad", *_estimate(quality.precision)),
        *((f"precision of {kind}", *_estimate(part)) for kind, part in quality.by_kind.items()),
        ("recall: bad pairs that are flagged", *_estimate(quality.recall)),
        ("bad pairs that were missed", *_estimate(quality.missed, digits=0)),
    ]
    show.table("The miner, estimated from the random part", ("", "estimate", "95 % interval", "judged"), rows)
    rows = [
        (r["by"], r["group"], r["n"], r["n_bad"], number(r["precision"]), span(r["low"], r["high"]))
        for r in _records(precision)
    ]
    columns = ("by", "group", "judged", "bad", "precision", "95 % interval")
    show.table("Flagged pairs that were judged", columns, rows, numbers_from=2)
    for name, frame in {"all": overall, **counts}.items():
        show.table(f"Verdicts by {name}", tuple(frame.columns), frame.astype(object).to_numpy().tolist())
    rows = [_agreement_row("all, Fleiss", all_readers)]
    rows += [_agreement_row(f"{', '.join(part.readers)}, Cohen", part) for part in by_readers]
    show.table("Agreement", ("readers", "pairs", "same verdict", "kappa", "95 % interval"), rows)
    if all_readers.message:
        show.out.print(all_readers.message)


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
            {"ok": result.ok, "n_events": result.n_events, "head": _head(result), "problem": result.problem}
        )
        if not result.ok:
            raise typer.Exit(2)
    elif not result.ok:
        raise InputError(f"review log {name}: {result.problem}; put a backup in its place")
    else:
        show.out.print(f"{result.n_events} events, the chain is whole")
        print(f"{result.head.sequence}:{result.head.hash}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Is replaced when the copy is complete")],
    workspace: Workspace = None,
) -> None:
    """Copy the log into one SQLite file, also while readers are at work."""
    with _store(workspace) as store:
        result = store.backup(file)
    show.out.print(f"{result.n_events} events in {file}, the chain is whole")


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
    """Write verdicts and readings; comments and notes only on request, for they may hold patient data."""
    from ..review import export_csv, export_json

    write = {".csv": export_csv, ".json": export_json}.get(file.suffix.lower())
    if write is None:
        raise InputError(f"{file.name}: name a file that ends in .csv or .json")
    with _store(workspace) as store:
        chosen = None if queue is None else _queue_id(store, queue)
        write(store, file, chosen, comments=comments, notes=None if notes is None else _notes(notes))
        n = len(store.standing_readings(chosen))
    show.out.print(f"{n} readings in {file}")


def _store(workspace: Path | None) -> ReviewStore:
    """The review there is; only `make` makes one."""
    from ..review import ReviewStore

    if not ReviewStore.exists(workspace):
        raise InputError("there is no review in this workspace yet: `fairvlm review make RUN` makes a queue")
    return ReviewStore.open(workspace)


def verdicts_for_training(source: str, workspace: Path | None) -> VerdictSet:
    """`train --verdicts`: ``latest`` for the workspace's review, else an exported file."""
    from ..review import read_verdicts

    if source != "latest":
        return read_verdicts(Path(source))
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
        return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path.name}: cannot be read ({type(error).__name__}); one pair id a line is wanted"
        ) from None


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


def _head(result: Any) -> dict[str, Any]:
    return {"sequence": result.head.sequence, "hash": result.head.hash}


def _progress(progress: Progress) -> dict[str, Any]:
    values = {name: getattr(progress, name) for name in progress.__dataclass_fields__}
    return values | {"reviewers": dict(progress.reviewers)}


def _progress_line(p: Progress) -> str:
    readers = ", ".join(f"{name} {n}" for name, n in p.reviewers.items()) or "nobody yet"
    return f"{p.n_done} of {p.n_items} pairs done, {p.n_readings} readings ({readers}), {p.n_conflicts} conflicts"


def _records(frame: Any) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _estimate(estimate: Estimate, digits: int = 3) -> tuple[str | None, str | None, int]:
    if estimate.value is None:
        return None, estimate.message, estimate.n
    reach = estimate.interval
    return (
        number(estimate.value, digits),
        None if reach is None else span(reach.low, reach.high, digits),
        estimate.n,
    )


def _agreement_row(name: str, part: Agreement) -> tuple[Any, ...]:
    reach = part.kappa_interval
    interval = None if reach is None else span(reach.low, reach.high, 2)
    return name, part.n_pairs, percent(part.observed), number(part.kappa, 2), interval
