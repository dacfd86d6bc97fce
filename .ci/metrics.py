"""Measures of the code: `make metrics` prints one line a measure, and fails where one is above its limit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from radon.complexity import cc_visit

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fairvlm_core", "ui")


def files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def fit_size() -> tuple[int, int]:
    """Lines of `fit` without docstring and blank lines, and its cyclomatic complexity."""
    source = (ROOT / "fairvlm_core" / "train.py").read_text(encoding="utf-8")
    (fit,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "fit")
    body = source.splitlines()[fit.lineno - 1 : fit.end_lineno]
    docstring = fit.body[0].end_lineno - fit.body[0].lineno + 1
    (block,) = (block for block in cc_visit(source) if block.name == "fit")
    return sum(bool(line.strip()) for line in body) - docstring_lines(body, docstring), block.complexity


def docstring_lines(body: list[str], length: int) -> int:
    start = next(i for i, line in enumerate(body) if line.lstrip().startswith('"""'))
    return sum(bool(line.strip()) for line in body[start : start + length])


def worst_complexity() -> tuple[int, str]:
    found = []
    for path in files(*PACKAGES, "pages"):
        for block in cc_visit(path.read_text(encoding="utf-8")):
            found += [(part.complexity, f"{path.stem}.{part.name}") for part in (block, *getattr(block, "methods", ()))]
    return max(found)


def upward_imports() -> int:
    """Imports that import-linter finds against the order of layers in pyproject.toml."""
    done = subprocess.run(["lint-imports", "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    return 0 if done.returncode == 0 else max(1, len(re.findall(r"^- ", done.stdout, re.MULTILINE)))


def definitions(pattern: str) -> int:
    return sum(len(re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)) for path in files(*PACKAGES))


def main() -> int:
    fit_lines, fit_complexity = fit_size()
    worst, where = worst_complexity()
    rows = [
        ("fit: lines of code", fit_lines, 90),
        ("fit: complexity", fit_complexity, 15),
        (f"worst complexity ({where})", worst, 20),
        ("lines of fairvlm_core and ui", lines(files(*PACKAGES)), 31_000),
        ("functions that group runs into methods", definitions(r"^def methods_of\b"), 1),
        ("functions that compute a paired difference", definitions(r"^def compare_paired\b"), 1),
        ("imports against the order of layers", upward_imports(), 0),
    ]
    for name, value, limit in rows:
        print(f"{name:<55} {value:>7,}  (limit {limit:,}){'' if value <= limit else '  ABOVE'}")
    return int(any(value > limit for _, value, limit in rows))


if __name__ == "__main__":
    sys.exit(main())
