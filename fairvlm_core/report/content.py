"""The content of a report as plain values, for HTML and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..analysis.comparison import compare_with_baseline, pairing_words
from ..analysis.divergences import group_divergences, recorded
from ..analysis.held_out import fairness_of, held_out_rows
from ..analysis.mining_again import MinedRun, mine_again
from ..config import PRESET_SUMMARIES, RunConfig
from ..errors import InputError
from ..fairness import Outcome, PairedDifference, RocCurve, outcome_words, roc_by_group
from ..intake.images import jpeg_address
from ..mining.audit import AttributeAudit
from ..pairs import PairTable
from ..review import VERDICTS, ReviewStore, results_opened
from ..runs import Run, now
from .cohort import GroupCells, data_card, group_cells
from .privacy import check_min_cell, hidden_cells
from .wording import INTENDED_USE, comparison_sentence, limits, reproduction

SCHEMA_VERSION = 1
ROC_POINTS = np.linspace(0, 1, 51)
IMAGE_SIDE = 224  # pixels
_LEVEL = 0.05


@dataclass(frozen=True)
class ReportOptions:
    """What goes into a report.

    Attributes
    ----------
    min_cell : int
        Groups with fewer people than this in a cell are hidden; 0 hides none.
    pair_ids : bool
        List the ids of the flagged pairs.
    notes : bool
        Add the full clinical notes of the listed pairs.
    images : bool
        Add the images of the six most suspicious pairs.
    n_resamples : int
        Bootstrap draws and permutations; 0 for no intervals.
    """

    min_cell: int = 5
    pair_ids: bool = True
    notes: bool = False
    images: bool = False
    n_resamples: int = 2000


def build_content(run: Run, *, baseline: Run | None = None, options: ReportOptions = ReportOptions()) -> dict[str, Any]:
    """Everything a report says about a finished run, ready for JSON.

    Parameters
    ----------
    run : Run
    baseline : Run, optional
        Another finished run, scored on the same test pairs: compared with `run`, patient by patient.
    options : ReportOptions

    Raises
    ------
    InputError
        A run is not finished or damaged, the baseline was scored on other pairs, or notes or images are requested and the
        data folder is missing or changed.
    """
    check_min_cell(options.min_cell)
    if (options.notes or options.images) and not options.pair_ids:
        raise InputError("notes and images are listed by pair: ask for pair ids as well, or leave them out")
    test = _test_rows(run)
    try:
        return _content(run, test, baseline, options)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"run {run.id}: its files do not have the expected content ({type(error).__name__}: {error})"
        ) from error


def _content(run: Run, test: pd.DataFrame, baseline: Run | None, options: ReportOptions) -> dict[str, Any]:
    config, data, pairs = run.config, run.data, run.pairs()
    attributes = list(data["attributes"])
    cells = group_cells(pairs, attributes, options.min_cell)
    fairness = fairness_of(run, options.n_resamples)
    mined = mine_again(run)
    metrics, results = run.metrics(), _results(fairness, cells)
    mining = _mining(run, mined, config, cells, options)
    return {
        "schema_version": SCHEMA_VERSION,
        "title": f"{data['name']}: run {run.id}",
        "run": run.id,
        "created": now(),
        "privacy": {
            "min_cell": options.min_cell,
            "groups_hidden": any(cell.hidden for cell in cells),
            "pair_ids": options.pair_ids,
            "notes": options.notes,
            "images": options.images,
        },
        "worst": _worst(results),
        "found": _found(run, mining["pairs"], options),
        "review": _review(run, mined),
        "intended_use": INTENDED_USE,
        "data": data_card(data, pairs, cells),
        "configuration": _configuration(config),
        "environment": run.environment,
        "training": _training(metrics),
        "divergence": _divergence(metrics, attributes),
        "results": results,
        "roc": _roc(test, attributes, cells),
        "mining": mining,
        "comparison": None if baseline is None else _comparison(run, baseline, cells, options),
        "limits": limits(options.min_cell, options.n_resamples, config.folds),
        "reproduce": reproduction(config.without_paths(), str(data["fingerprint"])),
    }


def _test_rows(run: Run) -> pd.DataFrame:
    state = run.status.state
    if state != "finished":
        raise InputError(f"run {run.id} is {state}: a report needs a finished run")
    return held_out_rows(run.predictions(), run.id)


def _configuration(config: RunConfig) -> dict[str, Any]:
    """The preset, and the settings in which the run differs from it."""
    config = config.without_paths()
    facts = {"preset": config.preset, "summary": PRESET_SUMMARIES[config.preset], "model": config.model}
    changed = [{"setting": key, "value": value, "preset": usual} for key, (value, usual) in config.changes.items()]
    return facts | {"seed": config.seed, "changed": changed, "settings": config.flat()}


def _training(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("epoch", "train_loss", "val_loss", "mean_weight", "flagged")
    epochs = [{name: line[name] for name in names} | {"val_auc": line["val"]["overall"]["auc"]} for line in metrics]
    return {"selected_epoch": max((line["epoch"] for line in metrics if line["best"]), default=None), "epochs": epochs}


def _divergence(metrics: Sequence[Mapping[str, Any]], attributes: Sequence[str]) -> list[dict[str, Any]]:
    """Sinkhorn divergence of the loss by attribute and epoch: the mean over groups, so that no group is named.

    `distance` is the divergence above chance; `chance` is None where a run of version 0.1 did not record it.
    """
    out, counted = [], recorded(metrics)
    for name in attributes:
        points = []
        for line in metrics:
            groups = [one for one in group_divergences(line, "loss", counted) if one.attribute == name]
            if groups:
                known = [one.chance for one in groups if one.chance is not None]
                mean = {key: float(np.mean([getattr(one, key) for one in groups])) for key in ("value", "distance")}
                points.append({"epoch": line["epoch"], "chance": float(np.mean(known)) if known else None} | mean)
        if points:
            out.append({"attribute": name, "pairs_count": counted.value, "points": points})
    return out


def _results(report: Mapping[str, Any], cells: Sequence[GroupCells]) -> dict[str, Any]:
    overall = report["overall"]
    names = ("n", "n_positive", "n_negative", "n_patients", "auc", "accuracy")
    return {
        "overall": {name: overall[name] for name in names} | _interval(overall, "auc"),
        "attributes": [_attribute(name, facts, cells) for name, facts in report["attributes"].items()],
        "threshold": report["settings"]["threshold"],
        "n_resamples": report["settings"]["n_resamples"],
    }


def _worst(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The group with the lowest AUC among those that are shown."""
    rows = [
        group | {"attribute": one["attribute"]}
        for one in results["attributes"]
        for group in one["groups"]
        if not group["hidden"] and group["auc"] is not None
    ]
    return min(rows, key=lambda row: row["auc"], default=None)


