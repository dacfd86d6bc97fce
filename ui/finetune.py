"""What the Fine-tune page decides: which settings there are, what was changed, which runs a launch makes, its cost."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fairvlm_core.config import PRESETS, RunConfig
from fairvlm_core.errors import InputError
from fairvlm_core.jobs import Cost, Step

from .words import figure, many

SEEDS, WEIGHTS, ATTRIBUTES = "seed", "fairness.weight", "fairness.attributes"
ESSENTIAL = ("epochs", "batch_size", "learning_rate", SEEDS, "model", ATTRIBUTES, WEIGHTS)
MOST_RUNS = 100
_NOT_ASKED = ("schema_version", "preset")
_LABELS = {
    "batch_size": "Batch size",
    SEEDS: "Seeds",
    WEIGHTS: "Fairness weight λ",
    ATTRIBUTES: "Attributes to be fair for",
    "mining.enabled": "Turn bad pairs down",
    "mining.faulty_sd": "β_f (faulty)",
    "mining.noisy_sd": "β_n (noisy)",
    "mining.warmup": "Warm-up epochs",
    "fairness.blur": "Blur √ε",
}
_HELP = {
    "epochs": "How often every training pair is seen. More takes longer and may fit the noise.",
    "batch_size": "Pairs compared with one another in a step. Larger needs more memory; too little memory stops the run.",
    "learning_rate": "How far a step moves the model. Too high and the loss explodes, too low and little is learned.",
    "weight_decay": "Pulls weights towards zero, against fitting the noise.",
    SEEDS: "Chance's starting point. Several, as 0-4 or 0, 1, 7, make a run each: they show what chance alone does.",
    WEIGHTS: "λ: how much the groups' equality counts beside the loss; 0 turns it off. Several, as 0, 0.1, 0.5, make a run "
    "each, to find where more equality begins to cost accuracy.",
    ATTRIBUTES: "Groups of patients whose losses are held near everyone's. Empty: every attribute of the data.",
    "fairness.attribute_weights": "A weight for single attributes, as race=2, gender=0.5; 1 where none is given.",
}  # fmt: skip


@dataclass(frozen=True)
class Knob:
    """A setting as the form asks for it.

    `kind` is "switch", "choice", "whole" (number), "names" (of attributes) or "text"; `low` and `high` bound a number.
    """

    name: str
    label: str
    help: str
    kind: str
    group: str
    options: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None


def knobs() -> list[Knob]:
    """Every setting of a run, read from the configuration itself, so that a new one appears without being named here.

    >>> [knob.name for knob in knobs() if knob.group == "essential"][:2]
    ['epochs', 'batch_size']
    """
    found = {knob.name: knob for knob in _walk(RunConfig, "")}
    first = [found[name] for name in ESSENTIAL if name in found]
    return first + [knob for name, knob in found.items() if name not in ESSENTIAL]


def _walk(model: type[BaseModel], prefix: str) -> list[Knob]:
    out: list[Knob] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            out += _walk(field.annotation, f"{prefix}{name}.")
        elif prefix + name not in _NOT_ASKED:
            out.append(_knob(prefix + name, field))
    return out


def _knob(name: str, field: FieldInfo) -> Knob:
    last = name.rpartition(".")[2]
    text = _HELP.get(name, field.description or "")
    group = "essential" if name in ESSENTIAL else name.partition(".")[0] if "." in name else "advanced"
    kind, options, low, high = "text", (), None, None
    if typing.get_origin(field.annotation) is Literal:
        kind, options = "choice", tuple(str(value) for value in typing.get_args(field.annotation))
    elif field.annotation is bool:
        kind = "switch"
    elif field.annotation is int and name != SEEDS:
        kind = "whole"
        low = next((int(m.ge) for m in field.metadata if hasattr(m, "ge")), None)
        high = next((int(m.le) for m in field.metadata if hasattr(m, "le")), None)
    elif field.annotation == tuple[str, ...]:
        kind = "names"
    label = _LABELS.get(name, last.replace("_", " ").capitalize())
    return Knob(name, label, f"{text} (setting: {name})".strip(), kind, group, options, low, high)


def shown(config: RunConfig) -> dict[str, Any]:
    """The values of a configuration as the form's widgets hold them, by setting.

    >>> shown(RunConfig.build("clip"))["learning_rate"], shown(RunConfig.build("clip"))["fairness.attributes"]
    ('0.0003', [])
    """
    flat, values = config.flat(), {}
    for knob in knobs():
        value = flat.get(knob.name)
        if knob.name == "fairness.attribute_weights":
            value = ", ".join(f"{name}={weight:g}" for name, weight in config.fairness.attribute_weights.items())
        elif knob.kind == "text":
            value = f"{value:g}" if isinstance(value, float) else str(value)
        values[knob.name] = value
    return values


def method_settings() -> set[str]:
    """Settings in which the presets differ: choosing a preset sets these, and leaves the others as they were typed."""
    every = [RunConfig.build(preset).flat() for preset in PRESETS]
    names = {name for flat in every for name in flat}
    return {n for n in names if len({json.dumps(flat.get(n)) for flat in every}) > 1} - set(_NOT_ASKED)


def settings_of(preset: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the preset among the values of the form (without seeds and λ, which may be several).

    >>> settings_of("dbpm", shown(RunConfig.build("dbpm")) | {"epochs": 3, "mining.faulty_sd": "2"})
    {'epochs': 3, 'mining.faulty_sd': 2.0}

    Raises
    ------
    InputError
        A value cannot be read; it names the setting.
    """
    base, chosen = RunConfig.build(preset), {}
    defaults = shown(base)
    for knob in knobs():
        value = typed.get(knob.name, defaults[knob.name])
        if knob.name in (SEEDS, WEIGHTS) or value == defaults[knob.name]:
            continue
        if knob.name == "fairness.attribute_weights":
            value = _weights_by_name(value)
        chosen[knob.name] = value
    config = RunConfig.build(preset, chosen)  # reads numbers from text, and refuses what is out of range
    read, before = config.flat(), base.flat()
    kept = {name: read.get(name, chosen[name]) for name in chosen}
    return {name: value for name, value in kept.items() if name not in before or value != before[name]}


