"""Fault 21: every write, fsync and rename fails in turn; what was there before is whole, and the run can go on."""

from __future__ import annotations

import pytest
from fault_runs import PIECES, assert_every_failure_is_survived

from fairvlm_core import safeio
from fairvlm_core.errors import InputError


@pytest.mark.parametrize("piece", range(PIECES))
def test_fault_21_a_refused_change_leaves_old_or_new_and_the_run_goes_on(
    few_pairs, undisturbed, zygote, tmp_path, piece
):
    assert_every_failure_is_survived(few_pairs, undisturbed, zygote, tmp_path, piece, "refuse")


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
    assert safeio.sweep(tmp_path) == 0, "a young file may belong to a running process"
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
