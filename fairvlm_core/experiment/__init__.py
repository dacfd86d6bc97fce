"""Experiments: methods x seeds or folds x attributes x models, described in one TOML file and reported as one table.

Runs are ordinary runs of a workspace. A run that is there already, from another experiment or from the command line, is
used and not trained again.
"""

from .plan import Cell, Experiment, parse_experiment, read_experiment
from .table import ExperimentTable, make_table
from .work import (
    Progress,
    Stored,
    Trained,
    find_runs,
    folder_of,
    queue_missing,
    read_stored,
    stored_experiments,
    train_missing,
)

__all__ = [
    "Cell",
    "Experiment",
    "ExperimentTable",
    "Progress",
    "Stored",
    "Trained",
    "find_runs",
    "folder_of",
    "make_table",
    "parse_experiment",
    "queue_missing",
    "read_experiment",
    "read_stored",
    "stored_experiments",
    "train_missing",
]
