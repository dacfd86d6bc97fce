"""`fairvlm metrics` and `fairvlm compare`: what is asked for is there, agrees with the library, and can be read."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from fairvlm_core import safeio
from fairvlm_core.analysis import comparison
from fairvlm_core.cli import main, show
from fairvlm_core.cli import metrics as printed
from fairvlm_core.config import RunConfig
from fairvlm_core.errors import InputError
from fairvlm_core.fairness import METRICS, FairnessReport, mean_over_seeds, roc_auc, threshold_effect
from fairvlm_core.runs import RunStore


@pytest.fixture
def predictions(tmp_path):
    rng = np.random.default_rng(0)
    n = 300
    label = rng.integers(0, 2, n)
    frame = pd.DataFrame(
        {
            "y": label,
            "p": (1 / (1 + np.exp(-(1.5 * (label - 0.5) + rng.normal(size=n))))).round(6),
            "race": rng.choice(["Asian", "Black", "White", "-1"], n, p=[0.1, 0.2, 0.65, 0.05]),
            "sex": rng.choice(["F", "M"], n),
        }
    )
    path = tmp_path / "predictions.csv"
    frame.to_csv(path, index=False)
    return path, frame


@pytest.fixture
def fairvlm(capsys):
    """The command in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return stopped.value.code or 0, written.out, written.err

    return call


@pytest.fixture
def metrics(fairvlm, predictions):
    def call(*arguments):
        return fairvlm(
            "metrics", predictions[0], "--label", "y", "--score", "p", "--resamples", 20, *arguments
        )  # fmt: skip

    return call


def test_metrics_without_options_keeps_the_contract_and_adds_the_threshold(metrics, predictions):
    code, text, _ = metrics("--attributes", "race,sex", "--json")
    result = json.loads(text)
    assert code == 0
    assert {"n", "auc", "accuracy"} <= set(result["overall"])
    race = result["attributes"]["race"]
    wanted = {"es_auc", "es_accuracy", "demographic_parity_difference", "equalized_odds_difference", "groups"}
    assert wanted <= set(race)
    assert list(race["groups"]) == ["Asian", "Black", "White", "Unknown"]
    assert {"n", "n_positive", "auc"} <= set(race["groups"]["Asian"])
    at = race["thresholds"]["at_threshold"]
    assert at["equalized_odds_difference"] == pytest.approx(race["equalized_odds_difference"])
    assert at["groups"]["Black"]["n"] == (predictions[1]["race"] == "Black").sum()
    assert race["chance"]["es_auc"]["p_value"] > 0


def test_numbers_as_an_attribute_are_refused_with_bands_that_work(fairvlm, predictions):
    path, frame = predictions
    rng = np.random.default_rng(1)
    frame.assign(
        age=rng.integers(18, 95, 300), bmi=rng.normal(25, 4, 300).round(1), years=30 + np.arange(300) % 30
    ).to_csv(path, index=False)
    columns = ("--label", "y", "--score", "p", "--resamples", 0)
    for name in ("age", "bmi"):
        code, _, err = fairvlm("metrics", path, *columns, "--attributes", name)
        assert (code, "different numbers, more than 50 groups; bands say more: --bands" in err) == (2, True)
        advice = err.strip().rpartition("bands say more: ")[2].split()
        code, text, _ = fairvlm("metrics", path, *columns, "--attributes", name, *advice, "--json")
        groups = json.loads(text)["attributes"][name]["groups"]
        assert code == 0
        assert 3 <= len(groups) <= 4
        assert min(group["n"] for group in groups.values()) >= 15
    code, text, err = fairvlm("metrics", path, *columns, "--attributes", "years", "--json")
    assert code == 0
    assert "30 different numbers; bands say more: --bands years=" in err
    assert json.loads(text)["warnings"] == [err.strip().removeprefix("warning: ")]
    for wrong in ("age", "age=", "age=40,x"):
        assert fairvlm("metrics", path, *columns, "--attributes", "age", "--bands", wrong)[0] == 2
    assert "name it there, too" in fairvlm("metrics", path, *columns, "--bands", "age=40")[2]


