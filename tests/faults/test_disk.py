"""Fault 21: every write, fsync and rename fails in turn; what was there before is whole, and the run can go on."""

from __future__ import annotations

import numpy as np
import pytest
from fault_runs import LONG, Undisturbed, Zygote, assert_equal_runs, resume_arguments, train_arguments

from fairvlm_core import safeio
from fairvlm_core.errors import InputError
from fairvlm_core.runs import Run, RunStore

PIECES = 30 if LONG else 2
FEW = 1  # changes a piece in the short form


def places(undisturbed: Undisturbed, piece: int, how: str) -> list[int]:
    """Numbers of one piece of all changes to the disk: every one that can be refused, every third for a disk that stays
    full; a random few of them in the short form."""
    every = np.array_split(np.arange(len(undisturbed.events)), PIECES)[piece]
    if not LONG:
        return [int(number) for number in np.random.default_rng(piece).choice(every, FEW, replace=False)]
    return [int(number) for number in (every if how == "refuse" else every[::3])]


def assert_whole(run: Run) -> None:
    """Whatever is there can be read."""
    assert run.status.state in ("queued", "failed", "interrupted", "finished")
    run.config, run.data, run.environment, run.pairs(), run.metrics()
    for name in ("ledger.parquet", "mining.parquet", "predictions.parquet"):
        if (run.path / name).exists():
            assert len(run._parquet(name)) > 0
    if (run.path / "report.json").exists():
        assert run.report()["test"]
    if (run.path / "embeddings.npz").exists():
        assert len(run.embeddings()["image"]) == 96
    for folder in [run.checkpoint, *(run.path / "resume").glob("[0-9]*")]:
        if folder.exists():
            assert safeio.check_folder(folder) is None


@pytest.mark.parametrize("how", ["refuse", "full"])
@pytest.mark.parametrize("piece", range(PIECES))
def test_fault_21_a_failing_write_leaves_old_or_new_and_the_run_goes_on(
    few_pairs, undisturbed, zygote: Zygote, tmp_path, piece, how
):
    for number in places(undisturbed, piece, how):
        event = undisturbed.events[number]
        workspace = tmp_path / str(number)
        ended = zygote.run(train_arguments(few_pairs, workspace), workspace, at=number, how=how)
        assert ended.code >= 0, f"{event}: killed"
        assert "Traceback" not in ended.said, f"{event}: {ended.said}"
        if ended.code != 0:
            assert ended.code in (1, 2), event
            line = ended.said.strip().splitlines()[-1]
            assert line.startswith("fairvlm: "), f"{event}: {line}"
            assert "cannot be written" in line, f"{event}: {line}"
        store = RunStore(workspace)
        assert len(store.runs()) <= 1
        for run in store.runs():
            assert_whole(run)
            if ended.code == 0:
                assert run.status.state == "finished", event
        if ended.code != 0:
            arguments = resume_arguments("1", workspace) if store.runs() else train_arguments(few_pairs, workspace)
            again = zygote.run(arguments, workspace)
            assert again.code == 0, f"{event}: {again.said}"
        assert_equal_runs(RunStore(workspace).get("1"), undisturbed.run)


def test_fault_21_a_failing_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    """Moving the old aside is the one moment in which a folder has no name."""
    place = tmp_path / "checkpoint"
    with safeio.new_folder(place) as folder:
        (folder / "a").write_text("old")
    import os

    rename = os.rename

    def failing(source, target):
        if str(target) == str(place) and ".aside" not in str(source):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(safeio.StorageError, match="checkpoint cannot be written"), safeio.new_folder(place) as folder:
        (folder / "a").write_text("new")
    assert safeio.check_folder(place) is None
    assert (place / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_fault_21_what_a_kill_left_aside_is_put_back_and_temporaries_are_swept(tmp_path):
    place = tmp_path / "checkpoint"
    with safeio.new_folder(place) as folder:
        (folder / "a").write_text("old")
    place.rename(tmp_path / ".checkpoint.aside")
    (tmp_path / ".status.json.abcd1234").write_text("half")
    (tmp_path / ".lock").write_text("")
    (tmp_path / "status.json").write_text("{}")
    assert safeio.sweep(tmp_path) == 0, "what is young may belong to a process at work"
    assert safeio.sweep(tmp_path, older_than=-1) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoint", "status.json"]
    assert safeio.check_folder(place) is None


@pytest.mark.parametrize("old", [b"", b"whole"])
def test_fault_21_a_full_disk_keeps_the_old_file(tmp_path, old):
    """The real limit of the system, in this process, for a moment."""
    import resource

    path = tmp_path / "metrics.jsonl"
    path.write_bytes(old)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        with pytest.raises(InputError, match=r"metrics\.jsonl cannot be written \(File too large\): free some space"):
            safeio.write_text(path, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]
