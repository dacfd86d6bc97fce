"""One folder that holds what a run has to give, in forms that need no fairvlm to be read.

```
FOLDER/README.md                      the model card
FOLDER/model/                         open_clip_config.json and weights: open_clip's local-dir: loads it
FOLDER/predictions.parquet            validation and test pairs: label, scores, attributes
FOLDER/ledger.parquet                 one row a training pair and epoch: loss and whatever else was recorded
FOLDER/mining.parquet                 one row a training pair: kind, mean loss, z, weight, attributes
FOLDER/scalars.parquet                name, epoch, value
FOLDER/settings.json                  the configuration, flat
FOLDER/tensorboard/  FOLDER/mlflow/   on request (with the card as an artefact in FOLDER/mlflow-artifacts/)
FOLDER/manifest.json                  sizes and SHA-256 of all of these
```

Notes and images are in none of them: a run holds none.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import safeio
from ..errors import InputError
from ..hf_models import TEXT_CONFIG
from ..remine import mine_again
from ..report import ReportOptions, build_content
from ..report.cohort import group_cells
from ..report.wording import reproduction
from ..runs import Run
from .card import model_card
from .scalars import run_scalars
from .tracking import need, write_mlflow, write_tensorboard

FORMATS = ("tables", "model", "card", "tensorboard", "mlflow")
DEFAULT_FORMATS = ("tables", "model", "card")
_ADAPTER = "adapter/adapter.safetensors"


@dataclass(frozen=True)
class ExportOptions:
    """What goes into the folder.

    Attributes
    ----------
    formats : tuple of str
        Some of `FORMATS`.
    min_cell : int
        Groups with fewer people than this in a cell are hidden in card and scalars; 0 hides none. Tables of pairs hold
        every pair.
    patient_ids : bool
        Keep patients' ids; otherwise they become running numbers, the same for the same patient.
    n_resamples : int
        Bootstrap draws and shuffles behind the card's intervals; 0 for none.
    """

    formats: tuple[str, ...] = DEFAULT_FORMATS
    min_cell: int = 5
    patient_ids: bool = False
    n_resamples: int = 2000

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise InputError(f"--format {name}: there is no such format; choose some of {', '.join(FORMATS)}")
        if not self.formats:
            raise InputError(f"no format: choose some of {', '.join(FORMATS)}")


@dataclass(frozen=True)
class ExportResult:
    """What was written: the folder, its files (paths below it), and what the model folder cannot express."""

    folder: Path
    files: tuple[str, ...]
    remarks: tuple[str, ...]


def export_run(run: Run, folder: Path, options: ExportOptions = ExportOptions()) -> ExportResult:
    """Write a finished run to a new folder; it appears whole or not at all.

    Raises
    ------
    InputError
        The run is not finished, a file of it is damaged, the folder holds something, or an optional package is missing.
    StorageError
        The disk is full or may not be written to.
    """
    folder = Path(folder).expanduser()
    state = run.status.state
    if state != "finished":
        raise InputError(f"run {run.id} is {state}: an export needs a finished run")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: something is there already; name a folder that does not exist or is empty")
    for name in ("tensorboard", "mlflow"):
        if name in options.formats:
            need(name, name)
    config = run.config.without_paths()
    remarks = model_remarks(run) if "model" in options.formats else ()
    cells = group_cells(run.pairs(), list(run.data["attributes"]), options.min_cell)
    scalars = run_scalars(run.metrics(), cells)
    card = None
    if "card" in options.formats:
        report = ReportOptions(min_cell=options.min_cell, pair_ids=False, n_resamples=options.n_resamples)
        lines = reproduction(config, str(run.data["fingerprint"]))
        content = build_content(run, options=report)
        card = model_card(content, model=config.model, reproduce=lines, remarks=remarks)
    with safeio.new_folder(folder) as new:
        if card is not None:
            (new / "README.md").write_text(card, encoding="utf-8")
        if "model" in options.formats:
            _copy_model(run, new / "model")
        if "tables" in options.formats:
            _write_tables(run, new, options.patient_ids)
            frame = pd.DataFrame([vars(one) for one in scalars], columns=["name", "epoch", "value"])
            frame.to_parquet(new / "scalars.parquet", index=False)
            safeio.write_json(new / "settings.json", config.flat())
        if "tensorboard" in options.formats:
            write_tensorboard(new / "tensorboard", scalars, config.flat())
        if "mlflow" in options.formats:
            write_mlflow(
                new / "mlflow",
                new / "mlflow-artifacts",
                folder / "mlflow-artifacts",
                experiment=str(run.data["name"]),
                run=run.id,
                scalars=scalars,
                settings=config.flat(),
                card=card,
            )
        files = tuple(sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()))
    return ExportResult(folder, files, remarks)


def model_remarks(run: Run) -> tuple[str, ...]:
    """What of the run's model open_clip cannot express, and how low-rank updates came into it; a line each."""
    problem = safeio.check_folder(run.checkpoint)
    if problem is not None:
        raise InputError(f"run {run.id}: its checkpoint is damaged ({problem}): train the run again")
    out = []
    if not (run.checkpoint / "open_clip_config.json").is_file():
        out.append("The model is not one of open_clip's: model/ is a folder for transformers, and for fairvlm.")
    elif (run.checkpoint / TEXT_CONFIG).is_file():
        out.append("open_clip looks for the text tower's configuration on the hub; fairvlm finds it in model/text/.")
    if run.config.trainable == "lora":
        out.append("Low-rank updates were merged into the weights they belong to: model/ is a plain model.")
    if (run.checkpoint / _ADAPTER).is_file():
        out.append(
            f"open_clip has no residual adapter: it loads the towers and projections without model/{_ADAPTER}, whose "
            "correction of both embeddings is part of every figure here; fairvlm loads the folder with it."
        )
    return tuple(out)


def _copy_model(run: Run, place: Path) -> None:
    for path in sorted(run.checkpoint.rglob("*")):
        name = path.relative_to(run.checkpoint)
        if path.is_file() and name.as_posix() != safeio.MANIFEST:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / name)


def _write_tables(run: Run, folder: Path, patient_ids: bool) -> None:
    tables = {
        "predictions.parquet": run.predictions(),
        "mining.parquet": mine_again(run).rows,
        "ledger.parquet": run.ledger().to_frame(),
    }
    numbers = pd.factorize(run.pairs()["patient_id"].astype(str))
    number_of = dict(zip(numbers[1], range(len(numbers[1])), strict=True))
    for name, frame in tables.items():
        if "patient_id" in frame and not patient_ids:
            frame = frame.assign(
                patient_id=[f"patient-{number_of[one]:06d}" for one in frame["patient_id"].astype(str)]
            )
        frame.to_parquet(folder / name, index=False)
