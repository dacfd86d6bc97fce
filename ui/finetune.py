"""The form of the Fine-tune page: which settings there are, what was changed, and where the cost comes from."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fairvlm_core.config import MODEL_DEFAULTS, PRESET_SUMMARIES, PRESETS, RunConfig
from fairvlm_core.errors import InputError
from fairvlm_core.jobs import Cost, StepTime
from fairvlm_core.jobs.plan import SEED, WEIGHT, parse_attribute_weights, plan_runs
from fairvlm_core.mining import RANKING_RULES, WEIGHTING_RULES
from fairvlm_core.words import many, number

ATTRIBUTES = "fairness.attributes"
ESSENTIAL = ("epochs", "batch_size", "learning_rate", SEED, "model", ATTRIBUTES, WEIGHT)
_NOT_ASKED = ("schema_version", "preset")
_REGISTRIES = {"mining.rule": RANKING_RULES, "mining.weights": WEIGHTING_RULES}
_LABELS = {
    "batch_size": "Batch size",
    SEED: "Seeds",
    WEIGHT: "Fairness weight λ",
    ATTRIBUTES: "Attributes to be fair for",
    "mining.enabled": "Down-weight bad pairs",
    "mining.faulty_sd": "Limit for wrong notes, β_f",
    "mining.noisy_sd": "Limit for shared markers, β_n",
    "mining.warmup": "Warm-up epochs",
    "fairness.blur": "Blur √ε",
    "groups.method": "Group method",
    "groups.cap": "Largest weight of a pair",
    "groups.step_size": "Step size η of the group weights",
    "groups.clusters": "Clusters of images",
}
_HELP = {
    "epochs": "How often every training pair is seen. More epochs take longer and may overfit.",
    "batch_size": "Pairs compared with one another in a step. More need more memory; without enough, the run stops.",
    "learning_rate": "Size of a training step. Too high: the loss diverges. Too low: little is learned.",
    "weight_decay": "Pulls the weights towards zero, against overfitting.",
    SEED: "Random seed. Several, as 0-4 or 0, 1, 7, make one run each; their spread shows the effect of chance.",
    WEIGHT: "λ: weight of the fairness term beside the loss; 0 turns it off. Several, as 0, 1, 10, make one run each: "
    "they show how much accuracy more equality costs.",
    ATTRIBUTES: "The losses of these attributes' groups are kept near those of all pairs. Empty: all attributes.",
    "fairness.attribute_weights": "Weights of single attributes, as race=2, gender=0.5; 1 for the others.",
}  # fmt: skip


# Why `choose_model` takes a model.
MODEL_WHY = {
    "tiny": "it was trained on the images and notes of SynthFundus",
    "base": "it was trained on everyday images and texts, so it suits data other than SynthFundus",
}

# When to take a preset; what it does is in `PRESET_SUMMARIES`.
PRESET_WHEN = {
    "clip": "Take it first: the others are compared with it.",
    "robustfair-plus": "Take it for noisy notes and groups that are served worse; it needs no limits.",
    "robustfair": "Take it to follow the paper.",
    "dbpm": "Take it for noisy notes where groups do not matter.",
    "fairclip-plus": "Take it for clean notes and groups that are served worse.",
    "robustfair-released": "Take it to reproduce published numbers.",
}


def preset_order(every: bool, chosen: str) -> list[str]:
    """The presets to take first and the chosen one; with `every`, also those that are there for comparison.

    >>> preset_order(False, "lemon")[-2:]
    ['robustfair-released', 'lemon']
    """
    return [*PRESET_WHEN, *(name for name in PRESETS if name not in PRESET_WHEN and (every or name == chosen))]


def preset_line(name: str) -> str:
    """What a preset does, and when to take it.

    >>> preset_line("group-dro")
    'For comparison: groups with a high loss count more and more (group DRO).'
    """
    summary = PRESET_SUMMARIES[name]
    return f"{summary[:1].upper()}{summary[1:]}. {PRESET_WHEN.get(name, '')}".strip()


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
    """Every setting of a run, read from `RunConfig`: a new setting appears without being named here.

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
    if name in _REGISTRIES:
        kind, options = "choice", tuple(_REGISTRIES[name])
    elif typing.get_origin(field.annotation) is Literal:
        kind, options = "choice", tuple(str(value) for value in typing.get_args(field.annotation))
    elif field.annotation is bool:
        kind = "switch"
    elif field.annotation is int and name != SEED:
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
    """Settings in which the presets differ: choosing a preset sets these and leaves the others."""
    every = [RunConfig.build(preset).flat() for preset in PRESETS]
    names = {name for flat in every for name in flat}
    return {n for n in names if len({json.dumps(flat.get(n)) for flat in every}) > 1} - set(_NOT_ASKED)


