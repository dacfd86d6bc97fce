"""Which pairs a reader sees, and in which order: from a run's mined rows to the items of a queue.

A queue has two parts. The ordered part holds the pairs that are worth a clinician's time. The random part, which the
reader cannot distinguish from the rest, is drawn from flagged and from unflagged pairs; estimates of the miner's precision
and recall use it (`estimates`). Its pairs stand at random positions in random order, so that estimates are valid wherever
reading stops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError

ORDERS: Mapping[str, str] = {
    "suspicious": "Most suspicious first",
    "informative": "Where the miner is least sure first",
    "balanced": "Most suspicious first, in turn by group",
    "random": "In random order",
    "given": "As selected",
}
FLAGGED = ("faulty", "noisy")
STRATA = ("faulty", "noisy", "clean")
LONGEST_QUEUE = 100_000
_NUMBERS = ("mean_loss", "z", "weight", "posterior")


@dataclass(frozen=True)
class QueueSettings:
    """How a queue is made.

    Attributes
    ----------
    order : str
        A key of `ORDERS`.
    kinds : tuple of str, optional
        Kinds of pairs in the ordered part. None: faulty and noisy; for "informative" clean too; for a selection all.
    where : mapping
        Attribute to the groups that the whole queue is limited to, controls included.
    pair_ids : tuple of str, optional
        The ordered part is this selection, whatever its kinds.
    size : int, optional
        Pairs in all, controls included. None: every pair of `kinds`, plus controls.
    control_share : float in [0, 0.9]
        Share of the queue that are random unflagged pairs. The same number of flagged ones, where there are as many, counts
        as random too.
    second_share : float in [0, 1]
        Share of the pairs, drawn at random, that a second reader judges without seeing the first one's verdict.
    balance_by : str, optional
        Attribute for the order "balanced".
    blind : bool
        Pages hide why a pair is there, so that this cannot influence the reader.
    lease_seconds : int
        How long a pair is reserved for the reader who opened it, 10 to 86,400.
    seed : int
    """

    order: str = "suspicious"
    kinds: tuple[str, ...] | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pair_ids: tuple[str, ...] | None = None
    size: int | None = None
    control_share: float = 0.2
    second_share: float = 0.1
    balance_by: str | None = None
    blind: bool = True
    lease_seconds: int = 900
    seed: int = 0

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InputError(f"order: {self.order!r} is not one of {', '.join(ORDERS)}")
        if self.order == "balanced" and self.balance_by is None:
            raise InputError("order balanced: balance_by must name an attribute")
        if self.order == "given" and self.pair_ids is None:
            raise InputError("order given: needs a selection of pair ids")
        if wrong := sorted(set(self.kinds or ()) - set(STRATA)):
            raise InputError(f"kinds: {wrong[0]!r} is not one of {', '.join(STRATA)}")
        limits = {"control_share": (0, 0.9), "second_share": (0, 1), "lease_seconds": (10, 86_400)}
        limits |= {} if self.size is None else {"size": (1, LONGEST_QUEUE)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name}: must be from {low} to {high:,} (got {getattr(self, name)})")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of a selection only the number of pairs, since the items hold it."""
        return asdict(self) | {
            "where": {name: list(groups) for name, groups in self.where.items()},
            "kinds": None if self.kinds is None else list(self.kinds),
            "pair_ids": None if self.pair_ids is None else len(self.pair_ids),
        }


@dataclass(frozen=True)
class QueueItem:
    """One pair's place in a queue. Readers of a blind queue must not see `control` and `stratum`.

    Attributes
    ----------
    position : int
        From 0.
    control : bool
        Drawn at random, not chosen by the order.
    stratum : str
        The miner's kind: "faulty", "noisy" or "clean".
    readers : int
        1, or 2 with a blind second reading.
    facts : mapping
        mean_loss, z, weight and, where the miner gives it, posterior as mined; the pair's groups under "groups".
    """

    position: int
    pair_id: str
    control: bool
    stratum: str
    readers: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class QueuePlan:
    """A queue before it is stored; `population` is the number of pairs in each stratum, filters applied."""

    items: tuple[QueueItem, ...]
    population: Mapping[str, int]
    settings: QueueSettings


