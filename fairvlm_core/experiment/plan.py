"""What an experiment trains and reports: its TOML file, and the run of each cell.

```toml
title = "..."
seeds = 3                        # 3: seeds 0, 1, 2; or a list
models = ["ViT-B-16:openai"]     # default: what --model auto takes
attributes = ["race", "gender"]  # that are reported; default: all of the data
against = "CLIP"                 # the method that others are compared with; default: the first
metrics = ["auc", "es_auc"]      # names in METRICS
scores = ["zero-shot", "probe"]

[set]                            # settings of all methods, as --set takes them
epochs = 10

[methods.CLIP]
preset = "clip"

[methods.FairCLIP]
preset = "fairclip"
each_attribute = true            # one run an attribute, reported for that attribute only
set = { "fairness.weight" = 1e-6 }
```

`based_on = "FILE.toml"` takes everything that is not written from another file in the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..config import AUTO, RunConfig, choose_model, dotted
from ..errors import InputError
from ..fairness.definitions import find_metric
from ..safeio import read_toml
from ..synth import SynthConfig

if TYPE_CHECKING:
    from ..pairs import PairTable

# Columns of a run's predictions (see FitResult) under the names that the file uses.
SCORES = {
    "zero-shot": "score",
    "probe": "probe_score",
    "zero-shot with note": "note_score",
    "probe with note": "note_probe_score",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_CELLS = 10_000
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("seeds", mode="before", check_fields=False)
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("set", mode="before", check_fields=False)
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return dotted(value) if isinstance(value, dict) else value


class MethodPlan(_Frozen):
    """One method: a preset with settings of its own. `seeds`: instead of the experiment's."""

    preset: str
    set: dict[str, Any] = {}
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    each_attribute: bool = False


class Experiment(_Frozen):
    """An experiment as its file says it. `synth`: built-in data to make where no folder is given; fields of SynthConfig."""

    name: str
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    models: Annotated[tuple[str, ...], Field(min_length=1)] = (AUTO,)
    attributes: tuple[str, ...] = ()
    against: str = ""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("auc", "es_auc")
    scores: Annotated[tuple[str, ...], Field(min_length=1)] = ("zero-shot", "probe")
    set: dict[str, Any] = {}
    methods: Annotated[dict[str, MethodPlan], Field(min_length=1)]
    synth: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for score in self.scores:
            if score not in SCORES:
                raise ValueError(f"scores: {score!r} is not one of {', '.join(SCORES)}")
        try:
            for metric in self.metrics:
                find_metric(metric)
            for method in self.methods.values():
                RunConfig.build(method.preset, {"model": self.models[0]} | self.set | method.set)
            if self.synth is not None:
                self.synth_config()
        except InputError as error:
            raise ValueError(str(error)) from None
        if self.against and self.against not in self.methods:
            raise ValueError(f"against: there is no method {self.against!r}; there are {', '.join(self.methods)}")
        return self

    @property
    def baseline(self) -> str:
        return self.against or next(iter(self.methods))

    def synth_config(self) -> SynthConfig:
        """Settings of the built-in data that the experiment is on."""
        values = dict(self.synth or {})
        values["disparity"] = tuple(values.get("disparity", ()))
        try:
            return SynthConfig(**values)
        except TypeError as error:
            raise InputError(f"synth: {error}") from None

    def changed(
        self, settings: Mapping[str, Any], models: Sequence[str] = (), seeds: int | Sequence[int] | None = None
    ) -> Experiment:
        """The experiment with other settings of all methods, other models, other seeds of all methods."""
        values = self.model_dump()
        values["set"] |= settings
        if models:
            values["models"] = tuple(models)
        if seeds is not None:
            values["seeds"] = seeds
        return _checked(values, self.name)

    def reported(self, table: PairTable) -> tuple[str, ...]:
        """The attributes of the report.

        Raises
        ------
        InputError
            The data lack one of them.
        """
        for name in self.attributes:
            if name not in table.attributes:
                there = ", ".join(table.attributes) or "none"
                raise InputError(f"experiment {self.name}: attribute {name!r} is not in the data; there are {there}")
        return self.attributes or table.attributes

    def cells(self, table: PairTable) -> list[Cell]:
        """Every run of the experiment, the first seed of all methods first.

        Raises
        ------
        InputError
            The data lack an attribute, or there are too many cells.
        """
        attributes, cells = self.reported(table), []
        for model in self.models:
            model = choose_model(table) if model == AUTO else model
            for name, method in self.methods.items():
                each = attributes if method.each_attribute else (None,)
                for attribute in each:
                    for place, seed in enumerate(method.seeds or self.seeds):
                        own = {} if attribute is None else {"fairness.attributes": [attribute]}
                        settings = {"model": model} | self.set | method.set | own | {"seed": seed}
                        config = RunConfig.build(method.preset, settings)
                        cells.append((place, Cell(name, config.model, attribute, seed, config)))
        if len(cells) > _MOST_CELLS:
            raise InputError(f"experiment {self.name}: {len(cells)} runs; at most {_MOST_CELLS} can be planned")
        return [cell for _, cell in sorted(cells, key=lambda one: one[0])]


