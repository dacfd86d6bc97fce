"""One fundus image from one eye's findings, in the convention of a red-free (green) confocal scanning ophthalmoscope.

Greyscale: vessels dark, the retina mid-grey with a dark macula, the nerve-fibre layer a bright striated sheen above
and below the disc, the neuroretinal rim a little brighter than the retina, the cup brightest. A nerve-fibre defect is
a dark arc that leaves the disc, a splinter haemorrhage a small dark flame at its edge.

Geometry is computed in image sides and is therefore the same at every size; only the sensor's grain is per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from .looks import Look
from .vessels import draw_vessels

_TABLE = 2048  # resolution of the fibre-streak table over the full circle


def render_fundus(
    eye: Mapping[str, Any], look: Look, size: int, shape_rng: np.random.Generator, grain_rng: np.random.Generator
) -> np.ndarray:
    """Draw one image.

    Args:
        eye: one row of :func:`fairvlm_core.synth.cohort.draw_findings`.
        look: appearance.
        size: side in pixels.
        shape_rng: source of vessels and textures.
        grain_rng: source of the sensor's noise.

    Returns:
        uint8 [size, size].
    """
    x, y = _eye_coordinates(eye, size)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    image = _retina(eye, look, shape_rng, x, y, radius)
    streaks = _streak_table(shape_rng)
    image *= 1 + _nerve_fibres(eye, look, streaks, x, y, angle, radius)
    window = _disc_window(eye, size)
    image[window] = _disc(eye, look, image[window], x[window], y[window], angle[window], size, shape_rng)
    darkness = draw_vessels(
        shape_rng,
        lambda points: _to_image(eye, points),
        size,
        zoom=float(eye["zoom"]),
        nasal_shift=0.010 + 0.030 * float(eye["cdr_vertical"]),
    )
    if size > 200:  # a vessel's wall is round: soften the drawn edge where it would show
        darkness = gaussian_filter(darkness, 0.0016 * size, truncate=2.5)
    fovea = _bump(x + eye["fovea_distance"], y + eye["fovea_drop"], 0.045 * eye["zoom"])
    image *= 1 - 0.62 * look.vessel_contrast * darkness * (1 - fovea)
    if eye["haemorrhage"]:
        image *= 1 - 0.68 * _haemorrhage(eye, x, y)
    return _capture(look, image, size, grain_rng)


def _turn(eye: Mapping[str, Any]) -> tuple[float, float]:
    """Cosine and sine of the rotation; Python floats throughout this module, so that float32 images stay float32."""
    return math.cos(math.radians(eye["rotation"])), math.sin(math.radians(eye["rotation"]))


def _eye_coordinates(eye: Mapping[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-eye coordinates of every pixel's centre: origin in the disc, x nasal, y up, in image sides."""
    centre = (np.arange(size, dtype=np.float32) + 0.5) / size
    mirror = 1.0 if eye["eye"] == "OD" else -1.0
    right = (mirror * (centre - eye["disc_x"])).astype(np.float32)[None, :]
    up = (eye["disc_y"] - centre).astype(np.float32)[:, None]
    cos, sin = _turn(eye)
    return right * cos + up * sin, up * cos - right * sin


