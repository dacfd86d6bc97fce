"""Precision and recall of the miner from verdicts, held against planted truth."""

from __future__ import annotations

import numpy as np
import pytest
from review_store_data import mined_rows
from scipy import optimize
from statsmodels.stats.proportion import proportion_confint

from fairvlm_core import InputError
from fairvlm_core.review import (
    ChainHead,
    Missing,
    PairVerdict,
    QueueSettings,
    VerdictSet,
    judged_frame,
    miner_quality,
    plan_queue,
    precision_table,
    verdict_counts,
)
from fairvlm_core.review.estimates import _ratio_limits, _Total


def verdicts_of(truth, items):
    """Verdicts of a reader who is always right: truth maps a pair id to bad or not."""
    verdicts = tuple(
        PairVerdict("d", item.pair_id, "wrong_note" if truth[item.pair_id] else "fits", "single", None, None, 1)
        for item in items
    )
    return VerdictSet(verdicts, ChainHead(1, "0" * 64))


def planted(seed=0, n=1000):
    """A miner with precision about 0.7 (higher for high z) that misses about 6 % of the rest."""
    rows = mined_rows(n, 150, 30, seed)
    rng = np.random.default_rng([seed, 1])
    chance = np.where(rows["kind"] == "clean", 0.06, np.clip(rows["z"].abs() / 6, 0, 1))
    truth = dict(zip(rows["pair_id"], rng.random(n) < chance, strict=True))
    bad = rows["pair_id"].map(truth).to_numpy(bool)
    flagged = (rows["kind"] != "clean").to_numpy()
    true_values = {
        "precision": bad[flagged].mean(),
        "recall": bad[flagged].sum() / bad.sum(),
        "missed": bad[~flagged].sum(),
    }
    return rows, truth, true_values


@pytest.fixture(scope="module")
def many_plans():
    """800 queues of one miner, most suspicious first."""
    rows = planted()[0]
    settings = {"size": 120, "control_share": 0.4, "second_share": 0}
    return [plan_queue(rows, QueueSettings(**settings, seed=seed)) for seed in range(800)]


@pytest.mark.parametrize("stop", [0.4, 1.0], ids=["stopped early", "read to the end"])
def test_estimates_are_unbiased_and_their_intervals_cover(stop, many_plans):
    """Wherever reading stops; the raw share of bad pairs read is far off."""
    _, truth, true_values = planted()
    found = {name: [] for name in true_values}
    covered = {name: [] for name in true_values}
    raw = []
    for plan in many_plans:
        read = plan.items[: round(stop * len(plan.items))]
        quality = miner_quality(plan.items, plan.population, verdicts_of(truth, read))
        for name in true_values:
            estimate = getattr(quality, name)
            if estimate.value is not None:
                found[name].append(estimate.value)
                covered[name].append(true_values[name] in estimate.interval)
        ordered = [truth[item.pair_id] for item in read if not item.control and item.stratum != "clean"]
        raw.append(np.mean(ordered))
    for name in ("precision", "missed"):
        assert len(found[name]) > 790
        error = np.std(found[name]) / np.sqrt(len(found[name]))
        assert abs(np.mean(found[name]) - true_values[name]) < 4 * error, name
    # A ratio of two unbiased values keeps a bias of second order, small beside its own spread.
    assert abs(np.mean(found["recall"]) - true_values["recall"]) < 0.35 * np.std(found["recall"])
    assert abs(np.mean(raw) - true_values["precision"]) > 0.1
    for name, hits in covered.items():
        assert np.mean(hits) > 0.93, (name, np.mean(hits))


def test_a_stratum_that_was_read_to_the_last_pair_is_known():
    rows, truth, true_values = planted(3, 400)
    plan = plan_queue(rows, QueueSettings(control_share=0.2, second_share=0))
    quality = miner_quality(plan.items, plan.population, verdicts_of(truth, plan.items))
    assert quality.precision.value == pytest.approx(true_values["precision"])
    assert quality.precision.interval.low == quality.precision.interval.high == quality.precision.value
    assert quality.precision.n == 180
    assert quality.recall.interval.low < true_values["recall"] < quality.recall.interval.high


