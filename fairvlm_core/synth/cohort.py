"""Patients, groups, labels and findings: who is in the set and what their eyes show.

Findings depend on the label alone, never on a group: whatever differs between groups in a trained model comes from the
images' appearance, the groups' sizes and the planted bad pairs, all of which are known.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .config import ATTRIBUTES, POSITIVE_RATE, SHARES, SPLITS, SynthConfig

TWO_EYED_SHARE = 0.16  # of the pairs: those of patients who bring both eyes
FELLOW_EYE_AGREES = 0.8  # how often the second eye has the first one's label without a new draw
SUSPECT_SHARE = 0.27  # of the label-0 eyes: large cup or raised pressure, no glaucoma


def draw_cohort(config: SynthConfig) -> pd.DataFrame:
    """Pairs, patients, splits, labels and groups of every split.

    Returns:
        One row a pair: pair_id, patient_id, split, label (int8), race, gender, ethnicity, language, age (years), eye
        (``OD`` right, ``OS`` left), marital_status. Group shares are met as exactly as whole patients allow.
    """
    return pd.concat([_draw_split(config, split) for split in SPLITS], ignore_index=True).pipe(_name_pairs)


def _draw_split(config: SynthConfig, split: str) -> pd.DataFrame:
    n = config.count_of(split)
    rng = config.generator("cohort", split)
    n_both = int(TWO_EYED_SHARE * n / 2)
    n_patients = n - n_both
    shares = SHARES[config.proportions]
    eyes_of = rng.permutation(np.repeat([2, 1], [n_both, n_patients - n_both]))

    race = _quota(rng, n_patients, shares["race"])
    gender = _quota(rng, n_patients, shares["gender"])
    language = _quota(rng, n_patients, shares["language"])
    # Most Spanish speakers are Hispanic: they go first where the Hispanic quota is filled; shares stay as asked.
    first = np.where((language == "Spanish") & (rng.random(n_patients) < 0.8), 0.0, 1.0) + rng.random(n_patients)
    ethnicity = np.full(n_patients, "Non-Hispanic", dtype=object)
    counts = _whole_counts(n_patients, shares["ethnicity"])
    order = np.argsort(first)
    ethnicity[order[: counts["Hispanic"]]] = "Hispanic"
    rest = rng.permutation(order[counts["Hispanic"] :])
    ethnicity[rest[: counts["Unknown"]]] = "Unknown"

    patient = np.repeat(np.arange(n_patients), eyes_of)
    second = np.r_[False, patient[1:] == patient[:-1]] if n else np.zeros(0, bool)
    label = (_quota(rng, n, {"0": 1 - POSITIVE_RATE, "1": POSITIVE_RATE}) == "1").astype(np.int8)
    agrees = second & (rng.random(n) < FELLOW_EYE_AGREES)
    label[agrees] = label[np.flatnonzero(agrees) - 1]

    first_eye = np.where(rng.random(n_patients) < 0.5, "OD", "OS").astype(object)[patient]
    eye = np.where(second, np.where(first_eye == "OD", "OS", "OD"), first_eye)
    glaucoma_patient = np.zeros(n_patients, bool)
    np.logical_or.at(glaucoma_patient, patient, label == 1)
    age = np.clip(rng.normal(58 + 6 * glaucoma_patient, 13), 21, 93).round().astype(np.int16)
    marital = _quota(
        rng, n_patients, {"Married": 0.57, "Single": 0.26, "Divorced": 0.07, "Widowed": 0.07, "Unknown": 0.03}
    )
    by_patient = {"race": race, "gender": gender, "ethnicity": ethnicity, "language": language, "age": age}
    return pd.DataFrame(
        {"split": split, "label": label, "patient": patient}
        | {name: values[patient] for name, values in by_patient.items()}
        | {"eye": eye, "marital_status": marital[patient]}
    )


def _name_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    pair_id = [f"data_{i:05d}" for i in range(1, len(frame) + 1)]
    new_patient = (frame["patient"].diff() != 0) | (frame["split"] != frame["split"].shift())
    patient_id = [f"patient_{i:05d}" for i in new_patient.cumsum()]
    ids = pd.DataFrame({"pair_id": pair_id, "patient_id": patient_id})
    text_columns = ["pair_id", "patient_id", "split", *ATTRIBUTES, "eye", "marital_status"]
    return pd.concat([ids, frame.drop(columns="patient")], axis=1).astype(dict.fromkeys(text_columns, "str"))


def _whole_counts(n: int, shares: dict[str, float]) -> dict[str, int]:
    """Largest-remainder rounding: whole numbers that sum to n and lie within one of n times each share."""
    exact = np.array([n * share for share in shares.values()])
    counts = np.floor(exact).astype(int)
    missing = n - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return dict(zip(shares, counts.tolist(), strict=True))


def _quota(rng: np.random.Generator, n: int, shares: dict[str, float]) -> np.ndarray:
    counts = _whole_counts(n, shares)
    return rng.permutation(np.repeat(np.array(list(counts), dtype=object), list(counts.values())))


def draw_findings(config: SynthConfig, cohort: pd.DataFrame) -> pd.DataFrame:
    """What each eye truly shows, drawn from its label.

    Returns:
        One row a pair, in the cohort's order. Units: cup-to-disc ratios 0 to 1, IOP mmHg, MD and PSD dB, RNFL µm,
        CCT µm, angles in degrees at the disc (0 nasal, 90 superior, 180 temporal, -90 inferior, whichever eye),
        lengths as a share of the image side.
    """
    parts = [_findings_of_split(config, split, cohort[cohort["split"] == split]) for split in SPLITS]
    return pd.concat(parts, ignore_index=True)


def _findings_of_split(config: SynthConfig, split: str, cohort: pd.DataFrame) -> pd.DataFrame:
    rng = config.generator("findings", split)
    n = len(cohort)
    sick = cohort["label"].to_numpy() == 1
    suspect = ~sick & (rng.random(n) < SUSPECT_SHARE)
    damage = np.where(sick, rng.beta(1.5, 1.6, n), 0.0)  # 0 none, 1 end stage

    # Cup-to-disc ratio: the classes overlap (physiological cups, early glaucoma), as they do in a clinic.
    cdr = np.where(sick, 0.53 + 0.34 * damage + rng.normal(0, 0.075, n), rng.normal(0.36, 0.10, n))
    cdr = np.where(suspect, rng.normal(0.53, 0.095, n), cdr)
    cdr = np.clip(cdr, 0.12, 0.95)
    cdr_horizontal = np.clip(cdr * rng.normal(np.where(sick, 0.90, 0.97), 0.04, n), 0.10, 0.93)

    def side(p_inferior: float) -> np.ndarray:
        return np.where(rng.random(n) < p_inferior, "inferior", "superior").astype(object)

    pole = side(0.65)  # the inferior rim goes first
    notched = rng.random(n) < np.where(sick, 0.22 + 0.5 * damage, np.where(suspect, 0.05, 0.01))
    notch = np.where(notched, pole, "none")
    notch_depth = np.where(notched, rng.uniform(0.45, 0.95, n), 0.0)
    defect = rng.random(n) < np.where(sick, 0.30 + 0.62 * damage, np.where(suspect, 0.05, 0.015))
    both = defect & (rng.random(n) < np.where(damage > 0.6, 0.5, 0.05))
    defect_pole = np.where(notched, pole, side(0.62))
    rnfl_defect = np.where(both, "both", np.where(defect, defect_pole, "none"))
    rnfl_depth = np.where(defect, np.clip(0.45 + 0.5 * damage + rng.normal(0, 0.12, n), 0.3, 1.0), 0.0)
    rnfl_width = np.where(defect, rng.uniform(20, 34, n) + 12 * damage, 0.0)
    haemorrhage = rng.random(n) < np.where(sick, 0.14, np.where(suspect, 0.03, 0.005))
    haemorrhage_angle = np.where(rng.random(n) < 0.7, rng.normal(-125, 18, n), rng.normal(125, 18, n))

    glaucoma_iop, suspect_iop, healthy_iop = (rng.normal(*law, n) for law in ((18.5, 4.6), (20.0, 3.6), (15.2, 2.6)))
    iop = np.clip(np.where(sick, glaucoma_iop, np.where(suspect, suspect_iop, healthy_iop)), 8, 42).round()
    md = np.where(sick, -1.4 - 17 * damage**1.6 + rng.normal(0, 1.3, n), rng.normal(-0.5, 1.0, n))
    md = np.clip(np.where(suspect, md - 0.5, md), np.where(sick, -30.0, -2.1), 2.0).round(1)  # label 0: full fields
    psd = np.where(sick, 2.2 + 11 * damage * (1 - 0.45 * damage), 1.6) + rng.normal(0, 0.4, n)
    psd = np.clip(psd, 1.0, 15).round(1)
    rnfl = np.where(sick, 86 - 34 * damage + rng.normal(0, 6, n), rng.normal(95, 8, n) - 4 * suspect)
    cct = np.clip(rng.normal(np.where(sick, 538, 548), 32, n), 440, 650).round()
    damage_name = np.where(~sick, "none", np.where(md > -6, "mild", np.where(md > -12, "moderate", "severe")))
    diagnosis = np.where(sick, "glaucoma", np.where(suspect, "suspect", "healthy"))

    zoom = np.clip(rng.normal(1.0, 0.035, n), 0.9, 1.1) * (0.86 if config.site == "other" else 1.0)
    right = cohort["eye"].to_numpy() == "OD"
    from_temporal_edge = np.clip(rng.normal(0.665, 0.022, n), 0.60, 0.73)
    disc_height = 0.127 * zoom * np.clip(rng.normal(1, 0.04, n), 0.9, 1.1)  # vertical radius
    findings = pd.DataFrame(
        {
            "pair_id": cohort["pair_id"].to_numpy(),
            "eye": cohort["eye"].to_numpy(),
            "diagnosis": diagnosis,
            "stage": damage_name,
            "damage": damage.round(4),
            "cdr_vertical": cdr.round(4),
            "cdr_horizontal": cdr_horizontal.round(4),
            "notch": notch,
            "notch_depth": notch_depth.round(4),
            "rnfl_defect": rnfl_defect,
            "rnfl_defect_depth": rnfl_depth.round(4),
            "rnfl_defect_width": rnfl_width.round(2),
            "rnfl_defect_angle": rng.normal(124, 7, n).round(2),
            "haemorrhage": haemorrhage,
            "haemorrhage_angle": haemorrhage_angle.round(2),
            "iop": iop.astype(np.int16),
            "md": md,
            "psd": psd,
            "rnfl_thickness": np.clip(rnfl, 40, 125).round().astype(np.int16),
            "cct": cct.astype(np.int16),
            "treated": sick & (rng.random(n) < 0.8) | suspect & (iop >= 23) & (rng.random(n) < 0.6),
            "quality": np.where(rng.random(n) < 0.14, "fair", "good"),
            "zoom": zoom.round(4),
            "rotation": np.clip(rng.normal(0, 3.2, n), -9, 9).round(3),
            "disc_x": np.where(right, from_temporal_edge, 1 - from_temporal_edge).round(5),
            "disc_y": np.clip(rng.normal(0.49, 0.024, n), 0.42, 0.56).round(5),
            "disc_radius_y": disc_height.round(5),
            "disc_radius_x": (disc_height / np.clip(rng.normal(1.08, 0.035, n), 1.0, 1.2)).round(5),
            "fovea_distance": (0.52 * zoom * np.clip(rng.normal(1, 0.02, n), 0.94, 1.06)).round(5),
            "fovea_drop": (0.055 * zoom * np.clip(rng.normal(1, 0.25, n), 0.2, 2)).round(5),
        }
    )
    words = ["pair_id", "eye", "diagnosis", "stage", "notch", "rnfl_defect", "quality"]
    return findings.astype(dict.fromkeys(words, "str"))
