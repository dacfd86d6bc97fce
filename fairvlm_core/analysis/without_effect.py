"""Settings that change nothing in a run, found before it is trained: typed, with the text made where it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ..config import RunConfig
from ..mining import RANKING_RULES


class Cause(Enum):
    """Why a setting has no effect; the value completes the sentence."""

    NO_ATTRIBUTES = "the data has no attributes"
    NO_TERM = "fairness.weight is 0, so there is no fairness term"
    RELEASED_TERM = "the released term does not use it"
    NOT_COMPARED = "the fairness term does not compare by this attribute"
    NOT_MINED = "mining.enabled is off, so it changes only which pairs are listed after training"
    RELEASED_MINER = "the released miner (mining.key=slot) does not use it"
    OTHER_METHOD = "the method for groups (groups.method) does not use it"
    OTHER_RULE = "the mining rule does not use it"
    LONG_WARM_UP = "the warm-up is not shorter than the run, so no pair is down-weighted"
    NOT_TRAINED = "the chosen trainable part does not use it"


@dataclass(frozen=True)
class WithoutEffect:
    """Settings (dotted names) that change nothing, and why.

    >>> str(WithoutEffect(Cause.NO_TERM, ("fairness.blur",)))
    'fairness.blur has no effect: fairness.weight is 0, so there is no fairness term'
    """

    cause: Cause
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{', '.join(self.settings)} {'has' if len(self.settings) == 1 else 'have'} no effect: {self.cause.value}"
        )


def without_effect(config: RunConfig, attributes: Sequence[str]) -> list[WithoutEffect]:
    """Settings of a run on data with these attributes that change nothing in its training.

    A setting that the preset turns off is not named, unless its value was changed from the preset's.

    Examples
    --------
    >>> [str(one) for one in without_effect(RunConfig.build("clip", {"mining.faulty_sd": 2}), ["sex"])]
    ['mining.faulty_sd has no effect: mining.enabled is off, so it changes only which pairs are listed after training']
    >>> without_effect(RunConfig.build("robustfair"), ["sex"])
    []
    """
    usual, own = RunConfig.build(config.preset).flat(), config.flat()
    changed = {name for name, value in own.items() if usual.get(name) != value}
    found: dict[Cause, set[str]] = {}
    for cause, names in (*_fairness(config, attributes), *_groups(config), *_mining(config), *_trainable(config)):
        named = {name for name in own if any(name == one or name.startswith(f"{one}.") for one in names)}
        found.setdefault(cause, set()).update(named if cause in _ALWAYS else named & changed)
    return [WithoutEffect(cause, tuple(sorted(names))) for cause, names in found.items() if names]


_ALWAYS = (Cause.NO_ATTRIBUTES, Cause.LONG_WARM_UP)  # said of the preset's own values, too
_Found = Iterator[tuple[Cause, set[str]]]


def _fairness(config: RunConfig, attributes: Sequence[str]) -> _Found:
    fairness = config.fairness
    if fairness.weight == 0:
        # The blur is that of the recorded divergence as well; methods for groups take the attributes.
        used = {"weight", "blur"} | ({"attributes", "only_first"} if config.groups.needs_attribute else set())
        yield Cause.NO_TERM, {f"fairness.{name}" for name in type(fairness).model_fields if name not in used}
        return
    if not attributes:
        yield Cause.NO_ATTRIBUTES, {"fairness.weight"}
        return
    if fairness.estimator == "released":
        yield Cause.RELEASED_TERM, {"fairness.quantity", "fairness.normalise", "fairness.attribute_weights"}
    compared = list(fairness.attributes or attributes)[: 1 if fairness.only_first else None]
    others = [name for name in fairness.attribute_weights if name not in compared]
    yield Cause.NOT_COMPARED, {f"fairness.attribute_weights.{name}" for name in others}


def _groups(config: RunConfig) -> _Found:
    used = {"cap": ("reweight", "balanced"), "step_size": ("dro", "inferred"), "clusters": ("inferred",)}
    yield Cause.OTHER_METHOD, {f"groups.{name}" for name, by in used.items() if config.groups.method not in by}


def _mining(config: RunConfig) -> _Found:
    mining = config.mining
    every = {f"mining.{name}" for name in type(mining).model_fields} - {"mining.enabled"}
    if not mining.enabled:
        yield Cause.NOT_MINED, every
        return
    if mining.key == "slot":
        yield Cause.RELEASED_MINER, every - {"mining.key"}
        return
    if mining.warmup >= config.epochs:
        yield Cause.LONG_WARM_UP, {"mining.warmup"}
    limits = RANKING_RULES[mining.rule].limits
    yield Cause.OTHER_RULE, {f"mining.{name}" for name in ("faulty_sd", "noisy_sd") if name not in limits}


def _trainable(config: RunConfig) -> _Found:
    used = {"last_blocks": "last-k", "lora_rank": "lora", "lora_alpha": "lora", "adapter_width": "head"}
    yield Cause.NOT_TRAINED, {name for name, part in used.items() if part != config.trainable}
