"""The retinal vessel tree: arcades that leave the disc, branch, taper and wind, drawn with sub-pixel smoothness.

Coordinates are those of a right eye with the disc's centre at the origin: x to the nasal side, y upwards, in units of
the image side. Every vessel is a heading (an angle along its length) that is summed to a path, so that a whole
generation of vessels is made by a few array operations, and then one filled polygon each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

VEIN_WIDTH, ARTERY_WIDTH = 0.0172, 0.0122  # at the disc: about 125 and 90 micrometres on a 1.8 mm disc
# start heading, end heading (degrees, 90 = superior, 180 = temporal), length, relative width
_TRUNKS = (
    (94.0, 192.0, 1.02, 1.00),  # superotemporal arcade
    (-94.0, -192.0, 1.02, 1.00),  # inferotemporal arcade
    (66.0, 30.0, 0.46, 0.80),  # superonasal
    (-66.0, -30.0, 0.46, 0.80),  # inferonasal
)
_SMALL = ((155.0, 172.0, 0.27, 0.36), (-152.0, -176.0, 0.25, 0.36), (14.0, 4.0, 0.34, 0.42))  # macular and nasal twigs
_SAMPLES = 30  # points along a trunk


@dataclass(frozen=True)
class _Vessels:
    """K vessels of T points: path [K, T, 2], width [K, T], darkness [K] in 0..1, artery [K]."""

    path: np.ndarray
    width: np.ndarray
    heading: np.ndarray
    darkness: np.ndarray
    artery: np.ndarray
    length: np.ndarray


def draw_vessels(
    rng: np.random.Generator,
    to_pixels: Callable[[np.ndarray], np.ndarray],
    size: int,
    *,
    zoom: float,
    nasal_shift: float,
) -> np.ndarray:
    """Darkness of the vessels.

    Args:
        rng: source of every bend and branch.
        to_pixels: maps points [..., 2] of the eye's coordinates to image coordinates in 0..1 (x right, y down).
        size: image side in pixels.
        zoom: scale of the eye in the image.
        nasal_shift: how far the trunks' root is displaced to the nasal side, in image sides.

    Returns:
        float32 [size, size] in 0..1: 0 no vessel, 1 the darkest vein.
    """
    trunks = _grow_trunks(rng, zoom, nasal_shift)
    branches = _grow_side(rng, trunks, per_vessel=6, samples=11, length=(0.14, 0.36), zoom=zoom, width_share=0.58)
    twigs = _grow_side(rng, branches, per_vessel=2, samples=5, length=(0.06, 0.16), zoom=zoom, width_share=0.55)
    factor = 4 if size <= 160 else 2  # supersampling: thin vessels come out faint instead of broken
    canvas = Image.new("L", (size * factor, size * factor), 0)
    draw = ImageDraw.Draw(canvas)
    for generation in (twigs, branches, trunks):
        _fill(draw, generation, to_pixels, size * factor)
    _reflex(draw, trunks, to_pixels, size * factor)
    return np.asarray(canvas.reduce(factor), dtype=np.float32) / 255.0


def _grow_trunks(rng: np.random.Generator, zoom: float, nasal_shift: float) -> _Vessels:
    spec = np.array([*_TRUNKS, *_TRUNKS, *_SMALL])
    n = len(spec)
    artery = np.array([False] * 4 + [True] * 4 + [False, True, True])
    arcade = np.array([True, True, False, False] * 2 + [False] * 3)
    t = np.linspace(0, 1, _SAMPLES)
    # Arteries start a little apart from their veins and turn sooner or later: the pairs cross, as they do in life.
    apart = np.where(artery, rng.choice([-1.0, 1.0], n) * rng.uniform(7, 15, n), rng.normal(0, 3, n))
    start = np.deg2rad(spec[:, 0] + apart)
    end = np.deg2rad(spec[:, 1] + rng.normal(0, 6, n))
    turn = np.where(arcade, rng.uniform(0.50, 0.68, n), 0.9)[:, None]
    ramp = np.clip(t[None] / turn, 0, 1) ** 1.15
    heading = start[:, None] + (end - start)[:, None] * ramp * (1 + 0.06 * np.maximum(t[None] - turn, 0))
    heading = heading + _winding(rng, n, t, np.where(artery, 0.16, 0.20))
    length = spec[:, 2] * zoom * rng.uniform(0.94, 1.06, n)
    root = np.stack([np.full(n, nasal_shift) + rng.normal(0, 0.006, n), 0.016 * np.sign(spec[:, 0])], axis=1) * zoom
    full = np.where(artery, ARTERY_WIDTH, VEIN_WIDTH) * spec[:, 3] * zoom * rng.uniform(0.9, 1.12, n)
    width = full[:, None] * (1 - 0.62 * t[None])
    darkness = np.where(artery, 0.72, 0.98) * np.where(spec[:, 3] < 0.5, 0.8, 1.0)
    return _Vessels(_walk(root, heading, length), width, heading, darkness, artery, length)


def _grow_side(
    rng: np.random.Generator,
    parents: _Vessels,
    *,
    per_vessel: int,
    samples: int,
    length: tuple[float, float],
    zoom: float,
    width_share: float,
) -> _Vessels:
    """Branches of every parent: they leave at a sharp angle, then bend back towards the parent's course."""
    k, points = parents.width.shape
    n = k * per_vessel
    parent = np.repeat(np.arange(k), per_vessel)
    where = (np.tile(np.arange(per_vessel), k) + rng.uniform(0.1, 0.9, n)) / per_vessel
    at = np.minimum((0.17 + 0.80 * where) * (points - 1), points - 1).astype(int)
    side = np.where((np.tile(np.arange(per_vessel), k) + np.asarray(rng.integers(0, 2, k))[parent]) % 2, 1.0, -1.0)
    angle = side * rng.uniform(0.45, 0.95, n)
    t = np.linspace(0, 1, samples)
    heading = parents.heading[parent, at][:, None] + angle[:, None] * (1 - 0.55 * t[None])
    heading = heading + _winding(rng, n, t, np.full(n, 0.22))
    # No branch is longer than its parent's remaining way would let it be: the tree thins out to its ends.
    remaining = 0.35 + 0.65 * (1 - at / (points - 1))
    longest = 0.55 * parents.length[parent]
    long = np.minimum(rng.uniform(*length, n) * zoom, longest) * remaining
    width = parents.width[parent, at] * width_share * rng.uniform(0.8, 1.15, n)
    taper = width[:, None] * (1 - 0.6 * t[None])
    darkness = parents.darkness[parent] * 0.86
    root = parents.path[parent, at]
    return _Vessels(_walk(root, heading, long), taper, heading, darkness, parents.artery[parent], long)


