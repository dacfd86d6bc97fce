"""Workspaces for the pages: hand-made runs with known metrics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipes import ROOT, TIMEOUT, add_run
from streamlit.testing.v1 import AppTest

from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore
from fairvlm_core.synth import SynthConfig, synthesize, write_synth


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training, 30 validation and 40 test pairs, with planted bad pairs."""
    config = SynthConfig(n_train=60, n_val=30, n_test=40, size=64, seed=3, shortcut_rate=0.1)
    return write_synth(synthesize(config, workers=1), tmp_path_factory.mktemp("data") / "synthfundus")


@pytest.fixture(scope="session")
def table(data_folder: Path) -> PairTable:
    return PairTable.read(data_folder)


@pytest.fixture(scope="session")
def _runs(table: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = RunStore(tmp_path_factory.mktemp("runs"))
    add_run(store, table, "clip", 0)
    add_run(store, table, "clip", 1)
    add_run(store, table, "robustfair", 0, shift=3.0)
    add_run(store, table, "robustfair", 1, shift=3.0)
    return store.workspace


@pytest.fixture
def workspace(_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a workspace with four finished runs: clip and robustfair, seeds 0 and 1; robustfair is better."""
    path = tmp_path / "workspace"
    shutil.copytree(_runs, path)
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(path))
    return path


@pytest.fixture
def empty_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nothing"
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(path))
    return path


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """Run the app from its entry point, then go to a page, with an address such as ``{"run": ["2"]}``."""

    def open_it(page: str | None = None, **address: Any) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=TIMEOUT)
        if page is not None:
            app.switch_page(f"pages/{page}")
        for name, value in address.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception, [error.value for error in app.exception]
        return app

    return open_it