def test_blank_patients_are_patients_of_their_own_and_lookalikes_are_told(fairvlm, predictions):
    path, frame = predictions

    def width(patients):
        frame.assign(patient=patients).to_csv(path, index=False)
        options = ("--label", "y", "--score", "p", "--patient", "patient", "--resamples", 200, "--json")
        code, text, err = fairvlm("metrics", path, *options)
        assert code == 0
        interval = json.loads(text)["overall"]["intervals"]["auc"]
        return interval["high"] - interval["low"], json.loads(text)["warnings"], err

    alone, said, _ = width([f"p{i}" for i in range(300)])
    assert said == []
    for blank in ("", "nan", "NA", "-1.0", "?"):
        blanks, said, err = width([blank if i < 200 else f"p{i}" for i in range(300)])
        assert blanks == pytest.approx(alone)
        assert said == ["patients: 200 rows have no id; each counts as a patient of its own"]
        assert said[0] in err
    _, said, _ = width([("100", "100.0", "00100")[i] if i < 3 else f"p{i}" for i in range(300)])
    assert "1 ids are written in several ways (00100, 100, 100.0)" in said[0]


def test_labels_codes_and_blank_rows_of_a_spreadsheet(fairvlm, predictions):
    path, frame = predictions
    expected = json.loads(fairvlm("metrics", path, "--label", "y", "--score", "p", "--attributes", "sex",
                                  "--resamples", 0, "--json")[1])  # fmt: skip
    odd = frame.assign(y=frame["y"].map({0: "False", 1: "TRUE"}), sex=frame["sex"].map({"F": "1", "M": "2"}))
    odd.loc[::2, "sex"] += ".0"
    path.write_bytes(b"\xef\xbb\xbf" + odd.to_csv(index=True).encode() + b",,,,\r\n,,,,\r\n")
    for given in (path, f"file://{path}", f'"{path}"'):
        code, text, _ = fairvlm("metrics", given, "--label", "y", "--score", "p", "--attributes", "sex", "--resamples", 0,
                                "--json")  # fmt: skip
        found = json.loads(text)
        assert code == 0
        assert found["warnings"] == ["passed over: 1 row-number column and 2 blank rows"]
        assert found["overall"] == expected["overall"]
        assert list(found["attributes"]["sex"]["groups"].values()) == list(
            expected["attributes"]["sex"]["groups"].values()
        )


def test_exclude_holds_for_every_figure_and_is_recorded(metrics, predictions):
    _, text, _ = metrics("--attributes", "race,sex", "--exclude", "race=Unknown", "--exclude", "race=Asian",
                         "--specificity", 0.9, "--curves", "--json")  # fmt: skip
    result = json.loads(text)
    race, frame = result["attributes"]["race"], predictions[1]
    assert race["left_out"] == {"Asian": (frame["race"] == "Asian").sum(), "Unknown": (frame["race"] == "-1").sum()}
    for part in (race["groups"], race["curves"], race["thresholds"]["specificity"]["groups"]):
        assert list(part) == ["Black", "White"]
    assert result["settings"]["exclude"] == {"race": ["Unknown", "Asian"]}
    assert result["attributes"]["sex"]["n"] == 300
    kept = frame[frame["race"].isin(["Black", "White"])]
    assert race["thresholds"]["at_threshold"]["overall"]["n"] == len(kept)
    assert race["overall"]["auc"] == pytest.approx(roc_auc(kept["y"], kept["p"]))


def test_specificity_is_reached_and_for_one_threshold_it_is_the_same_for_all(metrics):
    result = json.loads(metrics("--attributes", "sex", "--specificity", 0.9, "--json")[1])
    rules = result["attributes"]["sex"]["thresholds"]
    one, own = rules["specificity"], rules["specificity_by_group"]
    assert one["overall"]["false_positive_rate"] <= 0.1
    assert len({point["threshold"] for point in one["groups"].values()}) == 1
    assert all(point["false_positive_rate"] <= 0.1 for point in own["groups"].values())
    assert own["overall"]["threshold"] is None
    sensitivity = [point["true_positive_rate"] for point in own["groups"].values()]
    assert own["true_positive_rate_gap"] == pytest.approx(max(sensitivity) - min(sensitivity))