def _winding(rng: np.random.Generator, n: int, t: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Tortuosity: two slow waves a vessel, in radians."""
    waves = rng.uniform([[1.2], [3.0]], [[2.6], [6.0]], (2, n))
    phases = rng.uniform(0, 2 * np.pi, (2, n))
    heights = rng.uniform(0.4, 1.0, (2, n)) * amplitude * [[1.0], [0.6]]
    return (heights[..., None] * np.sin(2 * np.pi * waves[..., None] * t + phases[..., None])).sum(axis=0)


def _walk(root: np.ndarray, heading: np.ndarray, length: np.ndarray) -> np.ndarray:
    step = (length / (heading.shape[1] - 1))[:, None]
    moves = np.stack([np.cos(heading) * step, np.sin(heading) * step], axis=-1)
    path = np.cumsum(moves, axis=1) - moves[:, :1]
    return path + root[:, None]


def _outlines(vessels: _Vessels, to_pixels: Callable, side: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    normal = np.stack([-np.sin(vessels.heading), np.cos(vessels.heading)], axis=-1)
    half = np.maximum(vessels.width * share, 0.9 / side)[..., None] * 0.5 * normal
    ring = np.concatenate([vessels.path + half, (vessels.path - half)[:, ::-1]], axis=1)
    pixels = to_pixels(ring) * side - 0.5
    seen = ((pixels > 0) & (pixels < side)).all(axis=-1).any(axis=1)
    return pixels, seen


def _fill(draw: ImageDraw.ImageDraw, vessels: _Vessels, to_pixels: Callable, side: int) -> None:
    pixels, seen = _outlines(vessels, to_pixels, side, 1.0)
    # A vessel thinner than one supersampled pixel is drawn one wide and fainter instead.
    thin = np.minimum(vessels.width[:, : max(2, vessels.width.shape[1] // 2)].mean(axis=1) * side, 1.0)
    shade = np.rint(255 * vessels.darkness * np.maximum(thin, 0.35)).astype(int).tolist()
    order = np.flatnonzero(seen)[np.argsort(vessels.darkness[seen], kind="stable")]
    rings = pixels.reshape(len(pixels), -1).tolist()
    for i in order.tolist():
        draw.polygon(rings[i], fill=shade[i])


def _reflex(draw: ImageDraw.ImageDraw, trunks: _Vessels, to_pixels: Callable, side: int) -> None:
    """The light streak along the middle of an artery: seen only where an artery is wide enough in pixels."""
    if VEIN_WIDTH * side < 8:
        return
    pixels, seen = _outlines(trunks, to_pixels, side, 0.30)
    for i in np.flatnonzero(seen & trunks.artery & (trunks.width[:, 0] * side > 8)).tolist():
        draw.polygon(pixels[i].ravel().tolist(), fill=int(255 * 0.42))
