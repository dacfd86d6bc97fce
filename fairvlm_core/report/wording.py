"""The sentences of a report: intended use, limits, and how to reproduce the run."""

from __future__ import annotations

import shlex

from ..config import RunConfig
from ..fairness import Outcome, PairedDifference, difference_words

INTENDED_USE = (
    "Research use only. This report describes how one trained model behaved on one data set. It is not a medical device "
    "and must not be used for decisions about a patient. Results on other data, cameras, hospitals or countries may be "
    "better or worse."
)
_OWN_OPTIONS = {"epochs": "--epochs", "batch_size": "--batch-size", "seed": "--seed", "folds": "--folds"}


def limits(min_cell: int, n_resamples: int, folds: int = 0) -> list[str]:
    """What a reader must know before quoting a result."""
    lines = [
        "The 95 % intervals of a single run include the chance of drawing these test patients. They do not include the "
        "variation between training seeds, other hospitals, wrong labels, or changes over time.",
        "Small groups lower ES-AUC by chance alone: compare it with the chance level, that of random groups of the same "
        "sizes. A wide interval means too little data; it does not show that groups are equal.",
        (
            "Each pair was scored by the model that did not see its patient. The result describes this way of training, "
            "not one of the models. "
            if folds
            else "The epoch was selected on validation; the selected model scored the test split once. "
        )
        + "If many runs are compared on the same test pairs and the best is reported, its result is too good.",
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


def reproduction(config: RunConfig, fingerprint: str) -> list[str]:
    """Commands that reproduce the run. DATA is the data folder; its fingerprint identifies it.

    >>> reproduction(RunConfig.build("dbpm", {"seed": 3, "mining.faulty_sd": 2.5}), "ab12")[0]
    'fairvlm train DATA --preset dbpm --model tiny --seed 3 --set mining.faulty_sd=2.5'
    """
    words = ["fairvlm", "train", "DATA", "--preset", config.preset, "--model", config.model]
    for key, (value, _) in config.changes.items():
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
