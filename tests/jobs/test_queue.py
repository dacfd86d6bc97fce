"""Runs in the background, with real workers, processes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from jobs_at_work import LONG, TAG, started_for, wait_until

from fairvlm_core import InputError, RunConfig, RunStore, jobs
from fairvlm_core.launch import execute
from fairvlm_core.runs import Run

FAIRVLM = [sys.executable, "-m", "fairvlm_core"]
pytestmark = pytest.mark.timeout(900)  # every worker imports torch, which is slow on a busy machine


def finished(*runs: Run) -> bool:
    states = [run.status.state for run in runs]
    assert "failed" not in states, [run.status.message for run in runs]
    return set(states) == {"finished"}


def at_work(run: Run) -> bool:
    return run.status.state == "running" and run.status.epoch >= 1


def gone(store: RunStore) -> bool:
    return not started_for(store.workspace.parent)


def test_three_runs_are_trained_in_their_order_one_at_a_time(store, register, few):
    left = register(3, "clip", few)
    execute(left, table=few)
    left.set_status(ticket=1, device="cpu")  # finished by a worker that was killed before it made the map
    runs = [register(seed, "clip", few) for seed in (2, 0, 1)]
    jobs.launch(store, runs)
    assert [(job.run.id, job.place) for job in jobs.jobs(store) if job.place] == [
        (run.id, place) for place, run in enumerate(runs, 1)
    ]
    assert jobs.serving(store, "cpu") is not None
    at_once = 0

    def done() -> bool:
        nonlocal at_once
        at_once = max(at_once, sum(job.status.state == "running" for job in jobs.jobs(store)))
        return finished(*runs)

    wait_until(done)
    assert at_once == 1
    ended = [(run.path / "report.json").stat().st_mtime_ns for run in runs]
    assert ended == sorted(ended)
    assert all(run.report()["test"]["overall"]["auc"] > 0 for run in runs)
    maps = [run.path / "projection.parquet" for run in (left, *runs)]
    wait_until(lambda: all(path.exists() for path in maps))  # made when no run waits
    wait_until(lambda: gone(store))
    assert jobs.jobs(store) == []
    assert jobs.serving(store, "cpu") is None
    logs = (*store.workspace.glob("jobs/*.log"), *(path for run in runs for path in run.path.glob("*.txt")))
    said = "".join(path.read_text() for path in logs)
    assert "started" in said
    assert not [note for note in few.frame["text"] if str(note)[:40] in said], "no note in a log"


def test_cancelled_killed_and_resumed_runs_leave_the_queue_moving(store, register):
    cancelled, killed, waits, last = register(0, **LONG), register(1, **LONG), register(2), register(3)
    jobs.launch(store, [cancelled, killed, waits, last])
    assert jobs.cancel(waits) == "cancelled"  # before its turn
    wait_until(lambda: at_work(cancelled))
    child = psutil.Process(cancelled.status.pid)
    assert jobs.cancel(cancelled) == "cancelled"
    assert not child.is_running()
    assert cancelled.status.state == "cancelled"
    assert cancelled.status.pid is None
    assert not (cancelled.path / "cancel").exists()

    wait_until(lambda: at_work(killed))
    epoch = killed.status.epoch
    os.kill(killed.status.pid, signal.SIGKILL)
    wait_until(lambda: killed.status.state == "interrupted", 5)
    wait_until(lambda: "killed; where memory ran out, lower batch_size" in killed.status.message, 5)
    wait_until(lambda: finished(last))

    jobs.resume(store, killed)
    assert killed.status.state == "queued"
    wait_until(lambda: killed.status.state == "running" and killed.status.epoch > epoch)
    assert "resumed" in (killed.path / "log.txt").read_text()
    assert jobs.cancel(killed) == "cancelled"
    assert waits.status.state == "cancelled"


def test_a_killed_worker_ends_no_run_and_the_next_one_takes_the_waiting_runs(store, register):
    first, second, third = register(0, **LONG), register(1), register(2)
    jobs.launch(store, [first, second])
    wait_until(lambda: at_work(first))
    os.kill(jobs.serving(store, "cpu").pid, signal.SIGKILL)
    wait_until(lambda: jobs.serving(store, "cpu") is None)
    assert first.status.state == "running"
    jobs.launch(store, [third])
    wait_until(lambda: second.status.message == "starting")
    time.sleep(0.5)
    assert [job.run.id for job in jobs.jobs(store)] == [first.id, second.id, third.id]
    assert second.status.state == "queued"  # the device is not free yet
    jobs.cancel(first)
    wait_until(lambda: finished(second, third))


def test_two_launches_at_the_same_moment_start_one_worker(store, synth_folder, zygote, tmp_path):
    command = ["train", str(synth_folder), "--epochs", "1", "--batch-size", "32", "--set", "device=cpu"]
    command += ["--background", "--no-map", "--workspace", str(store.workspace), "--seed"]
    both = [zygote.start([*command, str(seed)], tmp_path, **{TAG: str(tmp_path)}) for seed in (0, 1)]
    names = {process.end(250).out.splitlines()[-1] for process in both}
    assert names == {run.id for run in store.runs()}
    assert len(names) == 2

    def workers() -> list[psutil.Process]:
        return [p for p in started_for(store.workspace.parent) if "work" in p.cmdline()]

    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(workers()))
        return finished(*store.runs())

    wait_until(done)
    assert most == 1
    listing = subprocess.run(
        [*FAIRVLM, "jobs", "--json", "--workspace", str(store.workspace)], capture_output=True, text=True, check=True
    )
    assert json.loads(listing.stdout)["jobs"] == []


def test_launches_and_cancels_leave_no_process(store, register):
    for seed in range(3):
        run = register(seed, **LONG)
        jobs.launch(store, [run])
        time.sleep(0.4 * seed)
        assert jobs.cancel(run) == "cancelled"
    wait_until(lambda: gone(store))
    assert {run.status.state for run in store.runs()} == {"cancelled"}


def test_a_worker_waits_for_a_launch_and_ends_without_one(store, register, few):
    assert jobs.stand_by(store, "cpu", 5)
    assert not jobs.stand_by(store, "cpu", 5)
    worker = jobs.serving(store, "cpu")
    run = register(0, "clip", few)
    jobs.launch(store, [run])
    assert jobs.serving(store, "cpu") == worker
    wait_until(lambda: finished(run) and (run.path / "projection.parquet").exists())
    assert jobs.serving(store, "cpu") == worker
    wait_until(lambda: gone(store))
    assert jobs.serving(store, "cpu") is None


def test_a_waiting_worker_ends_with_the_process_that_started_it(store):
    script = (
        "import sys; from fairvlm_core import RunStore, jobs;"
        f"jobs.stand_by(RunStore({str(store.workspace)!r}), 'cpu', 3600); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdout.readline() == b"1\n"
        log = store.workspace / "jobs" / ".cpu.worker.lock"
        wait_until(log.exists)
        assert jobs.serving(store, "cpu") is not None
        asking.stdin.close()
        asking.wait()
    wait_until(lambda: gone(store))


def test_a_run_that_cannot_start_fails_with_a_message(store, register, tmp_path):
    run = register()
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so is broken')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    jobs.queue._enqueue(run, 1)
    command = [*FAIRVLM, "work", "--device", "cpu", "--workspace", str(store.workspace)]
    subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert run.status.state == "failed"
    assert "ended before it could begin" in run.status.message
    assert "libtorch.so is broken" in (run.path / "output.txt").read_text()


def test_impossible_requests_are_one_clear_line(store, register):
    run = register()
    run.set_status(state="finished")
    for call in (jobs.cancel, lambda r: jobs.resume(store, r), lambda r: jobs.launch(store, [r])):
        with pytest.raises(InputError, match="is finished") as caught:
            call(run)
        assert "\n" not in str(caught.value)
    assert jobs.jobs(store) == []
    assert gone(store)


def test_a_run_that_waits_is_cancelled_without_any_process(store, register):
    run = register()
    jobs.queue._enqueue(run, 1)
    assert [job.place for job in jobs.jobs(store)] == [1]
    assert jobs.cancel(run) == "cancelled"
    assert jobs.jobs(store) == []
    assert jobs.work(store, "cpu") == 0  # and a worker that finds nothing ends
    assert jobs.serving(store, "cpu") is None


def test_a_run_that_is_only_registered_is_not_in_the_queue(store, register):
    run = register()  # `fairvlm train` in a terminal is about to take it
    assert jobs.jobs(store) == []
    assert jobs.ensure_workers(store) == []
    assert run.status.ticket is None


def test_a_clone_has_the_same_data_and_configuration_except_for_the_given_settings(store, register):
    run = register(4, preset="robustfair-plus", learning_rate=1e-3)
    same = jobs.clone(store, run)
    assert same.config == run.config
    assert same.data == run.data
    assert same.pairs().equals(run.pairs())
    other = jobs.clone(store, run, {"seed": 9, "fairness.weight": 0.5, "fairness.attribute_weights.race": 2})
    assert (other.config.seed, other.config.fairness.weight, other.config.learning_rate) == (9, 0.5, 1e-3)
    assert other.config.fairness.attribute_weights == {"race": 2.0}
    assert other.config.mining == run.config.mining
    with pytest.raises(InputError, match="attribute 'eyes' is not in the data"):
        jobs.clone(store, run, {"fairness.attributes": "eyes"})
    assert len(store.runs()) == 3


def test_the_queue_of_a_run_is_that_of_its_device(monkeypatch, tmp_path):
    def device(name: str) -> str:
        jobs.queue._has_gpu.cache_clear()
        return jobs.device_of(RunConfig.build("clip", {"device": name}))

    monkeypatch.setenv("PATH", str(tmp_path))
    assert (device("cpu"), device("cuda:1"), device("cuda"), device("auto")) == ("cpu", "cuda:1", "cuda:0", "cpu")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100'\n")
    program.chmod(0o700)
    assert device("auto") == "cuda:0"
    jobs.queue._has_gpu.cache_clear()
