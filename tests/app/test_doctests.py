"""Every example in the docstrings of ui/ runs."""

from __future__ import annotations

import doctest
import importlib

import pytest
from recipes import ROOT

MODULES = sorted(path.stem for path in (ROOT / "ui").glob("*.py") if ">>>" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"ui.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
