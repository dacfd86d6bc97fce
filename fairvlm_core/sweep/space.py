"""What a sweep varies: settings with a range or a list of choices, read from text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import PRESETS, RunConfig, dotted, setting_names
from ..errors import InputError
from ..safeio import read_toml

DEFAULT = ("fairness.weight=0.1..30:log", "mining.faulty_sd=1.5..4", "fairness.blur=0.05..1:log")
_FORM = "write LOW..HIGH, LOW..HIGH:log, LOW..HIGH:STEP, or choices as a|b|c"
_NOT_VARIED = {"seed": "--seeds K gives every trial K seeds", "device": "--set device=… holds for all trials"}


@dataclass(frozen=True)
class Parameter:
    """One setting that is varied: either `choices` (as text), or a range from `low` to `high`.

    A range can be of `whole` numbers, on a `log` scale, or in steps of `step`.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The form that `Space.read` takes.

        >>> Space.read(["fairness.weight=0.010..1:log"]).parameters[0].text
        'fairness.weight=0.01..1:log'
        """
        if self.choices:
            return f"{self.name}={'|'.join(self.choices)}"
        how = ":log" if self.log else f":{self.step:g}" if self.step is not None else ""
        return f"{self.name}={self.low:g}..{self.high:g}{how}"

    def drawn(self, trial: Any) -> Any:
        """The value that an Optuna trial proposes."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Space:
    """What is varied, and the preset and the fixed settings that all trials share.

    Where the preset itself is varied, settings of a term that a preset does not use (fairness.* at weight 0, mining.* while
    mining is off, groups.* without a group method) are not applied to it, so that it stays what its name says.

    Examples
    --------
    >>> space = Space.read(["preset=clip|robustfair", "fairness.weight=0.1|1"])
    >>> [(c["preset"], c.get("fairness.weight")) for c in space.combinations()]
    [('clip', None), ('robustfair', '0.1'), ('robustfair', '1')]
    """

    parameters: tuple[Parameter, ...]
    preset: str = "robustfair"
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def read(cls, items: Sequence[str], preset: str = "robustfair", settings: Mapping[str, Any] | None = None) -> Space:
        """From ``NAME=RANGE`` items.

        Raises
        ------
        InputError
            An item cannot be read, names no setting, or names one twice; a bound or a choice is out of the setting's range.
        """
        fixed = dict(settings or {})
        RunConfig.build(preset, fixed)
        parameters = [_parameter(item) for item in items]
        names = [parameter.name for parameter in parameters]
        for name in names:
            if names.count(name) > 1 or name in fixed:
                raise InputError(f"--param {name}: it is given twice; name it once, in --param or in --set")
        for parameter in parameters:  # a bound or a choice outside the setting's range is refused here
            for value in parameter.choices or (parameter.low, parameter.high):
                if parameter.name == "preset":
                    RunConfig.build(str(value), fixed)
                else:
                    RunConfig.build(preset, fixed | {parameter.name: _given(parameter, value)})
        return cls(tuple(parameters), preset, tuple(sorted(fixed.items())))

    def drawn(self, trial: Any) -> tuple[str, dict[str, Any]]:
        """Preset and settings of an Optuna trial."""
        varied = next((p for p in self.parameters if p.name == "preset"), None)
        preset = self.preset if varied is None else str(varied.drawn(trial))
        return preset, dict(self.settings) | {p.name: _given(p, p.drawn(trial)) for p in self._applied_to(preset)}

    def combinations(self) -> list[dict[str, str]]:
        """Every combination once, where all parameters are lists of choices; empty where one is a range."""
        choices = {p.name: p.choices for p in self.parameters}
        if not choices or not all(choices.values()):
            return []
        found = []
        for preset in choices.get("preset", (self.preset,)):
            names = [p.name for p in self._applied_to(preset)]
            head = {"preset": preset} if "preset" in choices else {}
            for values in itertools.product(*(choices[name] for name in names)):
                found.append(head | dict(zip(names, values, strict=True)))
        return found

    def configs(self) -> Iterator[RunConfig]:
        """A configuration for each preset and each list of attributes that can be drawn, to check them against data."""
        choices = {p.name: p.choices for p in self.parameters}
        for preset in choices.get("preset", (self.preset,)):
            for attributes in choices.get("fairness.attributes", (None,)):
                more = {} if attributes is None else {"fairness.attributes": _attributes(attributes)}
                yield RunConfig.build(preset, dict(self.settings) | more)

    def to_dict(self) -> dict[str, Any]:
        return {
            "preset": self.preset,
            "settings": dict(self.settings),
            "parameters": [asdict(p) | {"choices": list(p.choices)} for p in self.parameters],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Space:
        parameters = (Parameter(**{**p, "choices": tuple(p["choices"])}) for p in values["parameters"])
        return cls(tuple(parameters), values["preset"], tuple(sorted(values["settings"].items())))

    def _applied_to(self, preset: str) -> list[Parameter]:
        names = {p.name for p in self.parameters}
        unused = {"preset"}
        if "preset" in names:
            config = RunConfig.build(preset, dict(self.settings))
            if not config.fairness.weight:
                unused.add("fairness")
            if not config.mining.enabled and "mining.enabled" not in names:
                unused.add("mining")
            if config.groups.method == "none" and "groups.method" not in names:
                unused.add("groups")
        return [p for p in self.parameters if p.name.partition(".")[0] not in unused]


def read_space_file(path: Path) -> tuple[list[str], dict[str, Any], str | None]:
    """Items, settings and preset of a TOML file with the tables ``[param]`` and ``[set]``, and ``preset`` at its top.

    Raises
    ------
    InputError
        There is no such file, it is no TOML, or it holds something else.
    """
    values = read_toml(path, "--space")
    unknown = set(values) - {"param", "set", "preset"}
    if unknown or not all(isinstance(values.get(name, {}), dict) for name in ("param", "set")):
        wrong = ", ".join(sorted(unknown)) or "param or set"
        raise InputError(f"--space {path.name}: {wrong}: only the tables [param] and [set], and preset, are read")
    items = []
    for name, value in dotted(values.get("param", {})).items():
        text = "|".join(str(v) for v in value) if isinstance(value, list) else str(value)
        items.append(f"{name}={text}")
    return items, dotted(values.get("set", {})), values.get("preset")


def _parameter(item: str) -> Parameter:
    name, sign, text = (part.strip() for part in item.partition("="))
    if not sign or not text:
        raise InputError(f"--param {item!r}: write NAME=RANGE, as in fairness.weight=0.01..1:log")
    if name in _NOT_VARIED:
        raise InputError(f"--param {name}: it is not varied; {_NOT_VARIED[name]}")
    if name not in setting_names():
        RunConfig.build("clip", {name: text})  # names the settings that are spelled alike
        raise InputError(f"--param {name}: there is no such setting; `fairvlm presets --settings` lists them")
    return _range(name, text, item) if ".." in text else _choices(name, text, item)


def _choices(name: str, text: str, item: str) -> Parameter:
    choices = tuple(dict.fromkeys(part.strip() for part in text.split("|")))
    if len(choices) < 2:
        raise InputError(f"--param {item!r} is a single value: {_FORM}; one value for all trials goes into --set")
    if name == "preset" and (wrong := [c for c in choices if c not in PRESETS]):
        raise InputError(f"--param preset: unknown preset {wrong[0]!r}; choose among {', '.join(PRESETS)}")
    return Parameter(name, choices=choices)


def _range(name: str, text: str, item: str) -> Parameter:
    bounds, _, how = text.partition(":")
    log = how == "log"
    try:
        low, high = (float(bound) for bound in bounds.split(".."))
        step = None if how in ("", "log") else float(how)
    except ValueError:
        raise InputError(f"--param {item!r}: {_FORM}") from None
    if not low < high or (step is not None and not 0 < step <= high - low) or (log and low <= 0):
        raise InputError(f"--param {item!r}: the range needs LOW < HIGH, 0 < STEP ≤ HIGH − LOW, and LOW > 0 for log")
    whole = isinstance(RunConfig.build().flat().get(name), int)
    if whole and any(value is not None and not value.is_integer() for value in (low, high, step)):
        raise InputError(f"--param {item!r}: {name} takes whole numbers")
    if whole and log and low < 1:
        raise InputError(f"--param {item!r}: a log range of whole numbers starts at 1 or above")
    return Parameter(name, low, high, log, step, whole)


def _given(parameter: Parameter, value: Any) -> Any:
    """A drawn value as `RunConfig.build` takes it."""
    if parameter.name == "fairness.attributes":
        return _attributes(str(value))
    return int(value) if parameter.whole else value


def _attributes(text: str) -> list[str]:
    """
    >>> _attributes("race,gender"), _attributes("all")
    (['race', 'gender'], [])
    """
    return [] if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
