"""The examples run, and print what they say they print."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from fairvlm_core import RunStore
from fairvlm_core.fairness import METRICS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FIXTURE = Path(__file__).parent / "fixtures" / "v1"


@pytest.fixture
def example(monkeypatch, capsys):
    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_train_and_mine(example, synth_folder):
    out = example("train_and_mine.py", synth_folder, "--epochs", 1, "--preset", "robustfair-plus")
    assert re.search(r"^test AUC 0\.\d{3}, n = 60$", out, re.MULTILINE)
    assert "ES-AUC by race" in out
    assert "of 100 training pairs are flagged" in out


def test_metrics_of_your_predictions(example, tmp_path):
    frame = RunStore(FIXTURE / "workspace").get("1").predictions()
    frame.to_csv(tmp_path / "p.csv", index=False)
    out = example("metrics_of_your_predictions.py", tmp_path / "p.csv", "--attributes", "gender", "--resamples", 50)
    assert f"AUC {roc_auc_score(frame['label'], frame['score']):.3f}, n = {len(frame)}" in out
    assert re.search(r"gender: ES-AUC 0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]", out)


def test_custom_rule(example, synth_folder):
    out = example("custom_rule.py", synth_folder, "--epochs", 2)
    assert re.search(r"own rules: test AUC 0\.\d{3}; \d+ flagged as wrong notes, \d+ of 20 planted ones", out)
    assert "the paper's rule: test AUC" in out


def test_custom_metric(example):
    before = dict(METRICS.items())
    out = example("custom_metric.py")
    METRICS._parts.clear()
    METRICS._parts.update(before)
    assert re.search(r"site B: Brier score 0\.\d{3} \(95 % interval 0\.\d{3} to 0\.\d{3}, n = 310\)", out)
    assert "gap of model b minus gap of model a: B is better" in out


def test_sinkhorn_of_losses(example):
    run = RunStore(FIXTURE / "workspace").get("1")
    out = example("sinkhorn_of_losses.py", 1, "--workspace", FIXTURE / "workspace", "--attribute", "gender")
    lines = dict(line.split(": ") for line in out.strip().splitlines())
    assert len(lines) == run.pairs()["gender"].nunique()
    assert all(len(values.split()) == run.ledger().n_epochs for values in lines.values())


def test_every_example_is_listed_short_and_run_by_a_test():
    listed = (EXAMPLES / "README.md").read_text()
    here = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.name in listed
        if path.name not in ("contact_sheet.py", "screenshots.py"):
            assert len(path.read_text().splitlines()) <= 60
            assert f'"{path.name}"' in here
