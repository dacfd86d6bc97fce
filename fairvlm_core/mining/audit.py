"""Is the miner fair? Turning pairs down is a loss of data, and it may fall on one group of patients more than on others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..cells import UNKNOWN, cell_text, group_name, is_missing
from ..errors import InputError
from ..fairness.intervals import holm, wilson
from ..words import many, p_equals, percent
from .bad_pairs import MiningResult

_EXPECTED = 5  # the usual floor of expected counts below which chi-square is not to be trusted


@dataclass(frozen=True)
class GroupAudit:
    """What a group loses: of its n pairs `n_flagged` are flagged, and 1 − w is taken away on average.

    Intervals are Wilson's for the rate and Student's for the removed weight (None for a group of one).
    """

    group: str
    n: int
    n_flagged: int
    rate: float
    rate_interval: tuple[float, float] | None
    removed_weight: float
    removed_interval: tuple[float, float] | None


@dataclass(frozen=True)
class AttributeAudit:
    """All groups of an attribute, and whether flags depend on it.

    Attributes
    ----------
    groups : tuple of GroupAudit
        In alphabetical order, "Unknown" last.
    test : str
        The test of independence that was used; "none" where there is nothing to test.
    p_value, p_adjusted : float or None
        The second by Holm's method over the attributes.
    ratio : float or None
        Highest rate over lowest rate; infinite where only the lowest is 0, None where nothing is flagged.
    worse : str or None
        The group that is flagged more often than the others, where flags depend on the attribute (`p_adjusted` below
        1 - confidence).
    """

    attribute: str
    groups: tuple[GroupAudit, ...]
    test: str
    p_value: float | None
    p_adjusted: float | None
    ratio: float | None
    worse: str | None = None

    def warning(self, n_tested: int) -> str:
        """That one group loses more of its data, in words; "" where flags do not depend on the attribute."""
        if self.worse is None or self.p_adjusted is None:
            return ""
        n, k = sum(g.n for g in self.groups), sum(g.n_flagged for g in self.groups)
        worst = next(g for g in self.groups if g.group == self.worse)
        others = (k - worst.n_flagged) / (n - worst.n)
        return (
            f"{self.attribute}: pairs of group {worst.group!r} are flagged more often: {percent(worst.rate, 1)} of "
            f"{worst.n:,} against {percent(others, 1)} of the other {n - worst.n:,} ({p_equals(self.p_adjusted)}, "
            f"{self.test}, Holm over {many(n_tested, 'attribute')}). Check them before they are down-weighted."
        )


@dataclass(frozen=True)
class MiningAudit:
    """The audit of a mining result: one `AttributeAudit` an attribute."""

    n: int
    n_flagged: int
    confidence: float
    attributes: tuple[AttributeAudit, ...]

    @property
    def n_tested(self) -> int:
        """Number of attributes that were tested."""
        return sum(audit.p_value is not None for audit in self.attributes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each attribute with a group that is flagged more often."""
        return tuple(line for audit in self.attributes if (line := audit.warning(self.n_tested)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite ratio becomes None with ``"ratio_is_infinite": true``."""
        result = asdict(self)
        result["warnings"] = list(self.warnings)
        result["attributes"] = {}
        for audit in self.attributes:
            values = asdict(audit)
            values["groups"] = {group.pop("group"): _lists(group) for group in values["groups"]}
            values["ratio_is_infinite"] = audit.ratio is not None and math.isinf(audit.ratio)
            if values["ratio_is_infinite"]:
                values["ratio"] = None
            result["attributes"][values.pop("attribute")] = values
        return result

    def to_frame(self) -> pd.DataFrame:
        """One row an attribute and group: n, n_flagged, rate, its interval, removed_weight, its interval, p_adjusted."""
        rows = []
        for audit in self.attributes:
            for group in audit.groups:
                low, high = group.rate_interval or (math.nan, math.nan)
                removed_low, removed_high = group.removed_interval or (math.nan, math.nan)
                rows.append(
                    {
                        "attribute": audit.attribute,
                        "group": group.group,
                        "n": group.n,
                        "n_flagged": group.n_flagged,
                        "rate": group.rate,
                        "rate_low": low,
                        "rate_high": high,
                        "removed_weight": group.removed_weight,
                        "removed_low": removed_low,
                        "removed_high": removed_high,
                        "p_adjusted": math.nan if audit.p_adjusted is None else audit.p_adjusted,
                    }
                )
        return pd.DataFrame(rows)


def audit_mining(
    result: MiningResult,
    attributes: Mapping[str, Any],
    *,
    confidence: float = 0.95,
    n_permutations: int = 9999,
    seed: int = 0,
) -> MiningAudit:
    """Compare by group how many pairs are flagged and how much weight is taken away.

    Two groups are tested by Fisher's exact test. More groups are tested by Pearson's chi-square, from its distribution
    where all expected counts are 5 or more, else from random tables with the same margins. Holm's method over the
    attributes keeps the chance of any false warning below 1 − confidence.

    Parameters
    ----------
    result : MiningResult
        Of N pairs.
    attributes : mapping from name to array of shape (N,)
        Aligned with `result.pair_ids`. None, NaN and blanks form the group "Unknown", which is shown and tested as well.
    confidence : float
        Of the intervals and warnings, within (0, 1).
    n_permutations : int
        Random tables.

    Returns
    -------
    MiningAudit

    Raises
    ------
    InputError
        An attribute of another length, or a setting out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fairvlm_core.mining import mine_bad_pairs
    >>> losses = np.ones((1, 200)); losses[0, :8] = 5.0
    >>> audit = audit_mining(mine_bad_pairs(losses), {"race": ["A"] * 40 + ["B"] * 160})
    >>> [(group.group, group.n_flagged, group.n) for group in audit.attributes[0].groups]
    [('A', 8, 40), ('B', 0, 160)]
    >>> print(audit.warnings[0])
    race: pairs of group 'A' are flagged more often: 20.0 % of 40 against 0.0 % of the other 160 (p < 0.001, Fisher's exact test, Holm over 1 attribute). Check them before they are down-weighted.
    """  # noqa: E501
    if not 0 < confidence < 1:
        raise InputError(f"confidence: must be within 0 and 1 (got {confidence})")
    if n_permutations < 99:
        raise InputError(f"n_permutations: must be 99 or more (got {n_permutations})")
    flagged = result.flagged
    removed = 1.0 - np.asarray(result.weight, float)
    rng = np.random.default_rng(seed)
    audits = []
    for name, values in attributes.items():
        codes, groups = _groups(name, values, len(result))
        sizes = np.bincount(codes, minlength=len(groups))
        hits = np.bincount(codes[flagged], minlength=len(groups))
        test, p_value = _independence(sizes, hits, n_permutations, rng)
        rates = hits / sizes
        audits.append(
            AttributeAudit(
                attribute=str(name),
                groups=_group_audits(groups, sizes, hits, codes, removed, confidence),
                test=test,
                p_value=p_value,
                p_adjusted=None,
                ratio=_ratio(rates),
            )
        )
    adjusted = holm(np.array([math.nan if audit.p_value is None else audit.p_value for audit in audits]))
    audits = [
        replace(a, p_adjusted=float(p), worse=_worse(a) if p < 1 - confidence else None) if np.isfinite(p) else a
        for a, p in zip(audits, adjusted, strict=True)
    ]
    return MiningAudit(
        n=len(result), n_flagged=int(flagged.sum()), confidence=float(confidence), attributes=tuple(audits)
    )


def _groups(name: str, values: Any, n: int) -> tuple[np.ndarray, list[str]]:
    column = pd.Series(np.asarray(values, object) if not isinstance(values, pd.Series) else values.to_numpy())
    if column.shape != (n,):
        raise InputError(
            f"attribute {name!r}: {len(column)} values for {n} mined pairs; give one a pair, in their order"
        )
    texts = [group_name(cell_text(value)) for value in column.tolist()]
    text = pd.Series([UNKNOWN if is_missing(one) else one for one in texts])
    codes, labels = pd.factorize(text, sort=True)
    order = sorted(range(len(labels)), key=lambda i: (labels[i] == UNKNOWN, i))
    place = np.empty(len(labels), int)
    place[order] = np.arange(len(labels))
    return place[codes], [str(labels[i]) for i in order]


def _group_audits(
    groups: list[str], sizes: np.ndarray, hits: np.ndarray, codes: np.ndarray, removed: np.ndarray, confidence: float
) -> tuple[GroupAudit, ...]:
    total = np.bincount(codes, removed, len(groups))
    means = total / sizes
    squares = np.bincount(codes, (removed - means[codes]) ** 2, len(groups))
    audits = []
    for i, group in enumerate(groups):
        n, k = int(sizes[i]), int(hits[i])
        rate_interval = removed_interval = None
        if n > 1:
            low, high = wilson(k / n, n, confidence)
            rate_interval = (float(low), float(high))
            half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * math.sqrt(squares[i] / (n - 1) / n))
            if squares[i] == 0:
                # No pair of this group differs from the others: the removed weight is bounded by the flag rate.
                removed_interval = (0.0, rate_interval[1]) if means[i] == 0 else (float(means[i]), float(means[i]))
            else:
                removed_interval = (max(0.0, float(means[i]) - half), min(1.0, float(means[i]) + half))
        audits.append(GroupAudit(group, n, k, k / n, rate_interval, float(means[i]), removed_interval))
    return tuple(audits)


def _independence(
    sizes: np.ndarray, hits: np.ndarray, n_permutations: int, rng: np.random.Generator
) -> tuple[str, float | None]:
    n, k = int(sizes.sum()), int(hits.sum())
    if len(sizes) < 2 or k in (0, n):
        return "none", None
    if len(sizes) == 2:
        table = np.stack([hits, sizes - hits])
        return "Fisher's exact test", float(stats.fisher_exact(table).pvalue)
    expected = sizes * (k / n)

    def chi_square(flagged: np.ndarray) -> np.ndarray:
        return ((flagged - expected) ** 2 / expected / (1 - k / n)).sum(-1)

    observed = float(chi_square(hits))
    if min(expected.min(), (sizes - expected).min()) >= _EXPECTED:
        return "chi-square test", float(stats.chi2.sf(observed, len(sizes) - 1))
    # The smaller of the two margins is drawn: as many draws as needed, whatever n is.
    random = rng.multivariate_hypergeometric(sizes, k, n_permutations, method="marginals")
    as_extreme = int((chi_square(random) >= observed * (1 - 1e-12)).sum())
    return f"permutation test ({n_permutations} tables)", (as_extreme + 1) / (n_permutations + 1)


def _ratio(rates: np.ndarray) -> float | None:
    if len(rates) < 2 or rates.max() == 0:
        return None
    return float(rates.max() / rates.min()) if rates.min() > 0 else math.inf


def _worse(audit: AttributeAudit) -> str:
    """The group that departs most from the others, by its own chi-square: a rate of one pair in one says little."""
    n, k = sum(g.n for g in audit.groups), sum(g.n_flagged for g in audit.groups)
    return max(audit.groups, key=lambda g: (g.n_flagged - g.n * k / n) / math.sqrt(g.n * (n - g.n))).group


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
