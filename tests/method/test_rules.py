"""Rules of the user's own: registered by a decorator, found as plugins, and then like the built-in ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fairvlm_core import RunConfig, fit
from fairvlm_core.errors import InputError
from fairvlm_core.mining import (
    RANKING_RULES,
    WEIGHTING_RULES,
    Judgement,
    Notice,
    Reason,
    mine_bad_pairs,
    ranking_rule,
    weighting_rule,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def latest_loss():
    @ranking_rule("latest loss")
    def rule(evidence):
        return evidence.by_limits(evidence.latest("loss"))

    yield rule
    del RANKING_RULES._parts["latest loss"]


@pytest.fixture
def left_out():
    @weighting_rule("left out")
    def rule(flags):
        return np.zeros(len(flags.z))

    yield rule
    del WEIGHTING_RULES._parts["left out"]


def losses() -> np.ndarray:
    values = np.random.default_rng(0).normal(2, 0.1, (3, 50)).astype(np.float32)
    values[:, 7], values[0, 9] = 5, 9  # pair 9 is hard in the first epoch only
    return values


@pytest.mark.usefixtures("latest_loss", "left_out")
def test_own_rules_decide_flags_and_weights():
    result = mine_bad_pairs(losses(), rule="latest loss", weights="left out")
    assert np.flatnonzero(result.kind == "faulty").tolist() == [7]
    assert result.weight[7] == 0
    assert (np.delete(result.weight, 7) == 1).all()
    assert "posterior" not in result.to_frame()


@pytest.mark.usefixtures("latest_loss", "left_out")
def test_own_rules_work_in_training(table, arrays):
    settings = {"epochs": 3, "mining.faulty_sd": 1, "mining.rule": "latest loss", "mining.weights": "left out"}
    result = fit(table, RunConfig.build("dbpm", settings), arrays=arrays)
    assert result.mining.rule == "latest loss"
    flagged = [sum(epoch.flagged.values()) for epoch in result.history]
    assert flagged[0] == 0
    assert flagged[1] > 0
    for epoch, n in zip(result.history, flagged, strict=True):
        assert epoch.mean_weight == pytest.approx(1 - n / len(result.ledger))


def test_unknown_rules_and_combinations_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="rule: must be one of threshold, mismatch, mixture, similarity, lemon"):
        mine_bad_pairs(losses(), rule="magic")
    with pytest.raises(InputError, match=r"mining\.rule: unknown ranking rule .magic.; choose one of threshold"):
        RunConfig.build("dbpm", {"mining.rule": "magic"})
    with pytest.raises(InputError, match="needs a rule that gives P"):
        RunConfig.build("dbpm", {"mining.weights": "posterior"})
    with pytest.raises(InputError, match="rule: 'mismatch' needs mismatch, which is recorded in training"):
        mine_bad_pairs(losses(), rule="mismatch", weights="posterior")


@pytest.fixture
def register():
    """Registers a rule for one test."""
    added = []

    def add(registry, decorator, name, rule):
        decorator(name)(rule)
        added.append((registry, name))
        return name

    yield add
    for registry, name in added:
        del registry._parts[name]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda _: np.zeros(3), "must return a Judgement .got ndarray"),
        (
            lambda _: Judgement(np.zeros(3), np.zeros(3), np.zeros(3)),
            r"z must have shape \(50,\) \(got \(3,\)\)",
        ),
    ],
)
def test_a_ranking_rule_that_does_not_rank_every_pair_is_refused(register, rule, message):
    with pytest.raises(InputError, match=f"ranking rule 'odd': {message}"):
        mine_bad_pairs(losses(), rule=register(RANKING_RULES, ranking_rule, "odd", rule))


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_a_weighting_rule_that_gives_no_weight_is_refused(register, weight):
    name = register(WEIGHTING_RULES, weighting_rule, "odd", lambda flags: np.full(len(flags.z), weight))
    with pytest.raises(InputError, match="weighting rule 'odd': weights must be finite and 0 or more"):
        mine_bad_pairs(losses(), weights=name)


def test_a_plugin_file_is_found_by_every_command(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from fairvlm_core.mining import ranking_rule\n\n@ranking_rule('first loss', title='First loss')\n"
        "def rule(evidence):\n    return evidence.by_limits(evidence.ledger.losses[0].astype(float))\n"
    )
    code = "from fairvlm_core.mining import RANKING_RULES; print(RANKING_RULES['first loss'].title, *RANKING_RULES)"

    def answer(plugins: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT), "FAIRVLM_PLUGINS": plugins}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )

    said = "First loss threshold mismatch mixture similarity lemon first loss"
    assert answer(str(plugin)).stdout.split() == said.split()
    assert "there is no file" in answer(str(tmp_path / "gone.py")).stderr
    plugin.write_text("import nothing_of_that_name")
    assert "mine.py cannot be imported (ModuleNotFoundError" in answer(str(plugin)).stderr


def test_every_reason_makes_a_message():
    values = {
        "recorded": 1, "warmup": 2, "n": 9, "largest": 2.7, "limit": 3.0, "needed": 100, "separation": 1.0, "share": 0.01,
        "first": 0.5, "last": 0.1, "unseen": 2,
    }  # fmt: skip
    messages = [str(Notice(reason, values)) for reason in Reason]
    assert len(set(messages)) == len(Reason)
    assert all("{" not in message for message in messages)


def test_built_in_parts_cannot_be_replaced_and_own_ones_can(register):
    with pytest.raises(InputError, match="'threshold' is a built-in ranking rule"):
        ranking_rule("threshold")(lambda evidence: evidence.by_limits(evidence.value))
    with pytest.raises(InputError, match="'bounded' is a built-in weighting rule"):
        weighting_rule("bounded")(lambda flags: flags.z)
    with pytest.raises(InputError, match="must be text without blanks at its ends"):
        ranking_rule(" odd")(lambda evidence: evidence.by_limits(evidence.value))
    register(RANKING_RULES, ranking_rule, "twice", lambda evidence: evidence.by_limits(evidence.value))
    ranking_rule("twice")(lambda evidence: evidence.by_limits(-evidence.value))
    assert mine_bad_pairs(losses(), rule="twice").n_flagged == {"faulty": 0, "noisy": 2}
