"""Experiments: their files, which runs they train, the table against direct computations, kills, several calls at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import fairlearn.metrics as fairlearn
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from fairvlm_core import PairTable, equity_scaled_auc
from fairvlm_core.errors import InputError
from fairvlm_core.experiment import Cell, find_runs, make_table, queue_missing, read_experiment, train_missing
from fairvlm_core.experiment.formats import changes, html_page, latex, summary, wide, write_formats
from fairvlm_core.experiment.plan import SCORES, bundled
from fairvlm_core.experiment.table import TEST_CHOSEN, Entry
from fairvlm_core.fairness import roc_auc
from fairvlm_core.intake.csvsafe import restore
from fairvlm_core.jobs.detached import fairvlm
from fairvlm_core.runs import Run, RunStore, State
from fairvlm_core.synth import SynthConfig, synthesize, write_synth

TEXT = """
title = "Two methods"
seeds = 2
against = "CLIP"
attributes = ["gender", "race"]
metrics = ["auc", "es_auc", "demographic_parity_difference", "equalized_odds_difference", "f1"]
scores = ["zero-shot", "probe", "zero-shot with note", "probe with note"]

[set]
epochs = 2
trainable = "head"
test_every_epoch = true

[methods.CLIP]
preset = "clip"

[methods.FairCLIP]
preset = "fairclip"
each_attribute = true
set = { "fairness.weight" = 2.0 }
"""


def written(folder: Path, text: str, name: str = "small") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SynthConfig(n_train=240, n_val=120, n_test=300, size=64, mismatch_rate=0.15)
    return write_synth(synthesize(config, workers=1), tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory):
    """(experiment, table of pairs, store, cells, runs, table of the experiment)"""
    folder = tmp_path_factory.mktemp("experiment")
    experiment, table, store = read_experiment(written(folder, TEXT)), PairTable.read(data), RunStore(folder / "w")
    trained = train_missing(experiment, table, store, processes=1)
    assert not trained.failed
    cells = experiment.cells(table)
    return (
        experiment,
        table,
        store,
        cells,
        trained.finished,
        make_table(experiment, cells, trained.finished, store.workspace / "experiments" / "small"),
    )


def ids(runs: dict[Cell, Run]) -> dict[Cell, str]:
    return {cell: run.id for cell, run in runs.items()}


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 3", "methods: Field required"),
        ('[methods.a]\npreset = "clipp"', "unknown preset 'clipp'"),
        (
            '[methods.a]\npreset = "clip"\nseed = 3',
            "methods.a.seed: there is no such entry; there are preset, set, seeds",
        ),
        ('sedes = 3\n[methods.a]\npreset = "clip"', "sedes: there is no such entry"),
        ('seeds = 0\n[methods.a]\npreset = "clip"', "seeds: Tuple should have at least 1 item"),
        ('seeds = -1\n[methods.a]\npreset = "clip"', "seeds: Tuple should have at least 1 item"),
        ('against = "b"\n[methods.a]\npreset = "clip"', "against: there is no method 'b'; there are a"),
        ('metrics = ["aucc"]\n[methods.a]\npreset = "clip"', "metric: 'aucc' is not known"),
        ('scores = ["zeroshot"]\n[methods.a]\npreset = "clip"', "scores: 'zeroshot' is not one of zero-shot, probe"),
        (
            '[set]\nepochs = 0\n[methods.a]\npreset = "clip"',
            "setting epochs: Input should be greater than or equal to 1",
        ),
        ('[synth]\nn_trian = 3\n[methods.a]\npreset = "clip"', "synth: "),
        ('name = "x"\n[methods.a]\npreset = "clip"', "name: it is the file's name"),
        ('based_on = "none.toml"', "there is no such file"),
        ("a = = 3", "is no TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_experiment(written(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bundled_files_can_be_read() -> None:
    found = {name: read_experiment(path) for name, path in bundled().items()}
    assert set(found) >= {"demo", "paper", "paper-blip2", "folds"}
    assert read_experiment(Path("demo")) == found["demo"]
    assert found["paper-blip2"].methods == found["paper"].methods
    assert found["paper-blip2"].models != found["paper"].models


def test_cells_of_the_paper() -> None:
    """5 methods serve all attributes, 3 need a run for each of 4; 2 models, 3 seeds."""
    experiment = read_experiment(Path("paper"))
    each = sum(method.each_attribute for method in experiment.methods.values())
    whole = len(experiment.methods) - each

    class Data:
        attributes = ("race", "gender", "ethnicity", "language", "age")

    cells = experiment.cells(Data())  # type: ignore[arg-type]
    assert len(cells) == len({(*cell.key, cell.model) for cell in cells}) == 2 * 3 * (whole + 4 * each)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    of_language = next(cell for cell in cells if cell.attribute == "language")
    assert of_language.config.fairness.attributes == ("language",)
    assert all(cell.config.adam_betas == (0.1, 0.1) and cell.config.schedule == "constant" for cell in cells)


def test_an_attribute_that_the_data_lack_is_refused(data: Path, tmp_path: Path) -> None:
    experiment = read_experiment(written(tmp_path, TEXT.replace('"race"', '"rase"')))
    with pytest.raises(InputError, match="attribute 'rase' is not in the data; there are race"):
        train_missing(experiment, PairTable.read(data), RunStore(tmp_path / "w"))
    assert RunStore(tmp_path / "w").runs() == []


# The table against direct computations ------------------------------------------------------------------------------


def test_every_value_of_the_table(done) -> None:
    experiment, _, _, _, runs, table = done
    assert not table.missing
    checked = 0
    for entry in table.entries:
        mine = [
            run
            for cell, run in runs.items()
            if cell.method == entry.method and cell.attribute in (None, entry.attribute)
        ]
        assert len(mine) == entry.seeds == 2
        if entry.metric == TEST_CHOSEN:
            expected = [max(line["test_auc"] for line in run.metrics()) for run in mine]
        else:
            expected = [direct(run.predictions(), entry) for run in mine]
        assert entry.mean == pytest.approx(np.mean(expected), abs=1e-9), entry
        checked += 1
    n_groups = 2 + 3  # gender, race
    per_method = len(SCORES) * (2 * len(experiment.metrics) + n_groups) + 2
    assert checked == 2 * per_method


def direct(predictions: pd.DataFrame, entry: Entry) -> float:
    """A metric from stored predictions, by scikit-learn, fairlearn and the library's plain functions."""
    test = predictions[predictions["split"] == "test"]
    if entry.group:
        test = test[test[entry.attribute].astype(str) == entry.group]
    label, score = test["label"].to_numpy(), test[SCORES[entry.score]].to_numpy(float)
    group, predicted = test[entry.attribute].astype(str), (score >= 0.5).astype(int)
    return {
        "auc": lambda: roc_auc(label, score),
        "es_auc": lambda: float(equity_scaled_auc(label, score, group)),
        "demographic_parity_difference": lambda: fairlearn.demographic_parity_difference(
            label, predicted, sensitive_features=group
        ),
        "equalized_odds_difference": lambda: fairlearn.equalized_odds_difference(
            label, predicted, sensitive_features=group
        ),
        "f1": lambda: f1_score(label, predicted),
    }[entry.metric]()


