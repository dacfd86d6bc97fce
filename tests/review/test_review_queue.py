"""Queues: what is in them, in which order, and that the random part is random."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from review_store_data import DATA, PLAIN, mined_rows

from fairvlm_core import InputError, RunConfig, RunStore
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.review import QueueSettings, plan_queue, queue_from_run


def ids(plan, control=None):
    return [item.pair_id for item in plan.items if control in (None, item.control)]


def test_most_suspicious_first():
    rows = mined_rows()
    by_z = rows[rows["kind"] != "clean"].assign(reach=lambda f: f["z"].abs()).sort_values("reach", ascending=False)
    assert ids(plan_queue(rows, PLAIN)) == by_z["pair_id"].tolist()
    assert ids(plan_queue(rows, QueueSettings(kinds=("noisy",), control_share=0, size=1))) == [
        rows.set_index("pair_id").query("kind == 'noisy'")["z"].idxmin()
    ]


def test_most_informative_first_is_nearest_to_either_threshold():
    rows = mined_rows()
    settings = QueueSettings(order="informative", control_share=0, second_share=0, size=8)
    plan = plan_queue(rows, settings, faulty_above=8.0, noisy_below=2.0)
    reach = np.minimum((rows["mean_loss"] - 8.0).abs(), (rows["mean_loss"] - 2.0).abs())
    assert ids(plan) == rows["pair_id"].iloc[np.argsort(reach)[:8]].tolist()
    one_sided = plan_queue(rows, settings, faulty_above=8.0)
    assert ids(one_sided) == rows["pair_id"].iloc[np.argsort((rows["mean_loss"] - 8.0).abs())[:8]].tolist()
    with pytest.raises(InputError, match="no thresholds"):
        plan_queue(rows, settings)


def test_where_the_miner_gives_a_posterior_informative_is_nearest_to_one_half():
    rows = mined_rows()
    chance = np.random.default_rng(1).permutation(len(rows)) / len(rows)
    plan = plan_queue(
        rows.assign(posterior=chance), QueueSettings(order="informative", control_share=0, second_share=0, size=8)
    )
    # The ranking of such a miner is on another scale than mean_loss: thresholds play no part.
    assert set(ids(plan)[:7]) == set(rows["pair_id"].iloc[np.argsort(np.abs(chance - 0.5))[:7]])
    assert plan.items[0].facts["posterior"] == 0.5
    assert "posterior" not in plan.items[0].facts["groups"]
    assert "posterior" not in plan_queue(rows.assign(posterior=np.nan), PLAIN).items[0].facts


def test_a_queue_of_a_run_whose_miner_gives_a_posterior_carries_it(lite, tmp_path):
    n = 200
    ledger = PairLossLedger([f"p{i:03d}" for i in range(n)], channels=("loss", "mismatch"))
    posterior = np.linspace(0, 1, n)
    ledger.record(0, np.arange(n), loss=np.ones(n) + 0.01 * np.arange(n), mismatch=posterior)
    ledger.close_epoch(0)
    pairs = pd.DataFrame({"pair_id": ledger.pair_ids, "patient_id": "someone", "split": "train", "race": "White"})
    mining = {"mining.rule": "mismatch", "mining.weights": "posterior", "mining.warmup": 0}
    data = {"fingerprint": DATA, "name": "made", "attributes": ["race"]}
    run = RunStore(tmp_path).create(RunConfig.build("robustfair", mining), data, pairs)
    run.write_parquet(run.files.ledger, ledger.to_wide_frame())
    settings = QueueSettings(order="informative", control_share=0, second_share=0, size=4)
    queue = queue_from_run(lite, run, settings, name="posterior", by="Ada")
    items = lite.items(queue.queue_id)
    assert {item.pair_id for item in items} == {"p098", "p099", "p100", "p101"}
    expected = dict(zip(ledger.pair_ids, posterior, strict=True))
    assert all(item.facts["posterior"] == pytest.approx(expected[item.pair_id], abs=1e-6) for item in items)


def test_flagged_pairs_come_before_others_however_well_those_fit():
    rows = mined_rows().assign(posterior=0.0)
    rows.loc[rows["kind"] == "clean", "z"] -= 10  # they fit very well
    every = QueueSettings(kinds=("faulty", "noisy", "clean"), control_share=0, second_share=0)
    plan = plan_queue(rows, every)
    assert [item.stratum for item in plan.items[12:]] == ["clean"] * 28
    z = [item.facts["z"] for item in plan.items[12:]]
    assert z == sorted(z, reverse=True)


def test_balanced_takes_groups_in_turn():
    rows = mined_rows(200, 60, 0)
    plan = plan_queue(rows, QueueSettings(order="balanced", balance_by="race", control_share=0, second_share=0))
    race = [item.facts["groups"]["race"] for item in plan.items]
    n = min(race.count(group) for group in set(race))
    assert n >= 3
    for turn in range(n):
        assert sorted(race[3 * turn : 3 * turn + 3]) == ["Asian", "Black", "White"]
    for group in set(race):
        own = [item.facts["z"] for item in plan.items if item.facts["groups"]["race"] == group]
        assert own == sorted(own, key=abs, reverse=True)


def test_a_selection_keeps_its_order_and_may_hold_clean_pairs():
    rows = mined_rows()
    chosen = tuple(rows["pair_id"].iloc[[30, 2, 17]])
    settings = QueueSettings(order="given", pair_ids=(*chosen, chosen[0]), control_share=0, second_share=0)
    assert ids(plan_queue(rows, settings)) == list(chosen)
    with pytest.raises(InputError, match="'ghost' is not among"):
        plan_queue(rows, QueueSettings(order="given", pair_ids=("ghost",)))


def test_filters_hold_for_the_controls_too_and_for_the_population():
    rows = mined_rows(300, 60, 10)
    plan = plan_queue(rows, QueueSettings(where={"race": ("Black", "Asian")}, control_share=0.4))
    assert {item.facts["groups"]["race"] for item in plan.items} == {"Black", "Asian"}
    kept = rows[rows["race"] != "White"]["kind"].value_counts().to_dict()
    assert dict(plan.population) == {kind: kept.get(kind, 0) for kind in ("faulty", "noisy", "clean")}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("size", [None, 60])
def test_the_share_of_unflagged_controls_is_what_was_asked_for(share, size):
    plan = plan_queue(mined_rows(2000, 200, 30), QueueSettings(control_share=share, size=size))
    n_clean = sum(item.stratum == "clean" for item in plan.items)
    assert n_clean / len(plan.items) == pytest.approx(share, abs=0.01)
    assert all(item.control for item in plan.items if item.stratum == "clean")
    n_random_flagged = sum(item.control and item.stratum != "clean" for item in plan.items)
    n_flagged = len(plan.items) - n_clean
    assert n_random_flagged == min(n_clean, n_flagged)
    assert len(set(ids(plan))) == len(plan.items)
    if size is not None:
        assert len(plan.items) == size
    else:
        assert {item.pair_id for item in plan.items if item.stratum != "clean"} == set(
            mined_rows(2000, 200, 30).query("kind != 'clean'")["pair_id"]
        )


def test_controls_stand_anywhere_and_every_pair_has_the_same_chance():
    """Over 600 seeds: mean position in the middle, and each stratum's pairs drawn equally often (chi-squared)."""
    rows = mined_rows(60, 20, 0)
    place, count = [], pd.Series(0, index=rows["pair_id"])
    for seed in range(600):
        plan = plan_queue(rows, QueueSettings(control_share=0.25, size=20, seed=seed))
        place += [item.position for item in plan.items if item.control]
        count[[item.pair_id for item in plan.items if item.control]] += 1
    assert np.mean(place) == pytest.approx(9.5, abs=4 * np.std(place) / np.sqrt(len(place)))
    for kind in ("faulty", "clean"):
        drawn = count[rows.loc[rows["kind"] == kind, "pair_id"]]
        expected = drawn.mean()
        # Without replacement counts vary less than binomially: the statistic is at most chi-squared with n - 1 degrees.
        assert ((drawn - expected) ** 2 / expected).sum() < 1.6 * len(drawn)


