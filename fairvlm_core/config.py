"""One frozen, validated configuration object; presets are values of it.

A preset sets mining, fairness term and group method only. All presets share model, optimiser and schedule, so that two runs
differ by the method alone. `RunConfig.build` applies a user's settings on top of a preset.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import InputError
from .ledger import PairLossLedger
from .mining import RANKING_RULES, WEIGHTING_RULES, MiningResult, fits, mine_bad_pairs
from .plugins import Registry
from .synth.config import NAME as SYNTH_NAME

if TYPE_CHECKING:
    from .pairs import PairTable

SCHEMA_VERSION = 1

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def _registered(registry: Registry) -> Any:
    """A setting that names a registered part."""

    def check(name: str) -> str:
        try:
            registry[name]
        except InputError as error:
            raise ValueError(str(error)) from None
        return name

    return Annotated[str, AfterValidator(check)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class MiningConfig(_Frozen):
    """How bad pairs are found and how they are weighed (see docs/method.md)."""

    enabled: bool = Field(False, description="Down-weight flagged pairs; the ledger is recorded either way")
    key: Literal["pair", "slot"] = Field(
        "pair", description="Whose history is kept: a pair's, or (as released) that of a position in the epoch"
    )
    channel: Literal["loss", "margin", "group_loss"] = Field(
        "loss",
        description="What is mined: the loss inside the batch; the margin against the whole set; or the loss without the "
        "differences between groups of fairness.attributes, so that no group is flagged for being harder",
    )
    rule: _registered(RANKING_RULES) = Field(  # type: ignore[valid-type]
        "threshold",
        description="threshold: mean ± β·sd as in the paper; mixture: two components; mismatch: compares image and note "
        "with the other pairs, from before the first step on; similarity, lemon: by others, for comparison; or a rule "
        "of your own",
    )
    weights: _registered(WEIGHTING_RULES) = Field(  # type: ignore[valid-type]
        "bounded",
        description="bounded: exp(-(l-mean)²/(2 sd²)); pdf: the unbounded density as released; posterior: 1 - P(wrong "
        "note); left-out: 0; or a rule of your own",
    )
    history: Literal["mean", "recency", "last"] = Field(
        "mean", description="Mean over past epochs, later epochs count more, or the last one alone"
    )
    live: bool = Field(
        False,
        description="With the rule threshold on losses: in a step a pair is judged by the loss that it has now, against "
        "the latest losses of all pairs, instead of its history",
    )
    spread: Literal["sd", "mad"] = Field("sd", description="Spread over pairs: standard deviation or 1.4826 · MAD")
    faulty_sd: Positive = Field(3.0, description="β_f: flagged as faulty above mean + β_f · spread")
    noisy_sd: Positive = Field(3.0, description="β_n: flagged as noisy below mean - β_n · spread")
    warmup: int = Field(1, ge=0, description="Epochs before anything is flagged")

    def mine(self, ledger: PairLossLedger, **changes: Any) -> MiningResult:
        """Mine a ledger with these settings, or with some of them changed (None: unchanged).

        A ledger without losses within groups is mined by its first channel instead.

        Raises
        ------
        InputError
            A setting out of range, or the ledger lacks what the rule needs.
        """
        settings = self.model_dump(exclude={"enabled", "key", "live"})
        settings |= {name: value for name, value in changes.items() if value is not None}
        if settings["channel"] == "group_loss" and "group_loss" not in ledger.channels:
            settings["channel"] = ledger.channels[0]
        return mine_bad_pairs(ledger, **settings)


class FairnessConfig(_Frozen):
    """The Sinkhorn term: the distance of each group's distribution from everyone's."""

    weight: NonNegative = Field(0.0, description="λ: weight of the term in the objective; 0: no term")
    quantity: Literal["loss", "similarity"] = Field("loss", description="The per-pair value that is compared")
    estimator: Literal["ledger", "released"] = Field(
        "ledger", description="From the ledger's values, or (as released) by one extra forward pass per group and step"
    )
    normalise: Literal["none", "sum"] = Field(
        "none", description="Divide each distribution by its own sum, as FairCLIP's released code does"
    )
    unit: Literal["sd", "none"] = Field(
        "sd",
        description="Divide the term by the standard deviation of everyone's values, so that λ means the same at any loss "
        "scale; none: as it is",
    )
    bound: Positive = Field(
        3.0,
        description="Largest gradient of the term at a pair, in multiples of the gradient of the pair's own weighted loss",
    )
    outlier_sd: NonNegative = Field(
        0.0,
        description="Pairs more than so many robust standard deviations worse than the median of their own group are no "
        "part of the term, nor are pairs of a weight below 1/2: they may have a wrong note; 0: all are",
    )
    above_chance: bool = Field(
        True,
        description="Only what exceeds twice a group's level by chance pulls, so that small groups are not over-fitted",
    )
    attributes: tuple[str, ...] = Field((), description="Attributes to compare by; empty: all of the data set's")
    only_first: bool = Field(False, description="Use one attribute only, the first (FairCLIP knows a single one)")
    attribute_weights: dict[str, NonNegative] = Field(
        default_factory=dict, description="A weight for single attributes; 1 where none is given"
    )
    blur: Positive = Field(0.25, description="√ε of the entropic term, in standard deviations of the pooled values")


class GroupsConfig(_Frozen):
    """How much each group counts in training: methods for comparison with the Sinkhorn term (see docs/method.md)."""

    method: Literal["none", "reweight", "balanced", "dro", "inferred"] = Field(
        "none",
        description="none: every pair counts alike; reweight: by the inverse of its group's share; balanced: groups are "
        "drawn equally often; dro: groups with a high loss count more and more; inferred: the same for clusters of images. "
        "All but inferred take the attributes of fairness.attributes",
    )
    cap: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        10.0, description="Largest weight of a pair in reweight and balanced, as a multiple of the mean"
    )
    step_size: Positive = Field(0.01, description="η of dro and inferred: how fast groups with a high loss gain weight")
    clusters: int = Field(8, ge=2, le=1000, description="Number of groups of inferred: clusters of image features")

    @property
    def needs_attribute(self) -> bool:
        return self.method not in ("none", "inferred")


class RunConfig(_Frozen):
    """Everything that determines a run besides its data.

    Examples
    --------
    >>> config = RunConfig.build("robustfair", {"epochs": 3, "mining.faulty_sd": 2})
    >>> config.mining.enabled, config.mining.faulty_sd, config.fairness.quantity
    (True, 2.0, 'loss')
    """

    schema_version: Literal[1] = 1
    preset: str = "clip"
    model: str = Field(
        "tiny", description="tiny, base, an open_clip NAME, NAME:TAG or NAME@FILE, hf-hub:NAME, or a folder"
    )
    epochs: int = Field(6, ge=1, le=10_000)
    batch_size: int = Field(64, ge=2, le=65_536)
    seed: int = Field(0, ge=0, lt=2**31)
    learning_rate: Positive = 3e-4
    weight_decay: NonNegative = 0.05
    optimizer: Literal["adamw", "adam"] = Field(
        "adamw", description="adam: weight decay is part of the gradient, and of all parameters, as released"
    )
    adam_betas: tuple[Decay, Decay] = Field((0.9, 0.98), description="Decay of the two running means of the optimiser")
    adam_epsilon: Positive = Field(1e-6, description="Added to the denominator of the optimiser")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="Learning rate after its warm-up: falling to 0, or constant"
    )
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Share of steps with a rising rate")
    gradient_clip: Positive = Field(1.0, description="Largest norm of the gradient")
    averaging: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="Evaluate and keep an exponential average of the weights over this share of all steps; 0: none",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 where the device has it, unless fp32")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, …")
    chunk_size: int = Field(
        0, ge=0, description="Pairs encoded at a time in a process, for batches larger than memory; 0: the whole batch"
    )
    checkpointing: bool = Field(False, description="Recompute activations instead of storing them: less memory, slower")
    folds: int = Field(
        0,
        ge=0,
        le=100,
        description="Cross-validation by patient over so many folds, for small sets; 0: the splits of the data",
    )
    select_by: Literal["auc", "es_auc", "loss"] = Field(
        "auc", description="Validation metric that selects the epoch (es_auc: mean over attributes)"
    )
    choose: Literal["latest", "best"] = Field(
        "latest",
        description="latest: the latest epoch whose validation metric is within one standard error of the best (paired "
        "over patients); best: the epoch with the highest",
    )
    test_every_epoch: bool = Field(
        False,
        description="Record the test AUC of every epoch, to show what choosing the epoch on test data would give; nothing "
        "uses it",
    )
    trainable: Literal["all", "full", "towers", "last-k", "lora", "head"] = Field(
        "all",
        description="What learns: all (or full); towers, without projections and logit scale (as released); last-k blocks; "
        "lora, low-rank updates; head, projections and an adapter on embeddings computed once",
    )
    last_blocks: int = Field(2, ge=1, description="k of last-k: blocks of each tower that learn, from the end")
    lora_rank: int = Field(8, ge=1, le=1024, description="Rank of the updates of lora")
    lora_alpha: Positive = Field(16.0, description="Scale of the updates of lora, divided by their rank")
    adapter_width: int = Field(64, ge=0, le=4096, description="Bottleneck of head's residual adapter; 0: none")
    mining: MiningConfig = MiningConfig()
    fairness: FairnessConfig = FairnessConfig()
    groups: GroupsConfig = GroupsConfig()

    @field_validator("trainable")
    @classmethod
    def _one_word(cls, value: str) -> str:
        return "all" if value == "full" else value

    @field_validator("adam_betas", mode="before")
    @classmethod
    def _two_numbers(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if not fits(self.mining.rule, self.mining.weights):
            raise ValueError(
                f"mining.weights={self.mining.weights} needs a rule that gives P(wrong note), such as mixture"
            )
        if self.mining.key == "slot" and self.mining.channel != "loss":
            raise ValueError("mining.key=slot keeps losses only: set mining.channel=loss")
        if self.groups.method == "balanced" and self.fairness.weight:
            raise ValueError(
                "groups.method=balanced draws pairs unevenly, the term needs even draws: fairness.weight=0"
            )
        return self

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Settings that differ from those of the preset with this model, without the model: value and the preset's value.

        >>> RunConfig.build("clip", {"model": "base", "trainable": "full", "seed": 1}).changes
        {'seed': (1, 0), 'trainable': ('all', 'head')}
        """
        usual = RunConfig.build(self.preset, {"model": self.model}).flat()
        own = {key: value for key, value in self.flat().items() if key not in ("schema_version", "preset", "model")}
        return {key: (value, usual.get(key)) for key, value in own.items() if value != usual.get(key)}

    @classmethod
    def build(cls, preset: str = "clip", settings: Mapping[str, Any] | None = None) -> RunConfig:
        """The preset with some settings changed; keys may be dotted (``mining.faulty_sd``).

        Raises
        ------
        InputError
            Unknown preset or setting, or a value out of range.
        """
        if preset not in PRESETS:
            raise InputError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
        defaults = MODEL_DEFAULTS.get(str((settings or {}).get("model")), {})
        values: dict[str, Any] = json.loads(json.dumps(defaults | PRESETS[preset])) | {"preset": preset}
        for key, value in (settings or {}).items():
            if key == "fairness.attributes" and isinstance(value, str):
                value = [name.strip() for name in value.split(",") if name.strip()]
            *path, last = key.split(".")
            place = values
            for part in path:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise InputError(f"setting {key!r}: {part!r} has no settings below it; see `fairvlm presets`")
            place[last] = value
        return cls.read(values)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> RunConfig:
        """A configuration from plain values, as stored in a run's folder; `InputError` names the first wrong one."""
        if (version := values.get("schema_version", SCHEMA_VERSION)) != SCHEMA_VERSION:
            raise InputError(
                f"configuration has schema version {version}, this fairvlm reads {SCHEMA_VERSION}: "
                "update fairvlm to read newer runs"
            )
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "configuration"
            arrived = "" if isinstance(first.get("input"), dict) else f" (got {str(first.get('input'))[:60]!r})"
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                near = difflib.get_close_matches(name, setting_names(), n=2, cutoff=0.4)
                message = "there is no such setting" + (f", did you mean {' or '.join(near)}?" if near else "")
                message += "; `fairvlm presets --settings` lists them"
                arrived = ""
            raise InputError(f"setting {name}: {message}{arrived}") from None

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> RunConfig:
        """As `read`; where a run of version 0.1 lacks a later setting, what that version did."""
        fairness = {"unit": "none", "bound": 1.0, "above_chance": False} | dict(values.get("fairness") or {})
        return cls.read({"choose": "best"} | dict(values) | {"fairness": fairness})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return self.model_dump(mode="json")

    def flat(self) -> dict[str, Any]:
        """Every value under its dotted name, as ``--set`` takes it.

        >>> RunConfig.build("dbpm").flat()["mining.enabled"]
        True
        """
        return dotted(self.to_dict())

    def without_paths(self) -> RunConfig:
        """The configuration with the model's path reduced to its last part, to be shown to others."""
        return self.model_copy(update={"model": name_without_path(self.model)})

    @property
    def method_key(self) -> str:
        """A hash of all settings but the seed and those that change no result; repetitions share it."""
        values = self.to_dict() | {"seed": None, "device": None}
        for name in ("chunk_size", "checkpointing", "test_every_epoch"):
            values.pop(name)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def name_without_path(model: str) -> str:
    """A model's name without the path of a file or folder.

    >>> name_without_path("ViT-B-32@/home/me/w.pt#sha256=ab"), name_without_path("/home/me/models/mine/")
    ('ViT-B-32@w.pt#sha256=ab', 'mine')
    >>> name_without_path("hf-hub:org/name"), name_without_path("tiny")
    ('hf-hub:org/name', 'tiny')
    """
    if model.startswith("hf-hub:"):
        return model
    architecture, at, file = model.partition("@")
    return architecture + at + _last(file) if at else _last(model)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names; an empty dictionary is a value.

    >>> dotted({"epochs": 3, "fairness": {"weight": 1.0, "attribute_weights": {}}})
    {'epochs': 3, 'fairness.weight': 1.0, 'fairness.attribute_weights': {}}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return found


