"""What the workbench of bad pairs decides: settings, what is drawn and listed, verdicts in words. No drawing."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairvlm_core.analysis.projection import COLUMNS
from fairvlm_core.config import MiningConfig
from fairvlm_core.errors import InputError
from fairvlm_core.ledger import PairLossLedger
from fairvlm_core.mining import MiningAudit, MiningResult, audit_mining
from fairvlm_core.remine import mine_with

from .entries import Headline
from .words import figure, many, p_value, percent

KINDS = ("clean", "faulty", "noisy", "not mined")
NOT_MINED = 3
NOT_REVIEWED = "Not reviewed"
LOWEST_SD, HIGHEST_SD, STEP_SD = 0.5, 5.0, 0.1
DRAWN = 10_000  # points on the map
LISTED = 1_000  # rows of the table
RULES = {"threshold": "Limits", "mixture": "Mixture", "mismatch": "Agreement"}
HISTORIES = {"mean": "Mean", "recency": "Recent more", "last": "Last"}
SPREADS = {"sd": "sd", "mad": "MAD"}
CHANNELS = {"loss": "Loss", "margin": "Margin", "similarity": "Similarity"}
MINED_CHANNELS = ("loss", "margin")  # higher is worse; a similarity is the other way round
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Settings:
    """What the sliders say; the same names as `MiningConfig`."""

    faulty_sd: float
    noisy_sd: float
    history: str
    spread: str
    rule: str
    channel: str

    @classmethod
    def of(cls, own: MiningConfig, channels: Sequence[str]) -> Settings:
        """A run's own settings; the ledger's first channel, or plain limits, where what its own need is not recorded."""
        channel = own.channel if own.channel in channels else channels[0]
        rule = own.rule if own.rule in rules(channels) else "threshold"
        return cls(own.faulty_sd, own.noisy_sd, own.history, own.spread, rule, channel)

    def changes(self, own: MiningConfig) -> dict[str, Any]:
        """As `mine_with` takes them: posterior weights exist under the mixture rule only.

        >>> own = MiningConfig(rule="mixture", weights="posterior")
        >>> Settings(3, 3, "mean", "sd", "threshold", "loss").changes(own)["weights"]
        'bounded'
        """
        weights = "bounded" if own.weights == "posterior" and self.rule == "threshold" else own.weights
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"weights": weights}


def rules(channels: Collection[str]) -> list[str]:
    """The rules that a ledger with these channels can be mined by: agreement is judged in training, not afterwards.

    >>> rules(["loss", "margin"]), rules(["loss", "mismatch"])
    (['threshold', 'mixture'], ['threshold', 'mixture', 'mismatch'])
    """
    return [name for name in RULES if name != "mismatch" or name in channels]


def slider_range(own: float) -> tuple[float, float]:
    """0.5 to 5, wider where the run's own setting lies outside.

    >>> slider_range(3.0), slider_range(7.5)
    ((0.5, 5.0), (0.5, 7.5))
    """
    return min(LOWEST_SD, own), max(HIGHEST_SD, own)


@dataclass(frozen=True, eq=False)
class Bench:
    """What does not change while thresholds do: the N pairs of a run and what is known of each.

    Attributes
    ----------
    ids, splits : str ndarray of shape (N,)
    labels : int ndarray of shape (N,)
    patients : str ndarray of shape (N,)
    groups : dict from attribute to str ndarray of shape (N,)
    ledger : PairLossLedger
        Of the M training pairs.
    place : int64 ndarray of shape (M,)
        Row of each pair of the ledger.
    chance : float64 ndarray of shape (N,)
        A random number for each pair, always the same: who is drawn does not change with the thresholds.
    rows : Index
        The ids, for looking up a row.
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

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, pair_id: str | None) -> int | None:
        """The row of a pair, None where there is no such pair."""
        if pair_id is None or pair_id not in self.rows:
            return None
        return int(self.rows.get_loc(pair_id))

    def rows_of(self, pair_ids: Collection[str]) -> np.ndarray:
        """Rows of those pairs that are known."""
        found = self.rows.get_indexer(pd.Index(list(pair_ids), dtype=object))
        return found[found >= 0]


