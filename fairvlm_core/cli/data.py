"""Printing of the intake report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..words import percent
from . import show

if TYPE_CHECKING:
    from ..intake.report import IntakeReport
    from ..pairs import PairTable

_REFUSED_SHOWN = 10


def with_truncation(table: PairTable, model: str) -> IntakeReport:
    """The table's report with the notes that the model's context would cut."""
    from ..intake.text import count_truncated
    from ..models import load_clip

    clip = load_clip(model)
    return table.report.with_truncation(
        count_truncated(list(table.frame["text"]), clip.token_lengths, clip.context_length)
    )


def print_intake(report: IntakeReport) -> None:
    """The report: sizes and groups first, then what was left out and what looks wrong."""
    show.out.print(
        f"[bold]{report.name}[/] ({report.layout} layout): {report.n_pairs} pairs of {report.n_patients} "
        f"patients from {report.n_rows} rows\n"
    )
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
        show.out.print(f"[yellow]![/] {warning}")
