"""What leaves the workbench: rows as CSV, and the data set's table without its bad pairs."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fairvlm_core.intake.csvsafe import write_csv
from fairvlm_core.pairs import PairTable


@dataclass(frozen=True, eq=False)
class CleanManifest:
    """A data set's table without some of its training pairs, in the layout of a manifest.

    Attributes
    ----------
    frame : DataFrame
        pair_id, patient_id, image, text, label, split and the attributes, in the order of the data; image paths as they
        are, below the data folder.
    n_left_out : int
    """

    frame: pd.DataFrame
    n_left_out: int

    def csv(self) -> bytes:
        """As CSV that a spreadsheet takes for data: a cell that begins like a formula gets an apostrophe, and keeps it."""
        with tempfile.TemporaryDirectory() as folder:
            return write_csv(self.frame, Path(folder) / "manifest.csv").read_bytes()

    def parquet(self) -> bytes:
        """As Parquet, every cell as it is."""
        file = io.BytesIO()
        self.frame.to_parquet(file, index=False)
        return file.getvalue()


def clean_manifest(table: PairTable, bad: Collection[str]) -> CleanManifest:
    """The table's rows without the bad training pairs; validation and test pairs all stay."""
    source = table.frame
    out = source["pair_id"].isin(list(bad)).to_numpy(bool) & (source["split"] == "train").to_numpy(bool)
    names = ["pair_id", "patient_id", "image", "text", "label", "split", *table.attributes]
    frame = source.loc[~out, names].reset_index(drop=True)
    frame = frame.astype({name: "str" for name in names if name != "label"})
    return CleanManifest(frame, int(out.sum()))


def description(table: PairTable, file: str) -> str:
    """A ``dataset.json`` that makes `fairvlm train DATA --description` read the manifest `file` in the data folder."""
    values = {
        "schema": 1,
        "name": f"{table.info.name} without bad pairs",
        "table": file,
        "prompts": list(table.info.prompts),
        "label_names": list(table.info.label_names),
        "attributes": list(table.attributes),
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
