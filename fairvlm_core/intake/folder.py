"""A data folder to a validated `PairTable`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..pairs import PairTable
from .assemble import assemble, check_settings
from .description import DEFAULT_LABEL_NAMES, DEFAULT_PROMPTS, Description
from .fairvlmed import fairvlmed_rows
from .layouts import find_layout
from .tables import table_rows
from .webdataset import webdataset_rows


def read_folder(
    folder: Path | str,
    *,
    description: Description | Mapping | Path | str | None = None,
    seed: int = 0,
    max_refused_share: float = 0.05,
    allow_shared_patients: bool = False,
    check_images: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> PairTable:
    """Find a folder's layout and read it; documented at `PairTable.read`."""
    check_settings(seed, max_refused_share)
    layout = find_layout(Path(folder) if isinstance(folder, str) else folder, description)
    folder = Path(folder)
    content = layout.description
    note_source = "column"
    if layout.kind == "fairvlmed":
        raw, note_source = fairvlmed_rows(folder, content, check_images=check_images, progress=progress)
        label_names = content.label_names or ("non-glaucoma", "glaucoma")
    else:
        raw = webdataset_rows(folder, content) if layout.kind == "webdataset" else table_rows(folder, layout)
        label_names = content.label_names or DEFAULT_LABEL_NAMES
    return assemble(
        raw,
        root=folder,
        name=content.name or ("Harvard-FairVLMed" if layout.kind == "fairvlmed" else folder.resolve().name),
        layout=layout.kind,
        description=layout.origin,
        prompts=content.prompts or DEFAULT_PROMPTS,
        label_names=label_names,
        shares=content.splits,
        seed=seed,
        max_refused_share=max_refused_share,
        allow_shared_patients=allow_shared_patients,
        check_images=check_images,
        note_source=note_source,
        progress=progress,
    )
