"""The map of a run's pairs, made once by a job or by `fairvlm map` and stored in the run."""

from __future__ import annotations

from filelock import FileLock, Timeout

from .. import safeio
from ..errors import InputError
from ..runs import Run
from .projection import project

_PATIENCE = 2.0  # seconds; `map_is_being_made` holds the lock for a moment


def make_map(run: Run) -> str:
    """Project a run's embeddings and store the points; returns the method.

    Raises
    ------
    InputError
        The run has no embeddings yet, another process makes its map, or it cannot be written.
    """
    with safeio.storing(run.files.map_lock):
        lock = FileLock(run.files.map_lock, mode=safeio.PRIVATE_FILE)
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise InputError(f"the map of run {run.id} is being made by another process: wait for it") from None
    with lock:
        features, pairs = run.embeddings(), run.pairs()
        found = project(features["image"], features["text"], run.config.seed)
        run.write_parquet(run.files.projection, found.to_frame(pairs["pair_id"]))
    run.log(f"map: {found.method}")
    return found.method


def make_map_if_possible(run: Run) -> bool:
    """As `make_map`; errors are logged and False is returned, because a run does not fail without a map."""
    try:
        make_map(run)
    except Exception as error:
        run.log(f"no map: {error if isinstance(error, InputError) else type(error).__name__}")
        return False
    return True


def map_is_being_made(run: Run) -> bool:
    """Whether a process makes the map of a run now."""
    path = run.files.map_lock
    if not path.exists():
        return False
    try:
        with FileLock(path, mode=safeio.PRIVATE_FILE, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False
