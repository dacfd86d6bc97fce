"""Metrics of one's own: the same values as fairlearn's MetricFrame, in reports, comparisons and commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from fairness_data import binormal
from sklearn.metrics import brier_score_loss, precision_score
from typer.testing import CliRunner

from fairvlm_core import plugins
from fairvlm_core.cli.app import app as command
from fairvlm_core.errors import InputError
from fairvlm_core.fairness import METRICS, FairnessReport, Outcome, compare_paired, mean_over_seeds, metric

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_metric.py"


@pytest.fixture
def registered():
    """What a test registers is removed again."""
    before = dict(METRICS.items())
    yield
    METRICS._parts.clear()
    METRICS._parts.update(before)
    plugins._loaded.discard(str(EXAMPLE))


@pytest.fixture
def own(registered):  # noqa: ARG001
    metric("brier", better="lower")(lambda label, score: np.mean((score - label) ** 2))
    metric("ppv", decision=True)(lambda label, said: label[said].mean() if said.any() else np.nan)


def data(seed: int = 0):
    label, score, group = binormal(np.random.default_rng(seed), (80, 220), (0.7, 0.9))
    return label.astype(int), score, group


@pytest.mark.usefixtures("own")
def test_values_are_those_of_metric_frame():
    label, score, group = data()
    report = FairnessReport.from_predictions(
        label, score, {"g": group}, metrics=["brier", "ppv"], n_resamples=100, n_permutations=100
    )
    for name, function, predicted in (("brier", brier_score_loss, score), ("ppv", precision_score, score >= 0.5)):
        frame = MetricFrame(metrics=function, y_true=label, y_pred=predicted, sensitive_features=group)
        assert report.overall.own[name] == pytest.approx(frame.overall)
        assert {g: r.own[name] for g, r in report["g"].groups.items()} == pytest.approx(frame.by_group.to_dict())
        gap = report["g"].own[f"{name}_gap"]
        assert gap == pytest.approx(frame.difference())
        assert gap in report["g"].intervals[f"{name}_gap"]
        assert report["g"].chance[f"{name}_gap"].expected < gap
        assert report.overall.own[name] in report.overall.intervals[name]
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["attributes"]["g"]["groups"]["g0"]["brier"] == report["g"].groups["g0"].own["brier"]


@pytest.mark.usefixtures("own")
def test_comparisons_follow_the_direction_that_is_better():
    label, score, group = data()
    worse = np.clip(score + 0.3, 0, 1)
    found = compare_paired(label, score, worse, {"g": group}, metric="brier_gap", n_resamples=100)
    assert found.overall.metric == "brier"
    assert found.overall.difference == pytest.approx(np.mean((worse - label) ** 2) - np.mean((score - label) ** 2))
    assert found.overall.outcome is Outcome.WORSE
    means = mean_over_seeds(label, [score, worse], {"g": group}, metric="brier_gap", n_resamples=50, n_permutations=50)
    assert means["g"].chance.expected < means["g"].mean


@pytest.mark.usefixtures("own")
def test_a_group_without_a_value_is_undefined():
    label, score, group = data()
    score = np.where(group == "g0", score / 3, score)  # nobody in g0 is predicted positive
    report = FairnessReport.from_predictions(label, score, {"g": group}, metrics=["ppv"], n_resamples=20)
    assert report.to_dict()["attributes"]["g"]["groups"]["g0"]["ppv"] is None
    assert str(report["g"].own["ppv_gap"]) == "undefined (too few groups have a value)"


@pytest.mark.usefixtures("registered")
def test_bad_metrics_are_one_line():
    label, score, group = data()
    metric("broken")(lambda label, _: label["x"])
    metric("said", decision=True)(lambda _, said: said.mean())
    for names, options, words in (
        (["broken"], {}, "metric 'broken' failed on 300 rows"),
        (["absent"], {}, "'absent' is not known"),
        (["auc"], {}, "'auc' is not a metric of your own"),
        (["said"], {"threshold": None}, "'said' needs a threshold"),
    ):
        with pytest.raises(InputError, match=words):
            FairnessReport.from_predictions(label, score, {"g": group}, metrics=names, n_resamples=0, **options)


@pytest.mark.usefixtures("registered")
def test_the_command_reads_a_plugin(monkeypatch, tmp_path):
    monkeypatch.setenv(plugins.VARIABLE, str(EXAMPLE))
    label, score, group = data()
    pd.DataFrame({"label": label, "score": score, "site": group}).to_csv(tmp_path / "p.csv", index=False)
    asked = ["metrics", str(tmp_path / "p.csv"), "--attributes", "site", "--resamples", "20"]
    done = CliRunner().invoke(command, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["overall"]["brier"] == pytest.approx(brier_score_loss(label, score))
    assert facts["attributes"]["site"]["chance"]["precision_gap"]["p_value"] <= 1
    assert "Brier score" in CliRunner().invoke(command, asked).stdout
