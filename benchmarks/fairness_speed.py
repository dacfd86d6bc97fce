"""How fast are intervals and permutation tests, beside fairlearn's MetricFrame in the same process?

    python benchmarks/fairness_speed.py [--large]

Prints the table of docs/fairness.md. fairlearn is timed on a few resamples of one attribute and multiplied up: its
bootstrap calls the metric anew for every resample and group. --large adds n = 100,000 (half a minute).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable

import numpy as np

from fairvlm_core.fairness import FairnessReport

RESAMPLES = 2000
SHARES = {
    "race": {"Asian": 0.08, "Black": 0.15, "White": 0.77},
    "gender": {"Female": 0.56, "Male": 0.44},
    "ethnicity": {"Hispanic": 0.04, "non-Hispanic": 0.96},
    "language": {"English": 0.93, "Other": 0.05, "Spanish": 0.02},
}


def predictions(n: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    label = rng.random(n) < 0.5
    score = 1 / (1 + np.exp(-(1.2 * (label - 0.5) + rng.normal(size=n))))
    groups = {name: rng.choice(list(shares), n, p=list(shares.values())) for name, shares in SHARES.items()}
    return label, score, groups


def seconds(work: Callable[[], object], times: int) -> float:
    """The fastest of several calls: noise of a shared machine only ever adds."""
    best = np.inf
    for _ in range(times):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def report(n: int, n_resamples: int, n_permutations: int, threshold: float | None) -> Callable[[], FairnessReport]:
    label, score, groups = predictions(n)
    return lambda: FairnessReport.from_predictions(
        label, score, groups, n_resamples=n_resamples, n_permutations=n_permutations, threshold=threshold
    )


def fairlearn_resample_seconds(n: int) -> float | None:
    """One resample of one attribute: AUC by group and overall, by MetricFrame."""
    try:
        from fairlearn.metrics import MetricFrame
        from sklearn.metrics import roc_auc_score
    except ImportError:
        return None
    label, score, groups = predictions(n)
    rng = np.random.default_rng(1)

    def once() -> object:
        drawn = rng.integers(0, n, n)
        frame = MetricFrame(
            metrics=roc_auc_score, y_true=label[drawn], y_pred=score[drawn], sensitive_features=groups["race"][drawn]
        )
        return frame.by_group, frame.overall

    return seconds(once, 20)


def line(what: str, value: str) -> None:
    print(f"| {what} | {value} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also n = 100,000")
    large = parser.parse_args().large
    print(f"numpy {np.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| 4 attributes, 11 groups | time |\n|---|---|")
    point = seconds(report(400, 0, 0, 0.5), 50)
    line("n = 400, every figure, no interval (as after each epoch)", f"{1000 * point:.1f} ms")
    auc = seconds(report(2000, RESAMPLES, 0, None), 3)
    line(f"n = 2,000, {RESAMPLES:,} resamples, ES-AUC and all group AUCs", f"{auc:.2f} s")
    line(f"n = 2,000, {RESAMPLES:,} resamples, every figure", f"{seconds(report(2000, RESAMPLES, 0, 0.5), 3):.2f} s")
    both = seconds(report(2000, RESAMPLES, RESAMPLES, 0.5), 3)
    line(f"n = 2,000, every figure, and {RESAMPLES:,} permutations", f"{both:.2f} s")
    one = fairlearn_resample_seconds(2000)
    if one is not None:
        total = one * RESAMPLES * len(SHARES)
        line("fairlearn MetricFrame, one resample of one attribute, n = 2,000 (measured)", f"{1000 * one:.0f} ms")
        line(f"fairlearn MetricFrame, {RESAMPLES:,} resamples x 4 attributes (extrapolated)", f"{total:.0f} s")
        line("ratio", f"{total / auc:.0f}")
    if large:
        took = seconds(report(100_000, RESAMPLES, 0, None), 1)
        line(f"n = 100,000, {RESAMPLES:,} resamples, ES-AUC and all group AUCs", f"{took:.1f} s")
        # ru_maxrss counts kilobytes on Linux and bytes on macOS.
        unit = 1 if platform.system() == "Darwin" else 1024
        line(
            "peak memory of the whole process",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2f} GB",
        )


if __name__ == "__main__":
    main()
