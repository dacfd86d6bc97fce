"""What tests share: a small planted data folder and its model input, made once."""

from __future__ import annotations

from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import torch
from commands import Zygote, shared_zygote

SHARED = Path(__file__).resolve().parents[2] / "shared"


# Long files begin first, so that two processes end at the same time.
FIRST = (
    "jobs/test_queue", "app/test_finetune_browser", "app/test_hostile_browser", "test_planted", "faults/test_leaks",
    "faults/test_disk", "app/test_review_browser", "app/test_bad_pairs_browser", "app/test_browser",
    "app/test_losses_browser", "test_sweep", "review/test_review_faults", "review/test_review_cli", "test_distributed",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
        return FIRST.index(name) if name in FIRST else len(FIRST)

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(1)
    resource_tracker.ensure_running()  # now, so that it is not ended with the processes that a test started


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference values and real images that lie beside the project; not part of it."""
    if not SHARED.is_dir():
        pytest.skip("../shared is missing: its reference values and real images are not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def synth_folder(tmp_path_factory) -> Path:
    """100 training (20 mismatches, 5 shortcuts), 40 validation, 60 test pairs in the manifest layout."""
    from fairvlm_core.synth import SynthConfig, synthesize, write_synth

    config = SynthConfig(n_train=100, n_val=40, n_test=60, seed=3, mismatch_rate=0.2, shortcut_rate=0.05, size=64)
    return write_synth(synthesize(config, workers=1), tmp_path_factory.mktemp("data") / "synth")


@pytest.fixture(scope="session")
def table(synth_folder):
    from fairvlm_core import PairTable

    return PairTable.read(synth_folder)


@pytest.fixture(scope="session")
def arrays(table):
    from fairvlm_core.features import pair_arrays
    from fairvlm_core.models import load_clip

    return pair_arrays(table, load_clip("tiny"))


@pytest.fixture(autouse=True, scope="session")
def _end_zygote():
    yield
    if shared_zygote.cache_info().currsize:
        shared_zygote().close()


@pytest.fixture(scope="session")
def zygote() -> Zygote:
    """Runs commands in processes of their own, without the seconds of imports."""
    return shared_zygote()