def _found(run: Run, listed: Sequence[Mapping[str, Any]], options: ReportOptions) -> list[dict[str, Any]]:
    """Six flagged pairs for the first page: wrong notes first, two shared markers where there are some."""
    wrong, shared = ([row for row in listed if row["kind"] == kind] for kind in ("faulty", "noisy"))
    chosen = [*wrong[: 6 - min(2, len(shared))], *shared]
    found = [dict(row) for row in chosen[:6]]
    if options.images and found:
        table = _table(run, "images")
        rows = {str(pair): row for row, pair in enumerate(table.pair_ids)}
        found = [one | {"image": jpeg_address(table.image(rows[one["pair_id"]]), IMAGE_SIDE)} for one in found]
    return found


def _review(run: Run, mined: MinedRun) -> dict[str, Any] | None:
    """Verdicts on this run's flagged pairs; of blind queues that are still being read, none."""
    workspace = run.path.parent.parent
    if not ReviewStore.exists(workspace):
        return None
    flagged = set(mined.rows.loc[mined.rows["kind"] != "clean", "pair_id"].astype(str))
    opened = results_opened(workspace)
    given: dict[str, str | None] = {}
    with ReviewStore.open(workspace) as store:
        for queue in store.queues():
            progress = store.progress(queue.queue_id)
            complete = progress.n_readings >= progress.n_wanted
            if queue.data == run.data["fingerprint"] and (not queue.blind or complete or queue.queue_id in opened):
                given |= {one.pair_id: one.verdict for one in store.verdicts(queue_id=queue.queue_id).verdicts}
    counts = Counter(verdict for pair, verdict in given.items() if verdict is not None and pair in flagged)
    if not counts:
        return None
    rows = [{"verdict": VERDICTS[name].label, "n": n} for name, n in counts.most_common()]
    n_bad = sum(n for name, n in counts.items() if VERDICTS[name].bad)
    return {"n": counts.total(), "n_bad": n_bad, "n_flagged": len(flagged), "verdicts": rows}