def _to_image(eye: Mapping[str, Any], points: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_eye_coordinates` for points [..., 2]; image coordinates in 0..1, y down."""
    cos, sin = _turn(eye)
    right = points[..., 0] * cos - points[..., 1] * sin
    up = points[..., 0] * sin + points[..., 1] * cos
    mirror = 1.0 if eye["eye"] == "OD" else -1.0
    return np.stack([eye["disc_x"] + mirror * right, eye["disc_y"] - up], axis=-1)


def _bump(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp((x * x + y * y) * np.float32(-0.5 / sigma**2))


def _step(value: np.ndarray, edge: float) -> np.ndarray:
    """A smooth 0-to-1 step around 0 of the given half width."""
    t = np.clip(value * np.float32(0.5 / edge) + np.float32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


def _clouds(rng: np.random.Generator, cells: int, shape: Sequence[int]) -> np.ndarray:
    """Smooth noise of unit spread, float32 [rows, columns], with features of about 1/cells of its extent."""
    grid = Image.fromarray(rng.standard_normal((cells + 2, cells + 2), dtype=np.float32))
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=(1, 1, cells + 1, cells + 1)))


def _retina(
    eye: Mapping[str, Any], look: Look, rng: np.random.Generator, x: np.ndarray, y: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    zoom = float(eye["zoom"])
    image = 1 + 0.035 * _clouds(rng, 5, x.shape)
    fine = _clouds(rng, 22, x.shape)
    # Choroidal vessels: the zero lines of smooth noise are a net of winding bands, seen where the fundus is light.
    net = 1 - np.minimum(np.abs(0.8 * _clouds(rng, 9, x.shape) + 0.35 * fine) * 2.2, 2.0)
    image += (0.075 * look.choroid * np.minimum(radius * 4, 1.3)) * net
    image += 0.012 * fine
    to_fovea_x, to_fovea_y = x + eye["fovea_distance"], y + eye["fovea_drop"]
    macula = 0.20 * _bump(to_fovea_x, to_fovea_y, 0.12 * zoom) + 0.24 * _bump(to_fovea_x, to_fovea_y, 0.038 * zoom)
    return np.float32(look.background) * (image - macula)


def _streak_table(rng: np.random.Generator) -> np.ndarray:
    """Brightness of single fibre bundles by their angle at the disc, float32 [_TABLE], unit spread, periodic."""
    waves = np.arange(1, 200)
    height = np.exp(-((waves / 65) ** 2)) + 1.6 * np.exp(-((waves / 16) ** 2))
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=complex)
    spectrum[1:200] = height * (rng.standard_normal(199) + 1j * rng.standard_normal(199))
    streaks = np.fft.irfft(spectrum, _TABLE)
    return (streaks / streaks.std()).astype(np.float32)


def _fibre_angle(eye: Mapping[str, Any], x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The angle at the disc of the nerve-fibre bundle that runs through each pixel, in radians.

    Bundles are the streamlines of a source in the disc and sinks along the temporal raphe, from the fovea outwards:
    they arch over and under the fovea as arcuate bundles do.
    """
    stream = angle.copy()
    for share, beyond in ((0.22, 0.0), (0.20, 0.10), (0.16, 0.22)):
        sink = np.arctan2(y + eye["fovea_drop"], x + eye["fovea_distance"] + beyond * eye["zoom"])
        stream -= np.float32(share) * sink
    return stream


def _nerve_fibres(
    eye: Mapping[str, Any], look: Look, streaks: np.ndarray, x: np.ndarray, y: np.ndarray,
    angle: np.ndarray, radius: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Relative change of brightness by the nerve-fibre layer: a striated sheen, less its diffuse and local losses."""
    stream = _fibre_angle(eye, x, y, angle)
    zoom = float(eye["zoom"])
    poles = np.exp(-(((np.abs(stream) - np.float32(1.95)) / np.float32(0.55)) ** 2))
    poles += 0.30 * np.exp(-((stream / np.float32(0.7)) ** 2))
    fade = np.exp(-np.maximum(radius - 0.10 * zoom, 0) * np.float32(2.1 / zoom))
    index = ((stream * np.float32(_TABLE / (2 * np.pi))).astype(np.int32)) % _TABLE
    kept = 1 - 0.60 * float(eye["damage"])
    sheen = (0.30 * look.sheen * kept) * fade * (poles * (1 + 0.30 * streaks[index]) + 0.10 * streaks[index])
    if eye["rnfl_defect"] == "none":
        return sheen
    half, at = math.radians(eye["rnfl_defect_width"]) / 2, math.radians(eye["rnfl_defect_angle"])
    gap = np.zeros_like(stream)
    if eye["rnfl_defect"] in ("superior", "both"):
        gap += _step(half - np.abs(stream - at), 0.055)
    if eye["rnfl_defect"] in ("inferior", "both"):
        gap += _step(half - np.abs(stream + at), 0.055)
    gap *= float(eye["rnfl_defect_depth"]) * np.minimum(fade * 1.5, 1.0)
    return sheen * (1 - gap) - 0.24 * gap


def _disc_window(eye: Mapping[str, Any], size: int) -> tuple[slice, slice]:
    """Rows and columns that hold the disc and what surrounds it; there is no need to compute it elsewhere."""
    reach = 1.5 * float(eye["disc_radius_y"])
    spans = [
        (max(0, int((eye[k] - reach) * size)), min(size, int((eye[k] + reach) * size) + 1))
        for k in ("disc_y", "disc_x")
    ]
    return slice(*spans[0]), slice(*spans[1])


def _disc(
    eye: Mapping[str, Any], look: Look, image: np.ndarray, x: np.ndarray, y: np.ndarray, angle: np.ndarray,
    size: int, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    rx, ry = float(eye["disc_radius_x"]), float(eye["disc_radius_y"])
    edge = max(0.010, 0.8 / size)
    # A tilted disc is squeezed from its temporal side; the crescent of atrophy lies where the disc was.
    squeeze = 1 + 0.16 * look.tilt * _step(-x, 0.03)
    reach = np.hypot(x * squeeze / rx, y / ry)
    phase = rng.uniform(0, 2 * np.pi, 2).tolist()
    reach *= 1 + 0.018 * np.sin(2 * angle + phase[0]) + 0.014 * np.sin(3 * angle + phase[1])
    temporal = 0.5 - 0.5 * np.cos(angle)
    inside = _step((1 - reach) * rx, edge)

    if look.atrophy > 0:
        crescent = _step((1 + look.atrophy / rx * temporal**1.5 - reach) * rx, 0.009) * (temporal > 0.25)
        mottled = look.background * (1.32 + 0.16 * _clouds(rng, 14, x.shape))
        image = image + crescent * (mottled - image) * 0.8
    halo = np.exp(-(((reach - 1.02) * rx / 0.008) ** 2))
    image = image + 0.07 * halo * (0.5 + temporal) * (1 - 0.4 * look.tilt)  # scleral ring

    background = look.background
    rim = background * (1.20 + 0.08 * temporal) + 0.055
    cup = rim + look.cup_contrast * (0.36 - 0.16 * background)
    inner = _cup_reach(eye, x, y)
    softness = 0.014 + 0.020 * (1 - float(eye["cdr_vertical"]))  # small cups slope, large ones are punched out
    hollow = _step((1 - inner) * rx * float(eye["cdr_horizontal"]), max(softness, edge))
    lamina = 1 + 0.05 * _clouds(rng, 22, x.shape)
    disc = rim + hollow * (cup * lamina - 0.05 * (1 - temporal) - rim)
    pallor = 0.05 * float(eye["damage"]) * (1 - hollow)
    return image + inside * (disc + pallor - image)


def cup_axes(eye: Mapping[str, Any]) -> tuple[float, float, float]:
    """Half axes of the cup (x, y) and its temporal offset from the disc's centre, in image sides."""
    ax = float(eye["cdr_horizontal"]) * float(eye["disc_radius_x"])
    ay = float(eye["cdr_vertical"]) * float(eye["disc_radius_y"])
    return ax, ay, 0.22 * max(0.0, float(eye["disc_radius_x"]) - ax)


def _cup_reach(eye: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance from the cup's centre relative to its edge (1 on the edge); a notch pushes the edge towards the pole."""
    ax, ay, offset = cup_axes(eye)
    from_x = x + np.float32(offset)
    reach = np.hypot(from_x / ax, y / ay)
    if eye["notch"] == "none":
        return reach
    at = math.radians(112.0) * (1 if eye["notch"] == "superior" else -1)
    away = np.abs((np.arctan2(y, from_x) - np.float32(at) + np.pi) % (2 * np.pi) - np.pi)
    room = max(0.0, 0.97 * float(eye["disc_radius_y"]) - ay) / ay
    return reach / (1 + float(eye["notch_depth"]) * room * np.exp(-((away / np.float32(0.42)) ** 2)))


def _haemorrhage(eye: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A splinter along the fibres, across the disc's edge, feathered at its outer end."""
    at = math.radians(eye["haemorrhage_angle"])
    cos, sin = math.cos(at), math.sin(at)
    along = x * cos + y * sin - math.hypot(eye["disc_radius_x"] * cos, eye["disc_radius_y"] * sin) - 0.012
    across = y * cos - x * sin
    length, width = 0.040 * eye["zoom"], 0.0085 * eye["zoom"]
    across = across / (width * (1 + 6.0 * np.maximum(along, -0.03)))
    return np.exp(-((along / length) ** 4) - across**2)


def _capture(look: Look, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """What the instrument adds: uneven light, vignetting, defocus, gain, scan-line jitter and sensor noise."""
    centre = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    across, down = centre[None, :], centre[:, None]
    from_centre = across**2 + down**2
    light = 1 + look.slope[0] * across + look.slope[1] * down
    image = image * light * (1 - look.vignette * (from_centre * 2) ** 1.5)
    # Optics blur the eye, not the grid: a finer sensor sees finer detail, if less than its pixels promise.
    image = gaussian_filter(image, look.blur * (size / 128) ** 0.6, truncate=3.0)
    image = np.clip(image, 0, 1.2) ** np.float32(look.gamma)
    image = image * (1 + 0.008 * rng.standard_normal((size, 1), dtype=np.float32))
    grain = rng.standard_normal((size, size), dtype=np.float32)
    image = image + grain * (np.float32(look.noise) * (0.6 + 0.8 * np.sqrt(np.maximum(image, 0))))
    if look.aperture:
        image = image * _step(0.525 - np.sqrt(from_centre), max(0.012, 0.8 / size)) + 0.012
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
