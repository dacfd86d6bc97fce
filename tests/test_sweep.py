"""Sweeps: real trials, two workers on one journal, a killed worker, pruning, the front, and bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Started, Zygote

from fairvlm_core import InputError, PairTable, RunConfig, RunStore
from fairvlm_core.analysis.comparison import compare_runs
from fairvlm_core.cli import main
from fairvlm_core.sweep import Plan, Space, Storage, place_of, read_space_file, read_sweep, sweep
from fairvlm_core.sweep import storage as storage_module
from fairvlm_core.sweep.results import RECORD
from fairvlm_core.sweep.storage import load_optuna
from fairvlm_core.synth import SynthConfig, synthesize, write_synth

pytest.importorskip("optuna")
SHORT = {"epochs": "1", "batch_size": "16", "device": "cpu"}
CHOICES = ["fairness.weight=0.1|0.5|1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SynthConfig(n_train=32, n_val=30, n_test=30, size=64, seed=3)
    return write_synth(synthesize(config, workers=1), tmp_path_factory.mktemp("data") / "synth")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> PairTable:
    return PairTable.read(folder)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.delenv(storage_module.VARIABLE, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return RunStore(tmp_path / "workspace")


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    """A real server in a temporary folder."""
    path = Path(__file__).parents[1] / "benchmarks" / "review_store.py"
    spec = importlib.util.spec_from_file_location("postgres_for_sweeps", path)
    programs = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(programs)
    if programs.postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed: sweeps are not tested on it (apt-get install postgresql)")
    with programs.postgres_server() as url:
        yield programs.new_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'optuna.db'}"
    return request.getfixturevalue("postgres_server")


def space(*items: str, **settings: str) -> Space:
    return Space.read(items, settings=SHORT | settings)


@pytest.fixture
def worker(zygote: Zygote, folder: Path, store: RunStore, tmp_path: Path) -> Callable[..., Started]:
    """Start `fairvlm sweep` in a process of its own."""

    def start(trials: int, *more: str) -> Started:
        arguments = ["sweep", str(folder), "--workspace", str(store.workspace), "--trials", str(trials), *more]
        return zygote.start(arguments, tmp_path)

    return start


def settings(epochs: int = 1) -> list[str]:
    every = SHORT | {"epochs": str(epochs)}
    return [word for key, value in every.items() for word in ("--set", f"{key}={value}")]


# A study --------------------------------------------------------------------------------------------------------------


def test_a_study_takes_the_model_for_the_data_and_older_studies_go_on(store, pairs):
    storage = place_of("models", store.workspace)
    sweep(pairs, store, storage, Plan(1, ("auc",), space(*CHOICES)))
    assert store.runs()[0].config.model == "tiny"
    other = replace(pairs, info=replace(pairs.info, name="other"))
    storage = place_of("others", store.workspace)
    sweep(other, store, storage, Plan(1, ("auc",), space(*CHOICES)))
    config = store.runs()[-1].config
    assert (config.model, config.trainable, config.learning_rate) == ("base", "head", 1e-5)
    sweep(other, store, storage, Plan(1, ("auc",), space(*CHOICES)))  # the same study
    study = load_optuna().load_study(study_name="others", storage=storage.open())
    record = study.user_attrs[RECORD]
    record["space"]["settings"].pop("model")  # as studies were stored before
    study.set_user_attr(RECORD, record)
    sweep(other, store, storage, Plan(2, ("auc",), space(*CHOICES)))
    assert store.runs()[-1].config.model == "tiny"


def test_a_trial_is_the_mean_of_ordinary_runs_on_validation(store, pairs):
    storage = place_of("first", store.workspace)
    plan = Plan(3, ("auc", "es_auc", "worst_group:gender"), space("preset=clip|robustfair", "fairness.weight=0.1|1"), 2)
    reported = []
    found = sweep(pairs, store, storage, plan, on_trial=lambda _, trial: reported.append(trial.number))
    assert reported == [0, 1, 2]
    assert [(t.preset, dict(t.params)) for t in found.trials] == [
        ("clip", {}),  # λ is not laid over a preset without the term
        ("robustfair", {"fairness.weight": "0.1"}),
        ("robustfair", {"fairness.weight": "1"}),
    ]
    for trial in found.trials:
        runs = [store.get(name) for name in trial.runs]
        assert [run.config.seed for run in runs] == [0, 1]
        assert {run.status.state for run in runs} == {"finished"}
        val = [run.report()["val"] for run in runs]
        by_hand = (
            np.mean([v["overall"]["auc"] for v in val]),
            np.mean([np.mean([a["es_auc"] for a in v["attributes"].values() if a["es_auc"] is not None]) for v in val]),
            np.mean([v["attributes"]["gender"]["worst_group_auc"] for v in val]),
        )
        assert trial.values == pytest.approx(by_hand)
        assert store.get(trial.runs[0]).config.epochs == 1
    assert len(store.runs()) == 6
    assert len(compare_runs([store.get(name) for t in found.trials for name in t.runs], n_resamples=2).methods) == 3
    again = sweep(pairs, store, storage, Plan(20))  # three combinations, each once
    assert again == found == read_sweep(storage)
    for plan, words in (
        (Plan(3, ("auc",)), "another --objective"),
        (Plan(3, seeds=3), "another --seeds"),
        (Plan(3, space=space(*CHOICES)), "varied or set"),
    ):
        with pytest.raises(InputError, match=words):
            sweep(pairs, store, storage, plan)
    other = pairs.take(np.arange(len(pairs))[::-1])
    if other.fingerprint != pairs.fingerprint:
        with pytest.raises(InputError, match="other data"):
            sweep(other, store, storage, Plan(4))


def test_two_workers_share_a_study_and_a_killed_one_is_made_good(store, pairs, worker):
    """Two at once, one of them killed in the middle of a run: every trial once, the killed run goes on."""
    varied = ["--param", "fairness.weight=0.01..1:log", *settings(epochs=3), "--json"]
    both = [worker(4, *varied) for _ in range(2)]
    storage = place_of("sweep", store.workspace)
    victim = None
    until = time.monotonic() + 120
    while victim is None and time.monotonic() < until:
        for run in store.runs():
            status = run.status
            if status.state == "running" and status.epoch >= 1 and status.pid in [p.pid for p in both]:
                victim = run
                os.kill(status.pid, signal.SIGKILL)
                break
        time.sleep(0.01)
    assert victim is not None
    ended = [process.end(200) for process in both]
    assert sorted(each.code for each in ended) == [-signal.SIGKILL, 0], ended
    found = sweep(pairs, store, storage, Plan(4))  # takes the rest of the plan from the study
    assert [trial.state for trial in found.trials] == ["complete"] * 4
    drawn = [trial.params["fairness.weight"] for trial in found.trials]
    assert len(set(drawn)) == 4
    assert victim.status.state == "finished"
    assert "resumed" in (victim.path / "log.txt").read_text()
    assert victim.id in [name for trial in found.trials for name in trial.runs]
    assert len(store.runs()) == 4  # no run twice
    assert not list((store.workspace / "sweeps" / "sweep.alive").glob("*"))
    assert (store.workspace / "sweeps" / "sweep.journal").stat().st_mode & 0o077 == 0
    printed = json.loads(next(each.out for each in ended if each.out))  # exactly one document
    assert (printed["study"], printed["split"], printed["n_val"]) == ("sweep", "val", 30)
    assert len(printed["trials"]) >= 3


def test_ctrl_c_leaves_the_trial_for_the_next_call(store, worker):
    process = worker(1, "--param", "fairness.weight=0.1..1", *settings(epochs=400), "--objective", "auc")
    until = time.monotonic() + 120
    while not any(run.status.epoch >= 1 for run in store.runs()) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    ended = process.end(60)
    assert ended.code == 130
    assert "the same command continues" in ended.said
    assert "Traceback" not in ended.said
    run = store.runs()[0]
    assert run.status.state == "cancelled"
    storage = place_of("sweep", store.workspace)
    (waiting,) = read_sweep(storage).trials
    assert (waiting.state, waiting.runs) == ("waiting", (run.id,))
    assert 0.1 <= waiting.params["fairness.weight"] <= 1


def test_a_trial_that_cannot_be_trained_is_told_and_not_tried_again(store, pairs):
    storage = place_of("bad", store.workspace)
    found = sweep(pairs, store, storage, Plan(2, ("auc",), space("learning_rate=1e-3|1e30"), sampler="random"))
    assert [trial.state for trial in found.trials] == ["complete", "failed"]
    assert "not finite" in found.trials[1].message
    assert [trial.number for trial in found.front] == [0]
    assert sweep(pairs, store, storage, Plan(2)) == found


def test_pruning_ends_what_is_below_the_median(store, pairs):
    storage = place_of("pruned", store.workspace)
    rates = "learning_rate=1e-9|2e-9|3e-9|4e-9|0.03"  # four that leave the built-in model as it is, one that breaks it
    plan = Plan(5, ("auc",), space(rates, epochs="3"), prune=True)
    found = sweep(pairs, store, storage, plan)
    assert [trial.state for trial in found.trials][:4] == ["complete"] * 4
    assert found.trials[4].state == "pruned"
    run = store.get(found.trials[4].runs[0])
    assert (run.status.state, run.status.epoch) == ("cancelled", 2)
    assert run.status.message == "pruned by sweep pruned"
    assert found.trials[4].values is None
    with pytest.raises(InputError, match="one objective only"):
        sweep(pairs, store, place_of("two", store.workspace), Plan(2, ("auc", "es_auc"), prune=True))


def test_a_database_serves_as_storage_and_its_heartbeat_frees_what_was_left(store, pairs, monkeypatch, database):
    import optuna

    monkeypatch.setattr(storage_module, "BEAT", 1)
    monkeypatch.setattr(storage_module, "GRACE", 1)
    storage = place_of("sql", store.workspace, database)
    sweep(pairs, store, storage, Plan(1, ("auc",), space("fairness.weight=0.1..1")))
    opened = storage.open()
    with pytest.warns(UserWarning, match="Heartbeat"):
        left = optuna.load_study(study_name="sql", storage=opened).ask()  # a worker that dies at once
    opened.record_heartbeat(left._trial_id)
    time.sleep(3)
    found = sweep(pairs, store, storage, Plan(2))
    assert [(trial.number, trial.state) for trial in found.trials] == [(0, "complete"), (2, "complete")]
    assert "sql" in [one.study for one in storage_module.known(store.workspace, storage.url)]


@pytest.mark.timeout(900)
def test_two_workers_share_a_study_in_postgresql(store, pairs, worker, postgres_server):
    asked = ["--param", "fairness.weight=0.01..1:log", "--objective", "auc,es_auc", "--seeds", "1", *settings()]
    other = worker(3, *asked, "--study", "team", "--storage", postgres_server)
    storage = place_of("team", store.workspace, postgres_server)
    plan = Plan(3, ("auc", "es_auc"), space("fairness.weight=0.01..1:log"), 1)
    sweep(pairs, store, storage, plan)
    ended = other.end(250)
    assert ended.code == 0, ended.said
    found = read_sweep(storage)
    assert [(trial.number, trial.state) for trial in found.trials] == [(i, "complete") for i in range(3)]
    assert len({trial.params["fairness.weight"] for trial in found.trials}) == 3
    assert sorted(name for trial in found.trials for name in trial.runs) == sorted(run.id for run in store.runs())
    assert not (store.workspace / "sweeps" / "team.journal").exists()


# The front ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [("auc",), ("auc", "es_auc"), ("auc", "es_auc", "worst_group")])
def test_the_front_is_that_of_brute_force(objectives, tmp_path):
    import optuna

    storage = place_of("front", tmp_path)
    study = optuna.create_study(study_name="front", storage=storage.open(), directions=["maximize"] * len(objectives))
    data = {"name": "d", "fingerprint": "f", "n_val": 1}
    study.set_user_attr("fairvlm", {"version": 1, "objectives": objectives, "seeds": [0], "data": data,
                                    "space": Space.read(CHOICES).to_dict()})  # fmt: skip
    points = np.random.default_rng(0).integers(0, 8, (40, len(objectives))) / 8  # with ties
    study.add_trials([optuna.create_trial(values=list(map(float, point))) for point in points])

    def beaten(point: np.ndarray) -> bool:
        return any((other >= point).all() and (other > point).any() for other in points)

    found = read_sweep(storage)
    assert [trial.number for trial in found.trials if trial.front] == [
        i for i, point in enumerate(points) if not beaten(point)
    ]
    firsts = [trial.values[0] for trial in found.front]
    assert firsts == sorted(firsts, reverse=True)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--param", "fairness.weigth=0..1"], "did you mean fairness.weight"),
        (["--param", "fairness.weight=1..0"], "LOW < HIGH"),
        (["--param", "fairness.weight=0..1:log"], "LOW > 0 for log"),
        (["--param", "fairness.weight=1"], "single value"),
        (["--param", "epochs=1.5..3"], "whole numbers"),
        (["--param", "mining.faulty_sd=-1..2"], "mining.faulty_sd"),
        (["--param", "seed=0..3"], "--seeds K"),
        (["--param", "preset=clip|best"], "unknown preset 'best'"),
        (["--param", "fairness.attributes=race|eyes"], "'eyes' is not in the data"),
        (["--param", "epochs=1..2", "--set", "epochs=1"], "given twice"),
        (["--objective", "test_auc"], "choose among auc, es_auc, worst_group"),
        (["--objective", "es_auc:eyes"], "an attribute of the data"),
        (["--objective", "auc,auc"], "each once"),
        (["--sampler", "grid"], "choose one of tpe"),
        (["--study", "../out"], "--study"),
        (["--storage", "nonsense://"], "--storage"),
        (["--prune"], "one objective only"),
        (["--space", "nowhere.toml"], "--space"),
        (["--seeds", "0"], "seeds"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(options, words, folder, store, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", str(folder), "--workspace", str(store.workspace), *options])
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert words in said
    assert "\n" not in said
    assert not store.runs()


def test_a_space_is_read_from_a_file(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text('preset = "dbpm"\n[param]\nmining.faulty_sd = "1..3"\nbatch_size = [16, 32]\n[set]\nepochs = 2\n')
    items, fixed, preset = read_space_file(path)
    found = Space.read(items, preset, fixed)
    assert [p.text for p in found.parameters] == ["mining.faulty_sd=1..3", "batch_size=16|32"]
    assert (found.preset, dict(found.settings)) == ("dbpm", {"epochs": 2})
    assert Space.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert RunConfig.build("dbpm", fixed).epochs == 2
    path.write_text("[params]\na = 1\n")
    with pytest.raises(InputError, match="only the tables"):
        read_space_file(path)


def test_a_damaged_journal_and_a_missing_study_are_one_line(tmp_path):
    storage = place_of("torn", tmp_path)
    with pytest.raises(InputError, match="no study 'torn'"):
        read_sweep(storage)
    assert not (tmp_path / "sweeps").exists()
    assert storage_module.known(tmp_path) == []
    storage.open()
    storage.journal.write_text("{not json}\n{}\n")
    with pytest.raises(InputError, match=r"torn\.journal is damaged"):
        read_sweep(storage)


def test_a_password_is_never_shown():
    storage = Storage("s", url="postgresql://ann:secret@host/db")
    assert "secret" not in repr(storage) + storage.shown
