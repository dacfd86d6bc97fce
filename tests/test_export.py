"""A run leaves the house: other tools read what was written, and nothing is in it that should not be."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fairvlm_core import InputError, RunConfig, RunStore, safeio
from fairvlm_core.cli import main
from fairvlm_core.export import ExportOptions, export_run, model_card, run_scalars
from fairvlm_core.export.scalars import Scalar
from fairvlm_core.export.tracking import mlflow_names, write_mlflow
from fairvlm_core.features import embed, pair_arrays
from fairvlm_core.launch import create_run, execute
from fairvlm_core.models import load_clip
from fairvlm_core.report.cohort import group_cells

FIXTURE = Path(__file__).parent / "fixtures" / "v1" / "workspace"
QUICK = {"n_resamples": 50}


@pytest.fixture
def run(tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "workspace")
    return RunStore(tmp_path / "workspace").get("1")


@pytest.fixture(scope="module")
def head_run(table, tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("head"))
    config = RunConfig.build("clip", {"epochs": 1, "batch_size": 32, "trainable": "head", "learning_rate": 1e-2})
    run = create_run(table, config, store, read_options={})
    execute(run, table=table)
    return run


def test_open_clip_itself_loads_the_model_and_gives_the_same_embeddings(run, table, tmp_path):
    result = export_run(run, tmp_path / "out", ExportOptions(("model",)))
    assert result.remarks == ()
    scheme = f"local-dir:{tmp_path / 'out' / 'model'}"
    theirs = open_clip.create_model(scheme, weights_only=True).eval()
    _, preprocess = open_clip.create_model_from_pretrained(scheme, weights_only=True)
    ours = load_clip(str(run.checkpoint))
    arrays = pair_arrays(table.take(np.arange(16)), ours)
    image, text = embed(ours, arrays)
    tokens = open_clip.get_tokenizer(scheme, bpe_path=str(tmp_path / "out" / "model" / "vocabulary.txt.gz"))
    notes = ["cup-to-disc ratio 0.7", "healthy rim"]
    assert torch.equal(tokens(notes).int(), ours.tokens(notes)[0])
    with torch.no_grad():
        their_image = theirs.encode_image(ours.normalise(arrays.pixels), normalize=True)
        their_text = theirs.encode_text(arrays.tokens.long(), normalize=True)
    torch.testing.assert_close(their_image, image, atol=1e-6, rtol=0)
    torch.testing.assert_close(their_text, text, atol=1e-6, rtol=0)
    size = ours.image_size
    assert preprocess.transforms[0].size in (size[0], size)


def test_a_head_says_what_open_clip_cannot_express(head_run, arrays, tmp_path):
    result = export_run(head_run, tmp_path / "out", ExportOptions(("model", "card"), **QUICK))
    assert len(result.remarks) == 1
    assert "no residual adapter" in result.remarks[0]
    assert "residual adapter" in (tmp_path / "out" / "README.md").read_text()
    folder = tmp_path / "out" / "model"
    clip, rows = load_clip(str(folder)), np.arange(8)
    adapter = load_file(folder / "adapter" / "adapter.safetensors")
    theirs = open_clip.create_model(f"local-dir:{folder}", weights_only=True).eval()
    with torch.no_grad():
        plain = theirs.encode_image(clip.normalise(arrays.pixels[:8]), normalize=True)
        by_hand = plain + torch.nn.functional.gelu(plain @ adapter["image_down"]) @ adapter["image_up"]
    by_hand = torch.nn.functional.normalize(by_hand, dim=-1)
    torch.testing.assert_close(by_hand, embed(clip, arrays, rows)[0], atol=1e-6, rtol=0)
    assert not torch.allclose(plain, by_hand, atol=1e-4), "the adapter moved, or the remark would say nothing"


def test_low_rank_updates_are_said_to_be_merged(run, tmp_path):
    config = json.loads((run.path / "config.json").read_text()) | {"trainable": "lora"}
    (run.path / "config.json").write_text(json.dumps(config))
    remarks = export_run(RunStore(run.path.parents[1]).get("1"), tmp_path / "out", ExportOptions(("model",))).remarks
    assert [line for line in remarks if "merged" in line] == list(remarks) != []


def test_tables_hold_what_the_run_holds_without_patients_ids(run, tmp_path):
    export_run(run, tmp_path / "out", ExportOptions(("tables",)))
    mine, theirs = run.predictions(), pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    pd.testing.assert_frame_equal(theirs.drop(columns="patient_id"), mine.drop(columns="patient_id"))
    assert theirs["patient_id"].str.fullmatch(r"patient-\d{6}").all()
    assert np.array_equal(pd.factorize(theirs["patient_id"])[0], pd.factorize(mine["patient_id"])[0]), "who is who"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "ledger.parquet"), run.ledger().to_frame())
    ids = set(run.pairs()["patient_id"])
    words = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(one.encode() in text for one in ids for text in words)
    export_run(run, tmp_path / "named", ExportOptions(("tables",), patient_ids=True))
    assert set(pd.read_parquet(tmp_path / "named" / "predictions.parquet")["patient_id"]) <= ids


def test_the_card_has_the_figures_of_the_run_and_no_path(run, tmp_path):
    config = json.loads((run.path / "config.json").read_text()) | {"model": "ViT-B-32@/home/someone/secret/w.pt"}
    (run.path / "config.json").write_text(json.dumps(config))
    run = RunStore(run.path.parents[1]).get("1")
    export_run(run, tmp_path / "out", ExportOptions(("card", "tables"), min_cell=0, **QUICK))
    card = (tmp_path / "out" / "README.md").read_text()
    test = run.report()["test"]
    assert f"AUC {test['overall']['auc']:.3f}, 95 % interval" in card
    for name, facts in test["attributes"].items():
        assert f"| {name} | {facts['es_auc']:.3f}" in card
        for group, values in facts["groups"].items():
            assert f"| {name} | {group} | {values['n']} | {values['n_positive']} |" in card
    for part in ("## Intended use", "## Limits", "## Data", "ViT-B-32@w.pt", str(run.data["fingerprint"])):
        assert part in card
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"secret" not in everything
    assert b"secret" in (run.path / "config.json").read_bytes()


def test_small_cells_are_hidden_in_card_and_scalars(run, tmp_path):
    export_run(run, tmp_path / "out", ExportOptions(("card", "tables"), **QUICK))
    assert "| race | Asian | hidden" in (tmp_path / "out" / "README.md").read_text()
    names = pd.read_parquet(tmp_path / "out" / "scalars.parquet")["name"]
    assert "val/es_auc/race" in set(names)
    assert not names.str.contains("Asian").any()
    cells = group_cells(run.pairs(), run.data["attributes"], 0)
    assert any("Asian" in one.name for one in run_scalars(run.metrics(), cells)), (
        "nothing is hidden where 0 is asked for"
    )


def test_foreign_text_stays_text_in_the_card(run):
    from fairvlm_core.report import ReportOptions, build_content

    content = build_content(run, options=ReportOptions(min_cell=0, pair_ids=False, n_resamples=2))
    content["data"]["name"] = "<script>x</script> ![i](http://e.invalid/i.png) | cell"
    content["results"]["attributes"][0]["groups"][0]["group"] = "Group of its own | x\n| y"
    content["configuration"]["model"] = "`tiny` | x"
    card = model_card(content)
    assert "<script>" not in card
    assert "![i](" not in card
    (row,) = [line for line in card.splitlines() if "Group of its own" in line]
    assert len(re.split(r"(?<!\\)\|", row)) == 6 + 2, "a table's row keeps its cells"


def test_tensorboard_reads_the_numbers(run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export_run(run, tmp_path / "out", ExportOptions(("tensorboard",), min_cell=0))
    assert socket.gethostname() not in next(p.name for p in (tmp_path / "out" / "tensorboard").iterdir())
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    for name in ("train/loss", "val/auc"):
        values = [(e.step, e.value) for e in events.Scalars(name)]
        truth = [(m["epoch"], m["train_loss"] if name == "train/loss" else m["val"]["overall"]["auc"])
                 for m in run.metrics()]  # fmt: skip
        np.testing.assert_allclose(values, truth, rtol=1e-6)


def test_mlflow_reads_the_numbers_and_nobody_is_called(run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")

    def refuse(*_):
        raise AssertionError("the export reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    export_run(run, tmp_path / "out", ExportOptions(("mlflow", "card"), **QUICK))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "out" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name(run.data["name"])
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.id
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(m["epoch"], m["train_loss"]) for m in run.metrics()]
    assert found.data.params["preset"] == run.config.preset
    assert [a.path for a in client.list_artifacts(found.info.run_id)] == ["README.md"], (
        "where the folder lies in the end"
    )


def test_mlflow_takes_a_run_of_ordinary_size(head_run, tmp_path, monkeypatch):
    """A run whose groups are large enough to be shown: "val/auc" is a number and the folder of the groups' numbers."""
    pytest.importorskip("mlflow")
    scalars = run_scalars(head_run.metrics(), group_cells(head_run.pairs(), list(head_run.data["attributes"]), 0))
    names = {one.name for one in scalars}
    assert "val/auc" in names
    assert any(name.startswith("val/auc/") for name in names)
    export_run(head_run, tmp_path / "out", ExportOptions(("mlflow",), min_cell=0, **QUICK))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "out" / "mlflow").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name(head_run.data["name"]).experiment_id])
    assert len(found.data.metrics) == len(names)
    (last,) = [one.value for one in scalars if one.name == "val/auc"]
    assert found.data.metrics["val/auc/overall"] == pytest.approx(last)


