"""Runs on disk: complete or absent, in order, with their true state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from fairvlm_core import InputError, Run, RunConfig, RunStore, fit, safeio
from fairvlm_core.analysis.held_out import held_out_report, held_out_rows
from fairvlm_core.launch import Hooks, create_run, execute, latest_state
from fairvlm_core.processes import process_of

SHORT = {"epochs": 2, "batch_size": 16}


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "workspace")


@pytest.fixture(scope="module")
def finished(table, arrays, tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("finished"))
    run = create_run(table, RunConfig.build("robustfair", SHORT), store, read_options={})
    execute(run, table=table, arrays=arrays)
    return run


def test_a_finished_run_has_all_its_files(finished, table):
    assert finished.status.state == "finished"
    assert finished.status.epoch == 2
    assert [line["epoch"] for line in finished.metrics()] == [1, 2]
    assert finished.ledger().losses.shape == (2, 100)
    assert list(finished.pairs()["pair_id"]) == list(table.pair_ids)
    assert "text" not in finished.pairs().columns, "no note is copied into a run"
    assert finished.embeddings()["image"].shape == (len(table), 64)
    assert finished.report()["test"]["overall"]["n"] == 60
    assert safeio.check_folder(finished.checkpoint) is None
    assert finished.config == RunConfig.build("robustfair", SHORT)
    assert finished.data["fingerprint"] == table.fingerprint


def test_the_intervals_of_a_run_are_those_of_its_predictions(finished, table):
    kept = finished.report()["test_with_intervals"]
    test = held_out_rows(finished.predictions(), finished.id)
    again = held_out_report(test, table.attributes)
    assert kept == json.loads(json.dumps(again.to_dict()))
    interval = kept["attributes"]["race"]["intervals"]["es_auc"]
    assert interval["low"] < kept["attributes"]["race"]["es_auc"] < interval["high"]
    assert kept["overall"]["auc"] == finished.report()["test"]["overall"]["auc"]


def test_the_checkpoint_is_the_selected_model(finished, table, arrays):
    from fairvlm_core.evaluate import zero_shot
    from fairvlm_core.features import embed
    from fairvlm_core.models import load_clip

    clip = load_clip(str(finished.checkpoint))
    image, _ = embed(clip, arrays)
    predictions = finished.predictions().set_index("pair_id")["score"]
    rows = np.flatnonzero(np.asarray(table.frame["split"]) == "test")
    again = zero_shot(clip, image[rows], table.info.class_prompts)
    assert np.allclose(predictions.loc[table.pair_ids[rows]], again, atol=1e-6)


def test_runs_are_numbered_in_order(store, table):
    made = [create_run(table, RunConfig.build(p, SHORT), store, read_options={}) for p in ("dbpm", "clip")]
    assert [run.id for run in store.runs()] == ["0001-dbpm-s0", "0002-clip-s0"] == [run.id for run in made]
    assert store.get("2").id == store.get("latest").id == "0002-clip-s0"
    with pytest.raises(InputError, match="no run 'nonsense'"):
        store.get("nonsense")
    assert made[0].status.state == "queued"


def test_only_the_owner_may_read_the_workspace(store, table):
    create_run(table, RunConfig(), store, read_options={})
    assert store.workspace.stat().st_mode & 0o077 == 0


def test_fault_23_a_half_written_last_line_is_left_out(finished, tmp_path):
    copy = Run(tmp_path / "0001-x-s0")
    copy.path.mkdir()
    text = (finished.path / "metrics.jsonl").read_text()
    (copy.path / "metrics.jsonl").write_text(text[:-20])
    assert [line["epoch"] for line in copy.metrics()] == [1]


@pytest.mark.parametrize("name", ["ledger.parquet", "status.json", "config.json", "report.json", "embeddings.npz"])
def test_fault_23_missing_and_damaged_files_are_one_clear_line(finished, tmp_path, name):
    read = {
        "ledger.parquet": Run.ledger,
        "status.json": lambda run: run.status,
        "config.json": lambda run: run.config,
        "report.json": Run.report,
        "embeddings.npz": Run.embeddings,
    }[name]
    for content in (None, b"", b"half a fi"):
        copy = Run(tmp_path / f"{content!r}")
        copy.path.mkdir()
        (copy.path / "status.json").write_bytes((finished.path / "status.json").read_bytes())
        if content is None:
            (copy.path / name).unlink(missing_ok=True)
        else:
            (copy.path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read(copy)
        assert "\n" not in str(caught.value)


def test_fault_24_a_reused_pid_is_not_taken_for_the_run(store, table):
    run = create_run(table, RunConfig(), store, read_options={})
    run.set_status(state="running", **process_of().record())
    assert run.status.state == "running"
    run.set_status(state="running", pid=os.getpid(), process_started=time.time() - 10_000)
    assert run.status.state == "interrupted"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    time.sleep(0.5)  # a zombie
    run.set_status(state="running", pid=child.pid, process_started=None)
    assert run.status.state == "interrupted"
    child.wait()


def test_a_run_that_fails_says_why(store, table, arrays):
    config = RunConfig.build("clip", SHORT | {"learning_rate": 1e30, "gradient_clip": 1e30})
    run = create_run(table, config, store, read_options={})
    with pytest.raises(Exception, match="not finite"):
        execute(run, table=table, arrays=arrays)
    assert run.status.state == "failed"
    assert "not finite" in run.status.message


def test_changed_data_is_refused(store, table, arrays):
    run = create_run(table, RunConfig.build("clip", SHORT), store, read_options={})
    data = run.data | {"fingerprint": "another"}
    safeio.write_json(run.path / "data.json", data)
    with pytest.raises(InputError, match="changed"):
        execute(Run(run.path), table=table, arrays=arrays)


def test_fault_20_a_killed_run_is_interrupted_and_resumes_bit_for_bit(store, table, arrays, zygote, tmp_path):
    config = RunConfig.build("robustfair", {"epochs": 6, "batch_size": 16})
    run = create_run(table, config, store, read_options={})
    command = ["train", "--resume", run.id, "--no-map", "--workspace", str(store.workspace)]
    process = zygote.start(command, tmp_path)
    deadline = time.time() + 120
    while len(run.metrics()) < 2 and time.time() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.end(30).code == -signal.SIGKILL
    assert run.status.state == "interrupted"
    state = latest_state(run)
    assert 2 <= state.epoch < 6
    assert zygote.run(command).code == 0
    assert run.status.state == "finished"
    whole = fit(table, config, arrays=arrays)
    assert np.array_equal(run.ledger().losses, whole.ledger.losses)
    from fairvlm_core.models import load_clip

    saved = load_clip(str(run.checkpoint)).module.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in whole.clip.module.state_dict().items())


def test_a_stopped_run_with_folds_continues_in_its_fold_bit_for_bit(store, table, arrays):
    config = RunConfig.build("clip", SHORT | {"epochs": 2, "folds": 3})
    run = create_run(table, config, store, read_options={})

    class Stop(Exception):
        pass

    def in_the_second_fold(step, steps):
        if step > steps // 2 + 1:
            raise Stop

    with pytest.raises(Stop):
        execute(run, table=table, arrays=arrays, hooks=Hooks(on_step=in_the_second_fold))
    assert [int(path.name) for path in run.saved_states] == [2, 3]  # the first fold's last epoch, the second's first
    steps = []
    resumed = execute(run, table=table, arrays=arrays, resume=True, hooks=Hooks(on_step=lambda *at: steps.append(at)))
    assert steps[0][0] == steps[0][1] // 2 + 1
    whole = execute(create_run(table, config, store, read_options={}), table=table, arrays=arrays)
    assert np.array_equal(resumed.ledger.losses, whole.ledger.losses)
    pd.testing.assert_frame_equal(resumed.predictions, whole.predictions)


def test_a_damaged_newest_state_falls_back_to_the_one_before(store, table, arrays):
    run = create_run(table, RunConfig.build("clip", SHORT | {"epochs": 3}), store, read_options={})

    class StopAfterTwo(Exception):
        pass

    def stop(report):
        if report.epoch == 2:
            raise StopAfterTwo

    with pytest.raises(StopAfterTwo):
        execute(run, table=table, arrays=arrays, hooks=Hooks(on_epoch=stop))
    newest = run.path / "resume" / "0002" / "state.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert latest_state(run).epoch == 1


def test_files_are_old_or_new(tmp_path):
    path = tmp_path / "a.json"
    safeio.write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        safeio.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}

    def stop_halfway():
        with safeio.new_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_halfway()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