def test_the_share_of_second_readers_and_the_seed_decide_the_rest():
    rows = mined_rows(400, 100, 0)
    settings = QueueSettings(second_share=0.25, seed=4)
    plan = plan_queue(rows, settings)
    assert sum(item.readers == 2 for item in plan.items) == round(0.25 * len(plan.items))
    assert plan_queue(rows, settings) == plan
    assert ids(plan_queue(rows, QueueSettings(second_share=0.25, seed=5))) != ids(plan)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"order": "nonsense"}, "order"),
        ({"order": "balanced"}, "balance_by"),
        ({"order": "given"}, "selection"),
        ({"kinds": ("bad",)}, "kinds"),
        ({"control_share": 1.0}, "control_share"),
        ({"second_share": -0.1}, "second_share"),
        ({"control_share": float("nan")}, "control_share"),
        ({"size": 0}, "size"),
        ({"lease_seconds": 1}, "lease_seconds"),
    ],
)
def test_settings_are_checked(fields, words):
    with pytest.raises(InputError, match=words):
        QueueSettings(**fields)


@pytest.mark.parametrize(
    ("rows", "settings", "words"),
    [
        (mined_rows().drop(columns="z"), PLAIN, "no column 'z'"),
        (mined_rows(), QueueSettings(where={"shoe": ("42",)}), "'shoe'"),
        (mined_rows(), QueueSettings(where={"race": ("Martian",)}), "no pair is left"),
        (mined_rows(20, 0, 0), PLAIN, "no pair is left"),
        (mined_rows(), QueueSettings(order="balanced", balance_by="shoe"), "'shoe'"),
    ],
)
def test_a_queue_that_cannot_be_made_says_why(rows, settings, words):
    with pytest.raises(InputError, match=words):
        plan_queue(rows, settings)


def test_a_pair_that_was_never_seen_has_no_numbers_and_comes_last():
    rows = mined_rows()
    rows.loc[rows["kind"] == "noisy", ["z", "mean_loss"]] = np.nan
    plan = plan_queue(rows, PLAIN)
    assert [item.facts["z"] for item in plan.items[-2:]] == [None, None]
