"""Coverage of the intervals and level of the tests in fairvlm_core.fairness, by simulation with known truth.

    python benchmarks/fairness_coverage.py [--sets 500] [--keep coverage.jsonl] [--why]

Scores are binormal with a known AUC in every group. Prints the table of docs/fairness.md; takes about ten minutes on two
cores. With --keep, finished sets are stored, one a line, and the next call continues from there. --why prints the coverage
that plain percentile intervals would have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.special import ndtr, ndtri

from fairvlm_core.fairness import FairnessReport, Undefined, compare_paired, compare_seeds, equity_scaled_auc, roc_auc
from fairvlm_core.fairness.cohort import check_cohort
from fairvlm_core.fairness.intervals import auc_interval
from fairvlm_core.fairness.resample import Draws, bootstrap

RESAMPLES, PERMUTATIONS = 600, 399
COLUMNS = (
    "AUC, everyone",
    "AUC, groups",
    "ES-AUC, these sizes",
    "ES-AUC, large sample",
    "ES-AUC B - A, these sizes",
    "ES-AUC B - A, large sample",
    "permutation rejects",
)
SHARED_NOISE = 0.7  # correlation of the two models' noise on one patient
SEEDS = 5


@dataclass(frozen=True)
class Scenario:
    """Group sizes, and the AUC that each of two models has in each group."""

    name: str
    sizes: tuple[int, ...]
    auc_a: tuple[float, ...]
    auc_b: tuple[float, ...]
    shift: float = 0.0  # added to every score of the first group: AUC unchanged, groups no longer exchangeable
    rows: int = 1  # rows a patient, with shared noise

    def draw(self, rng: np.random.Generator, times: int = 1) -> tuple[np.ndarray, ...]:
        """(label, score of A, score of B, group, patient); `times` more patients in every group."""
        sizes = [size * times // self.rows for size in self.sizes]
        patient = np.repeat(np.arange(sum(sizes)), self.rows)
        group = np.repeat(np.arange(len(sizes)), sizes)[patient]
        label = rng.random(sum(sizes))[patient] < 0.5
        shared = rng.normal(size=sum(sizes))[patient] if self.rows > 1 else rng.normal(size=len(patient))
        scores = []
        for auc in (self.auc_a, self.auc_b):
            noise = np.sqrt(SHARED_NOISE) * shared + np.sqrt(1 - SHARED_NOISE) * rng.normal(size=len(patient))
            distance = np.sqrt(2) * ndtri(np.asarray(auc))[group]
            scores.append(noise + distance * (label - 0.5) + self.shift * (group == 0))
        return label, *scores, group, patient


EQUAL, SMALLEST = (0.8, 0.8, 0.8), (20, 100, 1000)
SCENARIOS = (
    Scenario("no gap, A = B", SMALLEST, EQUAL, EQUAL),
    Scenario("no gap, B better", SMALLEST, (0.75,) * 3, (0.85,) * 3),
    Scenario("both have gaps", SMALLEST, (0.70, 0.75, 0.85), (0.75, 0.80, 0.87)),
    Scenario("gap in B only", SMALLEST, EQUAL, (0.65, 0.75, 0.85)),
    Scenario("four groups, gap in B only", (20, 50, 200, 400), (0.8,) * 4, (0.7, 0.8, 0.75, 0.85)),
    Scenario("no gap, groups shifted", SMALLEST, EQUAL, EQUAL, shift=0.7),
    Scenario("no gap, 2 rows a patient", (40, 100, 1000), EQUAL, EQUAL, rows=2),
)


def truth(scenario: Scenario) -> dict[str, float]:
    """Values of a very large sample, and averages over samples of the scenario's own size."""
    rng = np.random.default_rng(17)
    label, a, b, group, _ = scenario.draw(rng, times=300)
    large_a, large_b = equity_scaled_auc(label, a, group), equity_scaled_auc(label, b, group)
    small = []
    for _ in range(3000):
        label, a, b, group, _ = scenario.draw(rng)
        pair = equity_scaled_auc(label, a, group), equity_scaled_auc(label, b, group)
        if not pair[0].partial:
            small.append(tuple(map(float, pair)))
    mean_a, mean_b = np.mean(small, axis=0)
    return {
        "auc": large_a.overall,
        "es_auc": float(large_a),
        "es_auc_same_size": float(mean_a),
        "difference": float(large_b) - float(large_a),
        "difference_same_size": float(mean_b - mean_a),
    }


def one_set(scenario: Scenario, true: dict[str, float], seed: int) -> dict[str, float]:
    """For each interval and test, whether it holds on this simulated set (1 or 0)."""
    rng = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    label, a, b, group, patient = scenario.draw(rng)
    patients = patient if scenario.rows > 1 else None
    report = FairnessReport.from_predictions(
        label, a, {"g": group}, patients=patients, threshold=None, seed=seed,
        n_resamples=RESAMPLES, n_permutations=PERMUTATIONS,
    )  # fmt: skip
    result, kept = report["g"], {}
    kept["AUC, everyone"] = true["auc"] in report.overall.intervals["auc"]
    for place, (name, size) in enumerate(zip(result.groups, scenario.sizes, strict=True)):
        if not isinstance(result.groups[name].auc, Undefined):
            covered = scenario.auc_a[place] in result.groups[name].intervals["auc"]
            kept[f"AUC, groups of {size}"] = covered
    if result.partial:
        return {name: float(value) for name, value in kept.items()}
    kept["ES-AUC, these sizes"] = true["es_auc_same_size"] in result.intervals["es_auc"]
    kept["ES-AUC, large sample"] = true["es_auc"] in result.intervals["es_auc_large_sample"]
    paired = compare_paired(label, a, b, {"g": group}, patients=patients, n_resamples=RESAMPLES, seed=seed)
    kept["ES-AUC B - A, these sizes"] = true["difference_same_size"] in paired["g"].interval
    kept["ES-AUC B - A, large sample"] = true["difference"] in paired["g"].interval
    if len(set(scenario.auc_a)) == 1:
        kept["permutation rejects"] = result.chance["es_auc"].p_value <= 0.05
    return {name: float(value) for name, value in kept.items()}


