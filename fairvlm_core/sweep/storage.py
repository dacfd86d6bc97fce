"""Where a study is stored, and which of its trials belong to a worker that has died.

By default a study is a journal file in the workspace, or in a folder that several machines share. A database URL stores it
in PostgreSQL. Optuna's heartbeat works for databases only: for a journal, a worker writes a small heartbeat file for each
of its trials and touches it regularly.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import safeio
from ..errors import InputError
from ..processes import Process, process_of

if TYPE_CHECKING:
    import optuna

VARIABLE = "FAIRVLM_SWEEP_STORAGE"
BEAT, GRACE = 5, 60  # seconds between two heartbeats, and without one until a trial counts as abandoned
RETRIES = 3
_ATTEMPTS = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Storage:
    """Where one study is stored: a `journal` file, or a database `url`."""

    study: str
    journal: Path | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The place for messages, without a password."""
        if self.journal is not None:
            return str(self.journal)
        from sqlalchemy import make_url

        return make_url(self.url or "").render_as_string(hide_password=True)

    def open(self) -> optuna.storages.BaseStorage:
        """Optuna's storage. A journal that does not exist is made.

        Raises
        ------
        InputError
            Optuna or a driver is not installed; the database does not answer; the journal is damaged.
        """
        optuna = load_optuna()
        if self.journal is not None:
            with safeio.storing(self.journal):
                safeio.make_folder(self.journal.parent)
                os.close(os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, safeio.PRIVATE_FILE))
            try:
                backend = optuna.storages.journal.JournalFileBackend(str(self.journal))
                return optuna.storages.JournalStorage(backend)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{self.journal.name} is damaged or no journal: choose another --study") from None
        try:
            with self.plain_errors(), _quiet():
                return self._database()
        except ImportError:
            raise InputError("--storage: PostgreSQL needs a driver; pip install 'fairvlm[postgres]'") from None

    def _database(self) -> optuna.storages.BaseStorage:
        """Optuna makes missing tables; if two workers do so at once, one of them fails and tries again."""
        from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
        from sqlalchemy.pool import NullPool

        optuna = load_optuna()
        for attempt in range(_ATTEMPTS):
            try:
                return optuna.storages.RDBStorage(
                    _driver(self.url or ""),
                    heartbeat_interval=BEAT,
                    grace_period=GRACE,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
                    # Optuna has no way to close a storage: a pool would keep a connection for each time it was opened.
                    engine_kwargs={"poolclass": NullPool, "hide_parameters": True},
                )
            except (IntegrityError, OperationalError, ProgrammingError):
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.5)
        raise AssertionError

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Errors of the storage as one line without the password."""
        optuna = load_optuna()
        import sqlalchemy.exc

        try:
            yield
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
            raise InputError(
                f"--storage {self.shown} cannot be used ({type(error).__name__}): is it there, running, and yours?"
            ) from None

    @property
    def beats(self) -> Path | None:
        """The folder of the heartbeat files; None for a database, where Optuna keeps heartbeats."""
        return None if self.journal is None else self.journal.with_suffix(".alive")


def place_of(study: str, workspace: Path, where: str | None = None) -> Storage:
    """The storage of a study. `where`: a folder for journals or a URL; default $FAIRVLM_SWEEP_STORAGE, else the workspace.

    >>> place_of("first", Path("workspace"), "/shared/sweeps").journal.as_posix()
    '/shared/sweeps/first.journal'

    Raises
    ------
    InputError
        The name is no file name, or the URL is not one of a database.
    """
    if not _NAME.fullmatch(study):
        raise InputError(f"--study {study[:40]!r}: use letters, digits, dots, dashes and underscores, 64 at most")
    where = where or os.environ.get(VARIABLE) or str(workspace / "sweeps")
    if "://" in where:
        _driver(where)
        return Storage(study, url=where)
    folder = Path(where)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--storage {folder.name} is a file: name a folder for journals, or a database URL")
    return Storage(study, journal=folder / f"{study}.journal")


def known(workspace: Path, where: str | None = None) -> list[Storage]:
    """Every study of a place, the newest first. Nothing is created.

    Raises
    ------
    InputError
        As `Storage.open`.
    """
    where = where or os.environ.get(VARIABLE) or str(workspace / "sweeps")
    if "://" not in where:
        paths = [path for path in Path(where).glob("*.journal") if _NAME.fullmatch(path.stem)]
        return [Storage(path.stem, journal=path) for path in sorted(paths, key=_age, reverse=True)]
    optuna, any_of_them = load_optuna(), Storage("any", url=where)
    with any_of_them.plain_errors():
        names = optuna.study.get_all_study_names(any_of_them.open())
    return [Storage(name, url=where) for name in reversed(names)]


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def load_optuna() -> Any:
    """Optuna, an optional dependency, with its log messages off."""
    try:
        import optuna
    except ImportError:
        raise InputError("sweeps need Optuna: pip install 'fairvlm[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna


def _driver(url: str) -> str:
    """The URL with the driver that fairvlm installs."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
    except ArgumentError:
        raise InputError("--storage: no database URL; write postgresql://user@host/name") from None
    return parsed.render_as_string(hide_password=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that heartbeat and retry are experimental."""
    optuna = load_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


# Heartbeats beside a journal --------------------------------------------------------------------------------------------


@contextmanager
def beating(storage: Storage) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of a trial that starts; its heartbeat is written until the block ends.

    The trial must end inside the block, so that it is never running without a heartbeat. Does nothing for a database.
    """
    stop, begun = threading.Event(), list[tuple[Path, threading.Thread]]()

    def begin(number: int) -> None:
        if storage.beats is None:
            return
        path, process = storage.beats / f"{number}.json", process_of()
        record = {"host": platform.node(), "pid": process.pid, "started": process.started, "boot": process.boot}
        with safeio.storing(path):
            safeio.make_folder(path.parent)
            safeio.write_json(path, record)
        thread = threading.Thread(target=_beat, args=(path, stop), name="trial", daemon=True)
        thread.start()
        begun.append((path, thread))

    try:
        yield begin
    finally:
        stop.set()
        for path, thread in begun:
            thread.join()
            path.unlink(missing_ok=True)


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def left_behind(storage: Storage, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a running trial's process is dead: on this machine by its id, elsewhere after `GRACE` seconds of silence."""
    assert storage.beats is not None
    path = storage.beats / f"{trial.number}.json"
    try:
        silent = _folder_clock(storage.beats) - path.stat().st_mtime
        record = safeio.read_json(path)
        process = Process(int(record["pid"]), float(record["started"]), str(record["boot"]))
    except (FileNotFoundError, InputError, KeyError, TypeError, ValueError):  # not written yet, or removed
        began = trial.datetime_start
        return began is None or time.time() - began.timestamp() > GRACE
    if process.boot and (record["host"], process.boot) == (platform.node(), process_of().boot):
        return not process.alive
    return silent > GRACE


def _folder_clock(folder: Path) -> float:
    """The time by the clock that dates the files of a folder, which may be on another machine."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def reap(storage: Storage, study: optuna.Study) -> None:
    """Mark the running trials of dead workers as failed, and queue them again."""
    optuna = load_optuna()
    if storage.beats is None:
        with _quiet():
            optuna.storages.fail_stale_trials(study)
        return
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if left_behind(storage, trial):
            with contextlib.suppress(
                ValueError, optuna.exceptions.UpdateFinishedTrialError
            ):  # another worker did it first
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                (storage.beats / f"{trial.number}.json").unlink(missing_ok=True)
                again(study, trial)


def again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queue a trial again whose worker was stopped, `RETRIES` times at most."""
    optuna = load_optuna()
    with _quiet():
        optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)
