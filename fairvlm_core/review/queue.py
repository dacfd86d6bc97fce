"""Which pairs a reader sees, and in which order: from a run's mined rows to the items of a queue.

A queue has two parts. The ordered part holds the pairs that are worth a clinician's time. The random part, which the
reader cannot tell from the rest, is drawn from flagged and from unflagged pairs; estimates of the miner's precision and
recall rest on it (`estimates`). Its pairs stand at random positions in random order, so that estimates hold wherever
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
        Kinds the ordered part is taken from. None: faulty and noisy; for "informative" clean too; for a selection all.
    where : mapping
        Attribute to the groups that are let in, for the whole queue, controls included.
    pair_ids : tuple of str, optional
        The ordered part is this selection, whatever its kinds.
    size : int, optional
        Pairs in all, controls included. None: every pair of `kinds`, and controls on top.
    control_share : float in [0, 0.9]
        Share of the queue that are random unflagged pairs. As many flagged ones, where there are, count as random too.
    second_share : float in [0, 1]
        Share of the pairs, drawn at random, that a second reader judges without seeing the first one's verdict.
    balance_by : str, optional
        Attribute for the order "balanced".
    blind : bool
        Pages hide why a pair is there, and estimates are free of that influence.
    lease_seconds : int
        How long a pair stays with the reader who opened it, 10 to 86,400.
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
            raise InputError("order given: a selection of pair ids is wanted")
        if wrong := sorted(set(self.kinds or ()) - set(STRATA)):
            raise InputError(f"kinds: {wrong[0]!r} is not one of {', '.join(STRATA)}")
        for name, low, high in (("control_share", 0, 0.9), ("second_share", 0, 1), ("lease_seconds", 10, 86_400)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name}: {getattr(self, name)}; a number from {low} to {high:,} is wanted")
        if self.size is not None and not 1 <= self.size <= LONGEST_QUEUE:
            raise InputError(f"size: {self.size}; 1 to {LONGEST_QUEUE:,} pairs are wanted")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a selection is in the items and is only counted here."""
        values = asdict(self)
        values["where"] = {name: list(groups) for name, groups in self.where.items()}
        values["kinds"] = None if self.kinds is None else list(self.kinds)
        values["pair_ids"] = None if self.pair_ids is None else len(self.pair_ids)
        return values


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
        What the miner said: "faulty", "noisy" or "clean".
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
    """A queue before it is stored.

    Attributes
    ----------
    items : tuple of QueueItem
    population : mapping
        Stratum to the number of pairs it had when the queue was drawn, filters applied.
    settings : QueueSettings
    """

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
            raise InputError(f"queue: the rows have no column {name!r}; mined rows of a run are wanted")
    rows = _filtered(rows, settings.where)
    rng = np.random.default_rng([settings.seed, 7])
    strata = rows["kind"].astype(str).to_numpy()
    limits = (faulty_above, noisy_below)
    wanted = _ordered(rows, settings, limits, rng)
    controls, wanted = _split_parts(strata, wanted, settings, rng)
    n = len(controls) + len(wanted)
    if n == 0:
        raise InputError("queue: no pair is left to review; widen the filters, kinds or size")
    if n > LONGEST_QUEUE:
        raise InputError(f"queue: {n:,} pairs; up to {LONGEST_QUEUE:,} are wanted, set size")
    places = np.zeros(n, bool)
    places[rng.permutation(n)[: len(controls)]] = True
    chosen = np.empty(n, np.int64)
    chosen[places], chosen[~places] = controls, wanted
    second = np.zeros(n, bool)
    second[rng.permutation(n)[: round(settings.second_share * n)]] = True
    attributes = [c for c in rows if c not in {"pair_id", "patient_id", "split", "kind", *_NUMBERS}]
    part = rows.iloc[chosen]
    items = tuple(
        QueueItem(i, str(pair_id), bool(places[i]), str(strata[chosen[i]]), 1 + int(second[i]), facts)
        for i, (pair_id, facts) in enumerate(zip(part["pair_id"], _facts(part, attributes), strict=True))
    )
    population = {name: int((strata == name).sum()) for name in STRATA}
    return QueuePlan(items, population, settings)


