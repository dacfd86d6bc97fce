"""A run for other tools: Parquet tables, a model that open_clip loads, a model card, TensorBoard and MLflow files."""

from __future__ import annotations

from .card import model_card
from .folder import FORMATS, ExportOptions, ExportResult, export_run
from .scalars import Scalar, run_scalars

__all__ = ["FORMATS", "ExportOptions", "ExportResult", "Scalar", "export_run", "model_card", "run_scalars"]
