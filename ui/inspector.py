"""What the inspector says of one pair: why it is flagged, and what lies near it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fairvlm_core.analysis.mined_pairs import PAIR_KINDS, MinedPairs, RunPairs, why
from fairvlm_core.analysis.neighbours import Ranked
from fairvlm_core.analysis.one_pair import Near
from fairvlm_core.words import KIND_TITLES, many

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


def reason(pairs: RunPairs, now: MinedPairs, row: int, found: Near | None = None) -> list[str]:
    """Why a pair is flagged or not, and how many other notes and images match better."""
    lines = [why(pairs, now, row)]
    if found is None:
        return lines
    notes, images = found.notes, found.images
    for fits, other, this in ((images, "other training image", "note"), (notes, "other training note", "image")):
        if fits.n_better:
            match = "matches" if fits.n_better == 1 else "match"
            lines.append(f"{fits.n_better:,} of {many(fits.n_others, other)} {match} this {this} better.")
    if not images.n_better and not notes.n_better:
        lines.append("No other training note matches this image better, and no other training image this note.")
    return lines


def plain_reason(kind: str, found: Near) -> str:
    """What is wrong with a pair, in one sentence without statistics; `kind` is one of `PAIR_KINDS`."""
    if kind == "noisy":
        return "Image and note are far more alike than those of a normal pair: they may share a mark."
    fits = found.notes
    if not fits.n_better:
        return "No other note matches this image better."
    return f"{fits.n_better:,} of {many(fits.n_others, 'other note')} match this image better."


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
