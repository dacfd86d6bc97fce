"""What training writes is what the pages read: a real run of two epochs, shown on every page."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes import methods_table, words_of

from fairvlm_core.config import RunConfig
from fairvlm_core.launch import create_run, execute
from fairvlm_core.pairs import PairTable
from fairvlm_core.runs import RunStore


@pytest.fixture(scope="module")
def trained(table: PairTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = RunStore(tmp_path_factory.mktemp("trained"))
    for preset in ("clip", "robustfair"):
        config = RunConfig.build(preset, {"epochs": 2, "batch_size": 16, "device": "cpu"})
        execute(create_run(table, config, store, read_options={}), table=table)
    return store.workspace


def test_a_trained_run_is_shown_on_every_page(open_page, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRVLM_WORKSPACE", str(trained))
    run = RunStore(trained).get("latest")
    overview = open_page()
    assert overview.metric[0].value == f"{run.report()['test']['overall']['auc']:.3f}"
    assert not overview.error
    data = open_page("1_Data.py")
    assert data.metric[0].value == "130"
    assert not data.error
    compared = open_page("6_Compare_runs.py", run=["1", "2"])
    assert methods_table(compared)["Method"].tolist() == ["clip", "robustfair"]
    assert "AUC of everyone" in words_of(compared)
    assert not compared.error
