"""The benchmark in a small form: it runs, and what it showed still holds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import planted

SMALL = (700, 150, 300)


@pytest.fixture(scope="module")
def heavy():
    rows = ["clip", "repaired", "robustfair-plus"]
    return {record["row"]: record for record in planted.run_setting("heavy", 0, rows, SMALL, epochs=2)}


@pytest.mark.slow
def test_rankings_stand_between_chance_and_the_ceiling(heavy):
    chance = 0.23
    assert chance + 0.1 < heavy["clip"]["ap_loss"] < heavy["repaired"]["ap"]
    assert heavy["robustfair-plus"]["ap"] > heavy["clip"]["ap_lemon_tuned"]


@pytest.mark.slow
def test_robustfair_plus_wins_back_what_noise_takes(heavy):
    assert heavy["clip"]["auc"] < heavy["robustfair-plus"]["auc"] < heavy["repaired"]["auc"] + 0.02


@pytest.mark.slow
def test_clean_data_are_left_alone():
    (record,) = planted.run_setting("none", 1, ["robustfair-plus"], SMALL, epochs=2)
    assert sum(record["flagged"].values()) < 0.02


@pytest.mark.slow
def test_the_tables_hold_every_row_and_the_share_won_back(heavy):
    records = [dict(record, seed=seed) for record in heavy.values() for seed in (0, 1)]
    text = planted.tables(records)
    assert "### heavy" in text
    assert "| heavy | `robustfair-plus` |" in text
    assert all(f"| `{row}`" in text for row in heavy)


def test_a_row_may_change_settings_of_a_preset():
    row = "dbpm+mining.rule=mixture+mining.weights=posterior"
    records = list(planted.run_setting("heavy", 0, ["clip", row], (120, 40, 60), epochs=2))
    assert 0 < records[1]["ap"] <= 1
    assert len(records[0]["test_by_epoch"]) == 2
    assert f"| `{row}` | 1 |" in planted.tables(records)
    assert planted.config_of(row, {"seed": 3}).mining.rule == "mixture"


def test_a_record_holds_what_the_run_reports():
    """The test AUC of the chosen epoch is that of the run, and the ceiling has no planted notes left to find."""
    clip, repaired = planted.run_setting("device-even", 0, ["clip", "repaired"], (150, 60, 80), epochs=2)
    assert clip["test_by_epoch"][clip["chosen"] - 1] == pytest.approx(clip["auc"], abs=1e-9)
    assert set(clip["es"]) == {"race", "gender", "ethnicity", "language"}
    assert clip["attribute"] == "race"
    assert "precision" in clip
    assert "precision" not in repaired


def test_relative_gains_are_ratios_of_means():
    records = [
        {"setting": "even", "seed": seed, "row": row, "attribute": "race", "es": {"race": value}, "auc": value}
        for row, values in (("clip", (0.5, 0.6)), ("robustfair-plus", (0.6, 0.72)))
        for seed, value in enumerate(values)
    ]
    assert planted._relative(planted.Runs(records), "even", "robustfair-plus").startswith("+20.0 [")


def test_fieller_covers_a_known_ratio():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        bottom = 1 + 0.2 * rng.normal(size=5)
        top = 0.8 * bottom + 0.1 * rng.normal(size=5)
        _, low, high = planted.ratio_interval(top, bottom)
        hits += low <= 0.8 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_fieller_without_a_difference_below_says_nothing():
    _, low, high = planted.ratio_interval(np.array([0.1, 0.2, 0.1]), np.array([1.0, -1.0, 0.1]))
    assert (low, high) == (-np.inf, np.inf)
