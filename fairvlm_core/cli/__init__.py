"""The command line. Commands parse, call the rooms of the library, and print; nothing is decided here.

Exit codes: 0 success; 2 bad input or usage, with one line on standard error; 1 a run that had to stop, or a defect of ours.
With `--json` standard output holds one JSON document then, too: {"error": the line, "exit": the code}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from ..errors import InputError, TrainingError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Read when torch is first imported: how long a waiting thread keeps its core busy. OpenMP's default of 300,000
        # turns makes training several times slower when other processes use the same cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from .app import app  # typer and rich are only paid for here

    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        code = app(args=given or ["--help"], prog_name="fairvlm", standalone_mode=False)
    except InputError as error:
        _stop(str(error), 2, as_json)
    except TrainingError as error:
        _stop(str(error), 1, as_json)
    except KeyboardInterrupt:
        _stop("stopped", 130, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        usage = hasattr(error, "format_message") and hasattr(error, "exit_code")
        if type(error).__name__ == "Abort":
            _stop("stopped", 130, as_json)
        if type(error).__name__ == "NoArgsIsHelpError":  # a group of commands that was named without one
            print(error.format_message())
            sys.exit(0)
        if not usage:
            if as_json:
                _print_error(f"internal error: {type(error).__name__}", 1)
            raise
        _stop(f"{error.format_message()} (`fairvlm --help` lists the commands)", 2, as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(line: str, code: int, as_json: bool) -> None:
    line = " ".join(line.split())
    if as_json:
        _print_error(line, code)
    print(f"fairvlm: {line}", file=sys.stderr)
    sys.exit(code)


def _print_error(line: str, code: int) -> None:
    print(json.dumps({"error": line, "exit": code}, ensure_ascii=False))
