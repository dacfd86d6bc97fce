"""Printing of the intake report."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from ..words import percent
from . import show

if TYPE_CHECKING:
    from ..intake.describe import Proposal
    from ..intake.report import IntakeReport
    from ..pairs import PairTable

_REFUSED_SHOWN = 10


def report_for(table: PairTable, model: str) -> IntakeReport:
    """The table's report with what the model makes of its notes."""
    from ..analysis.vocabulary import report_for_model
    from ..config import with_model
    from ..models import load_clip

    return report_for_model(table, load_clip(with_model(table, {"model": model})["model"]))


def print_intake(report: IntakeReport) -> None:
    """The report in order of importance: one line, what to decide, the tables, what else was seen."""
    show.out.print(report.summary, style="bold", markup=False)
    for number, warning in enumerate(report.decisions, 1):
        show.out.print(f"{number}. {warning}" + f": {warning.fix}" * bool(warning.fix), markup=False)
    show.out.print()
    splits = [
        (name, s["n"], s["n_patients"], s["n_positive"], percent(s["n_positive"] / s["n"] if s["n"] else None))
        for name, s in report.splits.items()
    ]
    show.table("Splits", ("split", "pairs", "patients", "positive", "rate"), splits)
    groups = [
        (attribute if i == 0 else "", group, g["n"], g["n_positive"], percent(g["positive_rate"]))
        for attribute, facts in report.attributes.items()
        for i, (group, g) in enumerate(facts["groups"].items())
    ]
    if groups:
        show.table("Groups", ("attribute", "group", "pairs", "positive", "rate"), groups, numbers_from=2)
    if report.images["odd"]:
        show.table("Odd images (converted as docs/data.md says)", ("what", "images"), report.images["odd"].items())
    left_out = [(r["row"], r["pair_id"], r["reason"]) for r in (*report.refused, *report.left_out)]
    if left_out:
        title = f"Left out: {len(left_out)} rows"
        title += f" (first {_REFUSED_SHOWN})" if len(left_out) > _REFUSED_SHOWN else ""
        show.table(title, ("row", "pair", "why"), left_out[:_REFUSED_SHOWN], numbers_from=9)
    for column, why in report.columns_left_out.items():
        show.out.print(f"[dim]column {column} is not an attribute: {why}[/]", highlight=False)
    for warning in report.warnings:
        if not warning.kind.needs_decision:
            show.out.print(f"[yellow]![/] {escape(str(warning))}")


def describe_data(folder: Path, images: Path | None, *, write: bool, ask: bool, json: bool) -> None:
    """Propose a description; with `ask` each doubtful entry is confirmed in the terminal, with `write` it is saved."""
    from ..intake.describe import describe_folder, write_description

    proposal = describe_folder(folder, None if images is None else images.resolve())
    if ask:
        proposal = _asked(proposal)
    place = write_description(folder, proposal.description) if write else None
    if json:
        return show.print_json(proposal.to_dict())
    for reason in proposal.reasons:
        mark = "[green]✓[/]" if reason.sure else "[yellow]?[/]"
        entry = escape(f"{reason.entry}: " if reason.entry else "")
        show.out.print(f"{mark} [bold]{entry}[/]{escape(reason.text)}", highlight=False)
        if reason.examples:
            show.out.print(f"    [dim]{escape('  |  '.join(reason.examples))}[/]", highlight=False)
    print(dumps(proposal.description, indent=2, ensure_ascii=False))
    if place is not None:
        show.out.print(f"saved as {place}; next: fairvlm check {folder}", highlight=False)
    else:
        show.out.print(f"? marks what to look at first. Save it: fairvlm describe {folder} --write", highlight=False)
    return None


def _asked(proposal: Proposal) -> Proposal:
    """Ask for each entry that is not sure; an answer is JSON, or plain text; an empty one keeps the guess."""
    content = deepcopy(proposal.description)
    for reason in proposal.reasons:
        outer, _, inner = reason.entry.partition(".")
        if reason.sure or not outer or isinstance(content.get(outer), list):
            continue
        value = content.get(outer, {}).get(inner) if inner else content.get(outer)
        show.err.print(f"{reason.entry}: {reason.text}", markup=False)
        answer = typer.prompt(
            reason.entry, default=dumps(value, ensure_ascii=False) if value is not None else "", err=True
        )
        if not answer.strip():
            continue
        try:
            value = loads(answer)
        except ValueError:
            value = answer.strip()
        if inner:
            content.setdefault(outer, {})[inner] = value
        else:
            content[outer] = value
    return replace(proposal, description=content)
