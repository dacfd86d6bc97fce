"""A run as one self-contained HTML file, and the same content as JSON."""

from __future__ import annotations

from .content import ReportOptions, build_content
from .page import render_html
from .privacy import hidden_cells

__all__ = ["ReportOptions", "build_content", "hidden_cells", "render_html"]
