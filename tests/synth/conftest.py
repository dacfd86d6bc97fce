from __future__ import annotations

import pytest

from fairvlm_core.synth import SynthConfig, SynthData, synthesize


@pytest.fixture(scope="session")
def synth() -> SynthData:
    """One set for all reading tests: real proportions, both kinds of bad pairs, small enough to draw in seconds."""
    return synthesize(SynthConfig(n_train=420, n_val=60, n_test=120, seed=5, shortcut_rate=0.06), workers=1)


@pytest.fixture(scope="session")
def other_site() -> SynthData:
    config = SynthConfig(n_train=160, n_val=0, n_test=0, size=64, site="other", mismatch_rate=0, shortcut_rate=0)
    return synthesize(config, workers=1)
