"""Time and peak memory of reading a data folder of FairVLMed's size: 10,000 .npz files of 664 x 512 pixels.

    python benchmarks/intake_memory.py [--files 10000] [--limit-gb 1.5]

The files are written to a temporary folder first (drawn from 40 different images, each with its own values), then read by
a process of its own, whose peak is what counts. Exits 1 where it is above the limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

IMAGES = 40
HEIGHT, WIDTH = 664, 512


def write_folder(folder: Path, n: int) -> int:
    """n files in the split folders of Harvard-FairVLMed, and their notes; returns the bytes written."""
    rng = np.random.default_rng(0)
    ground = [rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8), np.uint8) for _ in range(IMAGES)]
    images = [
        np.kron(small, np.ones((8, 8), np.uint8)) + rng.integers(0, 8, (HEIGHT, WIDTH), np.uint8) for small in ground
    ]
    notes, written = ["filename,use,note"], 0
    for i in range(n):
        part = "Training" if i < 0.7 * n else "Validation" if i < 0.8 * n else "Test"
        path = folder / part / f"data_{i:05d}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(
            path, slo_fundus=images[i % IMAGES], md=-rng.random() * 20, tds=rng.normal(size=52), age=rng.integers(20, 90),
            gender=i % 2, race=i % 3, ethnicity=i % 3 - 1, language=i % 4 - 1, maritalstatus=i % 5, glaucoma=i % 2,
            note="Original note of many words. " * 60, note_extra="",
        )  # fmt: skip
        notes.append(
            f"data_{i:05d}.npz,{part.lower()},Summarised note {i}: cup-to-disc ratio 0.{i % 10}. " + "Word " * 100
        )
        written += path.stat().st_size
    (folder / "gpt-4_summarized_notes.csv").write_text("\n".join(notes) + "\n", encoding="utf-8")
    return written


def peak_memory() -> int:
    """Most memory this process has held, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def read(folder: Path) -> dict[str, float]:
    """Time and peak memory of this process after reading, and before it."""
    from fairvlm_core.pairs import PairTable

    before = peak_memory()
    started = time.perf_counter()
    table = PairTable.read(folder)
    seconds = time.perf_counter() - started
    return {
        "pairs": len(table),
        "seconds": seconds,
        "before": before,
        "peak": peak_memory(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--limit-gb", type=float, default=1.5)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read)))
        return 0
    with tempfile.TemporaryDirectory() as place:
        written = write_folder(Path(place), options.files)
        print(f"{options.files} files, {written / 2**30:.2f} GiB", flush=True)
        command = [sys.executable, "-W", "ignore", __file__, "--read", place]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(
        f"{found['pairs']} pairs read in {found['seconds']:.1f} s "
        f"({1e3 * found['seconds'] / found['pairs']:.2f} ms a file); "
        f"peak memory {found['peak'] / 1e9:.2f} GB, of which {found['before'] / 1e9:.2f} GB before reading; "
        f"limit {options.limit_gb:g} GB"
    )
    return 0 if found["peak"] < options.limit_gb * 1e9 and found["pairs"] == options.files else 1


if __name__ == "__main__":
    sys.exit(main())