def test_mlflow_names_stay_apart(tmp_path, monkeypatch):
    """Each name is a file: also those that differ only in characters that MLflow refuses, in case or in their script."""
    pytest.importorskip("mlflow")
    groups = ["<5", ">5", "≤5", "≥5", "5", "5+", "5 plus", "男", "女", "Black", "black", "A", "A/B", "overall", "a b",
              "a:b", "..", "x" * 300, "x" * 299 + "y", "µ", "é", "e", "_", "__"]  # fmt: skip
    names = ["val/auc", *(f"val/auc/g/{group}" for group in groups), "val/auc/g", "val"]
    short = mlflow_names(names)
    assert list(short) == names
    values = [one.casefold() for one in short.values()]
    assert len(set(values)) == len(names)
    assert not {folder for one in values for folder in parents(one)} & set(values)
    assert all(len(one) <= 250 and re.fullmatch(r"[\w\-. /]+", one, re.ASCII) for one in values)
    scalars = [Scalar(name, 1, float(i)) for i, name in enumerate(names)]
    write_mlflow(tmp_path / "m", tmp_path / "a", tmp_path / "a", experiment="Default", run="r", scalars=scalars,
                 settings={"a<": 1, "a>": 2, "a": 3, "a/b": 4}, card=None)  # fmt: skip
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "m").as_uri())
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert found.data.metrics == {short[name]: float(i) for i, name in enumerate(names)}
    assert sorted(found.data.params.values()) == ["1", "2", "3", "4"]


