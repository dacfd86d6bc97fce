"""Plant known bad pairs: notes of another patient, and markers that image and note share."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd

from fairvlm_core.errors import InputError

from .config import SynthConfig
from .markers import MARKERS
from .notes import write_short_note

CLEAR_CDR_GAP = 0.2  # how far the donor's cup-to-disc ratio lies from the image's, at the least


def plant(config: SynthConfig, cohort: pd.DataFrame, findings: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Choose the training pairs to change, and what to change in them.

    Args:
        config: rates and seed.
        cohort, findings, notes: aligned, one entry a pair; ``notes`` are the pairs' own correct notes.

    Returns:
        One row a pair: pair_id, kind (clean, mismatch or shortcut), text (as written), clean_text, donor_pair_id (empty
        unless mismatch), marker (empty unless shortcut). A donor keeps its own note, which is used once; it has the other
        label, a cup-to-disc ratio at least 0.2 away and, where one is left, the same gender.

    Raises:
        InputError: no clean pair that could give a contradicting note is left.
    """
    rng = config.generator("plant")
    kind = np.full(len(cohort), "clean", dtype=object)
    train = np.flatnonzero(cohort["split"] == "train")
    groups = cohort[config.mismatch_attribute].to_numpy()
    names = rng.permutation(sorted(set(groups[train])))
    members = [train[groups[train] == name] for name in names]
    # Rounding the running total keeps every group within one pair of its rate and the set's total exact.
    exact = np.cumsum([config.rate_of(name) * len(rows) for name, rows in zip(names, members, strict=True)])
    for rows, count in zip(members, np.diff(np.rint(exact), prepend=0).astype(int), strict=True):
        kind[rng.choice(rows, count, replace=False)] = "mismatch"
    left = train[kind[train] == "clean"]
    kind[rng.choice(left, min(len(left), round(config.shortcut_rate * len(train))), replace=False)] = "shortcut"

    text = list(notes)
    donor = np.full(len(cohort), "", dtype=object)
    for receiver, giver in _pair_donors(rng, cohort, findings, kind):
        text[receiver], donor[receiver] = notes[giver], cohort["pair_id"].iat[giver]
    marker = np.full(len(cohort), "", dtype=object)
    shortcuts = np.flatnonzero(kind == "shortcut")
    marker[shortcuts] = np.resize(rng.permutation(MARKERS), len(shortcuts))
    for i in shortcuts:
        state = int(config.seeds("short-note", "train", int(i)).generate_state(1, np.uint64)[0])
        text[i] = write_short_note(marker[i], random.Random(state))
    planted = {
        "pair_id": cohort["pair_id"], "kind": kind, "text": text, "clean_text": notes, "donor_pair_id": donor,
        "marker": marker,
    }  # fmt: skip
    return pd.DataFrame(planted).astype("str")


def _pair_donors(
    rng: np.random.Generator, cohort: pd.DataFrame, findings: pd.DataFrame, kind: np.ndarray
) -> list[tuple[int, int]]:
    receivers = rng.permutation(np.flatnonzero(kind == "mismatch"))
    label = cohort["label"].to_numpy()
    gender = cohort["gender"].to_numpy()
    patient = cohort["patient_id"].to_numpy()
    cdr = findings["cdr_vertical"].to_numpy()
    free = (kind == "clean") & (cohort["split"] == "train").to_numpy()
    given = np.zeros(len(cohort), dtype=bool)
    found = []
    for i in receivers:
        fits = free & (label != label[i]) & (np.abs(cdr - cdr[i]) >= CLEAR_CDR_GAP) & (patient != patient[i])
        same, unused = fits & (gender == gender[i]), fits & ~given
        # Where donors are few, a note may be used twice; after that, the gender may differ.
        choice = next((c for c in (same & unused, same, unused, fits) if c.any()), None)
        if choice is None:
            raise InputError(
                f"mismatch_rate: no clean training pair contradicts {cohort['pair_id'].iat[i]} (other label, "
                f"cup-to-disc ratio {CLEAR_CDR_GAP} away); lower mismatch_rate or raise n_train"
            )
        giver = int(rng.choice(np.flatnonzero(choice)))
        given[giver] = True
        found.append((int(i), giver))
    return found
