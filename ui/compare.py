"""What the comparison of runs says: methods (runs that differ by their seed alone), their figures, what they differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.config import RunConfig

from .words import NOTHING, figure, listed, many, p_value, span, undefined

NOT_METHOD = ("schema_version", "seed", "device", "preset")


@dataclass(frozen=True)
class Method:
    """Runs with the same settings on the same data; `name` tells it from the other methods."""

    name: str
    runs: tuple[RunEntry, ...]

    @property
    def seeds(self) -> list[int]:
        return sorted(entry.seed for entry in self.runs)

    @property
    def label(self) -> str:
        """
        >>> Method("clip", (RunEntry("0001-clip-s0", "finished"),)).label
        'clip · 1 seed'
        """
        return f"{self.name} · {many(len(self.runs), 'seed')}"


def comparable(entries: Sequence[RunEntry]) -> tuple[list[RunEntry], list[str]]:
    """The chosen runs that can be compared, and a line for each reason why others cannot.

    They must be finished, on the data of the first of them, and no repetition of one another.
    """
    lines = []
    finished = [entry for entry in entries if entry.state == "finished"]
    for entry in entries:
        if entry.state != "finished":
            why = f": {entry.note}" if entry.note else ""
            lines.append(f"Run {entry.id} has no figures ({entry.state}){why}")
    if not finished:
        return [], lines
    same = [entry for entry in finished if entry.fingerprint == finished[0].fingerprint]
    for entry in finished:
        if entry not in same:
            lines.append(
                f"Run {entry.id} is on other data ({entry.data}) than run {finished[0].id} ({finished[0].data}): "
                "only runs on the same test patients can be compared"
            )
    seen = once_a_seed(same)
    for entry in same:
        if entry not in seen:
            newer = next(e for e in seen if (e.method_key, e.seed) == (entry.method_key, entry.seed))
            lines.append(f"Run {entry.id} is left out: run {newer.id} repeats it, with the same settings and seed")
    return seen, lines


def once_a_seed(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The newest run of each method and seed on the same data: a repetition tells nothing of chance between seeds.

    >>> made = [RunEntry(f"{i:04d}-clip-s{s}", "finished", seed=s, method_key="a") for i, s in enumerate((0, 1, 0), 1)]
    >>> [entry.id for entry in once_a_seed(made)]
    ['0002-clip-s1', '0003-clip-s0']
    """
    newest = {(entry.fingerprint, entry.method_key, entry.seed): entry for entry in entries}
    return [entry for entry in entries if newest[entry.fingerprint, entry.method_key, entry.seed] is entry]


def methods_of(entries: Sequence[RunEntry], configs: Mapping[str, Mapping[str, Any]]) -> list[Method]:
    """Runs grouped by everything but the seed, the newest of each seed, in the order of their first run.

    Runs with the verdicts of a review are another method than runs without. Two methods of one name are told apart by the
    settings, or the review, in which they differ. `configs` are plain configurations by run id.

    >>> entries = [RunEntry(f"{i:04d}-clip-s{s}", "finished", preset="clip", seed=s, method_key=key)
    ...            for i, (s, key) in enumerate([(0, "a"), (1, "a"), (0, "b")], start=1)]
    >>> configs = {e.id: {"epochs": 6 if e.method_key == "a" else 3, "seed": e.seed} for e in entries}
    >>> [(m.name, m.seeds) for m in methods_of(entries, configs)]
    [('clip (epochs 6)', [0, 1]), ('clip (epochs 3)', [0])]
    """
    grouped: dict[str, list[RunEntry]] = {}
    for entry in once_a_seed(entries):
        grouped.setdefault(entry.method_key, []).append(entry)
    names = [runs[0].method for runs in grouped.values()]
    methods = []
    for runs in grouped.values():
        name = runs[0].method
        if names.count(name) > 1:
            rivals = [other[0] for other in grouped.values() if other[0].method == name]
            varied = differences({entry.id: configs[entry.id] for entry in rivals})
            own = [f"{key} {value}" for key, value in zip(varied["Setting"], varied[runs[0].id], strict=True)]
            if len({entry.verdicts for entry in rivals}) > 1:
                own.append(f"review {runs[0].verdicts}")
            name = f"{name} ({', '.join(own)})"
        methods.append(Method(name, tuple(runs)))
    return methods