def _filtered(rows: pd.DataFrame, where: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    for name, groups in where.items():
        if name not in rows:
            raise InputError(f"queue: attribute {name!r} is not in the data")
        rows = rows[rows[name].astype(str).isin(list(groups))]
    return rows.reset_index(drop=True)


def _ordered(
    rows: pd.DataFrame, settings: QueueSettings, limits: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Row numbers of the candidates, in the order they are worth reading."""
    if settings.pair_ids is not None:
        candidates = pd.Index(rows["pair_id"].astype(str)).get_indexer(pd.Index(settings.pair_ids))
        if (candidates < 0).any():
            missing = settings.pair_ids[int(np.argmax(candidates < 0))]
            raise InputError(f"queue: pair {missing!r} is not among the run's pairs; take it out of the selection")
        candidates = pd.unique(candidates)
    else:
        kinds = settings.kinds or (STRATA if settings.order == "informative" else FLAGGED)
        candidates = np.flatnonzero(rows["kind"].astype(str).isin(kinds).to_numpy())
    if settings.order == "given":
        return candidates
    if settings.order == "random":
        return rng.permutation(candidates)
    part = rows.iloc[candidates]
    z = np.nan_to_num(part["z"].to_numpy(float))
    posterior = _posterior(part)
    if settings.order == "informative" and posterior is not None:
        return candidates[np.lexsort((-z, np.abs(posterior - 0.5)))]
    if settings.order == "informative":
        reach = np.abs(part["mean_loss"].to_numpy(float)[:, None] - np.array(limits))
        if np.isnan(limits).all():
            raise InputError("order informative: the miner set no thresholds for this run; choose another order")
        return candidates[np.argsort(np.nan_to_num(np.nanmin(reach, axis=1), nan=np.inf), kind="stable")]
    clean = part["kind"].astype(str).to_numpy() == "clean"
    # Where P(bad) is known, an unflagged pair with a low z fits well; a threshold alone suspects both ends.
    suspicion = np.where(clean & (posterior is not None), z, np.abs(z))
    order = np.lexsort((-suspicion, clean))
    if settings.order == "balanced":
        if settings.balance_by not in rows:
            raise InputError(f"balance_by: attribute {settings.balance_by!r} is not in the data")
        group = part[settings.balance_by].astype(str).iloc[order]
        turn = group.groupby(group).cumcount().to_numpy()
        order = order[np.lexsort((np.arange(len(order)), turn))]
    return candidates[order]


def _split_parts(
    strata: np.ndarray, wanted: np.ndarray, settings: QueueSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the random part, in random order, and of the ordered part without them."""
    clean, flagged = np.flatnonzero(strata == "clean"), np.flatnonzero(strata != "clean")
    share, size = settings.control_share, settings.size
    n_clean = min(len(clean), round(share * size if size else share / (1 - share) * len(wanted)))
    if n_clean == 0:
        return np.zeros(0, np.int64), wanted[:size]
    room = len(flagged) if size is None else max(0, size - n_clean)
    n_flagged = min(len(flagged), n_clean, room)
    random = np.concatenate([rng.permutation(clean)[:n_clean], rng.permutation(flagged)[:n_flagged]])
    rest = wanted[~np.isin(wanted, random)]
    return rng.permutation(random), rest if size is None else rest[: max(0, size - len(random))]


def _posterior(rows: pd.DataFrame) -> np.ndarray | None:
    """P(bad) of each row, 0 for pairs without one; None where the miner gives none."""
    if "posterior" not in rows or rows["posterior"].isna().all():
        return None
    return np.nan_to_num(rows["posterior"].to_numpy(float))


def _facts(rows: pd.DataFrame, attributes: list[str]) -> list[dict[str, Any]]:
    known = _NUMBERS if _posterior(rows) is not None else _NUMBERS[:-1]
    numbers = rows[list(known)].astype(float).to_dict("records")
    groups = rows[attributes].astype(str).to_dict("records")
    return [
        {name: value if math.isfinite(value) else None for name, value in own.items()} | {"groups": of}
        for own, of in zip(numbers, groups, strict=True)
    ]