def bench(ledger: PairLossLedger, pairs: pd.DataFrame, attributes: Sequence[str]) -> Bench:
    """Put a run's ledger and pairs together.

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
    return Bench(
        ids=pairs["pair_id"].to_numpy(str),
        splits=_text(pairs["split"]),
        labels=pairs["label"].to_numpy(),
        patients=_text(pairs["patient_id"]),
        groups={name: _text(pairs[name]) for name in attributes},
        ledger=ledger,
        place=place,
        chance=np.random.default_rng(0).random(len(pairs)),
        rows=rows,
    )


def _text(column: pd.Series) -> np.ndarray:
    return column.astype(object).to_numpy(str)


@dataclass(frozen=True, eq=False)
class Mined:
    """What mining with some settings says about the N pairs of a bench; NaN and `not mined` outside training.

    `order` holds all rows, most suspicious first: flagged by |z|, then clean by |z|, then what is not mined.
    """

    settings: Settings
    result: MiningResult
    audit: MiningAudit
    kind: np.ndarray
    mean_loss: np.ndarray
    z: np.ndarray
    weight: np.ndarray
    posterior: np.ndarray
    order: np.ndarray

    @property
    def flagged(self) -> np.ndarray:
        return (self.kind == 1) | (self.kind == 2)


def mined(found: Bench, own: MiningConfig, settings: Settings) -> Mined:
    """Mine the ledger of a run with settings `own` by what the sliders say, and spread it over the rows of its bench."""
    result = mine_with(found.ledger, own, **settings.changes(own))
    audit = audit_mining(result, {name: group[found.place] for name, group in found.groups.items()})
    n = len(found)
    kind = np.full(n, NOT_MINED, np.int8)
    kind[found.place] = result.kind.codes
    values = {}
    for name in ("mean_loss", "z", "weight", "posterior"):
        values[name] = np.full(n, np.nan)
        values[name][found.place] = getattr(result, name)
    rank = np.where(kind == NOT_MINED, 2, np.where(kind == 0, 1, 0))
    order = np.lexsort((-np.nan_to_num(np.abs(values["z"]), nan=-1.0), rank))
    return Mined(settings, result, audit, kind, order=order, **values)


# The first row ----------------------------------------------------------------------------------------------------------


def cards(now: Mined, own: Mined) -> list[Headline]:
    """Faulty, noisy, share flagged and removed weight, each beside what the run's own settings give."""
    n = len(now.result)

    def beside(count: int) -> str:
        return f"run's settings: {count:,}"

    share = {id(m): m.flagged.sum() / n for m in (now, own)}
    removed = {id(m): float(np.nansum(1.0 - m.weight)) / n for m in (now, own)}
    flagged = now.result.n_flagged
    return [
        Headline("Faulty", f"{flagged['faulty']:,}", beside(own.result.n_flagged["faulty"]), "Image and note disagree."),
        Headline(
            "Noisy", f"{flagged['noisy']:,}", beside(own.result.n_flagged["noisy"]),
            "Too easy: image and note may share something that is not the clinical content.",
        ),
        Headline("Flagged", percent(share[id(now)], 1), f"of {n:,}; run's settings: {percent(share[id(own)], 1)}"),
        Headline(
            "Weight taken away", percent(removed[id(now)], 1), f"run's settings: {percent(removed[id(own)], 1)}",
            "1 minus the mean weight over all training pairs.",
        ),
    ]  # fmt: skip


def audit_words(audit: MiningAudit, attribute: str) -> tuple[bool, str]:
    """Whether one group of an attribute loses more of its data than chance explains, and that in words.

    A warning of the audit as it stands; else what was tested and what came out.
    """
    found = next(a for a in audit.attributes if a.attribute == attribute)
    for line in audit.warnings:
        if line.startswith(f"{attribute}: "):
            return True, line
    if audit.n_flagged == 0:
        return False, "Nothing is flagged, so no group loses data."
    if found.p_value is None:
        return False, f"{attribute} has one group among these pairs, or every pair is flagged: nothing to compare."
    tested = sum(a.p_value is not None for a in audit.attributes)
    return False, (
        f"No group of {attribute} loses more of its data than chance explains (p = {p_value(found.p_adjusted)}, "
        f"{found.test}, Holm over {many(tested, 'attribute')})."
    )


