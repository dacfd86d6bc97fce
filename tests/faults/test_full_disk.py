"""Fault 21: the disk fills up at some moment and stays full; what was there before is whole, and the run can go on."""

from __future__ import annotations

import pytest
from fault_runs import PIECES, assert_every_failure_is_survived


@pytest.mark.parametrize("piece", range(PIECES))
def test_fault_21_a_disk_that_stays_full_leaves_old_or_new_and_the_run_goes_on(
    few_pairs, undisturbed, zygote, tmp_path, piece
):
    assert_every_failure_is_survived(few_pairs, undisturbed, zygote, tmp_path, piece, "full")
