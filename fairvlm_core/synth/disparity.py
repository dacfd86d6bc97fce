"""Disadvantages of single groups: another device, few training pairs, more wrong notes or labels in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from fairvlm_core.errors import InputError

from .config import ATTRIBUTES, REAL_SHARES, SHARES, Disparity, DisparityKind, SynthConfig

_CONTRAST_LOST, _BLUR, _NOISE = 0.7, 1.6, 20.0  # at strength 1: share, pixels of a 128-pixel image, grey levels


@dataclass(frozen=True)
class AppliedDisparity:
    """A disparity and the pairs that it changed.

    Attributes:
        disparity: the setting.
        pair_ids: of ``device``: pairs whose image is from the other device; of ``few``: training pairs that were given to
            other groups; of ``notes`` and ``labels``: training pairs with a wrong note or label.
    """

    disparity: Disparity
    pair_ids: tuple[str, ...]


def other_device(image: np.ndarray, rng: np.random.Generator, strength: float = 0.5) -> np.ndarray:
    """An image as another modality shows it: inverted grey levels, less contrast, blur and noise.

    Args:
        image: uint8 [height, width] or [height, width, channels]; not changed.
        rng: source of the noise.
        strength: 0 (inverted only) to 1 (70 % of the contrast lost, blur of 1.6 pixels of a 128-pixel image, noise with a
            standard deviation of 20 grey levels).

    Returns:
        uint8, of the same shape.
    """
    inverted = 127.5 + (1 - _CONTRAST_LOST * strength) * (127.5 - image.astype(np.float32))
    sigma = _BLUR * strength * min(image.shape[:2]) / 128
    blurred = gaussian_filter(inverted, (sigma, sigma, *([0] * (image.ndim - 2))))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(blurred + _NOISE * strength * noise + 0.5, 0, 255).astype(np.uint8)


def device_strength(config: SynthConfig, person: Mapping[str, Any]) -> float | None:
    """Strength of the other device in a person's images (the largest of several), None for the usual device."""
    devices = config.disparities(DisparityKind.DEVICE)
    return max((one.strength for one in devices if person[one.attribute] == one.group), default=None)


def thin_groups(config: SynthConfig, cohort: pd.DataFrame) -> tuple[pd.DataFrame, list[AppliedDisparity]]:
    """The cohort with training patients of groups with `few` given to the other groups, in proportion to their shares."""
    few, applied = config.disparities(DisparityKind.FEW), []
    for one in few:
        rng = generator(config, one)
        shares = pd.Series(SHARES[config.proportions][one.attribute])
        shares = shares.drop([other.group for other in few if other.attribute == one.attribute])
        patients = rng.permutation(cohort["patient_id"][in_training(cohort, one)].unique())
        leaving = patients[round(one.strength * len(patients)) :]
        to = rng.choice(shares.index.to_numpy(str), len(leaving), p=shares / shares.sum())
        moved = cohort["patient_id"].map(dict(zip(leaving, to, strict=True)))
        cohort = cohort.assign(**{one.attribute: moved.fillna(cohort[one.attribute]).astype("str")})
        applied.append(AppliedDisparity(one, tuple(cohort["pair_id"][moved.notna()])))
    return cohort, applied


def swap_notes(
    config: SynthConfig, cohort: pd.DataFrame, planted: pd.DataFrame
) -> tuple[pd.DataFrame, list[AppliedDisparity]]:
    """What :func:`fairvlm_core.synth.plant.plant` returned, with the further wrong notes of groups with `notes`.

    The receivers are clean pairs, if possible none whose note another pair has; the note is that of any clean training
    pair of another patient. They are recorded as kind mismatch.

    Raises:
        InputError: a group has too few clean pairs, or no clean pair of another patient is left.
    """
    planted, applied = planted.copy(), []
    pair_id, patient = cohort["pair_id"].to_numpy(), cohort["patient_id"].to_numpy()
    for one in config.disparities(DisparityKind.NOTES):
        rng = generator(config, one)
        held = in_training(cohort, one)
        clean = ((planted["kind"] == "clean") & (cohort["split"] == "train")).to_numpy(bool, copy=True)
        rows = rng.permutation(np.flatnonzero(held & clean))
        is_donor = np.isin(pair_id, planted["donor_pair_id"])
        count = round(one.strength * held.sum())
        rows = rows[np.argsort(is_donor[rows], kind="stable")][:count]
        clean[rows] = False
        if len(rows) < count or len(np.unique(patient[clean])) < 2:
            raise InputError(
                f"disparity: {one} needs more clean training pairs than are left; lower it or mismatch_rate"
            )
        givers = np.array([rng.choice(np.flatnonzero(clean & (patient != patient[i]))) for i in rows], int)
        for name, values in (
            ("kind", "mismatch"), ("text", planted["clean_text"].to_numpy()[givers]), ("donor_pair_id", pair_id[givers]),
        ):  # fmt: skip
            planted.iloc[rows, planted.columns.get_loc(name)] = values
        applied.append(AppliedDisparity(one, tuple(pair_id[np.sort(rows)])))
    return planted, applied


def flip_labels(config: SynthConfig, cohort: pd.DataFrame) -> tuple[np.ndarray, list[AppliedDisparity]]:
    """Labels as written, int8 [n_pairs]: a share of the training labels of groups with `labels` is flipped, none twice."""
    label, applied = cohort["label"].to_numpy(np.int8, copy=True), []
    flipped = np.zeros(len(cohort), bool)
    for one in config.disparities(DisparityKind.LABELS):
        held = in_training(cohort, one)
        rows = generator(config, one).permutation(np.flatnonzero(held & ~flipped))[: round(one.strength * held.sum())]
        flipped[rows] = True
        applied.append(AppliedDisparity(one, tuple(cohort["pair_id"].iloc[np.sort(rows)])))
    label[flipped] = 1 - label[flipped]
    return label, applied


def in_training(cohort: pd.DataFrame, one: Disparity) -> np.ndarray:
    """Whether each pair is a training pair of the disparity's group, bool [n_pairs]."""
    return ((cohort["split"] == "train") & (cohort[one.attribute] == one.group)).to_numpy(bool)


def generator(config: SynthConfig, one: Disparity) -> np.random.Generator:
    """The random draws of one disparity of training pairs, independent of the others."""
    place = 8 * ATTRIBUTES.index(one.attribute) + list(REAL_SHARES[one.attribute]).index(one.group)
    return config.generator(str(one.kind), "train", place)