def parents(name):
    parts = name.split("/")
    return ["/".join(parts[:k]) for k in range(1, len(parts))]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_extra_is_one_line_before_anything_is_written(name, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"needs {name}: install it with pip install 'fairvlm\[{name}\]'"):
        export_run(run, tmp_path / "out", ExportOptions((name,)))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_content_an_unfinished_run_and_a_damaged_checkpoint_are_refused(run, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="something is there already"):
        export_run(run, target)
    assert [p.name for p in target.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="needs a finished run"):
        export_run(RunStore(run.path.parents[1]).get("2"), tmp_path / "other")
    with (run.checkpoint / "open_clip_model.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\xff")
    with pytest.raises(InputError, match=r"checkpoint is damaged \(open_clip_model\.safetensors is damaged\)"):
        export_run(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_failure_halfway_leaves_nothing(run, tmp_path):
    (run.path / "ledger.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="damaged"):
        export_run(run, tmp_path / "out", ExportOptions(("tables",)))
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_the_command_prints_the_folder_and_its_manifest_holds(run, tmp_path, capsys):
    command = [
        "export",
        "1",
        "--workspace",
        str(run.path.parents[1]),
        "--to",
        str(tmp_path / "out"),
        "--resamples",
        "0",
    ]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(tmp_path / "out")
    assert safeio.check_folder(tmp_path / "out") is None
    with pytest.raises(SystemExit) as stop:
        main([*command, "--format", "xlsx"])
    assert stop.value.code == 2
    assert "there is no such format" in capsys.readouterr().err


def test_an_undefined_figure_is_no_scalar():
    line = {
        "epoch": 1, "train_loss": 1.0, "val_loss": 2.0, "mean_weight": 1.0, "flagged": {}, "sinkhorn": [],
        "val": {"overall": {"auc": None}, "attributes": {}},
    }  # fmt: skip
    scalars = run_scalars([line], [])
    assert Scalar("val/loss", 1, 2.0) in scalars
    assert "val/auc" not in {one.name for one in scalars}
