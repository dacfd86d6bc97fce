"""A second set of discs and cups, written independently of SynthFundus: other images, other notes, other group shares.

It shares no drawing and no wording with `fairvlm_core.synth`, so a setting that was chosen on SynthFundus alone can fail
here. A bright disc lies on dark ground; a larger cup means glaucoma more often, and the classes overlap (the true ratio
alone has an AUC of 0.93); a break in the rim is a second sign. Vessels are straight lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

SIDE = 96
RACES = {"White": 0.65, "Black": 0.25, "Asian": 0.10}
GENDERS = {"Female": 0.53, "Male": 0.47}
DISC_BRIGHTNESS = {"White": 160, "Black": 120, "Asian": 140}
CUP_CONTRAST = 75  # grey levels above the disc
PROMPTS = ("Impression: healthy optic nerve head.", "Impression: glaucomatous optic nerve head.")
WRONG_NOTES = 0.10
_FINE = 4  # drawn this many times larger, then reduced


@dataclass(frozen=True)
class Discs:
    """Aligned: `frame` (with pair_id, split, label, text, race, gender), `images` uint8 [n, 96, 96], `right` notes."""

    frame: pd.DataFrame
    images: np.ndarray
    right: np.ndarray


def make_discs(seed: int, sizes: tuple[int, int, int] = (1500, 400, 2000), *, device_noisy: bool = False) -> Discs:
    """Draw the set.

    Parameters
    ----------
    seed
        The same seed and sizes give the same bytes.
    sizes
        Training, validation and test pairs; every pair is another patient.
    device_noisy
        The images of the Asian group have inverted grey levels in all splits, and 10 % of the training pairs have the note
        of any other training pair.
    """
    rng = np.random.default_rng([seed, 77])
    n = sum(sizes)
    label = rng.permutation(np.arange(n) % 2).astype(np.int8)
    ratio = np.clip(np.where(label == 1, rng.normal(0.60, 0.11, n), rng.normal(0.38, 0.10, n)), 0.12, 0.92)
    broken = rng.random(n) < np.where(label == 1, 0.35, 0.04)
    frame = pd.DataFrame(
        {
            "pair_id": [f"disc-{i:05d}" for i in range(n)],
            "patient_id": [f"person-{i:05d}" for i in range(n)],
            "split": np.repeat(["train", "val", "test"], sizes),
            "label": label,
            "race": rng.choice(list(RACES), n, p=list(RACES.values())),
            "gender": rng.choice(list(GENDERS), n, p=list(GENDERS.values())),
        }
    )
    people = zip(label, ratio, broken, frame["race"], frame["gender"], strict=True)
    drawn = [(_draw(rng, c, b, race), _write(rng, y, c, b, gender)) for y, c, b, race, gender in people]
    images, right = np.stack([image for image, _ in drawn]), np.array([note for _, note in drawn], object)
    text = right.copy()
    if device_noisy:
        other = (frame["race"] == "Asian").to_numpy()
        images[other] = 255 - images[other]
        for i in rng.choice(sizes[0], round(WRONG_NOTES * sizes[0]), replace=False):
            text[i] = right[rng.choice(np.flatnonzero(right[: sizes[0]] != right[i]))]
    return Discs(frame.assign(text=text), images, right)


def _draw(rng: np.random.Generator, ratio: float, broken: bool, race: str) -> np.ndarray:
    """One image: vessels, disc, cup, a dark spot for the macula, then light, blur and noise."""
    side = SIDE * _FINE
    x, y = rng.uniform(0.42, 0.58, 2) * side
    radius = rng.uniform(0.22, 0.29) * side
    ground, disc = int(rng.integers(28, 52)), int(DISC_BRIGHTNESS[race] + rng.integers(-14, 15))
    canvas = Image.new("L", (side, side), ground)
    draw = ImageDraw.Draw(canvas)
    spot, sx, sy = 0.06 * side, x + rng.choice([-0.36, 0.36]) * side, y + 0.04 * side
    draw.ellipse((sx - spot, sy - spot, sx + spot, sy + spot), fill=ground // 2)
    cup = radius * ratio
    cx, cy = x + rng.normal(0, 0.04) * radius, y + rng.normal(0, 0.04) * radius
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=disc)
    if broken:  # the cup reaches the edge of the disc in a wedge, above or below
        towards = rng.choice([90, 270]) + rng.normal(0, 12)
        draw.pieslice(
            (x - radius, y - radius, x + radius, y + radius), towards - 17, towards + 17, fill=disc + CUP_CONTRAST
        )
    draw.ellipse((cx - cup, cy - cup, cx + cup, cy + cup), fill=disc + CUP_CONTRAST)
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(4, 8)):
        reach = side * rng.uniform(0.45, 0.8)
        end = (x + reach * np.cos(angle), y + reach * np.sin(angle))
        draw.line([(x, y), end], fill=int(rng.integers(75, 110)), width=int(rng.integers(4, 9)))
    image = gaussian_filter(np.asarray(canvas.reduce(_FINE), np.float32), rng.uniform(0.5, 1.1))
    slope = np.linspace(-1, 1, SIDE)
    image = image * (1 + rng.normal(0, 0.08) * slope[None, :] + rng.normal(0, 0.08) * slope[:, None])
    return np.clip(image + rng.normal(0, 7, image.shape), 0, 255).astype(np.uint8)


def _write(rng: np.random.Generator, label: int, ratio: float, broken: bool, gender: str) -> str:
    """A short note; three in four state the impression."""

    def one(*texts: str) -> str:
        return texts[int(rng.integers(len(texts)))]

    size = "shallow" if ratio < 0.3 else "average" if ratio < 0.48 else "widened" if ratio < 0.66 else "deep and wide"
    parts = [
        one(
            f"Optic nerve head: {size} central pallor, ratio about {ratio:.1f}.",
            f"C/D estimated at {ratio:.2f} in the vertical meridian.",
            f"Nerve head with {size} hollow, {round(100 * ratio)} percent of its diameter.",
            f"Central pallor {size}.",
        )
    ]
    if broken or rng.random() < 0.4:
        parts.append(
            one("Rim tissue lost at one pole.", "Focal thinning reaches the edge of the nerve head.")
            if broken
            else one("Rim tissue preserved all round.", "No focal thinning of the nerve head.")
        )
    if rng.random() < 0.75:
        parts.append(
            one("Impression: glaucomatous optic nerve head.", "Findings consistent with glaucomatous neuropathy.")
            if label
            else one("Impression: healthy optic nerve head.", "Nerve head within physiological limits.")
        )
    if rng.random() < 0.5:
        person = {"Female": "female", "Male": "male"}[gender]
        parts.insert(0, one(f"Photograph of a {person} patient.", f"Screening visit, {person}."))
    if rng.random() < 0.35:
        parts.append(one("Return in one year.", "Media clear.", "Vessels of regular course.", "Macula unremarkable."))
    return " ".join(parts)
