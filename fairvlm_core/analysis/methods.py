"""What one method is: runs on the same data that differ only by their seed. Commands, pages and reports all use this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ..errors import InputError
from ..runs import Run, RunStore
from ..words import many
from .entries import RunEntry, number_of, read_entry

# Settings that do not change what is trained, or that the name of the method says already.
NOT_METHOD = frozenset({"schema_version", "seed", "device", "preset", "chunk_size", "checkpointing"})
_SHORT = {"fairness.weight": "λ"}


@dataclass(frozen=True)
class Method:
    """Runs with the same settings (and verdicts of a review) on the same data, by seed; each seed once.

    `name` is the preset, with the settings in which it differs from the other methods of that preset.
    """

    name: str
    runs: tuple[RunEntry, ...]

    @property
    def seeds(self) -> list[int]:
        return [entry.seed for entry in self.runs]

    @property
    def label(self) -> str:
        """
        >>> Method("clip", (RunEntry("0001-clip-s0", "finished"),)).label
        'clip · 1 seed'
        """
        return f"{self.name} · {many(len(self.runs), 'seed')}"


class Reason(Enum):
    """Why a run is not compared."""

    NOT_FINISHED = "not finished"
    OTHER_DATA = "other data"
    REPEATED = "repeated"


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why; `other` is the run whose data count, or that repeats it."""

    run: RunEntry
    reason: Reason
    other: RunEntry | None = None

    def __str__(self) -> str:
        if self.other is None or self.reason is Reason.NOT_FINISHED:
            note = f" ({self.run.note})" if self.run.note else ""
            return f"run {self.run.id} is {self.run.state}: only finished runs can be compared{note}"
        if self.reason is Reason.OTHER_DATA:
            return (
                f"run {self.run.id} is on other data ({self.run.data}) than run {self.other.id} ({self.other.data}): "
                "only runs on the same test patients can be compared"
            )
        return (
            f"run {self.run.id} and the newer run {self.other.id} are the same method and seed: only one of them can be "
            "compared"
        )


def comparable(entries: Sequence[RunEntry], *, same_data: bool = True) -> tuple[list[RunEntry], list[LeftOut]]:
    """The runs that can be compared, and those that cannot.

    A run must be finished, on the data of the first finished run (not checked with `same_data=False`), and the newest of
    its method and seed.
    """
    left_out = [LeftOut(entry, Reason.NOT_FINISHED) for entry in entries if entry.state != "finished"]
    finished = [entry for entry in entries if entry.state == "finished"]
    if same_data:
        left_out += [
            LeftOut(e, Reason.OTHER_DATA, finished[0]) for e in finished if e.fingerprint != finished[0].fingerprint
        ]
        finished = [entry for entry in finished if entry.fingerprint == finished[0].fingerprint]
    kept = newest_of_each_seed(finished)
    newest = {(*_key(entry), entry.seed): entry for entry in kept}
    left_out += [LeftOut(e, Reason.REPEATED, newest[(*_key(e), e.seed)]) for e in finished if e not in kept]
    return kept, left_out


