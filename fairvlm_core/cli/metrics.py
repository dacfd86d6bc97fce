"""`fairvlm metrics` and `fairvlm compare`: fairness metrics as tables or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter, warn_explicit

import numpy as np
from rich.markup import escape

from ..analysis.thresholds import Curves, Extras, Rule, curves_of, rules_of
from ..cells import MANY_GROUPS, MAX_GROUPS, is_missing, too_many_numbers, zero_one
from ..cells import bands as named_bands
from ..errors import DataWarning, InputError
from ..fairness import (
    METRICS,
    AttributeReport,
    Chance,
    FairnessReport,
    GroupReport,
    Interval,
    Undefined,
    difference_words,
    own_metrics,
)
from ..words import listed, mean_sd, p_value
from . import show

if TYPE_CHECKING:
    from ..analysis.comparison import RunComparison

_SUMMARIES = ("es_auc", "auc_gap", "es_accuracy", "demographic_parity_difference", "equalized_odds_difference")
# From this width on, a value and its interval are on one line.
_WIDE = 110


@dataclass(frozen=True)
class FileResult:
    """The report of a predictions file, and the threshold rules and curves that were asked for, by attribute.

    `warnings` are sentences on data that may not mean what it seems to.
    """

    report: FairnessReport
    rules: dict[str, list[Rule]]
    curves: dict[str, dict[str, Curves]]
    settings: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The report, with "thresholds" and "curves" at each attribute and the options under "settings"."""
        out = self.report.to_dict()
        out["settings"] |= self.settings
        out["warnings"] = self.warnings
        for name, rules in self.rules.items():
            out["attributes"][name]["thresholds"] = {rule.key: rule.to_dict() for rule in rules}
        for name, curves in self.curves.items():
            plain = {group: curve.to_dict() for group, curve in curves.items()}
            if name:
                out["attributes"][name]["curves"] = plain
            else:
                out["overall"]["curves"] = plain["overall"]
        return out


def parse_exclude(items: Sequence[str]) -> dict[str, list[str]]:
    """
    >>> parse_exclude(["race=Unknown", "race=Asian"])
    {'race': ['Unknown', 'Asian']}
    """
    found: dict[str, list[str]] = {}
    for item in items:
        name, sign, group = item.partition("=")
        if not (sign and name.strip() and group.strip()):
            raise InputError(f"--exclude: {item!r} is not ATTRIBUTE=GROUP, such as race=Unknown")
        found.setdefault(name.strip(), []).append(group.strip())
    return found


def parse_bands(items: Sequence[str]) -> dict[str, list[float]]:
    """
    >>> parse_bands(["age=40,60"])
    {'age': [40.0, 60.0]}
    """
    found = {}
    for item in items:
        name, _, edges = item.partition("=")
        try:
            found[name.strip()] = [float(edge) for edge in edges.split(",")]
        except ValueError:
            found[name.strip()] = []
        if not (name.strip() and found[name.strip()]):
            raise InputError(f"--bands: {item!r} is not ATTRIBUTE=EDGES, such as age=40,60,75")
    return found


def parse_group_thresholds(items: Sequence[str]) -> dict[str, dict[str, float]]:
    """
    >>> parse_group_thresholds(["race=Black:0.4", "race=Asian:0.45"])
    {'race': {'Black': 0.4, 'Asian': 0.45}}
    """
    found: dict[str, dict[str, float]] = {}
    for item in items:
        name, _, rest = item.partition("=")
        group, _, cut = rest.rpartition(":")
        try:
            value = float(cut)
        except ValueError:
            value = np.nan
        if not (name.strip() and group.strip() and np.isfinite(value)):
            raise InputError(f"--group-threshold: {item!r} is not ATTRIBUTE=GROUP:NUMBER, such as race=Black:0.4")
        found.setdefault(name.strip(), {})[group.strip()] = value
    return found


