"""The sentences of a report: what it is for, where it ends, and how to make the run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..config import RunConfig

INTENDED_USE = (
    "Research use only. This report describes how one trained model behaved on one data set. It is not a medical device "
    "and no basis for decisions about a patient; figures on other data, cameras, wards or countries may differ in either "
    "direction."
)
_OWN_OPTIONS = {"model": "--model", "epochs": "--epochs", "batch_size": "--batch-size", "seed": "--seed"}


def limits(min_cell: int, n_resamples: int) -> list[str]:
    """What a reader must know before quoting a figure."""
    lines = [
        "Intervals (95 %) cover the chance of drawing these test patients. They do not cover the chance between training "
        "seeds, other hospitals, wrong labels, or changes over time.",
        "Small groups lower ES-AUC by chance alone: read it beside the level that groups of these sizes reach when "
        "patients are dealt into them at random. A wide interval is a lack of data, not a proof of equality.",
        "The epoch was selected on validation; the test split was scored once, by the selected model. Comparing many runs "
        "on one test split and reporting the best uses the test split up.",
        "Groups are as recorded in the data. A group that is one here may hide several; who has no entry is in Unknown.",
        "A flagged pair is one whose loss stands out. That is a reason to look at it, not a proof that it is wrong.",
    ]
    if not n_resamples:
        lines[0] = "No intervals were computed: nothing here says how far a figure may be off by chance."
    if min_cell > 1:
        lines.append(
            f"Groups with fewer than {min_cell} people in a cell are hidden, and so are groups from which a hidden one "
            "could be computed. ES-AUC and the differences over groups are of all groups, hidden ones as well."
        )
    return lines


def reproduction(config: RunConfig, fingerprint: str) -> list[str]:
    """Command lines that make the run again; DATA stands for a folder of which only the fingerprint is given.

    >>> reproduction(RunConfig.build("dbpm", {"seed": 3, "mining.faulty_sd": 2.5}), "ab12")[0]
    'fairvlm train DATA --preset dbpm --seed 3 --set mining.faulty_sd=2.5'
    """
    usual = RunConfig.build(config.preset).flat()
    words = ["fairvlm", "train", "DATA", "--preset", config.preset]
    for key, value in config.flat().items():
        if key in ("schema_version", "preset") or value == usual.get(key):
            continue
        if isinstance(value, list):
            value = ",".join(str(item) for item in value)
        words += [_OWN_OPTIONS[key], str(value)] if key in _OWN_OPTIONS else ["--set", f"{key}={value}"]
    check = "from fairvlm_core import PairTable; print(PairTable.read('DATA').fingerprint)"
    return [shlex.join(words), f'python -c "{check}"  # must print {fingerprint}']


def verdict(words: str) -> str:
    """The verdict of a paired difference without its figures, which stand beside it.

    >>> verdict("B is better: +1.0 to +2.0 points, n = 600"), verdict("no interval: 0.0 points, n = 19 (5 patients)")
    ('this run is better', 'no interval (5 patients)')
    """
    head, _, rest = words.partition(":")
    reason = rest[rest.find("(") :] if head == "no interval" and "(" in rest else ""
    return f"{head.replace('B is', 'this run is')} {reason}".strip()


def comparison_sentence(overall: Mapping[str, Any], run: str, baseline: str) -> str:
    """What the paired comparison of AUC comes to."""
    if overall["difference"] is None:
        return f"{run} and {baseline} cannot be compared: {overall['verdict']}."
    return f"AUC of {run} against {baseline}, same test patients (n = {overall['n']}): {overall['verdict']}."
