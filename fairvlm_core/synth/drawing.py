"""Draw many images at once, in several processes where that is faster. Threads do not help: the operations are small."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from fairvlm_core.processes import end_with_parent

from .config import SynthConfig
from .disparity import device_strength, other_device
from .fundus import render_fundus
from .looks import draw_look
from .markers import stamp

Progress = Callable[[int, int], None]
PAIRS_PER_PROCESS = 250  # drawing fewer takes less time than starting a process
_MOST_WORKERS = 8
_BATCH = 16  # images that a process draws between two messages


@dataclass(frozen=True)
class Drawing:
    """One image to draw."""

    eye: Mapping[str, Any]  # a row of the findings
    person: Mapping[str, Any]  # split, race, gender, ethnicity, language, age
    index: int  # of the pair within its split
    marker: str  # to burn in, or empty


def draw_pair(config: SynthConfig, drawing: Drawing) -> np.ndarray:
    """The image of one pair, uint8 [size, size]; depends on the configuration's seed and the drawing alone."""
    eye, person, split = drawing.eye, drawing.person, drawing.person["split"]
    grain = config.generator("image", split, drawing.index)
    groups = {name: person[name] for name in ("race", "gender", "ethnicity", "language", "age")}
    look = draw_look(
        grain, **groups, quality=eye["quality"], site=config.site, group_appearance=config.group_appearance
    )
    image = render_fundus(eye, look, config.size, config.generator("vessels", split, drawing.index), grain)
    strength = device_strength(config, person)
    if strength is not None:
        image = other_device(image, config.generator("device", split, drawing.index), strength)
    if not drawing.marker:
        return image
    return stamp(image, drawing.marker, config.generator("marker", split, drawing.index))


def draw_all(
    config: SynthConfig, drawings: list[Drawing], workers: int | None, progress: Progress | None
) -> np.ndarray:
    """Images of all drawings, uint8 [n, size, size]; the same bytes whatever the number of workers.

    Args:
        config, drawings: what to draw.
        workers: processes; None takes one a processor core (at most 8), and fewer for a small set.
        progress: called with (done, in all) from the calling thread.
    """
    if workers is None:
        workers = min(os.cpu_count() or 1, _MOST_WORKERS, max(1, len(drawings) // PAIRS_PER_PROCESS))
    images = np.empty((len(drawings), config.size, config.size), dtype=np.uint8)
    # joblib's processes are no forks of this one, and do not run the caller's script again.
    pool = Parallel(
        workers, return_as="generator", batch_size=_BATCH, idle_worker_timeout=10, initializer=end_with_parent,
        initargs=(os.getpid(),),
    )  # fmt: skip
    drawn = pool(delayed(draw_pair)(config, drawing) for drawing in drawings)
    try:
        for i, image in enumerate(drawn):
            images[i] = image
            if progress is not None:
                progress(i + 1, len(drawings))
    finally:
        with warnings.catch_warnings():  # of an interrupt, joblib warns that it cancels what is not drawn yet
            warnings.simplefilter("ignore")
            drawn.close()
    return images
