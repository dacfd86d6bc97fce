"""A data folder to a checked table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..cells import typed_path
from ..errors import InputError
from .assemble import Assembled, assemble
from .description import DEFAULT_LABEL_NAMES
from .fairvlmed import fairvlmed_rows
from .files import shown
from .layouts import find_layout
from .locate import FileFolder, checked
from .rows import Origin, Progress, ReadOptions
from .tables import table_rows
from .warning import IntakeWarning, WarningKind
from .webdataset import webdataset_rows


def read_folder(folder: Path | str, options: ReadOptions, progress: Progress | None = None) -> Assembled:
    """Find a folder's layout and read it; documented at `PairTable.read`."""
    layout = find_layout(folder, options.description)
    folder, content = typed_path(folder), layout.description
    name, label_names, note_source = folder.resolve().name, DEFAULT_LABEL_NAMES, "column"
    images: FileFolder | None = None
    if layout.kind == "fairvlmed":
        raw, note_source = fairvlmed_rows(folder, content, check_images=options.check_images, progress=progress)
        name, label_names = "Harvard-FairVLMed", ("non-glaucoma", "glaucoma")
    elif layout.kind == "webdataset":
        raw = webdataset_rows(folder, content)
    else:
        raw = table_rows(folder, layout)
        images = checked(FileFolder.of(folder, content.images, options.images))
        if layout.origin == "dataset.json" and images.root != folder and options.images is None:
            text = f"images are read from {shown(images.root, 200)}, as {layout.origin} says"
            raw = replace(raw, warnings=[*raw.warnings, IntakeWarning(WarningKind.TEXT, values={"text": text})])
    if images is None and options.images is not None:
        raise InputError(f"images: a folder of the {layout.kind} layout holds its images itself; leave out --images")
    origin = Origin(
        root=folder,
        name=content.name or name,
        layout=layout.kind,
        class_prompts=content.class_prompts or Origin.class_prompts,
        label_names=content.label_names or label_names,
        description=layout.origin,
        note_source=note_source,
        images=images,
        shares=content.splits,
    )
    return assemble(raw, origin, options, progress)
