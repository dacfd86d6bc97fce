"""The code keeps the structure that docs/architecture.md describes."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fairvlm_core

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(fairvlm_core.__path__, "fairvlm_core.") if not m.name.endswith("__main__")
)

_WITHOUT_STREAMLIT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"streamlit", "ui"}:
            raise ImportError(name + " is not for the core")
sys.meta_path.insert(0, Refuse())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print("imported", len(sys.argv) - 1)
"""


def test_the_core_imports_without_streamlit_and_ui():
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_STREAMLIT, *MODULES], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == f"imported {len(MODULES)}", done.stderr


def test_imports_go_down_the_layers():
    """The order of [tool.importlinter] in pyproject.toml, which docs/architecture.md shows as a table."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_array_level_modules_know_no_paths_runs_or_configuration():
    forbidden = re.compile(r"^\s*(from|import)\s+(\.+)?(pathlib|runs|config|launch|cli)\b", re.MULTILINE)
    array_level = ("ledger.py", "objective.py", "sinkhorn/*.py", "mining/*.py", "fairness/*.py")
    files = [file for pattern in array_level for file in sorted((ROOT / "fairvlm_core").glob(pattern))]
    offenders = [str(f) for f in files if forbidden.search(f.read_text(encoding="utf-8"))]
    assert len(files) > 20
    assert offenders == []


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_docstring_examples():
    finder = doctest.DocTestFinder()
    count = sum(len(t.examples) for m in MODULES for t in finder.find(importlib.import_module(m)))
    assert count > 40


def test_the_public_names_are_those_that_are_imported_on_use():
    assert sorted(fairvlm_core.__all__) == sorted(fairvlm_core._HOMES)
    for name in fairvlm_core.__all__:
        assert getattr(fairvlm_core, name) is not None


def test_importing_the_package_is_cheap():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, fairvlm_core; print('torch' in sys.modules, 'pandas' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]


def test_modules_stay_readable():
    too_long = {
        str(path.relative_to(ROOT)): n
        for pattern, limit in (("fairvlm_core/**/*.py", 600), ("ui/**/*.py", 600), ("pages/*.py", 120), ("app.py", 120))
        for path in ROOT.glob(pattern)
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > limit
    }
    assert too_long == {}