def newest_of_each_seed(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The newest run of each method and seed: a repetition says nothing about chance between seeds.

    >>> made = [RunEntry(f"{i:04d}-clip-s{s}", "finished", seed=s, method_key="a") for i, s in enumerate((0, 1, 0), 1)]
    >>> [entry.id for entry in newest_of_each_seed(made)]
    ['0002-clip-s1', '0003-clip-s0']
    """
    newest = {(*_key(entry), entry.seed): entry for entry in sorted(entries, key=lambda entry: number_of(entry.id))}
    return [entry for entry in entries if newest[(*_key(entry), entry.seed)] is entry]


def methods_of(entries: Sequence[RunEntry]) -> list[Method]:
    """Runs grouped by method, in the order of their first run; the newest run of each seed.

    >>> entries = [RunEntry(f"{i:04d}-clip-s{s}", "finished", preset="clip", seed=s, method_key=key, settings={"epochs": e})
    ...            for i, (s, key, e) in enumerate([(1, "a", 6), (0, "a", 6), (0, "b", 3)], start=1)]
    >>> [(method.name, method.seeds) for method in methods_of(entries)]
    [('clip (epochs=6)', [0, 1]), ('clip (epochs=3)', [0])]
    """
    grouped: dict[tuple[str, str], list[RunEntry]] = {}
    for entry in newest_of_each_seed(entries):
        grouped.setdefault(_key(entry), []).append(entry)
    firsts = [runs[0] for runs in grouped.values()]
    names = [_name(first, firsts) for first in firsts]
    # Models of the same file name in different folders look the same: paths are not shown.
    names = [f"{n} [{e.method_key}]" if names.count(n) > 1 else n for n, e in zip(names, firsts, strict=True)]
    return [
        Method(name, tuple(sorted(runs, key=lambda entry: entry.seed)))
        for name, runs in zip(names, grouped.values(), strict=True)
    ]


def reference_first(methods: Sequence[Method]) -> list[Method]:
    """The methods, with plain fine-tuning (no mining, no fairness term, no group method) first; of several, that with most
    seeds.

    >>> runs = {"plus": {"mining.enabled": True}, "clip": {"mining.enabled": False}}
    >>> made = [Method(name, (RunEntry(name, "finished", settings=settings),)) for name, settings in runs.items()]
    >>> [method.name for method in reference_first(made)]
    ['clip', 'plus']
    """
    plain = [method for method in methods if _is_plain(method.runs[0])]
    first = max(plain, key=lambda method: len(method.runs), default=None)
    return sorted(methods, key=lambda method: method is not first) if first else list(methods)


def _is_plain(entry: RunEntry) -> bool:
    on = (entry.settings.get(name) for name in ("mining.enabled", "fairness.weight"))
    return not any(on) and entry.settings.get("groups.method", "none") == "none" and not entry.verdicts


def with_changes(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The entries, each with the settings in which it differs from other methods of its preset on the same data.

    >>> runs = [RunEntry(f"{i:04d}-plus-s0", "finished", preset="plus", method_key=f"{w}", settings={"fairness.weight": w})
    ...         for i, w in enumerate((0.0, 3.0), start=1)]
    >>> [entry.label for entry in with_changes(runs)]
    ['1 · plus (λ=0) · seed 0', '2 · plus (λ=3) · seed 0']
    """
    rivals: dict[tuple[str, str], dict[str, RunEntry]] = {}
    for entry in entries:
        rivals.setdefault((entry.fingerprint, entry.method), {}).setdefault(entry.method_key, entry)
    return [
        replace(entry, changes=_changes(entry, list(rivals[entry.fingerprint, entry.method].values())))
        for entry in entries
    ]


def method_of(run: Run) -> Method:
    """The method of a run: it and the finished runs of its workspace that differ from it only by their seed.

    Raises
    ------
    InputError
        The run is not finished.
    """
    mine = read_entry(run, with_report=False)
    if mine.state != "finished":
        raise InputError(str(LeftOut(mine, Reason.NOT_FINISHED)))
    others = [
        read_entry(other, with_report=False) for other in RunStore(run.path.parent.parent).runs() if other.id != run.id
    ]
    same = [e for e in others if e.state == "finished" and _key(e) == _key(mine) and e.seed != mine.seed]
    (method,) = methods_of([mine, *same])
    return method


def varied_settings(entries: Sequence[RunEntry]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs, each with one value per run.

    >>> runs = [RunEntry("1", "finished", settings={"epochs": 6, "mining.enabled": on, "seed": on}) for on in (0, 1)]
    >>> varied_settings(runs)
    {'mining.enabled': [0, 1]}
    """
    names = dict.fromkeys(name for entry in entries for name in entry.settings if name not in NOT_METHOD)
    columns = {name: [entry.settings.get(name) for entry in entries] for name in names}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def _key(entry: RunEntry) -> tuple[str, str]:
    return entry.fingerprint, entry.method_key


def _name(entry: RunEntry, firsts: Sequence[RunEntry]) -> str:
    rivals = [entry, *(e for e in firsts if e.method == entry.method and e is not entry)]
    parts = _parts(rivals)
    if len({rival.fingerprint for rival in rivals}) > 1:
        one_name = len({rival.data for rival in rivals}) == 1
        parts["data"] = entry.fingerprint[:8] if one_name else entry.data
    changes = _written(parts)
    return f"{entry.method} ({changes})" if changes else entry.method


def _parts(rivals: Sequence[RunEntry]) -> dict[str, Any]:
    """In what the first of these runs differs from the others: settings, and the verdicts it was trained with."""
    parts = {name: values[0] for name, values in varied_settings(rivals).items()}
    if len({rival.verdicts for rival in rivals}) > 1:
        parts["verdicts"] = rivals[0].verdicts
    return parts


def _changes(entry: RunEntry, rivals: Sequence[RunEntry]) -> str:
    others = [rival for rival in rivals if rival.method_key != entry.method_key]
    return _written(_parts([entry, *others])) if others else ""


def _written(parts: Mapping[str, Any]) -> str:
    return ", ".join(f"{_SHORT.get(name, name)}={_plain(value)}" for name, value in parts.items())


def _plain(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
