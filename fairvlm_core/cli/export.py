"""`export`: a run as files for other tools."""

from __future__ import annotations

from pathlib import Path

from ..export import ExportOptions, export_run
from ..runs import RunStore
from . import show


def export(run_id: str, workspace: Path | None, folder: Path, options: ExportOptions, json: bool) -> None:
    """Write the folder and say what is in it, and what the model folder cannot express."""
    result = export_run(RunStore(workspace).get(run_id), folder, options)
    if json:
        show.print_json({"folder": str(result.folder), "files": result.files, "remarks": result.remarks})
        return
    for line in result.remarks:
        show.out.print(line, markup=False)
    show.out.print(f"{len(result.files)} files; README.md is the model card" if "README.md" in result.files else
                   f"{len(result.files)} files", markup=False)  # fmt: skip
    print(result.folder)
