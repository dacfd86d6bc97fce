"""Real images from the bare folder to a result with `base`; skipped where the images are not beside the checkout."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.real import scores
from benchmarks.worlds import real_data
from fairvlm_core import PairTable, RunConfig, fit
from fairvlm_core.cross_validation import cross_validate
from fairvlm_core.features import pair_arrays
from fairvlm_core.intake.describe import describe_folder
from fairvlm_core.models import choose_model, load_clip


def table_of(name: str) -> PairTable:
    folder = real_data(None) / name
    if not folder.is_dir():
        pytest.skip(f"the real images of {name} are not at {folder}")
    return PairTable.read(folder, description=describe_folder(folder).description, check_images=False)


@pytest.mark.parametrize("name", ["skin", pytest.param("cxr", marks=pytest.mark.slow)])
def test_a_small_set_is_cross_validated_above_chance(name):
    table = table_of(name)
    arrays = pair_arrays(table, load_clip("base"))
    config = RunConfig.build("clip", {"model": choose_model(table), "epochs": 1, "folds": 5})
    found = scores(cross_validate(table, config, arrays=arrays, clip_of_fold=lambda: load_clip("base")).result)
    assert config.model == "base"
    assert found["probe"] > 0.62  # 0.5 by chance; the standard error is about 0.04


def test_dermatoscopic_images_are_told_apart_by_prompts():
    table = table_of("derm")
    some = np.sort(np.random.default_rng(0).choice(len(table), 500, replace=False))
    table = table.take(some)
    found = scores(fit(table, RunConfig.build("robustfair", {"model": "base", "epochs": 2})))
    assert found["probe"] > 0.65
    assert found["auc"] > 0.6
