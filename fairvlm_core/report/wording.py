"""The sentences of a report: intended use, limits, and how to reproduce the run."""

from __future__ import annotations

import shlex
from typing import Any

from ..config import RunConfig
from ..fairness import Outcome, PairedDifference, difference_words

INTENDED_USE = (
    "Research use only. This report describes how one trained model behaved on one data set. It is not a medical device "
    "and must not be used for decisions about a patient. Results on other data, cameras, hospitals or countries may be "
    "better or worse."
)
_OWN_OPTIONS = {"model": "--model", "epochs": "--epochs", "batch_size": "--batch-size", "seed": "--seed"}


def limits(min_cell: int, n_resamples: int) -> list[str]:
    """What a reader must know before quoting a result."""
    lines = [
        "The 95 % intervals of a single run include the chance of drawing these test patients. They do not include the "
        "variation between training seeds, other hospitals, wrong labels, or changes over time.",
        "Small groups lower ES-AUC by chance alone: compare it with the chance level, that of random groups of the same "
        "sizes. A wide interval means too little data; it does not show that groups are equal.",
        "The epoch was selected on validation; the selected model scored the test split once. If many runs are compared on "
        "one test split and the best is reported, its result is too good.",
        "Groups are as recorded in the data. One recorded group may contain several real ones; patients without an entry "
        "are in Unknown.",
        "A flagged pair has an unusual loss. That is a reason to check it, not a proof that it is wrong.",
    ]
    if not n_resamples:
        lines[0] = "No intervals were computed: this report does not show how much the metrics vary by chance."
    if min_cell > 1:
        lines.append(
            f"Groups with fewer than {min_cell} people in a cell are hidden, and so are groups from which a hidden count "
            "could be computed. ES-AUC and the differences between groups include all groups, also the hidden ones."
        )
    return lines


def changes(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ from those of the preset: value and the preset's value."""
    usual = RunConfig.build(config.preset).flat()
    own = {key: value for key, value in config.flat().items() if key not in ("schema_version", "preset")}
    return {key: (value, usual.get(key)) for key, value in own.items() if value != usual.get(key)}


def reproduction(config: RunConfig, fingerprint: str) -> list[str]:
    """Commands that reproduce the run. DATA is the data folder; its fingerprint identifies it.

    >>> reproduction(RunConfig.build("dbpm", {"seed": 3, "mining.faulty_sd": 2.5}), "ab12")[0]
    'fairvlm train DATA --preset dbpm --seed 3 --set mining.faulty_sd=2.5'
    """
    words = ["fairvlm", "train", "DATA", "--preset", config.preset]
    for key, (value, _) in changes(config).items():
        if isinstance(value, list):
            value = ",".join(str(item) for item in value)
        words += [_OWN_OPTIONS[key], str(value)] if key in _OWN_OPTIONS else ["--set", f"{key}={value}"]
    check = "from fairvlm_core import PairTable; print(PairTable.read('DATA').fingerprint)"
    return [shlex.join(words), f'python -c "{check}"  # must print {fingerprint}']


def comparison_sentence(overall: PairedDifference, run: str, baseline: str) -> str:
    """The result of the paired comparison of AUC."""
    if overall.outcome is Outcome.UNDEFINED:
        return f"{run} and {baseline} cannot be compared: {overall.difference}."
    result = difference_words(overall, run)
    return f"AUC of {run} compared with {baseline}, same test patients (n = {overall.n}): {result}."