def test_differences_are_from_the_baseline(done) -> None:
    *_, table = done
    by = {(e.score, e.attribute, e.method, e.metric, e.group): e for e in table.entries}
    for key, entry in by.items():
        if entry.difference is not None:
            baseline = by[(*key[:2], "CLIP", *key[3:])]
            assert entry.difference == pytest.approx(entry.mean - baseline.mean, abs=1e-9)
            assert entry.difference_low <= entry.difference <= entry.difference_high
            assert baseline.outcome == ""
    assert sum(entry.difference is not None for entry in table.entries) > 40


def test_stored_columns_say_what_they_are(done) -> None:
    _, _, _, _, runs, _ = done
    predictions = next(iter(runs.values())).predictions()
    for name in SCORES.values():
        assert predictions[name].between(0, 1).all()
    assert not np.allclose(predictions["score"], predictions["note_score"])


# Runs ---------------------------------------------------------------------------------------------------------------


def test_runs_are_shared(done, tmp_path: Path) -> None:
    """The same call trains nothing; another experiment with the same settings uses the same runs; other data do not."""
    experiment, table, store, _, runs, made = done
    before = [run.id for run in store.runs()]
    assert ids(train_missing(experiment, table, store, processes=1).finished) == ids(runs)
    other = read_experiment(written(tmp_path, TEXT.replace("CLIP", "plain").replace("Fairplain", "fair"), "other"))
    found = find_runs(other.cells(table), table, store)
    assert {run.id for run in found.values()} == set(before) == {run.id for run in store.runs()}
    assert len(found) == 2 + 2 * 2
    changed = other.changed({"epochs": 3})
    assert find_runs(changed.cells(table), table, store) == {}
    assert make_table(experiment, list(runs), runs, store.workspace / "experiments" / "small") == made


