"""One process trains a run: it is identified, found alive or not, and no other process is ever signalled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

from fairvlm_core import InputError, launch
from fairvlm_core.errors import TrainingError
from fairvlm_core.launch import Hooks, execute
from fairvlm_core.processes import end_tree, process_of
from fairvlm_core.runs import SILENT_AFTER, Run

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def test_a_process_is_identified():
    me = process_of()
    assert me.alive
    assert not replace(me, started=me.started + 0.01).alive  # the pid of another
    assert not replace(me, boot="another boot").alive
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    its = process_of(child.pid)
    time.sleep(0.3)
    assert not its.alive  # a zombie
    child.wait()
    assert not its.alive


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count from 1970")
def test_the_start_is_counted_from_the_boot_so_that_setting_the_clock_changes_nothing():
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    started = process_of(child.pid).started
    child.kill()
    child.wait()
    assert abs(started - uptime) < 2


def test_a_reused_pid_is_never_signalled():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        its = process_of(child.pid)
        end_tree(replace(its, started=its.started - 100), grace=0.2)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_process_tree_is_terminated_or_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    top = psutil.Process(parent.pid)
    while not top.children():
        time.sleep(0.02)
    below = top.children()[0]
    end_tree(process_of(parent.pid), grace=5)
    parent.wait()
    assert not below.is_running() or below.status() == psutil.STATUS_ZOMBIE
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True)
    assert stubborn.stdout.readline() == "ready\n"
    its = process_of(stubborn.pid)
    assert its.alive
    end_tree(its, grace=0.3)
    assert not its.alive
    stubborn.wait()
    stubborn.stdout.close()


_HOLD = """
import sys
from fairvlm_core.runs import Run
from pathlib import Path
with Run(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_train_one_run(register, table, arrays):
    run = register()
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="used by another process"):
        execute(run, table=table, arrays=arrays)
    assert run.status.state == "queued"
    other.communicate("")
    execute(run, table=table, arrays=arrays)
    assert run.status.state == "finished"


def test_a_removed_run_is_not_brought_back_by_its_lock(store):
    run = Run(store.root / "0001-clip-s0")
    with pytest.raises(InputError, match="not there any more"), run.held():
        pass
    assert not store.root.exists()


def test_a_process_without_heartbeat_is_reported_unless_the_clock_was_set_back(register):
    run = register()
    run.set_status(state="running", **process_of().record())
    assert run.status.silent is None
    beat = run.path / "heartbeat"
    beat.touch()
    os.utime(beat, (0, time.time() - SILENT_AFTER - 60))
    assert run.status.state == "running"
    assert run.status.silent == pytest.approx(SILENT_AFTER + 60, abs=5)
    os.utime(beat, (0, time.time() + 86_400))  # as after the clock was set back by a day
    assert run.status.state == "running"
    assert run.status.silent is None


def test_the_heartbeat_is_written_while_nothing_else_happens(register, table, arrays, monkeypatch):
    monkeypatch.setattr(launch, "_HEARTBEAT", 0.05)
    run = register()
    seen = []

    def long_phase(_) -> None:
        for _ in range(5):
            seen.append(run.status.heartbeat)
            time.sleep(0.1)

    execute(run, table=table, arrays=arrays, hooks=Hooks(on_epoch=long_phase))
    assert np.all(np.diff(seen) > 0)


def test_a_killed_run_with_a_cancel_request_is_cancelled(register):
    run = register()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    its = process_of(child.pid)
    child.wait()
    run.set_status(state="running", pid=its.pid, process_started=its.started, boot=its.boot)
    assert run.status.state == "interrupted"
    (run.path / "cancel").touch()
    assert run.status.state == "cancelled"


@pytest.mark.parametrize("allocate", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_out_of_memory_says_what_to_lower(register, table, arrays, allocate):
    run = register()
    with pytest.raises(TrainingError, match="batch_size"):
        execute(run, table=table, arrays=arrays, hooks=Hooks(on_step=lambda *_: allocate(1 << 55)))
    assert run.status.state == "failed"
    assert run.status.message.startswith(
        "out of main memory: lower batch_size (now 32) or take a smaller model (now tiny)"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["its own type", "driver", "cublas"],
)
def test_out_of_gpu_memory_says_what_to_lower(register, table, arrays, error):
    """The errors of torch on a full GPU, raised during a step."""

    def full(*_) -> None:
        raise error

    run = register()
    with pytest.raises(TrainingError, match="batch_size"):
        execute(run, table=table, arrays=arrays, hooks=Hooks(on_step=full))
    assert run.status.state == "failed"
    assert run.status.message.startswith(
        "out of GPU memory: lower batch_size (now 32) or take a smaller model (now tiny)"
    )


def test_other_errors_are_not_reported_as_out_of_memory():
    assert launch._exhausted_memory(RuntimeError("shapes do not fit")) is None