def test_without_verdicts_every_estimate_says_what_is_missing():
    rows, truth, _ = planted(0, 400)
    plan = plan_queue(rows, QueueSettings())
    quality = miner_quality(plan.items, plan.population, verdicts_of(truth, ()))
    for estimate in (quality.precision, quality.recall, quality.missed, *quality.by_kind.values()):
        assert estimate.value is None
        assert estimate.interval is None
        assert estimate.missing in {Missing.NOT_JUDGED, Missing.NOT_BOTH_JUDGED}
        assert "judged" in estimate.message
    nothing = plan_queue(mined_rows(50, 0, 0), QueueSettings(order="random", kinds=("clean",), control_share=0.5))
    quality = miner_quality(nothing.items, nothing.population, verdicts_of(truth, ()))
    assert quality.precision.missing is Missing.NOT_FLAGGED


def test_unsure_verdicts_and_conflicts_are_left_out_and_counted():
    rows, truth, _ = planted(0, 400)
    plan = plan_queue(rows, QueueSettings(second_share=0))
    random = [item for item in plan.items if item.control]
    unsure = tuple(PairVerdict("d", i.pair_id, "unsure", "single", None, None, 1) for i in random[:3])
    conflict = (PairVerdict("d", random[3].pair_id, None, "conflict", None, None, 2),)
    verdicts = VerdictSet(verdicts_of(truth, random[4:]).verdicts + unsure + conflict, ChainHead(1, ""))
    quality = miner_quality(plan.items, plan.population, verdicts)
    assert quality.n_unsure == 4
    assert quality.recall.n == len(random) - 4


@pytest.mark.parametrize("seed", range(20))
def test_limits_of_a_ratio_solve_their_equations(seed):
    """Variance recovery: the limit R is where the interval of top - R * bottom ends at zero, found here by root search."""
    rng = np.random.default_rng(seed)
    top, bottom = (
        _Total(v, v * rng.uniform(0.2, 1), v * rng.uniform(1, 1.9), 10)
        for v in (rng.uniform(5, 50), rng.uniform(20, 99))
    )

    def below(ratio):
        return top.value - ratio * bottom.value - np.hypot(top.value - top.low, ratio * (bottom.high - bottom.value))

    def above(ratio):
        return top.value - ratio * bottom.value + np.hypot(top.high - top.value, ratio * (bottom.value - bottom.low))

    point = top.value / bottom.value
    low, high = _ratio_limits(top, bottom)
    assert low == pytest.approx(optimize.brentq(below, 0, point), rel=1e-9)
    assert high == pytest.approx(optimize.brentq(above, point, 1e4), rel=1e-9)


def test_precision_by_kind_and_group_with_wilsons_intervals():
    rows, truth, _ = planted()
    plan = plan_queue(rows, QueueSettings(size=100, second_share=0))
    table = precision_table(plan.items, verdicts_of(truth, plan.items))
    assert table["by"].tolist() == ["all", "kind", "kind", "race", "race", "race"]
    flagged = [item for item in plan.items if item.stratum != "clean"]
    for row in table.itertuples():
        own = [
            truth[item.pair_id] for item in flagged
            if row.by == "all" or row.group in (item.stratum, item.facts["groups"]["race"])
        ]  # fmt: skip
        assert (row.n, row.n_bad, row.n_unsure) == (len(own), sum(own), 0)
        low, high = proportion_confint(sum(own), len(own), method="wilson")
        assert (row.low, row.high) == pytest.approx((low, high), abs=1e-9)


def test_verdicts_by_group_add_up():
    rows, truth, _ = planted()
    plan = plan_queue(rows, QueueSettings(size=100, second_share=0))
    verdicts = verdicts_of(truth, plan.items[:70])
    overall, by_race = verdict_counts(plan.items, verdicts), verdict_counts(plan.items, verdicts, "race")
    assert overall["n"].tolist() == [70]
    assert by_race["n"].sum() == 70
    assert (
        by_race["wrong_note"].sum() == overall["wrong_note"].iloc[0] == sum(truth[i.pair_id] for i in plan.items[:70])
    )
    assert len(judged_frame(plan.items, verdicts)) == 70
    with pytest.raises(InputError, match="shoe"):
        verdict_counts(plan.items, verdicts, "shoe")
