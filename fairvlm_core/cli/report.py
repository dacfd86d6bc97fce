"""`report`: a run as one file."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..report import ReportOptions, build_content, render_html
from ..runs import RunStore
from ..safeio import write_text
from . import show


def report_run(
    run_id: str,
    workspace: Path | None,
    *,
    baseline: str | None,
    out: Path | None,
    options: ReportOptions,
    json: bool,
) -> None:
    """Write the HTML; with `json` print the content instead, and write HTML only where `out` says so."""
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {out.name}: the report is an HTML file; name it FILE.html")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    store = RunStore(workspace)
    run = store.get(run_id)
    content = build_content(run, baseline=None if baseline is None else store.get(baseline), options=options)
    if json:
        show.print_json(content)
    if out is not None or not json:
        path = out or Path(f"{run.id}-report.html")
        write_text(path, render_html(content))
        if not json:
            print(path)