def plan_queue(
    rows: pd.DataFrame,
    settings: QueueSettings = QueueSettings(),
    *,
    faulty_above: float = math.nan,
    noisy_below: float = math.nan,
) -> QueuePlan:
    """Draw a queue.

    Parameters
    ----------
    rows : DataFrame
        Mined rows: pair_id, kind, mean_loss, z, weight, optionally posterior (the miner's P(bad)); any further column is an
        attribute (patient_id and split are not).
    settings : QueueSettings
    faulty_above, noisy_below : float
        The miner's limits on mean_loss, for the order "informative" where there is no posterior.

    Raises
    ------
    InputError
        A column or pair is missing, or nothing is left to review.

    >>> rows = pd.DataFrame({"pair_id": list("abcd"), "kind": ["faulty", "faulty", "clean", "clean"],
    ...                      "mean_loss": [3.0, 4.0, 1.0, 1.1], "z": [3.0, 4.0, -0.1, 0.0], "weight": 1.0})
    >>> plan = plan_queue(rows, QueueSettings(control_share=0, second_share=0))
    >>> [item.pair_id for item in plan.items], plan.population
    (['b', 'a'], {'faulty': 2, 'noisy': 0, 'clean': 2})
    """
    for name in ("pair_id", "kind", "mean_loss", "z", "weight"):
        if name not in rows:
            raise InputError(f"queue: the rows have no column {name!r}; mined rows of a run have it")
    for name, groups in settings.where.items():
        if name not in rows:
            raise InputError(f"queue: attribute {name!r} is not in the data")
        rows = rows[rows[name].astype(str).isin(list(groups))]
    rows = rows.reset_index(drop=True)
    rng = np.random.default_rng([settings.seed, 7])
    strata = rows["kind"].astype(str).to_numpy()
    ordered = _ordered(rows, settings, np.array([faulty_above, noisy_below]), rng)
    controls, ordered = _split_parts(strata, ordered, settings, rng)
    n = len(controls) + len(ordered)
    if n == 0:
        raise InputError("queue: no pair is left to review; widen the filters, kinds or size")
    if n > LONGEST_QUEUE:
        raise InputError(f"queue: {n:,} pairs are more than {LONGEST_QUEUE:,}; set size")
    control = np.zeros(n, bool)
    control[rng.permutation(n)[: len(controls)]] = True
    chosen = np.empty(n, np.int64)
    chosen[control], chosen[~control] = controls, ordered
    second = np.zeros(n, bool)
    second[rng.permutation(n)[: round(settings.second_share * n)]] = True
    part = rows.iloc[chosen]
    parts = zip(
        part["pair_id"].astype(str), control.tolist(), strata[chosen].tolist(), second, _facts(part), strict=True
    )
    items = tuple(
        QueueItem(position, pair_id, random, stratum, 1 + int(twice), facts)
        for position, (pair_id, random, stratum, twice, facts) in enumerate(parts)
    )
    return QueuePlan(items, {name: int((strata == name).sum()) for name in STRATA}, settings)


def _ordered(rows: pd.DataFrame, settings: QueueSettings, limits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers of the candidates, in the order they are worth reading."""
    candidates = _candidates(rows, settings)
    if settings.order == "given":
        return candidates
    if settings.order == "random":
        return rng.permutation(candidates)
    part = rows.iloc[candidates]
    z = np.nan_to_num(part["z"].to_numpy(float))
    posterior = _posterior(part)
    if settings.order == "informative":
        if posterior is not None:
            return candidates[np.lexsort((-z, np.abs(posterior - 0.5)))]
        if np.isnan(limits).all():
            raise InputError("order informative: the miner set no thresholds for this run; choose another order")
        distance = np.nanmin(np.abs(part["mean_loss"].to_numpy(float)[:, None] - limits), axis=1)
        return candidates[np.argsort(np.nan_to_num(distance, nan=np.inf), kind="stable")]
    clean = part["kind"].astype(str).to_numpy() == "clean"
    # Where P(bad) is known, an unflagged pair with a low z fits well; with thresholds, both ends are suspicious.
    suspicion = np.where(clean & (posterior is not None), z, np.abs(z))
    order = np.lexsort((-suspicion, clean))
    if settings.order == "balanced":
        if settings.balance_by not in rows:
            raise InputError(f"balance_by: attribute {settings.balance_by!r} is not in the data")
        group = part[settings.balance_by].astype(str).iloc[order]
        order = order[np.argsort(group.groupby(group).cumcount().to_numpy(), kind="stable")]
    return candidates[order]


def _candidates(rows: pd.DataFrame, settings: QueueSettings) -> np.ndarray:
    """Row numbers of the pairs that the ordered part may hold."""
    if settings.pair_ids is None:
        kinds = settings.kinds or (STRATA if settings.order == "informative" else FLAGGED)
        return np.flatnonzero(rows["kind"].astype(str).isin(kinds).to_numpy())
    found = pd.Index(rows["pair_id"].astype(str)).get_indexer(pd.Index(settings.pair_ids))
    if (found < 0).any():
        missing = settings.pair_ids[int(np.argmax(found < 0))]
        raise InputError(f"queue: pair {missing!r} is not among the run's pairs; take it out of the selection")
    return pd.unique(found)


def _split_parts(
    strata: np.ndarray, ordered: np.ndarray, settings: QueueSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the random part, in random order, and of the ordered part without them."""
    clean, flagged = np.flatnonzero(strata == "clean"), np.flatnonzero(strata != "clean")
    share, size = settings.control_share, settings.size
    n_clean = min(len(clean), round(share * size if size else share / (1 - share) * len(ordered)))
    if n_clean == 0:
        return np.zeros(0, np.int64), ordered[:size]
    n_flagged = min(len(flagged), n_clean, len(flagged) if size is None else max(0, size - n_clean))
    random = np.concatenate([rng.permutation(clean)[:n_clean], rng.permutation(flagged)[:n_flagged]])
    rest = ordered[~np.isin(ordered, random)]
    return rng.permutation(random), rest if size is None else rest[: max(0, size - len(random))]


def _posterior(rows: pd.DataFrame) -> np.ndarray | None:
    """P(bad) of each row, 0 for pairs without one; None where the miner gives none."""
    if "posterior" not in rows or rows["posterior"].isna().all():
        return None
    return np.nan_to_num(rows["posterior"].to_numpy(float))


def _facts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """For each row its numbers, None where they are not finite, and its groups."""
    attributes = [name for name in rows if name not in {"pair_id", "patient_id", "split", "kind", *_NUMBERS}]
    numbers = rows[list(_NUMBERS if _posterior(rows) is not None else _NUMBERS[:-1])].astype(float)
    numbers = numbers.astype(object).where(np.isfinite(numbers), None).to_dict("records")
    groups = rows[attributes].astype(str).to_dict("records")
    return [own | {"groups": of_pair} for own, of_pair in zip(numbers, groups, strict=True)]
