"""What the inspector says of one pair: why it is flagged, and what lies near it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fairvlm_core.analysis.mined_pairs import NOT_MINED, PAIR_KINDS, MinedPairs, RunPairs
from fairvlm_core.analysis.neighbours import Ranked
from fairvlm_core.analysis.one_pair import Near
from fairvlm_core.words import KIND_TITLES, many, number

from .bad_pairs import CHANNELS

NEAR = 6
# Findings that SynthFundus records for each image, in the order of a reader's interest.
FINDINGS = {
    "diagnosis": "Diagnosis",
    "stage": "Stage",
    "eye": "Eye",
    "cdr_vertical": "Cup-disc ratio",
    "notch": "Notch",
    "rnfl_defect": "RNFL defect",
    "haemorrhage": "Haemorrhage",
    "rnfl_thickness": "RNFL (µm)",
    "iop": "IOP (mmHg)",
    "md": "MD (dB)",
    "cct": "CCT (µm)",
    "quality": "Image quality",
}


def reason(now: MinedPairs, row: int, found: Near | None = None) -> list[str]:
    """Why a pair is flagged or not, in sentences made from numbers."""
    lines = [_by_loss(now, row)]
    if found is None:
        return lines
    notes, images = found.notes, found.images
    if images.n_better:
        lines.append(
            f"{images.n_better:,} of {many(images.n_others, 'other training image')} {_match(images.n_better)} this note "
            "better."
        )
    if notes.n_better:
        lines.append(
            f"{notes.n_better:,} of {many(notes.n_others, 'other training note')} {_match(notes.n_better)} this image "
            "better."
        )
    if not images.n_better and not notes.n_better:
        lines.append(
            "No other training note matches this image better, and no other training image matches this note better."
        )
    return lines


def _match(n: int) -> str:
    return "matches" if n == 1 else "match"


def _by_loss(now: MinedPairs, row: int) -> str:
    result, kind = now.result, PAIR_KINDS[now.kind[row]]
    if now.kind[row] == NOT_MINED:
        return "Only training pairs are mined: no history of losses is kept of this one."
    value = now.mean_loss[row]
    if not np.isfinite(value):
        return "It was never seen in training, so nothing is known of its loss."
    name = f"mean {CHANNELS.get(result.channel, result.channel).lower()}"
    if result.sigma == 0:
        return f"Its {name} {number(value, 2)} is that of the others: their spread is 0."
    middle = "median" if now.settings.spread == "mad" else "mean"
    unit = "robust sd" if now.settings.spread == "mad" else "sd"
    z = (value - result.mu) / result.sigma  # not now.z: what that is of depends on the rule
    side = "above" if z >= 0 else "below"
    where = f"Its {name} {number(value, 2)} lies {abs(z):.1f} {unit} {side} the {middle} {number(result.mu, 2)}"
    if kind == "faulty" and result.rule == "mixture":
        return f"{where}; it belongs to the higher group with a probability of {now.posterior[row]:.2f}: faulty."
    if result.rule == "mismatch" and kind != "noisy" and np.isfinite(now.posterior[row]):
        said = "faulty" if kind == "faulty" else "not flagged"
        return (
            f"By what the other pairs show, image and note belong to different patients with a probability of "
            f"{now.posterior[row]:.2f}: {said}. {where}."
        )
    if result.rule == "mismatch" and kind == "noisy":
        return (
            f"Image and note both lie far from all others and yet fit: a rank of {now.z[row]:.1f}, beyond the limit of "
            f"−{now.settings.noisy_sd:g}: noisy, they may share a mark instead of the findings. {where}."
        )
    if kind == "faulty":
        return f"{where}, beyond the limit of {now.settings.faulty_sd:g}: faulty, image and note disagree."
    if kind == "noisy":
        return (
            f"{where}, beyond the limit of {now.settings.noisy_sd:g}: noisy, so easy that image and note may share "
            "something other than the clinical content."
        )
    return (
        f"{where}, within the limits: not flagged." if not result.message else f"{where}. {_sentence(result.message)}"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def neighbour_table(pairs: RunPairs, now: MinedPairs, ranked: Ranked, notes: Mapping[str, str]) -> pd.DataFrame:
    """Pair, similarity, kind, label and note of ranked pairs; `notes` by pair id, empty where the data is gone."""
    rows = ranked.rows
    frame = pd.DataFrame(
        {
            "pair_id": pairs.ids[rows],
            "Similarity": ranked.similarity.astype(float),
            "Kind": [KIND_TITLES[PAIR_KINDS[kind]] for kind in now.kind[rows]],
            "Label": pairs.labels[rows],
        }
    )
    if notes:
        frame["Note"] = [notes.get(pair, "") for pair in frame["pair_id"]]
    return frame


def findings_of(row: Mapping[str, str]) -> list[tuple[str, str]]:
    """Findings recorded for an image, titles and values; what is empty is left out.

    >>> findings_of({"diagnosis": "suspect", "stage": "", "zoom": "1.02"})
    [('Diagnosis', 'suspect')]
    """
    return [(title, str(row[name])) for name, title in FINDINGS.items() if str(row.get(name, "")).strip()]
