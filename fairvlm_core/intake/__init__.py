"""Data folders to `PairTable`: layouts, strict tables, safe images, splits, the intake report.

`PairTable.read` is the way in; the names here are for those who need one step of it.
"""

from __future__ import annotations

from .csvsafe import read_csv, write_csv
from .csvtable import StringTable, read_csv_table, read_parquet_table
from .description import Description, read_description
from .files import DamagedFile
from .images import ImageFacts, inspect_image, read_image, to_rgb
from .layouts import Layout, find_layout
from .report import IntakeReport
from .text import Truncation, count_identifiers, count_truncated

__all__ = [
    "DamagedFile",
    "Description",
    "ImageFacts",
    "IntakeReport",
    "Layout",
    "StringTable",
    "Truncation",
    "count_identifiers",
    "count_truncated",
    "find_layout",
    "inspect_image",
    "read_csv",
    "read_csv_table",
    "read_description",
    "read_image",
    "read_parquet_table",
    "to_rgb",
    "write_csv",
]
