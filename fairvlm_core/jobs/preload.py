"""What every run needs, imported once by the process that runs are forked from.

What goes wrong here goes wrong again in the run's own process, and is told there.
"""

import contextlib

with contextlib.suppress(Exception):
    from .. import launch  # noqa: F401