def metrics_of_file(path: Path, *, json: bool, **options: Any) -> None:
    """`fairvlm metrics`; the options are those of :func:`read_result`."""
    if options.get("extras", Extras()).curves and not json:
        raise InputError("--curves: curves are arrays of numbers; add --json to get them")
    result = read_result(path, **options)
    for warning in result.warnings:
        show.err.print(f"warning: {warning}", markup=False, soft_wrap=True)
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
    bands: Mapping[str, Sequence[float]] | None = None,
    threshold: float | None = None,
    resamples: int = 2000,
    intersections: int = 0,
    min_cell: int = 20,
    extras: Extras | None = None,
) -> FileResult:
    """Everything about a predictions file, of any kind that `read_any_table` reads; numbers are checked row by row.

    The default threshold is 0.5; scores outside [0, 1] only get metrics that need no threshold.

    Raises
    ------
    InputError
        No such file or column, a cell that is not a number, and everything that the report refuses.
    """
    extras = extras or Extras()
    _check_options(attributes, intersections, bands or {}, extras)
    labels, scores, groups, patients, found = _columns(path, label, score, attributes, patient, bands or {})
    cut: float | None = 0.5 if threshold is None else threshold
    if threshold is None and ((scores < 0) | (scores > 1)).any():
        cut = None
        show.err.print(
            "scores are not within 0 and 1: only metrics without a threshold; map them to that range for the rest"
        )
    with _data_warnings() as told:
        report = FairnessReport.from_predictions(
            labels, scores, groups, patients=patients, threshold=cut, n_resamples=resamples, n_permutations=resamples,
            exclude=extras.exclude, intersections=intersections, min_cell=min_cell,
            metrics=[name for name in own_metrics() if cut is not None or not METRICS[name].decision],
        )  # fmt: skip
        rules = rules_of(labels, scores, groups, report, extras)
        curves = curves_of(labels, scores, groups, extras.exclude) if extras.curves else {}
    found += told
    settings = {
        "file": path.name,
        "label": label,
        "score": score,
        "patient": patient,
        "bands": {name: list(edges) for name, edges in (bands or {}).items()},
        "exclude": {name: list(left) for name, left in extras.exclude.items()},
        "intersections": intersections,
        "min_cell": min_cell if intersections else None,
        "specificity": extras.specificity,
    }
    return FileResult(report, rules, curves, settings, found)


def _check_options(
    attributes: Sequence[str], intersections: int, bands: Mapping[str, Sequence[float]], extras: Extras
) -> None:
    """Refuse options that name attributes which are not there."""
    if intersections and len(attributes) < intersections:
        raise InputError(f"--intersections {intersections}: name at least {intersections} --attributes to cross")
    if not attributes and (extras.specificity is not None or extras.what_if):
        raise InputError("--specificity, --what-if: they work by group; name --attributes")
    for name in bands:
        if name not in attributes:
            raise InputError(f"--bands {name}: not among --attributes {','.join(attributes)}; name it there, too")


@contextmanager
def _data_warnings() -> Iterator[list[str]]:
    """A list that has the texts of the `DataWarning`s of the block after it, each once; other warnings are passed on."""
    texts: list[str] = []
    with catch_warnings(record=True) as told:
        simplefilter("always", DataWarning)
        yield texts
    for one in told:
        if not issubclass(one.category, DataWarning):
            warn_explicit(one.message, one.category, one.filename, one.lineno)
    texts += dict.fromkeys(str(one.message) for one in told if issubclass(one.category, DataWarning))


def _many_numbers(file: str, name: str, cells: Sequence[str]) -> list[str]:
    """A line on an attribute of many numbers, which bands would serve better; refused where it has too many groups."""
    edges = too_many_numbers(cells, MANY_GROUPS)
    if not edges:
        return []
    n = len({cell for cell in cells if not is_missing(cell)})
    fix = f"bands say more: --bands {name}={','.join(f'{edge:g}' for edge in edges)}"
    if n > MAX_GROUPS:
        raise InputError(f"{file}: attribute {name!r} has {n} different numbers, more than {MAX_GROUPS} groups; {fix}")
    return [f"attribute {name!r} has {n} different numbers; {fix}"]


