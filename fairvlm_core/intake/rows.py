"""What passes between the steps of reading: options, rows of text as a layout gives them, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import InputError
from .description import DEFAULT_LABEL_NAMES, DEFAULT_PROMPTS, AttributeRule, Description, LabelRule
from .files import shown
from .images import ImageFacts
from .locate import FileFolder
from .warning import IntakeWarning

COLUMNS = ("pair_id", "patient_id", "split", "label", "text", "image")
Progress = Callable[[int, int], None]
ClassPrompts = tuple[tuple[str, ...], tuple[str, ...]]


def first_prompts(prompts: ClassPrompts) -> tuple[str, str]:
    """The first prompt of each class."""
    return prompts[0][0], prompts[1][0]


def _string_dtype() -> Any:
    try:
        return pd.StringDtype("pyarrow", na_value=np.nan)
    except TypeError:  # pandas before 2.3
        return pd.StringDtype("pyarrow")


STRING = _string_dtype()


@dataclass(frozen=True)
class ReadOptions:
    """How a data folder is read; each option is documented at `PairTable.read`.

    >>> ReadOptions(seed=-1)
    Traceback (most recent call last):
        ...
    fairvlm_core.errors.InputError: seed: '-1'; a whole number from 0 is expected
    """

    description: Description | Mapping | Path | str | None = None
    seed: int = 0
    max_refused_share: float = 0.05
    allow_shared_patients: bool = False
    check_images: bool = True
    images: Path | str | None = None

    def __post_init__(self) -> None:
        seed, share = self.seed, self.max_refused_share
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise InputError(f"seed: {shown(seed)}; a whole number from 0 is expected")
        if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 <= share <= 1:
            raise InputError(f"max_refused_share: {shown(share)}; a share from 0 to 1 is expected")


@dataclass(frozen=True)
class Origin:
    """Where rows come from, and what is known of them beside their cells; attributes as in `DatasetInfo`.

    `images` is where image paths start, None where they are paths below `root`. `shares` are those of the splits, for data
    without a split column.
    """

    root: Path
    name: str
    layout: str
    class_prompts: ClassPrompts = ((DEFAULT_PROMPTS[0],), (DEFAULT_PROMPTS[1],))
    label_names: tuple[str, str] = DEFAULT_LABEL_NAMES
    description: str = "none"
    note_source: str = "column"
    images: FileFolder | None = None
    shares: Mapping[Any, float] | None = None


@dataclass(frozen=True)
class RawRows:
    """Rows as a layout gives them: text, in the columns of a `PairTable`.

    Attributes
    ----------
    n
        Number of rows, the length of every array below.
    source
        Name of the table or folder, for messages.
    row
        Index to the row number (or None) that a person finds in the source.
    place
        Index and column to the words that begin a message, "manifest.csv row 7, column label".
    pair_id, patient_id, split
        None where the source has no such column.
    attributes
        Attribute name to cells and rule, in order.
    orders
        Attribute name to the order of its groups, where the source has one.
    asked
        Whether the attributes were chosen by the user; if not, columns that cannot be groups are left out.
    facts
        Image facts of the rows where the layout has checked the images while reading, else None.
    refused, left_out, warnings, n_found
        Rows that the layout did not hand on, and why; `n_found` counts those rows too.
    described
        Whether a ``dataset.json`` can say more about the source; not so for a frame in memory.
    columns_there
        Names of the source's columns, for advice.
    """

    n: int
    source: str
    row: Callable[[int], int | None]
    place: Callable[[int, str], str]
    text: pa.Array
    label: pa.Array
    image: pa.Array
    pair_id: pa.Array | None = None
    patient_id: pa.Array | None = None
    split: pa.Array | None = None
    attributes: Mapping[str, tuple[pa.Array, AttributeRule]] = field(default_factory=dict)
    orders: Mapping[str, list[str]] = field(default_factory=dict)
    asked: bool = False
    label_rule: LabelRule | None = None
    facts: list[ImageFacts] | None = None
    refused: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    columns_left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: list[IntakeWarning] = field(default_factory=list)
    n_found: int = 0
    described: bool = True
    columns_there: tuple[str, ...] = ()

    def where(self, index: int) -> str:
        """A row in the middle of a message: its number, or the name of its file."""
        row = self.row(int(index))
        return f"row {row}" if row is not None else self.place(int(index), "pair_id").split(",")[0]


@dataclass(frozen=True)
class DatasetInfo:
    """What a table is, and what was decided on reading it.

    Attributes
    ----------
    name, layout
        Of the data; layout is "fairvlmed", "manifest", "foreign", "webdataset" or "memory".
    prompts, label_names
        The first zero-shot prompt and the name of label 0, then label 1.
    class_prompts
        All zero-shot prompts of label 0, then of label 1, each at least one.
    description
        Where the description comes from: "dataset.json", "given", "built in: NAME" or "none".
    source
        The table or folder that was read.
    split_source
        "column", "folder" or "made"; for "made", `split_shares` and `seed` say how.
    note_source
        "column"; of a Harvard-FairVLMed folder "summarized", "original" or "npz".
    patient_source
        "column", or "pair" where every pair counts as a patient of its own.
    shared_patients
        Patients in more than one split that were let in by `allow_shared_patients`; 0 where there are none.
    attribute_sources
        Attribute name to the column it comes from.
    """

    name: str
    layout: str
    prompts: tuple[str, str]
    label_names: tuple[str, str]
    class_prompts: ClassPrompts
    description: str = "none"
    source: str = ""
    split_source: str = "column"
    split_shares: dict[str, float] | None = None
    seed: int | None = None
    note_source: str = "column"
    patient_source: str = "column"
    shared_patients: int = 0
    attribute_sources: dict[str, str] = field(default_factory=dict)


def strings(cells: pa.Array) -> pd.api.extensions.ExtensionArray:
    """Arrow text as a pandas array."""
    return pd.array(cells, dtype=STRING)
