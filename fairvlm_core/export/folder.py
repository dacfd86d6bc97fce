"""A run as one folder of files that can be read without fairvlm.

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

No file contains notes or images: a run stores none.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import safeio
from ..analysis.mining_again import mine_again
from ..errors import InputError
from ..hf_models import TEXT_CONFIG
from ..report import ReportOptions, build_content
from ..report.cohort import group_cells
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
        Groups with fewer people than this in a cell are hidden in card and scalars; 0 hides none. Tables of pairs
        contain every pair.
    patient_ids : bool
        Keep patients' ids; otherwise each patient gets a number.
    n_resamples : int
        Bootstrap draws and permutations for the card's intervals; 0 for none.
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
    """Write a finished run to a new folder. After an error there is no folder.

    Raises
    ------
    InputError
        The run is not finished, one of its files is damaged, the folder is not empty, or an optional package is missing.
    StorageError
        The disk is full or cannot be written to.
    """
    folder = Path(folder).expanduser()
    _check(run, folder, options)
    config, formats = run.config.without_paths(), options.formats
    remarks = model_remarks(run) if "model" in formats else ()
    scalars = run_scalars(run.metrics(), group_cells(run.pairs(), list(run.data["attributes"]), options.min_cell))
    card = _card(run, options, remarks) if "card" in formats else None
    with safeio.new_folder(folder) as new:
        if card is not None:
            (new / "README.md").write_text(card, encoding="utf-8")
        if "model" in formats:
            shutil.copytree(run.checkpoint, new / "model", copy_function=shutil.copyfile)
            (new / "model" / safeio.MANIFEST).unlink()
        if "tables" in formats:
            _write_tables(run, new, options.patient_ids)
            frame = pd.DataFrame([vars(one) for one in scalars], columns=["name", "epoch", "value"])
            frame.to_parquet(new / "scalars.parquet", index=False)
            safeio.write_json(new / "settings.json", config.flat())
        if "tensorboard" in formats:
            write_tensorboard(new / "tensorboard", scalars, config.flat())
        if "mlflow" in formats:
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


def _check(run: Run, folder: Path, options: ExportOptions) -> None:
    state = run.status.state
    if state != "finished":
        raise InputError(f"run {run.id} is {state}: an export needs a finished run")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: something is there already; name a folder that does not exist or is empty")
    for name in ("tensorboard", "mlflow"):
        if name in options.formats:
            need(name, name)


def _card(run: Run, options: ExportOptions, remarks: Sequence[str]) -> str:
    report = ReportOptions(min_cell=options.min_cell, pair_ids=False, n_resamples=options.n_resamples)
    return model_card(build_content(run, options=report), remarks)


def model_remarks(run: Run) -> tuple[str, ...]:
    """Parts of the run's model that open_clip does not load, and merged low-rank updates; a line each."""
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
            f"open_clip has no residual adapter: it loads the towers and projections without model/{_ADAPTER}. All metrics "
            "here are of the model with this adapter; fairvlm loads the folder with it."
        )
    return tuple(out)


def _write_tables(run: Run, folder: Path, patient_ids: bool) -> None:
    tables = {
        "predictions.parquet": run.predictions(),
        "mining.parquet": mine_again(run).rows,
        "ledger.parquet": run.ledger().to_frame(),
    }
    patients = run.pairs()["patient_id"].astype(str).unique()
    numbered = {patient: f"patient-{i:06d}" for i, patient in enumerate(patients)}
    for name, frame in tables.items():
        if "patient_id" in frame and not patient_ids:
            frame = frame.assign(patient_id=frame["patient_id"].astype(str).map(numbered))
        frame.to_parquet(folder / name, index=False)
