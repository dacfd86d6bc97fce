"""Two methods on the same test patients: which runs are paired, and the differences in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.analysis.group_order import group_order
from fairvlm_core.errors import InputError
from fairvlm_core.fairness import compare_paired, compare_seeds

from .compare import Method
from .words import NOTHING, figure, listed, many, p_value, points, undefined


@dataclass(frozen=True)
class Pairing:
    """Runs of two methods, place by place; `line` says how they were paired."""

    a: tuple[RunEntry, ...]
    b: tuple[RunEntry, ...]
    line: str


def pair_runs(a: Method, b: Method) -> Pairing:
    """Runs with the same seed; where the methods share none, the newest run of each.

    >>> def method(name, *seeds):
    ...     return Method(name, tuple(RunEntry(f"{i:04d}-x-s{s}", "finished", seed=s) for i, s in enumerate(seeds, 1)))
    >>> pair_runs(method("clip", 0, 1, 2), method("dbpm", 2, 1)).line
    'Paired by seed: 1 and 2.'
    >>> pair_runs(method("clip", 0), method("dbpm", 1)).line
    'The methods share no seed: their newest runs (0 and 1) are compared. Chance between seeds is not in the interval.'
    """
    by_seed_a, by_seed_b = ({run.seed: run for run in method.runs} for method in (a, b))
    shared = sorted(set(by_seed_a) & set(by_seed_b))
    if not shared:
        one, other = a.runs[-1], b.runs[-1]
        line = (
            f"The methods share no seed: their newest runs ({one.seed} and {other.seed}) are compared. "
            "Chance between seeds is not in the interval."
        )
        return Pairing((one,), (other,), line)
    line = f"Paired by seed: {listed([str(seed) for seed in shared])}."
    if len(shared) == 1:
        line += " Chance between seeds is not in the interval: train both methods with more seeds."
    return Pairing(tuple(by_seed_a[s] for s in shared), tuple(by_seed_b[s] for s in shared), line)


def paired_differences(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], attributes: Sequence[str]
) -> dict[str, Any]:
    """Differences b - a of AUC, ES-AUC and group AUC as plain values; frames are test predictions, place by place.

    Raises
    ------
    InputError
        The frames do not hold the same pairs with the same labels.
    """
    first = a[0]
    for frame in (*a, *b):
        same = len(frame) == len(first) and frame["pair_id"].astype(str).equals(first["pair_id"].astype(str))
        if not (same and np.array_equal(frame["label"], first["label"])):
            raise InputError("the runs were scored on other test pairs: choose runs on the same data")
    groups = {name: first[name].astype(str).to_numpy() for name in attributes}
    label, patients = first["label"].to_numpy(), first["patient_id"].astype(str).to_numpy()
    scores_a, scores_b = ([frame["score"].to_numpy(float) for frame in frames] for frames in (a, b))
    if len(a) == 1:
        return compare_paired(label, scores_a[0], scores_b[0], groups, metric="es_auc", patients=patients).to_dict()
    return compare_seeds(label, scores_a, scores_b, groups, metric="es_auc", patients=patients).to_dict()


def difference_figures(compared: Mapping[str, Any], attributes: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a figure: measure, attribute, group, a, b, difference, low, high, p, reliable, verdict, n counts.

    AUC of everyone, then ES-AUC by attribute, then AUC by group of the named `attributes` (default: all). p is corrected
    over attributes (Holm) for ES-AUC.
    """
    rows = [("AUC, everyone", "", "", compared["overall"])]
    rows += [(f"ES-AUC, {name}", name, "", facts) for name, facts in compared["attributes"].items()]
    for name, groups in compared["groups"].items():
        if attributes is None or name in attributes:
            rows += [(f"AUC, {group} ({name})", name, group, groups[group]) for group in group_order(groups)]
    return pd.DataFrame([_row(*row) for row in rows])


def _row(measure: str, attribute: str, group: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    interval = facts["interval"] or {"low": np.nan, "high": np.nan}
    p = facts["p_value"] if facts["p_holm"] is None else facts["p_holm"]
    values = {name: np.nan if facts[name] is None else facts[name] for name in ("a", "b", "difference")}
    return {
        "measure": measure,
        "attribute": attribute,
        "group": group,
        **values,
        "low": interval["low"],
        "high": interval["high"],
        "p": np.nan if p is None else p,
        "reliable": bool(facts["reliable"]),
        "verdict": facts["verdict"],
        "n_positive": facts["n_positive"],
        "n_negative": facts["n_negative"],
        "n_seeds": facts["n_seeds"],
    }


def difference_table(figures: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Figure, a, b, Difference, 95 % interval, p, n+, n−, Verdict."""
    rows = []
    for row in figures.to_dict("records"):
        exists = np.isfinite(row["difference"])
        nothing = undefined(row["n_positive"], row["n_negative"]) if row["group"] else "undefined"
        rows.append(
            {
                "Figure": row["measure"],
                a: figure(row["a"]) if exists else nothing,
                b: figure(row["b"]) if exists else nothing,
                "Difference": points(row["difference"]),
                "95 % interval": reach(row["low"], row["high"]),
                "p": p_value(row["p"]),
                "n+": row["n_positive"],
                "n−": row["n_negative"],
                "Verdict": NOTHING if not exists else verdict(row, b),
            }
        )
    return pd.DataFrame(rows)


def reach(low: float, high: float) -> str:
    """
    >>> reach(-0.004, 0.009)
    '−0.4 to +0.9 pp'
    """
    return f"{points(low).removesuffix(' pp')} to {points(high)}" if np.isfinite(low) and np.isfinite(high) else NOTHING


def verdict(row: Mapping[str, Any], b: str) -> str:
    """The verdict without its figures, which stand beside it: "no reliable difference", "NAME is better".

    >>> verdict({"verdict": "B is better: +1.0 to +2.0 points, 3 seeds"}, "dbpm")
    'dbpm is better'
    """
    head = row["verdict"].split(":")[0]
    return f"{b} {head.removeprefix('B ')}" if head.startswith("B is") else head


def summary(figures: pd.DataFrame, b: str) -> list[str]:
    """What the comparison comes to, in a sentence for AUC and one for ES-AUC."""
    overall = figures.iloc[0]
    seeds, n = int(overall["n_seeds"]), int(overall["n_positive"] + overall["n_negative"])
    about = f"{many(seeds, 'seed')}, n = {n:,}"
    lines = [
        f"AUC of everyone: {verdict(overall, b)} ({points(overall['difference'])}, 95 % interval "
        f"{reach(overall['low'], overall['high'])}; {about})."
    ]
    es_auc = figures[(figures["attribute"] != "") & (figures["group"] == "")]
    said: dict[str, list[str]] = {}
    for row in es_auc.to_dict("records"):
        said.setdefault(verdict(row, b), []).append(f"{row['attribute']} ({reach(row['low'], row['high'])})")
    if said:
        lines.append("ES-AUC: " + "; ".join(f"{what} for {listed(names)}" for what, names in said.items()) + ".")
    return lines
