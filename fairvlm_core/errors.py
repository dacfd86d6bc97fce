"""The errors a user can cause and mend.

Everything that is wrong with *input* (a file, a row, a column, a setting) is raised as :class:`InputError` with one
line that names the place and the mend. The command line prints that line and exits with 2; a page shows the same line.
Anything else is a defect of ours and keeps its traceback (exit 1).
"""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one clear line that says what is wrong, where, and how to mend it."""


class TrainingError(RuntimeError):
    """A run had to stop (non-finite loss, out of memory): names the step and what to change. Exit 1, no traceback."""
