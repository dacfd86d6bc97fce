"""The benchmark on planted pairs in a small form: it runs, and what it showed still holds."""

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
    assert heavy["robustfair-plus"]["ap_loss"] > heavy["clip"]["ap_loss"]


@pytest.mark.slow
def test_robustfair_plus_wins_back_what_noise_takes(heavy):
    assert heavy["clip"]["auc"] < heavy["robustfair-plus"]["auc"] < heavy["repaired"]["auc"] + 0.02


@pytest.mark.slow
def test_clean_data_are_left_alone():
    (record,) = planted.run_setting("none", 1, ["robustfair-plus"], SMALL, epochs=2)
    assert record["flagged"] < 0.02


@pytest.mark.slow
def test_the_tables_hold_every_row_and_the_share_won_back(heavy):
    records = [dict(record, seed=seed) for record in heavy.values() for seed in (0, 1)]
    text = planted.tables(records)
    assert "### heavy" in text
    assert all(f"| `{row}`" in text for row in heavy)


def test_a_row_may_change_settings_of_a_preset():
    row = "dbpm+mining.rule=mixture+mining.weights=posterior"
    records = list(planted.run_setting("heavy", 0, ["clip", row], (120, 40, 60), epochs=2))
    assert 0 < records[1]["ap"] <= 1
    assert f"| `{row}` | 1 |" in planted.tables(records)
    assert planted.config_of(row, {"seed": 3}).mining.rule == "mixture"


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


@pytest.mark.slow
@pytest.mark.skipif(not planted.CXR.is_dir(), reason="the public chest X-ray sample is not beside the checkout")
def test_notes_of_real_x_rays_change_places_in_training_only():
    swapped, left_out = planted.run_cxr(planted.CXR, "cxr", 0, ["clip", "left-out"])
    assert swapped["share"] == pytest.approx(0.15, abs=0.02)
    assert swapped["ap_loss"] >= 0.5 * swapped["share"]
    assert "ap" not in left_out