def _columns(
    path: Path, label: str, score: str, attributes: Sequence[str], patient: str | None,
    bands: Mapping[str, Sequence[float]],
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray | None, list[str]]:  # fmt: skip
    """(labels, scores, groups by attribute, patient ids, what is odd) of a file."""
    from ..intake.tablefile import read_any_table

    if not path.is_file():
        raise InputError(f"{path}: {'a folder, not a table' if path.is_dir() else 'there is no such file'}")
    table = read_any_table(path)
    wanted = [label, score, *attributes, *([patient] if patient else [])]
    for name in wanted:
        if name not in table.columns:
            raise InputError(f"{table.file}: no column {name!r}; there are {', '.join(list(table.columns)[:20])}")
    if table.n == 0:
        raise InputError(f"{table.file}: there are no rows below the header")

    def wrong(name: str, row: int, need: str) -> InputError:
        cell = table.columns[name][row].as_py()
        what = "nothing there" if is_missing(cell) else f"{cell[:40]!r} is not {need}"
        return InputError(
            f"{table.file} row {table.row(row)}, column {name!r}: {what}; correct it, or leave the row out"
        )

    scores = np.empty(table.n)
    for i, cell in enumerate(table.columns[score].to_pylist()):
        try:
            scores[i] = float(cell)
        except ValueError:
            raise wrong(score, i, "a number") from None
    if not np.isfinite(scores).all():
        raise wrong(score, int(np.argmin(np.isfinite(scores))), "a finite number")
    labels = [zero_one(cell) for cell in table.columns[label].to_pylist()]
    if None in labels:
        raise wrong(label, labels.index(None), "0 or 1")
    groups: dict[str, np.ndarray] = {}
    found = [f"passed over: {listed(table.passed_over)}"] if table.passed_over else []
    for name in attributes:
        cells = table.columns[name].to_pylist()
        if name in bands:
            groups[name] = np.asarray(named_bands(cells, bands[name]), dtype=object)
            continue
        groups[name] = np.asarray(cells, dtype=object)
        found += _many_numbers(table.file, name, cells)
    if len(set(scores.tolist())) <= 2:
        found.append(f"column {score!r} has two values only: decisions rather than scores, so an AUC says little")
    patients = np.asarray(table.columns[patient].to_pylist(), dtype=object) if patient else None
    return np.array(labels), scores, groups, patients, found


def print_result(result: FileResult) -> None:
    """The report, then each rule for thresholds that was asked for."""
    print_report(result.report)
    for name, rules in result.rules.items():
        for rule in rules:
            if rule.key != "at_threshold":  # its rates and gaps are in the report's tables
                _print_rule(name, rule)


def print_report(report: FairnessReport) -> None:
    """Overall, then each attribute: groups with n and interval, then gaps with their chance levels."""
    everyone = report.overall
    _say(
        f"n = {everyone.n} ({everyone.n_positive} positive)  AUC {_with(everyone, 'auc')}  "
        f"accuracy {_with(everyone, 'accuracy')}"
        + "".join(f"  {_title(name)} {_with(everyone, name)}" for name in everyone.own)
        + "\n"
    )
    for result in (*report.attributes.values(), *report.intersections.values()):
        _print_attribute(result, report.confidence)


def _print_attribute(result: AttributeReport, confidence: float) -> None:
    columns = ("auc", "accuracy", "true_positive_rate", "false_positive_rate", *result.overall.own)
    if result.groups:
        two_lines = not _wide()
        rows = [
            (escape(g.name), g.n, g.n_positive, *(_with(g, metric, two_lines) for metric in columns))
            for g in result.groups.values()
        ]
        show.table(result.name, ("group", "n", "positive", *(_title(metric) for metric in columns)), rows)
        rows = [
            (
                _title(metric) + ("*" if result.partial and "auc" in metric else ""),
                _with(result, metric),
                _chance(result.chance.get(metric)),
                p_value(c.p_holm if (c := result.chance.get(metric)) else None),
            )
            for metric in (*_SUMMARIES, *result.own)
        ]
        show.table(
            "", (escape(f"{result.name}: gaps"), f"value [{100 * confidence:g} %]", "by chance", "p (Holm)"), rows
        )
    else:
        _say(f"{result.name}: no cell is large enough")
    if result.partial:
        reasons = "; ".join(f"{group}: {why}" for group, why in result.undefined.items())
        _say(f"* partial: without the groups that have no AUC ({reasons})")
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
        f"{_title(metric)} {_number(getattr(effect, metric)) or 'undefined'}"
        for metric in ("true_positive_rate_gap", "false_positive_rate_gap", *_SUMMARIES[-2:])
    )
    left = f"; without {', '.join(effect.undefined)}, which lack a class" if effect.partial else ""
    _say(f"{', '.join(gaps)}{left}\n")


