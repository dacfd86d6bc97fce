"""Chosen runs are kept in the address (`?run=…`) and, between pages, in the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairvlm_core.analysis.entries import number_of


@dataclass(frozen=True)
class RunChoice:
    """`chosen` are ids that exist, in the order asked for; `unknown` what was asked for and does not exist."""

    chosen: tuple[str, ...]
    unknown: tuple[str, ...] = ()


def find_runs(asked: Sequence[str], known: Sequence[str]) -> RunChoice:
    """Runs named by id, by number or as `latest`; `known` ids are oldest first.

    >>> find_runs(["2", "0001-clip-s0", "2", "9"], ["0001-clip-s0", "0002-dbpm-s0"])
    RunChoice(chosen=('0002-dbpm-s0', '0001-clip-s0'), unknown=('9',))
    """
    chosen: list[str] = []
    unknown: list[str] = []
    numbers = {number_of(run_id): run_id for run_id in known}
    for name in asked:
        if name in known:
            found = name
        elif name == "latest" and known:
            found = known[-1]
        else:
            found = numbers.get(int(name)) if name.isascii() and name.isdigit() else None
        if found is None:
            unknown.append(name)
        elif found not in chosen:
            chosen.append(found)
    return RunChoice(tuple(chosen), tuple(unknown))


def picked(values: Sequence[str], known: Sequence[str]) -> list[str]:
    """Run ids from a selector's values: ids, or a label from before the run's state changed.

    >>> picked(["0001-clip-s0", "2 · dbpm · seed 0 · running"], ["0001-clip-s0", "0002-dbpm-s0"])
    ['0001-clip-s0', '0002-dbpm-s0']
    """
    return list(find_runs([value if value in known else value.partition(" ")[0] for value in values], known).chosen)


def settle(
    asked: Sequence[str], seen: Sequence[str] | None, remembered: Sequence[str], known: Sequence[str]
) -> RunChoice:
    """The current choice: an address that has changed since it was last `seen`, else what the session remembers.

    >>> known = ["0001-clip-s0", "0002-dbpm-s0"]
    >>> settle([], None, ["0001-clip-s0"], known).chosen      # another page without ?run= in its address
    ('0001-clip-s0',)
    >>> settle(["2"], None, ["0001-clip-s0"], known).chosen   # a deep link
    ('0002-dbpm-s0',)
    >>> settle(["2"], ["2"], ["0001-clip-s0"], known).chosen  # the selector was used since
    ('0001-clip-s0',)
    """
    if list(asked) and list(asked) != list(seen or ()):
        return find_runs(asked, known)
    return RunChoice(tuple(run_id for run_id in remembered if run_id in known))
