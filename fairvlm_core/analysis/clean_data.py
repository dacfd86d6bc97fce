"""A data set's table without its bad pairs, ready to be trained on."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from ..intake.csvsafe import write_csv
from ..pairs import PairTable


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as CSV that a spreadsheet takes for data, never for formulas: such cells get an apostrophe in front.

    >>> csv_bytes(pd.DataFrame({"id": ["=1+1"], "n": [2]})).split()
    [b'id,n', b"'=1+1,2"]
    """
    with tempfile.TemporaryDirectory() as folder:
        return write_csv(frame, Path(folder) / "frame.csv").read_bytes()


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as Parquet, every cell as it is."""
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


def clean_manifest(table: PairTable, bad: Collection[str]) -> pd.DataFrame:
    """The table as a manifest without the bad training pairs; validation and test pairs all stay.

    Columns: pair_id, patient_id, image (path below the data folder), text, label, split and the attributes.
    """
    source = table.frame
    out = source["pair_id"].isin(list(bad)).to_numpy(bool) & (source["split"] == "train").to_numpy(bool)
    names = ["pair_id", "patient_id", "image", "text", "label", "split", *table.attributes]
    frame = source.loc[~out, names].reset_index(drop=True)
    return frame.astype({name: "str" for name in names if name != "label"})


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
