"""Experiments: several methods, seeds, attributes and models in one table."""

from __future__ import annotations

from ui import experiment_page
from ui.frame import page

with page("Experiments", "Methods, seeds, attributes and models in one table.", runs="none") as here:
    experiment_page.show(here)
