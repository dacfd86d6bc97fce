"""The command line: commands parse, call the library, and print. They decide nothing themselves.

Exit codes: 0 success; 2 bad input or usage, with one line on standard error; 1 a run that had to stop, or a bug.
With `--json`, standard output then holds one JSON document, too: {"error": the line, "exit": the code}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import InputError, TrainingError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Read when torch is first imported. Waiting threads keep their cores for this many iterations; the default of
        # 300,000 makes training beside other work several times slower (benchmarks/beside_other_work.py).
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from .app import app  # imports typer and rich

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
        _stop_for_typer(error, as_json)
        if as_json:
            _print_error(f"internal error: {type(error).__name__}", 1)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _stop_for_typer(error: Exception, as_json: bool) -> None:
    """Exit for an exception by which typer reports usage; it may bring its own copy of click, so names are compared."""
    name = type(error).__name__
    message = getattr(error, "format_message", None)
    if name == "Abort":
        _stop("stopped", 130, as_json)
    elif name == "NoArgsIsHelpError" and message is not None:  # a group of commands without a command
        print(message())
        sys.exit(0)
    elif message is not None and hasattr(error, "exit_code"):
        _stop(f"{message()} (`fairvlm --help` lists the commands)", 2, as_json)


def _stop(line: str, code: int, as_json: bool) -> NoReturn:
    line = " ".join(line.split())
    if as_json:
        _print_error(line, code)
    print(f"fairvlm: {line}", file=sys.stderr)
    sys.exit(code)


def _print_error(line: str, code: int) -> None:
    print(json.dumps({"error": line, "exit": code}, ensure_ascii=False))