def setting_names() -> dict[str, str]:
    """Every setting's dotted name with its description."""
    names: dict[str, str] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, f"{prefix}{name}.")
            else:
                names[prefix + name] = field.description or ""

    walk(RunConfig, "")
    names.pop("schema_version")
    return names


def choose_model(table: PairTable) -> str:
    """What ``--model auto`` takes: `tiny` for SynthFundus, whose images and notes it was trained on, else `base`."""
    return "tiny" if table.info.name == SYNTH_NAME else "base"


def with_model(table: PairTable, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a model: the given one; for ``auto``, or where none is given, that of `choose_model`."""
    given = settings.get("model", AUTO)
    return {**settings, "model": choose_model(table) if given == AUTO else given}


_LEFT_OUT = {"enabled": True, "weights": "left-out", "history": "last", "spread": "mad", "faulty_sd": 2.0}
_TERM = {"weight": 6.0, "quantity": "loss", "outlier_sd": 2.0}
AUTO = "auto"  # the model that `choose_model` takes for a table; no configuration contains it
BUILT_IN = ("tiny", "base")
# What a model sets where neither the preset nor the user does.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {"base": {"trainable": "head", "learning_rate": 1e-5}}
PRESETS: dict[str, dict[str, Any]] = {
    "clip": {},
    "fairclip": {"fairness": {"weight": 3.0, "quantity": "similarity", "normalise": "sum", "only_first": True}},
    "a-fairclip": {"fairness": {"weight": 3.0, "quantity": "similarity", "only_first": True}},
    "fairclip-plus": {"fairness": {"weight": 3.0, "quantity": "similarity"}},
    "dbpm": {"mining": _LEFT_OUT},
    "robustfair": {
        "mining": _LEFT_OUT | {"channel": "group_loss", "live": True, "warmup": 0},
        "fairness": _TERM,
    },
    "robustfair-plus": {
        "averaging": 0.5,
        "mining": {"enabled": True, "rule": "mismatch", "weights": "posterior", "warmup": 0},
        "fairness": _TERM,
    },
    "robustfair-released": {
        "trainable": "towers",
        "mining": {"enabled": True, "key": "slot", "weights": "pdf", "warmup": 0},
        "fairness": {"weight": 1e-7, "quantity": "similarity", "estimator": "released", "only_first": True},
    },
    # Other methods, for comparison
    "group-weights": {"groups": {"method": "reweight"}},
    "group-balanced": {"groups": {"method": "balanced"}},
    "group-dro": {"groups": {"method": "dro"}},
    "inferred-groups": {"groups": {"method": "inferred"}},
    "clip-score": {"mining": _LEFT_OUT | {"rule": "similarity"}},
    "lemon": {"mining": _LEFT_OUT | {"rule": "lemon", "warmup": 0}},
}
PRESET_SUMMARIES: dict[str, str] = {
    "clip": "plain CLIP fine-tuning; the ledger is recorded, nothing is down-weighted",
    "fairclip": "Sinkhorn term on similarities, one attribute, sum-normalised as in FairCLIP's released code",
    "a-fairclip": "Sinkhorn term on similarities, one attribute, as described in the FairCLIP paper",
    "fairclip-plus": "Sinkhorn term on similarities, several attributes with a weight each",
    "dbpm": "bad pairs found by their losses (median and MAD) and left out",
    "robustfair": "mining within groups and a Sinkhorn term on losses, several attributes: the paper's method, tuned",
    "robustfair-plus": "wrong notes found by comparison with the other pairs, from before the first step on: our method",
    "robustfair-released": "what the released research code does, kept for comparison",
    "group-weights": "for comparison: each pair counts by the inverse of its group's share",
    "group-balanced": "for comparison: batches in which all groups come equally often",
    "group-dro": "for comparison: groups with a high loss count more and more (group DRO)",
    "inferred-groups": "for comparison: group DRO over clusters of images, without attributes",
    "clip-score": "for comparison: pairs with a low similarity of image and note are left out",
    "lemon": "for comparison: pairs that do not fit their nearest neighbours are left out (LEMoN)",
}
