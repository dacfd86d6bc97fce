"""Sweeps: settings drawn by Optuna, a run for each seed, judged on the validation split; by several workers if wanted.

`space` says what is varied, `storage` where a study is kept, `work` is a worker, `results` what came out. docs/sweep.md.
"""

from .results import OBJECTIVES, Sweep, Trial, read_sweep
from .space import DEFAULT, Parameter, Space, read_space_file
from .storage import Storage, known, place_of
from .work import SAMPLERS, Plan, sweep, validation_figure, workspace_id

__all__ = [
    "DEFAULT",
    "OBJECTIVES",
    "SAMPLERS",
    "Parameter",
    "Plan",
    "Space",
    "Storage",
    "Sweep",
    "Trial",
    "known",
    "place_of",
    "read_space_file",
    "read_sweep",
    "sweep",
    "validation_figure",
    "workspace_id",
]
