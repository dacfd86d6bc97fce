"""`fairvlm review` and `fairvlm train --verdicts`, from a run to the next run."""

from __future__ import annotations

import json
import sqlite3

import pytest

from fairvlm_core import RunConfig, RunStore
from fairvlm_core.cli import main
from fairvlm_core.intake.csvsafe import read_csv
from fairvlm_core.launch import create_run, execute
from fairvlm_core.review import ReviewStore, Verdict, read_verdicts


@pytest.fixture
def fairvlm(capsys):
    """Run a command in this process: (exit code, standard output, standard error)."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def mined_run(table, arrays, tmp_path_factory):
    """A finished run that flags some pairs, and the table it was trained on."""
    store = RunStore(tmp_path_factory.mktemp("review-cli"))
    config = RunConfig.build("dbpm", {"epochs": 2, "batch_size": 25, "mining.faulty_sd": 1, "mining.noisy_sd": 1})
    run = create_run(table, config, store, read_options={})
    execute(run, table=table, arrays=arrays)
    return run


@pytest.fixture
def workspace(mined_run, tmp_path):
    """Of that run, without a review."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / mined_run.id).symlink_to(mined_run.path)
    return tmp_path


def judge_all(workspace, table, reviewer="Ada", wrong=()):
    """A reader who always knows what is planted (and errs on the pairs in `wrong`)."""
    kinds = dict(zip(table.planted()["pair_id"], table.planted()["kind"], strict=True))
    with ReviewStore.open(workspace) as store:
        queue_id = store.queues()[-1].queue_id
        while (task := store.next_pair(queue_id, reviewer)) is not None:
            bad = (kinds[task.pair_id] == "mismatch") != (task.pair_id in wrong)
            verdict = Verdict("wrong_note", comment="=secret") if bad else Verdict("fits")
            store.judge(queue_id, task.pair_id, reviewer, verdict)
        return store.verdicts()


def test_from_a_run_to_the_next_run(fairvlm, workspace, table):
    place = ("--workspace", workspace)
    code, out, _ = fairvlm("review", "make", "latest", *place, "--by", "Ada", "--second", 0.5, "--controls", 0.3)
    assert (code, out.splitlines()[-1]) == (0, "q001")
    first = judge_all(workspace, table)
    wrong = [verdict.pair_id for verdict in first.verdicts][:3]
    verdicts = judge_all(workspace, table, "Bob", wrong)
    with ReviewStore.open(workspace) as store:
        n_conflicts = len(store.conflicts())
    (queue,) = json.loads(fairvlm("review", "queues", *place, "--json")[1])
    assert queue["n_done"] == queue["n_items"] == len(verdicts)
    assert queue["n_conflicts"] == n_conflicts

    report = json.loads(fairvlm("review", "report", "latest", *place, "--json")[1])
    planted = set(table.planted().query("kind == 'mismatch'")["pair_id"])
    flagged = [item.pair_id for item in ReviewStore.open(workspace).items("q001") if item.stratum != "clean"]
    settled = {v.pair_id for v in verdicts.verdicts if v.verdict is not None}
    truth = [pair_id in planted for pair_id in flagged if pair_id in settled]
    assert report["precision"][0]["n_bad"] == sum(truth)
    assert report["precision"][0]["n"] == len(truth)
    assert report["agreement"]["all"]["n_pairs"] == report["progress"]["n_readings"] - len(verdicts)
    assert "Cohen" in fairvlm("review", "report", "q001", *place)[1]

    code, out, _ = fairvlm(
        "train", table.root, "--verdicts", "latest", *place, "--epochs", 1, "--preset", "dbpm", "--no-map"
    )
    assert code == 0
    assert out.startswith("verdicts: ")
    run = RunStore(workspace).get("latest")
    noted = run.data["verdicts"]
    assert noted["counts"]["left_out"] == sum(v.verdict == "wrong_note" for v in verdicts.verdicts)
    assert noted["counts"]["conflicts"] == n_conflicts
    assert noted["head"] == {"sequence": verdicts.head.sequence, "hash": verdicts.head.hash}
    head = f"{verdicts.head.sequence}:{verdicts.head.hash}"
    assert fairvlm("review", "verify", *place, "--head", head)[0] == 0
    assert fairvlm("review", "verify", *place)[1].splitlines()[-1] == head


