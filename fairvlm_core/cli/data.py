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
    """The report as a newcomer reads it: sizes, groups, then what was refused and what looks odd."""
    values = report.to_dict()
    show.out.print(
        f"[bold]{values['name']}[/] ({values['layout']} layout): {values['n_pairs']} pairs of {values['n_patients']} "
        f"patients from {values['n_rows']} rows\n"
    )
    rows = [
        (name, s["n"], s["n_patients"], s["n_positive"], percent(s["n_positive"] / s["n"] if s["n"] else None))
        for name, s in values["splits"].items()
    ]
    show.table("Splits", ("split", "pairs", "patients", "positive", "rate"), rows)
    rows = [
        (attribute if i == 0 else "", group, g["n"], g["n_positive"], percent(g["positive_rate"]))
        for attribute, facts in values["attributes"].items()
        for i, (group, g) in enumerate(facts["groups"].items())
    ]
    if rows:
        show.table("Groups", ("attribute", "group", "pairs", "positive", "rate"), rows, numbers_from=2)
    odd = values["images"].get("odd", {})
    if odd:
        show.table("Odd images (converted as docs/data.md says)", ("what", "images"), odd.items())
    refused = values["refused"] + values["left_out"]
    if refused:
        rows = [(r.get("row"), r.get("pair_id"), r["reason"]) for r in refused[:_REFUSED_SHOWN]]
        title = f"Left out: {len(refused)} rows" + (f" (first {_REFUSED_SHOWN})" if len(refused) > len(rows) else "")
        show.table(title, ("row", "pair", "why"), rows, numbers_from=9)
    for column, why in values["columns_left_out"].items():
        show.out.print(f"[dim]column {column} is not an attribute: {why}[/]", highlight=False)
    for line in values["warnings"]:
        show.out.print(f"[yellow]![/] {line}")
