"""Sweeps: settings drawn by Optuna, a run for each seed, judged on the validation split; several workers can share one.

`space` says what is varied, `storage` where a study is kept, `work` is a worker, `results` reads what was found.
"""

from .results import OBJECTIVES, Sweep, Trial, TrialState, read_sweep
from .space import DEFAULT, Parameter, Space, read_space_file
from .storage import Storage, known, place_of
from .work import SAMPLERS, Plan, sweep, validation_metric, workspace_id

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
    "TrialState",
    "known",
    "place_of",
    "read_space_file",
    "read_sweep",
    "sweep",
    "validation_metric",
    "workspace_id",
]