# The map ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Rows that are drawn, and a sentence where these are not all."""

    rows: np.ndarray
    words: str


def drawn(
    candidates: np.ndarray, strata: np.ndarray, flagged: np.ndarray, wanted: np.ndarray, chance: np.ndarray,
    limit: int = DRAWN,
) -> Drawn:  # fmt: skip
    """At most `limit` of the candidates: all that are wanted and flagged, and of the others each stratum's share.

    Parameters
    ----------
    candidates, flagged, wanted : bool arrays of shape (N,)
        What may be drawn; flagged pairs; pairs that are selected.
    strata : int array of shape (N,)
        Groups that keep their shares.
    chance : float array of shape (N,)
        In [0, 1): who is drawn first.

    Examples
    --------
    >>> yes, no = np.ones(10, bool), np.zeros(10, bool)
    >>> found = drawn(yes, np.arange(10) // 5, np.arange(10) == 3, no, np.linspace(0, 0.9, 10), limit=5)
    >>> found.rows.tolist(), found.words
    ([0, 1, 3, 5, 6], '5 of 10 pairs are drawn, all 1 flagged among them.')
    """
    rows = np.flatnonzero(candidates)
    n = len(rows)
    if n <= limit:
        return Drawn(rows, "")
    must = flagged[rows] | wanted[rows]
    # A pair's place in its stratum, as a share: taking the smallest takes the same share of every stratum.
    order = np.lexsort((chance[rows], strata[rows]))
    sizes = np.bincount(strata[rows])
    first = np.cumsum(sizes) - sizes
    share = np.empty(n)
    ordered = strata[rows][order]
    share[order] = (np.arange(n) - first[ordered] + 0.5) / sizes[ordered]
    urgency = np.where(wanted[rows], 0, np.where(must, 1, 2))
    kept = np.sort(np.lexsort((share, urgency))[:limit])
    chosen = rows[kept]
    n_flagged = int((candidates & flagged).sum())
    drawn_flagged = int(flagged[chosen].sum())
    among = f"all {n_flagged:,}" if drawn_flagged == n_flagged else f"{drawn_flagged:,} of {n_flagged:,}"
    return Drawn(chosen, f"{limit:,} of {n:,} pairs are drawn, {among} flagged among them.")


def colour_choices(attributes: Sequence[str], verdicts: bool = False) -> dict[str, str]:
    """What the map can be coloured by, name to title.

    >>> list(colour_choices(["race"]).values())
    ['Kind', 'Mean loss', 'race', 'Label', 'Split']
    """
    named = {f"group:{name}": name for name in attributes}
    review = {"verdict": "Verdict"} if verdicts else {}
    return {"kind": "Kind", "loss": "Mean loss", **named, "label": "Label", "split": "Split", **review}


@dataclass(frozen=True, eq=False)
class Colouring:
    """`values` of every pair in words (None: a number, the mean loss), and which pairs it can be said of."""

    values: np.ndarray | None
    order: tuple[str, ...]
    candidates: np.ndarray


def colouring(found: Bench, now: Mined, by: str, verdicts: np.ndarray | None = None) -> Colouring:
    """What each pair is coloured by; validation and test pairs are drawn where split or verdict counts."""
    train = now.kind != NOT_MINED
    everyone = np.ones(len(found), bool)
    if by == "loss":
        return Colouring(None, (), train & np.isfinite(now.mean_loss))
    if by == "kind":
        return Colouring(np.array(KINDS)[now.kind], KINDS[:3], train)
    if by == "label":
        return Colouring(np.char.add("label ", found.labels.astype(str)), ("label 0", "label 1"), train)
    if by == "split":
        words = np.array([SPLIT_WORDS.get(s, s) for s in ("train", "val", "test")])
        codes = np.select([found.splits == "train", found.splits == "val"], [0, 1], 2)
        return Colouring(words[codes], tuple(words), everyone)
    if by == "verdict":
        if verdicts is None:
            raise InputError("colour: no pair of this data set has a verdict; choose another")
        given = [str(word) for word in np.unique(verdicts) if word != NOT_REVIEWED]
        return Colouring(verdicts, (NOT_REVIEWED, *given), everyone)
    name = by.removeprefix("group:")
    if name not in found.groups:
        raise InputError(f"colour: {by!r} is not known; choose another")
    return Colouring(found.groups[name], tuple(np.unique(found.groups[name])), train)