@dataclass(frozen=True)
class Cell:
    """One run of an experiment. `attribute`: the one that the method was trained for; None where it serves all."""

    method: str
    model: str
    attribute: str | None
    seed: int
    config: RunConfig = field(compare=False, repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """What is stored of a cell: method, model, attribute, seed."""
        return {name: getattr(self, name) for name in ("method", "model", "attribute", "seed")}

    @property
    def key(self) -> tuple[str, int]:
        """Equal for cells that are the same run."""
        return self.config.method_key, self.seed

    def __str__(self) -> str:
        parts = (self.method, self.model, self.attribute, f"seed {self.seed}")
        return " · ".join(part for part in parts if part is not None)


def read_experiment(path: Path) -> Experiment:
    """An experiment from a TOML file, or one of `bundled` by its name; its own name is the file's.

    Raises
    ------
    InputError
        There is no such file, it is no TOML, or an entry is unknown or out of range.
    """
    path = path if path.is_file() else bundled().get(str(path), path)
    if not path.is_file():
        raise InputError(f"experiment {path}: there is no such file; bundled are {', '.join(bundled())}")
    return parse_experiment(read_toml(path, "experiment"), path)


def parse_experiment(values: dict[str, Any], path: Path) -> Experiment:
    """As `read_experiment`, from the values of a TOML file; `path` gives the name, and the folder of ``based_on``."""
    if not _NAME.fullmatch(path.stem):
        raise InputError(f"experiment {path.name}: name the file with letters, digits, dots, dashes and underscores")
    if "name" in values:
        raise InputError(f"experiment {path.name}: name: it is the file's name; leave it out, or write title")
    if (other := values.pop("based_on", None)) is not None:
        values = _merged(read_experiment(path.parent / str(other)).model_dump(exclude_defaults=True), values)
    return _checked(values | {"name": path.stem}, path.name)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `above`, and those of `below` that it lacks; settings and methods one by one."""
    merged = dict(below) | dict(above)
    for name in ("set", "methods"):
        merged[name] = below.get(name, {}) | above.get(name, {})
    return merged


def bundled() -> dict[str, Path]:
    """The experiment files that come with fairvlm, by name: in the installed package, or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_experiments", package.parent / "examples" / "experiments"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def _checked(values: Mapping[str, Any], file: str) -> Experiment:
    try:
        return Experiment.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            fields = MethodPlan.model_fields if name.startswith("methods.") else Experiment.model_fields
            message = f"there is no such entry; there are {', '.join(f for f in fields if f != 'name')}"
        raise InputError(f"experiment {file}: {f'{name}: ' if name else ''}{message}") from None
