"""Compare runs: methods, means over seeds, paired differences; the page and the command agree."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from recipes import add_run
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from fairvlm_core.analysis.comparison import compare_runs, method_difference, pairing_words
from fairvlm_core.analysis.entries import RunEntry, read_entry
from fairvlm_core.analysis.held_out import held_out_rows
from fairvlm_core.analysis.methods import Method, Reason, comparable, methods_of
from fairvlm_core.cli.app import app as command
from fairvlm_core.errors import InputError
from fairvlm_core.runs import Run, RunStore
from fairvlm_core.words import NOTHING
from ui import compare, compare_charts, compare_plane


def added(store: RunStore, table, *seeds: int, **shifts: float) -> list[Run]:
    """Runs of several presets, with these seeds."""
    return [add_run(store, table, preset, seed, shift=shift) for preset, shift in shifts.items() for seed in seeds]


# Methods


def test_runs_of_other_data_and_unfinished_runs_are_left_out() -> None:
    made = [
        RunEntry("0001-clip-s0", "finished", data="A", fingerprint="a"),
        RunEntry("0002-clip-s0", "finished", data="B", fingerprint="b"),
        RunEntry("0003-clip-s0", "failed", message="loss is not finite"),
    ]
    same, left_out = comparable(made)
    assert [entry.id for entry in same] == ["0001-clip-s0"]
    assert [(one.run.id, one.reason) for one in left_out] == [
        ("0003-clip-s0", Reason.NOT_FINISHED),
        ("0002-clip-s0", Reason.OTHER_DATA),
    ]
    assert "loss is not finite" in str(left_out[0])
    assert "other data (B)" in str(left_out[1])


def test_a_repetition_is_not_a_second_seed() -> None:
    made = [
        RunEntry(f"{i:04d}-clip-s{seed}", "finished", seed=seed, method_key="a", fingerprint="A")
        for i, seed in enumerate((0, 1, 0), start=1)
    ]
    same, left_out = comparable(made)
    assert [entry.id for entry in same] == ["0002-clip-s1", "0003-clip-s0"]
    assert [(one.run.id, one.other.id, one.reason) for one in left_out] == [
        ("0001-clip-s0", "0003-clip-s0", Reason.REPEATED)
    ]
    assert [method.seeds for method in methods_of(made)] == [[0, 1]]


def test_runs_on_other_data_are_another_method() -> None:
    made = [
        RunEntry(f"{i:04d}-clip-s0", "finished", preset="clip", data="A", method_key="a", fingerprint=print_)
        for i, print_ in enumerate(("aaaaaaaaaa", "bbbbbbbbbb"), start=1)
    ]
    assert [method.name for method in methods_of(made)] == ["clip (data=aaaaaaaa)", "clip (data=bbbbbbbb)"]


def test_settings_that_differ_are_named_and_the_seed_is_not() -> None:
    runs = [
        RunEntry("1", "finished", settings={"seed": 0, "epochs": 6, "mining.enabled": False, "mining.faulty_sd": 3.0}),
        RunEntry("2", "finished", settings={"seed": 1, "epochs": 6, "mining.enabled": True, "mining.faulty_sd": 2.5}),
    ]
    frame = compare.settings_table([Method(name, (run,)) for name, run in zip(("clip", "dbpm"), runs, strict=True)])
    assert frame.to_numpy().tolist() == [["mining.enabled", "no", "yes"], ["mining.faulty_sd", "3", "2.5"]]


# Values


def test_method_values_are_those_of_the_predictions(table, tmp_path) -> None:
    store = RunStore(tmp_path)
    runs = [*added(store, table, 0, 1, 2, clip=2.0), *added(store, table, 0, dbpm=2.0)]
    result = compare_runs(runs, n_resamples=50)
    assert [(m.name, m.method.seeds) for m in result.methods] == [("clip", [0, 1, 2]), ("dbpm", [0])]
    overall = compare.overall_values(result).set_index("method")
    aucs = []
    for run in runs[:3]:
        test = run.predictions().query("split == 'test'")
        aucs.append(roc_auc_score(test["label"], test["score"]))
    assert overall.loc["clip", "value"] == pytest.approx(np.mean(aucs))
    assert overall.loc["clip", "sd"] == pytest.approx(np.std(aucs, ddof=1))
    assert np.isnan(overall.loc["dbpm", "sd"])
    shown = compare.method_table(result).set_index("Method")
    assert shown.loc["clip", "Test AUC"] == f"{np.mean(aucs):.3f} ± {np.std(aucs, ddof=1):.3f}"
    assert shown.loc["clip", "Seeds"] == 3
    assert shown.loc["clip", "n"] == 40


def test_a_group_with_one_label_stays_in_the_table_as_undefined(table, tmp_path) -> None:
    run = add_run(RunStore(tmp_path), table, "clip", 0)
    frame = run.predictions()
    healthy = frame.index[(frame["split"] == "test") & (frame["label"] == 0)][:3]
    frame.loc[healthy, "race"] = "B"
    run.write_parquet(run.files.predictions, frame)
    result = compare_runs([run], n_resamples=20)
    values = compare.group_values(result, "race")
    shown = compare.group_table(values).set_index("Group")
    assert shown.loc["B", "AUC"] == "undefined (n+ = 0, n− = 3)"
    assert "to" in shown.loc["everyone", "95 % interval"]
    es_auc = compare.es_auc_values(result)
    race = compare.es_auc_table(es_auc).set_index("Attribute").loc["race"]
    assert race["ES-AUC"].endswith(" (partial)")
    assert "B (race)" in compare.partial_line(es_auc)
    chart = compare_charts.group_auc_chart(values, "race")
    assert "undefined (n+ = 0, n− = 3)" in [note.text for note in chart.layout.annotations]


# Paired differences


def test_the_better_method_is_named_and_seeds_are_paired(table, tmp_path) -> None:
    runs = added(RunStore(tmp_path), table, 0, 1, 2, clip=0.0, dbpm=6.0)
    by_id = {run.id: run for run in runs}
    one, other = methods_of([read_entry(run) for run in runs])
    found = method_difference(one, other, by_id, n_resamples=100)
    assert found.seeds == ((0, 0), (1, 1), (2, 2))
    assert pairing_words(found) == "Paired by seed: 0, 1 and 2."
    values = compare.difference_values(found)
    frames = [held_out_rows(run.predictions(), run.id) for run in runs]
    aucs = [roc_auc_score(frame["label"], frame["score"]) for frame in frames]
    expected = np.mean(aucs[3:]) - np.mean(aucs[:3])
    assert values.loc[0, "difference"] == pytest.approx(expected)
    assert values.loc[0, ["n_positive", "n_negative"]].sum() == 40
    said = compare.difference_summary(found)
    assert said[0].startswith("AUC of everyone: dbpm is better (+")
    assert "3 seeds, n = 40" in said[0]
    shown = compare.difference_table(values, "clip", "dbpm").set_index("Metric")
    assert shown.loc["AUC, everyone", "Verdict"] == "dbpm is better"
    assert set(shown.index) >= {f"ES-AUC, {name}" for name in table.attributes}
    back = method_difference(other, one, by_id, n_resamples=100)
    assert back.comparison.overall.difference == pytest.approx(-expected)
    assert "clip is worse" in compare.difference_summary(back)[0]


def test_methods_without_a_common_seed_compare_their_lowest_seeds(table, tmp_path) -> None:
    store = RunStore(tmp_path)
    result = compare_runs([*added(store, table, 1, 0, clip=2.0), *added(store, table, 3, 2, dbpm=2.0)], n_resamples=20)
    found = result.differences["dbpm"]
    assert found.seeds == ((0, 2),)
    assert "share no seed: the runs with the lowest seeds (0 and 2)" in pairing_words(found)


def test_the_same_scores_make_no_reliable_difference(table, tmp_path) -> None:
    result = compare_runs(added(RunStore(tmp_path), table, 0, clip=2.0, dbpm=2.0), n_resamples=50)
    found = result.differences["dbpm"]
    assert "no reliable difference" in compare.difference_summary(found)[0]
    assert compare.difference_values(found)["difference"].dropna().eq(0).all()


def test_a_difference_that_does_not_exist_keeps_its_row(table, tmp_path) -> None:
    runs = added(RunStore(tmp_path), table, 0, clip=2.0, dbpm=2.0)
    for run in runs:
        frame = run.predictions()
        frame["race"] = np.where(
            frame["pair_id"] == frame.loc[frame["split"] == "test", "pair_id"].min(), "Lonely", "Other"
        )
        run.write_parquet(run.files.predictions, frame)
    values = compare.difference_values(compare_runs(runs, attribute="race", n_resamples=20).differences["dbpm"])
    row = compare.difference_table(values, "a", "b").set_index("Metric").loc["AUC, Lonely (race)"]
    assert row["a"].startswith("undefined (n+ = ")
    assert row["Verdict"] == NOTHING
    chart = compare_charts.difference_chart(values, "a", "b")
    assert any(str(note.text).startswith("undefined (n+ = ") for note in chart.layout.annotations)


def test_runs_with_other_test_pairs_are_refused(table, tmp_path) -> None:
    runs = added(RunStore(tmp_path), table, 0, clip=2.0, dbpm=2.0)
    frame = runs[1].predictions()
    for changed in (frame.iloc[:-1], frame.assign(label=1 - frame["label"])):
        runs[1].write_parquet(runs[1].files.predictions, changed)
        with pytest.raises(InputError, match="same test pairs"):
            compare_runs(runs, n_resamples=20)
    with pytest.raises(InputError, match="no column 'score'"):
        held_out_rows(frame.drop(columns="score"), "0001-clip-s0")


# One comparison everywhere


def test_page_and_command_agree(table, tmp_path) -> None:
    """Two seeds and a small group: the same intervals, p-values and verdicts for the same runs."""
    store = RunStore(tmp_path)
    runs = added(store, table, 0, 1, clip=1.0, dbpm=1.6)
    names = [run.id for run in runs]
    asked = CliRunner().invoke(command, ["compare", *names, "--workspace", str(tmp_path), "--json"])
    assert asked.exit_code == 0, asked.output
    said = json.loads(asked.stdout)
    page = compare_runs(runs)
    for facts, method in zip(said["methods"], page.methods, strict=True):
        shown = compare.es_auc_values(page)
        for name in table.attributes:
            row = shown[(shown["attribute"] == name) & (shown["method"] == method.name)].iloc[0]
            told = facts["es_auc"][name]
            assert (row["low"], row["high"]) == (told["interval"]["low"], told["interval"]["high"])
            assert told["interval"]["method"] == "seeds and patients, Welch t"
            assert (row["p"], row["chance"]) == (told["chance"]["p_holm"], told["chance"]["expected"])
        for row in compare.group_values(page, "race").to_dict("records"):
            if row["group"] and row["method"] == method.name:
                interval = facts["groups"]["race"][row["group"]]["auc"]["interval"]
                expected = (np.nan, np.nan) if interval is None else (interval["low"], interval["high"])
                np.testing.assert_equal((row["low"], row["high"]), expected)
    difference = said["differences"]["dbpm"]
    assert difference["paired_seeds"] == [[0, 0], [1, 1]]
    shown = compare.difference_values(page.differences["dbpm"])
    for row in shown.to_dict("records"):
        told = difference["overall"]
        if row["attribute"]:
            told = difference["attributes"][row["attribute"]]
            told = difference["groups"][row["attribute"]][row["group"]] if row["group"] else told
        assert row["outcome"] == told["outcome"]
        p_value = told["p_value"] if told["p_holm"] is None else told["p_holm"]
        interval = told["interval"] or {"low": None, "high": None}
        assert _plain(row["p"]) == p_value
        assert [_plain(row[end]) for end in ("low", "high")] == [interval["low"], interval["high"]]


def _plain(value: float) -> float | None:
    return None if pd.isna(value) else value


def test_ticks_are_whole_epochs_and_never_the_same_twice() -> None:
    epochs = np.arange(1, 7)
    values = pd.DataFrame({"method": "clip", "epoch": epochs, "mean": 0.9, "low": 0.9, "high": 0.9})
    chart = compare_charts.epochs_chart(values, ["clip"], "race")
    assert (chart.layout.xaxis.dtick, chart.layout.xaxis.tickformat) == (1, "d")
    near = pd.DataFrame(
        {"method": ["a", "b"], "auc": [0.92511, 0.92514], "fair": [0.7, 0.8], "auc_sd": 0.0, "fair_sd": 0.0, "front": True,
         "n_runs": 1, "n": 9}
    )  # fmt: skip
    form = compare_plane.plane_chart(near, "es_auc", "race", ["a", "b"]).layout.xaxis.tickformat
    ticks = [format(value, form) for value in np.linspace(0.92511, 0.92514, 7)]
    assert len(set(ticks)) == len(ticks)