def differences(configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Settings that are not the same in all configurations: Setting, then one column a configuration (by its name).

    >>> differences({"a": {"epochs": 6, "mining": {"enabled": False}}, "b": {"epochs": 6, "mining": {"enabled": True}}})
              Setting   a    b
    0  mining.enabled  no  yes
    """
    flat = {name: RunConfig.read(values).flat() for name, values in configs.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    rows = []
    for key in keys:
        shown = [_plain(values.get(key)) for values in flat.values()]
        if key.split(".")[0] not in NOT_METHOD and len(set(shown)) > 1:
            rows.append((key, *shown))
    return pd.DataFrame(rows, columns=["Setting", *flat])


def _plain(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, dict)):
        return ", ".join(str(item) for item in value) or "(all)"
    return f"{value:g}" if isinstance(value, float) else str(value)


# Figures: `reports` are FairnessReport.to_dict() by run id ------------------------------------------------------------


def overall_figures(methods: Sequence[Method], reports: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Everyone, one row a method: method, value, sd, low, high, n_runs, n, n_positive, n_negative."""
    return pd.DataFrame([_row(method, [reports[e.id]["overall"] for e in method.runs], "auc") for method in methods])


def es_auc_figures(methods: Sequence[Method], reports: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """ES-AUC, one row a method and attribute: as `overall_figures`, and attribute, chance, beyond, p, without.

    `chance` is the expected ES-AUC under shuffled group labels, `beyond` the part of the shortfall that chance does not
    give, `p` the largest Holm-corrected p-value of the seeds, `without` the groups that have no AUC.
    """
    rows = []
    for attribute in _attributes(reports):
        for method in methods:
            facts = [reports[entry.id]["attributes"][attribute] for entry in method.runs]
            chance = [f["chance"]["es_auc"] for f in facts if "es_auc" in f.get("chance", {})]
            without = dict.fromkeys(name for f in facts for name in f.get("undefined_groups", {}))
            row = _row(method, facts, "es_auc", counts=[f["overall"] for f in facts])
            rows.append(
                {"attribute": attribute}
                | row
                | {
                    "chance": _mean([c["expected"] for c in chance]),
                    "beyond": _mean([c["beyond"] for c in chance]),
                    "p": max((c["p_holm"] for c in chance), default=np.nan),
                    "without": ", ".join(without),
                }
            )
    return pd.DataFrame(rows)


def group_figures(methods: Sequence[Method], reports: Mapping[str, Mapping[str, Any]], attribute: str) -> pd.DataFrame:
    """AUC of each group of an attribute, one row a method and group ("" for everyone); columns as `overall_figures`."""
    rows = []
    for method in methods:
        facts = [reports[entry.id]["attributes"][attribute] for entry in method.runs]
        rows.append(_row(method, [f["overall"] for f in facts], "auc") | {"group": ""})
        for group in group_order(facts[0]["groups"]):
            rows.append(_row(method, [f["groups"][group] for f in facts], "auc") | {"group": group})
    return pd.DataFrame(rows)


def _attributes(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(next(iter(reports.values()))["attributes"]) if reports else []


def _row(
    method: Method, facts: Sequence[Mapping[str, Any]], name: str, counts: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Mean and sd over seeds. The interval is that of the runs, averaged: patients are the same for every seed."""
    values = [np.nan if f[name] is None else float(f[name]) for f in facts]
    intervals = [f["intervals"][name] for f in facts if name in f.get("intervals", {})]
    size = (counts or facts)[0]
    return {
        "method": method.name,
        "value": _mean(values),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
        "low": _mean([i["low"] for i in intervals]),
        "high": _mean([i["high"] for i in intervals]),
        "n_runs": len(facts),
        "n": int(size["n"]),
        "n_positive": int(size["n_positive"]),
        "n_negative": int(size["n"]) - int(size["n_positive"]),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


# Tables: frames of figures to frames of words -------------------------------------------------------------------------


def value_words(row: Mapping[str, Any]) -> str:
    """Mean ± sd over seeds, or why there is none.

    >>> value_words({"value": 0.9, "sd": 0.0123, "n_positive": 5, "n_negative": 5})
    '0.900 ± 0.012'
    >>> value_words({"value": float("nan"), "sd": float("nan"), "n_positive": 0, "n_negative": 12})
    'undefined (n+ = 0, n− = 12)'
    """
    if not np.isfinite(row["value"]):
        return undefined(int(row["n_positive"]), int(row["n_negative"]))
    return figure(row["value"]) + (f" ± {figure(row['sd'])}" if np.isfinite(row["sd"]) else "")


def method_table(methods: Sequence[Method], reports: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a method: Method, Seeds, n, n+, Test AUC, then ES-AUC by attribute; mean ± sd over seeds."""
    overall, es_auc = overall_figures(methods, reports), es_auc_figures(methods, reports)
    frame = pd.DataFrame(
        {
            "Method": overall["method"],
            "Seeds": overall["n_runs"],
            "n": overall["n"],
            "n+": overall["n_positive"],
            "Test AUC": [value_words(row) for row in overall.to_dict("records")],
        }
    )
    for attribute in _attributes(reports):
        part = es_auc[es_auc["attribute"] == attribute].to_dict("records")
        frame[f"ES-AUC {attribute}"] = [_es_words(row) for row in part]
    return frame


def es_auc_table(figures: pd.DataFrame) -> pd.DataFrame:
    """Attribute, Method, ES-AUC, 95 % interval, Expected by chance, Beyond chance, p (Holm), n, Seeds, Not in it."""
    return pd.DataFrame(
        [
            {
                "Attribute": row["attribute"],
                "Method": row["method"],
                "ES-AUC": _es_words(row),
                "95 % interval": span(row["low"], row["high"]),
                "By chance": figure(row["chance"]),
                "Beyond chance": figure(row["beyond"]),
                "p (Holm)": p_value(row["p"]),
                "n": row["n"],
                "Seeds": row["n_runs"],
                "Groups without AUC": row["without"] or NOTHING,
            }
            for row in figures.to_dict("records")
        ]
    )


def group_table(figures: pd.DataFrame) -> pd.DataFrame:
    """Method, Group, AUC, 95 % interval, n+, n−, Seeds."""
    return pd.DataFrame(
        [
            {
                "Method": row["method"],
                "Group": row["group"] or "everyone",
                "AUC": value_words(row),
                "95 % interval": span(row["low"], row["high"]),
                "n+": row["n_positive"],
                "n−": row["n_negative"],
                "Seeds": row["n_runs"],
            }
            for row in figures.to_dict("records")
        ]
    )


def _es_words(row: Mapping[str, Any]) -> str:
    if not np.isfinite(row["value"]):
        return "undefined (fewer than two groups have an AUC)"
    return value_words(row) + (" (partial)" if row["without"] else "")


def partial_line(figures: pd.DataFrame) -> str:
    """A sentence on groups without an AUC, or nothing."""
    lines = []
    for attribute, part in figures[figures["without"] != ""].groupby("attribute", sort=False):
        groups = list(dict.fromkeys(name for names in part["without"] for name in names.split(", ")))
        lines.append(f"{listed(groups)} ({attribute})")
    if not lines:
        return ""
    return f"Partial: these groups have one label only, so no AUC, and are not in ES-AUC: {'; '.join(lines)}."
