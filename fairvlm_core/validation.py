"""Validation after each epoch, and the metric that chooses the epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .config import RunConfig
from .distributed import Team, embed_together
from .errors import InputError
from .evaluate import zero_shot
from .fairness import FairnessReport, delong, es_auc_standard_error, roc_auc
from .features import PairArrays
from .models import Clip
from .objective import pair_losses
from .pairs import PairTable


@dataclass(frozen=True)
class Validation:
    """Losses of the pairs in whole batches (a short last one would have lower losses and is left out), scores, metrics."""

    loss: np.ndarray
    score: np.ndarray
    report: FairnessReport
    test_auc: float | None = None


def validate(
    clip: Clip,
    arrays: PairArrays,
    table: PairTable,
    rows: np.ndarray,
    batch_size: int,
    team: Team,
    test: np.ndarray | None = None,
) -> Validation:
    """Scores and losses of the validation pairs by the model as it is now; the AUC of the rows of `test` where given."""
    image, text = embed_together(clip, arrays, rows, team)
    losses, notes = [], torch.from_numpy(table.note_ids[rows])
    size = min(batch_size, len(rows))
    for start in range(0, len(rows) - size + 1, size):
        part = slice(start, start + size)
        with torch.inference_mode():
            bias = None if clip.bias is None else clip.bias.float().cpu()
            scale = clip.scale.detach().float().cpu()
            losses.append(pair_losses(image[part], text[part], scale, bias, notes[part]).loss)
    score = zero_shot(clip, image, table.info.class_prompts)
    test_auc = None
    if test is not None:
        seen, _ = embed_together(clip, arrays, test, team)
        test_auc = float(roc_auc(table.labels[test], zero_shot(clip, seen, table.info.class_prompts)))
    return Validation(torch.cat(losses).numpy(), score, point_report(table, rows, score), test_auc)


def selecting(config: RunConfig, validation: Validation) -> tuple[float, np.ndarray]:
    """The metric that selects the epoch (higher is better), and the pairs' values that it is computed on."""
    if config.select_by == "loss":
        return -float(validation.loss.mean()), validation.loss
    if config.select_by == "auc":
        auc = validation.report.overall.auc
        assert isinstance(auc, float)  # both labels were found in the validation split
        return auc, validation.score
    values = [a.es_auc for a in validation.report.attributes.values() if isinstance(a.es_auc, float)]
    if not values:
        raise InputError("setting select_by: no attribute has a validation ES-AUC, so none can be compared; use auc")
    return float(np.mean(values)), validation.score


def standard_error(table: PairTable, rows: np.ndarray, config: RunConfig) -> Callable[[np.ndarray, np.ndarray], float]:
    """Standard error of the difference in the selecting metric between two epochs, over patients.

    It is 0 where a label has fewer than two patients, so that the epoch with the highest metric is chosen.
    """
    patients = np.asarray(table.frame["patient_id"], str)[rows]
    if min(len(np.unique(patients[table.labels[rows] == label])) for label in (0, 1)) < 2:
        return lambda a, b: 0.0  # noqa: ARG005
    if config.select_by == "loss":
        return lambda a, b: float((a - b).std() / np.sqrt(len(a)))
    if config.select_by == "auc":
        return lambda a, b: delong(table.labels[rows], a, b, patients=patients).difference()[1]
    attributes = {name: table.attribute(name)[rows] for name in table.attributes}
    return lambda a, b: es_auc_standard_error(table.labels[rows], a, b, attributes, patients=patients)


def point_report(table: PairTable, rows: np.ndarray, score: np.ndarray) -> FairnessReport:
    """The report of some rows without intervals."""
    return FairnessReport.from_predictions(
        table.labels[rows],
        score,
        {name: table.attribute(name)[rows] for name in table.attributes},
        patients=np.asarray(table.frame["patient_id"], str)[rows],
        n_resamples=0,
        n_permutations=0,
    )
