"""Why a pair is flagged or not, in sentences."""

from __future__ import annotations

import numpy as np

from .bad_pairs import MiningResult
from .rules import RANKING_RULES


def explain_pair(result: MiningResult, row: int) -> str:
    """Why the pair in a row of a mining result is flagged or not: where its history lies, and what the rule says.

    >>> from . import mine_bad_pairs
    >>> explain_pair(mine_bad_pairs([[1.0] * 19 + [3.0]]), 19)
    'Its mean loss 3.00 is 4.4 sd above the mean 1.10, beyond the limit of 3: flagged as a wrong note.'
    """
    value = result.mean_loss[row]
    if not np.isfinite(value):
        return "It was never seen in training, so nothing is known of its loss."
    name = f"mean {result.channel}"
    if result.sigma == 0 and result.kind[row] == "clean":
        return f"Its {name} {value:.2f} equals that of the other pairs: the spread is 0."
    middle, unit = ("median", "robust sd") if result.spread == "mad" else ("mean", "sd")
    distance = (value - result.mu) / (result.sigma or 1.0)  # z may be the rule's own ranking
    where = (
        f"Its {name} {value:.2f} is {abs(distance):.1f} {unit} {'above' if distance >= 0 else 'below'} the {middle} "
        f"{result.mu:.2f}"
    )
    rule, kind = RANKING_RULES[result.rule], result.kind[row]
    if rule.explain is not None:
        return f"{rule.explain(result, row)} {where}."
    if kind == "faulty" and rule.gives_posterior:
        share = f"{result.posterior[row]:.2f}"
        return f"{where}; it belongs to the higher group with a probability of {share}: flagged as a wrong note."
    if not rule.ranks_loss:
        flag = {"faulty": "flagged as a wrong note", "noisy": "flagged as a shared marker"}.get(kind, "not flagged")
        return f"The rule {rule.title} ranks it {result.z[row]:+.1f} sd from the middle: {flag}. {where}."
    if kind == "faulty":
        return f"{where}, beyond the limit of {result.faulty_sd:g}: flagged as a wrong note."
    if kind == "noisy":
        return (
            f"{where}, beyond the limit of {result.noisy_sd:g}: flagged as a shared marker. It is so easy that image and "
            "note may share something other than the clinical content."
        )
    if message := result.message:
        return f"{where}. {message[:1].upper()}{message[1:]}."
    return f"{where}, within the limits: not flagged."
