"""Draw a labelled contact sheet of SynthFundus: what the built-in images and notes look like, good pairs and bad.

python examples/contact_sheet.py [--out docs/images/synthfundus-contact-sheet.png] [--seed 11]
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageColor, ImageDraw, ImageFont

from fairvlm_core.synth import SynthConfig, SynthData, synthesize

TILE, COLUMNS, HEADING, CAPTION, GAP = 166, 5, 150, 82, 12
INK, GREY, RED, PAPER = "#1d2733", "#66707c", "#a3301f", "#ffffff"
ROWS = (
    ("Healthy", "small to average cup, full rim, striated nerve-fibre layer"),
    ("Suspect", "larger cup or raised pressure, no glaucoma: label 0"),
    ("Glaucoma", "large cup, rim notch, arcuate wedge defect, splinter haemorrhage"),
    ("Groups", "same findings, other appearance: White, Black, Asian"),
    ("Other site", "another camera, another way of writing"),
    ("Mismatch", "planted: the note is another patient's and contradicts the image"),
    ("Shortcut", "planted: image and note share a mark, not the findings"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/synthfundus-contact-sheet.png"))
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()

    common = {"n_val": 0, "n_test": 0, "seed": options.seed, "size": 256}
    data = synthesize(SynthConfig(n_train=260, mismatch_rate=0.1, shortcut_rate=0.06, proportions="balanced", **common))
    other = synthesize(SynthConfig(n_train=30, mismatch_rate=0, shortcut_rate=0, site="other", **common))
    sheet = draw_sheet(choose(data, other))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(palette=_palette(), dither=Image.Dither.NONE).save(options.out, optimize=True)
    print(f"{options.out} ({options.out.stat().st_size / 1000:.0f} kB)")


def choose(data: SynthData, other: SynthData) -> list[list[tuple[np.ndarray, str, str, bool]]]:
    """For each row of the sheet, tiles of (image, heading, note, whether the note is planted)."""
    frame, findings, kind = data.frame, data.findings, data.planted["kind"]
    clean = kind == "clean"
    diagnosis = findings["diagnosis"]
    glaucoma = clean & (diagnosis == "glaucoma") & (findings["quality"] == "good")
    seen = glaucoma & (frame["race"] != "Black")
    shown = {
        "notch": seen & (findings["notch"] == "inferior") & (findings["cdr_vertical"] < 0.75),
        "wedge": seen & (findings["rnfl_defect"] != "none") & (findings["cdr_vertical"] > 0.6),
        "haemorrhage": seen & findings["haemorrhage"],
        "early": glaucoma & (findings["stage"] == "mild") & (findings["rnfl_defect"] == "none"),
        "late": glaucoma & (findings["stage"] == "severe"),
    }
    good = clean & (findings["quality"] == "good")
    groups = (
        ("White", "healthy"), ("Black", "healthy"), ("Black", "glaucoma"), ("Asian", "healthy"), ("Asian", "glaucoma"),
    )  # fmt: skip
    healthy, suspect = good & (diagnosis == "healthy"), clean & (diagnosis == "suspect")
    by_group = [_pick([good & (frame["race"] == race) & (diagnosis == what)], skip=3)[0] for race, what in groups]
    tiles = [[_tile(data, i) for i in row] for row in (_pick([healthy] * COLUMNS), _pick([suspect] * COLUMNS))]
    tiles.append([_tile(data, i) for i in _pick(shown.values())])
    tiles.append([_tile(data, i, prefix=frame["race"][i]) for i in by_group])
    tiles.append([_tile(other, i) for i in range(COLUMNS)])
    tiles.append([_tile(data, i, planted=True) for i in _pick([kind == "mismatch"] * COLUMNS)])
    by_marker = data.planted[kind == "shortcut"].drop_duplicates("marker").index[:COLUMNS]
    tiles.append([_tile(data, i, planted=True) for i in by_marker])
    return tiles


def _pick(masks: Iterable[pd.Series], *, skip: int = 0) -> list[int]:
    """For each mask the first row that is not taken yet (past the first few, where asked)."""
    taken: list[int] = []
    for mask in masks:
        taken.append(next(i for i in np.flatnonzero(mask)[skip:].tolist() if i not in taken))
    return taken


def _tile(data: SynthData, i: int, *, prefix: str = "", planted: bool = False) -> tuple[np.ndarray, str, str, bool]:
    eye = data.findings.iloc[i]
    heading = f"{prefix + ', ' if prefix else ''}{eye['diagnosis']}, C/D {eye['cdr_vertical']:.2f}, {eye['eye']}"
    return data.images[i], heading, data.frame["text"].iat[i], planted


def _palette() -> Image.Image:
    """60 greys and 15 shades from paper to each text colour: enough for the figure, and half the bytes of full colour."""
    greys = [(round(i * 255 / 59),) * 3 for i in range(60)]
    paper = np.array(ImageColor.getrgb(PAPER))
    inks = [np.array(ImageColor.getrgb(ink)) for ink in (INK, RED)]
    shades = [tuple(np.rint(paper + (ink - paper) * i / 15).astype(int).tolist()) for ink in inks for i in range(1, 16)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for colour in greys + shades for channel in colour])
    return palette


def draw_sheet(rows: list[list[tuple[np.ndarray, str, str, bool]]]) -> Image.Image:
    """All rows with their headings at the left, each tile with what the image shows and how its note begins."""
    title, bold, small = (ImageFont.load_default(size) for size in (19, 12, 10.5))
    width = HEADING + COLUMNS * (TILE + GAP) + GAP
    height = GAP + len(rows) * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for r, ((name, meaning), tiles) in enumerate(zip(ROWS, rows, strict=True)):
        top = GAP + r * (TILE + CAPTION + GAP)
        draw.text((GAP, top), name, INK, title)
        draw.multiline_text((GAP, top + 28), textwrap.fill(meaning, 22), GREY, bold, spacing=4)
        for c, (image, heading, note, planted) in enumerate(tiles):
            left = HEADING + c * (TILE + GAP)
            sheet.paste(
                Image.fromarray(image).resize((TILE, TILE), Image.Resampling.LANCZOS).convert("RGB"), (left, top)
            )
            draw.text((left, top + TILE + 5), heading, INK, bold)
            excerpt = textwrap.wrap(note, 31)
            lines = excerpt[:4] if len(excerpt) <= 4 else [*excerpt[:3], excerpt[3][:28] + " …"]
            draw.multiline_text((left, top + TILE + 22), "\n".join(lines), RED if planted else GREY, small, spacing=3)
    return sheet


if __name__ == "__main__":
    main()