def _attribute(name: str, facts: Mapping[str, Any], cells: Sequence[GroupCells]) -> dict[str, Any]:
    hidden = _hidden(cells, "test", name)
    chance = facts["chance"].get("es_auc", {})
    groups = []
    for group, values in facts["groups"].items():
        row: dict[str, Any] = {"group": group, "hidden": hidden[group]}
        if not hidden[group]:
            row |= {key: values[key] for key in ("n", "n_positive", "n_negative", "auc")}
            row |= _interval(values, "auc") | {"undefined": values["undefined"].get("auc")}
        groups.append(row)
    return {
        "attribute": name,
        "es_auc": facts["es_auc"],
        **_interval(facts, "es_auc"),
        "partial": facts["partial"],
        "chance": chance.get("expected"),
        "p_holm": chance.get("p_holm"),
        "demographic_parity_difference": facts["demographic_parity_difference"],
        "equalized_odds_difference": facts["equalized_odds_difference"],
        "groups": groups,
    }


def _interval(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {bound: (facts["intervals"].get(name) or {}).get(bound) for bound in ("low", "high")}


def _hidden(cells: Sequence[GroupCells], split: str, attribute: str) -> dict[str, str]:
    return {cell.group: cell.hidden for cell in cells if cell.split == split and cell.attribute == attribute}


def _roc(test: pd.DataFrame, attributes: Sequence[str], cells: Sequence[GroupCells]) -> list[dict[str, Any]]:
    """True positive rates at 51 false positive rates: the corners of the exact curve would reveal single patients."""
    label, score = test["label"].to_numpy(), test["score"].to_numpy(float)
    out = []
    for name in attributes:
        hidden = _hidden(cells, "test", name)
        curves = []
        for group, curve in roc_by_group(label, score, test[name].astype(str).to_numpy()).items():
            if not hidden[group] and isinstance(curve, RocCurve):
                rates = np.interp(ROC_POINTS, curve.false_positive_rate, curve.true_positive_rate)
                curves.append({"group": group, "true_positive_rate": rates.round(3).tolist()})
        out.append({"attribute": name, "false_positive_rate": ROC_POINTS.round(2).tolist(), "groups": curves})
    return out


def _mining(
    run: Run, mined: MinedRun, config: RunConfig, cells: Sequence[GroupCells], options: ReportOptions
) -> dict[str, Any]:
    rows, listed = mined.rows[mined.rows["kind"] != "clean"], []
    if options.pair_ids:
        listed = rows[["pair_id", "kind", "mean_loss", "z", "weight"]].round(4).to_dict("records")
    if options.notes:
        notes = _notes(run, [row["pair_id"] for row in listed])
        listed = [row | {"note": notes[row["pair_id"]]} for row in listed]
    return {
        "enabled": config.mining.enabled,
        "rule": config.mining.rule,
        "n": len(mined.rows),
        "faulty": mined.result.n_flagged["faulty"],
        "noisy": mined.result.n_flagged["noisy"],
        "message": mined.result.message,
        "audit": [_audit(mined, audit, cells, options.min_cell) for audit in mined.audit.attributes],
        "pairs": listed,
    }


def _audit(mined: MinedRun, audit: AttributeAudit, cells: Sequence[GroupCells], min_cell: int) -> dict[str, Any]:
    """Where counts are hidden, only whether p is below 0.05: the counts could be computed from an exact p-value."""
    groups = _audit_rows(mined, audit, cells, min_cell)
    p, hidden = audit.p_adjusted, any(row["hidden"] or row["flagged_hidden"] for row in groups)
    return {
        "attribute": audit.attribute,
        "test": audit.test,
        "p_holm": None if hidden else p,
        "depends": None if p is None else p < _LEVEL,
        "groups": groups,
    }


def _audit_rows(
    mined: MinedRun, audit: AttributeAudit, cells: Sequence[GroupCells], min_cell: int
) -> list[dict[str, Any]]:
    """Flagged pairs by group; groups that are hidden in the data card or have few flagged patients are hidden."""
    of_group = _hidden(cells, "train", audit.attribute)
    flagged = mined.rows[mined.rows["kind"] != "clean"]
    people = flagged.groupby(audit.attribute)["patient_id"].nunique()
    counts = [int(people.get(group.group, 0)) for group in audit.groups]
    of_flags = hidden_cells(counts, min_cell=min_cell)
    rows = []
    for group, hidden in zip(audit.groups, of_flags, strict=True):
        row: dict[str, Any] = {"group": group.group, "hidden": of_group[group.group], "flagged_hidden": hidden}
        if not row["hidden"]:
            row["n"] = group.n
        if not row["hidden"] and not hidden:
            row |= {"n_flagged": group.n_flagged, "rate": group.rate, "removed_weight": group.removed_weight}
            row["low"], row["high"] = group.rate_interval or (None, None)
        rows.append(row)
    return rows


def _table(run: Run, what: str) -> PairTable:
    table = PairTable.read(run.data["folder"], **run.data["read_options"])
    if table.fingerprint != run.data["fingerprint"]:
        raise InputError(f"the data of run {run.id} has changed since the run: its {what} cannot be added")
    return table


def _notes(run: Run, pair_ids: Sequence[str]) -> dict[str, str]:
    table = _table(run, "notes")
    frame = table.frame.set_index(table.frame["pair_id"].astype(str))["text"]
    return {pair_id: str(frame[pair_id]) for pair_id in pair_ids}


def _comparison(run: Run, baseline: Run, cells: Sequence[GroupCells], options: ReportOptions) -> dict[str, Any]:
    """The run's method minus the baseline's on the same test patients, with all their seeds."""
    found = compare_with_baseline(run, baseline, max(options.n_resamples, 2))
    compared = found.comparison
    name = "this run" if [entry.id for entry in found.b.runs] == [run.id] else found.b.name
    rows = [_difference("AUC, everyone", compared.overall, name)]
    rows += [_difference(f"ES-AUC, {one}", difference, name) for one, difference in compared.attributes.items()]
    for one, groups in compared.groups.items():
        hidden = _hidden(cells, "test", one)
        rows += [_difference(f"AUC, {group} ({one})", d, name) for group, d in groups.items() if not hidden[group]]
    return {
        "baseline": baseline.id,
        "preset": baseline.config.preset,
        "seed": baseline.config.seed,
        "methods": [found.a.name, found.b.name],
        "seeds": [list(pair) for pair in found.seeds],
        "pairing": pairing_words(found),
        "sentence": comparison_sentence(compared.overall, found.b.name, found.a.name),
        "rows": rows,
    }


def _difference(title: str, found: PairedDifference, name: str) -> dict[str, Any]:
    facts = found.to_dict()
    interval = facts["interval"] or {"low": None, "high": None}
    reason = f" ({found.no_interval})" if found.outcome is Outcome.NO_INTERVAL else ""
    return {
        "figure": title,
        "attribute": found.attribute,
        "group": found.group,
        "n": found.n,
        "n_seeds": found.n_seeds,
        "baseline": facts["a"],
        "run": facts["b"],
        "difference": facts["difference"],
        "low": interval["low"],
        "high": interval["high"],
        "p": found.p,
        "reliable": found.reliable,
        "outcome": found.outcome.value,
        "verdict": outcome_words(found.outcome, name) + reason,
    }