def test_an_exported_file_trains_like_the_log_and_holds_texts_on_request_only(fairvlm, workspace, table):
    place = ("--workspace", workspace)
    fairvlm(
        "review", "make", "latest", *place, "--by", "Ada", "--size", 12, "--order", "random", "--kinds", "faulty,clean"
    )
    verdicts = judge_all(workspace, table)
    plain, full = workspace / "plain.json", workspace / "full.json"
    assert fairvlm("review", "export", plain, *place)[0] == 0
    assert fairvlm("review", "export", full, *place, "--comments", "--notes", table.root)[0] == 0
    assert read_verdicts(plain).verdicts == verdicts.verdicts
    notes = dict(zip(table.pair_ids, table.frame["text"], strict=True))
    shown = notes[verdicts.verdicts[0].pair_id]
    assert shown not in plain.read_text()
    assert "secret" not in plain.read_text()
    assert [r["note"] for r in json.loads(full.read_text())["readings"]] == [
        notes[v.pair_id] for v in verdicts.verdicts
    ]
    code, _, _ = fairvlm("train", table.root, "--verdicts", plain, *place, "--epochs", 1, "--no-map")
    assert code == 0
    assert RunStore(workspace).get("latest").data["verdicts"]["source"] == "plain.json"

    assert fairvlm("review", "export", workspace / "out.csv", *place, "--comments")[0] == 0
    frame = read_csv(workspace / "out.csv")
    assert frame["pair_id"].tolist() == [v.pair_id for v in verdicts.verdicts]
    assert set(frame["comment"]) <= {"=secret", ""}
    assert fairvlm("review", "export", workspace / "one.csv", *place, "--queue", "q001")[0] == 0
    assert "comment" not in read_csv(workspace / "one.csv")


def test_a_broken_log_is_one_line_and_exit_2(fairvlm, workspace, table):
    place = ("--workspace", workspace)
    fairvlm("review", "make", "latest", *place, "--by", "Ada", "--size", 5)
    judge_all(workspace, table)
    assert fairvlm("review", "backup", workspace / "backup.db", *place)[0] == 0
    with sqlite3.connect(workspace / "review.db") as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE events SET reviewer = 'Eve' WHERE sequence = 5")
    connection.close()
    code, out, err = fairvlm("review", "verify", *place)
    assert (code, out) == (2, "")
    assert err.startswith("fairvlm: review log review.db: event 5 (verdict, ")
    assert len(err.splitlines()) == 1
    code, out, _ = fairvlm("review", "verify", *place, "--json")
    assert code == 2
    assert json.loads(out)["n_events"] == 4
    (workspace / "backup.db").replace(workspace / "review.db")
    assert fairvlm("review", "verify", *place)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("make", "0042"), "no run"),
        (("make", "latest", "--order", "nonsense"), "order"),
        (("make", "latest", "--where", "race"), "ATTRIBUTE=GROUP"),
        (("make", "latest", "--where", "shoe=42"), "'shoe'"),
        (("make", "latest", "--pairs", "nowhere.txt"), "nowhere.txt"),
        (("make", "latest", "--by", "<b>"), "reviewer"),
        (("report", "q007"), "no review in this workspace"),
        (("backup", "copy.db"), "no review in this workspace"),
        (("export", "out.xlsx"), "ends in .csv or .json"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(fairvlm, workspace, arguments, words):
    code, out, err = fairvlm("review", *arguments, "--workspace", workspace)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert json.loads(fairvlm("review", "queues", "--workspace", workspace, "--json")[1]) == []


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [("latest", "no review in this workspace"), ("nowhere.json", "is missing"), ("manifest.csv", "cannot be read")],
)
def test_verdicts_that_are_not_there_stop_a_training_before_it_is_made(fairvlm, workspace, table, verdicts, words):
    source = verdicts if verdicts == "latest" else table.root / verdicts
    code, out, err = fairvlm("train", table.root, "--verdicts", source, "--workspace", workspace, "--no-map")
    assert (code, out) == (2, "")
    assert words in err
    assert len(RunStore(workspace).runs()) == 1


def test_a_review_without_a_verdict_trains_nothing(fairvlm, workspace, table):
    fairvlm("review", "make", "latest", "--workspace", workspace, "--by", "Ada", "--size", 5)
    code, _, err = fairvlm("train", table.root, "--verdicts", "latest", "--workspace", workspace, "--no-map")
    assert (code, "nothing was judged" in err) == (2, True)
    code, _, err = fairvlm("review", "report", "q007", "--workspace", workspace)
    assert (code, "no queue 'q007' (latest: q001)" in err) == (2, True)


def test_resume_takes_no_verdicts(fairvlm, workspace):
    code, _, err = fairvlm("train", "--resume", "1", "--verdicts", "latest", "--workspace", workspace, "--no-map")
    assert code == 2
    assert "run's own verdicts" in err


def test_a_queue_of_named_pairs_keeps_their_order(fairvlm, workspace, mined_run):
    chosen = mined_run.pairs().query("split == 'train'")["pair_id"].iloc[[9, 2, 5]].tolist()
    # As spreadsheets save a column: with a byte order mark, a header and Windows line ends.
    (workspace / "pairs.txt").write_bytes("\ufeffpair_id\r\n".encode() + "\r\n".join(chosen).encode() + b"\r\n\r\n")
    place = ("--workspace", workspace, "--by", "Ada", "--json")
    made = json.loads(
        fairvlm("review", "make", "1", *place, "--pairs", workspace / "pairs.txt", "--order", "given", "--controls", 0)[
            1
        ]
    )
    assert made["pairs"] == 3
    with ReviewStore.open(workspace) as store:
        assert [item.pair_id for item in store.items(made["queue_id"])] == chosen
