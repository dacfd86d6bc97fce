"""Errors that a user can cause and correct.

Wrong input (a file, a row, a column, a setting) raises `InputError` with one line that says where it is and how to fix it.
The command line prints that line and exits with 2; a page shows the same line. Any other exception is a defect of fairvlm
and keeps its traceback (exit 1).
"""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one clear line that says what is wrong, where, and how to fix it."""


class DataWarning(UserWarning):
    """Data that can be used, but may not mean what it seems to: one line, with how to fix it."""


class TrainingError(RuntimeError):
    """A run had to stop (non-finite loss, out of memory); says at which step and what to change. Exit 1, no traceback."""
