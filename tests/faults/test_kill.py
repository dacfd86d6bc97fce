"""Fault 20: kill -9 at any moment; the run is found interrupted, and resumed it equals the one that was left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import QUIET, Zygote
from fault_runs import LONG, assert_equal_runs, resume_arguments, train_arguments

from fairvlm_core.runs import Run, RunStore

FAIRVLM = [sys.executable, "-m", "fairvlm_core"]


def moments(n: int, name: str, seed: int) -> list[tuple[str, float]]:
    """n random shares of the whole way, one in each n-th of it, so that no part is left out."""
    shares = (np.arange(n) + np.random.default_rng(seed).random(n)) / n
    return [(name, round(float(share), 3)) for share in shares]


# "disk": at a change to the disk (making the run, saving, final writing). "time": anywhere between the start of the command
# and its end (reading, decoding, steps, validation). Both in forks of one process that has imported everything; "process":
# as "time", each command starts as a new process and imports everything.
LONG_MOMENTS = [*moments(14, "disk", 1), *moments(8, "time", 2), *moments(3, "process", 3)]
MOMENTS = LONG_MOMENTS if LONG else [("disk", 0.1), ("disk", 0.8), ("time", 0.7)]


def killed_at_change(zygote: Zygote, folder: Path, workspace: Path, number: int) -> None:
    ended = zygote.run(train_arguments(folder, workspace), workspace, at=number, how="kill")
    assert ended.code == -signal.SIGKILL, ended.said


def killed_after(folder: Path, workspace: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [*FAIRVLM, *train_arguments(folder, workspace)], env=QUIET, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def what_next(folder: Path, workspace: Path) -> list[str]:
    """What a person would do: resume the run, or start it where it was killed before there was one."""
    runs = RunStore(workspace).runs()
    return resume_arguments(runs[0].id, workspace) if runs else train_arguments(folder, workspace)


def go_on(folder: Path, workspace: Path, zygote: Zygote | None = None) -> Run:
    arguments = what_next(folder, workspace)
    if zygote is not None:
        ended = zygote.run(arguments, workspace)
        assert ended.code == 0, ended.said
    else:
        subprocess.run([*FAIRVLM, *arguments], env=QUIET, check=True, capture_output=True, timeout=250)
    return RunStore(workspace).get("1")


@pytest.fixture(scope="module")
def usual_seconds(few_pairs: Path, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds of the whole command in a fork."""
    workspace = tmp_path_factory.mktemp("usual")
    started = time.monotonic()
    assert zygote.run(train_arguments(few_pairs, workspace), workspace).code == 0
    return time.monotonic() - started


@pytest.fixture(scope="module")
def usual_seconds_of_a_process(few_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The same for a new process."""
    started = time.monotonic()
    arguments = train_arguments(few_pairs, tmp_path_factory.mktemp("usual"))
    subprocess.run([*FAIRVLM, *arguments], env=QUIET, check=True, capture_output=True, timeout=250)
    return time.monotonic() - started


@pytest.mark.parametrize(("kind", "share"), MOMENTS)
def test_fault_20_a_run_killed_at_any_moment_resumes_bit_for_bit(
    few_pairs, undisturbed, zygote, tmp_path, request, kind, share
):
    workspace = tmp_path / "workspace"
    if kind == "disk":
        killed_at_change(zygote, few_pairs, workspace, int(share * len(undisturbed.events)))
    elif kind == "time":
        seconds = share * request.getfixturevalue("usual_seconds")
        assert zygote.run(train_arguments(few_pairs, workspace), workspace, after=seconds).code in (0, -signal.SIGKILL)
    else:
        killed_after(few_pairs, workspace, share * request.getfixturevalue("usual_seconds_of_a_process"))
    runs = RunStore(workspace).runs()
    assert len(runs) <= 1
    if runs:
        assert runs[0].status.state in ("queued", "interrupted", "finished")
        runs[0].metrics()
    if runs and runs[0].status.state == "finished":
        assert_equal_runs(runs[0], undisturbed.run)  # killed after it had finished
        return
    assert_equal_runs(go_on(few_pairs, workspace, None if kind == "process" else zygote), undisturbed.run)


def test_fault_20_at_least_two_states_are_kept_and_a_flipped_bit_uses_the_older_and_says_so(
    few_pairs, undisturbed, zygote, tmp_path
):
    workspace = tmp_path / "workspace"
    last_state = max(
        i for i, event in enumerate(undisturbed.events) if event.startswith("os.rename") and "/resume/.0002" in event
    )
    killed_at_change(zygote, few_pairs, workspace, last_state + 12)
    run = RunStore(workspace).get("1")
    states = sorted(path.name for path in (run.path / "resume").glob("[0-9]*"))
    assert states == ["0001", "0002"]
    newest = run.path / "resume" / "0002" / "state.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert_equal_runs(go_on(few_pairs, workspace, zygote), undisturbed.run)
    assert "state 0002 is not used: state.pt is damaged" in (run.path / "log.txt").read_text()
