"""What to synthesise: one frozen, validated object, and the names and proportions of the groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from fairvlm_core.errors import InputError

NAME = "SynthFundus"
SPLITS = ("train", "val", "test")
SITES = ("default", "other")
LAYOUTS = ("manifest", "fairvlmed")
PROMPTS = ("A photo of non-glaucoma", "A photo of glaucoma")
POSITIVE_RATE = 0.505

# Shares of Harvard-FairVLMed as published; the order of the names is the order of the set's integer codes.
REAL_SHARES: dict[str, dict[str, float]] = {
    "race": {"Asian": 0.08, "Black": 0.15, "White": 0.77},
    "gender": {"Female": 0.56, "Male": 0.44},
    "ethnicity": {"Non-Hispanic": 0.906, "Hispanic": 0.037, "Unknown": 0.057},
    "language": {"English": 0.925, "Spanish": 0.017, "Other": 0.050, "Unknown": 0.008},
}
# Equal shares of the named groups. "Unknown" is a gap in the record, not a group to balance.
BALANCED_SHARES: dict[str, dict[str, float]] = {
    name: {group: float(group != "Unknown") / sum(g != "Unknown" for g in shares) for group in shares}
    for name, shares in REAL_SHARES.items()
}
SHARES = {"real": REAL_SHARES, "balanced": BALANCED_SHARES}
ATTRIBUTES = tuple(REAL_SHARES)
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048

# Every random draw comes from (seed, purpose, site, split, index) alone, so that a change of one setting (a mismatch
# rate, the number of training pairs) leaves everything else the same, byte for byte.
_PURPOSES = (
    "cohort", "findings", "image", "note", "plant", "marker", "vessels", "short-note", "device", "few", "notes", "labels",
)  # fmt: skip


class DisparityKind(StrEnum):
    """A disadvantage of one group; docs/synthfundus.md describes each."""

    DEVICE = "device"
    FEW = "few"
    NOTES = "notes"
    LABELS = "labels"


DEFAULT_STRENGTH = {
    DisparityKind.DEVICE: 0.5,
    DisparityKind.FEW: 0.25,
    DisparityKind.NOTES: 0.30,
    DisparityKind.LABELS: 0.25,
}


@dataclass(frozen=True)
class Disparity:
    """One disadvantage of one group.

    Args:
        attribute: ``race``, ``gender``, ``ethnicity`` or ``language``.
        group: a group of it.
        kind: ``device`` (its images come from another device, in all splits), ``few`` (few training pairs), ``notes``
            (more wrong notes in training) or ``labels`` (more wrong labels in training).
        strength: 0 to 1. Of ``device``: loss of contrast, blur and noise, 0: inverted grey levels alone; of ``few``: share
            of the group's training patients that stay in it; of ``notes`` and ``labels``: share of its training pairs
            that get a wrong one. :meth:`parse` takes `DEFAULT_STRENGTH` where none is given.

    Raises:
        InputError: an unknown attribute, group or kind, or a strength outside its range.

    Example:
        >>> str(Disparity.parse("race=Asian:notes"))
        'race=Asian:notes:0.3'
        >>> Disparity.parse("race=Purple:few")
        Traceback (most recent call last):
            ...
        fairvlm_core.errors.InputError: disparity: 'Purple' is no group of race; choose one of Asian, Black, White
    """

    attribute: str
    group: str
    kind: DisparityKind
    strength: float

    def __post_init__(self) -> None:
        if self.attribute not in REAL_SHARES:
            raise InputError(f"disparity: {self.attribute!r} is no attribute; choose one of {', '.join(ATTRIBUTES)}")
        groups = REAL_SHARES[self.attribute]
        if self.group not in groups:
            raise InputError(
                f"disparity: {self.group!r} is no group of {self.attribute}; choose one of {', '.join(groups)}"
            )
        _check_choice("disparity", self.kind, tuple(DisparityKind))
        object.__setattr__(self, "kind", DisparityKind(self.kind))
        _check_share(f"disparity {self.attribute}={self.group}:{self.kind}", self.strength)

    def __str__(self) -> str:
        return f"{self.attribute}={self.group}:{self.kind}:{self.strength:g}"

    @classmethod
    def parse(cls, text: str) -> Disparity:
        """From ``ATTRIBUTE=GROUP:KIND`` or ``ATTRIBUTE=GROUP:KIND:STRENGTH``."""
        attribute, equals, rest = text.partition("=")
        group, *parts = (part.strip() for part in rest.split(":"))
        if not equals or len(parts) not in (1, 2):
            raise InputError(f"disparity: got {text!r}; write ATTRIBUTE=GROUP:KIND, for example race=Asian:device")
        _check_choice("disparity", parts[0], tuple(DisparityKind))
        kind = DisparityKind(parts[0])
        try:
            strength = float(parts[1]) if len(parts) == 2 else DEFAULT_STRENGTH[kind]
        except ValueError:
            raise InputError(f"disparity: the strength {parts[1]!r} in {text!r} is no number; give 0 to 1") from None
        return cls(attribute.strip(), group, kind, strength)


@dataclass(frozen=True)
class SynthConfig:
    """What :func:`fairvlm_core.synth.synthesize` makes.

    Args:
        n_train, n_val, n_test: pairs in each split, 0 or more; some patients have two (both eyes, always in one split).
        seed: 0 or more. The same configuration gives the same bytes.
        mismatch_rate: share of the *training* pairs with the contradicting note of another patient, in [0, 1]; or a
            mapping from the groups of `mismatch_attribute` to such shares. Groups not named get the share under
            ``"*"``, or 0.
        mismatch_attribute: ``race``, ``gender``, ``ethnicity`` or ``language``: what the mapping's keys are groups of.
        shortcut_rate: share of the training pairs in which image and note share a non-clinical marker, in [0, 1].
        size: side of the square images in pixels, 32 to 2048.
        site: ``default``, or ``other``: another camera and another way of writing notes.
        proportions: ``real`` (group shares of Harvard-FairVLMed) or ``balanced`` (equal shares of the named groups).
        group_appearance: 0 (the groups' images look alike) to 1 (they differ as described in docs/synthfundus.md).
        disparity: disadvantages of single groups, each a `Disparity` or its text, as ``"race=Asian:device"``.

    Raises:
        InputError: a value outside its range, an unknown name, or so few training pairs that a rate rounds to none.

    Example:
        >>> SynthConfig(n_train=200, mismatch_rate={"Asian": 0.3, "*": 0.1}).rate_of("White")
        0.1
        >>> SynthConfig(site="moon")
        Traceback (most recent call last):
            ...
        fairvlm_core.errors.InputError: site: got 'moon'; choose one of default, other
    """

    n_train: int = 2000
    n_val: int = 400
    n_test: int = 600
    seed: int = 0
    mismatch_rate: float | Mapping[str, float] = 0.15
    mismatch_attribute: str = "race"
    shortcut_rate: float = 0.03
    size: int = 128
    site: str = "default"
    proportions: str = "real"
    group_appearance: float = 1.0
    disparity: Sequence[Disparity | str] = ()

    def __post_init__(self) -> None:
        for name in ("n_train", "n_val", "n_test", "seed"):
            _check_integer(name, getattr(self, name), 0)
        _check_integer("size", self.size, SMALLEST_SIZE, LARGEST_SIZE)
        if self.n_train + self.n_val + self.n_test == 0:
            raise InputError("n_train, n_val, n_test: all are 0; ask for at least one pair")
        _check_choice("site", self.site, SITES)
        _check_choice("proportions", self.proportions, tuple(SHARES))
        _check_choice("mismatch_attribute", self.mismatch_attribute, ATTRIBUTES)
        _check_share("shortcut_rate", self.shortcut_rate)
        _check_share("group_appearance", self.group_appearance)
        if isinstance(self.mismatch_rate, Mapping):
            groups = REAL_SHARES[self.mismatch_attribute]
            for group, rate in self.mismatch_rate.items():
                if group != "*" and group not in groups:
                    raise InputError(
                        f"mismatch_rate: {group!r} is no group of {self.mismatch_attribute}; "
                        f"use {', '.join(groups)} or '*' for the groups not named"
                    )
                _check_share(f"mismatch_rate[{group!r}]", rate)
            # A copy: the caller's mapping may change later, a configuration must not.
            object.__setattr__(self, "mismatch_rate", dict(self.mismatch_rate))
        else:
            _check_share("mismatch_rate", self.mismatch_rate)
        self._check_rates()
        if isinstance(self.disparity, str):
            raise InputError(f"disparity: got the text {self.disparity!r}; give a sequence, as ({self.disparity!r},)")
        parsed = tuple(Disparity.parse(one) if isinstance(one, str) else one for one in self.disparity)
        object.__setattr__(self, "disparity", parsed)
        self._check_disparity()

    def _check_rates(self) -> None:
        """Refuse rates that leave no clean pair, or that round to no planted pair."""
        rates = [self.rate_of(group) for group in REAL_SHARES[self.mismatch_attribute]]
        if max(rates) + self.shortcut_rate > 1:
            raise InputError(
                f"mismatch_rate, shortcut_rate: {max(rates):g} + {self.shortcut_rate:g} is more than 1, and a pair is "
                "never both; lower one of them"
            )
        mean_rate = float(np.dot(rates, list(SHARES[self.proportions][self.mismatch_attribute].values())))
        for name, rate in (("mismatch_rate", mean_rate), ("shortcut_rate", self.shortcut_rate)):
            if rate > 0 and rate * self.n_train < 0.5:
                raise InputError(
                    f"n_train: {self.n_train} is too small for {name} {rate:g} (it rounds to no pair); "
                    f"use n_train >= {math.ceil(0.5 / rate)} or {name} 0"
                )

    def disparities(self, kind: DisparityKind) -> list[Disparity]:
        """Those of one kind, in the order given."""
        return [one for one in self.disparity if isinstance(one, Disparity) and one.kind is kind]

    def _check_disparity(self) -> None:
        """Refuse what is given twice, changes no pair, or leaves no group that can take a group's patients."""
        kept: dict[tuple[str, str], float] = {}  # share of a group's training pairs that stay in it
        for kind in (DisparityKind.FEW, DisparityKind.NOTES, DisparityKind.LABELS, DisparityKind.DEVICE):
            seen: set[tuple[str, str]] = set()
            for one in self.disparities(kind):
                key, shares = (one.attribute, one.group), SHARES[self.proportions][one.attribute]
                if key in seen:
                    raise InputError(f"disparity: {one.attribute}={one.group}:{kind} is given twice; leave one out")
                seen.add(key)
                n = shares[one.group] * kept.get(key, 1.0) * self.n_train
                if kind is DisparityKind.FEW:
                    kept[key] = one.strength
                    if not any(share for group, share in shares.items() if (one.attribute, group) not in kept):
                        raise InputError(f"disparity: no group of {one.attribute} is left without `few`; leave one out")
                    n *= 1 - one.strength
                elif kind is DisparityKind.DEVICE:
                    n = shares[one.group] * (self.n_train + self.n_val + self.n_test)
                else:
                    n *= one.strength
                if n < 0.5:
                    raise InputError(
                        f"disparity: {one} changes no pair of a set of this size; change it or leave it out"
                    )

    def rate_of(self, group: str) -> float:
        """Mismatch rate of one group of `mismatch_attribute`."""
        if isinstance(self.mismatch_rate, Mapping):
            return float(self.mismatch_rate.get(group, self.mismatch_rate.get("*", 0.0)))
        return float(self.mismatch_rate)

    def count_of(self, split: str) -> int:
        """Number of pairs of a split."""
        return {"train": self.n_train, "val": self.n_val, "test": self.n_test}[split]

    def seeds(self, purpose: str, split: str = "train", index: int = 0) -> np.random.SeedSequence:
        """The seed of one purpose for one pair (or one split): independent of every other."""
        key = (_PURPOSES.index(purpose), SITES.index(self.site), SPLITS.index(split), index)
        return np.random.SeedSequence((self.seed, *key))

    def generator(self, purpose: str, split: str = "train", index: int = 0) -> np.random.Generator:
        """A generator from :meth:`seeds`."""
        return np.random.Generator(np.random.PCG64(self.seeds(purpose, split, index)))


def _check_integer(name: str, value: Any, lowest: int, highest: int | None = None) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < lowest or (highest is not None and value > highest):
        span = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise InputError(f"{name}: got {value!r}; give a whole number, {span}")


def _check_share(name: str, value: Any) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= float(value) <= 1:
        raise InputError(f"{name}: got {value!r}; give a number from 0 to 1")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}: got {value!r}; choose one of {', '.join(choices)}")