def usual(preset: str, model: str) -> RunConfig:
    """The configuration that the form starts from: the preset with what this model sets (`MODEL_DEFAULTS`).

    >>> shown(usual("clip", "base"))["learning_rate"], shown(usual("clip", "tiny"))["learning_rate"]
    ('1e-05', '0.0003')
    """
    return RunConfig.build(preset, {"model": model} if model in MODEL_DEFAULTS else {})


def with_model(preset: str, typed: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What to change in the form for another model: the model, and each setting that had the old model's default.

    >>> form = shown(usual("clip", "tiny"))
    >>> with_model("clip", form | {"learning_rate": "0.01"}, "base")
    {'model': 'base', 'trainable': 'head'}
    """
    before, after = shown(usual(preset, str(typed["model"]))), shown(usual(preset, model))
    follow = {name: value for name, value in after.items() if value != before[name] == typed.get(name)}
    return follow | {"model": model}


def settings_of(preset: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the preset among the values of the form (without seeds and λ, which may be several).

    >>> settings_of("dbpm", shown(RunConfig.build("dbpm")) | {"epochs": 3, "mining.faulty_sd": "3"})
    {'epochs': 3, 'mining.faulty_sd': 3.0}

    Raises
    ------
    InputError
        A value cannot be read; it names the setting.
    """
    plain, base = RunConfig.build(preset), usual(preset, str(typed.get("model")))
    defaults, chosen = shown(base) | {"model": plain.model}, {}
    for knob in knobs():
        value = typed.get(knob.name, defaults[knob.name])
        if knob.name in (SEED, WEIGHT) or value == defaults[knob.name]:
            continue
        if knob.name == "fairness.attribute_weights":
            value = parse_attribute_weights(value)
        chosen[knob.name] = value
    config = RunConfig.build(preset, chosen)  # reads numbers from text, and refuses what is out of range
    read, before = config.flat(), base.flat() | {"model": plain.model}
    kept = {name: read.get(name, chosen[name]) for name in chosen}
    return {name: value for name, value in kept.items() if name not in before or value != before[name]}


def problems(preset: str, typed: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with single values of the form, by setting.

    >>> list(problems("clip", shown(RunConfig.build("clip")) | {"learning_rate": "fast", "epochs": 3}))
    ['learning_rate']
    """
    usual_values = shown(usual(preset, str(typed.get("model"))))
    found = {}
    for name, value in typed.items():
        if value != usual_values.get(name):
            try:
                plan(preset, usual_values | {name: value})
            except InputError as error:
                found[name] = str(error)
    return found


def plan(preset: str, typed: Mapping[str, Any]) -> list[RunConfig]:
    """The runs of one launch, from the values of the form; `InputError` as for `plan_runs`."""
    return plan_runs(preset, settings_of(preset, typed), str(typed[SEED]), str(typed[WEIGHT]))


def cost_line(cost: Cost, step: StepTime | None) -> str:
    """Where the estimate comes from, in words.

    >>> cost_line(Cost(600, 12, 3.6), StepTime(0.3, source="0002-clip-s0"))
    '12 steps of 0.30 s, with evaluation and reading, as measured in run 0002-clip-s0.'
    """
    if step is None:
        return f"{many(cost.steps, 'step')}; no run with this model and batch size has measured one yet."
    source = f"as measured in run {step.source}" if step.source else "measured here just now on a few pairs"
    return f"{many(cost.steps, 'step')} of {number(step.seconds, 2)} s, with evaluation and reading, {source}."