def test_group_thresholds_equal_the_library_and_others_keep_the_one_for_all(metrics, predictions):
    result = json.loads(metrics("--attributes", "sex", "--group-threshold", "sex=F:0.3", "--json")[1])
    frame = predictions[1]
    expected = threshold_effect(frame["y"], frame["p"], frame["sex"], {"F": 0.3, "M": 0.5})
    got = result["attributes"]["sex"]["thresholds"]["group_thresholds"]
    assert got["equalized_odds_difference"] == expected.equalized_odds_difference
    assert got["groups"]["F"]["true_positive_rate"] == expected.groups["F"].true_positive_rate


def test_the_what_if_brings_the_groups_together(metrics):
    pytest.importorskip("fairlearn", reason="the what-if is fairlearn's")
    rules = json.loads(metrics("--attributes", "sex", "--what-if", "--json")[1])["attributes"]["sex"]["thresholds"]
    assert rules["what_if"]["equalized_odds_difference"] < 0.05


def test_the_what_if_without_fairlearn_is_one_line(metrics, monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn.postprocessing", None)
    code, text, line = metrics("--attributes", "sex", "--what-if", "--json")
    assert code == 2
    assert "fairlearn is not installed: pip install" in line
    assert json.loads(text)["error"] in line


def test_a_group_without_negatives_is_named_and_the_rest_goes_on(fairvlm, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("y,p,g\n0,0.2,a\n1,0.7,a\n0,0.6,a\n1,0.9,b\n1,0.4,b\n")
    base = ("metrics", path, "--label", "y", "--score", "p", "--attributes", "g", "--resamples", 0)
    code, text, _ = fairvlm(*base, "--specificity", 0.9, "--what-if", "--curves", "--json")
    result = json.loads(text)["attributes"]["g"]
    assert code == 0
    assert result["thresholds"]["specificity_by_group"]["undefined"] == "b: n- = 0; --exclude it"
    assert result["thresholds"]["what_if"]["undefined"].startswith("b: n+ = 2, n- = 0")
    assert result["thresholds"]["specificity"]["undefined_groups"] == {"b": "n+ = 2, n- = 0"}
    assert result["curves"]["b"]["roc"] == {"undefined": "n+ = 2, n- = 0"}
    assert "undefined (b: n- = 0; --exclude it)" in fairvlm(*base, "--specificity", 0.9)[1]


def test_curves_hold_the_auc(metrics):
    result = json.loads(metrics("--attributes", "sex", "--curves", "--json")[1])
    holders = [(result["overall"]["curves"], result["overall"]["auc"])]
    sex = result["attributes"]["sex"]
    holders += [(sex["curves"][group], sex["groups"][group]["auc"]) for group in ("F", "M")]
    for curves, auc in holders:
        roc = curves["roc"]
        area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
        assert area == pytest.approx(auc)
        assert roc["thresholds"][0] is None
        assert 0 < curves["precision_recall"]["average_precision"] <= 1


def test_intersections_in_json_and_as_a_table(metrics, predictions):
    arguments = ("--attributes", "race,sex", "--intersections", 2, "--min-cell", 25)
    result = json.loads(metrics(*arguments, "--json")[1])["intersections"]["race × sex"]
    sizes = predictions[1].groupby(["race", "sex"]).size()
    assert all(group["n"] >= 25 for group in result["groups"].values())
    assert sum(result["left_out"].values()) == sizes[sizes < 25].sum()
    text = metrics(*arguments)[1]
    assert "White × F" in text
    assert f"Asian × F (n = {sizes['Asian', 'F']})" in text
    assert "race × sex: no cell is large enough" in metrics(*arguments[:-1], 1000)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--attributes", "sex", "--curves"], "--curves: curves are arrays of numbers; add --json"),
        (["--attributes", "shoe"], "no column 'shoe'"),
        (["--attributes", "sex", "--exclude", "sex"], "is not ATTRIBUTE=GROUP"),
        (["--attributes", "sex", "--exclude", "sex=X"], "attribute 'sex' has no group 'X'"),
        (["--attributes", "sex", "--exclude", "race=Asian"], "there is no attribute 'race'"),
        (["--attributes", "sex", "--group-threshold", "sex=F"], "is not ATTRIBUTE=GROUP:NUMBER"),
        (["--attributes", "sex", "--group-threshold", "sex=X:0.5"], "there is no group 'X'"),
        (["--attributes", "sex", "--group-threshold", "race=Asian:0.5"], "no attribute 'race'"),
        (["--attributes", "sex", "--specificity", "90"], "specificity: 90.0 is not a share"),
        (["--attributes", "sex", "--intersections", "2"], "name at least 2 --attributes"),
        (["--attributes", "race,sex", "--intersections", "4"], "4"),
        (["--specificity", "0.9"], "name --attributes"),
        (["--attributes", "sex", "--threshold", "5"], "threshold: 5.0 is not a probability"),
    ],
)
def test_bad_options_are_one_line(metrics, arguments, words):
    code, text, line = metrics(*arguments)
    assert (code, text) == (2, "")
    assert words in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(metrics, monkeypatch, width):
    class Terminal(Console):
        @property
        def file(self):
            return sys.stdout

    terminal = Terminal(force_terminal=True, no_color=True, width=width, highlight=False)
    monkeypatch.setattr(show, "out", terminal)
    _, text, _ = metrics("--attributes", "race,sex", "--intersections", 2, "--specificity", 0.9)
    lines = [Console().render_str(line).plain for line in text.replace("\x1b[1m", "").splitlines()]
    plain = [line.replace("\x1b[2m", "").replace("\x1b[0m", "") for line in lines]
    assert max(map(len, plain)) <= width
    assert "race, specificity of at least 0.9, one threshold for all" in plain
    headers = [line.split() for line in plain if line.startswith("group")]
    assert headers[0] == ["group", "n", "positive", "AUC", "accuracy", "TPR", "FPR"]
    assert ["group", "n", "positive", "threshold", "sensitivity", "specificity", "flagged"] in headers


