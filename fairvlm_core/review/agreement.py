"""Agreement of readers who judged the same pairs without seeing each other's verdicts.

Cohen's kappa for two named readers; Fleiss' kappa where different pairs have different readers, over two readings a pair.
Both from statsmodels, with percentile intervals from resampled pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..fairness.intervals import rate_interval
from ..fairness.results import Interval
from .events import BAD, VERDICTS, Event, person
from .results import Missing

_CATEGORIES = {name: i for i, name in enumerate(VERDICTS)}
# Each verdict as 0 (fits), 1 (bad) or 2 (unsure).
_BAD_OR_NOT = np.array([1 if name in BAD else 2 * (name == "unsure") for name in VERDICTS])
_FEWEST = 5  # pairs; with fewer, kappa is too uncertain to be of use


@dataclass(frozen=True)
class Agreement:
    """How often readers agree, and how far beyond chance.

    Attributes
    ----------
    readers : tuple of str
        Two names for Cohen's kappa, all of them for Fleiss'.
    n_pairs : int
        Pairs with two readings.
    observed : float, optional
        Share of pairs with the same verdict twice; None without pairs.
    observed_interval : Interval, optional
    kappa, kappa_interval
        Over all verdicts; None where undefined, and `missing` says why.
    kappa_bad, kappa_bad_interval
        Over bad / fits / unsure only.
    missing : Missing, optional
    """

    readers: tuple[str, ...]
    n_pairs: int
    observed: float | None = None
    observed_interval: Interval | None = None
    kappa: float | None = None
    kappa_interval: Interval | None = None
    kappa_bad: float | None = None
    kappa_bad_interval: Interval | None = None
    missing: Missing | None = None

    @property
    def message(self) -> str:
        """Why there is no kappa; empty where there is one."""
        return self.missing.value if self.missing else ""

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "missing"}
        plain = {name: value.to_dict() if isinstance(value, Interval) else value for name, value in values.items()}
        return plain | {"readers": list(self.readers), "message": self.message}


def agreement(
    readings: Sequence[Event], *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Agreement:
    """Fleiss' kappa over all pairs with at least two readings; the first two of each count.

    Parameters
    ----------
    readings
        Standing verdict events: `ReviewStore.standing_readings`.
    resamples
        Bootstrap draws of pairs; at least 2.
    """
    twice = [events[:2] for events in _by_pair(readings).values() if len(events) > 1]
    readers = tuple(sorted({event.reviewer for events in twice for event in events}))
    ratings = np.array([[_CATEGORIES[event.body["verdict"]] for event in events] for events in twice], int)
    return _agreement(readers, ratings.reshape(-1, 2), _fleiss, resamples, confidence, seed)


def agreement_by_readers(
    readings: Sequence[Event], *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[Agreement, ...]:
    """Cohen's kappa of every two readers who share a pair, those with most pairs in common first."""
    shared: dict[tuple[str, str], list[tuple[int, int]]] = {}
    names: dict[str, str] = {}
    for events in _by_pair(readings).values():
        given = {person(event.reviewer): _CATEGORIES[event.body["verdict"]] for event in events}
        names |= {person(event.reviewer): event.reviewer for event in events}
        for a, b in combinations(sorted(given), 2):
            shared.setdefault((a, b), []).append((given[a], given[b]))
    ordered = sorted(shared.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return tuple(
        _agreement((names[a], names[b]), np.array(ratings, int), _cohen, resamples, confidence, seed)
        for (a, b), ratings in ordered
    )


def _by_pair(readings: Iterable[Event]) -> dict[str, list[Event]]:
    pairs: dict[str, list[Event]] = {}
    for event in sorted(readings, key=lambda event: event.sequence):
        pairs.setdefault(event.pair_id, []).append(event)
    return pairs


def _agreement(
    readers: tuple[str, ...],
    ratings: np.ndarray,
    kappa_of: Callable[[np.ndarray], float],
    resamples: int,
    confidence: float,
    seed: int,
) -> Agreement:
    n = len(ratings)
    if n == 0:
        return Agreement(readers, 0, missing=Missing.NO_SECOND_READING)
    same = ratings[:, 0] == ratings[:, 1]
    observed = (float(same.mean()), rate_interval(same, None, confidence))
    if n < _FEWEST:
        return Agreement(readers, n, *observed, missing=Missing.TOO_FEW)
    if len(np.unique(ratings)) == 1:
        return Agreement(readers, n, *observed, missing=Missing.ONE_VERDICT)
    rng = np.random.default_rng([seed, 11])
    kappa, interval = _with_interval(ratings, kappa_of, resamples, confidence, rng)
    kappa_bad, interval_bad = _with_interval(_BAD_OR_NOT[ratings], kappa_of, resamples, confidence, rng)
    return Agreement(readers, n, *observed, kappa, interval, kappa_bad, interval_bad)


def _with_interval(
    ratings: np.ndarray,
    kappa_of: Callable[[np.ndarray], float],
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float | None, Interval | None]:
    if len(np.unique(ratings)) == 1:
        return None, None
    rows = rng.integers(len(ratings), size=(resamples, len(ratings)))
    # Kappa is undefined for a draw with only one verdict.
    draws = [kappa_of(ratings[row]) for row in rows if len(np.unique(ratings[row])) > 1]
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(kappa_of(ratings)), Interval(float(low), float(high), confidence, "bootstrap, percentile")


def _fleiss(ratings: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa  # takes a second to import

    counts, _ = aggregate_raters(ratings, n_cat=len(VERDICTS))
    return float(fleiss_kappa(counts))


def _cohen(ratings: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.zeros((len(VERDICTS), len(VERDICTS)))
    np.add.at(table, (ratings[:, 0], ratings[:, 1]), 1)
    return float(cohens_kappa(table, return_results=False))
