"""Splits for tables that come without them: by patient, seeded, alike in label and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SPLITS = ("train", "val", "test")


def related_units(*keys: np.ndarray) -> np.ndarray:
    """Numbers of the units that must stay together: rows that share a value of any key, directly or through others.

    Parameters
    ----------
    keys
        Integer codes of length N, one array a key (patient, image); a negative code is shared with nobody.

    Returns
    -------
    numpy.ndarray
        Unit numbers, int64 of length N.

    >>> related_units(np.array([0, 0, 1, 2]), np.array([5, 6, 6, -1])).tolist()
    [0, 0, 0, 1]
    """
    n = len(keys[0])
    rows, columns, width = [], [], n
    for key in keys:
        known = key >= 0
        _, code = np.unique(key[known], return_inverse=True)
        rows.append(np.flatnonzero(known))
        columns.append(width + code)
        width += int(code.max(initial=-1)) + 1
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(width, width))
    component = connected_components(graph, directed=False)[1][:n]
    _, first, unit = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[unit]


def make_splits(
    pair_id: Sequence[str],
    unit: np.ndarray,
    label: np.ndarray,
    groups: Sequence[np.ndarray],
    shares: Mapping[str, float],
    seed: int,
) -> np.ndarray:
    """Deal units out to train, val and test.

    The units are sorted by label, then by groups, then at random; walking along that order, each goes to the split that
    is furthest behind its share of the pairs so far, counted for each label on its own. So neighbours in label and
    groups are spread over the splits in proportion. Afterwards a split that lacks a label gets a unit from the training
    split, where there are enough.

    Parameters
    ----------
    pair_id
        Length N; the result depends on them, not on the order of the rows.
    unit
        Unit numbers of length N, as from `related_units`.
    label
        0 or 1, length N. A unit counts as positive where at least half of its pairs are.
    groups
        Integer codes of length N, one array an attribute, the most important first.
    shares
        Of the pairs, for "train", "val" and "test"; they add up to 1.
    seed
        Not negative.

    Returns
    -------
    numpy.ndarray
        Codes into ("train", "val", "test"), int8 of length N.

    >>> label = np.arange(100) % 2
    >>> ids, shares = [f"p{i}" for i in range(100)], {"train": 0.7, "val": 0.1, "test": 0.2}
    >>> split = make_splits(ids, np.arange(100), label, [], shares, 0)
    >>> np.bincount(split).tolist(), np.bincount(split[label == 1]).tolist()
    ([70, 10, 20], [35, 5, 10])
    """
    n_units = int(unit.max(initial=-1)) + 1
    size = np.bincount(unit, minlength=n_units)
    positive = 2 * np.bincount(unit, label, minlength=n_units) >= size
    # A unit is known by its first pair_id, so that another order of the rows gives the same splits.
    by_id = np.argsort(np.asarray(pair_id, dtype=object), kind="stable")
    order_of_first = np.full(n_units, len(unit))
    np.minimum.at(order_of_first, unit[by_id], np.arange(len(unit)))
    draw = np.empty(n_units)
    draw[np.argsort(order_of_first)] = np.random.default_rng([seed, 0x5B117]).random(n_units)
    keys: list[np.ndarray] = [draw]
    for codes in reversed(list(groups)):
        least = np.full(n_units, np.iinfo(np.int64).max)
        np.minimum.at(least, unit, np.asarray(codes, np.int64))
        keys.append(least)
    keys.append(positive)
    order = np.lexsort(keys)

    share = np.array([shares.get(name, 0.0) for name in SPLITS])
    split_of = np.empty(n_units, np.int8)
    for value in (False, True):
        seen, behind = 0, [0.0, 0.0, 0.0]
        chosen = order[positive[order] == value]
        train, val, test = share.tolist()
        for one, weight in zip(chosen.tolist(), size[chosen].tolist(), strict=True):
            seen += weight
            behind = [behind[0] + train * weight, behind[1] + val * weight, behind[2] + test * weight]
            best = behind.index(max(behind))
            behind[best] -= weight
            split_of[one] = best
    _lend_missing_labels(split_of, unit, label, size, draw, share)
    return split_of[unit]


def _lend_missing_labels(
    split_of: np.ndarray, unit: np.ndarray, label: np.ndarray, size: np.ndarray, draw: np.ndarray, share: np.ndarray
) -> None:
    """Move the smallest fitting unit of the training split where val or test would lack a label; in place."""
    n_units = len(size)
    holds = [np.bincount(unit, label == value, minlength=n_units) > 0 for value in (0, 1)]
    for target in (2, 1):
        for value in (0, 1):
            if share[target] == 0 or (holds[value] & (split_of == target)).any():
                continue
            for candidate in np.lexsort((draw, size)):
                if split_of[candidate] != 0 or not holds[value][candidate]:
                    continue
                rest = (split_of == 0) & (np.arange(n_units) != candidate)
                if all((held & rest).any() for held in holds if held[split_of == 0].any()):
                    split_of[candidate] = target
                    break
