"""What cannot be done: exit 2, one line that says what to do, nothing written; with --json one document as well."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from commands import Zygote
from fault_runs import Undisturbed

PREDICTIONS = ("metrics", "{rows}", "--label", "y", "--score", "p", "--attributes", "g", "--resamples", "20")


@pytest.fixture(scope="module")
def places(few_pairs: Path, undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the command lines below name."""
    place = tmp_path_factory.mktemp("places")
    (place / "empty").mkdir()
    (place / "file").write_text("x")
    (place / "rows.csv").write_text("y,p,g\n1,0.9,a\n0,0.2,a\n1,0.4,b\n0,0.6,b\n")
    shutil.copytree(undisturbed.run.path.parents[1], place / "done")
    return {
        "data": str(few_pairs),
        "new": str(place / "new"),
        "empty": str(place / "empty"),
        "file": str(place / "file"),
        "rows": str(place / "rows.csv"),
        "done": str(place / "done"),
    }


def in_words(arguments: tuple[str, ...], places: dict[str, str]) -> list[str]:
    return [argument.format(**places) for argument in arguments]


def assert_refused(zygote: Zygote, arguments: list[str], words: str, places: dict[str, str]) -> None:
    ended = zygote.run(arguments, Path(places["new"]), stdout="said")
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    lines = ended.said.strip().splitlines()
    assert len(lines) == 1, ended.said
    assert lines[0].startswith("fairvlm: ")
    assert words in lines[0]
    assert not Path(places["new"]).exists(), "nothing half-written"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("frobnicate",), "No such command"),
        (("check", "{empty}"), "no data of a known layout in 'empty'"),
        (("check", "{file}"), "is a file, not a folder"),
        (("check", "{data}", "--model", "nonsense"), "`fairvlm models` lists the names"),
        (("check", "{data}", "--description", "{new}"), "cannot be opened"),
        (("check", "{data}", "--max-refused", "7"), "a share from 0 to 1 is expected"),
        (("train", "{data}", "--workspace", "{new}", "--preset", "magic"), "choose one of clip"),
        (("train", "{data}", "--workspace", "{new}", "--set", "frob=1"), "there is no such setting"),
        (("train", "{data}", "--workspace", "{new}", "--set", "frob"), "write KEY=VALUE"),
        (("train", "{data}", "--workspace", "{new}", "--epochs", "0"), "greater than or equal to 1"),
        (("train", "{data}", "--workspace", "{new}", "--batch-size", "many"), "valid integer"),
        (("train", "{data}", "--workspace", "{new}", "--attributes", "eyes"), "attribute 'eyes' is not in the data"),
        (("train", "{data}", "--workspace", "{new}", "--model", "ViT-B-99"), "did you mean ViT-B-"),
        (("train", "{data}", "--workspace", "{new}", "--model", "ViT-B-32:best"), "has no weights 'best'"),
        (("train", "{data}", "--workspace", "{new}", "--model", "ViT-B-32@{new}"), "there is no weights file"),
        (("train", "{data}", "--workspace", "{new}", "--model", "{empty}"), "neither a folder with open_clip_config.json"),
        (("train", "{data}", "--workspace", "{new}", "--set", "device=frog"), "'frog' is no device"),
        (("train", "{data}", "--workspace", "{new}", "--set", "device=cuda:99"), "'cuda:99' is not available here"),
        (("train", "{data}", "--workspace", "{new}", "--set", "device=frog", "--background"), "'frog' is no device"),
        (("train", "{data}", "--workspace", "{new}", "--verdicts", "nofile.json"), ": nofile.json is missing"),
        (("train", "{data}", "--workspace", "{file}"), "a file is where a folder should be"),
        (("train", "--resume", "9", "--workspace", "{done}"), "there is no run '9' in this workspace (latest: 0001-"),
        (("train", "--resume", "1", "--workspace", "{done}"), "is finished: there is nothing to resume"),
        (("runs", "--workspace", "{file}"), "is a file, not a folder"),
        (("jobs", "--workspace", "{file}"), "is a file, not a folder"),
        (("mine", "1", "--workspace", "{new}"), "there is no run '1' in this workspace (latest: none)"),
        (("mine", "²", "--workspace", "{done}"), "there is no run '²'"),
        (("mine", "9" * 5000, "--workspace", "{done}"), "in this workspace"),
        (("mine", "../runs/0001-robustfair-s5", "--workspace", "{done}"), "there is no run"),
        (("mine", "1", "--workspace", "{done}", "--faulty-sd", "nan"), "must be a number above 0"),
        (("mine", "1", "--workspace", "{done}", "--csv", "{empty}"), "a file is where a folder should be"),
        (("compare", "1", "7", "--workspace", "{done}"), "there is no run '7'"),
        (("compare", "1", "--workspace", "{done}", "--attribute", "eyes"), "attribute 'eyes' is not in these runs"),
        (("compare", "1", "--workspace", "{done}", "--metric", "luck"), "choose from auc"),
        (("cancel", "1", "--workspace", "{done}"), "there is nothing to cancel"),
        (("resume", "1", "--workspace", "{done}"), "there is nothing to resume"),
        (("report", "1", "--workspace", "{done}", "--baseline", "8"), "there is no run '8'"),
        (("export", "1", "--workspace", "{done}", "--to", "{file}"), "something is there already"),
        (("app", "--port", "99999999"), "'--port'"),
        (("synth", "{data}"), "is not empty"),
        (("synth", "{file}"), "is not a folder"),
        (("synth", "{new}", "--layout", "cube"), "choose one of manifest"),
        (("synth", "{new}", "--mismatch-rate", "2"), "a number from 0 to 1"),
        (("metrics", "{new}"), "there is no such file"),
        ((*PREDICTIONS[:-1], "-5"), "'--resamples'"),
        ((*PREDICTIONS, "--threshold", "nan"), "is not a probability"),
        ((*PREDICTIONS, "--patient", "who"), "no column 'who'"),
        ((*PREDICTIONS, "--exclude", "g=z"), "has no group 'z'"),
        ((*PREDICTIONS, "--intersections", "3"), "name at least 3 --attributes"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_exit_2(zygote, places, arguments, words):
    assert_refused(zygote, in_words(arguments, places), words, places)


def changed(source: Path, target: Path, change) -> Path:
    """A copy of a manifest folder with other rows."""
    shutil.copytree(source, target)
    with (target / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = change(list(csv.DictReader(file)))
    with (target / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["pair_id"])
        writer.writeheader()
        writer.writerows(rows)
    return target


def without(column: str):
    return lambda rows: [{name: cell for name, cell in row.items() if name != column} for row in rows]


def every(**cells: str):
    return lambda rows: [row | cells for row in rows]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("label"), "no column 'label'"),
        (without("image"), "no column 'image'"),
        (without("text"), "no column 'text'"),
        (every(split="learn"), "write train, val or test"),
        (every(label="2"), "write 0 or 1"),
        (every(label="1"), "AUC needs both labels there"),
        (lambda rows: [row for row in rows if row["split"] != "train"], "split 'train' is empty"),
        (lambda rows: [row for row in rows if row["split"] != "test"], "split 'test' is empty"),
        (lambda rows: [*rows, rows[0]], "is already in row 2"),
        (lambda _: [], "manifest.csv"),
    ],
    ids=["no label", "no image", "no text", "split", "label 2", "one label", "no train", "no test", "twice", "no rows"],
)
def test_fault_05_a_folder_that_cannot_be_trained_on_is_one_line(zygote, few_pairs, tmp_path, change, words):
    folder = changed(few_pairs, tmp_path / "data", change)
    places = {"new": str(tmp_path / "new")}
    assert_refused(zygote, ["train", str(folder), "--workspace", places["new"]], words, places)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "{empty}", "--json"),
        ("train", "{data}", "--workspace", "{new}", "--set", "frob=1", "--json"),
        ("mine", "7", "--workspace", "{done}", "--json"),
        ("compare", "1", "7", "--workspace", "{done}", "--json"),
        ("runs", "--workspace", "{file}", "--json"),
        ("runs", "--json", "--frob"),
        (*PREDICTIONS, "--threshold", "7", "--json"),
    ],
    ids=lambda value: value[0],
)
def test_a_refusal_is_one_json_document_on_standard_output_too(places, arguments, capsys):
    from fairvlm_core.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(in_words(arguments, places))
    assert stopped.value.code == 2
    written = capsys.readouterr()
    told = json.loads(written.out)
    assert told["exit"] == 2
    assert written.err == f"fairvlm: {told['error']}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("review",)], ids=["nothing", "help", "a group"])
def test_naming_no_command_shows_the_help(arguments, capsys):
    from fairvlm_core.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 0
    written = capsys.readouterr()
    assert "Usage: fairvlm" in written.out
    assert "Commands" in written.out
    assert written.err == ""


def test_an_internal_error_is_a_json_document_and_exit_1(monkeypatch, capsys):
    """As an unhandled error it ends the process with 1 and its traceback on standard error."""
    from fairvlm_core.cli import main, training

    monkeypatch.setattr(training, "list_runs", lambda *_: {}["a defect"])
    with pytest.raises(KeyError):
        main(["runs", "--json"])
    assert json.loads(capsys.readouterr().out) == {"error": "internal error: KeyError", "exit": 1}
