"""Tables and sentences of the page on losses; the numbers come from `fairvlm_core.analysis.loss_distributions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from fairvlm_core.analysis.divergences import GroupDivergence
from fairvlm_core.analysis.loss_distributions import SMALL, Distributions, QuantileShift
from fairvlm_core.words import NOTHING, number, span

QUANTITIES = {"loss": "Loss", "similarity": "Similarity"}


def quantile_table(found: Distributions, epoch: int) -> pd.DataFrame:
    """Group, n, Mean, and the 5 %, 25 %, 50 %, 75 % and 95 % quantiles at an epoch; everyone first."""
    e = found.epochs.index(epoch)
    names = ("Mean", "5 %", "25 %", "Median", "75 %", "95 %")
    rows = [(row.group or "everyone", row.n, row.mean[e], *row.quantiles[e]) for row in found.rows]
    return pd.DataFrame(rows, columns=["Group", "n", *names])


def shift_table(shifts: Sequence[QuantileShift], sinkhorn: Mapping[str, GroupDivergence], unit: str) -> pd.DataFrame:
    """Group, n, difference of medians with its interval, Wasserstein distance, Sinkhorn divergence, level by chance."""
    rows = [
        {
            "Group": s.group,
            "n": s.n,
            "Median minus everyone's": number(s.median[0]) if s.median else f"n < {SMALL}: not shown",
            "95 % interval": span(*s.median[1:]) if s.median else NOTHING,
            f"Wasserstein distance ({unit})": number(s.wasserstein),
            f"Sinkhorn divergence ({unit}²)": number(sinkhorn[s.group].value if s.group in sinkhorn else None, 4),
            "By chance": number(sinkhorn[s.group].chance if s.group in sinkhorn else None, 4),
        }
        for s in shifts
    ]
    return pd.DataFrame(rows)


def farthest(shifts: Sequence[QuantileShift], quantity: str) -> str:
    """A sentence on the group farthest from everyone, and on which side, if the interval of its median excludes zero.

    >>> from fairvlm_core.analysis.loss_distributions import PROBABILITIES
    >>> one = 0 * PROBABILITIES + 0.4
    >>> farthest([QuantileShift("Black", 80, one, one - 0.1, one + 0.1, 0.4)], "loss")
    "Farthest from everyone: Black (n = 80); its median loss is 0.400 above everyone's (95 % interval 0.300 to 0.500)."
    """
    known = [(s, s.median) for s in shifts if s.median]
    if not known:
        return f"Every group has fewer than {SMALL} pairs: nothing can be said about their distributions."
    one, (shift, low, high) = max(known, key=lambda pair: pair[0].wasserstein)
    head = f"Farthest from everyone: {one.group} (n = {one.n:,})"
    if low <= 0 <= high:
        return f"{head}; the interval of its median's difference ({span(low, high)}) includes zero."
    side, reach = ("above", span(low, high)) if shift > 0 else ("below", span(-high, -low))
    return f"{head}; its median {quantity} is {number(abs(shift))} {side} everyone's (95 % interval {reach})."
