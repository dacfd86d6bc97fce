"""PairLossLedger: keyed by pair, complete by epoch, restored bit for bit."""

from __future__ import annotations

import io
import resource

import numpy as np
import pandas as pd
import pytest
import torch

from fairvlm_core import ledger as ledger_module
from fairvlm_core.errors import InputError
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import mine_bad_pairs

IDS = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True, params=[False, True], ids=["in memory", "in files"])
def in_files(request, monkeypatch, tmp_path) -> bool:
    """Everything below holds for small ledgers and for large ones, whose further channels lie in files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ledger_module.tempfile, "tempdir", None)
    if request.param:
        monkeypatch.setattr(ledger_module, "_IN_FILE", 0)
    return request.param


def filled(epochs: int = 3, n: int = 50, seed: int = 0) -> tuple[PairLossLedger, np.ndarray]:
    """A ledger recorded in shuffled batches, and the values it should hold."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2, 1, (epochs, n)).astype(np.float32)
    ledger = PairLossLedger([f"p{i}" for i in range(n)], channels=("loss", "similarity"))
    for epoch in range(epochs):
        order = rng.permutation(n)
        for start in range(0, n, 16):
            rows = order[start : start + 16]
            ledger.record(epoch, rows, loss=truth[epoch, rows], similarity=-truth[epoch, rows])
        ledger.close_epoch(epoch)
    return ledger, truth


def test_shuffled_batches_end_up_with_their_pairs():
    ledger, truth = filled()
    np.testing.assert_array_equal(ledger.losses, truth)
    np.testing.assert_array_equal(ledger.channel("similarity"), -truth)
    np.testing.assert_array_equal(ledger.trajectory("p7"), truth[:, 7])
    assert (ledger.n_epochs, len(ledger), ledger.losses.dtype) == (3, 50, np.float32)


def test_tensors_ids_and_half_precision_are_taken():
    ledger = PairLossLedger(IDS)
    live = torch.tensor([1.0, 2.0], requires_grad=True)
    ledger.record(0, torch.tensor([0, 1]), loss=live)
    ledger.record(0, ledger.rows_of(["d", "c"]), loss=torch.tensor([4.0, 3.0], dtype=torch.bfloat16))
    np.testing.assert_array_equal(ledger.losses, [[1, 2, 3, 4]])


def test_unseen_is_nan_until_recorded():
    ledger = PairLossLedger(IDS)
    ledger.record(0, [2], loss=[5.0])
    np.testing.assert_array_equal(ledger.losses[0], [np.nan, np.nan, 5.0, np.nan])
    with pytest.raises(InputError, match="loss of 3 of 4 pairs was not recorded: a, b, d"):
        ledger.close_epoch(0)
    assert not ledger.is_closed(0)


def test_a_channel_may_be_missing_but_not_half():
    ledger = PairLossLedger(IDS, channels=("loss", "margin"))
    ledger.record(0, [0, 1, 2, 3], loss=[1, 2, 3, 4])
    ledger.close_epoch(0)
    ledger.record(1, [0, 1, 2, 3], loss=[1, 2, 3, 4])
    ledger.record(1, [0], margin=[1.0])
    with pytest.raises(InputError, match="margin of 3 of 4"):
        ledger.close_epoch(1)
    ledger.record(1, [1, 2, 3], margin=[1.0, 2.0, 3.0])
    ledger.close_epoch(1)
    assert np.isnan(ledger.channel("margin")[0]).all()


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        ([0, 0], {"loss": [1.0, 1.0]}, "rows name a pair twice: a"),
        ([4], {"loss": [1.0]}, "rows out of range: 4"),
        ([-1], {"loss": [1.0]}, "rows out of range: -1"),
        ([0.5], {"loss": [1.0]}, "rows must be whole numbers"),
        ([0, 1], {"loss": [1.0, np.nan]}, "loss is not finite for pairs b"),
        ([0], {"loss": [np.inf]}, "loss is not finite for pairs a"),
        ([0], {"loss": [1e39]}, "loss is not finite for pairs a"),
        ([0, 1], {"loss": [1.0]}, "loss must be one number a row"),
        ([0], {"los": [1.0]}, "channel 'los' is not in the ledger"),
        ([0], {}, "no values given"),
    ],
)
def test_bad_records_are_refused_and_leave_nothing(rows, values, message):
    ledger = PairLossLedger(IDS)
    with pytest.raises(InputError, match=message) as caught:
        ledger.record(0, rows, **values)
    assert "\n" not in str(caught.value)
    assert ledger.n_epochs == 0


def test_a_pair_twice_in_an_epoch_is_refused():
    ledger = PairLossLedger(IDS)
    ledger.record(0, [0, 1], loss=[1, 2])
    with pytest.raises(InputError, match="loss of b is recorded already"):
        ledger.record(0, [1, 2], loss=[9, 9])
    np.testing.assert_array_equal(ledger.losses[0], [1, 2, np.nan, np.nan])


