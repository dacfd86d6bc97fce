"""`metrics` and `compare`: fairness figures as tables for people, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape

from ..errors import InputError
from ..fairness import AttributeReport, Chance, FairnessReport, Interval, Undefined
from ..words import p_value
from . import show
from .thresholds import Curves, Extras, Rule, curves_of, rules_of

if TYPE_CHECKING:
    from ..comparison import Method, RunComparison, Summary
    from ..runs import Run

# Names in tables; a figure that is not here is shown by its own.
_SHORT = {
    "auc": "AUC",
    "es_auc": "ES-AUC",
    "auc_spread": "AUC spread",
    "auc_gap": "AUC gap",
    "worst_group_auc": "worst AUC",
    "es_accuracy": "ES-accuracy",
    "demographic_parity_difference": "DPD",
    "equalized_odds_difference": "DEOdds",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
    "selection_rate": "selection",
    "calibration_error": "ECE",
    "true_positive_rate_gap": "TPR gap",
    "false_positive_rate_gap": "FPR gap",
    "calibration_error_gap": "ECE gap",
    "accuracy_gap": "accuracy gap",
}
_SUMMARIES = ("es_auc", "auc_gap", "es_accuracy", "demographic_parity_difference", "equalized_odds_difference")
# From here on a value and its interval stand on one line.
_WIDE = 110


@dataclass(frozen=True)
class FileResult:
    """The report of a predictions file, and what was asked for beyond it, by attribute."""

    report: FairnessReport
    rules: dict[str, list[Rule]]
    curves: dict[str, dict[str, Curves]]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The report's own, with "thresholds" and "curves" at each attribute and what was chosen under "settings"."""
        out = self.report.to_dict()
        out["settings"] |= self.settings
        for name, rules in self.rules.items():
            out["attributes"][name]["thresholds"] = {rule.key: rule.to_dict() for rule in rules}
        for name, curves in self.curves.items():
            plain = {group: curve.to_dict() for group, curve in curves.items()}
            if name:
                out["attributes"][name]["curves"] = plain
            else:
                out["overall"]["curves"] = plain["overall"]
        return out


def metrics_of_file(path: Path, *, json: bool, **options: Any) -> None:
    """`fairvlm metrics`; the options are those of :func:`read_result`."""
    if options.get("extras", Extras()).curves and not json:
        raise InputError("--curves: curves are arrays of numbers; add --json to get them")
    result = read_result(path, **options)
    if json:
        show.print_json(result.to_dict())
    else:
        print_result(result)


def read_result(
    path: Path,
    label: str,
    score: str,
    attributes: Sequence[str],
    *,
    patient: str | None = None,
    threshold: float | None = None,
    resamples: int = 2000,
    intersections: int = 0,
    min_cell: int = 20,
    extras: Extras | None = None,
) -> FileResult:
    """Everything about a predictions file, CSV or Parquet; every cell is read as text, numbers are checked row by row.

    Without a threshold it is 0.5, and scores that are no probabilities get AUC figures only.

    Raises
    ------
    InputError
        No file, no such column, a cell that is no number, and all that the report refuses.
    """
    extras = extras or Extras()
    if intersections and len(attributes) < intersections:
        raise InputError(f"--intersections {intersections}: name at least {intersections} --attributes to cross")
    if not attributes and (extras.specificity is not None or extras.what_if):
        raise InputError("--specificity, --what-if: they are by group; name --attributes")
    labels, scores, groups, patients = _columns(path, label, score, attributes, patient)
    cut = 0.5 if threshold is None else threshold
    if threshold is None and ((scores < 0) | (scores > 1)).any():
        cut = None
        show.err.print(
            "scores are not within 0 and 1: AUC figures only; map them there (a sigmoid for logits) for the rest"
        )
    report = FairnessReport.from_predictions(
        labels, scores, groups, patients=patients, threshold=cut, n_resamples=resamples, n_permutations=resamples,
        exclude=extras.exclude, intersections=intersections, min_cell=min_cell,
    )  # fmt: skip
    settings = {
        "file": path.name,
        "label": label,
        "score": score,
        "patient": patient,
        "exclude": {name: list(left) for name, left in extras.exclude.items()},
        "intersections": intersections,
        "min_cell": min_cell if intersections else None,
        "specificity": extras.specificity,
    }
    rules = rules_of(labels, scores, groups, report, extras)
    curves = curves_of(labels, scores, groups, extras.exclude) if extras.curves else {}
    return FileResult(report, rules, curves, settings)


