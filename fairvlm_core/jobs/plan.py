"""Which runs one launch makes: every fairness weight with every seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import RunConfig
from ..errors import InputError

SEED, WEIGHT = "seed", "fairness.weight"
MOST_RUNS = 100


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


def parse_attribute_weights(text: str) -> dict[str, float]:
    """
    >>> parse_attribute_weights("race=2, gender=0.5")
    {'race': 2.0, 'gender': 0.5}
    """
    weights = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.rpartition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            name = ""
        if not name.strip():
            raise InputError(f"attribute weights: write race=2, gender=0.5 (got {part[:40]!r})")
    return weights


def plan_runs(preset: str, settings: Mapping[str, Any], seeds: str, weights: str) -> list[RunConfig]:
    """The runs of one launch.

    Parameters
    ----------
    preset : str
    settings : mapping
        Settings that differ from the preset.
    seeds, weights : str
        As for `parse_seeds` and `parse_weights`.

    Raises
    ------
    InputError
        A value is wrong, or there would be more than `MOST_RUNS` runs.

    Examples
    --------
    >>> [(config.fairness.weight, config.seed) for config in plan_runs("robustfair", {}, "0-1", "0, 0.1")]
    [(0.0, 0), (0.0, 1), (0.1, 0), (0.1, 1)]
    """
    all_seeds, all_weights = parse_seeds(seeds), parse_weights(weights)
    if (n := len(all_seeds) * len(all_weights)) > MOST_RUNS:
        raise InputError(f"{n} runs in one launch: {MOST_RUNS} at most; name fewer seeds or λ")
    return [
        RunConfig.build(preset, {**settings, SEED: seed, WEIGHT: weight})
        for weight in all_weights
        for seed in all_seeds
    ]


def changed_from_preset(config: RunConfig) -> dict[str, Any]:
    """Settings that are not those of the preset with this model, other than model, seed and fairness weight."""
    return {name: value for name, (value, _) in config.changes.items() if name not in (SEED, WEIGHT)}