def add_run(store, score, frame, preset, seed):
    """A finished run with these scores."""
    facts = {"folder": "data", "name": "made", "fingerprint": "f", "attributes": ["race", "sex"]}
    run = store.create(RunConfig.build(preset, {"seed": seed}), facts, frame)
    run.write_parquet(run.files.predictions, frame.assign(score=score))
    groups = {name: frame[name] for name in ("race", "sex")}
    test = FairnessReport.from_predictions(frame["label"], score, groups, n_resamples=0, n_permutations=0)
    safeio.write_json(run.path / "report.json", {"schema_version": 1, "test": test.to_dict()})
    run.set_status(state="finished")
    return run


@pytest.fixture
def six(predictions, tmp_path):
    """clip and robustfair, three seeds each, robustfair better by far; a tiny race that all rank perfectly."""
    rng = np.random.default_rng(1)
    y = predictions[1]["y"].to_numpy()
    n = len(y)
    race = np.where(np.arange(n) < 4, "Tiny", predictions[1]["race"].to_numpy())
    frame = pd.DataFrame(
        {
            "pair_id": [f"p{i:04d}" for i in range(n)],
            "patient_id": [f"q{i:04d}" for i in range(n)],
            "split": "test",
            "label": np.where(np.arange(n) < 4, np.arange(n) % 2, y),
            "race": race,
            "sex": predictions[1]["sex"].to_numpy(),
        }
    )
    shared = rng.normal(size=n)
    scores = []
    for gain in (0.8, 0.8, 0.8, 2.5, 2.5, 2.5):
        score = 1 / (1 + np.exp(-(shared + 0.3 * rng.normal(size=n) + gain * (frame["label"] - 0.5))))
        scores.append(np.where(frame["race"] == "Tiny", 0.2 + 0.6 * frame["label"], score))
    store = RunStore(tmp_path / "workspace")
    methods = [(preset, seed) for preset in ("clip", "robustfair") for seed in (0, 1, 2)]
    runs = [add_run(store, score, frame, *method) for score, method in zip(scores, methods, strict=True)]
    return runs, frame, scores


