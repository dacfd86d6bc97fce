"""An image with zoom, pan, window and level, the other images of the same patient, and a map laid over it.

All of that happens in the browser, on its own code and nothing fetched: no run of the page is needed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageChops

LONGEST_SIDE = 1600
HEAT_COLOUR = (255, 140, 26)
HEAT_OPACITY = 0.72
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """An image for the viewer: a ``data:`` address and what it is called."""

    src: str
    caption: str


def picture_address(image: Image.Image) -> str:
    """An image as a ``data:`` address, lossless, its longer side at most `LONGEST_SIDE` pixels.

    >>> picture_address(Image.new("L", (2, 2)))[:22]
    'data:image/png;base64,'
    """
    image = _grey(image)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _grey(image: Image.Image) -> Image.Image:
    """A copy; with one channel where all three are the same, as in most medical images: a third of the bytes."""
    if image.mode == "RGB":
        red, green, blue = image.split()
        if not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox():
            return red
    return image.copy()


def heat_address(heat: np.ndarray) -> str:
    """Heat (H, W) in 0 to 1 as a transparent layer of one colour: the stronger, the less transparent."""
    layer = np.empty((*heat.shape, 4), np.uint8)
    layer[..., :3] = HEAT_COLOUR
    layer[..., 3] = np.rint(255 * HEAT_OPACITY * np.clip(heat, 0, 1))
    return picture_address(Image.fromarray(layer))


@cache
def _viewer() -> Callable[..., Any]:
    return st.components.v2.component(
        "fairvlm_image_viewer",
        html=(_HERE / "image_viewer.html").read_text(encoding="utf-8"),
        css=(_HERE / "image_viewer.css").read_text(encoding="utf-8"),
        js=(_HERE / "image_viewer.js").read_text(encoding="utf-8"),
    )


def image_viewer(
    pair_id: str,
    pictures: Sequence[Picture],
    *,
    heat: str | None = None,
    height: int = 380,
    key: str,
) -> None:
    """Show a pair's images, the first one at once.

    Parameters
    ----------
    pair_id
        Zoom and window stay while it is the same.
    heat
        Address of a layer over the first image.
    """
    images = [{"src": picture.src, "caption": picture.caption} for picture in pictures]
    data = {"pair": pair_id, "images": images, "heat": heat, "height": height}
    _viewer()(data=data, key=key, width="stretch", height="content")
