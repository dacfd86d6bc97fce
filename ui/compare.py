"""Tables and sentences of the comparison of runs; the numbers come from `fairvlm_core.analysis.comparison`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.comparison import MethodDifference, RunComparison, ScoredMethod
from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.analysis.methods import Method, varied_settings
from fairvlm_core.analysis.verdict import Verdict, best_method, verdict_on
from fairvlm_core.fairness import Outcome, PairedDifference, Undefined, outcome_words
from fairvlm_core.words import (
    NOTHING,
    listed,
    many,
    mean_sd,
    number,
    p_value,
    points,
    points_span,
    setting,
    signed,
    span,
)
from fairvlm_core.words import undefined as undefined_words

# Values: one row each, for charts and downloads -----------------------------------------------------------------------


def overall_values(result: RunComparison) -> pd.DataFrame:
    """Everyone, one row per method: method, value, sd, low, high, n_runs, n, n_positive, n_negative."""
    return pd.DataFrame([_value(method, None) for method in result.methods])


def es_auc_values(result: RunComparison) -> pd.DataFrame:
    """ES-AUC, one row per attribute and method: as `overall_values`, and attribute, chance, beyond, p, without.

    `chance` is the expected ES-AUC under shuffled groups, `beyond` the part of the difference to AUC that chance does not
    explain, `p` the Holm-corrected p-value, `without` the groups that have no AUC.
    """
    return pd.DataFrame([_value(method, name) for name in result.attributes for method in result.methods])


def group_values(result: RunComparison, attribute: str) -> pd.DataFrame:
    """AUC by group, one row per method and group ("" for everyone): group, and columns as `overall_values`."""
    groups = group_order(result.groups(attribute))
    rows = []
    for method in result.methods:
        rows.append(_value(method, None) | {"group": ""})
        rows += [_value(method, attribute, group) | {"group": group} for group in groups]
    return pd.DataFrame(rows)


def _value(method: ScoredMethod, attribute: str | None, group: str | None = None) -> dict[str, Any]:
    value = method.value(attribute, "es_auc", group)
    interval = value.interval
    row = {
        "method": method.name,
        "value": _number(value.mean),
        "sd": _number(value.sd),
        "low": np.nan if interval is None else interval.low,
        "high": np.nan if interval is None else interval.high,
        "n_runs": len(method.method.runs),
        "n": value.n,
        "n_positive": value.n_positive,
        "n_negative": value.n - value.n_positive,
    }
    if attribute is not None and group is None:
        for key, name in (("chance", "expected"), ("beyond", "beyond"), ("p", "p_holm")):
            row[key] = np.nan if value.chance is None else getattr(value.chance, name)
        row |= {"attribute": attribute, "without": ", ".join(value.without)}
    return row


def difference_values(difference: MethodDifference) -> pd.DataFrame:
    """One row per metric: measure, attribute, group, a, b, difference, low, high, p, outcome, verdict, n counts.

    AUC of everyone, then ES-AUC by attribute, then AUC by group.
    """
    compared = difference.comparison
    rows = [("AUC, everyone", compared.overall)]
    rows += [(f"ES-AUC, {name}", found) for name, found in compared.attributes.items()]
    for name, groups in compared.groups.items():
        rows += [(f"AUC, {group} ({name})", groups[group]) for group in group_order(groups)]
    return pd.DataFrame([_difference(*row) for row in rows])


def _difference(measure: str, found: PairedDifference) -> dict[str, Any]:
    values = {name: getattr(found, name) for name in ("a", "b", "difference")}
    return {
        "measure": measure,
        "attribute": found.attribute or "",
        "group": found.group or "",
        **{name: np.nan if isinstance(value, Undefined) else value for name, value in values.items()},
        "low": np.nan if found.interval is None else found.interval.low,
        "high": np.nan if found.interval is None else found.interval.high,
        "p": _number(found.p),
        "outcome": found.outcome.value,
        "verdict": found.verdict,
        "n_positive": found.n_positive,
        "n_negative": found.n_negative,
        "n_seeds": found.n_seeds,
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else value


# Tables: values in words ----------------------------------------------------------------------------------------------


def method_table(result: RunComparison) -> pd.DataFrame:
    """One row per method: Method, Test AUC, ES-AUC by attribute, Against REFERENCE, Seeds, n, n+; mean ± sd over seeds."""
    overall, es_auc = overall_values(result), es_auc_values(result)
    frame = overall[["method"]].set_axis(["Method"], axis=1)
    frame["Test AUC"] = [_auc_words(row) for row in overall.to_dict("records")]
    for attribute in result.attributes:
        part = es_auc[es_auc["attribute"] == attribute].to_dict("records")
        frame[f"ES-AUC {attribute}"] = [_es_words(row) for row in part]
    if result.differences:
        words = ["reference", *(won_words(verdict_on(found)) for found in result.differences.values())]
        frame[f"Against {result.methods[0].name}"] = words
    return frame.assign(**{"Seeds": overall["n_runs"], "n": overall["n"], "n+": overall["n_positive"]})


def won_words(found: Verdict) -> str:
    """What a method won and lost against the reference."""
    won, lost = (
        [f"ES-AUC {one.attribute}" if one.attribute else "AUC" for one in of] for of in (found.won, found.lost)
    )
    parts = [f"better: {listed(won)}"] if won else []
    parts += [f"worse: {listed(lost)}"] if lost else []
    return "; ".join(parts) or "no reliable difference"


def verdict_words(result: RunComparison) -> tuple[str, str]:
    """Which method is best and what it won, in one sentence, and the numbers behind it."""
    reference = result.methods[0].name
    best = best_method(result)
    if best is None:
        return f"No method is reliably better than {reference}.", ""
    won, lost = best.won, best.lost
    names = [f"ES-AUC by {one.attribute}" if one.attribute else "AUC" for one in won]
    title = f"{best.difference.b.name} is best: against {reference} it is better in {listed(names)}"
    title += f", and worse in {listed([one.attribute or 'AUC' for one in lost])}." if lost else "."
    numbers = [f"{name} {number(float(one.a))} → {number(float(one.b))} ({points(one.difference)})"  # type: ignore[arg-type]
               for name, one in zip(names, won, strict=True)]  # fmt: skip
    size = f"{many(won[0].n_seeds, 'seed')}, n = {won[0].n:,}"
    return title, f"{'; '.join(numbers)}. Each is more than chance explains ({size})."


def unfinished_line(result: RunComparison) -> str:
    """Methods with runs that were still learning when they ended, and the mean gain of these; "" where there are none."""
    parts = []
    for scored in result.methods:
        found = [run.still_learning for run in scored.method.runs if run.still_learning is not None]
        if found:
            gain = signed(float(np.mean([one.gain for one in found])))
            parts.append(f"{scored.name} ({len(found)} of {many(len(scored.method.runs), 'run')}, {gain})")
    if not parts:
        return ""
    return f"Not finished learning, with the gain in validation AUC of the last third of the epochs: {listed(parts)}."


def settings_table(methods: Sequence[Method]) -> pd.DataFrame:
    """Settings in which methods differ: Setting, then one column per method."""
    varied = varied_settings([method.runs[0] for method in methods])
    rows = [(name, *map(setting, values)) for name, values in varied.items()]
    return pd.DataFrame(rows, columns=["Setting", *(method.name for method in methods)])


def es_auc_table(values: pd.DataFrame) -> pd.DataFrame:
    """`es_auc_values` in words."""
    return pd.DataFrame(
        [
            {
                "Attribute": row["attribute"],
                "Method": row["method"],
                "ES-AUC": _es_words(row),
                "95 % interval": span(row["low"], row["high"]),
                "By chance": number(row["chance"]),
                "Beyond chance": number(row["beyond"]),
                "p (Holm)": p_value(row["p"]),
                "n": row["n"],
                "Seeds": row["n_runs"],
                "Groups without AUC": row["without"] or NOTHING,
            }
            for row in values.to_dict("records")
        ]
    )


def distance_table(found: pd.DataFrame) -> pd.DataFrame:
    """`divergences.at_selected_epoch` in words."""
    names = {
        "attribute": "Attribute", "method": "Method", "weighted": "By the miner's weights", "all": "All pairs alike",
        "chance": "Level by chance", "n_runs": "Seeds",
    }  # fmt: skip
    frame = found.sort_values("attribute", kind="stable")[list(names)].rename(columns=names)
    for name in ("By the miner's weights", "All pairs alike", "Level by chance"):
        frame[name] = [number(value, 3) for value in frame[name]]
    return frame


def group_table(values: pd.DataFrame) -> pd.DataFrame:
    """`group_values` in words."""
    return pd.DataFrame(
        [
            {
                "Method": row["method"],
                "Group": row["group"] or "everyone",
                "AUC": _auc_words(row),
                "95 % interval": span(row["low"], row["high"]),
                "n+": row["n_positive"],
                "n−": row["n_negative"],
                "Seeds": row["n_runs"],
            }
            for row in values.to_dict("records")
        ]
    )


def _auc_words(row: Mapping[str, Any]) -> str:
    if not np.isfinite(row["value"]):
        return undefined_words(int(row["n_positive"]), int(row["n_negative"]))
    return mean_sd(row["value"], row["sd"])


def _es_words(row: Mapping[str, Any]) -> str:
    if not np.isfinite(row["value"]):
        return "undefined (fewer than two groups have an AUC)"
    return mean_sd(row["value"], row["sd"]) + (" (partial)" if row["without"] else "")


def partial_line(values: pd.DataFrame) -> str:
    """A sentence on groups without an AUC, or nothing."""
    lines = []
    for attribute, part in values[values["without"] != ""].groupby("attribute", sort=False):
        groups = list(dict.fromkeys(name for names in part["without"] for name in names.split(", ")))
        lines.append(f"{listed(groups)} ({attribute})")
    if not lines:
        return ""
    return f"Partial: these groups have one label only, so no AUC, and are not in ES-AUC: {'; '.join(lines)}."


# Paired differences ---------------------------------------------------------------------------------------------------


def difference_table(values: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """`difference_values` in words; `a` and `b` are the methods' names."""
    rows = []
    for row in values.to_dict("records"):
        outcome = Outcome(row["outcome"])
        exists = outcome is not Outcome.UNDEFINED
        nothing = undefined_words(row["n_positive"], row["n_negative"]) if row["group"] else "undefined"
        rows.append(
            {
                "Metric": row["measure"],
                a: number(row["a"]) if exists else nothing,
                b: number(row["b"]) if exists else nothing,
                "Difference": points(row["difference"]),
                "95 % interval": points_span(row["low"], row["high"]),
                "p": p_value(row["p"]),
                "n+": row["n_positive"],
                "n−": row["n_negative"],
                "Verdict": outcome_words(outcome, b) if exists else NOTHING,
            }
        )
    return pd.DataFrame(rows)


def difference_summary(difference: MethodDifference) -> list[str]:
    """The result in words: a sentence for AUC and one for ES-AUC."""
    overall, name = difference.comparison.overall, difference.b.name
    low, high = (None, None) if overall.interval is None else (overall.interval.low, overall.interval.high)
    change = None if isinstance(overall.difference, Undefined) else overall.difference
    lines = [
        f"AUC of everyone: {outcome_words(overall.outcome, name)} ({points(change)}, 95 % interval "
        f"{points_span(low, high)}; {many(overall.n_seeds, 'seed')}, n = {overall.n:,})."
    ]
    by_outcome: dict[Outcome, list[str]] = {}
    for attribute, found in difference.comparison.attributes.items():
        reach = NOTHING if found.interval is None else points_span(found.interval.low, found.interval.high)
        by_outcome.setdefault(found.outcome, []).append(f"{attribute} ({reach})")
    if by_outcome:
        parts = (f"{outcome_words(outcome, name)} for {listed(names)}" for outcome, names in by_outcome.items())
        lines.append(f"ES-AUC: {'; '.join(parts)}.")
    return lines
