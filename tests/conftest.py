"""What tests share: a small planted data folder and its model input, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import Zygote

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(1)


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


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Runs commands in processes of their own, without the seconds of imports."""
    zygote = Zygote()
    yield zygote
    zygote.close()
