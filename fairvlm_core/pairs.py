"""`PairTable`: the checked table of image-note pairs that all other modules read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL.Image import Image

from .errors import InputError
from .intake.assemble import assemble
from .intake.description import Description, parse_description
from .intake.folder import read_folder
from .intake.images import read_image
from .intake.report import IntakeReport
from .intake.rows import STRING, DatasetInfo, Origin, Progress, ReadOptions
from .intake.tables import frame_rows, read_table

PLANTED = "planted.csv"
PLANTED_KINDS = ("clean", "mismatch", "shortcut")


@dataclass(frozen=True, eq=False, repr=False)
class PairTable:
    """Image-note pairs with label, split, patient and attributes, checked on reading.

    Attributes
    ----------
    frame
        One row a pair, index 0 to N - 1, columns pair_id (unique), patient_id, split ("train", "val", "test"), label
        (int8, 0 or 1), text, image (path below `image_root`, with forward slashes), then one column an attribute. Split and
        attributes are categorical; a missing attribute is the category "Unknown", always the last. Not to be changed.
    attributes
        Names of the attribute columns.
    root
        The data folder.
    image_root
        The folder that image paths start from: the data folder, or a folder elsewhere that was declared.
    info
        Name, prompts, and what was decided on reading.
    report
        What was seen on reading; of the whole table, also for a part of it.
    """

    frame: pd.DataFrame
    attributes: tuple[str, ...]
    root: Path
    image_root: Path
    info: DatasetInfo
    report: IntakeReport

    @classmethod
    def read(
        cls,
        folder: Path | str,
        *,
        description: Description | Mapping | Path | str | None = None,
        seed: int = 0,
        max_refused_share: float = 0.05,
        allow_shared_patients: bool = False,
        check_images: bool = True,
        images: Path | str | None = None,
        progress: Progress | None = None,
    ) -> PairTable:
        """Read and check a data folder, whatever its layout (docs/data.md).

        Parameters
        ----------
        folder
            Holds ``manifest.csv`` or ``manifest.parquet``; or ``Training``, ``Validation`` and ``Test`` with .npz files
            (Harvard-FairVLMed); or another table that a description explains.
        description
            A `Description`, its content as a mapping, or the path of a JSON file; replaces ``dataset.json`` in the
            folder, for folders that cannot be written to.
        seed
            For splits, where the table has none. Not negative.
        max_refused_share
            0 to 1. Pairs whose image is missing or damaged are left out and listed up to this share of all rows; above
            it the table is refused.
        allow_shared_patients
            Let in patients with pairs in several splits; recorded in `info` and `report`.
        check_images
            Decode every image once. Without it a missing or damaged image shows when it is first used.
        images
            The folder that image paths start from, where the description names none; it may be anywhere.
        progress
            Called with (images checked, images in all).

        Raises
        ------
        InputError
            One line that names the file, row or column, and how to fix it.

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = (Path(folder.name) / "manifest.csv").write_text(
        ...     "pair_id,image,text,label,split,sex\\n001,1.png,Large cup,1,train,F\\n002,2.png,Healthy rim,0,test,\\n")
        >>> table = PairTable.read(folder.name, check_images=False)
        >>> len(table), table.attributes, table.attribute("sex").tolist()
        (2, ('sex',), ['F', 'Unknown'])
        >>> folder.cleanup()
        """
        options = ReadOptions(description, seed, max_refused_share, allow_shared_patients, check_images, images)
        return cls(**vars(read_folder(folder, options, progress)))

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        attributes: Sequence[str] | None = None,
        root: Path | str | None = None,
        name: str = "in memory",
        prompts: tuple[str | Sequence[str], str | Sequence[str]] | None = None,
        label_names: tuple[str, str] = ("negative", "positive"),
        splits: Mapping[str, float] | None = None,
        seed: int = 0,
        max_refused_share: float = 0.05,
        allow_shared_patients: bool = False,
        check_images: bool = False,
    ) -> PairTable:
        """Build a table from a frame in memory, under the same rules as `read`.

        Parameters
        ----------
        frame
            Columns pair_id, text, label; optional patient_id, split, image; any further column is an attribute. Row
            numbers in errors count from 0.
        attributes
            The attribute columns, where not all further ones.
        root
            Where images lie; needed for `image` and `check_images` only.
        prompts
            Of label 0, then label 1: a prompt, or several.
        splits
            Shares for tables without a split column, as ``{"train": 0.7, "val": 0.1, "test": 0.2}``.

        >>> frame = pd.DataFrame({"pair_id": ["a", "b"], "text": ["x", "y"], "label": [0, 1], "split": "train"})
        >>> table = PairTable.from_frame(frame.assign(race=["Black", None]))
        >>> table.labels.tolist(), table.attribute("race").tolist()
        ([0, 1], ['Black', 'Unknown'])
        """
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"frame: a pandas DataFrame is expected, not {type(frame).__name__}")
        options = ReadOptions(None, seed, max_refused_share, allow_shared_patients, check_images)
        raw = frame_rows(frame, None if attributes is None else tuple(attributes))
        given = parse_description({"prompts": prompts}, "prompts")
        origin = Origin(
            root=Path(root or "."),
            name=name,
            layout="memory",
            class_prompts=given.class_prompts or Origin.class_prompts,
            label_names=tuple(label_names),  # type: ignore[arg-type]
            shares=None if splits is None else parse_description({"splits": dict(splits)}, "splits").splits,
        )
        return cls(**vars(assemble(raw, origin, options)))

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        counts = self.frame["split"].value_counts(sort=False)
        parts = ", ".join(f"{name} {n}" for name, n in counts.items())
        groups = ", ".join(self.attributes) or "none"
        return f"PairTable({self.info.name!r}: {len(self)} pairs ({parts}); attributes {groups})"

    def only(self, split: str) -> PairTable:
        """The pairs of one split: "train", "val" or "test"; may be empty."""
        if split not in self.frame["split"].cat.categories:
            raise InputError(f"split: {split!r}; train, val or test is expected")
        return self.take(np.flatnonzero(self.frame["split"].to_numpy() == split))

    def take(self, rows: np.ndarray | Sequence[int]) -> PairTable:
        """Some of the pairs, by row numbers (in that order) or a mask of length N. Groups keep their categories."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise InputError(f"rows: a mask of shape {rows.shape} for {len(self)} pairs")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64).reshape(-1)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"rows: numbers from 0 to {len(self) - 1} are expected, got {rows.min()} to {rows.max()}")
        if len(np.unique(rows)) != len(rows):
            raise InputError("rows: a row is named twice; pair ids must stay unique")
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def image(self, row: int, side: int | None = None) -> Image:
        """The image of one pair as RGB, by the rules of `intake.images`; the error names the pair.

        With `side` a large JPEG may be read smaller, with no side below so many pixels.
        """
        if not 0 <= row < len(self):
            raise InputError(f"row: {row}; a number from 0 to {len(self) - 1} is expected")
        path = str(self.frame["image"].iat[row])
        try:
            if not path:
                raise InputError("the pair has no image")
            return read_image(self.image_root, path, side)
        except InputError as error:
            raise type(error)(f"pair {self.frame['pair_id'].iat[row]!r}: {error}") from None

    def attribute(self, name: str) -> np.ndarray:
        """Group names of one attribute, text of length N."""
        if name not in self.attributes:
            raise InputError(
                f"attribute: {name!r} is not in the data; there are {', '.join(self.attributes) or 'none'}"
            )
        return np.asarray(self.frame[name].astype(object), dtype=str)

    @property
    def pair_ids(self) -> np.ndarray:
        """Pair ids, text of length N."""
        return self.frame["pair_id"].to_numpy(dtype=str)

    @property
    def labels(self) -> np.ndarray:
        """Labels, int8 of length N."""
        return self.frame["label"].to_numpy()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of pairs in train, val and test."""
        return {split: int((self.frame["split"] == split).sum()) for split in ("train", "val", "test")}

    @cached_property
    def note_ids(self) -> np.ndarray:
        """Numbers of the notes, int64 of length N: equal for pairs with the same note."""
        return np.unique(self.frame["text"].to_numpy(dtype=str), return_inverse=True)[1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the rows in their order, the prompts, and how splits were made.

        Not over the images' bytes, the folder's place or name, or any time: the same rows give the same fingerprint on
        any machine.
        """
        settings: dict[str, object] = {
            "attributes": list(self.attributes),
            "prompts": list(self.info.prompts),
            "label_names": list(self.info.label_names),
            "split_source": self.info.split_source,
            "seed": self.info.seed,
            "shared_patients": self.info.shared_patients,
        }
        if self.info.class_prompts != tuple((prompt,) for prompt in self.info.prompts):
            settings["class_prompts"] = self.info.class_prompts  # stored fingerprints knew one prompt a class
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name in self.frame.columns:
            column = self.frame[name]
            digest.update(f"\0{name}\0{len(column)}\0".encode())
            if name == "label":
                digest.update(column.to_numpy(np.int8).tobytes())
                continue
            text = pa.array(column.astype(STRING), pa.large_string())
            if isinstance(text, pa.ChunkedArray):
                text = text.combine_chunks()
            # Lengths and bytes of the cells: what Arrow holds, but from zero, since a slice starts anywhere.
            _, offsets, data = text.buffers()
            ends = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
            digest.update(np.diff(ends).tobytes())
            if data is not None and len(ends):
                digest.update(memoryview(data)[ends[0] : ends[-1]])
        return digest.hexdigest()

    def planted(self) -> pd.DataFrame | None:
        """What is known to be wrong with the pairs, from ``planted.csv`` beside the data; None where there is none.

        For evaluation and pages only, never for training. Returns the rows of this table's pairs, in its order:
        pair_id, kind ("clean", "mismatch" or "shortcut"), and whatever further columns the file has, as text.

        Raises
        ------
        InputError
            The file is damaged, lacks a column, names an unknown kind or a pair twice.
        """
        path = Path(self.root) / PLANTED
        if not path.exists():
            return None
        table = read_table(Path(self.root), PLANTED)
        for name in ("pair_id", "kind"):
            if name not in table.columns:
                raise InputError(f"{PLANTED}: no column {name!r}; pair_id and kind are expected")
        frame = pd.DataFrame({name: pd.array(column, dtype=STRING) for name, column in table.columns.items()})
        wrong = (~frame["kind"].isin(PLANTED_KINDS)).to_numpy(bool)
        if wrong.any():
            raise InputError(
                f"{PLANTED} row {table.row(int(np.argmax(wrong)))}: the kind is not one of {', '.join(PLANTED_KINDS)}"
            )
        twice = frame["pair_id"].duplicated().to_numpy(bool)
        if twice.any():
            raise InputError(f"{PLANTED} row {table.row(int(np.argmax(twice)))}: the pair_id is given twice")
        place = pd.Index(frame["pair_id"]).get_indexer(pd.Index(self.frame["pair_id"]))
        return frame.iloc[place[place >= 0]].reset_index(drop=True)