def test_unfinished_and_damaged_runs_are_missing_from_the_table(done, tmp_path: Path) -> None:
    experiment, _, _, cells, runs, _ = done
    fewer = {cell: run for cell, run in runs.items() if cell.seed == 0}
    made = make_table(experiment, cells, fewer, tmp_path)
    assert len(made.missing) == len(cells) - len(fewer) == 3
    assert "FairCLIP · tiny · race · seed 1" in made.missing
    assert all(entry.seeds == 1 for entry in made.entries)
    with pytest.raises(InputError, match="no run is finished"):
        make_table(experiment, cells, {}, tmp_path)


def test_a_run_that_fails_does_not_stop_the_others(data: Path, tmp_path: Path) -> None:
    text = TEXT.replace("each_attribute = true", "").replace('{ "fairness.weight" = 2.0 }', "{ learning_rate = 1e30 }")
    experiment = read_experiment(written(tmp_path, text)).changed({"epochs": 1, "gradient_clip": 1e30}, seeds=1)
    trained = train_missing(experiment, PairTable.read(data), RunStore(tmp_path / "w"), processes=1)
    assert [cell.method for cell in trained.failed] == ["FairCLIP"]
    assert "not finite" in next(iter(trained.failed.values()))
    assert [cell.method for cell in trained.finished] == ["CLIP"]


def test_queued_runs_are_trained_by_the_workers(data: Path, tmp_path: Path) -> None:
    experiment = read_experiment(written(tmp_path, TEXT)).changed({"epochs": 1}, seeds=1)
    table, store = PairTable.read(data), RunStore(tmp_path / "w")
    queued = queue_missing(experiment, table, store)
    assert len(queued.runs) == 3
    again = queue_missing(experiment, table, store)
    assert ids(again.runs) == ids(queued.runs)
    until = time.monotonic() + 120
    while len(again.finished) < 3 and time.monotonic() < until:
        time.sleep(0.5)
    assert len(again.finished) == 3


# The command --------------------------------------------------------------------------------------------------------


def command(file: Path, data: Path, workspace: Path, *more: str) -> list[str]:
    return fairvlm("experiment", str(file), str(data), "--workspace", str(workspace), "--jobs", "1", "--no-map", *more)


SMALL = TEXT.replace("each_attribute = true", "").replace("epochs = 2", "epochs = 4").replace("seeds = 2", "seeds = 1")


