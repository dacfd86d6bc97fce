"""Compare runs: the trade-off plane, the way along λ, and thresholds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from recipes import add_run, words_of

from fairvlm_core.analysis.comparison import compare_runs
from fairvlm_core.analysis.entries import read_entry
from fairvlm_core.analysis.methods import methods_of
from fairvlm_core.analysis.thresholds import GroupThresholds, choose_thresholds, effect_on, threshold_sweep
from fairvlm_core.analysis.tradeoff import pareto, plane, weight_grids
from fairvlm_core.fairness import roc_by_group
from fairvlm_core.runs import RunStore
from ui import compare_plane, compare_thresholds, compare_tradeoff

PAGE = "6_Compare_runs.py"


def plain(app) -> str:
    return words_of(app).replace("\\", "").replace("\u2060", "")


# The plane


def test_the_front_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, (2, 60)).astype(float)
    front = pareto(first, second)
    for i in range(60):
        beaten = any(
            first[j] >= first[i] and second[j] >= second[i] and (first[j] > first[i] or second[j] > second[i])
            for j in range(60)
        )
        assert front[i] == (not beaten)


@pytest.fixture
def grid_workspace(table, tmp_path, monkeypatch):
    """clip, and robustfair at three values of λ; the larger λ, the better the scores."""
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(tmp_path / "grid"))
    store = RunStore(tmp_path / "grid")
    add_run(store, table, "clip", 0)
    for weight, shift in ((1.0, 4.0), (0.0, 1.5), (0.1, 2.5)):
        add_run(store, table, "robustfair", 0, shift=shift, **{"fairness.weight": weight})
    add_run(store, table, "robustfair", 1, shift=2.5, **{"fairness.weight": 0.1})
    return store


def methods_in(store: RunStore):
    return methods_of([read_entry(run) for run in store.runs()])


def test_a_grid_holds_methods_that_differ_by_weight_alone(grid_workspace) -> None:
    (grid,) = weight_grids(methods_in(grid_workspace))
    assert (grid.name, grid.weights) == ("robustfair", (0.0, 0.1, 1.0))
    assert all("λ=" in name for name in grid.methods)
    other = add_run(grid_workspace, _table(grid_workspace), "robustfair", 0, **{"fairness.weight": 5.0, "epochs": 1})
    methods = methods_in(grid_workspace)
    assert other.id in {run.id for method in methods for run in method.runs}
    (same,) = weight_grids(methods)
    assert same.weights == (0.0, 0.1, 1.0)  # another number of epochs is another method


def _table(store: RunStore):
    from fairvlm_core.pairs import PairTable

    return PairTable.read(store.runs()[0].data["folder"])


@pytest.mark.parametrize("measure", ["es_auc", "worst_group_auc"])
def test_the_plane_holds_means_over_seeds(grid_workspace, measure: str) -> None:
    result = compare_runs(grid_workspace.runs(), n_resamples=20)
    methods = methods_in(grid_workspace)
    frame = plane(result, "gender", measure).set_index("method")
    two = next(m for m in methods if len(m.runs) == 2)
    values = [entry.test["attributes"]["gender"][measure] for entry in two.runs]
    assert frame.loc[two.name, "fair"] == pytest.approx(np.mean(values))
    assert frame.loc[two.name, "fair_sd"] == pytest.approx(np.std(values, ddof=1))
    assert frame["n_runs"].sum() == 5
    assert frame["front"].any()
    (grid,) = weight_grids(methods)
    line = compare_tradeoff.weight_line(frame.reset_index(), grid, 1.0, measure)
    assert line.startswith("λ = 1: AUC ")
    step = frame.loc[grid.methods[2], "auc"] - frame.loc[grid.methods[0], "auc"]
    assert f"compared with λ = 0: +{step:.3f} and" in line


def test_the_chart_names_methods_and_rings_the_chosen_weight(grid_workspace) -> None:
    frame = plane(compare_runs(grid_workspace.runs(), n_resamples=20), "gender", "es_auc")
    (grid,) = weight_grids(methods_in(grid_workspace))
    chart = compare_plane.plane_chart(frame, "es_auc", "gender", list(frame["method"]), grid, 0.1)
    names = next(trace.text for trace in chart.data if trace.text is not None)
    assert sorted(names) == ["clip", "λ 0", "λ 0.1", "λ 1"]
    ring = next(trace for trace in chart.data if trace.name == "λ = 0.1")
    row = frame.set_index("method").loc[grid.methods[1]]
    assert (ring.x[0], ring.y[0]) == (row["auc"], row["fair"])


def test_the_slider_walks_along_the_grid(open_page, grid_workspace) -> None:
    app = open_page(PAGE, run=[run.id for run in grid_workspace.runs()])
    assert not app.error, [error.value for error in app.error]
    slider = next(s for s in app.select_slider if s.label == "λ")
    assert slider.options == ["0", "0.1", "1"]
    assert "λ = 1: AUC" in plain(app)  # no method is best: the largest
    assert "compared with λ = 0" in plain(app)
    slider.set_value(0.1).run()
    assert "λ = 0.1: AUC" in plain(app)


@pytest.mark.usefixtures("workspace")
def test_without_a_grid_the_page_says_how_to_make_one(open_page) -> None:
    app = open_page(PAGE)
    assert not [s for s in app.select_slider if s.label == "λ"]
    assert "fairness.weight" in plain(app)
    assert "No method beats it on both AUC and ES-AUC" in plain(app) or "No method beats them" in plain(app)


# Thresholds


def made(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Scores of group B lie 0.2 lower than those of group A."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    site = np.where(np.arange(n) % 4 < 2, "A", "B")
    score = np.clip(0.45 + 0.2 * label - 0.2 * (site == "B") + rng.normal(0, 0.1, n), 0, 1)
    return pd.DataFrame({"label": label, "score": score, "site": site})


def test_a_threshold_a_group_makes_specificity_alike() -> None:
    val, test = made(4000, seed=1), made(4000, seed=2)
    common = choose_thresholds(val, test, "site", 0.9, by_group=False)
    own = choose_thresholds(val, test, "site", 0.9, by_group=True)
    assert common.thresholds["A"] == common.thresholds["B"]
    assert own.thresholds["A"] - own.thresholds["B"] == pytest.approx(0.2, abs=0.03)
    assert own.borrowed == ()
    gaps = [effect_on(test, "site", chosen.thresholds).equalized_odds_difference for chosen in (common, own)]
    assert gaps[1] < gaps[0] / 3
    for point in effect_on(test, "site", own.thresholds).groups.values():
        assert 1 - point.false_positive_rate == pytest.approx(0.9, abs=0.04)  # 1,000 negatives: 0.01 a standard error


def test_a_group_with_few_negatives_borrows_the_threshold_of_everyone() -> None:
    val, test = made(seed=1), made(seed=2)
    val = val[(val["site"] == "A") | (val["label"] == 1) | (np.arange(len(val)) > 385)]
    own = choose_thresholds(val, test, "site", 0.9, by_group=True)
    assert own.borrowed == ("B",)
    assert own.thresholds["B"] == choose_thresholds(val, test, "site", 0.9, by_group=False).thresholds["A"]
    assert "B: fewer than 10 validation negatives" in compare_thresholds.gap_line(
        effect_on(test, "site", own.thresholds), own
    )


def test_the_sweep_and_the_table_count_what_is_there() -> None:
    test = made()
    swept = threshold_sweep(test, "site")
    for row in swept.iloc[::20].itertuples():
        called = test["score"] >= row.threshold
        assert row.sensitivity == pytest.approx(called[test["label"] == 1].mean())
        assert row.specificity == pytest.approx(1 - called[test["label"] == 0].mean())
        rates = called.groupby(test["site"]).mean()
        assert row.dpd == pytest.approx(rates.max() - rates.min())
    effect = effect_on(test, "site", 0.5)
    shown = compare_thresholds.effect_table(effect).set_index("Group")
    sick = test[(test["site"] == "B") & (test["label"] == 1)]
    assert shown.loc["B", "Sensitivity"] == f"{(sick['score'] >= 0.5).mean():.3f}"
    assert shown.loc["B", "n+"] == len(sick)
    assert list(shown.index) == ["everyone", "A", "B"]


def test_a_group_with_one_label_is_named_and_not_dropped() -> None:
    test = made()
    test.loc[:5, ["site", "label"]] = ["C", 1]
    effect = effect_on(test, "site", 0.5)
    shown = compare_thresholds.effect_table(effect).set_index("Group")
    assert shown.loc["C", "Specificity"] == "undefined (n+ = 6, n− = 0)"
    assert "DEOdds leaves out C" in compare_thresholds.gap_line(effect, GroupThresholds({}))
    curves = roc_by_group(test["label"].to_numpy(), test["score"].to_numpy(), test["site"].to_numpy())
    chart = compare_plane.roc_chart(curves, effect, "site")
    assert any("C: n+ = 6" in (trace.name or "") for trace in chart.data)


@pytest.mark.usefixtures("workspace")
def test_moving_the_threshold_moves_the_figures(open_page) -> None:
    app = open_page(PAGE)
    key = "thresholds.value"
    first = app.dataframe[-1].value.set_index("Group")
    assert float(first.loc["everyone", "Threshold"]) == 0.5
    next(s for s in app.slider if s.key == key).set_value(0.9).run()
    second = app.dataframe[-1].value.set_index("Group")
    assert float(second.loc["everyone", "Sensitivity"]) < float(first.loc["everyone", "Sensitivity"])
    next(s for s in app.selectbox if s.key == "thresholds.rule").select("group").run()
    assert not app.error
    assert "DPD" in plain(app)