def _weights_by_name(text: str) -> dict[str, float]:
    weights = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, sign, value = part.rpartition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            sign = ""
        if not sign or not name.strip():
            raise InputError(f"attribute weights: write race=2, gender=0.5 (got {part[:40]!r})")
    return weights


def parse_seeds(text: str) -> list[int]:
    """
    >>> parse_seeds("0-2, 7"), parse_seeds("3")
    ([0, 1, 2, 7], [3])
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            raise InputError(f"seeds: write whole numbers as 0-4 or 0, 1, 7 (got {text[:40]!r})")
        low, high = int(first), int(last or first)
        if high < low or high - low >= MOST_RUNS:
            raise InputError(f"seeds: {part.strip()[:40]!r} is no range of at most {MOST_RUNS} seeds; write it as 0-4")
        seeds += range(low, high + 1)
    return list(dict.fromkeys(seeds))


def parse_weights(text: str) -> list[float]:
    """
    >>> parse_weights("0, 0.1,1e-7")
    [0.0, 0.1, 1e-07]
    """
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"fairness weight: write numbers as 0.1 or 0, 0.1, 0.5 (got {text[:40]!r})") from None


def plan(preset: str, typed: Mapping[str, Any]) -> list[RunConfig]:
    """The runs of one launch: every λ with every seed.

    >>> runs = plan("robustfair", shown(RunConfig.build("robustfair")) | {"seed": "0-1", "fairness.weight": "0, 0.1"})
    >>> [(config.fairness.weight, config.seed) for config in runs]
    [(0.0, 0), (0.0, 1), (0.1, 0), (0.1, 1)]

    Raises
    ------
    InputError
        A value is wrong, or there would be more than `MOST_RUNS` runs.
    """
    seeds, weights = parse_seeds(str(typed[SEEDS])), parse_weights(str(typed[WEIGHTS]))
    if len(seeds) * len(weights) > MOST_RUNS:
        raise InputError(f"{len(seeds) * len(weights)} runs in one launch: {MOST_RUNS} at most; name fewer seeds or λ")
    settings = settings_of(preset, typed)
    return [RunConfig.build(preset, settings | {SEEDS: seed, WEIGHTS: weight}) for weight in weights for seed in seeds]


def cost_line(cost: Cost, step: Step | None) -> str:
    """Where the estimate comes from, in words.

    >>> cost_line(Cost(600, 12, 3.6), Step(0.3, 0.0, "0002-clip-s0"))
    '12 steps of 0.30 s, as measured in run 0002-clip-s0; reading the images comes on top.'
    """
    if step is None:
        return f"{many(cost.steps, 'step')}; no run with this model and batch size has measured one yet."
    source = f"as measured in run {step.source}" if step.source else "measured here just now, without evaluation"
    return f"{many(cost.steps, 'step')} of {figure(step.seconds, 2)} s, {source}; reading the images comes on top."


def differences(preset: str, configs: Sequence[RunConfig]) -> dict[str, Any]:
    """What the runs of a launch have in common that is not the preset's, by setting."""
    base, flat = RunConfig.build(preset).flat(), configs[0].flat()
    return {n: v for n, v in flat.items() if n not in (SEEDS, WEIGHTS) and (n not in base or base[n] != v)}
