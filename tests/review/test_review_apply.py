"""Verdicts in training: what they change, what they never change, and that the run says so."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fairvlm_core import InputError, RunConfig, RunStore, fit
from fairvlm_core.launch import create_run, execute, latest_state
from fairvlm_core.review import ChainHead, PairVerdict, VerdictSet, apply_verdicts, read_verdicts
from fairvlm_core.review.export import write_verdicts

HEAD = ChainHead(12, "a" * 64)


def verdict_set(table, *entries):
    """Entries: (pair_id, verdict, better pair, corrected label)."""
    verdicts = []
    for pair_id, verdict, *more in entries:
        better, label = (*more, None, None)[:2]
        standing = "conflict" if verdict is None else "single"
        verdicts.append(PairVerdict(table.fingerprint, pair_id, verdict, standing, better, label, 1))
    return VerdictSet(tuple(verdicts), HEAD)


def pairs_of(table, split):
    return table.frame.loc[table.frame["split"] == split, "pair_id"].astype(str).tolist()


def cells(table, pair_id):
    return table.frame.set_index("pair_id").loc[pair_id]


def test_each_verdict_has_its_effect_on_training_pairs(table):
    a, b, c, d, e, f, g, h = pairs_of(table, "train")[:8]
    applied = apply_verdicts(
        table,
        verdict_set(
            table, (a, "fits"), (b, "wrong_note"), (c, "wrong_note", d), (d, "wrong_label"), (e, "uninformative"),
            (f, "unusable_image"), (g, "unsure"), (h, None),
        ),
    )  # fmt: skip
    assert set(table.pair_ids) - set(applied.table.pair_ids) == {b, e, f}
    assert applied.trusted == {a, c}
    assert cells(applied.table, c)["text"] == cells(table, d)["text"] != cells(table, c)["text"]
    assert cells(applied.table, d)["label"] == 1 - cells(table, d)["label"]
    assert {k: v for k, v in applied.counts.items() if v} == {
        "trusted": 1, "repaired": 1, "left_out": 3, "relabelled": 1, "unsure": 1, "conflicts": 1,
    }  # fmt: skip
    assert applied.n_changes == 6
    untouched = [pair_id for pair_id in applied.table.pair_ids if pair_id not in {c, d}]
    same = [frame.set_index("pair_id").loc[untouched] for frame in (applied.table.frame, table.frame)]
    pd.testing.assert_frame_equal(*same)
    assert applied.table.frame.dtypes.equals(table.frame.dtypes)


def test_the_table_that_went_in_is_left_as_it_is(table):
    before, fingerprint = table.frame.copy(), table.fingerprint
    a, b = pairs_of(table, "train")[:2]
    apply_verdicts(table, verdict_set(table, (a, "wrong_note", b), (b, "wrong_label")))
    pd.testing.assert_frame_equal(table.frame, before)
    assert table.fingerprint == fingerprint


def test_the_test_split_is_never_changed_and_validation_keeps_its_pairs(table):
    test, val, train = pairs_of(table, "test"), pairs_of(table, "val"), pairs_of(table, "train")
    verdicts = ("fits", "wrong_note", "wrong_label", "uninformative", "unusable_image", "unsure")
    applied = apply_verdicts(
        table, verdict_set(table, *zip(test, verdicts, strict=False), *zip(val, verdicts, strict=False))
    )
    for split in ("train", "test"):
        pd.testing.assert_frame_equal(applied.table.only(split).frame, table.only(split).frame)
    assert pairs_of(applied.table, "val") == val
    changed = (applied.table.labels != table.labels).nonzero()[0]
    assert applied.table.pair_ids[changed].tolist() == [val[2]]
    assert applied.trusted == frozenset()
    assert (applied.counts["not_for_this_split"], applied.counts["relabelled"], applied.counts["unsure"]) == (9, 1, 2)
    leaked = apply_verdicts(table, verdict_set(table, (train[0], "wrong_note", test[0])))
    assert leaked.counts["left_out"] == 1, "a note of the test split never comes into training"
    assert train[0] not in leaked.table.pair_ids


def test_a_note_is_taken_as_it_was_before_any_repair(table):
    a, b = pairs_of(table, "train")[:2]
    applied = apply_verdicts(table, verdict_set(table, (a, "wrong_note", b), (b, "wrong_note", a)))
    assert cells(applied.table, a)["text"] == cells(table, b)["text"]
    assert cells(applied.table, b)["text"] == cells(table, a)["text"]


def test_a_label_that_is_already_right_stays(table):
    a = pairs_of(table, "train")[0]
    applied = apply_verdicts(table, verdict_set(table, (a, "wrong_label", None, int(cells(table, a)["label"]))))
    assert applied.counts["label_was_right"] == 1
    assert (applied.table.labels == table.labels).all()


def test_verdicts_on_other_data_do_not_count(table):
    a = pairs_of(table, "train")[0]
    own = verdict_set(table, (a, "fits"), ("ghost", "fits"))
    foreign = PairVerdict("f" * 64, a, "wrong_note", "single", None, None, 1)
    applied = apply_verdicts(table, VerdictSet((*own.verdicts, foreign), HEAD))
    assert (applied.counts["other_data"], applied.counts["unknown_pairs"], applied.trusted) == (1, 1, {a})
    with pytest.raises(InputError, match="other data"):
        apply_verdicts(table, VerdictSet((foreign,), HEAD))
    assert apply_verdicts(table, VerdictSet((), HEAD)).n_changes == 0


def test_trusted_pairs_keep_full_weight_whatever_their_loss(table, arrays):
    """Thresholds that flag many pairs; with every pair trusted nothing is turned down, with a few trusted a little less."""
    config = RunConfig.build(
        "dbpm", {"epochs": 3, "batch_size": 25, "mining.faulty_sd": 0.3, "mining.noisy_sd": 0.3, "fairness.weight": 0.1}
    )
    everyone = pairs_of(table, "train")
    weights = [
        fit(table, config, arrays=arrays, trusted=trusted).history[-1].mean_weight
        for trusted in (None, everyone[:30], everyone)
    ]
    assert weights[0] < weights[1] < weights[2]
    assert weights[2] == 1.0


def test_verdicts_survive_their_file(table, tmp_path):
    a, b, c = pairs_of(table, "train")[:3]
    verdicts = verdict_set(table, (a, "fits"), (b, "wrong_note", a), (c, "wrong_label", None, 1))
    write_verdicts(tmp_path / "verdicts.json", verdicts)
    assert read_verdicts(tmp_path / "verdicts.json") == verdicts


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "something else"},
        {"head": {"sequence": 1}},
        {"verdicts": [{"pair_id": "p"}]},
        {"verdicts": 5},
        {"verdict": "nonsense"},
        {"standing": "nonsense"},
        {"corrected_label": 7},
        {"twice": True},
    ],
)
def test_a_file_that_holds_no_verdicts_is_refused(table, tmp_path, change):
    path = tmp_path / "verdicts.json"
    write_verdicts(path, verdict_set(table, (pairs_of(table, "train")[0], "fits")))
    values = json.loads(path.read_text())
    if change.pop("twice", False):
        values["verdicts"] *= 2
    for key, value in change.items():
        (values if key in values else values["verdicts"][0])[key] = value
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"verdicts\.json"):
        read_verdicts(path)


def test_a_run_keeps_its_verdicts_and_resumes_with_them(table, tmp_path):
    """Stopped after one of two epochs and resumed, it equals the run that was not stopped."""
    a, b, c = pairs_of(table, "train")[:3]
    verdicts = verdict_set(table, (a, "fits"), (b, "wrong_note"), (c, "wrong_note", a))
    config = RunConfig.build("dbpm", {"epochs": 2, "batch_size": 33})
    store = RunStore(tmp_path)
    whole = create_run(table, config, store, read_options={}, verdicts=verdicts)
    execute(whole, table=table)
    stopped = create_run(table, config, store, read_options={}, verdicts=verdicts)

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    from fairvlm_core.launch import Hooks

    with pytest.raises(Stop):
        execute(stopped, table=table, hooks=Hooks(on_epoch=stop))
    assert latest_state(stopped).epoch == 1
    execute(stopped, resume=True)
    assert np.array_equal(stopped.ledger().losses, whole.ledger().losses)
    for run in (whole, stopped):
        assert run.data["verdicts"]["counts"]["left_out"] == 1
        assert run.data["verdicts"]["head"] == {"sequence": 12, "hash": "a" * 64}
        assert run.data["fingerprint"] == table.fingerprint, "of the data as they lie on the disk"
        assert run.data["n"]["train"] == len(pairs_of(table, "train")) - 1
        assert b not in set(run.pairs()["pair_id"])
        assert len(run.pairs()) == len(run.embeddings()["image"])
    text = (whole.path / "verdicts.json").read_text()
    assert "reviewer" not in text
    assert "comment" not in text
