"""Loss & Sinkhorn: what is counted, what is said, and the page in every state of a workspace."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from recipes import add_run, set_running, words_of
from recorded import EPOCHS, planted_losses, record
from scipy import stats

from fairvlm_core.analysis import divergences
from fairvlm_core.analysis import loss_distributions as distributions
from fairvlm_core.analysis.entries import RunEntry
from fairvlm_core.errors import InputError
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.runs import RunStore
from ui import losses, losses_charts, sinkhorn, sinkhorn_charts

PAGE = "4_Loss_and_Sinkhorn.py"
TABS = ("Distributions", "Quantiles", "Distance and fairness")


def made(values: np.ndarray, groups: list[str]) -> distributions.History:
    return distributions.History(
        np.asarray(values, np.float32), tuple(range(1, len(values) + 1)), {"site": np.array(groups)}
    )  # fmt: skip


# What is counted


def test_a_history_follows_pair_ids_not_places() -> None:
    ledger = PairLossLedger.from_values([[1.0, 2.0, 3.0]], ["c", "a", "b"])
    pairs = pd.DataFrame(
        {"pair_id": ["a", "b", "x", "c"], "split": ["train", "train", "test", "train"], "site": ["A", "B", "X", "C"]}
    )
    kept = distributions.history(ledger, pairs, ["site"], "loss")
    assert dict(zip(kept.groups["site"], kept.values[0].tolist(), strict=True)) == {"C": 1.0, "A": 2.0, "B": 3.0}
    with pytest.raises(InputError, match="similarity"):
        distributions.history(ledger, pairs, ["site"], "similarity")


def test_an_open_epoch_is_not_shown() -> None:
    ledger = PairLossLedger.from_values([[1.0, 2.0], [3.0, np.nan]], ["a", "b"])
    pairs = pd.DataFrame({"pair_id": ["a", "b"], "split": "train", "site": ["A", "B"]})
    assert distributions.history(ledger, pairs, ["site"], "loss").epochs == (1,)


def test_densities_are_those_of_the_planted_distributions() -> None:
    rng = np.random.default_rng(1)
    groups = ["A"] * 3000 + ["B"] * 3000
    values = np.concatenate([rng.normal(0, 1, 3000), rng.normal(4, 0.5, 3000)])
    found = distributions.distributions(made(values[None], groups), "site")
    step = found.grid[1] - found.grid[0]
    everyone, a, b = found.rows
    assert [row.group for row in found.rows] == ["", "A", "B"]
    assert [row.n for row in found.rows] == [6000, 3000, 3000]
    for row, law in ((a, stats.norm(0, 1)), (b, stats.norm(4, 0.5))):
        assert row.density.sum() * step == pytest.approx(1.0, abs=1e-4)
        assert np.abs(row.density[0] - law.pdf(found.grid)).max() < 0.06
    mixture = (a.density[0] + b.density[0]) / 2
    assert np.abs(everyone.density[0] - mixture).sum() * step < 0.15  # two humps under one kernel are a little smoother
    assert found.outside < 0.02


def test_a_small_group_is_shown_by_its_pairs() -> None:
    values = np.arange(40, dtype=float)[None]
    found = distributions.distributions(made(values, ["A"] * 31 + ["B"] * 9), "site")
    _, a, b = found.rows
    assert a.points is None
    assert b.density is None
    assert b.points.tolist() == [list(range(31, 40))]
    assert b.median.tolist() == [35.0]
    chart = losses_charts.distribution_chart(found, 1, "Loss")
    drawn = [trace for trace in chart.data if trace.mode == "markers"]
    assert [list(trace.x) for trace in drawn] == [list(range(31, 40))]


def test_identical_values_are_drawn() -> None:
    found = distributions.distributions(made(np.full((2, 30), 1.5), ["A"] * 15 + ["B"] * 15), "site")
    assert all(np.isfinite(row.density).all() for row in found.rows)
    assert all(
        s.wasserstein == 0 for s in distributions.quantile_shifts(made(np.full((1, 30), 1.5), ["A"] * 30), "site", 1)
    )


def test_a_frame_an_epoch_with_every_trace() -> None:
    rng = np.random.default_rng(2)
    found = distributions.distributions(made(rng.normal(size=(4, 60)), ["<b>A</b>"] * 30 + ["$x$"] * 30), "site")
    chart = losses_charts.distribution_chart(found, 3, "Loss")
    assert [frame.name for frame in chart.frames] == ["e1", "e2", "e3", "e4"]
    assert {len(frame.data) for frame in chart.frames} == {len(chart.data)}
    assert chart.layout.sliders[0].active == 2
    for first, own in zip(chart.data, chart.frames[2].data, strict=True):
        assert list(first.x) == list(own.x)
        assert list(first.y) == list(own.y)
    assert not any("<b>A</b>" in text or "$" in text for text in chart.layout.yaxis.ticktext)


def test_quantile_differences_agree_with_numpy_and_scipy() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 1, 4000), rng.normal(1, 2, 1000)])
    groups = ["A"] * 4000 + ["B"] * 1000
    shifts = {s.group: s for s in distributions.quantile_shifts(made(values[None], groups), "site", 1)}
    for name, own in (("A", values[:4000]), ("B", values[4000:])):
        exact = np.quantile(own, distributions.PROBABILITIES) - np.quantile(values, distributions.PROBABILITIES)
        found = shifts[name]
        assert found.shift == pytest.approx(exact, abs=0.03)
        assert found.wasserstein == pytest.approx(stats.wasserstein_distance(own, values), rel=0.02)
        assert (found.low <= found.shift + 0.02).all()
        assert (found.shift <= found.high + 0.02).all()
    assert "Farthest from everyone: B (n = 1,000); its median loss is" in losses.farthest(list(shifts.values()), "loss")


def test_bootstrap_bands_cover_zero_where_groups_are_alike() -> None:
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(40):
        kept = made(rng.normal(size=(1, 300)), ["A"] * 100 + ["B"] * 200)
        one = distributions.quantile_shifts(kept, "site", 1, n_resamples=200)[0]
        middle = len(distributions.PROBABILITIES) // 2
        inside.append(one.low[middle] <= 0 <= one.high[middle])
    assert 0.85 <= np.mean(inside) <= 1.0


def test_groups_that_are_too_small_say_so() -> None:
    shifts = distributions.quantile_shifts(made(np.arange(14.0)[None], ["A"] * 7 + ["B"] * 7), "site", 1)
    assert losses.shift_table(shifts, {}, "loss")["Median minus everyone's"].tolist() == ["n < 10: not shown"] * 2
    assert losses.farthest(shifts, "loss").startswith("Every group has fewer than 10 pairs")


# The divergence, and what it says


def entry(number: int, seed: int) -> RunEntry:
    return RunEntry(f"{number:04d}-x-s{seed}", "finished", preset="x", seed=seed)


def lines(values: list[dict[str, float]], es_auc: list[float | None], best: int) -> list[dict]:
    return [
        {
            "epoch": epoch,
            "best": epoch == best,
            "val": {"attributes": {"site": {"es_auc": score}}},
            "sinkhorn": [
                {"quantity": "loss", "attribute": "site", "group": group, "n": 50, "value": value}
                for group, value in by_group.items()
            ],
        }
        for epoch, (by_group, score) in enumerate(zip(values, es_auc, strict=True), start=1)
    ]


RUNS = {"clip": (entry(1, 0), entry(2, 1)), "fair": (entry(3, 0),)}
METRICS = {
    "0001-x-s0": lines([{"A": 0.2, "B": 0.4}, {"A": 0.1, "B": 0.2}], [0.70, 0.72], 2),
    "0002-x-s1": lines([{"A": 0.4, "B": 0.4}, {"A": 0.3, "B": 0.2}], [0.71, 0.69], 1),
    "0003-x-s0": lines([{"A": 0.1, "B": 0.1}, {"A": 0.0, "B": 0.1}], [0.70, None], 1),
}


def test_bands_are_means_and_extremes_over_seeds() -> None:
    band = divergences.bands(divergences.divergences(RUNS, METRICS, "site", "loss")).set_index(
        ["method", "group", "epoch"]
    )
    row = band.loc[("clip", "A", 1)]
    assert (row["mean"], row["low"], row["high"], row["n_runs"], row["n"]) == (pytest.approx(0.3), 0.2, 0.4, 2, 50)
    assert band.loc[("clip", divergences.MEAN, 2), "mean"] == pytest.approx((0.15 + 0.25) / 2)
    assert band.loc[("fair", divergences.MEAN, 2), "n"] == 100
    assert divergences.divergences(RUNS, METRICS, "site", "similarity").empty
    assert divergences.groups_of(divergences.divergences(RUNS, METRICS, "site", "loss")) == ["", "A", "B"]


def by_weights(mean_weight: float, *numbers: tuple[float, float, float | None, float | None]) -> list[dict]:
    """Lines of one group: value, chance, and both by the weights."""
    names = ("value", "chance", "weighted", "weighted_chance")
    return [
        {
            "epoch": epoch, "best": True, "mean_weight": mean_weight, "val": {"attributes": {"site": {"es_auc": 0.7}}},
            "sinkhorn": [
                {"quantity": "loss", "attribute": "site", "group": "A", "n": 50} | dict(zip(names, row, strict=True))
            ],
        }
        for epoch, row in enumerate(numbers, start=1)
    ]  # fmt: skip


def test_what_is_shown_is_above_chance_by_the_weights_or_over_all_pairs() -> None:
    runs = {"plus": (entry(1, 0),)}
    metrics = {"0001-x-s0": by_weights(0.9, (0.2, 0.1, 0.2, 0.1), (0.9, 0.2, 0.13, 0.1))}
    shown = {}
    for counted in divergences.Counted:
        frame = divergences.divergences(runs, metrics, "site", "loss", counted)
        shown[counted] = frame.loc[frame["group"] == "A", "distance"].round(6).tolist()
        assert (frame["value"] - frame["chance"]).round(6).equals(frame["distance"].round(6))
    assert shown == {divergences.Counted.ALL: [0.1, 0.7], divergences.Counted.WEIGHTED: [0.1, 0.03]}
    assert divergences.recorded(metrics["0001-x-s0"]) is divergences.Counted.WEIGHTED
    (rise,) = divergences.mining_rises(runs, metrics, "site", "loss")
    assert (rise.first, rise.last, rise.weighted) == pytest.approx((0.1, 0.7, 0.03))
    band = divergences.bands(divergences.divergences(runs, metrics, "site", "loss"))
    assert sinkhorn.divergence_table(band).loc[0, "By chance"] == "0.2000"
    end = divergences.at_selected_epoch(runs, metrics, ["site", "other"]).set_index("attribute")
    assert end.loc["site", ["weighted", "all", "chance"]].tolist() == pytest.approx([0.03, 0.7, 0.2])
    assert np.isnan(end.loc["other", "all"])
    level = {"0001-x-s0": by_weights(1.0, (0.2, 0.1, 0.2, 0.1), (0.3, 0.1, 0.3, 0.1))}
    assert divergences.mining_rises(runs, level, "site", "loss") == []  # it rises by the weights as well


def test_lines_of_the_first_version_have_no_chance_and_weights_only_where_all_are_one() -> None:
    old = METRICS["0001-x-s0"]
    found = divergences.group_divergences(old[0], "loss", divergences.Counted.ALL)
    assert [(one.group, one.value, one.chance, one.distance) for one in found] == [
        ("A", 0.2, None, 0.2),
        ("B", 0.4, None, 0.4),
    ]
    assert divergences.group_divergences(old[0], "loss", divergences.Counted.WEIGHTED) == []
    assert divergences.recorded(old) is divergences.Counted.ALL
    plain = [line | {"mean_weight": 1.0} for line in old]
    assert divergences.recorded(plain) is divergences.Counted.WEIGHTED
    assert divergences.group_divergences(plain[0], "loss", divergences.Counted.WEIGHTED) == found
    no_weight = by_weights(0.5, (0.2, 0.1, None, None))[0]  # every pair of the group has weight 0
    assert divergences.group_divergences(no_weight, "loss", divergences.Counted.WEIGHTED) == []


def test_a_logarithmic_axis_leaves_out_what_has_no_place_on_it() -> None:
    band = divergences.bands(divergences.divergences(RUNS, METRICS, "site", "loss"))
    for logarithmic in (False, True):
        chart = sinkhorn_charts.divergence_chart(band, "D", logarithmic=logarithmic)
        values = [float(y) for trace in chart.data if trace.mode == "lines+markers" for y in trace.y]
        assert (min(values) > 0) is logarithmic
        assert chart.layout.yaxis.type == ("log" if logarithmic else "linear")


def test_paths_mark_the_selected_epoch_and_skip_what_is_undefined() -> None:
    walked = divergences.paths(RUNS, METRICS, "site", "loss")
    assert walked["run"].tolist() == ["0001-x-s0"] * 2 + ["0002-x-s1"] * 2 + ["0003-x-s0"]
    assert walked.loc[walked["chosen"], "epoch"].tolist() == [2, 1, 1]
    assert walked["divergence"].round(3).tolist() == [0.3, 0.15, 0.4, 0.25, 0.1]
    chart = sinkhorn_charts.path_chart(walked, "loss")
    assert list(chart.data[0].marker.symbol) == ["circle-open", "star"]
    said = sinkhorn.within_run(walked[walked["run"] == "0001-x-s0"])
    assert "the divergence fell by 50 %; validation ES-AUC changed by +0.020" in said
    assert "the first: there is nothing to compare" in sinkhorn.within_run(walked[walked["run"] == "0002-x-s1"])


def test_ends_take_the_selected_epoch_and_the_test_figure() -> None:
    walked = divergences.paths(RUNS, METRICS, "site", "loss")
    facts = {
        "es_auc": 0.8,
        "n": 60,
        "intervals": {"es_auc": {"low": 0.7, "high": 0.9}},
        "chance": {"es_auc": {"expected": 0.85}},
    }
    reports = {
        "0001-x-s0": {"attributes": {"site": facts}},
        "0003-x-s0": {"attributes": {"site": facts | {"es_auc": None}}},
    }
    end = divergences.ends(walked, reports, "site")
    assert end[["run", "divergence", "es_auc", "low", "chance"]].to_numpy().tolist() == [
        ["0001-x-s0", pytest.approx(0.15), 0.8, 0.7, 0.85]
    ]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.010, 0.0066, 0.004, -0.01, 0.02, False), "fell by 34 %; ES-AUC changed by +0.004"),
        ((0.010, 0.0066, 0.004, -0.01, 0.02, False), "no evidence that fairness improved"),
        ((0.010, 0.0066, 0.030, 0.01, 0.05, True), "fairness improved by more than chance explains"),
        ((0.010, 0.0066, -0.030, -0.05, -0.01, True), "fairness became worse by more than chance explains"),
        ((0.010, 0.0066, 0.030, 0.01, 0.05, False), "survives the correction over attributes"),
        ((0.010, 0.0130, 0.0, -0.01, 0.01, False), "rose by 30 %; ES-AUC changed by 0.000"),
        ((0.010, 0.0100, 0.0, -0.01, 0.01, False), "stayed the same"),
        ((0.010, 0.0066, np.nan, np.nan, np.nan, False), "undefined for one of the methods"),
        ((0.010, 0.0066, 0.010, np.nan, np.nan, False), "no interval"),
        ((0.0, 0.0066, 0.010, 0.0, 0.02, False), "went from 0 to 0.0066"),
    ],
)
def test_the_answer_follows_from_numbers(numbers, expected: str) -> None:
    assert expected in sinkhorn.answer(divergences.Effect(*numbers, seeds=2, n=200))


# The page


def test_the_page_explains_a_rise_over_all_pairs_and_shows_the_weights_first(open_page, recorded_workspace) -> None:
    for run in RunStore(recorded_workspace).runs():
        mines = run.config.mining.enabled
        lines = [dict(line) for line in run.metrics()]
        for line in lines:
            line["mean_weight"] = 0.9 if mines else 1.0
            for one in line["sinkhorn"]:
                level = {"value": 0.1 * line["epoch"] if mines else 0.1, "chance": 0.02, "weighted_chance": 0.02}
                one |= level | {"weighted": 0.03 if mines else 0.1}
        run.write_metrics(lines)
    app = open_page(PAGE, run=["3"], view=["Divergence over training"], attribute=["gender"])
    assert not app.error
    assert app.button_group[1].value == "weighted"
    (said,) = [
        text for one in app.caption if "over all pairs the distance rises" in (text := one.value.replace("\\", ""))
    ]
    assert "rises from 0.080 to 0.280, by the miner's weights it ends at 0.010" in said
    assert "no longer fitted" in said
    shown = app.dataframe[0].value.set_index(["Method", "Group"])
    assert shown.loc[("robustfair", "Male"), ["Last epoch", "By chance"]].tolist() == ["0.0100", "0.0200"]
    app.button_group[1].set_value("all").run()
    shown = app.dataframe[0].value.set_index(["Method", "Group"])
    assert shown.loc[("robustfair", "Male"), "Last epoch"] == "0.2800"


def test_an_empty_workspace_says_what_to_do(open_page, empty_workspace) -> None:
    app = open_page(PAGE)
    assert "fairvlm train" in app.code[0].value
    assert not app.error
    assert not empty_workspace.exists()


@pytest.fixture
def recorded_workspace(workspace):
    for run in RunStore(workspace).runs():
        record(run, fall=0.5 if run.config.preset == "robustfair" else 0.25)
    return workspace


@pytest.mark.usefixtures("recorded_workspace")
@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("quantity", ["loss", "similarity"])
def test_every_view_opens_by_its_address(open_page, tab: str, quantity: str) -> None:
    app = open_page(PAGE, run=["3"], view=[tab], attribute=["gender"], quantity=[quantity])
    assert not app.error, [error.value for error in app.error]
    assert app.sidebar.selectbox[0].value == "0003-robustfair-s0"
    assert len(app.get("plotly_chart")) >= 1


def test_the_table_holds_the_planted_shift(open_page, recorded_workspace) -> None:
    run = RunStore(recorded_workspace).get("3")
    app = open_page(PAGE, run=["3"], view=["Quantiles"], attribute=["gender"])
    pairs = run.pairs()
    train = pairs[pairs["split"].astype(str) == "train"]
    last = planted_losses(pairs, "gender", "Male", 1.0)[EPOCHS - 1].astype(np.float32)
    male = (train["gender"].astype(str) == "Male").to_numpy()
    shown = next(f.value for f in app.dataframe if "95 % interval" in f.value).set_index("Group").loc["Male"]
    assert shown["n"] == male.sum()
    distance = stats.wasserstein_distance(last[male], last)
    assert float(shown["Wasserstein distance (loss)"]) == pytest.approx(distance, abs=0.01)
    assert float(shown["Sinkhorn divergence (loss²)"]) == pytest.approx(0.1)
    app.select_slider[0].set_value(1).run()
    frame = next(f.value for f in app.dataframe if "95 % interval" in f.value)
    assert float(frame["Sinkhorn divergence (loss²)"][0]) == pytest.approx(0.4)


@pytest.mark.usefixtures("recorded_workspace")
def test_the_question_is_answered_in_words(open_page) -> None:
    app = open_page(PAGE, run=["3"], view=["Distance and fairness"], attribute=["gender"])
    said = words_of(app).replace("\\", "").replace("\u2060", "")
    # clip is at 0.4 · 0.75 in its selected epoch, robustfair at 0.4 · 0.5
    assert "The divergence fell by 33 %; ES-AUC changed by" in said
    assert "2 seeds, n = 40" in said
    assert "from epoch 1 to the selected epoch 2: the divergence fell by 50 %" in said


def test_one_run_alone_has_no_comparison(open_page, tmp_path, monkeypatch, table) -> None:
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "one"))
    record(add_run(RunStore(tmp_path / "one"), table, "clip", 0))
    app = open_page(PAGE, view=["Distance and fairness"])
    assert "Choose two methods" in app.info[0].value
    assert not app.error


def test_a_run_at_work_is_shown_so_far(open_page, recorded_workspace) -> None:
    run = RunStore(recorded_workspace).get("4")
    set_running(run)
    app = open_page(PAGE, run=["4"], view=["Distance and fairness"], attribute=["gender"])
    assert not app.error
    assert "In run 0004" in words_of(app).replace("\\", "")
    (run.path / "ledger.parquet").unlink()
    assert "no finished epoch yet (running)" in words_of(open_page(PAGE, run=["4"])).replace("\\", "")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [("ledger.parquet", b"PAR1", "ledger.parquet is damaged"), ("config.json", b"{", "is damaged")],
)
def test_a_damaged_run_is_one_clear_line(open_page, recorded_workspace, file: str, content: bytes, said: str) -> None:
    (RunStore(recorded_workspace).get("3").path / file).write_bytes(content)
    app = open_page(PAGE, run=["3"])
    assert len(app.error) == 1
    assert said in app.error[0].value.replace("\\", "")


def test_half_a_line_of_metrics_is_left_out(open_page, recorded_workspace) -> None:
    for number in ("3", "4"):
        path = RunStore(recorded_workspace).get(number).path / "metrics.jsonl"
        path.write_text(path.read_text()[:-40])
    app = open_page(PAGE, run=["3"], view=["Divergence over training"], attribute=["gender"])
    assert not app.error
    frame = app.dataframe[0].value
    assert dict(zip(frame["Method"], frame["Epochs"], strict=True)) == {"robustfair": 2, "clip": 3}


def test_no_density_is_drawn_below_zero_loss() -> None:
    random = np.random.default_rng(0)
    values = random.exponential(1.0, (1, 4000)).astype(np.float32)
    groups = {"sex": np.array(["F", "M"] * 2000)}
    found = distributions.distributions(distributions.History(values, (1,), groups), "sex")
    assert found.grid[0] > 0
    everyone = found.rows[0].density[0]
    step = found.grid[1] - found.grid[0]
    assert everyone.sum() * step == pytest.approx(1.0, abs=0.01)
    assert everyone[:3].mean() == pytest.approx(1.0, abs=0.15)  # the true density at 0; without reflection it is half
    similar = distributions.distributions(distributions.History(values - 1, (1,), groups), "sex")
    assert similar.grid[0] < -1