def compare_runs(
    runs: Sequence[str], workspace: Path | None, attribute: str | None, resamples: int, json: bool, metric: str
) -> None:
    """`fairvlm compare`."""
    from ..analysis import comparison
    from ..runs import RunStore

    store = RunStore(workspace)
    chosen = [store.get(run) for run in runs]
    result = comparison.compare_runs(chosen, attribute=attribute, metric=metric, n_resamples=resamples)
    if json:
        show.print_json(result.to_dict())
    else:
        print_table(result, groups=attribute is not None)


def print_table(result: RunComparison, *, groups: bool = False) -> None:
    """Each metric with one row per method, then the paired differences of every method to the first."""
    several = any(len(scored.reports) > 1 for scored in result.methods)
    cells = list(_cells(result, groups))
    rows = []
    for title, attribute, metric, group in cells:
        for i, scored in enumerate(result.methods):
            value = scored.value(attribute, metric, group)
            shown = "undefined" if value.mean is None else mean_sd(value.mean, value.sd)
            head = (escape(title) if i == 0 else "", escape(scored.name), len(scored.reports))
            rows.append((*head, shown, _reach(value.interval), _chance(value.chance, short=True)))
    over_seeds = ", mean ± sd over seeds" if several else ""
    columns = ("metric", "method", "seeds", "value", "interval", "by chance")
    show.table(
        f"Test pairs, n = {result.n} ({result.n_positive} positive), zero-shot{over_seeds}",
        columns,
        rows,
        numbers_from=2,
    )
    over = "seeds and patients" if several else "patients"
    _say(f"interval: 95 %, over {over}; by chance: if groups of these sizes did not differ\n")
    base = result.methods[0].name
    for name, difference in result.differences.items():
        differences = []
        for title, attribute, metric, group in cells:
            if attribute is None and metric != difference.comparison.overall.metric:
                continue
            found = difference.comparison.cell(attribute, group)
            said = difference_words(found, name, with_size=found.n_seeds == 1)  # the heading names the seeds
            differences.append((escape(title), escape(said), p_value(found.p)))
        heading = f"{name} against {base}, same patients, {_pairs(difference.seeds)}"
        show.table(heading, ("metric", "difference, 95 % interval", "p (Holm)"), differences, numbers_from=2)


def _cells(result: RunComparison, groups: bool) -> Iterator[tuple[str, str | None, str, str | None]]:
    """(title, attribute, metric, group) of what is shown: everyone, attributes, and groups where they are asked for."""
    base = result.base_metric
    for metric in dict.fromkeys(("auc", base)):
        yield _title(metric), None, metric, None
    for name in result.attributes:
        if result.compares_groups:
            yield f"{_title(result.metric)} {name}", name, result.metric, None
        if groups or not result.compares_groups:
            for group in result.groups(name):
                yield f"{_title(base)} {name} {group}", name, base, group


def _pairs(seeds: Sequence[tuple[int, int]]) -> str:
    if len(seeds) == 1 and seeds[0][0] != seeds[0][1]:
        return f"no seed in common: {seeds[0][1]} against {seeds[0][0]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(str(seed) for seed, _ in seeds)}"


def _reach(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval.low:.3f}–{interval.high:.3f}"


def _chance(chance: Chance | None, *, short: bool = False) -> str | None:
    if chance is None:
        return None
    return f"{chance.expected:.3f}" + ("" if short else f" [{chance.low:.3f}, {chance.high:.3f}]")


def _number(value: Any) -> str | None:
    """Three digits; None where undefined."""
    return None if isinstance(value, Undefined) or not np.isfinite(value) else f"{value:.3f}"


def _title(metric: str) -> str:
    return METRICS[metric].title


def _with(holder: AttributeReport | GroupReport, metric: str, two_lines: bool = False) -> str:
    """A metric with its interval, on a second line where there is little space."""
    value = holder.value(metric)
    if not isinstance(value, float):
        return "undefined" if show.out.is_terminal else str(value)  # the reason stands below the table
    interval = holder.intervals.get(metric)
    if interval is None:
        return f"{value:.3f}"
    if two_lines:
        return f"{value:.3f}\n{interval.low:.2f}–{interval.high:.2f}"
    return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _wide() -> bool:
    return not show.out.is_terminal or show.out.width >= _WIDE


def _say(text: str) -> None:
    """A line of text, wrapped in a terminal only."""
    show.out.print(text, soft_wrap=not show.out.is_terminal, markup=False)
