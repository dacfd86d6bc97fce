"""A workspace whose processes are ended after the test, and runs registered in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jobs_at_work import QUICK, TAG, started_for

from fairvlm_core import PairTable, RunConfig, RunStore
from fairvlm_core.launch import create_run
from fairvlm_core.runs import Run
from fairvlm_core.synth import SynthConfig, synthesize, write_synth


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    """An empty workspace. Its processes have its path in their environment and are ended after the test."""
    monkeypatch.setenv(TAG, str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield RunStore(tmp_path / "workspace")
    while left := started_for(tmp_path):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> PairTable:
    """14 pairs: their map is that of principal components."""
    config = SynthConfig(n_train=6, n_val=4, n_test=4, size=64, seed=3, mismatch_rate=0, shortcut_rate=0)
    return PairTable.read(write_synth(synthesize(config, workers=1), tmp_path_factory.mktemp("few") / "data"))


@pytest.fixture
def register(store: RunStore, table) -> Callable[..., Run]:
    """Make a run in state `queued` that is not launched."""

    def make(seed: int = 0, preset: str = "robustfair", on: PairTable = table, **settings: Any) -> Run:
        return create_run(on, RunConfig.build(preset, QUICK | {"seed": seed} | settings), store, read_options={})

    return make
