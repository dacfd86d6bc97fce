"""`metrics` and `compare`: fairness figures as tables for people, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..fairness import FairnessReport
from ..fairness.results import AttributeReport
from . import show

if TYPE_CHECKING:
    from ..comparison import RunComparison
    from ..runs import Run


def metrics_of_file(
    path: Path,
    label: str,
    score: str,
    attributes: str,
    patient: str | None,
    threshold: float | None,
    resamples: int,
    json: bool,
) -> None:
    names = list(dict.fromkeys(name.strip() for name in attributes.split(",") if name.strip()))
    report = report_of_file(path, label, score, names, patient, threshold, resamples)
    if json:
        show.print_json(report.to_dict())
    else:
        print_report(report)


def report_of_file(
    path: Path,
    label: str,
    score: str,
    attributes: Sequence[str],
    patient: str | None = None,
    threshold: float | None = None,
    resamples: int = 2000,
) -> FairnessReport:
    """A report of any predictions file, CSV or Parquet; every cell is read as text, numbers are checked row by row.

    Without a threshold it is 0.5, and scores that are no probabilities get AUC figures only.
    """
    from ..intake.csvtable import read_csv_table, read_parquet_table

    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    table = read_parquet_table(path) if path.suffix == ".parquet" else read_csv_table(path)
    wanted = [label, score, *attributes, *([patient] if patient else [])]
    for name in wanted:
        if name not in table.columns:
            raise InputError(f"{table.file}: no column {name!r}; there are {', '.join(list(table.columns)[:20])}")
    if table.n == 0:
        raise InputError(f"{table.file}: there are no rows below the header")

    def numbers(name: str) -> np.ndarray:
        values = np.empty(table.n)
        for i, cell in enumerate(table.columns[name].to_pylist()):
            try:
                values[i] = float(cell)
            except ValueError:
                raise InputError(
                    f"{table.file} row {table.row(i)}, column {name!r}: {cell[:40]!r} is no number"
                ) from None
        return values

    scores = numbers(score)
    labels = numbers(label)
    for name, values, good in (
        (score, scores, np.isfinite(scores)),
        (label, labels, np.isin(labels, (0, 1))),
    ):
        if not good.all():
            i = int(np.flatnonzero(~good)[0])
            need = "a finite number" if name == score else "0 or 1"
            raise InputError(f"{table.file} row {table.row(i)}, column {name!r}: {values[i]:g} is not {need}")
    if threshold is None and ((scores < 0) | (scores > 1)).any():
        cut = None
        show.err.print(
            "scores are not within 0 and 1: AUC figures only; name a --threshold within 0 and 1 for the rest"
        )
    else:
        cut = 0.5 if threshold is None else threshold
    groups = {name: np.asarray(table.columns[name].to_pylist(), dtype=object) for name in attributes}
    patients = np.asarray(table.columns[patient].to_pylist(), dtype=object) if patient else None
    return FairnessReport.from_predictions(
        labels.astype(int),
        scores,
        groups,
        patients=patients,
        threshold=cut,
        n_resamples=resamples,
        n_permutations=resamples,
    )


def print_report(report: FairnessReport) -> None:
    """Overall, then each attribute: groups with n and interval, then how unequal they are and what chance gives."""
    everyone = report.overall
    show.out.print(
        f"n = {everyone.n} ({everyone.n_positive} positive)  AUC {_with(everyone, 'auc')}  "
        f"accuracy {_with(everyone, 'accuracy')}\n"
    )
    for name, attribute in report.attributes.items():
        rows = [
            (g.name, g.n, g.n_positive, _with(g, "auc"), _with(g, "accuracy"), _with(g, "true_positive_rate"),
             _with(g, "false_positive_rate"))
            for g in attribute.groups.values()
        ]  # fmt: skip
        show.table(name, ("group", "n", "positive", "AUC", "accuracy", "TPR", "FPR"), rows)
        show.table("", ("", "value [95 % interval]", "by chance", "p (Holm)"), _summary_rows(attribute))
        if attribute.partial:
            reasons = "; ".join(f"{group}: {why}" for group, why in attribute.undefined.items())
            show.out.print(f"* partial, without the groups that have no AUC ({reasons})\n")


def _summary_rows(attribute: AttributeReport) -> list[tuple[Any, ...]]:
    rows = []
    for figure, title in (
        ("es_auc", "ES-AUC"),
        ("auc_gap", "AUC gap"),
        ("es_accuracy", "ES-accuracy"),
        ("demographic_parity_difference", "DPD"),
        ("equalized_odds_difference", "DEOdds"),
    ):
        chance = attribute.chance.get(figure)
        rows.append(
            (
                title + ("*" if attribute.partial and "auc" in figure else ""),
                _with(attribute, figure),
                show.figure(chance.expected) if chance else None,
                show.figure(chance.p_holm) if chance else None,
            )
        )
    return rows


def _with(holder: Any, figure: str) -> str:
    value = getattr(holder, figure)
    if not isinstance(value, float):
        return str(value)
    interval = holder.intervals.get(figure)
    return f"{value:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")


def compare_runs(
    runs: Sequence[str], workspace: Path | None, attribute: str | None, resamples: int, json: bool
) -> None:
    from .. import comparison
    from ..runs import RunStore

    store = RunStore(workspace)
    result = comparison.compare_runs([store.get(run) for run in runs], attribute=attribute, n_resamples=resamples)
    if json:
        show.print_json(result.to_dict())
    else:
        print_table(result)


def print_comparison(runs: Sequence[Run], *, attribute: str | None, resamples: int) -> None:
    from .. import comparison

    print_table(comparison.compare_runs(runs, attribute=attribute, n_resamples=resamples))


def print_table(result: RunComparison) -> None:
    """One row a method, then the paired differences in words."""
    rows = []
    for method in result.methods:
        cells = [_mean_sd(method.values(None)), *(_mean_sd(method.values(name)) for name in result.attributes)]
        rows.append((method.name, len(method.runs), *cells))
    show.table(
        f"Test split, n = {result.n} ({result.n_positive} positive), zero-shot; mean ± sd over seeds",
        ("method", "seeds", "AUC", *(f"ES-AUC {name}" for name in result.attributes)),
        rows,
    )
    base = result.methods[0]
    chance = [
        f"{name} {a.chance['es_auc'].expected:.3f}"
        for name in result.attributes
        if "es_auc" in (a := base.report[name]).chance
    ]
    if chance:
        show.out.print(f"ES-AUC of {base.name} were groups of these sizes equal: {', '.join(chance)}\n")
    rows = [
        (method, "AUC" if name is None else f"ES-AUC {name}", d.verdict.replace("B is", f"{method} is"))
        for method, comparison in result.differences.items()
        for name, d in ((None, comparison.overall), *comparison.attributes.items())
    ]
    if rows:
        show.table(f"Difference to {base.name}, same patients, 95 % interval", ("method", "figure", "verdict"), rows,
                   numbers_from=9)  # fmt: skip


def _mean_sd(values: list[float]) -> str:
    if not values:
        return "undefined"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
