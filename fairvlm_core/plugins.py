"""Rules and metrics of your own: how they are registered, and how they are found.

A `Registry` maps names to rules or metrics. The built-in ones register themselves when their module is imported. Your own
are imported the first time a registry is listed, or is asked for a name that it does not know:

* modules named by the entry points of an installed package, in the group ``fairvlm.plugins``;
* modules and Python files listed in the environment variable ``FAIRVLM_PLUGINS``, separated by commas.

Jobs inherit the environment, so a part that works in a terminal also works in a run that the app has launched.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from .errors import InputError

GROUP = "fairvlm.plugins"
VARIABLE = "FAIRVLM_PLUGINS"
_loaded: set[str] = set()
Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """Named parts of one kind, in the order in which they were registered.

    Parameters
    ----------
    kind : str
        What the parts are, in the singular; error messages use it.

    Examples
    --------
    >>> averages: Registry[Callable] = Registry("average")
    >>> averages.add("middle", lambda values: sorted(values)[len(values) // 2])
    >>> averages["middle"]([3, 1, 2])
    2
    >>> averages["mode"]
    Traceback (most recent call last):
    fairvlm_core.errors.InputError: unknown average 'mode'; choose one of middle
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._parts: dict[str, Part] = {}
        self._built_in: frozenset[str] = frozenset()

    def add(self, name: str, part: Part) -> None:
        """Register a part. Your own part of the same name is replaced, so that a notebook cell can be run twice.

        Raises
        ------
        InputError
            The name is blank or padded, or belongs to a built-in part.
        """
        if not isinstance(name, str) or not name or name != name.strip():
            raise InputError(f"the name of a {self.kind} must be text without blanks at its ends (got {name!r})")
        if name in self._built_in:
            raise InputError(f"{name!r} is a built-in {self.kind}; choose another name")
        self._parts[name] = part

    def close_built_in(self) -> None:
        """Protect the parts registered so far from being replaced."""
        self._built_in = frozenset(self._parts)

    def __getitem__(self, name: str) -> Part:
        if name not in self._parts:
            load_plugins()
        if name not in self._parts:
            raise InputError(f"unknown {self.kind} {name!r}; choose one of {', '.join(self._parts)}")
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._parts:
            load_plugins()
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(tuple(self._parts))

    def __len__(self) -> int:
        load_plugins()
        return len(self._parts)


def load_plugins() -> None:
    """Import every plugin that this process has not imported yet.

    Raises
    ------
    InputError
        A plugin cannot be imported. The message names it and the error.
    """
    for point in _entry_points():
        _load(f"entry point {point.name}", point.load)
    for name in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        _load(name, functools.partial(_import_named, name))


@functools.cache
def _entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))


def _load(name: str, load: Callable[[], object]) -> None:
    if name in _loaded:
        return
    _loaded.add(name)  # before the import: a plugin may itself list a registry
    try:
        load()
    except Exception as error:
        _loaded.discard(name)
        raise InputError(f"plugin {name} cannot be imported ({type(error).__name__}: {error})") from error


def _import_named(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name)
    spec = importlib.util.spec_from_file_location(f"fairvlm_plugin_{path.stem}", path.expanduser())
    if spec is None or spec.loader is None or not path.expanduser().is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
