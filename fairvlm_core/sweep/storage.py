"""Where a study is kept, and which of its trials were left behind by a process that is gone.

By default a study is a journal file in the workspace (or in a folder that several machines share); a database URL keeps it
in PostgreSQL. Optuna's own heartbeat knows databases only, so for a journal a worker keeps a small file beside it for each
trial it works on, and touches it.
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
BEAT, GRACE = 5, 60  # seconds between two signs of life, and without one until a trial counts as left behind
RETRIES = 3
_ATTEMPTS = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Storage:
    """One study's place: a `journal` file, or a database `url` (shown without its password)."""

    study: str
    journal: Path | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """Without a password."""
        if self.journal is not None:
            return str(self.journal)
        from sqlalchemy import make_url

        return make_url(self.url or "").render_as_string(hide_password=True)

    def open(self) -> optuna.storages.BaseStorage:
        """Optuna's storage. A journal that is not there yet is made.

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
        """Optuna makes its tables where they are missing; of two workers that do so at once, one has to look again."""
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
        """What goes wrong with a storage, as one line; never a password."""
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
        """The folder of the signs of life; None for a database, which keeps them itself."""
        return None if self.journal is None else self.journal.with_suffix(".alive")


def place_of(study: str, workspace: Path, where: str | None = None) -> Storage:
    """The storage of a study. `where` is a folder for journals or a URL; $FAIRVLM_SWEEP_STORAGE, else in the workspace.

    >>> place_of("first", Path("workspace"), "/shared/sweeps").journal.as_posix()
    '/shared/sweeps/first.journal'

    Raises
    ------
    InputError
        The name cannot be that of a file, or the URL is none.
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
    """Every study of a place, the newest first; nothing is made by looking.

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
    """Optuna, which is an extra; it only speaks where something is wrong with itself."""
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
    """Optuna calls heartbeat and retry experimental, and says so each time."""
    optuna = load_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


# Signs of life beside a journal -----------------------------------------------------------------------------------------


@contextmanager
def beating(storage: Storage) -> Iterator[Callable[[int], None]]:
    """Gives what to call with the number of a trial that begins; signs of life follow until the block ends.

    The block holds the end of the trial, too: a trial is never running without a sign of life. Nothing for a database.
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
    """Whether the process of a running trial is gone: dead on this machine, or elsewhere silent for `GRACE` seconds."""
    assert storage.beats is not None
    path = storage.beats / f"{trial.number}.json"
    try:
        silent = _folder_clock(storage.beats) - path.stat().st_mtime
        record = safeio.read_json(path)
        process = Process(int(record["pid"]), float(record["started"]), str(record["boot"]))
    except (FileNotFoundError, InputError, KeyError, TypeError, ValueError):  # it had no time to write it, or is gone
        began = trial.datetime_start
        return began is None or time.time() - began.timestamp() > GRACE
    if process.boot and (record["host"], process.boot) == (platform.node(), process_of().boot):
        return not process.alive
    return silent > GRACE


def _folder_clock(folder: Path) -> float:
    """The time by the clock that dates the files of a folder, which several machines may share."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def reap(storage: Storage, study: optuna.Study) -> None:
    """Mark what dead workers left running as failed, and queue it again."""
    optuna = load_optuna()
    if storage.beats is None:
        with _quiet():
            optuna.storages.fail_stale_trials(study)
        return
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if left_behind(storage, trial):
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another was faster
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                (storage.beats / f"{trial.number}.json").unlink(missing_ok=True)
                again(study, trial)


def again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queue the values of a trial that ended for no fault of its own, `RETRIES` times at most."""
    optuna = load_optuna()
    with _quiet():
        optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)
