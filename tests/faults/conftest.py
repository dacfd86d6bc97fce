"""An undisturbed run, and a process that runs commands with faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Zygote
from fault_runs import Undisturbed, train_arguments

from fairvlm_core.runs import RunStore
from fairvlm_core.synth import SynthConfig, synthesize, write_synth


@pytest.fixture(scope="session")
def few_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training, 24 validation, 24 test pairs: a run takes a second."""
    config = SynthConfig(n_train=48, n_val=24, n_test=24, seed=4, size=48)
    return write_synth(synthesize(config, workers=1), tmp_path_factory.mktemp("few") / "data")


@pytest.fixture(scope="session")
def undisturbed(few_pairs: Path, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    workspace = folder / "workspace"
    ended = zygote.run(train_arguments(few_pairs, workspace), workspace, count=str(folder / "events"))
    assert ended.code == 0, ended.said
    return Undisturbed(RunStore(folder / "workspace").get("1"), tuple((folder / "events").read_text().splitlines()))
