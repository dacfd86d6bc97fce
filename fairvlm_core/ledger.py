"""The raw loss of every pair in every epoch, keyed by the pair's stable id.

Mining needs the history of a *pair*. A loader shuffles and the last batch is short, so nothing here is indexed by position
in a batch. Rows are pairs, in the order of `PairLossLedger.pair_ids`. Unseen values are NaN, and recording a pair twice in
an epoch is an error.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Literal

import numpy as np
import pandas as pd

from .errors import InputError

HistoryKind = Literal["mean", "recency", "last"]
_SHOWN_IDS = 5
_SCHEMA = 1
_ON_DISK = "/var/tmp"  # nosec B108: unnamed files only, which nobody else can open; /tmp may be memory
_IN_FILE = 2**20  # bytes of a line (about 260,000 pairs) above which further channels are kept in files


class PairLossLedger:
    """Raw per-pair values L[e, i] of E epochs and N pairs, float32.

    Parameters
    ----------
    pair_ids : sequence of str, length N
        Unique, not blank; numbers are converted to text.
    channels : sequence of str
        Names of the recorded values, ``"loss"`` by default. The first channel must be complete when an epoch is closed. Any
        other (a similarity, a margin) may be missing from an epoch, but then for all of its pairs.

    Raises
    ------
    InputError
        No pairs, blank or duplicate ids, or unusable channel names.

    Notes
    -----
    One channel of 1,000,000 pairs and 20 epochs takes 80 MB. With more than about 260,000 pairs only the first channel is
    held in memory. Each other channel is a memory map of an unnamed temporary file in ``$TMPDIR`` or ``/var/tmp``, with the
    same bits; where that disk is full it stays in memory. Epochs are counted from 0.

    Examples
    --------
    >>> ledger = PairLossLedger(["p1", "p2", "p3"])
    >>> ledger.record(0, [2, 0], loss=[1.5, 0.5])            # a batch: rows in the order of pair_ids
    >>> ledger.record(0, [1], loss=[1.0])
    >>> ledger.close_epoch(0)                                # checks that every pair was seen exactly once
    >>> ledger.losses
    array([[0.5, 1. , 1.5]], dtype=float32)
    >>> ledger.record(1, [0, 0], loss=[0.4, 0.4])
    Traceback (most recent call last):
    ...
    fairvlm_core.errors.InputError: epoch 1: rows name a pair twice: p1; record every pair once an epoch
    """

    def __init__(self, pair_ids: Sequence[Any], channels: Sequence[str] = ("loss",)):
        self._ids = _checked_ids(pair_ids)
        self._channels = _checked_channels(channels)
        large = len(self._ids) * np.float32().nbytes >= _IN_FILE
        self._values = {name: _Lines(len(self._ids), large and name != self._channels[0]) for name in self._channels}
        self._closed: list[bool] = []
        self._index: pd.Index | None = None
        self._history: dict[tuple[str, int, str], np.ndarray] = {}

    # Reading ----------------------------------------------------------------------------------------------------------

    @property
    def pair_ids(self) -> np.ndarray:
        """Ids of the pairs, str array of shape (N,); row i of everything here belongs to `pair_ids[i]`."""
        return self._ids

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the recorded quantities."""
        return self._channels

    @property
    def n_epochs(self) -> int:
        """Number of epochs begun, E; the last may still be open."""
        return len(self._closed)

    @property
    def losses(self) -> np.ndarray:
        """The first channel: float32 array of shape (E, N), NaN where unseen. A view: read it, do not write to it."""
        return self.channel(self._channels[0])

    def channel(self, name: str) -> np.ndarray:
        """A channel's values, float32 array of shape (E, N), NaN where unseen. A view: read it, do not write to it."""
        return self._values[self._known_channel(name)].room[: self.n_epochs]

    @property
    def nbytes(self) -> int:
        """Bytes held in memory: ids, values that are not in a file, cached histories."""
        lines = sum(each.nbytes for each in self._values.values() if not each.in_file)
        return self._ids.nbytes + lines + sum(each.nbytes for each in self._history.values())

    def is_closed(self, epoch: int) -> bool:
        """Whether an epoch was closed, so that every pair was seen exactly once."""
        return 0 <= epoch < self.n_epochs and self._closed[epoch]

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"PairLossLedger({len(self)} pairs, {self.n_epochs} epochs, channels: {', '.join(self._channels)})"

    def rows_of(self, pair_ids: Sequence[Any]) -> np.ndarray:
        """Rows of the given ids, int64 array; `InputError` names unknown ids.

        >>> PairLossLedger(["a", "b", "c"]).rows_of(["c", "a"])
        array([2, 0])
        """
        if self._index is None:
            self._index = pd.Index(self._ids)
        wanted = np.atleast_1d(np.asarray(pair_ids)).astype(str)
        rows = self._index.get_indexer(pd.Index(wanted)).astype(np.int64)
        if (rows < 0).any():
            raise InputError(f"pair_ids: not in the ledger: {_some(wanted[rows < 0])}; use the ids it was made with")
        return rows

    def trajectory(self, pair_id: str, channel: str | None = None) -> np.ndarray:
        """One pair's values by epoch, float32 array of shape (E,)."""
        return self.channel(channel or self._channels[0])[:, self.rows_of([pair_id])[0]].copy()

    def history(self, channel: str | None = None, before: int | None = None, kind: HistoryKind = "mean") -> np.ndarray:
        """A pair's weighted mean over its past epochs, m_i = Σ_e v_e L[e, i] / Σ_e v_e over the epochs it was seen in.

        Parameters
        ----------
        channel : str, optional
            The first channel by default.
        before : int, optional
            Use epochs 0 … before - 1; all recorded epochs by default.
        kind : {"mean", "recency", "last"}
            ``last``: the latest epoch in which the pair was seen. ``mean``: v_e = 1. ``recency``: v_e = e + 1, so later
            epochs count linearly more. The code of Dynamic Bad Pair Mining (Lan et al., ICLR 2024) uses (e + 1) / E_max
            without dividing by the sum: the ranking is the same, but here m has the unit of the loss.

        Returns
        -------
        float64 ndarray of shape (N,)
            Cached until something is recorded; read-only. NaN for a pair that was never seen.

        Examples
        --------
        >>> ledger = PairLossLedger.from_values([[1.0, 2.0], [3.0, 2.0]])
        >>> ledger.history()
        array([2., 2.])
        >>> ledger.history(kind="recency")                       # (1·1 + 2·3) / 3
        array([2.33333333, 2.        ])
        """
        name = self._known_channel(channel or self._channels[0])
        if kind not in ("mean", "recency", "last"):
            raise InputError(f"history: must be 'mean', 'recency' or 'last' (got {kind!r})")
        end = self.n_epochs if before is None else before
        if not isinstance(end, (int, np.integer)) or end < 0:
            raise InputError(f"before: must be a whole number of epochs, 0 or more (got {before!r})")
        end = min(int(end), self.n_epochs)
        key = (name, end, kind)
        if key not in self._history:
            values = self._values[name].room[:end]
            result = _latest(values) if kind == "last" else _weighted_mean(values, kind)
            result.setflags(write=False)
            self._history[key] = result
        return self._history[key]

    # Writing ----------------------------------------------------------------------------------------------------------

    def record(self, epoch: int, rows: Sequence[int] | np.ndarray, **values: Any) -> None:
        """Add a batch: one value a row for each named channel.

        Parameters
        ----------
        epoch : int
            An open epoch, or the next one.
        rows : int array of shape (B,)
            Positions in `pair_ids`, each once an epoch and channel.
        **values : arrays or tensors of shape (B,)
            Finite values by channel name. A tensor is detached and brought to the CPU.

        Raises
        ------
        InputError
            Unknown channel or rows, a pair twice, or values that are not finite (up to five pairs are named). Nothing
            is recorded then.
        """
        epoch = self._writable(epoch)
        places = self._checked_rows(epoch, rows)
        if not values:
            raise InputError(f"record: no values given; pass one array a channel, as in {self._channels[0]}=…")
        columns = {
            self._known_channel(name): self._checked_values(epoch, name, v, places) for name, v in values.items()
        }
        if epoch < self.n_epochs:
            for name in columns:
                seen = ~np.isnan(self._values[name].room[epoch, places])
                if seen.any():
                    raise InputError(
                        f"epoch {epoch}: {name} of {_some(self._ids[places[seen]])} is recorded already; "
                        "record every pair once an epoch"
                    )
        else:
            self._begin_epoch()
        for name, column in columns.items():
            self._values[name].room[epoch, places] = column
        self._forget(columns)

    def close_epoch(self, epoch: int) -> None:
        """Confirm that every pair was seen exactly once; later records of this epoch are refused.

        Raises
        ------
        InputError
            Pairs are missing (up to five are named).
        """
        epoch = self._writable(epoch)
        if epoch == self.n_epochs:
            raise InputError(f"epoch {epoch}: nothing was recorded; record its pairs before closing it")
        for position, name in enumerate(self._channels):
            missing = np.isnan(self._values[name].room[epoch])
            if missing.any() and (position == 0 or not missing.all()):
                raise InputError(
                    f"epoch {epoch}: {name} of {int(missing.sum())} of {len(self)} pairs was not recorded: "
                    f"{_some(self._ids[missing])}; every pair must be seen once an epoch"
                )
        self._closed[epoch] = True

    # Storing ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything as plain arrays and lists; `from_state_dict` restores it bit for bit."""
        return {
            "schema": _SCHEMA,
            "pair_ids": self._ids.copy(),
            "channels": list(self._channels),
            "closed": np.array(self._closed, bool),
            "values": {name: self.channel(name).copy() for name in self._channels},
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> PairLossLedger:
        """The ledger that gave this `state_dict`.

        >>> ledger = PairLossLedger.from_values([[1.0, 2.0]])
        >>> bool((PairLossLedger.from_state_dict(ledger.state_dict()).losses == ledger.losses).all())
        True
        """
        missing = {"schema", "pair_ids", "channels", "closed", "values"} - set(state)
        if missing:
            raise InputError(f"ledger state: lacks {', '.join(sorted(missing))}; it was not written by a ledger")
        if state["schema"] > _SCHEMA:
            raise InputError(f"ledger state: has schema {state['schema']}, newer than {_SCHEMA}; use a newer fairvlm")
        ledger = cls(state["pair_ids"], state["channels"])
        closed = [bool(value) for value in state["closed"]]
        for name in ledger._channels:
            values = np.asarray(state["values"][name], np.float32).reshape(-1, len(ledger))
            if len(values) != len(closed):
                raise InputError(f"ledger state: channel {name!r} has {len(values)} epochs, not {len(closed)}")
            ledger._values[name].fill(values)
        ledger._closed = closed
        return ledger

    @classmethod
    def from_values(cls, values: Any, pair_ids: Sequence[Any] | None = None, channel: str = "loss") -> PairLossLedger:
        """A ledger of an array of shape (E, N); ids are "0", "1", … where none are given. NaN means unseen."""
        array = np.asarray(as_numpy(values))
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(f"values: must be numbers of shape (epochs, pairs) (got shape {array.shape})")
        if np.isinf(array).any():
            raise InputError(f"values: infinite in epoch {int(np.isinf(array).any(1).argmax())}; values must be finite")
        ids = [str(i) for i in range(array.shape[1])] if pair_ids is None else pair_ids
        if len(ids) != array.shape[1]:
            raise InputError(f"pair_ids: {len(ids)} ids for {array.shape[1]} columns of values")
        ledger = cls(ids, (channel,))
        ledger._values[channel].fill(array)
        ledger._closed = (~np.isnan(array).any(1)).tolist()
        return ledger

    def to_frame(self) -> pd.DataFrame:
        """Long form: one row a pair and epoch with columns pair_id, epoch and one a channel.

        >>> PairLossLedger.from_values([[1.0, 2.0]], ["a", "b"]).to_frame()
          pair_id  epoch  loss
        0       a      0   1.0
        1       b      0   2.0
        """
        epochs = self.n_epochs
        columns = {"pair_id": np.tile(self._ids, epochs), "epoch": np.repeat(np.arange(epochs), len(self))}
        return pd.DataFrame(columns | {name: self.channel(name).ravel() for name in self._channels})

    def to_wide_frame(self) -> pd.DataFrame:
        """Wide form, small on disk: one row a pair, columns pair_id and ``<channel>_<epoch>``.

        >>> PairLossLedger.from_values([[1.0, 2.0], [0.5, 1.5]], ["a", "b"]).to_wide_frame()
          pair_id  loss_0  loss_1
        0       a     1.0     0.5
        1       b     2.0     1.5
        """
        columns = {"pair_id": self._ids}
        for name in self._channels:
            columns |= {f"{name}_{epoch}": line for epoch, line in enumerate(self.channel(name))}
        return pd.DataFrame(columns)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> PairLossLedger:
        """The ledger of a wide frame; epochs whose first channel is complete count as closed.

        Raises
        ------
        InputError
            No pair_id column, a column that is not ``<channel>_<epoch>``, or an epoch that is missing.
        """
        if "pair_id" not in frame:
            raise InputError(f"ledger frame: has no column pair_id (it has {', '.join(map(str, frame.columns[:8]))})")
        found: dict[str, dict[int, str]] = {}
        for column in frame.columns.drop("pair_id"):
            name, _, epoch = str(column).rpartition("_")
            if not name or not epoch.isdecimal():
                raise InputError(f"ledger frame: column {column!r} is not named <channel>_<epoch>, as in loss_0")
            found.setdefault(name, {})[int(epoch)] = column
        n_epochs = 1 + max((epoch for columns in found.values() for epoch in columns), default=-1)
        ledger = cls(frame["pair_id"].to_numpy(), tuple(found) or ("loss",))
        for name, columns in found.items():
            gap = sorted(set(range(n_epochs)) - set(columns))
            if gap:
                raise InputError(f"ledger frame: column {name}_{gap[0]} is missing; epochs are counted from 0")
            ledger._values[name].fill(
                [frame[columns[epoch]].to_numpy(np.float32, na_value=np.nan) for epoch in range(n_epochs)]
            )
        ledger._closed = [not bool(np.isnan(line).any()) for line in ledger._values[ledger._channels[0]].room]
        return ledger

    # Inside -----------------------------------------------------------------------------------------------------------

    def _known_channel(self, name: str) -> str:
        if name not in self._values:
            raise InputError(f"channel {name!r} is not in the ledger; it has {', '.join(self._channels)}")
        return name

    def _writable(self, epoch: int) -> int:
        if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or not 0 <= epoch <= self.n_epochs:
            raise InputError(f"epoch: {epoch!r} is out of order; the next one is {self.n_epochs}, counted from 0")
        if epoch < self.n_epochs and self._closed[epoch]:
            raise InputError(f"epoch {epoch}: is closed; record epoch {self.n_epochs} next")
        return int(epoch)

    def _checked_rows(self, epoch: int, rows: Any) -> np.ndarray:
        places = np.asarray(as_numpy(rows))
        if places.ndim != 1 or (places.dtype.kind not in "iu" and len(places)):
            raise InputError(
                f"epoch {epoch}: rows must be whole numbers, one-dimensional (got {places.dtype}, shape {places.shape})"
            )
        places = places.astype(np.int64, copy=False)
        unknown = (places < 0) | (places >= len(self))
        if unknown.any():
            raise InputError(
                f"epoch {epoch}: rows out of range: {_some(places[unknown])}; there are {len(self)} pairs, rows 0 to "
                f"{len(self) - 1}"
            )
        # For a large batch a count over all pairs is cheaper than a sort.
        if len(places) * 8 > len(self):
            twice = np.flatnonzero(np.bincount(places, minlength=1) > 1)
        else:
            ordered = np.sort(places)
            twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(twice):
            raise InputError(
                f"epoch {epoch}: rows name a pair twice: {_some(self._ids[twice])}; record every pair once an epoch"
            )
        return places

    def _checked_values(self, epoch: int, name: str, values: Any, places: np.ndarray) -> np.ndarray:
        column = np.asarray(as_numpy(values))
        if column.shape != places.shape or column.dtype.kind not in "fiu":
            raise InputError(
                f"epoch {epoch}: {name} must be one number a row, shape {places.shape} (got {column.dtype}, shape "
                f"{column.shape})"
            )
        finite = np.isfinite(column) & (np.abs(column) <= np.finfo(np.float32).max)
        if not finite.all():
            raise InputError(
                f"epoch {epoch}: {name} is not finite for pairs {_some(self._ids[places[~finite]])}; "
                "look at these pairs, or lower the learning rate"
            )
        return column.astype(np.float32, copy=False)

    def _begin_epoch(self) -> None:
        for lines in self._values.values():
            lines.begin(self.n_epochs)
        self._closed.append(False)

    def _forget(self, channels: Iterable[str]) -> None:
        changed = set(channels)
        self._history = {key: value for key, value in self._history.items() if key[0] not in changed}


class _Lines:
    """A channel's values by epoch: `room`, float32 (E or more, N), in memory or as a map of an unnamed file."""

    def __init__(self, n: int, in_file: bool):
        self.room = np.empty((0, n), np.float32)
        self._file = _unnamed_file() if in_file else None
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    @property
    def in_file(self) -> bool:
        return self._file is not None

    @property
    def nbytes(self) -> int:
        return self.room.nbytes

    def begin(self, epoch: int) -> None:
        """Make room for one more epoch, with all pairs unseen."""
        if epoch >= len(self.room):
            grown = self._grown_file(epoch)
            if grown is None:
                # Grow by a quarter: amortised cost, little unused memory.
                grown = np.empty((max(4, epoch + 1 + epoch // 4), self.room.shape[1]), np.float32)
                grown[:epoch] = self.room[:epoch]
            self.room = grown
        self.room[epoch] = np.nan

    def fill(self, lines: Sequence[Any] | np.ndarray) -> None:
        """Replace all epochs by a copy of `lines`."""
        if self._file is None:
            self.room = np.array(lines, np.float32).reshape(-1, self.room.shape[1])
        else:
            for epoch, line in enumerate(lines):
                self.begin(epoch)
                self.room[epoch] = line

    def _grown_file(self, epoch: int) -> np.ndarray | None:
        """A map of the file with one more line; None where there is no file, or no room on its disk.

        The line is written with `write`: on a full disk that raises, while writing to a map would kill the process.
        """
        if self._file is None:
            return None
        line = np.full(self.room.shape[1], np.nan, np.float32)
        try:
            self._file.seek(epoch * line.nbytes)
            self._file.write(line.data)
            self._file.flush()
            return np.asarray(np.memmap(self._file, np.float32, "r+", shape=(epoch + 1, len(line))))
        except OSError:
            with suppress(OSError):
                self._file.close()
            self._file = None
            return None


def _unnamed_file() -> IO[bytes] | None:
    """A file without a name, deleted when the process ends; None where it cannot be made."""
    on_disk = None if os.environ.get("TMPDIR") or not os.access(_ON_DISK, os.W_OK) else _ON_DISK
    try:
        return tempfile.TemporaryFile(dir=on_disk)
    except OSError:
        return None


def as_numpy(values: Any) -> Any:
    """A tensor as a NumPy array on the CPU without its graph; anything else unchanged."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.float() if values.dtype.itemsize == 2 and values.is_floating_point() else values).numpy()
    return values


def _weighted_mean(values: np.ndarray, kind: str) -> np.ndarray:
    """Over axis 0 without NaN; sums in float64 row by row, so that `values` is not copied."""
    weights = np.ones(len(values)) if kind == "mean" else np.arange(1.0, len(values) + 1)
    total = np.zeros(values.shape[1])
    seen: np.ndarray | float = 0.0
    for weight, line in zip(weights, values, strict=True):
        unseen = np.isnan(line)
        if unseen.any():
            total += np.where(unseen, 0.0, weight * line.astype(np.float64))
            seen = seen + np.where(unseen, 0.0, weight)
        else:
            total += line if kind == "mean" else weight * line.astype(np.float64)
            seen = seen + weight
    counts = np.broadcast_to(np.asarray(seen, float), total.shape)
    return np.divide(total, counts, out=np.full(total.shape, np.nan), where=counts > 0)


def _latest(values: np.ndarray) -> np.ndarray:
    result = np.full(values.shape[1], np.nan)
    for line in values:
        seen = ~np.isnan(line)
        result[seen] = line[seen]
    return result


def _checked_ids(pair_ids: Sequence[Any]) -> np.ndarray:
    raw = np.asarray(pair_ids)
    if raw.ndim != 1 or len(raw) == 0:
        raise InputError(f"pair_ids: must be a list of one id or more (got shape {raw.shape})")
    if raw.dtype.kind in "Of" and pd.isna(raw).any():
        raise InputError(f"pair_ids: row {int(pd.isna(raw).argmax())} has no id; give every pair one")
    ids = raw.astype(str)
    blank = np.char.strip(ids) == ""
    if blank.any():
        raise InputError(f"pair_ids: row {int(blank.argmax())} is blank; give every pair an id")
    twice = pd.Index(ids).duplicated()
    if twice.any():
        raise InputError(f"pair_ids: not unique: {_some(np.unique(ids[twice]))}; give every pair its own id")
    ids.setflags(write=False)
    return ids


def _checked_channels(channels: Sequence[str]) -> tuple[str, ...]:
    names = (channels,) if isinstance(channels, str) else tuple(str(name) for name in channels)
    if not names or len(set(names)) != len(names) or not all(name.isidentifier() for name in names):
        raise InputError(f"channels: must be different plain names, one or more (got {channels!r})")
    reserved = {"epoch", "rows", "pair_ids", "pair_id", "self"} & set(names)
    if reserved:
        raise InputError(f"channels: {sorted(reserved)[0]!r} is reserved; choose another name")
    return names


def _some(values: np.ndarray) -> str:
    """Up to five of the values as text, and the number of the others."""
    shown = ", ".join(str(value) for value in values[:_SHOWN_IDS])
    return shown if len(values) <= _SHOWN_IDS else f"{shown} and {len(values) - _SHOWN_IDS} more"