def test_fault_20_killed_experiments_go_on_to_the_same_table(data: Path, tmp_path: Path) -> None:
    """kill -9 at random moments: the table is bit for bit that of an experiment that was never stopped."""
    file = written(
        tmp_path, SMALL.replace('"zero-shot", "probe", "zero-shot with note", "probe with note"', '"zero-shot"')
    )
    whole = subprocess.run(command(file, data, tmp_path / "whole"), capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    draws, kills = random.Random(0), 10 if os.environ.get("FAIRVLM_FAULTS") == "long" else 3
    for _ in range(kills):
        process = subprocess.Popen(
            command(file, data, tmp_path / "killed"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(draws.uniform(4, 12))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    ended = subprocess.run(command(file, data, tmp_path / "killed"), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    tables = [(tmp_path / name / "experiments/small/table.csv").read_bytes() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    assert len(RunStore(tmp_path / "killed").runs()) == 2


def test_two_calls_at_once_divide_the_runs(data: Path, tmp_path: Path) -> None:
    file = written(tmp_path, TEXT.replace('"zero-shot", "probe", "zero-shot with note", "probe with note"', '"probe"'))
    calls = [
        subprocess.Popen(command(file, data, tmp_path / "w"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [call.communicate(timeout=200) for call in calls]
    assert [call.returncode for call in calls] == [0, 0], said
    runs = RunStore(tmp_path / "w").runs()
    assert len(runs) == 6
    assert all(run.status.state == State.FINISHED for run in runs)
    assert said[0][0].splitlines()[-1] == said[1][0].splitlines()[-1]


def test_json_is_one_document(done, data: Path, tmp_path: Path) -> None:
    _, _, store, _, runs, table = done
    file = written(tmp_path, TEXT)
    ended = subprocess.run(command(file, data, store.workspace, "--json"), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert len(said["entries"]) == len(table.entries)
    assert {one["run"] for one in said["runs"]} == {run.id for run in runs.values()}
    assert [Path(path).is_file() for path in said["files"].values()] == [True] * 3


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        command(written(tmp_path, TEXT), tmp_path / "nowhere", tmp_path / "w"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "there is no such folder" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


# Formats ------------------------------------------------------------------------------------------------------------


def test_formats(done, tmp_path: Path) -> None:
    *_, table = done
    csv, tex, html = write_formats(table, tmp_path)
    frame = pd.read_csv(csv, keep_default_na=False)
    assert len(frame) == len(table.entries)
    assert [restore(name) for name in frame["method"]] == [entry.method for entry in table.entries]
    assert tex.read_text().count(r"\begin{tabular}") == len(list(table.blocks())) == 8
    assert html.read_text().count("<table") == 16
    _, score, attribute, entries = next(iter(table.blocks()))
    assert (score, attribute) == ("zero-shot", "gender")
    assert list(wide(entries).columns)[:3] == ["seeds", "AUC", "ES-AUC"]
    assert list(wide(entries).columns)[-2:] == ["AUC Female", "AUC Male"]
    assert list(changes(entries).index) == ["FairCLIP"]
    assert summary(table)


def test_hostile_names_stay_text(done, tmp_path: Path) -> None:
    """A group's name may be HTML, LaTeX or a formula."""
    *_, table = done
    hostile = "=1+1<script>alert(1)</script>_$x^2$&\\input{/etc/passwd}"
    entries = tuple(replace(entry, group=hostile) if entry.group == "Male" else entry for entry in table.entries)
    table = replace(table, entries=entries, title=hostile)
    assert "<script>" not in html_page(table)
    tex = "\n".join(line for line in latex(table).splitlines() if not line.startswith("%"))
    assert r"\input" not in tex
    assert r"\textbackslash{}input\{/etc/passwd\}" in tex
    csv, *_ = write_formats(table, tmp_path)
    assert "\n=1+1" not in csv.read_text()
    assert ",=1+1" not in csv.read_text()


def test_queued_and_failed_experiments_keep_to_json_and_one_line(data: Path, tmp_path: Path) -> None:
    """--json is one document also where runs are only queued; where every run fails, the line says why."""
    one = TEXT.replace("epochs = 2", "epochs = 1").replace("seeds = 2", "seeds = 1")
    queued = subprocess.run(
        command(written(tmp_path, one), data, tmp_path / "q", "--background", "--json"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert queued.returncode == 0, queued.stderr
    assert [run["method"] for run in json.loads(queued.stdout)["queued"]] == ["CLIP", "FairCLIP", "FairCLIP"]
    broken = one.replace("[set]", "[set]\nlearning_rate = 1e30\ngradient_clip = 1e30")
    failed = subprocess.run(
        command(written(tmp_path, broken, "broken"), data, tmp_path / "f", "--json"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 2
    assert "3 runs failed" in json.loads(failed.stdout)["error"]
    partly = broken.replace("each_attribute = true", "").replace("2.0 }", "2.0, learning_rate = 1e-4 }")
    some = subprocess.run(
        command(written(tmp_path, partly, "partly"), data, tmp_path / "f", "--json"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert some.returncode == 2
    said = json.loads(some.stdout)
    assert [one["run"] for one in said["failed"]] == ["CLIP · tiny · seed 0"]
    assert {entry["method"] for entry in said["entries"]} == {"FairCLIP"}


def test_without_the_baseline_nothing_is_compared(done, tmp_path: Path) -> None:
    experiment, _, _, cells, runs, _ = done
    rest = {cell: run for cell, run in runs.items() if cell.method != "CLIP"}
    experiment = experiment.model_copy(
        update={"methods": experiment.methods | {"again": experiment.methods["FairCLIP"]}}
    )
    rest |= {replace(cell, method="again"): run for cell, run in rest.items()}
    made = make_table(experiment, [*cells, *rest], rest, tmp_path)
    assert {entry.method for entry in made.entries} == {"FairCLIP", "again"}
    assert all(entry.difference is None and not entry.outcome for entry in made.entries)
    assert summary(made) == []
