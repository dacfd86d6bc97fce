"""SynthFundus: fundus images, clinical notes, groups and planted bad pairs, made from a seed.

>>> from fairvlm_core.synth import SynthConfig, synthesize
>>> data = synthesize(SynthConfig(n_train=20, n_val=0, n_test=0, size=64, shortcut_rate=0.1))
>>> sorted(data.planted["kind"].unique())
['clean', 'mismatch', 'shortcut']
"""

from __future__ import annotations

from .config import Disparity, DisparityKind, SynthConfig
from .disparity import AppliedDisparity, other_device
from .generate import SynthData, synthesize
from .write import check_target, write_synth

__all__ = [
    "AppliedDisparity",
    "Disparity",
    "DisparityKind",
    "SynthConfig",
    "SynthData",
    "check_target",
    "other_device",
    "synthesize",
    "write_synth",
]
