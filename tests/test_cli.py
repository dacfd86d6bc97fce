"""The commands as other programs use them: exit codes, one JSON document, one clear line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from PIL import Image

PYTHON = [sys.executable, "-W", "ignore", "-m", "fairvlm_core"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def fairvlm(zygote):
    """Run a command in its own process, forked from one that has imported everything."""

    def run(*arguments, cwd=".", ok=True, **environment):
        ended = zygote.run([str(a) for a in arguments], cwd=str(cwd), stdout="out", environment=environment)
        assert not ok or ended.code == 0, ended.said
        return Done(ended.code, ended.out, ended.said)

    return run


def in_a_new_process(*arguments, cwd=None):
    """Run a command as a shell does, with its imports."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [*PYTHON, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, env=environment)
    return Done(done.returncode, done.stdout, done.stderr)


def one_line(done):
    """The message of a refusal: one line on standard error, nothing on standard output, exit code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def refused(fairvlm):
    return lambda *arguments, **options: one_line(fairvlm(*arguments, ok=False, **options))


@pytest.fixture(scope="module")
def workspace(fairvlm, tmp_path_factory, synth_folder):
    """Two finished runs, made by the command line."""
    folder = tmp_path_factory.mktemp("cli") / "workspace"
    for preset in ("clip", "robustfair"):
        done = fairvlm(
            "train",
            synth_folder,
            "--preset",
            preset,
            "--workspace",
            folder,
            "--epochs",
            2,
            "--batch-size",
            16,
            "--no-map",
        )
        assert done.stdout.strip().splitlines()[-1].endswith(f"{preset}-s0")
    return folder


def test_help_and_version():
    assert "Commands" in in_a_new_process("--help").stdout
    assert in_a_new_process("--version").stdout.startswith("fairvlm ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train", "--nonsense"],
        ["train"],
        ["train", "/nowhere"],
        ["check", "/nowhere"],
        ["check"],
        ["mine", "0042", "--workspace", "/tmp/nowhere"],
        ["metrics", "/nowhere.csv", "--label", "y"],
        ["compare", "1", "2", "--workspace", "/tmp/nowhere"],
        ["train", ".", "--preset", "clop"],
        ["train", ".", "--set", "epochs"],
        ["train", ".", "--set", "nonsense=1"],
        ["train", ".", "--epochs", "many"],
        ["synth", "out", "--n-train", "-5"],
        ["synth", "out", "--layout", "cube"],
    ],
)
def test_bad_usage_is_one_line_and_exit_2(refused, arguments, tmp_path):
    refused(*arguments, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_bad_usage_of_a_command_started_by_a_shell(tmp_path):
    assert "does not exist" in one_line(in_a_new_process("check", "/nowhere", cwd=tmp_path))
    assert "nonsense" in one_line(in_a_new_process("nonsense", cwd=tmp_path))


@pytest.mark.parametrize("layout", ["manifest", "fairvlmed"])
def test_synth_then_check(fairvlm, layout, tmp_path):
    out = tmp_path / "data"
    fairvlm("synth", out, "--n-train", 40, "--n-val", 20, "--n-test", 20, "--seed", 4, "--mismatch-rate", 0.2,
            "--layout", layout)  # fmt: skip
    with (out / "planted.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:2] == ["pair_id", "kind"]
    kinds = [row["kind"] for row in rows]
    assert set(kinds) <= {"clean", "mismatch", "shortcut"}
    assert kinds.count("mismatch") == 8
    report = json.loads(fairvlm("check", out, "--json").stdout)
    assert report["layout"] == layout
    assert report["n_pairs"] == 80
    assert {s: v["n"] for s, v in report["splits"].items()} == {"train": 40, "val": 20, "test": 20}
    assert set(report["attributes"]) == {"race", "gender", "ethnicity", "language"}
    assert "pairs of" in fairvlm("check", out).stdout


def test_train_prints_one_json_document(synth_folder, tmp_path):
    done = in_a_new_process(
        "train", synth_folder, "--preset", "dbpm", "--workspace", tmp_path, "--epochs", 1, "--no-map", "--json"
    )
    result = json.loads(done.stdout)
    assert result["run_id"] == "0001-dbpm-s0"
    assert result["test"]["overall"]["n"] == 60
    assert result["still_learning"] is None
    assert "warning: mining.warmup has no effect: the warm-up is not shorter" in done.stderr


def test_runs_lists_them(fairvlm, workspace):
    listed = json.loads(fairvlm("runs", "--workspace", workspace, "--json").stdout)["runs"]
    assert [(r["preset"], r["state"]) for r in listed] == [("clip", "finished"), ("robustfair", "finished")]
    assert "0002-robustfair-s0" in fairvlm("runs", "--workspace", workspace).stdout


def test_the_workspace_can_come_from_the_environment(fairvlm, workspace):
    done = fairvlm("runs", "--json", FAIRVLM_WORKSPACE=str(workspace))
    assert len(json.loads(done.stdout)["runs"]) == 2


def test_mine_lists_real_pair_ids_with_the_contracts_columns(fairvlm, workspace, synth_folder, tmp_path):
    target = tmp_path / "bad.csv"
    done = fairvlm(
        "mine", "1", "--workspace", workspace, "--faulty-sd", 1, "--noisy-sd", 1.5, "--csv", target, "--json"
    )
    result = json.loads(done.stdout)
    with (synth_folder / "manifest.csv").open() as file:
        train = {row["pair_id"] for row in csv.DictReader(file) if row["split"] == "train"}
    columns = ["pair_id", "patient_id", "split", "kind", "mean_loss", "z", "weight"]
    assert result["rows"], "one standard deviation flags some of 100 pairs"
    for row in result["rows"]:
        assert list(row)[:7] == columns
        assert list(row)[7:] == ["race", "gender", "ethnicity", "language"]
        assert row["pair_id"] in train
        assert row["kind"] == ("faulty" if row["z"] > 0 else "noisy")
        assert 0 <= row["weight"] <= 1
    with target.open() as file:
        written = list(csv.DictReader(file))
    assert [row["pair_id"] for row in written] == [row["pair_id"] for row in result["rows"]]
    assert set(result["audit"]["attributes"]) == {"race", "gender", "ethnicity", "language"}
    everything = json.loads(fairvlm("mine", "1", "--workspace", workspace, "--all", "--json").stdout)["rows"]
    assert {row["pair_id"] for row in everything} == train
    assert "Is the miner fair" in fairvlm("mine", "latest", "--workspace", workspace).stdout


def test_mine_refuses_impossible_thresholds(refused, workspace):
    assert "faulty_sd" in refused("mine", "1", "--workspace", workspace, "--faulty-sd", "-1")


def test_compare(fairvlm, refused, workspace):
    result = json.loads(fairvlm("compare", "1", "2", "--workspace", workspace, "--json").stdout)
    assert result["baseline"] == "clip"
    assert [m["name"] for m in result["methods"]] == ["clip", "robustfair"]
    assert set(result["differences"]["robustfair"]["attributes"]) == {"race", "gender", "ethnicity", "language"}
    text = fairvlm("compare", "1", "2", "--workspace", workspace, "--attribute", "race").stdout
    assert "ES-AUC race" in text
    assert "points" in text
    assert "shoe" in refused("compare", "1", "2", "--workspace", workspace, "--attribute", "shoe")


def test_resume_of_a_finished_run_is_refused(refused, workspace):
    assert "finished" in refused("train", "--resume", "1", "--workspace", workspace)


def test_resume_takes_the_runs_own_settings_and_no_others(refused, workspace):
    arguments = ["train", "--resume", "1", "--workspace", workspace, "--epochs"]
    assert "there is nothing to resume" in refused(*arguments, 2)
    assert "leave out epochs" in refused(*arguments, 7)


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_metrics_of_any_file_equal_the_oracles(fairvlm, shared, tmp_path):
    """Values of the released evaluation code, to 1e-6."""
    for case in json.loads((shared / "reference" / "oracles.json").read_text())["fairness"]:
        names = list(case["attributes"])
        rows = zip(case["label"], case["score"], *case["attributes"].values(), strict=True)
        path = write(tmp_path / "p.csv", [["y", "p", *names], *rows])
        done = fairvlm("metrics", path, "--label", "y", "--score", "p", "--attributes", ",".join(names), "--json",
                       "--resamples", 0)  # fmt: skip
        got, expected = json.loads(done.stdout), case["expected"]
        assert got["overall"]["auc"] == pytest.approx(expected["auc"], abs=1e-6)
        assert got["overall"]["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-6)
        for name in names:
            ours, theirs = got["attributes"][name], expected[name]
            for key in ("es_auc", "es_accuracy", "demographic_parity_difference", "equalized_odds_difference"):
                assert ours[key] == pytest.approx(theirs[key], abs=1e-6), (name, key)
            groups = [ours["groups"][g]["auc"] for g in sorted(ours["groups"], key=float)]
            assert groups == pytest.approx(theirs["group_auc"], abs=1e-6)


def test_fault_02_a_one_class_group_is_undefined_and_es_auc_partial(fairvlm, tmp_path):
    rows = [[0, 0.2, "a"], [1, 0.7, "a"], [0, 0.6, "a"], [1, 0.9, "b"], [1, 0.4, "b"]]
    path = write(tmp_path / "p.csv", [["y", "p", "g"], *rows])
    arguments = ["metrics", path, "--label", "y", "--score", "p", "--attributes", "g", "--resamples", 50]
    result = json.loads(fairvlm(*arguments, "--json").stdout)["attributes"]["g"]
    assert result["groups"]["b"]["auc"] is None
    assert result["partial"] is True
    assert "undefined (n+ = 2, n- = 0)" in fairvlm(*arguments).stdout


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["y", "p"], [1, 0.5], [0, "nan"]], ["row 3", "'p'"]),
        ([["y", "p"], [1, 0.5], [2, 0.1]], ["row 3", "'y'", "0 or 1"]),
        ([["y", "p"], [1, 0.5], ["yes", 0.1]], ["row 3", "'y'", "yes"]),
        ([["y", "p"], [1, 0.5], [1, 0.2]], ["class"]),
        ([["y", "q"], [1, 0.5]], ["no column 'p'"]),
        ([["y", "p"]], ["no rows"]),
        ([["y", "p"], [1]], ["row 2"]),
    ],
)
def test_bad_predictions_are_one_line(refused, rows, words, tmp_path):
    path = write(tmp_path / "p.csv", rows)
    line = refused("metrics", path, "--label", "y", "--score", "p")
    assert all(word in line for word in words), line


def test_the_real_chest_x_rays_come_in_and_train(fairvlm, shared, tmp_path):
    """../shared/data/cxr: a foreign CSV, messy images, splits made by patient; nothing is written there."""
    folder = shared / "data" / "cxr"
    before = sorted(p.name for p in folder.iterdir())
    report = json.loads(fairvlm("check", folder, "--json").stdout)
    assert report["n_rows"] == 141
    assert report["layout"] == "foreign"
    assert set(report["attributes"]) == {"sex", "age_band"}
    options = ("--epochs", 1, "--no-map", "--workspace", tmp_path / "w", "--json")
    done = fairvlm("train", folder, "--preset", "robustfair", *options)
    result = json.loads(done.stdout)
    assert result["test"]["overall"]["n"] == report["splits"]["test"]["n"]
    assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "")]
)
def test_waiting_threads_release_their_cores_by_default(given, expected):
    code = (
        "import os, sys\nfrom fairvlm_core.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n"
        "    print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT', ''))"
    )
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=plain | given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"False {expected}"


def test_check_says_first_what_needs_a_decision_and_train_repeats_it(fairvlm, tmp_path):
    """A summary, decisions with what to type, then the tables; the JSON has the same; typed, the advice works."""
    rows = [["pair_id", "image", "text", "label", "sex", "age", "Patient ID"]]
    for i in range(60):
        note = f"Note {i} of the left eye, a large cup, {('non-glaucoma', 'glaucoma')[i % 2]}"
        rows.append([f"p{i}", f"{i}.png", note, i % 2, "FM"[i // 2 % 2], 20 + i % 40, f"q{i // 2}"])
        Image.new("L", (8, 8), 4 * i).save(tmp_path / f"{i}.png")
    write(tmp_path / "manifest.csv", rows)
    printed = fairvlm("check", tmp_path).stdout
    lines = printed.splitlines()
    assert "60 pairs of 60 patients from 60 rows, 30 positive; nothing left out; 2 decisions to make" in lines[0]
    assert lines[1].startswith("1. no patient column, and the splits are made here")
    assert lines[2].startswith("2. many different numbers in age")
    assert printed.index("Splits") > printed.index("2. many")
    found = json.loads(fairvlm("check", tmp_path, "--json").stdout)
    assert found["summary"] == lines[0]
    assert [f"{i}. {one['warning']}" for i, one in enumerate(found["decisions"], 1)] == lines[1:3]
    assert found["warnings"][:2] == [one["warning"] for one in found["decisions"]]
    run = ("--workspace", tmp_path / "ws", "--epochs", 1, "--batch-size", 16, "--no-map")
    trained = fairvlm("train", tmp_path, *run).stderr
    assert all(f"warning: {one['warning']}" in trained for one in found["decisions"])
    columns = json.loads("{" + lines[1].split("dataset.json ")[1].split(", if that")[0] + "}")
    attributes = json.loads(lines[2].split("with ", 1)[1].removesuffix(" in dataset.json"))
    (tmp_path / "dataset.json").write_text(json.dumps(columns | attributes), encoding="utf-8")
    found = json.loads(fairvlm("check", tmp_path, "--json").stdout)
    assert (found["decisions"], found["n_patients"]) == ([], 30)
    assert list(found["attributes"]["age"]["groups"]) == ["<30", "30-39", "40-49", "50+"]
    assert "nothing to decide" in found["summary"]


def test_cost_takes_the_model_for_the_data(fairvlm, synth_folder, tmp_path):
    lines = [["pair_id", "image", "text", "label", "split"]]
    for i in range(24):
        note = f"Note {i} of the left eye, a large cup, {('non-glaucoma', 'glaucoma')[i % 2]}"
        lines.append([f"p{i}", f"{i}.png", note, i % 2, ("train", "val", "test")[i // 2 % 3]])
        Image.new("L", (8, 8), 10 * i).save(tmp_path / f"{i}.png")
    write(tmp_path / "manifest.csv", lines)
    few = ("--set", "epochs=1", "--set", "batch_size=8", "--json")
    models = [json.loads(fairvlm("cost", folder, *few).stdout)["model"] for folder in (tmp_path, synth_folder)]
    assert models == ["base", "tiny"]
    assert json.loads(fairvlm("cost", tmp_path, *few, "--set", "model=tiny").stdout)["model"] == "tiny"