def _columns(
    path: Path, label: str, score: str, attributes: Sequence[str], patient: str | None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """(labels, scores, groups by attribute, patient ids) of a file."""
    from ..intake.csvtable import read_csv_table, read_parquet_table

    if not path.is_file():
        raise InputError(f"{path}: {'a folder, not a table' if path.is_dir() else 'there is no such file'}")
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
    groups = {name: np.asarray(table.columns[name].to_pylist(), dtype=object) for name in attributes}
    patients = np.asarray(table.columns[patient].to_pylist(), dtype=object) if patient else None
    return labels.astype(int), scores, groups, patients


def print_result(result: FileResult) -> None:
    """The report, then each rule for thresholds that was asked for."""
    print_report(result.report)
    for name, rules in result.rules.items():
        for rule in rules:
            if rule.key != "at_threshold":  # its rates and gaps are in the report's tables
                _print_rule(name, rule)


def print_report(report: FairnessReport) -> None:
    """Overall, then each attribute: groups with n and interval, then how unequal they are and what chance gives."""
    everyone = report.overall
    _say(
        f"n = {everyone.n} ({everyone.n_positive} positive)  AUC {_with(everyone, 'auc')}  "
        f"accuracy {_with(everyone, 'accuracy')}\n"
    )
    for result in (*report.attributes.values(), *report.intersections.values()):
        _print_attribute(result, report.confidence)


def _print_attribute(result: AttributeReport, confidence: float) -> None:
    columns = ("auc", "accuracy", "true_positive_rate", "false_positive_rate")
    if result.groups:
        two_lines = not _wide()
        rows = [
            (escape(g.name), g.n, g.n_positive, *(_with(g, figure, two_lines) for figure in columns))
            for g in result.groups.values()
        ]
        show.table(result.name, ("group", "n", "positive", *(_short(figure) for figure in columns)), rows)
        rows = [
            (
                _short(figure) + ("*" if result.partial and "auc" in figure else ""),
                _with(result, figure),
                _chance(result.chance.get(figure)),
                p_value(c.p_holm if (c := result.chance.get(figure)) else None),
            )
            for figure in _SUMMARIES
        ]
        show.table(
            "", (escape(f"{result.name}: gaps"), f"value [{100 * confidence:g} %]", "by chance", "p (Holm)"), rows
        )
    else:
        _say(f"{result.name}: no cell is large enough")
    if result.partial:
        reasons = "; ".join(f"{group}: {why}" for group, why in result.undefined.items())
        _say(f"* partial, without the groups that have no AUC ({reasons})")
    if result.left_out:
        _say(f"left out of {result.name}: {', '.join(f'{group} (n = {n})' for group, n in result.left_out.items())}")
    if result.partial or result.left_out or not result.groups:
        show.out.print()


def _print_rule(name: str, rule: Rule) -> None:
    if isinstance(rule.effect, Undefined):
        _say(f"{name}, {rule.title}: {rule.effect}\n")
        return
    effect = rule.effect
    rows = [
        (
            escape(group),
            point.n,
            point.n_positive,
            _number(point.threshold),
            _number(point.true_positive_rate),
            None if isinstance(point.false_positive_rate, Undefined) else _number(1 - point.false_positive_rate),
            _number(point.selection_rate),
        )
        for group, point in (("everyone", effect.overall), *effect.groups.items())
    ]
    columns = ("group", "n", "positive", "threshold", "sensitivity", "specificity", "flagged")
    show.table(f"{name}, {rule.title}", columns, rows)
    gaps = (
        f"{_short(figure)} {_number(getattr(effect, figure)) or 'undefined'}"
        for figure in ("true_positive_rate_gap", "false_positive_rate_gap", *_SUMMARIES[-2:])
    )
    left = f"; without {', '.join(effect.undefined)}, which lack a class" if effect.partial else ""
    _say(f"{', '.join(gaps)}{left}\n")


def compare_runs(
    runs: Sequence[str],
    workspace: Path | None,
    attribute: str | None,
    resamples: int,
    json: bool,
    metric: str = "es_auc",
) -> None:
    """`fairvlm compare`."""
    from .. import comparison
    from ..runs import RunStore

    store = RunStore(workspace)
    chosen = [store.get(run) for run in runs]
    result = comparison.compare_runs(chosen, attribute=attribute, metric=metric, n_resamples=resamples)
    if json:
        show.print_json(result.to_dict())
    else:
        print_table(result, groups=attribute is not None)


def print_comparison(runs: Sequence[Run], *, attribute: str | None, resamples: int) -> None:
    from .. import comparison

    print_table(comparison.compare_runs(runs, attribute=attribute, n_resamples=resamples))


def print_table(result: RunComparison, *, groups: bool = False) -> None:
    """Each figure with a row a method, then every method's paired differences to the first in words."""
    several = any(len(method.runs) > 1 for method in result.methods)
    spread = ", mean ± sd over seeds" if several else ""
    rows = []
    for title, attribute, metric, group in _figures(result, groups):
        for i, method in enumerate(result.methods):
            facts = method.summary(attribute, metric, group)
            cells = (_mean_sd(facts), _reach(facts.interval), _chance(facts.chance, short=True))
            rows.append((escape(title) if i == 0 else "", escape(method.name), _seeds(method), *cells))
    columns = ("figure", "method", "seeds", "value", "interval", "by chance")
    show.table(
        f"Test split, n = {result.n} ({result.n_positive} positive), zero-shot{spread}", columns, rows, numbers_from=2
    )
    over = "seeds and patients" if several else "patients"
    _say(f"interval: 95 %, over {over}; by chance: were groups of these sizes alike (first run)\n")
    base = result.methods[0].name
    for name, comparison in result.differences.items():
        rows = []
        for title, attribute, metric, group in _figures(result, groups):
            if attribute is None:
                if metric != comparison.overall.metric:
                    continue
                d = comparison.overall
            else:
                d = comparison[attribute] if group is None else comparison.groups[attribute][group]
            p = d.p_value if d.p_holm is None else d.p_holm
            # The heading names the seeds.
            words = d.verdict.removesuffix(f", {d.n_seeds} seeds").replace("B is", f"{name} is")
            rows.append((escape(title), escape(words), p_value(p)))
        heading = f"{name} against {base}, same patients, {_pairs(result.seeds[name])}"
        show.table(heading, ("figure", "difference, 95 % interval", "p (Holm)"), rows, numbers_from=2)


def _figures(result: RunComparison, groups: bool) -> Iterator[tuple[str, str | None, str, str | None]]:
    """(title, attribute, metric, group) of what is shown: everyone, attributes, and groups where they are asked for."""
    base = result.base_metric
    for metric in dict.fromkeys(("auc", base)):
        yield _short(metric), None, metric, None
    for name in result.attributes:
        if result.compares_groups:
            yield f"{_short(result.metric)} {name}", name, result.metric, None
        if groups or not result.compares_groups:
            for group in result.groups(name):
                yield f"{_short(base)} {name} {group}", name, base, group


def _pairs(seeds: Sequence[tuple[int, int]]) -> str:
    if len(seeds) == 1 and seeds[0][0] != seeds[0][1]:
        return f"no seed in common: {seeds[0][1]} against {seeds[0][0]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(str(seed) for seed, _ in seeds)}"


def _seeds(method: Method) -> int:
    return len(method.runs)


def _mean_sd(facts: Summary) -> str:
    if facts.mean is None:
        return "undefined"
    return f"{facts.mean:.3f}" + (f" ± {facts.sd:.3f}" if facts.sd is not None else "")


def _reach(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval.low:.3f}–{interval.high:.3f}"


def _chance(chance: Chance | None, *, short: bool = False) -> str | None:
    if chance is None:
        return None
    return f"{chance.expected:.3f}" + ("" if short else f" [{chance.low:.3f}, {chance.high:.3f}]")


def _number(value: Any) -> str | None:
    """Three digits; nothing where there is no number."""
    return None if isinstance(value, Undefined) or not np.isfinite(value) else f"{value:.3f}"


def _short(figure: str) -> str:
    return _SHORT.get(figure, figure.replace("_", " "))


def _with(holder: Any, figure: str, two_lines: bool = False) -> str:
    """A figure with its interval, on a line of its own where there is little room."""
    value = getattr(holder, figure)
    if not isinstance(value, float):
        return "undefined" if show.out.is_terminal else str(value)  # the reason stands below the table
    interval = holder.intervals.get(figure)
    if interval is None:
        return f"{value:.3f}"
    if two_lines:
        return f"{value:.3f}\n{interval.low:.2f}–{interval.high:.2f}"
    return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _wide() -> bool:
    return not show.out.is_terminal or show.out.width >= _WIDE


def _say(text: str) -> None:
    """A line of text: wrapped in a terminal, whole in a pipe."""
    show.out.print(text, soft_wrap=not show.out.is_terminal, markup=False)
