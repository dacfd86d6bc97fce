"""What messages tell to type exists: options, commands, extras, settings, entries of dataset.json."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import typer

from fairvlm_core.cli.app import app
from fairvlm_core.config import setting_names
from fairvlm_core.intake.description import Description

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for part in ("fairvlm_core", "ui", "pages") for path in (ROOT / part).rglob("*.py"))
# Options of other programs, and a CSS variable, that texts name.
FOREIGN = {
    "--local-dir", "--logdir", "--backend-store-uri", "--server.port", "--server.address", "--st-primary-color",
}  # fmt: skip


def texts(path: Path) -> list[str]:
    """The string constants of a file; the parts of an f-string as one, with {} for values."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def commands() -> dict[str, set[str]]:
    """Each command, "review make" as well, with its options."""
    found: dict[str, set[str]] = {}

    def walk(command, name: str) -> None:
        found[name] = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        for inner, below in getattr(command, "commands", {}).items():
            walk(below, f"{name} {inner}".strip())

    walk(typer.main.get_command(app), "")
    return found


COMMANDS = commands()
OPTIONS = {option for options in COMMANDS.values() for option in options} | {"--help"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_options_commands_and_extras_that_a_text_names_exist(path):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for text in texts(path):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z.-]+[a-z]", text):
            assert option in OPTIONS | FOREIGN, (option, text[:200])
        for line in re.findall(r"`fairvlm ([^`]+)`", text):
            words = [word for word in line.split() if re.fullmatch(r"[a-z]+", word)]
            if not words:
                assert line == "--help"
                continue
            assert words[0] in COMMANDS, line
            named = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
            assert named != "review" or len(words) == 1, line
            for option in re.findall(r"--[a-z-]+", line):
                assert option in COMMANDS[named], line
        for extra in re.findall(r"fairvlm\[(\w+)\]", text):
            assert extra in extras, text


def test_settings_and_entries_that_a_text_names_exist():
    settings = set(setting_names())
    entries = {field.alias or name for name, field in Description.model_fields.items()} | {
        "patient_id", "image", "text", "label", "split", "pair_id", "bins", "names", "unknown", "column", "positive",
        "negative", "contains", "lacks", "left_out",
    }  # fmt: skip
    for path in SOURCES:
        for text in texts(path):
            for name in re.findall(r"--set ([a-z_.]+)=", text):
                assert name in settings, (path, text)
            if "in dataset.json" in text or "in the description" in text:
                for entry in re.findall(r'"([a-z_]+)"', text):
                    assert entry in entries | {"none"}, (path, entry, text)
