"""From a configuration to images, notes, groups and planted truth."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.errors import InputError

from .cohort import draw_cohort, draw_findings
from .config import ATTRIBUTES, DisparityKind, SynthConfig
from .disparity import AppliedDisparity, flip_labels, swap_notes, thin_groups
from .drawing import Drawing, Progress, draw_all
from .fundus import cup_axes
from .notes import write_note
from .plant import plant


@dataclass(frozen=True)
class SynthData:
    """A synthesised set; all parts are aligned, one entry a pair.

    Attributes:
        frame: pair_id, patient_id, split (train/val/test), label (int8, 1 glaucoma), text (as written, with planted
            notes), race, gender, ethnicity, language, age (years), eye (OD/OS), marital_status.
        images: uint8 [n_pairs, size, size], greyscale, markers burned in.
        planted: pair_id, kind (clean, mismatch, shortcut), clean_text (the pair's own correct note), donor_pair_id (of a
            mismatch, else empty), marker (of a shortcut, else empty); with a disparity of labels also clean_label (int8).
        findings: what the image truly shows (see docs/synthfundus.md), with centres and half axes of disc and cup and
            the fovea in pixels.
        config: the settings.
        disparity: the pairs that each disparity of the settings changed.
    """

    frame: pd.DataFrame
    images: np.ndarray
    planted: pd.DataFrame
    findings: pd.DataFrame
    config: SynthConfig
    disparity: list[AppliedDisparity]

    def __len__(self) -> int:
        return len(self.frame)


def synthesize(config: SynthConfig, *, workers: int | None = None, progress: Progress | None = None) -> SynthData:
    """Make SynthFundus: images, notes, groups and planted bad pairs.

    Deterministic: the same configuration gives the same bytes, whatever the number of workers. Bad pairs are planted in
    the training split alone; validation and test are clean.

    Args:
        config: what to make.
        workers: processes that draw; None takes one a processor core (at most 8), and fewer for a small set.
        progress: called with (pairs done, pairs in all) from the calling thread.

    Returns:
        The set, in memory: about size² bytes a pair.

    Raises:
        InputError: `workers` below 1, or rates that leave no clean pair to give or to take a wrong note.

    Example:
        >>> data = synthesize(SynthConfig(n_train=40, n_val=0, n_test=0, size=64, mismatch_rate=0.2))
        >>> data.images.shape, data.images.dtype.name
        ((40, 64, 64), 'uint8')
        >>> data.planted["kind"].value_counts()["mismatch"].item()
        8
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers: got {workers!r}; give a whole number of 1 or more, or None")
    cohort, few = thin_groups(config, draw_cohort(config))
    findings = draw_findings(config, cohort)
    eyes = _records(findings)
    notes = write_notes(config, cohort, findings)
    planted, wrong_notes = swap_notes(config, cohort, plant(config, cohort, findings, notes))
    label, wrong_labels = flip_labels(config, cohort)
    cases = zip(eyes, _records(cohort), _within(cohort), planted["marker"].tolist(), strict=True)
    drawings = [Drawing(*case) for case in cases]
    images = draw_all(config, drawings, workers, progress)
    columns = ["pair_id", "patient_id", "split", "label", "text", *ATTRIBUTES, "age", "eye", "marital_status"]
    frame = cohort.assign(text=planted["text"], label=label)[columns]
    planted = planted.drop(columns="text")
    if wrong_labels:
        planted = planted.assign(clean_label=cohort["label"])
    applied = [*_devices(config, cohort), *few, *wrong_notes, *wrong_labels]
    return SynthData(frame, images, planted, _in_pixels(findings, eyes, config.size), config, applied)


def _devices(config: SynthConfig, cohort: pd.DataFrame) -> list[AppliedDisparity]:
    return [
        AppliedDisparity(one, tuple(cohort["pair_id"][cohort[one.attribute] == one.group]))
        for one in config.disparities(DisparityKind.DEVICE)
    ]


def write_notes(config: SynthConfig, cohort: pd.DataFrame, findings: pd.DataFrame) -> list[str]:
    """The pairs' own correct notes, in the cohort's order."""
    notes = []
    for eye, person, index in zip(_records(findings), _records(cohort), _within(cohort), strict=True):
        state = int(config.seeds("note", person["split"], index).generate_state(1, np.uint64)[0])
        rng = random.Random(state)
        notes.append(write_note(eye, age=int(person["age"]), gender=person["gender"], site=config.site, rng=rng))
    return notes


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _within(cohort: pd.DataFrame) -> list[int]:
    """The index of each pair within its split."""
    return cohort.groupby("split").cumcount().tolist()


def _in_pixels(findings: pd.DataFrame, eyes: list[dict], size: int) -> pd.DataFrame:
    """Geometry in pixels (x right, y down, pixel centres at +0.5), for attention maps and tests against the image."""
    mirror = np.where(findings["eye"] == "OD", 1.0, -1.0)
    turn = np.deg2rad(findings["rotation"].to_numpy())
    axes = np.array([cup_axes(eye) for eye in eyes]).reshape(-1, 3)
    away, drop = -findings["fovea_distance"].to_numpy(), -findings["fovea_drop"].to_numpy()
    disc_x, disc_y = findings["disc_x"].to_numpy(), findings["disc_y"].to_numpy()
    shares = {
        "disc_x": disc_x,
        "disc_y": disc_y,
        "disc_radius_x": findings["disc_radius_x"],
        "disc_radius_y": findings["disc_radius_y"],
        "cup_x": disc_x - mirror * axes[:, 2] * np.cos(turn),
        "cup_y": disc_y + axes[:, 2] * np.sin(turn),
        "cup_radius_x": axes[:, 0],
        "cup_radius_y": axes[:, 1],
        "fovea_x": disc_x + mirror * (away * np.cos(turn) - drop * np.sin(turn)),
        "fovea_y": disc_y - (away * np.sin(turn) + drop * np.cos(turn)),
    }
    in_shares = ["disc_x", "disc_y", "disc_radius_x", "disc_radius_y", "fovea_distance", "fovea_drop"]
    pixels = {f"{name}_px": (np.asarray(value) * size).round(2) for name, value in shares.items()}
    return findings.drop(columns=in_shares).assign(**pixels)
