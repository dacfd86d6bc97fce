"""Fault 25 and formats: what was written by version 1 stays readable; what is newer is refused in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Ended, Zygote

from fairvlm_core import safeio
from fairvlm_core.analysis.mining_again import mine_again
from fairvlm_core.config import RunConfig
from fairvlm_core.errors import InputError
from fairvlm_core.launch import create_run, latest_state
from fairvlm_core.models import load_clip
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import Run, RunStore

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture
def v1(tmp_path, monkeypatch) -> Path:
    """A copy of what version 1 wrote; paths inside are relative to it."""
    shutil.copytree(FIXTURES / "v1", tmp_path / "v1")
    monkeypatch.chdir(tmp_path / "v1")
    return tmp_path / "v1"


@pytest.fixture
def finished(v1) -> Run:
    return RunStore(v1 / "workspace").get("1")


@pytest.fixture
def stopped(v1) -> Run:
    return RunStore(v1 / "workspace").get("2")


def fairvlm(zygote: Zygote, *arguments: str, cwd: Path, **plan: Any) -> Ended:
    return zygote.run(list(arguments), cwd / "workspace", cwd=str(cwd), **plan)


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_fixtures_stay_small():
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(FIXTURES / "v1" / "workspace" / "runs" / "0001-robustfair-s0") < 300_000
    assert size(FIXTURES / "v1" / "data") < 100_000


def test_a_finished_run_of_version_1_opens(finished):
    assert finished.status.state == "finished"
    assert finished.config.preset == "robustfair"
    assert finished.data["name"] == "SynthFundus"
    assert [line["epoch"] for line in finished.metrics()] == [1, 2, 3]
    assert finished.ledger().losses.shape == (3, 16)
    assert len(finished.pairs()) == 32
    assert list(finished.predictions()["split"].astype(str).value_counts()) == [8, 8]
    assert finished.embeddings()["image"].shape == (32, 8)
    assert finished.report()["test"]["overall"]["n"] == 8
    assert finished.environment["fairvlm"]
    assert safeio.check_folder(finished.checkpoint) is None
    assert load_clip(str(finished.checkpoint)).image_size == (32, 32)


def test_a_data_folder_of_version_1_gives_the_same_table(v1, finished):
    table = PairTable.read(v1 / "data")
    assert table.fingerprint == finished.data["fingerprint"]
    assert table.planted()["kind"].isin(["clean", "mismatch", "shortcut"]).all()


def test_a_run_of_version_1_is_mined_and_compared(v1, finished, zygote):
    mined = mine_again(finished, faulty_sd=1.0, rule="threshold")
    assert len(mined.rows) == 16
    assert "faulty" in set(mined.rows["kind"])
    done = fairvlm(zygote, "compare", "1", "1", "--workspace", "workspace", "--json", cwd=v1, stdout="said")
    assert done.code == 0, done.said
    assert json.loads(done.said)


def test_a_run_of_version_1_is_resumed(v1, stopped, zygote):
    before = stopped.ledger().losses.copy()
    assert stopped.status.state == "cancelled"
    assert latest_state(stopped).epoch == 2
    done = fairvlm(zygote, "train", "--resume", "2", "--no-map", "--workspace", "workspace", cwd=v1)
    assert done.code == 0, done.said
    assert stopped.status.state == "finished"
    assert np.array_equal(stopped.ledger().losses[:2], before)
    assert stopped.ledger().losses.shape == (3, 16)


def raise_json(path: Path) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"schema_version": 99}))


def raise_lines(path: Path) -> None:
    lines = [json.loads(line) | {"schema_version": 99} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def raise_parquet(path: Path) -> None:
    frame = pd.read_parquet(path)
    assert frame.attrs == {"schema_version": 1}
    frame.attrs = {"schema_version": 99}
    frame.to_parquet(path)


def raise_npz(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        values = dict(arrays)
    np.savez(path, **(values | {"schema_version": np.array(99)}))


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Run], Any]]] = {
    "config.json": (raise_json, lambda run: run.config),
    "data.json": (raise_json, lambda run: run.data),
    "environment.json": (raise_json, lambda run: run.environment),
    "status.json": (raise_json, lambda run: run.status),
    "report.json": (raise_json, Run.report),
    "metrics.jsonl": (raise_lines, Run.metrics),
    "pairs.parquet": (raise_parquet, Run.pairs),
    "ledger.parquet": (raise_parquet, Run.ledger),
    "predictions.parquet": (raise_parquet, Run.predictions),
    "embeddings.npz": (raise_npz, Run.embeddings),
}


@pytest.mark.parametrize("name", READERS)
def test_fault_25_a_newer_file_of_a_run_is_refused_politely(finished, name):
    change, read = READERS[name]
    read(Run(finished.path))
    change(finished.path / name)
    with pytest.raises(InputError, match=r"schema version 99, this fairvlm reads up to 1: update it") as error:
        read(Run(finished.path))
    assert name in one_line(error)


@pytest.mark.parametrize("name", ["status.json", "config.json", "data.json"])
@pytest.mark.parametrize("version", ["two", 0, -1, True, None, 1.5, [1]])
def test_fault_25_a_version_that_is_none_is_damage(finished, name, version):
    values = json.loads((finished.path / name).read_text())
    (finished.path / name).write_text(json.dumps(values | {"schema_version": version}))
    with pytest.raises(InputError, match="is damaged") as error:
        READERS[name][1](Run(finished.path))
    assert name in one_line(error)


@pytest.mark.parametrize("name", ["status.json", "config.json", "data.json", "report.json"])
def test_a_file_without_a_version_is_of_version_1(finished, name):
    values = json.loads((finished.path / name).read_text())
    values.pop("schema_version", None)
    (finished.path / name).write_text(json.dumps(values))
    READERS[name][1](Run(finished.path))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "asleep"},
        {"state": None},
        {"pid": "none"},
        {"pid": [1]},
        {"epoch": "two"},
        {"message": 5},
        {"more": 1},
    ],
    ids=str,
)
def test_fault_25_a_status_with_an_entry_of_a_wrong_kind_is_damage(finished, change):
    values = json.loads((finished.path / "status.json").read_text())
    (finished.path / "status.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError, match=r"status\.json is damaged") as error:
        _ = finished.status
    one_line(error)


def test_fault_25_a_deeply_nested_line_of_metrics_is_left_out(finished):
    lines = finished.metrics()
    with (finished.path / "metrics.jsonl").open("a") as file:
        file.write("[" * 100_000 + "\n")
    assert finished.metrics() == lines


@pytest.mark.parametrize("name", ["/etc/hostname", "../status.json", "a/../../status.json"])
def test_fault_25_a_manifest_names_nothing_outside_its_folder(finished, name):
    manifest = finished.checkpoint / safeio.MANIFEST
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"files": values["files"] | {name: {"size": 1, "sha256": ""}}}))
    assert safeio.check_folder(finished.checkpoint) == "its manifest names a file outside of it"


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
@pytest.mark.parametrize("name", ["status.json", "config.json", "data.json", "report.json"])
def test_fault_25_json_that_is_no_object_is_one_line(finished, name, content):
    (finished.path / name).write_text(content)
    with pytest.raises(InputError, match="instead of an object") as error:
        READERS[name][1](Run(finished.path))
    one_line(error)


def test_fault_25_a_newer_run_is_refused_by_every_command_in_one_line(v1, finished, zygote):
    raise_json(finished.path / "status.json")
    raise_json(finished.path / "config.json")
    for arguments in (["mine", "1"], ["compare", "1", "2"], ["train", "--resume", "1"]):
        done = fairvlm(zygote, *arguments, "--workspace", "workspace", cwd=v1)
        assert done.code == 2, done.said
        assert "update it" in done.said
        assert len(done.said.strip().splitlines()) == 1
    listed = fairvlm(zygote, "runs", "--workspace", "workspace", "--json", cwd=v1, stdout="said")
    assert listed.code == 0
    first, second = json.loads(listed.said)["runs"]
    assert (first["state"], second["state"]) == ("damaged", "cancelled")


def test_fault_25_a_newer_state_is_not_resumed_from_and_says_so(stopped):
    raise_json(stopped.path / "resume" / "0002" / "manifest.json")
    assert latest_state(stopped) is None
    assert "a newer fairvlm wrote it (schema version 99)" in (stopped.path / "log.txt").read_text()


@pytest.mark.parametrize("key", ["schema", "schema_version"])
def test_fault_25_a_newer_description_of_data_is_refused(v1, key):
    values = json.loads((v1 / "data" / "dataset.json").read_text())
    values.pop("schema")
    (v1 / "data" / "dataset.json").write_text(json.dumps(values | {key: 2}))
    with pytest.raises(InputError, match=r"dataset\.json: schema 2 is newer than the 1 this version reads") as error:
        PairTable.read(v1 / "data")
    one_line(error)


def test_fault_25_a_clock_set_back_changes_no_order(v1, monkeypatch):
    """Order is by sequence: runs made later count as later, whatever the clock says."""
    store, table = RunStore(v1 / "workspace"), PairTable.read(v1 / "data")
    config = RunConfig.build("clip", {"model": "model", "epochs": 1})
    monkeypatch.setattr("fairvlm_core.runs.now", lambda: "1970-01-02T00:00:00+00:00")
    monkeypatch.setattr("time.time", lambda: 86_400.0)
    made = create_run(table, config, store, read_options={})
    os.utime(made.path, (86_400, 86_400))
    assert [run.id for run in store.runs()] == ["0001-robustfair-s0", "0002-dbpm-s0", "0003-clip-s0"]
    assert store.get("latest").id == made.id
    assert made.status.created.startswith("1970")


@pytest.mark.parametrize("place", ["workspace", "run"])
def test_fault_25_a_read_only_workspace_is_one_line(v1, zygote, place):
    read_only = v1 / ("workspace/runs" if place == "workspace" else "workspace/runs/0002-dbpm-s0")
    arguments = ["train", "data", "--model", "model"] if place == "workspace" else ["train", "--resume", "2"]
    read_only.chmod(0o500)
    done = fairvlm(zygote, *arguments, "--workspace", "workspace", cwd=v1, plain_user=True)
    read_only.chmod(0o700)
    assert done.code == 2, done.said
    assert "Permission denied" in done.said
    assert "workspace" in done.said
    assert len(done.said.strip().splitlines()) == 1
    assert len(RunStore(v1 / "workspace").runs()) == 2
