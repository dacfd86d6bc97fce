"""Whether a run ended while validation still improved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..words import signed

_AUC_GAIN = 0.005  # smaller gains are not worth more epochs
_LOSS_FALL = 0.01  # of the loss itself


@dataclass(frozen=True)
class StillLearning:
    """Validation still improved when a run ended: its last `epochs` epochs against as many before them.

    `gain` is the difference of the mean AUC, `loss_fall` that of the mean validation loss (positive: it fell).
    """

    epochs: int
    gain: float
    loss_fall: float

    def __str__(self) -> str:
        """
        >>> str(StillLearning(2, 0.0123, 0.04))
        'Not finished learning: +0.012 validation AUC, mean of the last 2 epochs against the 2 before; more may help.'
        >>> str(StillLearning(1, 0.0123, 0.04))
        'Not finished learning: +0.012 validation AUC, the last epoch against the one before; more may help.'
        """
        k = self.epochs
        compared = "the last epoch against the one" if k == 1 else f"mean of the last {k} epochs against the {k}"
        return f"Not finished learning: {signed(self.gain)} validation AUC, {compared} before; more may help."


def still_learning(auc: Sequence[float], val_loss: Sequence[float]) -> StillLearning | None:
    """Whether validation still improves at the end of a run; None where it does not, or with fewer than two epochs.

    The last third of the epochs is compared with the third before it. It improves if the mean AUC has risen by 0.005 and by
    more than one standard error, from the spread of the epochs within the thirds; or if the mean loss, which varies less,
    has fallen by 1 % and the AUC has not fallen.

    Examples
    --------
    >>> still_learning([0.70, 0.74, 0.78, 0.80, 0.82, 0.83], [3.9, 3.8, 3.7, 3.6, 3.5, 3.4])
    StillLearning(epochs=2, gain=0.035, loss_fall=0.2)
    >>> still_learning([0.909, 0.912, 0.913, 0.900, 0.906, 0.907], [3.77, 3.57, 3.45, 3.47, 3.47, 3.48]) is None
    True
    """
    k = max(1, len(auc) // 3)
    if len(auc) < 2:
        return None
    last, before = np.array(auc[-k:]), np.array(auc[-2 * k : -k])
    gain = float(last.mean() - before.mean())
    loss_fall = float(np.mean(val_loss[-2 * k : -k]) - np.mean(val_loss[-k:]))
    error = float(np.sqrt((last.var(ddof=1) + before.var(ddof=1)) / k)) if k > 1 else np.inf
    rises = gain >= _AUC_GAIN and gain > error
    falls = gain > 0 and loss_fall > _LOSS_FALL * np.mean(val_loss[-k:])
    return StillLearning(k, round(gain, 6), round(loss_fall, 6)) if rises or falls else None
