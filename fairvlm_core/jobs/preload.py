"""Imports that every run needs, made once by the process that runs are forked from.

An import that fails here fails again in the run's own process, which reports it.
"""

import contextlib

with contextlib.suppress(Exception):
    from .. import launch  # noqa: F401
