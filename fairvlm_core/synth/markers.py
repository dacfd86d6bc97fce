"""Non-clinical marks that scanners and archives burn into images: the shared markers."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARKERS = (
    "scanner stamp triangle",
    "scanner stamp square",
    "scanner stamp cross",
    "scanner stamp circle",
    "archive tag K7",
    "archive tag R4",
    "calibration ruler",
    "barcode label",
)
_CORNERS = ("top left", "bottom right", "top right", "bottom left")
_HEIGHT = 0.21  # of the image side: 13 pixels of a 64-pixel image
_SUPER = 8


def stamp(image: np.ndarray, marker: str, rng: np.random.Generator) -> np.ndarray:
    """Burn a marker into a corner of an image.

    Args:
        image: uint8 [size, size]; not changed.
        marker: one of ``MARKERS``.
        rng: chooses margin and brightness. Each marker has its own corner.

    Returns:
        uint8 [size, size], a copy.
    """
    size = image.shape[0]
    corner = _CORNERS[MARKERS.index(marker) % len(_CORNERS)]
    margin = round(size * rng.uniform(0.02, 0.045))
    label = _draw_label(marker, max(9, round(_HEIGHT * size)), bright=int(rng.integers(215, 252)))
    height, width = label.shape
    top = margin if corner.startswith("top") else size - margin - height
    left = margin if corner.endswith("left") else size - margin - width
    stamped = image.copy()
    stamped[top : top + height, left : left + width] = label
    return stamped


def _draw_label(marker: str, height: int, *, bright: int) -> np.ndarray:
    kind, _, what = marker.rpartition(" ")
    wide = {"archive tag": 1.55, "calibration": 1.9, "barcode": 1.7}.get(kind, 1.0)
    h, w = height * _SUPER, round(height * wide) * _SUPER
    canvas = Image.new("L", (w, h), 14)
    draw = ImageDraw.Draw(canvas)
    pad = 0.14 * h
    box = (pad, pad, w - pad, h - pad)
    middle = h / 2
    if kind == "archive tag":
        draw.rectangle((0, 0, w - 1, h - 1), outline=bright, width=max(1, h // 16))
        draw.text((w / 2, h / 2), what, fill=bright, anchor="mm", font=ImageFont.load_default(0.78 * h),
                  stroke_width=max(1, h // 28), stroke_fill=bright)  # fmt: skip
    elif what == "triangle":
        draw.polygon([(middle, pad), (h - pad, h - pad), (pad, h - pad)], fill=bright)
    elif what == "circle":
        draw.ellipse(box, outline=bright, width=h // 7)
    elif what == "square":
        draw.rectangle(box, fill=bright)
    elif what == "cross":
        arm = 0.11 * h
        draw.rectangle((middle - arm, pad, middle + arm, h - pad), fill=bright)
        draw.rectangle((pad, middle - arm, h - pad, middle + arm), fill=bright)
    elif what == "ruler":
        draw.rectangle((pad, h - 1.7 * pad, w - pad, h - pad), fill=bright)
        for i in range(7):
            x = pad + i * (w - 2 * pad - 0.06 * h) / 6
            draw.rectangle((x, h * (0.24 if i % 3 == 0 else 0.5), x + 0.06 * h, h - pad), fill=bright)
    else:  # a barcode: dark bars on a bright sticker
        draw.rectangle((0, 0, w, h), fill=bright)
        x, bars = pad, (2, 1, 3, 1, 1, 2, 2, 1, 3)
        unit = (w - 2 * pad) / (sum(bars) + len(bars) - 1)
        for bar in bars:
            draw.rectangle((x, pad, x + bar * unit, h - pad), fill=14)
            x += (bar + 1) * unit
    return np.asarray(canvas.reduce(_SUPER))
