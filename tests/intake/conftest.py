"""Small data folders, written by the standard library and numpy alone, not by the code under test."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEADER = ("pair_id", "patient_id", "image", "text", "label", "split", "race")


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """40 sound manifest rows: 28 for training, 4 and 8 held out, both labels and both groups in each."""
    splits = ["train"] * 28 + ["val"] * 4 + ["test"] * 8
    return [
        {
            "pair_id": f"p{i:03d}",
            "patient_id": f"q{i:03d}",
            "image": f"images/p{i:03d}.png",
            "text": f"Note {i}, cup-to-disc ratio 0.{i}.",
            "label": str(i % 2),
            "split": split,
            "race": ("Black", "White")[i // 2 % 2],
        }
        for i, split in enumerate(splits)
    ]


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a manifest folder with one small PNG a distinct image path; returns the folder."""

    def write(rows: list[dict[str, str]], *, description: object = None, header: tuple[str, ...] | None = None) -> Path:
        folder = tmp_path / "data"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        header = header or tuple(dict.fromkeys(name for row in rows for name in row)) or HEADER
        with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows([[row.get(name, "") for name in header] for row in rows])
        for i in range(40):
            grey = np.full((8, 10), 5 * i, np.uint8)
            Image.fromarray(grey).save(folder / "images" / f"p{i:03d}.png")
        if description is not None:
            (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def fairvlmed(tmp_path: Path) -> Callable[..., Path]:
    """Write a Harvard-FairVLMed folder of 24 eyes; keyword arguments replace members of every file."""

    def write(**members: object) -> Path:
        folder = tmp_path / "fairvlmed"
        notes = []
        for i in range(24):
            part = ("Training", "Validation", "Test")[(i >= 14) + (i >= 18)]
            (folder / part).mkdir(parents=True, exist_ok=True)
            content = {
                "slo_fundus": np.full((66, 51), i, np.uint8),
                "age": np.array(60.0 + i),
                "gender": np.array(i % 2),
                "race": np.array(i % 3),
                "ethnicity": np.array([0, 1, -1][i % 3]),
                "language": np.array([0, 1, 2, -1][i % 4]),
                "glaucoma": np.array(i % 2),
                "note": np.array(f"long note {i}"),
            } | members
            np.savez_compressed(folder / part / f"data_{i:05d}.npz", **content)
            notes.append((f"data_{i:05d}.npz", part, f"short note {i}"))
        for name, text in (("gpt-4_summarized_notes.csv", "{2}"), ("original_notes.csv", "original: {2}")):
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["filename", "use", "note"])
                writer.writerows([[*row[:2], text.format(*row)] for row in notes])
        with (folder / "data_summary.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "use", "glaucoma"])
            writer.writerows([[name, part.lower(), "yes" if int(name[5:10]) % 2 else "no"] for name, part, _ in notes])
        return folder

    return write
