"""Cross-validation by patient, for sets of a few hundred pairs: every pair is tested once.

Fold k is the test split of the k-th model, half of the next fold validates it, all other pairs train it. All folds together
are one result: predictions are by the model that did not see the pair, the ledger has the mean over the models that did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from .config import RunConfig
from .errors import InputError
from .fairness import roc_auc
from .features import PairArrays
from .ledger import PairLossLedger
from .models import Clip
from .pairs import PairTable
from .train import EpochReport, FitResult, TrainState, check_table, fit
from .validation import point_report


@dataclass(frozen=True)
class CrossValidation:
    """A finished cross-validation.

    Attributes
    ----------
    result : FitResult
        Of all pairs together. `predictions` has every pair once, with split "test"; `ledger` has every pair; `history`
        has means over the folds. `clip` and the features are those of the first fold's model.
    folds : tuple of dict
        Of each fold: fold (from 1), n test pairs, n_patients, auc, probe_auc (None where it is undefined), best_epoch.
    """

    result: FitResult
    folds: tuple[dict[str, Any], ...]


def fold_of(table: PairTable, folds: int, seed: int = 0) -> np.ndarray:
    """Fold of each pair, int (N,) from 0: patients stay together, labels are spread evenly.

    Raises
    ------
    InputError
        A label has fewer patients than two a fold.
    """
    patients, labels = np.asarray(table.frame["patient_id"], str), table.labels
    fewest = min(len(np.unique(patients[labels == label])) for label in (0, 1))  # a fold needs both labels
    if folds < 3:
        raise InputError(f"folds: {folds}; at least 3 are needed, since a part of another one validates")
    if fewest < 2 * folds:
        raise InputError(f"folds: {folds}; a label has {fewest} patients and a fold needs at least 2 of each label")
    fold = np.zeros(len(table), int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for k, (_, test) in enumerate(splitter.split(fold, labels, patients)):
        fold[test] = k
    return fold


def fold_table(table: PairTable, fold: np.ndarray, k: int) -> PairTable:
    """The table with fold k as test split, half of the patients of the next fold as validation, the others as training."""
    following = np.flatnonzero(fold == (k + 1) % (int(fold.max()) + 1))
    patients, labels = np.asarray(table.frame["patient_id"], str)[following], table.labels[following]
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=k).split(following, labels, patients)
    split = np.full(len(table), "train", object)
    split[following[next(halves)[1]]], split[fold == k] = "val", "test"
    return _with_split(table, split)


def all_training(table: PairTable) -> PairTable:
    """The table with every pair in training, as a cross-validated run stores it."""
    return _with_split(table, np.full(len(table), "train"))


def cross_validate(
    table: PairTable,
    config: RunConfig,
    *,
    arrays: PairArrays,
    clip_of_fold: Callable[[], Clip],
    trusted: Collection[str] | None = None,
    state_of: Callable[[int], TrainState | None] = lambda fold: None,  # noqa: ARG005
    on_state: Callable[[int, TrainState], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_fold: Callable[[dict[str, Any]], None] | None = None,
) -> CrossValidation:
    """Train and test `config.folds` models. The splits of the table are not used.

    Parameters
    ----------
    arrays, trusted
        As in `fit`.
    clip_of_fold : callable
        Returns a fresh model for each fold.
    state_of : callable (fold, from 0) -> TrainState or None
        From where a fold continues; the result equals that without interruption.
    on_state : callable (fold, TrainState), after each epoch
    on_step : callable (steps done, steps in all), over all folds
    on_fold : callable (entry of `CrossValidation.folds`), after each fold

    Raises
    ------
    InputError
        As `fold_of` and `fit`.
    """
    fold = fold_of(table, config.folds, config.seed)
    results, entries = [], []
    for k in range(config.folds):
        part = fold_table(table, fold, k)

        def step(done: int, of: int, k: int = k) -> None:
            if on_step is not None:
                on_step(k * of + done, config.folds * of)

        def epoch(_: EpochReport, state: TrainState, k: int = k) -> None:
            if on_state is not None:
                on_state(k, state)

        found = fit(
            part,
            config,
            state=state_of(k),
            arrays=arrays,
            clip=clip_of_fold(),
            trusted=trusted,
            on_step=step,
            on_epoch=epoch,
        )
        results.append(found)
        entries.append(_entry(k, found))
        if on_fold is not None:
            on_fold(entries[-1])
    return CrossValidation(_together(table, config, results), tuple(entries))


def check_folds(table: PairTable, config: RunConfig) -> None:
    """Refuse what `cross_validate` would refuse."""
    fold = fold_of(table, config.folds, config.seed)
    for k in range(config.folds):
        check_table(fold_table(table, fold, k), config)


def _with_split(table: PairTable, split: np.ndarray) -> PairTable:
    column = pd.Categorical(split, categories=table.frame["split"].cat.categories)
    return replace(table, frame=table.frame.assign(split=column))


def _entry(k: int, found: FitResult) -> dict[str, Any]:
    test = found.predictions[found.predictions["split"] == "test"]
    probe = _auc_or_none(test["label"].to_numpy(), test["probe_score"].to_numpy(float))
    auc = found.test.overall.auc
    return {
        "fold": k + 1,
        "n": len(test),
        "n_patients": int(test["patient_id"].nunique()),
        "auc": auc if isinstance(auc, float) else None,
        "probe_auc": probe,
        "best_epoch": found.best_epoch,
    }


def _auc_or_none(label: np.ndarray, score: np.ndarray) -> float | None:
    if np.isnan(score).any() or len(np.unique(label)) < 2:
        return None
    return float(roc_auc(label, score))


def _together(table: PairTable, config: RunConfig, results: Sequence[FitResult]) -> FitResult:
    parts = [found.predictions[found.predictions["split"] == "test"] for found in results]
    predictions = pd.concat(parts).set_index("pair_id").loc[table.pair_ids].reset_index()
    ledger = _mean_ledger(table, results)
    report = point_report(table, np.arange(len(table)), predictions["score"].to_numpy(float))
    return FitResult(
        clip=results[0].clip,
        ledger=ledger,
        mining=config.mining.mine(ledger),
        history=[_mean_epoch([found.history[epoch] for found in results]) for epoch in range(config.epochs)],
        predictions=predictions,
        image_features=results[0].image_features,
        text_features=results[0].text_features,
        val=results[0].val,
        test=report,
        best_epoch=int(np.median([found.best_epoch for found in results])),
    )


def _mean_ledger(table: PairTable, results: Sequence[FitResult]) -> PairLossLedger:
    """Every pair's values in each epoch, averaged over the models that it trained."""
    first = results[0].ledger
    ledger = PairLossLedger(list(table.pair_ids), channels=first.channels)
    place = {pair_id: row for row, pair_id in enumerate(table.pair_ids)}
    rows = [np.array([place[pair_id] for pair_id in found.ledger.pair_ids]) for found in results]
    count = np.zeros(len(table))
    for one in rows:
        count[one] += 1
    for epoch in range(first.n_epochs):
        values = {}
        for channel in first.channels:
            total = np.zeros(len(table))
            for one, found in zip(rows, results, strict=True):
                total[one] += found.ledger.channel(channel)[epoch]
            values[channel] = (total / count).astype(np.float32)
        ledger.record(epoch, np.arange(len(table)), **values)
        ledger.close_epoch(epoch)
    return ledger


def _mean_epoch(reports: Sequence[EpochReport]) -> EpochReport:
    values = [asdict(report) for report in reports]
    mean = {field.name: _mean([one[field.name] for one in values]) for field in fields(EpochReport)}
    lines: dict[tuple[str, ...], list[Any]] = {}
    for line in (line for one in values for line in one["sinkhorn"]):  # a fold may lack a small group
        lines.setdefault((line["quantity"], line["attribute"], line["group"]), []).append(line)
    mean["sinkhorn"] = [
        _mean(together) | {"n": round(_mean([x["n"] for x in together]))} for together in lines.values()
    ]
    return EpochReport(
        **mean | {"epoch": reports[0].epoch, "flagged": _whole(mean["flagged"]), "best": reports[0].best}
    )


def _whole(counts: dict[str, float]) -> dict[str, int]:
    return {name: round(value) for name, value in counts.items()}


def _mean(values: Sequence[Any]) -> Any:
    """Mean of numbers, and of the numbers inside dictionaries and lists of the same form; else the first value."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _mean([one[key] for one in values if key in one]) for key in first}
    if isinstance(first, list):
        return [_mean(together) for together in zip(*values, strict=False)]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    return float(np.mean(numbers)) if numbers and not isinstance(first, bool | str) else first