def map_points(projection: pd.DataFrame, found: Bench) -> np.ndarray:
    """Points of a projection in the order of the bench, float32 (N, 4): image x, y, text x, y.

    Raises
    ------
    InputError
        The projection is of other pairs.
    """
    missing = [name for name in ("pair_id", "method", *COLUMNS) if name not in projection]
    if missing or not np.array_equal(projection["pair_id"].to_numpy(str), found.ids):
        raise InputError("projection.parquet is not of this run's pairs: make the map again")
    return projection[list(COLUMNS)].to_numpy(np.float32)


# The table --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """What the table is narrowed to; empty means everything."""

    kinds: tuple[str, ...] = ()
    attribute: str | None = None
    groups: tuple[str, ...] = ()
    words: str = ""


def listed(found: Bench, now: Mined, asked: Filter, chosen: Collection[str] | None = None) -> np.ndarray:
    """Rows that pass the filter, most suspicious first; of the chosen pairs where there are any, else of training pairs."""
    if chosen:
        passes = np.zeros(len(found), bool)
        passes[found.rows_of(chosen)] = True
    else:
        passes = now.kind != NOT_MINED
    if asked.kinds:
        passes &= np.isin(now.kind, [KINDS.index(kind) for kind in asked.kinds])
    if asked.attribute is not None and asked.groups:
        passes &= np.isin(found.groups[asked.attribute], asked.groups)
    if asked.words.strip():
        passes &= np.char.find(np.char.lower(found.ids), asked.words.strip().lower()) >= 0
    return now.order[passes[now.order]]


def table(found: Bench, now: Mined, rows: np.ndarray, names: dict[str, str] | None = None) -> pd.DataFrame:
    """Rows as a frame: pair_id, kind, mean_loss, z, weight, split, label, patient_id and the attributes."""
    columns: dict[str, Any] = {
        "pair_id": found.ids[rows],
        "kind": np.array(KINDS)[now.kind[rows]],
        "mean_loss": now.mean_loss[rows],
        "z": now.z[rows],
        "weight": now.weight[rows],
    }
    columns |= {name: values[rows] for name, values in found.groups.items()}
    columns |= {"split": found.splits[rows], "label": found.labels[rows], "patient_id": found.patients[rows]}
    return pd.DataFrame(columns).rename(columns=names or {})


def current_pair(asked: str | None, order: Sequence[str] | np.ndarray, found: Bench) -> str | None:
    """The pair that the inspector shows: the one asked for if the run has it, else the first of the list, else none."""
    if found.row_of(asked) is not None:
        return asked
    return str(order[0]) if len(order) else None


def step(order: np.ndarray, pair: str, by: int) -> str | None:
    """The pair before (-1) or after (+1) another in an order; the first where that one is not in it; None at an end.

    >>> order = np.array(["a", "b", "c"])
    >>> step(order, "b", 1), step(order, "c", 1), step(order, "x", 1)
    ('c', None, 'a')
    """
    place = np.flatnonzero(order == pair)
    if not len(place):
        return str(order[0]) if len(order) else None
    target = int(place[0]) + by
    return str(order[target]) if 0 <= target < len(order) else None


def counted(rows: np.ndarray, found: Bench, chosen: Collection[str] | None) -> str:
    """How many rows are listed, of what.

    >>> ledger = PairLossLedger.from_values([[1.0, 2.0]], ["a", "b"])
    >>> pairs = pd.DataFrame({"pair_id": ["a", "b"], "patient_id": ["p", "q"], "split": "train", "label": [0, 1]})
    >>> counted(np.array([0]), bench(ledger, pairs, []), ["a"])
    '1 of 1 selected pair'
    """
    whole = f"{many(len(chosen), 'selected pair')}" if chosen else f"{many(len(found.place), 'training pair')}"
    more = f", the first {LISTED:,} listed" if len(rows) > LISTED else ""
    return f"{len(rows):,} of {whole}{more}"