def test_compare_carries_mean_sd_interval_chance_differences(six):
    runs, frame, scores = six
    result = comparison.compare_runs(runs, n_resamples=100).to_dict()
    clip, robustfair = result["methods"]
    aucs = [roc_auc(frame["label"], score) for score in scores[:3]]
    assert (clip["auc"]["mean"], clip["auc"]["sd"]) == pytest.approx((np.mean(aucs), np.std(aucs, ddof=1)))
    groups = {"race": frame["race"].to_numpy(), "sex": frame["sex"].to_numpy()}
    expected = mean_over_seeds(frame["label"], scores[3:], groups, n_resamples=100)
    assert robustfair["es_auc"]["race"]["interval"] == expected["race"].interval.to_dict()
    assert robustfair["auc"]["interval"] == expected.overall.interval.to_dict()
    assert clip["es_auc"]["sex"]["chance"]["expected"] > 0.5
    tiny = clip["groups"]["race"]["Tiny"]["auc"]
    assert (tiny["mean"], tiny["interval"]) == (1.0, None)
    assert tiny["reasons"]["interval"].endswith("an interval needs 8")
    difference = result["differences"]["robustfair"]
    assert difference["paired_seeds"] == [[0, 0], [1, 1], [2, 2]]
    assert difference["overall"]["reliable"]
    assert difference["attributes"]["sex"]["p_holm"] >= difference["attributes"]["sex"]["p_value"]
    assert difference["groups"]["race"]["Tiny"]["verdict"].startswith("no interval: 0.0 points, 3 seeds (")
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_compared_and_printed(six, metric, capsys):
    result = comparison.compare_runs(six[0][::3] + six[0][1:2], metric=metric, n_resamples=10)
    assert result.to_dict()["metric"] == metric
    json.dumps(result.to_dict(), allow_nan=False)
    printed.print_table(result, groups=True)
    text = capsys.readouterr().out
    assert "robustfair against clip, same patients, seed 0" in text
    assert "points" in text


def test_a_single_run_has_figures_and_no_differences(six, capsys):
    result = comparison.compare_runs(six[0][:1], n_resamples=20)
    facts = result.to_dict()
    assert facts["differences"] == {}
    assert facts["methods"][0]["es_auc"]["race"]["sd"] is None
    assert facts["methods"][0]["auc"]["interval"]["low"] < facts["methods"][0]["auc"]["mean"]
    printed.print_table(result)
    assert "against" not in capsys.readouterr().out


def test_runs_are_paired_by_their_common_seed_though_it_is_not_the_first(six):
    runs, frame, scores = six
    result = comparison.compare_runs([runs[0], runs[2], runs[5]], n_resamples=20)
    difference = result.differences["robustfair"]
    assert difference.seeds == ((2, 2),)
    auc = [roc_auc(frame["label"], scores[i]) for i in (2, 5)]
    assert difference.comparison.overall.difference == pytest.approx(auc[1] - auc[0])
    assert difference.comparison.overall.method == "DeLong"
    apart = comparison.compare_runs([runs[0], runs[4]], n_resamples=20)
    assert apart.differences["robustfair"].seeds == ((0, 1),)


def test_what_cannot_be_compared_is_one_line(six):
    runs, frame, scores = six
    again = add_run(RunStore(runs[0].path.parents[1]), scores[0], frame, "clip", 0)
    for arguments, words in (
        ({"runs": []}, "at least one run"),
        ({"runs": [runs[0], again]}, "same method and seed"),
        ({"runs": runs, "metric": "auroc"}, "metric: 'auroc' is not known"),
        ({"runs": runs, "attribute": "shoe"}, "attribute 'shoe' is not in these runs"),
        ({"runs": runs, "n_resamples": 1}, "resamples: 1 is too few"),
    ):
        chosen = arguments.pop("runs")
        with pytest.raises(InputError, match=words):
            comparison.compare_runs(chosen, **arguments)
