"""The command line. Commands parse, call the rooms of the library, and print; nothing is decided here.

Exit codes: 0 success; 2 bad input or usage, with one line on standard error; 1 a run that had to stop, or a defect of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..errors import InputError, TrainingError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    from .app import app  # typer and rich are only paid for here

    try:
        code = app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except InputError as error:
        _stop(str(error), 2)
    except TrainingError as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        usage = hasattr(error, "format_message") and hasattr(error, "exit_code")
        if type(error).__name__ == "Abort":
            _stop("stopped", 130)
        if not usage:
            raise
        _stop(f"{error.format_message()} (`fairvlm --help` lists the commands)", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(line: str, code: int) -> None:
    print(f"fairvlm: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)
