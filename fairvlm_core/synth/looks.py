"""Why images differ apart from the disease: camera site, group appearance, quality of the capture.

The differences between groups are a controlled experiment, not a description of people: they are drawn from the groups'
distributions below, which docs/synthfundus.md repeats in words, and vanish at ``group_appearance=0``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Look:
    """Appearance of one image; reflectances in 0..1, blur in pixels of a 128-pixel image, lengths in image sides."""

    background: float  # reflectance of the retina
    cup_contrast: float  # 1: as bright as drawn; less: the cup fades into the rim
    vessel_contrast: float
    choroid: float  # how strongly choroidal vessels shine through (light fundi)
    sheen: float  # brightness of the nerve-fibre layer
    noise: float  # standard deviation of the sensor noise
    blur: float
    vignette: float
    tilt: float  # 0 upright disc; towards 1 a tilted disc, temporal edge flattened
    atrophy: float  # width of the temporal peripapillary crescent
    slope: tuple[float, float]  # uneven illumination, change of brightness over the image
    gamma: float
    aperture: bool  # round field with dark corners


# Mean and spread by race group at group_appearance = 1; at 0 every group has the row "everyone".
_BY_RACE = {
    #           background  cup   vessels choroid sheen noise  p(tilt and crescent)
    "everyone": (0.46, 0.95, 0.98, 0.48, 0.88, 0.020, 0.14),
    "White": (0.48, 1.00, 1.00, 0.62, 0.80, 0.019, 0.08),
    "Black": (0.350, 0.74, 0.84, 0.06, 1.15, 0.025, 0.12),
    "Asian": (0.41, 0.84, 1.06, 0.28, 1.00, 0.023, 0.48),
}


def draw_look(
    rng: np.random.Generator,
    *,
    race: str,
    gender: str,
    ethnicity: str,
    language: str,
    age: int,
    quality: str,
    site: str,
    group_appearance: float,
) -> Look:
    """The look of one image, from its patient's groups and age (years), its quality (good or fair) and the site."""
    everyone, group = np.array(_BY_RACE["everyone"]), np.array(_BY_RACE[race])
    background, cup, vessels, choroid, sheen, noise, p_tilt = everyone + group_appearance * (group - everyone)
    # Mild effects of the other attributes: a shade of pigmentation, and a harder capture without a shared language.
    background -= group_appearance * 0.020 * (ethnicity == "Hispanic")
    background += group_appearance * 0.008 * (gender == "Female")
    harder = group_appearance * 0.12 * (language in ("Spanish", "Other"))

    u, z = rng.random(6), rng.standard_normal(10)
    tilted = u[0] < p_tilt
    old = max(0.0, (age - 55) / 40)
    blur = 0.42 + 0.10 * abs(z[0]) + 0.22 * old + harder + (0.55 if quality == "fair" else 0.0)
    look = {
        "background": max(0.27, background * (1 + 0.08 * z[1])),
        "cup_contrast": cup * (1 + 0.07 * z[2]) * (0.86 if quality == "fair" else 1.0),
        "vessel_contrast": vessels * (1 + 0.07 * z[3]),
        "choroid": max(0.0, choroid + 0.16 * z[4]),
        "sheen": max(0.15, sheen * (1 + 0.14 * z[5]) * (1 - 0.25 * old)),
        "noise": noise * (1 + 0.5 * u[1]) * (1.35 if quality == "fair" else 1.0),
        "blur": blur,
        "vignette": 0.20 + 0.22 * u[2],
        "tilt": 0.45 + 0.4 * u[3] if tilted else 0.12 * u[3],
        "atrophy": 0.016 + 0.022 * u[4] if tilted else (0.010 * u[4] if u[5] < 0.25 else 0.0),
        "gamma": float(np.exp(0.07 * z[8])),
    }
    slope = (float(0.13 * z[6]), float(0.09 * z[7]))
    if site == "other":  # an older camera: hazier, brighter at the centre, round field, flatter contrast
        look["background"] = 0.10 + 0.92 * look["background"]
        look["cup_contrast"] *= 0.84
        look["vessel_contrast"] *= 0.78
        look["sheen"] *= 0.62
        look["noise"] *= 1.25
        look["blur"] += 0.35
        look["vignette"] += 0.24
        look["gamma"] *= 0.88
    return Look(slope=slope, aperture=site == "other", **{name: float(value) for name, value in look.items()})
