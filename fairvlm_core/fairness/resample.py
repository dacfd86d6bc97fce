"""Bootstrap over patients and shuffled group labels, many resamples at a time.

Scores are sorted once. A bootstrap resample is a column of integer weights, and the AUC of a group is a weighted sum over
the cumulative weights of its negatives. A shuffle is a column of 0/1 weights for each group. Columns are processed by a few
threads in blocks that fit into the processor's cache. Every block has its own random stream, so results depend neither on
the number of processors nor on the order in which blocks finish.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from .cohort import Cohort, GroupCodes, one_group
from .definitions import GROUP_METRICS, Metric, rates, summarise
from .metrics import N_BINS, calibration_bin, ratio

# Cells (rows x columns) of a block: small enough for a cache, but at least 32 columns, because shorter rows are slow to
# gather. The largest block takes 32 MB per float64 array; each thread holds about five of them.
_BLOCK_CELLS = 2**19
_BLOCK_WIDTHS = (32, 512)
_LARGEST_BLOCK = 2**22
_MAX_THREADS = 4
# Metrics that are permuted within a label; all others, also your own, are permuted over everyone.
WITHIN_LABEL = ("auc", "true_positive_rate", "false_positive_rate")
OVER_EVERYONE = ("accuracy", "selection_rate", "f1", "prevalence", "calibration_error")


@dataclass(frozen=True)
class Draws:
    """Metrics of one score and one attribute in every resample; NaN where a resample has none.

    Attributes
    ----------
    overall : dict of metric to float64 ndarray of shape (resamples,)
    groups : dict of metric to float64 ndarray of shape (n_groups, resamples)
    summary : dict of metric to float64 ndarray of shape (resamples,)
    """

    overall: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    summary: dict[str, np.ndarray]


def bootstrap(
    cohort: Cohort,
    scores: Sequence[np.ndarray],
    groupings: Sequence[GroupCodes],
    *,
    threshold: float | None,
    n_resamples: int,
    seed: int,
    own: Sequence[Metric] = (),
) -> list[list[Draws]]:
    """Resample patients within their label; `result[s][g]` are the draws of score s and grouping g.

    All scores and groupings see the same resamples, so their draws can be subtracted from each other. A patient with rows
    of both labels is drawn from a stratum of such patients.
    """
    cohort, scores, groupings = _by_rising_score(cohort, scores, groupings)
    plans = [[_Plan(cohort.label, score, grouping, threshold, own) for grouping in groupings] for score in scores]
    wholes = [_Plan(cohort.label, score, one_group(cohort.n), threshold, own) for score in scores]
    strata = _strata(cohort.label, cohort.patient)

    def block(rng: np.random.Generator, width: int) -> list[list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]]:
        weights = _patient_weights(strata, width, rng)
        if cohort.patient is not None:
            weights = weights[cohort.patient]
        out = []
        for whole, row in zip(wholes, plans, strict=True):
            everyone = whole.values(weights)
            out.append([plan.with_overall(weights, everyone) for plan in row])
        return out

    blocks = _in_blocks(block, cohort.n, n_resamples, seed, 1)
    return [[_draws([b[s][g] for b in blocks], plans[s][g]) for g in range(len(groupings))] for s in range(len(scores))]


def shuffle(
    cohort: Cohort,
    score: np.ndarray,
    groupings: Sequence[GroupCodes],
    *,
    threshold: float | None,
    n_permutations: int,
    seed: int,
    own: Sequence[Metric] = (),
) -> list[dict[str, np.ndarray]]:
    """Metrics that compare groups, under shuffled group labels: float64 (n_permutations,) each, for each attribute.

    AUC and the error rates: patients swap groups with patients of the same label, which keeps every group's n+ and n-.
    Everything else: with any patient. The shuffles depend on labels, patients and groups, not on the score.
    """
    plans = [_Plan(cohort.label, score, grouping, threshold, own) for grouping in groupings]
    over_everyone = (*OVER_EVERYONE, *(one.name for one in own))
    out: list[dict[str, np.ndarray]] = [{} for _ in groupings]
    for family, unit_of_row, strata in _families(cohort, groupings):
        one_stratum = [np.concatenate(strata)]
        n_units = len(one_stratum[0])
        # The group of each unit, for every grouping of the family.
        group_of = [_first_of_unit(groupings[g].code, unit_of_row, n_units) for g in family]

        def block(
            rng: np.random.Generator,
            width: int,
            family: list[int] = family,
            unit_of_row: np.ndarray | None = unit_of_row,
            strata: list[np.ndarray] = strata,
            one_stratum: list[np.ndarray] = one_stratum,
            group_of: list[np.ndarray] = group_of,
        ) -> list[dict[str, np.ndarray]]:
            within = _permutations(strata, width, rng)
            anyone = _permutations(one_stratum, width, rng) if threshold is not None or own else None
            results = []
            for g, groups in zip(family, group_of, strict=True):
                shuffled = groups[within] if unit_of_row is None else groups[within[unit_of_row]]
                result = plans[g].shuffled(shuffled, WITHIN_LABEL)
                if anyone is not None:
                    shuffled = groups[anyone] if unit_of_row is None else groups[anyone[unit_of_row]]
                    result |= plans[g].shuffled(shuffled, over_everyone)
                results.append(result)
            return results

        n_rows = plans[family[0]].n
        blocks = _in_blocks(block, n_rows, n_permutations, seed, 2 + family[0])
        for i, g in enumerate(family):
            values = {name: np.concatenate([b[i][name] for b in blocks], axis=1) for name in blocks[0][i]}
            out[g] = plans[g].summary(plans[g].overall_point(), values)
    return out


class _Plan:
    """One score and one attribute, sorted and indexed once for all resamples."""

    def __init__(
        self,
        label: np.ndarray,
        score: np.ndarray,
        grouping: GroupCodes,
        threshold: float | None,
        own: Sequence[Metric] = (),
    ) -> None:
        self.grouping, self.threshold, self.own = grouping, threshold, own
        self.rows = grouping.rows
        self.label, self.score = grouping.of(label), grouping.of(score)
        self.n, self.n_groups = len(self.label), len(grouping.names)
        order = np.argsort(self.score, kind="stable")
        self.everyone = _ranked(self.label, self.score, order)
        code = grouping.code[order]
        self.ranked = [_ranked(self.label, self.score, order[code == g]) for g in range(self.n_groups)]
        counts = np.array([(len(r.positive), len(r.negative)) for r in self.ranked]).reshape(-1, 2)
        both, positive, negative = counts.min(1) > 0, counts[:, 0] > 0, counts[:, 1] > 0
        self.keep = {name: np.ones(self.n_groups, bool) for name in GROUP_METRICS}
        self.keep |= {"auc": both, "f1": positive, "true_positive_rate": positive, "false_positive_rate": negative}
        for one in own:
            self.keep[one.name] = ~np.isnan(self._own_values(one, grouping.code[:, None], None)[:, 0])
        if threshold is not None:
            cell, bin_ = 2 * self.label + (self.score >= threshold), calibration_bin(self.score)
            ones, off = np.ones(self.n), self.score - self.label
            self.cells = _indicator(4 * grouping.code + cell, 4 * self.n_groups, ones)
            self.bins = _indicator(N_BINS * grouping.code + bin_, N_BINS * self.n_groups, off)
            # Four cells of the confusion matrix, then calibration bins, of everyone: multiplied by who is in a group.
            self.table = sparse.vstack([_indicator(cell, 4, ones), _indicator(bin_, N_BINS, off)], format="csr")

    def values(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Group metrics under row weights of shape (n, B): (n_groups, B) each."""
        out = {"auc": np.stack([_auc(r, weights[r.positive], weights[r.negative]) for r in self.ranked])}
        for one in self.own:
            code = np.broadcast_to(self.grouping.code[:, None], weights.shape)
            out[one.name] = self._own_values(one, code, weights.astype(np.intp))
        if self.threshold is None:
            return out
        width = weights.shape[1]
        cells = (self.cells @ weights).reshape(self.n_groups, 4, width)
        out |= rates(cells[:, 0], cells[:, 1], cells[:, 2], cells[:, 3])
        off = np.abs((self.bins @ weights).reshape(self.n_groups, N_BINS, width)).sum(1)
        out["calibration_error"] = ratio(off, cells.sum(1))
        return out

    def _own_values(self, metric: Metric, code: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """A metric of your own where row i of column b is in group code[i, b], counted weights[i, b] times."""
        out = np.full((self.n_groups, code.shape[1]), np.nan)
        for b in range(code.shape[1]):
            rows = np.arange(self.n) if weights is None else np.repeat(np.arange(self.n), weights[:, b])
            for g in range(self.n_groups):
                mine = rows[code[rows, b] == g]
                if len(mine):
                    out[g, b] = metric.of(self.label[mine], self.score[mine], self.threshold)
        return out

    def with_overall(
        self, weights: np.ndarray, everyone: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(metrics of everyone in these rows, group metrics)."""
        if self.rows is not None:
            weights = weights[self.rows]
            everyone = self._whole().values(weights)
        return everyone, self.values(weights)

    def shuffled(self, code: np.ndarray, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """Group metrics where row i of column b is in group code[i, b]: (n_groups, B) for each wanted metric."""
        out = {one.name: self._own_values(one, code, None) for one in self.own if one.name in wanted}
        if "auc" in wanted:
            ranked = self.everyone
            positive, negative = code[ranked.positive], code[ranked.negative]
            out["auc"] = np.stack([_auc(ranked, positive == g, negative == g) for g in range(self.n_groups)])
        if self.threshold is None:
            return out
        table = self.table if "calibration_error" in wanted else self.table[:4]
        sums = np.empty((self.n_groups, table.shape[0], code.shape[1]))
        for g in range(self.n_groups - 1):
            sums[g] = table @ (code == g).astype(np.float64)
        # Groups only swap members: the last group has the rows that the others do not have.
        sums[-1] = table.sum(axis=1)[:, None] - sums[:-1].sum(axis=0)
        found = rates(*np.moveaxis(sums[:, :4], 1, 0))
        if "calibration_error" in wanted:
            found["calibration_error"] = ratio(np.abs(sums[:, 4:]).sum(1), sums[:, :4].sum(1))
        return out | {name: values for name, values in found.items() if name in wanted}

    def overall_point(self) -> dict[str, np.ndarray]:
        """Metrics of everyone without resampling, shape (1,) each; a shuffle of groups does not change them."""
        return {name: values[0] for name, values in self._whole().values(np.ones((self.n, 1))).items()}

    def _whole(self) -> _Plan:
        return _Plan(self.label, self.score, one_group(self.n), self.threshold, self.own)

    def summary(self, overall: dict[str, np.ndarray], groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return summarise(overall, {name: values[self.keep[name]] for name, values in groups.items()})


@dataclass(frozen=True)
class _Ranked:
    """Positives and negatives by rising score; positive i beats negatives [0, below[i]) and ties up to upto[i]."""

    positive: np.ndarray
    negative: np.ndarray
    below: np.ndarray
    upto: np.ndarray
    tied: bool


def _ranked(label: np.ndarray, score: np.ndarray, order: np.ndarray) -> _Ranked:
    positive, negative = order[label[order]], order[~label[order]]
    below = np.searchsorted(score[negative], score[positive], side="left")
    upto = np.searchsorted(score[negative], score[positive], side="right")
    return _Ranked(positive, negative, below, upto, bool((below != upto).any()))


def _auc(ranked: _Ranked, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Weighted AUC of each column; NaN where a class has no weight.

    Weights are (n+, B) and (n-, B) in the order of `ranked`; a bool array says who is in.
    """
    below = np.zeros((len(negative) + 1, negative.shape[1]))
    below[1:] = negative  # as float first: a cumulative sum of a bool array is slow
    np.cumsum(below, axis=0, out=below)
    wins = _column_sums(positive, below[ranked.below])
    if ranked.tied:
        wins = 0.5 * (wins + _column_sums(positive, below[ranked.upto]))
    return ratio(wins, positive.sum(0) * below[-1])


def _column_sums(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ_i weights[i, b] · values[i, b]; `values` may be overwritten."""
    return np.multiply(values, weights, out=values).sum(0)


def _indicator(cell: np.ndarray, n_cells: int, value: np.ndarray) -> sparse.csr_array:
    """(n_cells, n): row c sums `value` over the rows of cell c."""
    n = len(cell)
    return sparse.csr_array((value.astype(np.float64), (cell, np.arange(n))), shape=(n_cells, n))


def _strata(label: np.ndarray, unit: np.ndarray | None) -> list[np.ndarray]:
    """Units (rows, or patients) by label: those with negatives only, positives only, both."""
    if unit is None:
        return [np.flatnonzero(~label), np.flatnonzero(label)]
    positives = np.bincount(unit, weights=label)
    n = np.bincount(unit)
    kinds = (positives == 0, positives == n, (positives > 0) & (positives < n))
    return [np.flatnonzero(kind) for kind in kinds if kind.any()]


def _patient_weights(strata: list[np.ndarray], width: int, rng: np.random.Generator) -> np.ndarray:
    """How often each patient is drawn: (n_patients, width), every stratum keeping its size."""
    weights = np.empty((sum(map(len, strata)), width))
    columns = np.arange(width)
    for members in strata:
        m = len(members)
        drawn = rng.integers(0, m, (m, width)) * width + columns
        weights[members] = np.bincount(drawn.ravel(), minlength=m * width).reshape(m, width)
    return weights


def _permutations(strata: list[np.ndarray], width: int, rng: np.random.Generator) -> np.ndarray:
    """(n_units, width): each column sends units to units of their stratum."""
    out = np.empty((sum(map(len, strata)), width), np.int32)
    for members in strata:
        rows = np.tile(members.astype(np.int32), (width, 1))
        out[members] = rng.permuted(rows, axis=1, out=rows).T
    return out


def _families(
    cohort: Cohort, groupings: Sequence[GroupCodes]
) -> Iterator[tuple[list[int], np.ndarray | None, list[np.ndarray]]]:
    """Attributes that can share their shuffles: (their places, unit of each row or None, strata of units).

    A unit is a patient. Where an attribute varies within a patient, a unit is a patient's rows of one group.
    """
    shared: list[int] = []
    for g, grouping in enumerate(groupings):
        if len(grouping.names) == 0:
            continue
        label = grouping.of(cohort.label)
        if cohort.patient is None:
            if grouping.rows is None:
                shared.append(g)
            else:
                yield [g], None, _strata(label, None)
            continue
        patient = grouping.of(cohort.patient)
        pairs, unit = np.unique(patient * len(grouping.names) + grouping.code, return_inverse=True)
        if grouping.rows is None and len(pairs) == cohort.n_patients:
            shared.append(g)
        else:
            yield [g], unit, _strata(label, unit)
    if shared:
        yield shared, cohort.patient, _strata(cohort.label, cohort.patient)


def _first_of_unit(code: np.ndarray, unit_of_row: np.ndarray | None, n_units: int) -> np.ndarray:
    """Group of each unit; small integers, as they are gathered many times."""
    small = code.astype(np.int16)
    if unit_of_row is None:
        return small
    group = np.empty(n_units, np.int16)
    group[unit_of_row] = small
    return group


def _by_rising_score(
    cohort: Cohort, scores: Sequence[np.ndarray], groupings: Sequence[GroupCodes]
) -> tuple[Cohort, list[np.ndarray], list[GroupCodes]]:
    """The same rows by rising score (the sum of several), so that weights are read from memory in order.

    The sum does not depend on which model is named first, so the comparison does not either.
    """
    order = np.argsort(np.sum(scores, axis=0), kind="stable")
    place = np.empty(cohort.n, np.intp)
    place[order] = np.arange(cohort.n)
    moved = []
    for grouping in groupings:
        rows = None if grouping.rows is None else place[grouping.rows]
        own = order if rows is None else np.argsort(rows)
        moved.append(replace(grouping, code=grouping.code[own], rows=None if rows is None else rows[own]))
    patient = None if cohort.patient is None else cohort.patient[order]
    return replace(cohort, label=cohort.label[order], patient=patient), [score[order] for score in scores], moved


def _in_blocks(
    work: Callable[[np.random.Generator, int], object], n: int, n_columns: int, seed: int, purpose: int
) -> list:
    """Call `work(rng, width)` until `n_columns` are done, in threads; results in order."""
    width = int(np.clip(_BLOCK_CELLS // n, *_BLOCK_WIDTHS))
    width = max(1, min(width, _LARGEST_BLOCK // n))
    widths = [min(width, n_columns - start) for start in range(0, n_columns, width)]
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence([seed, purpose]).spawn(len(widths))]
    threads = min(_MAX_THREADS, os.cpu_count() or 1, len(widths))
    if threads <= 1:
        return [work(rng, w) for rng, w in zip(streams, widths, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, streams, widths))


def _draws(blocks: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]], plan: _Plan) -> Draws:
    everyone, groups = (
        {name: np.concatenate([block[part][name] for block in blocks], axis=1) for name in blocks[0][part]}
        for part in (0, 1)
    )
    overall = {name: values[0] for name, values in everyone.items()}
    return Draws(overall, groups, plan.summary(overall, groups))
