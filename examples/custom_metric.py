"""A fairness metric of your own, in a report and in a comparison of two models.

    python examples/custom_metric.py                        on made-up predictions

The file is also a plugin. With it, commands know `brier`, `brier_gap`, `precision` and `precision_gap`:

    export FAIRVLM_PLUGINS=examples/custom_metric.py
    fairvlm metrics predictions.csv --attributes race
    fairvlm compare 1 2 --metric brier_gap
"""

from __future__ import annotations

import numpy as np

from fairvlm_core.fairness import FairnessReport, compare_paired, metric


@metric("brier", better="lower", title="Brier score")
def brier(label: np.ndarray, score: np.ndarray) -> float:
    """Mean squared difference of score and label."""
    return np.mean((score - label) ** 2)


@metric("precision", decision=True)  # called with predictions (score >= threshold) in place of scores
def precision(label: np.ndarray, predicted: np.ndarray) -> float:
    """Share of positive predictions that are right; NaN, undefined, without positive predictions."""
    return label[predicted].mean() if predicted.any() else float("nan")


def main() -> None:
    rng = np.random.default_rng(0)
    label, site = rng.integers(0, 2, 600), rng.choice(["A", "B"], 600)
    noise = np.where(site == "A", 0.5, 1.5)  # model a is worse at site B
    a, b = (1 / (1 + np.exp(-(4 * (label - 0.5) + spread * rng.normal(size=600)))) for spread in (3 * noise, 1.0))
    report = FairnessReport.from_predictions(
        label, a, {"site": site}, metrics=["brier", "precision"], n_resamples=500, n_permutations=500
    )
    for name, group in report["site"].groups.items():
        print(
            f"site {name}: Brier score {group.own['brier']:.3f} (95 % interval {group.intervals['brier']}, n = {group.n})"
        )
    chance = report["site"].chance["brier_gap"]
    print(f"gap {report['site'].own['brier_gap']:.3f}; by chance {chance.expected:.3f}, p = {chance.p_value:.3f}")
    difference = compare_paired(label, a, b, {"site": site}, metric="brier_gap", n_resamples=500)["site"]
    print(f"gap of model b minus gap of model a: {difference.verdict}")


if __name__ == "__main__":
    main()
