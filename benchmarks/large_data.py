"""A million pairs: time and peak memory of intake, ledger and mining, Sinkhorn, and the data behind two pages.

    python benchmarks/large_data.py [--pairs 1000000] [--epochs 20] [--limit-gb 2] [--only intake,data_page]

First a manifest.parquet is written to a temporary folder: notes of 120 characters, three attributes, 0.9 patients a pair.
All rows share 200 small images, so decoding is not measured. Each stage runs in its own process; its peak memory includes
imports. The exit status is the number of stages above the limit.
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
import pandas as pd

LISTED, DRAWN = 1000, 10_000  # rows of a table and points of a map, as on the pages
ATTRIBUTES = {
    "race": ["Asian", "Black", "White"],
    "gender": ["Female", "Male"],
    "language": ["English", "Other", "Spanish"],
}


def write(folder: Path, n: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(200):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / "images" / f"{i}.png")
    words = rng.choice(["cup ratio", "inferior rim", "superior notch", "pressure", "field loss", "healthy"], (n, 2))
    patient = rng.integers(0, int(0.9 * n), n)
    frame = pd.DataFrame(
        {
            "pair_id": [f"pair-{i:07d}" for i in range(n)],
            "patient_id": [f"patient-{i:07d}" for i in patient],
            "image": [f"images/{i % 200}.png" for i in range(n)],
            "text": [f"Eye {i}: {a}, then {b}. " + "The rest of the note is as long as notes are. " * 2
                     for i, (a, b) in enumerate(words)],
            "label": rng.integers(0, 2, n).astype(str),
            "split": np.where(patient % 10 < 7, "train", np.where(patient % 10 < 8, "val", "test")),
        }
        | {name: rng.choice(groups, n) for name, groups in ATTRIBUTES.items()}
    )  # fmt: skip
    frame.to_parquet(folder / "manifest.parquet", index=False)


def filled(n: int, epochs: int):
    from fairvlm_core.ledger import PairLossLedger

    rng = np.random.default_rng(1)
    level = rng.gamma(2.0, 0.5, n).astype(np.float32)
    level[: n // 20] += 4
    ledger, every = PairLossLedger([f"pair-{i:07d}" for i in range(n)]), np.arange(n)
    for epoch in range(epochs):
        ledger.record(epoch, every, loss=level + rng.random(n, np.float32))
        ledger.close_epoch(epoch)
    return ledger


def intake(folder: Path, _n: int, _epochs: int) -> str:
    from fairvlm_core.pairs import PairTable

    table = PairTable.read(folder)
    tick = time.perf_counter()
    print_length = len(table.fingerprint)
    return f"{len(table):,} pairs; fingerprint ({print_length} digits) {time.perf_counter() - tick:.1f} s of it"


def ledger_and_mining(_folder: Path, n: int, epochs: int) -> str:
    from fairvlm_core.mining import audit_mining, mine_bad_pairs

    ledger = filled(n, epochs)
    groups = np.random.default_rng(2).choice(ATTRIBUTES["race"], n)
    for settings in ({}, {"rule": "mixture", "weights": "posterior"}, {"spread": "mad"}):
        found = mine_bad_pairs(ledger, **settings)
    return f"{found.n_flagged}, audit {audit_mining(found, {'race': groups}).n_flagged:,}"


def ledger_on_disk(folder: Path, n: int, epochs: int) -> str:
    from fairvlm_core.ledger import PairLossLedger

    ledger = filled(n, epochs)
    ledger.to_wide_frame().to_parquet(folder / "ledger.parquet", index=False)
    back = PairLossLedger.from_frame(pd.read_parquet(folder / "ledger.parquet"))
    same = back.losses.tobytes() == ledger.losses.tobytes()
    return f"{(folder / 'ledger.parquet').stat().st_size / 1e6:.0f} MB written and read back, bit for bit: {same}"


def sinkhorn(_folder: Path, n: int, _epochs: int) -> str:
    import torch

    from fairvlm_core import sinkhorn_divergence
    from fairvlm_core.objective import Groups, LedgerDivergence

    rng = np.random.default_rng(3)
    values = torch.from_numpy(rng.gamma(2.0, 0.5, n))
    groups = Groups.of({name: rng.choice(names, n) for name, names in ATTRIBUTES.items()})
    term = LedgerDivergence(groups, blur=0.25)
    term.start_epoch(values, None)
    tick = time.perf_counter()
    term.solve()
    solved = time.perf_counter() - tick
    member = groups.membership[0].numpy()
    one = sinkhorn_divergence(values.numpy()[member], values.numpy(), blur=0.25, scale="sd")
    return f"all {len(groups.names)} groups {solved:.1f} s; one group by itself {float(one):.2e} ({one.method})"


def data_page(folder: Path, _n: int, _epochs: int) -> str:
    from fairvlm_core.analysis.cohort import matching
    from fairvlm_core.pairs import PairTable

    table = PairTable.read(folder, check_images=False)
    tick = time.perf_counter()
    rows = matching(
        table.frame, splits=["train"], labels=[1], groups={"race": ["Black"]}, kinds=[], kind=None, words="rim"
    )
    took = time.perf_counter() - tick
    listing = table.frame.iloc[rows[:LISTED]].astype(str)
    return f"{len(rows):,} pass the filters ({took:.1f} s), {len(listing):,} are sent to the browser"


def bad_pairs_page(_folder: Path, n: int, epochs: int) -> str:
    from fairvlm_core.analysis.mined_pairs import (
        PairFilter,
        RunPairs,
        changed_settings,
        matching_rows,
        mine_pairs,
        pair_frame,
        sample_rows,
    )  # fmt: skip
    from fairvlm_core.analysis.one_pair import loss_band
    from fairvlm_core.config import RunConfig

    ledger = filled(n, epochs)
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {"pair_id": ledger.pair_ids, "patient_id": ledger.pair_ids, "split": "train", "label": rng.integers(0, 2, n)}
        | {name: rng.choice(groups, n) for name, groups in ATTRIBUTES.items()}
    )
    pairs, own = RunPairs.of(ledger, frame, list(ATTRIBUTES)), RunConfig.build("robustfair").mining
    for limit in (3.0, 2.5):
        tick = time.perf_counter()
        now = mine_pairs(pairs, changed_settings(own, {"faulty_sd": limit}))
        listing = pair_frame(pairs, now, matching_rows(pairs, now, PairFilter())[:LISTED])
        drawn = sample_rows(now.mined, now.kind, now.flagged, np.zeros(n, bool), pairs.chance, DRAWN)
        took = time.perf_counter() - tick
    loss_band(ledger, "loss")
    return f"a slider's move {took:.1f} s; {len(listing):,} rows listed, {len(drawn):,} of {n:,} pairs drawn"


STAGES = (intake, ledger_and_mining, ledger_on_disk, sinkhorn, data_page, bad_pairs_page)


def peak_memory() -> int:
    """Peak memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit-gb", type=float, default=2.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    stages = {stage.__name__: stage for stage in STAGES}
    if options.stage:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for ui/, which is not installed
        tick, cpu = time.perf_counter(), time.process_time()
        words = stages[options.stage](options.folder, options.pairs, options.epochs)
        times = {"seconds": time.perf_counter() - tick, "cpu": time.process_time() - cpu}
        print(json.dumps(times | {"peak": peak_memory(), "words": words}))
        return 0
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), options.pairs)
        size = (Path(place) / "manifest.parquet").stat().st_size
        print(f"{options.pairs:,} pairs, manifest of {size / 1e6:.0f} MB; limit {options.limit_gb:g} GB", flush=True)
        for name in filter(None, options.only.split(",")) if options.only else stages:
            command = [sys.executable, "-W", "ignore", __file__, "--stage", name, "--folder", place]
            command += ["--pairs", str(options.pairs), "--epochs", str(options.epochs)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{name:18s} FAILED: {done.stderr.strip().splitlines()[-1]}", flush=True)
                missed += 1
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            missed += found["peak"] > options.limit_gb * 1e9
            print(
                f"{name:18s} {found['seconds']:6.1f} s ({found['cpu']:.1f} s of processor time), peak "
                f"{found['peak'] / 1e9:.2f} GB  {found['words']}",
                flush=True,
            )
    return missed


if __name__ == "__main__":
    sys.exit(main())
