"""A run's pairs as mining sees them: kinds, ranking, filters, and a fair sample for a crowded chart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..config import MiningConfig
from ..errors import InputError
from ..ledger import PairLossLedger
from ..mining import RANKING_RULES, MiningAudit, MiningResult, audit_mining, explain_pair, fits
from .projection import COLUMNS

PAIR_KINDS = ("clean", "faulty", "noisy", "not mined")
NOT_MINED = 3


@dataclass(frozen=True, eq=False)
class RunPairs:
    """The N pairs of a run and its ledger.

    Attributes
    ----------
    ids, splits, patients : str ndarray of shape (N,)
    labels : int ndarray of shape (N,)
    groups : dict from attribute to str ndarray of shape (N,)
    ledger : PairLossLedger
        Of the M training pairs.
    place : int64 ndarray of shape (M,)
        Row of each pair of the ledger.
    chance : float64 ndarray of shape (N,)
        A random number for each pair, always the same: a sample of the pairs does not depend on limits.
    """

    ids: np.ndarray
    splits: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    groups: dict[str, np.ndarray]
    ledger: PairLossLedger
    place: np.ndarray
    chance: np.ndarray
    rows: pd.Index

    @classmethod
    def of(cls, ledger: PairLossLedger, pairs: pd.DataFrame, attributes: Sequence[str]) -> RunPairs:
        """From `Run.ledger` and `Run.pairs`.

        Raises
        ------
        InputError
            A column is missing, or the ledger names a pair that the run does not have.
        """
        for name in ("pair_id", "patient_id", "split", "label", *attributes):
            if name not in pairs:
                raise InputError(f"pairs.parquet has no column {name!r}: train the run again")
        rows = pd.Index(pairs["pair_id"].astype(object))
        place = rows.get_indexer(pd.Index(ledger.pair_ids.astype(object)))
        if (place < 0).any() or not rows.is_unique:
            raise InputError("ledger.parquet and pairs.parquet do not belong together: train the run again")

        def text(name: str) -> np.ndarray:
            return pairs[name].astype(object).to_numpy(str)

        return cls(
            ids=text("pair_id"),
            splits=text("split"),
            labels=pairs["label"].to_numpy(),
            patients=text("patient_id"),
            groups={name: text(name) for name in attributes},
            ledger=ledger,
            place=place,
            chance=np.random.default_rng(0).random(len(pairs)),
            rows=rows,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, pair_id: str | None) -> int | None:
        """The row of a pair, None where there is no such pair."""
        found = self.rows_of([] if pair_id is None else [pair_id])
        return int(found[0]) if len(found) else None

    def rows_of(self, pair_ids: Collection[str]) -> np.ndarray:
        """Rows of those pairs that are known."""
        found = self.rows.get_indexer(pd.Index(list(pair_ids), dtype=object))
        return found[found >= 0]


def usable_rules(channels: Collection[str]) -> list[str]:
    """The ranking rules that a ledger with these channels can be mined by.

    >>> usable_rules(["loss", "margin"])[:2], "mismatch" in usable_rules(["loss"])
    (['threshold', 'mixture'], False)
    """
    return [name for name, rule in RANKING_RULES.items() if set(rule.channels) <= set(channels)]


def usable_settings(own: MiningConfig, channels: Collection[str]) -> MiningConfig:
    """A run's own settings; the ledger's first channel, or the rule ``threshold``, where theirs was not recorded."""
    channel = own.channel if own.channel in channels else next(iter(channels))
    rule = own.rule if own.rule in usable_rules(channels) else "threshold"
    return changed_settings(own, {"channel": channel, "rule": rule})


def changed_settings(own: MiningConfig, changes: Mapping[str, Any]) -> MiningConfig:
    """Settings with changes; weights that do not fit the new rule become bounded.

    >>> changed_settings(MiningConfig(rule="mixture", weights="posterior"), {"rule": "threshold"}).weights
    'bounded'
    """
    settings = own.model_copy(update=dict(changes))
    return settings if fits(settings.rule, settings.weights) else settings.model_copy(update={"weights": "bounded"})


@dataclass(frozen=True, eq=False)
class MinedPairs:
    """What mining says about the N pairs of a run.

    Attributes
    ----------
    settings : MiningConfig
    result : MiningResult
        Of the M training pairs.
    audit : MiningAudit
    kind : int8 ndarray of shape (N,)
        Places in `PAIR_KINDS`.
    mean_loss, z, weight : float64 ndarray of shape (N,)
        As in `result`; NaN outside training.
    order : int64 ndarray of shape (N,)
        All rows, most suspicious first: wrong notes by |z|, shared markers by |z| (the two are on different scales), clean
        by |z|, then what is not mined.
    """

    settings: MiningConfig
    result: MiningResult
    audit: MiningAudit
    kind: np.ndarray
    mean_loss: np.ndarray
    z: np.ndarray
    weight: np.ndarray
    order: np.ndarray

    @property
    def flagged(self) -> np.ndarray:
        return (self.kind == 1) | (self.kind == 2)

    @property
    def mined(self) -> np.ndarray:
        """The training pairs, bool array of shape (N,)."""
        return self.kind != NOT_MINED


def mine_pairs(pairs: RunPairs, settings: MiningConfig) -> MinedPairs:
    """Mine a run's ledger with these settings.

    Raises
    ------
    InputError
        A setting out of range.
    """
    result = settings.mine(pairs.ledger)
    audit = audit_mining(result, {name: group[pairs.place] for name, group in pairs.groups.items()})
    kind = np.full(len(pairs), NOT_MINED, np.int8)
    kind[pairs.place] = result.kind.codes
    values = {}
    for name in ("mean_loss", "z", "weight"):
        values[name] = np.full(len(pairs), np.nan)
        values[name][pairs.place] = getattr(result, name)
    rank = np.select([kind == NOT_MINED, kind == 0, kind == 2], [3, 2, 1], 0)
    order = np.lexsort((-np.nan_to_num(np.abs(values["z"]), nan=-1.0), rank))
    return MinedPairs(settings, result, audit, kind, order=order, **values)


def why(pairs: RunPairs, now: MinedPairs, row: int) -> str:
    """Why a pair is flagged or not, in a sentence."""
    place = np.flatnonzero(pairs.place == row)
    if not len(place):
        return "Only training pairs are mined: the losses of this pair are not recorded."
    return explain_pair(now.result, int(place[0]))


@dataclass(frozen=True)
class PairFilter:
    """What a list of pairs is narrowed to; empty means everything. `part` is a part of a pair id, or words of a note."""

    kinds: tuple[str, ...] = ()
    attribute: str | None = None
    groups: tuple[str, ...] = ()
    part: str = ""


def matching_rows(
    pairs: RunPairs, now: MinedPairs, asked: PairFilter, chosen: Collection[str] | None = None,
    notes: Sequence[str] | None = None,
) -> np.ndarray:  # fmt: skip
    """Rows that pass the filter, most suspicious first: of the chosen pairs if there are any, else of training pairs.

    `notes`, N strings in lower case, are searched for every word of `asked.part`.
    """
    if chosen:
        passes = np.zeros(len(pairs), bool)
        passes[pairs.rows_of(chosen)] = True
    else:
        passes = now.mined.copy()
    if asked.kinds:
        passes &= np.isin(now.kind, [PAIR_KINDS.index(kind) for kind in asked.kinds])
    if asked.attribute is not None and asked.groups:
        passes &= np.isin(pairs.groups[asked.attribute], asked.groups)
    if part := asked.part.strip().lower():
        hit = np.char.find(np.char.lower(pairs.ids), part) >= 0
        if notes is not None:
            asked_for = part.split()
            hit |= np.fromiter((all(word in note for word in asked_for) for note in notes), bool, len(pairs))
        passes &= hit
    return now.order[passes[now.order]]


def pair_frame(pairs: RunPairs, now: MinedPairs, rows: np.ndarray) -> pd.DataFrame:
    """Rows as a frame: pair_id, kind, mean_loss, z, weight, the attributes, split, label and patient_id."""
    columns: dict[str, Any] = {
        "pair_id": pairs.ids[rows],
        "kind": np.array(PAIR_KINDS)[now.kind[rows]],
        "mean_loss": now.mean_loss[rows],
        "z": now.z[rows],
        "weight": now.weight[rows],
    }
    columns |= {name: values[rows] for name, values in pairs.groups.items()}
    columns |= {"split": pairs.splits[rows], "label": pairs.labels[rows], "patient_id": pairs.patients[rows]}
    return pd.DataFrame(columns)


def beside(order: np.ndarray, pair: str, by: int) -> str | None:
    """The pair before (-1) or after (+1) another in an order; the first where that one is not in it; None at an end.

    >>> order = np.array(["a", "b", "c"])
    >>> beside(order, "b", 1), beside(order, "c", 1), beside(order, "x", 1)
    ('c', None, 'a')
    """
    place = np.flatnonzero(order == pair)
    if not len(place):
        return str(order[0]) if len(order) else None
    target = int(place[0]) + by
    return str(order[target]) if 0 <= target < len(order) else None


def sample_rows(
    candidates: np.ndarray, strata: np.ndarray, flagged: np.ndarray, first: np.ndarray, chance: np.ndarray, limit: int
) -> np.ndarray:
    """At most `limit` of the candidates: those in `first`, then those flagged, then the same share of every stratum.

    Parameters
    ----------
    candidates, flagged, first : bool arrays of shape (N,)
    strata : int array of shape (N,)
    chance : float array of shape (N,)
        In [0, 1): lower values are drawn first.

    Returns
    -------
    int64 ndarray
        Rows in rising order.

    Examples
    --------
    >>> yes, no = np.ones(10, bool), np.zeros(10, bool)
    >>> sample_rows(yes, np.arange(10) // 5, np.arange(10) == 3, no, np.linspace(0, 0.9, 10), limit=5)
    array([0, 1, 3, 5, 6])
    """
    rows = np.flatnonzero(candidates)
    if len(rows) <= limit:
        return rows
    # A pair's rank in its stratum, as a share: the smallest shares are the same share of every stratum.
    part = pd.Series(chance[rows]).groupby(strata[rows])
    share = (part.rank(method="first") - 0.5) / part.transform("size")
    urgency = np.select([first[rows], flagged[rows]], [0, 1], 2)
    return rows[np.sort(np.lexsort((share, urgency))[:limit])]


def map_points(projection: pd.DataFrame, pairs: RunPairs) -> np.ndarray:
    """Points of a projection in the order of the pairs, float32 (N, 4): image x, y, text x, y.

    Raises
    ------
    InputError
        The projection is of other pairs.
    """
    missing = [name for name in ("pair_id", "method", *COLUMNS) if name not in projection]
    if missing or not np.array_equal(projection["pair_id"].to_numpy(str), pairs.ids):
        raise InputError("projection.parquet is not of this run's pairs: make the map again")
    return projection[list(COLUMNS)].to_numpy(np.float32)