# Planted truth ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TruthScore:
    """How well one planted kind was found.

    Attributes
    ----------
    planted, flag : str
        The planted kind and the flag it should get.
    n, n_flagged, n_hit : int
        Planted, flagged so, and both.
    precision, recall, average_precision, chance : float
        0 to 1; chance is the share of this kind, the precision of flagging at random. NaN where nothing is flagged
        (precision) or planted.
    curve : float ndarray of shape (K, 2)
        Recall and precision at every limit.
    """

    planted: str
    flag: str
    n: int
    n_flagged: int
    n_hit: int
    precision: float
    recall: float
    average_precision: float
    chance: float
    curve: np.ndarray


_CURVE = 400
PAIRED_KINDS = (("mismatch", "faulty", 1.0), ("shortcut", "noisy", -1.0))


@dataclass(frozen=True, eq=False)
class TruthCurve:
    """How well a ranking finds one planted kind, whatever the limit; the fields as in `TruthScore`."""

    planted: str
    flag: str
    average_precision: float
    chance: float
    curve: np.ndarray


def truth_curves(now: Mined, planted: np.ndarray) -> list[TruthCurve]:
    """Precision against recall for every planted kind; `planted` is "" where nothing is known.

    Wrong notes (mismatch) are ranked by falling mean loss, shortcuts by rising mean loss;
    under the rule ``mismatch`` both by z.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    known = (now.kind != NOT_MINED) & (planted != "") & np.isfinite(now.mean_loss)
    truth = planted[known]
    curves = []
    for name, flag, sign in PAIRED_KINDS:
        is_so = truth == name
        if not is_so.any():
            continue
        score = (now.z if now.result.rule == "mismatch" else now.mean_loss)[known]
        precision, recall, _ = precision_recall_curve(is_so, sign * score)
        keep = np.unique(np.linspace(0, len(recall) - 1, min(_CURVE, len(recall))).astype(int))
        average = float(average_precision_score(is_so, sign * score))
        points = np.stack([recall[keep], precision[keep]], axis=1)
        curves.append(TruthCurve(name, flag, average, float(is_so.mean()), points))
    return curves


def truth_scores(now: Mined, planted: np.ndarray, curves: Sequence[TruthCurve]) -> list[TruthScore]:
    """What the current limits find of every planted kind: mismatch should be flagged as faulty, shortcut as noisy."""
    known = (now.kind != NOT_MINED) & (planted != "") & np.isfinite(now.mean_loss)
    scores = []
    for one in curves:
        is_so, flagged = known & (planted == one.planted), known & (now.kind == KINDS.index(one.flag))
        n, n_flagged, hit = int(is_so.sum()), int(flagged.sum()), int((is_so & flagged).sum())
        scores.append(
            TruthScore(
                planted=one.planted,
                flag=one.flag,
                n=n,
                n_flagged=n_flagged,
                n_hit=hit,
                precision=hit / n_flagged if n_flagged else math.nan,
                recall=hit / n,
                average_precision=one.average_precision,
                chance=one.chance,
                curve=one.curve,
            )
        )
    return scores


def truth_table(scores: Sequence[TruthScore]) -> pd.DataFrame:
    """A column a planted kind, in words: planted, flagged, both, precision, recall, average precision, chance."""
    columns: dict[str, list[str]] = {
        "": ["Planted", "Flagged", "Both", "Precision", "Recall", "Average precision", "Chance"]
    }
    for s in scores:
        columns[f"{s.planted} as {s.flag}"] = [
            f"{s.n:,}",
            f"{s.n_flagged:,}",
            f"{s.n_hit:,}",
            figure(s.precision),
            figure(s.recall),
            figure(s.average_precision),
            figure(s.chance),
        ]
    return pd.DataFrame(columns)