def test_errors_name_at_most_five_pairs():
    ledger = PairLossLedger([f"p{i}" for i in range(20)])
    with pytest.raises(InputError, match="p0, p1, p2, p3, p4 and 15 more"):
        ledger.record(0, np.arange(20), loss=np.full(20, np.nan))


def test_epochs_follow_each_other():
    ledger = PairLossLedger(IDS)
    with pytest.raises(InputError, match="epoch: 1 is out of order; the next one is 0"):
        ledger.record(1, [0], loss=[1])
    ledger.record(0, range(4), loss=[1, 2, 3, 4])
    ledger.close_epoch(0)
    with pytest.raises(InputError, match="is closed"):
        ledger.record(0, [0], loss=[1])
    with pytest.raises(InputError, match="nothing was recorded"):
        ledger.close_epoch(1)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "one id or more"),
        (["a", "a"], "not unique: a"),
        (["a", " "], "row 1 is blank"),
        (["a", None], "row 1 has no id"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(InputError, match=message):
        PairLossLedger(ids)


@pytest.mark.parametrize("channels", [(), ("loss", "loss"), ("a b",), ("epoch",)])
def test_bad_channels(channels):
    with pytest.raises(InputError, match="channels"):
        PairLossLedger(IDS, channels=channels)


def test_unknown_ids_are_named():
    with pytest.raises(InputError, match="not in the ledger: x, y"):
        PairLossLedger(IDS).rows_of(["a", "x", "y"])


def test_history_is_the_weighted_mean_of_the_epochs_seen():
    ledger, truth = filled(4)
    values = truth.astype(float)
    np.testing.assert_allclose(ledger.history(), values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(ledger.history(before=2), values[:2].mean(0), rtol=1e-12)
    weights = np.array([1, 2, 3, 4])
    np.testing.assert_allclose(ledger.history(kind="recency"), weights @ values / 10, rtol=1e-12)
    np.testing.assert_allclose(ledger.history("similarity"), -values.mean(0), rtol=1e-12)
    assert np.isnan(ledger.history(before=0)).all()


def test_history_leaves_unseen_epochs_out():
    ledger = PairLossLedger.from_values([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    np.testing.assert_allclose(ledger.history(kind="recency"), [7 / 3, 2.0, np.nan])


def test_history_is_kept_until_something_is_recorded():
    ledger, _ = filled()
    first = ledger.history()
    assert ledger.history() is first
    ledger.record(3, [0], loss=[100.0])
    assert ledger.history()[0] > first[0]
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


@pytest.mark.parametrize(("before", "kind"), [(-1, "mean"), (1.5, "mean"), (None, "median")])
def test_bad_history(before, kind):
    with pytest.raises(InputError):
        filled()[0].history(before=before, kind=kind)


def test_state_is_restored_bit_for_bit_and_goes_on():
    ledger, _ = filled()
    ledger.record(3, [1], loss=[0.1])
    state = ledger.state_dict()
    ledger.record(3, [2], loss=[0.2])  # the state is a copy
    buffer = io.BytesIO()
    arrays = {f"values.{k}": v for k, v in state["values"].items()} | {"closed": state["closed"]}
    np.savez(buffer, pair_ids=state["pair_ids"], **arrays)  # plain arrays: no pickle needed
    buffer.seek(0)
    read = np.load(buffer, allow_pickle=False)
    restored = PairLossLedger.from_state_dict(
        state | {"closed": read["closed"], "values": {k: read[f"values.{k}"] for k in state["values"]}}
    )
    assert restored.losses[:3].tobytes() == ledger.losses[:3].tobytes()
    assert np.isnan(restored.losses[3, 2])
    assert [restored.is_closed(e) for e in range(4)] == [True, True, True, False]
    rest = [i for i in range(50) if i != 1]
    restored.record(3, rest, loss=np.ones(49))
    restored.close_epoch(3)


def test_bad_state():
    state = filled()[0].state_dict()
    with pytest.raises(InputError, match="lacks values"):
        PairLossLedger.from_state_dict({k: v for k, v in state.items() if k != "values"})
    with pytest.raises(InputError, match="newer"):
        PairLossLedger.from_state_dict(state | {"schema": 99})


def test_wide_frame_round_trip(tmp_path):
    ledger, _ = filled()
    path = tmp_path / "ledger.parquet"
    ledger.to_wide_frame().to_parquet(path)
    read = PairLossLedger.from_frame(pd.read_parquet(path))
    assert read.losses.tobytes() == ledger.losses.tobytes()
    assert read.channels == ledger.channels
    assert list(read.pair_ids) == list(ledger.pair_ids)
    assert read.is_closed(2)


def test_empty_ledger_round_trip():
    ledger = PairLossLedger.from_frame(PairLossLedger(IDS).to_wide_frame())
    assert (ledger.n_epochs, ledger.losses.shape) == (0, (0, 4))


def test_long_frame():
    frame = filled(2, 5)[0].to_frame()
    assert list(frame.columns) == ["pair_id", "epoch", "loss", "similarity"]
    assert len(frame) == 10
    assert (frame["loss"] == -frame["similarity"]).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"]}, "no column pair_id"),
        ({"pair_id": ["a"], "loss": [1.0]}, "not named <channel>_<epoch>"),
        ({"pair_id": ["a"], "loss_1": [1.0]}, "loss_0 is missing"),
    ],
)
def test_bad_frame(columns, message):
    with pytest.raises(InputError, match=message):
        PairLossLedger.from_frame(pd.DataFrame(columns))


def test_memory_stays_near_what_is_held():
    ledger = PairLossLedger(range(1000))
    for epoch in range(20):
        ledger.record(epoch, np.arange(1000), loss=np.ones(1000))
        ledger.close_epoch(epoch)
    held = ledger.losses.base.nbytes
    assert held <= 1.3 * 20 * 1000 * 4


def test_only_the_first_channel_of_a_large_ledger_is_held(in_files, tmp_path):
    ledger, _ = filled(20, 1000)
    values = 20 * 1000 * 4
    assert ledger.nbytes >= ledger.pair_ids.nbytes + values * (1 if in_files else 2)
    assert ledger.nbytes <= ledger.pair_ids.nbytes + 1.3 * values * (1 if in_files else 2)
    before = ledger.nbytes
    ledger.history("similarity")
    assert ledger.nbytes == before + 1000 * 8
    assert not list(tmp_path.iterdir()), "the files have no names"


RULES = [
    {"rule": "mismatch", "weights": "posterior"},
    {"channel": "margin", "faulty_sd": 1.5},
    {"channel": "margin", "history": "recency", "spread": "mad"},
    {"rule": "mixture", "before": 2},
]


@pytest.mark.parametrize("settings", RULES, ids=str)
def test_a_large_ledger_is_mined_and_resumed_to_the_same_bits(settings, monkeypatch):
    def recorded(rows, limit):
        monkeypatch.setattr(ledger_module, "_IN_FILE", limit)
        ledger = PairLossLedger(np.arange(300), ("loss", "margin", "disagreement", "mismatch"))
        rng = np.random.default_rng(4)
        for epoch in range(5):
            truth = {name: rng.gamma(2, 1, 300).astype(np.float32) for name in ("loss", "margin", "disagreement")}
            truth["mismatch"] = rng.random(300).astype(np.float32)
            truth["loss"][:20] += 9  # for the mixture
            ledger.record(epoch, rows, **{name: line[rows] for name, line in truth.items()})
            if epoch == 2:  # stop, and go on from what was stored
                ledger = PairLossLedger.from_state_dict(ledger.state_dict())
        return ledger

    in_memory, in_files = (recorded(np.arange(300), limit) for limit in (2**20, 0))
    read = PairLossLedger.from_frame(in_files.to_wide_frame())
    one = mine_bad_pairs(in_memory, **settings)
    assert 0 < sum(one.n_flagged.values()) < 300
    for ledger in (in_files, read):
        for name in in_memory.channels:
            assert ledger.channel(name).tobytes() == in_memory.channel(name).tobytes()
        other = mine_bad_pairs(ledger, **settings)
        assert (other.n_flagged, other.mu, other.sigma) == (one.n_flagged, one.mu, one.sigma)
        for part in ("mean_loss", "z", "weight", "posterior"):
            assert getattr(other, part).tobytes() == getattr(one, part).tobytes()


def test_a_full_disk_leaves_the_values_in_memory():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ledger, truth = filled(2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # bytes: two lines of 50 pairs
    try:
        for epoch in range(2, 5):
            ledger.record(epoch, np.arange(50), loss=truth[0], similarity=truth[0] + epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    expected = np.stack([-truth[0], -truth[1], *(truth[0] + epoch for epoch in range(2, 5))])
    assert ledger.channel("similarity").tobytes() == expected.tobytes()
    assert ledger.nbytes >= ledger.pair_ids.nbytes + 2 * 5 * 50 * 4


def test_where_no_file_can_be_made_the_values_stay_in_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr(ledger_module.tempfile, "tempdir", str(tmp_path / "missing"))
    ledger, truth = filled()
    assert ledger.channel("similarity").tobytes() == (-truth).tobytes()
    assert ledger.nbytes >= ledger.pair_ids.nbytes + 2 * truth.nbytes
