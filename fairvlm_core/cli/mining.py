"""`mine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.mining_again import mine_again
from ..intake.csvsafe import write_csv
from ..mining import MiningAudit, MiningResult
from ..runs import RunStore
from ..words import number, percent
from . import show

_SHOWN = 20


def mine_run(
    run_id: str,
    workspace: Path | None,
    faulty_sd: float | None,
    noisy_sd: float | None,
    every: bool,
    csv: Path | None,
    json: bool,
) -> None:
    """Mine a run's stored ledger again; print the flagged pairs, or every pair."""
    run = RunStore(workspace).get(run_id)
    # A limit in standard deviations belongs to the threshold rule, whatever rule the run used.
    rule = {} if faulty_sd is None else {"rule": "threshold", "weights": "bounded"}
    mined = mine_again(run, faulty_sd=faulty_sd, noisy_sd=noisy_sd, **rule)
    rows = mined.rows if every else mined.rows[mined.rows["kind"] != "clean"]
    if csv is not None:
        write_csv(rows, csv)
    if json:
        show.print_json(mined.to_dict(rows))
        return
    show.out.print(f"[bold]{run.id}[/]: {len(mined.rows)} training pairs, {_summary(mined.result)}\n")
    if mined.result.message:
        show.out.print(f"{mined.result.message}\n")
    if len(rows):
        first = rows.head(_SHOWN).drop(columns="split")
        cells = [[number(v) if isinstance(v, float) else v for v in row] for row in first.itertuples(index=False)]
        rest = f", the first {_SHOWN}; --csv FILE writes all" if len(rows) > _SHOWN else ""
        show.table(f"{len(rows)} pairs{rest}", list(first.columns), cells, numbers_from=9)
    show.table(
        "Is the miner fair?",
        ("attribute", "group", "pairs", "flagged", "rate", "weight removed"),
        _audit_cells(mined.audit),
        numbers_from=2,
    )
    for line in mined.audit.warnings:
        show.out.print(f"[yellow]![/] {line}")


def _summary(result: MiningResult) -> str:
    parts = []
    for kind, side, limit in (("faulty", "above", result.faulty_above), ("noisy", "below", result.noisy_below)):
        parts.append(f"{result.n_flagged[kind]} {kind}" + ("" if np.isnan(limit) else f" ({side} {limit:.3f})"))
    return f"{', '.join(parts)}; mean {result.channel} {result.mu:.3f}, spread {result.sigma:.3f}"


def _audit_cells(audit: MiningAudit) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for attribute in audit.attributes:
        for i, group in enumerate(attribute.groups):
            reach = group.rate_interval
            interval = f" [{percent(reach[0], 1)}, {percent(reach[1], 1)}]" if reach else ""
            rate = f"{percent(group.rate, 1)}{interval}"
            removed = percent(group.removed_weight, 1)
            rows.append((attribute.attribute * (i == 0), group.group, group.n, group.n_flagged, rate, removed))
    return rows
