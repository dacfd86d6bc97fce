"""Numbers by epoch as TensorBoard events and as an MLflow file store, on disk only; nothing is sent."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import InputError
from .scalars import Scalar

_NOT_MLFLOW = re.compile(r"[^\w\-. /]", re.ASCII)
_WORDS = {"<": "under ", "≤": "up to ", ">": "over ", "≥": "from ", "+": " plus", "×": "x"}
_LONGEST = 200  # MLflow allows 250 characters
_MLFLOW_OFFLINE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}


def need(package: str, extra: str) -> None:
    """`InputError` where an optional package is missing."""
    try:
        __import__(package)
    except ImportError:
        raise InputError(
            f"--format {extra} needs {package}: install it with pip install 'fairvlm[{extra}]', or leave the format out"
        ) from None


def write_tensorboard(folder: Path, scalars: Sequence[Scalar], settings: Mapping[str, Any]) -> None:
    """An event file with every number by epoch and the settings as text; ``tensorboard --logdir`` reads the folder."""
    need("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for scalar in scalars:
            writer.add_scalar(scalar.name, scalar.value, scalar.epoch)
        lines = [f"    {name} = {value}" for name, value in settings.items()]  # indented: shown as it is
        writer.add_text("settings", "\n".join(lines))
    for path in folder.glob("events.out.tfevents.*"):  # its name would contain the name of the machine
        path.rename(folder / "events.out.tfevents.0.fairvlm")


def write_mlflow(
    folder: Path,
    artifacts: Path,
    home: Path,
    *,
    experiment: str,
    run: str,
    scalars: Sequence[Scalar],
    settings: Mapping[str, Any],
    card: str | None,
) -> None:
    """One run of one experiment as an MLflow file store.

    Parameters
    ----------
    folder
        Of the store.
    artifacts, home
        Where artefacts are written, and their final place: MLflow stores absolute addresses.
    card
        Kept as the run's artefact ``README.md``.
    """
    with _offline():
        need("mlflow", "mlflow")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=folder.resolve().as_uri())
        if client.get_experiment_by_name(experiment := experiment.strip()[:200] or "fairvlm"):
            experiment += " (fairvlm)"  # a new store has an experiment "Default"
        number = client.create_experiment(experiment, artifact_location=home.resolve().as_uri())
        made = client.create_run(number, run_name=run, start_time=0)
        names = mlflow_names(one.name for one in scalars)
        values = [Metric(names[one.name], one.value, one.epoch, one.epoch) for one in scalars]
        for start in range(0, len(values), 1000):  # the most that one call takes
            client.log_batch(made.info.run_id, metrics=values[start : start + 1000])
        names = mlflow_names(settings)
        given = [Param(names[name], str(value)[:6000]) for name, value in settings.items()]
        for start in range(0, len(given), 100):
            client.log_batch(made.info.run_id, params=given[start : start + 100])
        client.set_terminated(made.info.run_id)
        if card is not None:
            place = artifacts / made.info.run_id / "artifacts"
            place.mkdir(parents=True)
            (place / "README.md").write_text(card, encoding="utf-8")


def mlflow_names(names: Iterable[str]) -> dict[str, str]:
    """Name to the name it has in MLflow's file store, where each is a file and each part before a slash a folder.

    Characters that MLflow does not allow become words or underscores. Names that would be one, also on a file system that
    ignores case, get a mark of their own; a name that is the folder of another gets the part "overall".

    >>> list(mlflow_names(["val/auc", "val/auc/age/<40", "val/auc/age/75+"]).values())
    ['val/auc/overall', 'val/auc/age/under 40', 'val/auc/age/75 plus']
    """
    found = {name: _allowed(name) for name in dict.fromkeys(names)}
    counts = Counter(short.casefold() for short in found.values())
    for name, short in found.items():
        if counts[short.casefold()] > 1:
            found[name] = f"{short}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    taken = {short.casefold() for short in found.values()}
    folders = {folder for short in taken for folder in _folders(short)}
    for name, short in found.items():
        while short.casefold() in folders:
            free = (f"{short}/overall{f' {i}' * (i > 1)}" for i in count(1))
            short = next(one for one in free if one.casefold() not in taken)
        found[name] = short
        taken.add(short.casefold())
    return found


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:k]) for k in range(1, len(parts))]


def _allowed(name: str) -> str:
    for mark, word in _WORDS.items():
        name = name.replace(mark, word)
    parts = [part if part.strip(". ") else "_" for part in _NOT_MLFLOW.sub("_", name).strip("/").split("/")]
    long = len("/".join(parts)) > _LONGEST
    return "/".join(parts)[: _LONGEST - 30].rstrip("/. ") + "_" * long if long else "/".join(parts)


@contextmanager
def _offline() -> Iterator[None]:
    """MLflow reads these switches from the environment: no telemetry, and a file store without a server."""
    before = {name: os.environ.get(name) for name in _MLFLOW_OFFLINE}
    os.environ.update(_MLFLOW_OFFLINE)
    try:
        yield
    finally:
        for name in before:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
