"""The example that draws the documentation's contact sheet runs and gives the sheet."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "contact_sheet.py"


@pytest.mark.slow
def test_the_contact_sheet_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--out", str(out), "--seed", "3"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    with Image.open(out) as sheet:
        assert sheet.width > 900
        assert sheet.height > 1500
        assert len(sheet.convert("L").getcolors()) > 40
    assert out.stat().st_size < 700_000