def seeds_set(seed: int) -> dict[str, float]:
    """Whether the interval of B - A over five seeds covers the true difference; seed and method both change the model."""
    rng = np.random.default_rng([seed, 7])
    n, lift = 600, 0.15
    label = rng.random(n) < 0.5
    patient = rng.normal(size=n)

    def run(extra: float) -> np.ndarray:
        distance = 1.2 + extra + 0.12 * rng.normal()
        return np.sqrt(0.7) * patient + np.sqrt(0.3) * rng.normal(size=n) + distance * (label - 0.5)

    a, b = [run(0.0) for _ in range(SEEDS)], [run(lift) for _ in range(SEEDS)]
    change = compare_seeds(label, a, b, {}, metric="auc", n_resamples=300, seed=seed).overall
    # E AUC over seeds: distance ~ N(m, 0.12²), so AUC = P(N(0, 2 + 0.12²) < m).
    true = float(ndtr((1.2 + lift) / np.sqrt(2 + 0.12**2)) - ndtr(1.2 / np.sqrt(2 + 0.12**2)))
    return {"seeds and patients": float(true in change.interval), "seeds only": float(true in change.seeds_interval)}


def finished(keep: Path | None) -> dict[tuple[str, int], dict[str, float]]:
    if keep is None or not keep.exists():
        return {}
    lines = (json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines() if line.endswith("}"))
    return {(line["scenario"], line["seed"]): line["kept"] for line in lines}


def simulate(n_sets: int, keep: Path | None) -> Iterator[tuple[str, list[dict[str, float]]]]:
    done = finished(keep)
    for scenario in (*SCENARIOS, None):
        name = "five seeds, AUC" if scenario is None else scenario.name
        true = None if scenario is None else truth(scenario)
        rows = []
        for seed in track(range(n_sets), description=name, transient=True, console=Console(stderr=True)):
            kept = done.get((name, seed))
            if kept is None:
                kept = seeds_set(seed) if scenario is None else one_set(scenario, true, seed)
                if keep is not None:
                    with keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"scenario": name, "seed": seed, "kept": kept}) + "\n")
            rows.append(kept)
        yield name, rows


def why(n_sets: int) -> None:
    """Coverage of percentile intervals and of the intervals in use, where percentiles fail."""
    print("| simulated | metric | percentile | in use |\n|---|---|---|---|")
    for auc in (0.70, 0.85, 0.95):
        percentile, used = [], []
        for seed in track(range(n_sets), description=f"AUC {auc}", transient=True, console=Console(stderr=True)):
            rng = np.random.default_rng([seed, 1])
            label = np.arange(20) < 4
            score = rng.normal(size=20) + np.sqrt(2) * ndtri(auc) * label
            draws = bootstrap_draws(label, score, np.zeros(20, int), seed).overall["auc"]
            percentile.append(np.quantile(draws, 0.025) <= auc <= np.quantile(draws, 0.975))
            used.append(auc in auc_interval(roc_auc(label, score), 4, 16, draws, 0.95))
        print(f"| n+ = 4, n- = 16, AUC {auc:.2f} | AUC | {100 * np.mean(percentile):.1f} | {100 * np.mean(used):.1f} |")
    scenario = SCENARIOS[0]
    true, percentile, used = truth(scenario), [], []
    for seed in track(range(n_sets), description="ES-AUC", transient=True, console=Console(stderr=True)):
        label, a, _, group, _ = scenario.draw(np.random.default_rng([seed, 2]))
        draws = bootstrap_draws(label, a, group, seed).summary["es_auc"]
        low, high = np.nanquantile(draws, [0.025, 0.975])
        percentile.append(low <= true["es_auc"] <= high)
        report = FairnessReport.from_predictions(
            label, a, {"g": group}, threshold=None, n_resamples=RESAMPLES, n_permutations=0, seed=seed
        )
        used.append(true["es_auc"] in report["g"].intervals["es_auc_large_sample"])
    print(f"| {scenario.name} | ES-AUC, large sample | {100 * np.mean(percentile):.1f} | {100 * np.mean(used):.1f} |")


def bootstrap_draws(label: np.ndarray, score: np.ndarray, group: np.ndarray, seed: int) -> Draws:
    cohort = check_cohort(label, {"g": group})
    return bootstrap(cohort, [score], cohort.groupings, threshold=None, n_resamples=RESAMPLES, seed=seed)[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--keep", type=Path, default=None)
    parser.add_argument("--why", action="store_true", help="compare percentile intervals with the ones in use")
    arguments = parser.parse_args()
    if arguments.why:
        why(arguments.sets)
        return
    print(f"Share of {arguments.sets} simulated sets in %. Groups: AUC of each, smallest first.\n")
    print("| simulated | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for name, rows in simulate(arguments.sets, arguments.keep):
        shares = {
            column: f"{100 * np.mean([row[column] for row in rows if column in row]):.1f}"
            for column in dict.fromkeys(column for row in rows for column in row)
        }
        shares["AUC, groups"] = " / ".join(share for column, share in shares.items() if "groups of" in column)
        if "seeds and patients" in shares:
            print(f"\nB - A over {SEEDS} seeds, AUC: " + ", ".join(f"{k} {v}" for k, v in shares.items() if v))
        else:
            print(f"| {name} | " + " | ".join(shares.get(column, "") for column in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
