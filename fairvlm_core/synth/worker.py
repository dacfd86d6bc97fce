"""A drawing process: reads (configuration, tasks) from its standard input, writes the images' bytes to its output."""

from __future__ import annotations

import pickle
import sys

from fairvlm_core.synth.drawing import draw_pair


def main() -> None:
    config, tasks = pickle.load(sys.stdin.buffer)  # nosec B301 - from our own parent process: see drawing.py
    try:
        for task in tasks:
            sys.stdout.buffer.write(draw_pair(config, task).tobytes())
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # the parent has stopped listening
        sys.exit(1)


if __name__ == "__main__":
    main()
