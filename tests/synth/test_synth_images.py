"""The images: determinism, and that the pixels show what the findings say."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fairvlm_core.errors import InputError
from fairvlm_core.synth import SynthConfig, SynthData, synthesize
from fairvlm_core.synth.cohort import draw_cohort, draw_findings
from fairvlm_core.synth.drawing import Drawing, draw_all, draw_pair
from fairvlm_core.synth.markers import MARKERS, stamp


def _digest(data: SynthData) -> str:
    digest = hashlib.sha256(data.images.tobytes())
    for table in (data.frame, data.planted, data.findings):
        digest.update(table.to_csv().encode())
    return digest.hexdigest()


def _in_disc(data: SynthData, i: int) -> np.ndarray:
    """Distance of every pixel from the disc's centre, 1 on its edge."""
    eye = data.findings.iloc[i]
    rows, columns = np.mgrid[: data.config.size, : data.config.size] + 0.5
    return np.hypot(
        (columns - eye["disc_x_px"]) / eye["disc_radius_x_px"], (rows - eye["disc_y_px"]) / eye["disc_radius_y_px"]
    )


def _cup_statistics(data: SynthData) -> np.ndarray:
    """Four plain pixel statistics of each image: bright share of the disc, its contrast, its mean, the image's spread."""
    rows = []
    for i in range(len(data)):
        image, reach = data.images[i].astype(float), _in_disc(data, i)
        disc, ring = image[reach < 0.95], image[(reach > 1.2) & (reach < 1.7)]
        brightest, around = np.percentile(disc, 97), np.median(ring)
        bright = (disc > around + 0.62 * (brightest - around)).mean()
        rows.append((np.sqrt(bright), brightest - around, disc.mean() - around, image.std()))
    return np.array(rows)


@pytest.fixture(scope="module")
def statistics(synth: SynthData) -> np.ndarray:
    return _cup_statistics(synth)


def test_images_are_grey_bytes_of_the_size_asked_for(synth: SynthData) -> None:
    assert synth.images.shape == (600, 128, 128)
    assert synth.images.dtype == np.uint8
    means = synth.images.reshape(600, -1).mean(axis=1)
    assert means.min() > 25
    assert means.max() < 190
    assert (synth.images == 255).mean() < 0.01  # hardly anything is overexposed


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    config = SynthConfig(n_train=24, n_val=4, n_test=4, size=64)
    first, again = synthesize(config, workers=1), synthesize(config, workers=1)
    assert _digest(first) == _digest(again)
    assert _digest(first) != _digest(synthesize(replace(config, seed=1), workers=1))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    config = SynthConfig(n_train=31, n_val=3, n_test=0, size=48, mismatch_rate={"White": 0.3})
    seen: list[tuple[int, int]] = []
    parallel = synthesize(config, workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert _digest(parallel) == _digest(synthesize(config, workers=1))
    assert seen == [(done, 34) for done in range(1, 35)]


def test_an_error_in_the_progress_callback_ends_the_drawing() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt(f"{done} of {total}")

    with pytest.raises(KeyboardInterrupt):
        synthesize(SynthConfig(n_train=60, n_val=0, n_test=0, size=48), workers=2, progress=stop)


@pytest.mark.parametrize("workers", [0, -2, 1.5])
def test_workers_below_one_are_refused(workers: float) -> None:
    with pytest.raises(InputError, match=r"^workers: "):
        synthesize(SynthConfig(n_train=20, n_val=0, n_test=0), workers=workers)


def test_a_knob_for_bad_pairs_leaves_every_other_byte_alone() -> None:
    config = SynthConfig(n_train=60, n_val=5, n_test=5, size=48, shortcut_rate=0.1)
    spoiled = synthesize(config, workers=1)
    clean = synthesize(replace(config, mismatch_rate=0, shortcut_rate=0), workers=1)
    marked = (spoiled.planted["kind"] == "shortcut").to_numpy()
    np.testing.assert_array_equal(spoiled.images[~marked], clean.images[~marked])
    assert (spoiled.images[marked] != clean.images[marked]).any(axis=(1, 2)).all()
    assert spoiled.planted["clean_text"].tolist() == clean.frame["text"].tolist()
    assert spoiled.findings.equals(clean.findings)


def test_the_bright_area_in_the_disc_follows_the_cup_to_disc_ratio(synth: SynthData, statistics: np.ndarray) -> None:
    assert np.corrcoef(statistics[:, 0], synth.findings["cdr_vertical"])[0, 1] > 0.85


@pytest.mark.parametrize("race", ["Asian", "Black", "White"])
def test_the_cup_can_be_measured_in_every_group(synth: SynthData, statistics: np.ndarray, race: str) -> None:
    chosen = (synth.frame["race"] == race).to_numpy()
    assert np.corrcoef(statistics[chosen, 0], synth.findings["cdr_vertical"][chosen])[0, 1] > 0.8


def test_four_pixel_statistics_separate_the_labels_well_but_not_perfectly(
    synth: SynthData, statistics: np.ndarray
) -> None:
    scaled = (statistics - statistics.mean(axis=0)) / statistics.std(axis=0)
    label, split = synth.frame["label"].to_numpy(), synth.frame["split"]
    train, rest = (split == "train").to_numpy(), (split != "train").to_numpy()
    scores = LogisticRegression().fit(scaled[train], label[train]).decision_function(scaled[rest])
    assert 0.91 < roc_auc_score(label[rest], scores) < 0.995


def test_the_cup_is_still_there_at_64_pixels(synth: SynthData) -> None:
    measured = []
    for i in range(200):
        eye = synth.findings.iloc[i]
        image = np.asarray(Image.fromarray(synth.images[i]).resize((64, 64), Image.Resampling.BOX), dtype=float)
        rows, columns = np.mgrid[:64, :64] * 2 + 1.0
        reach = np.hypot(
            (columns - eye["disc_x_px"]) / eye["disc_radius_x_px"], (rows - eye["disc_y_px"]) / eye["disc_radius_y_px"]
        )
        around = np.median(image[(reach > 1.2) & (reach < 1.7)])
        disc = image[reach < 0.95]
        measured.append(np.sqrt((disc > around + 0.62 * (np.percentile(disc, 97) - around)).mean()))
    assert np.corrcoef(measured, synth.findings["cdr_vertical"][:200])[0, 1] > 0.8


def _with(findings: dict, **changes: object) -> dict:
    return findings | changes


def _draw_one(size: int = 128, **changes: object) -> np.ndarray:
    config = SynthConfig(n_train=20, n_val=0, n_test=0, size=size)
    cohort = draw_cohort(config)
    eye = draw_findings(config, cohort).to_dict("records")[0]
    plain = {"notch": "none", "notch_depth": 0.0, "rnfl_defect": "none", "rnfl_defect_depth": 0.0, "damage": 0.0,
             "haemorrhage": False, "quality": "good", "cdr_vertical": 0.4, "cdr_horizontal": 0.4, "rotation": 0.0,
             "eye": "OD", "disc_x": 0.66, "disc_y": 0.49}  # fmt: skip
    person = cohort.to_dict("records")[0]
    return draw_pair(config, Drawing(_with(eye, **plain) | changes, person, 0, "")).astype(float)


def test_one_finding_changes_the_image_where_it_lies_and_nowhere_else() -> None:
    plain = _draw_one()
    size = len(plain)
    x, y = np.meshgrid((np.arange(size) + 0.5) / size - 0.66, 0.49 - (np.arange(size) + 0.5) / size)
    wedge = _draw_one(rnfl_defect="inferior", rnfl_defect_depth=0.9, rnfl_defect_width=30.0, rnfl_defect_angle=124.0)
    darker = plain - wedge
    below = (x < -0.1) & (x > -0.3) & (y < -0.1) & (y > -0.25)
    above = (x < -0.1) & (x > -0.3) & (y > 0.12) & (y < 0.25)
    assert darker[below].mean() > 5 * max(abs(darker[above].mean()), 0.5)
    bleed = plain - _draw_one(haemorrhage=True, haemorrhage_angle=-125.0)
    at_edge = np.hypot(x - 0.13 * np.cos(np.deg2rad(-125)), y - 0.13 * np.sin(np.deg2rad(-125))) < 0.03
    assert bleed[at_edge].max() > 25
    assert np.abs(bleed[np.hypot(x, y) > 0.25]).max() <= 1
    notch = _draw_one(notch="superior", notch_depth=0.9) - plain
    upper, lower = notch[(np.hypot(x, y) < 0.12) & (y > 0.05)], notch[(np.hypot(x, y) < 0.12) & (y < -0.05)]
    assert upper.mean() > 5
    assert abs(lower.mean()) < 1


def test_a_left_eye_is_the_mirror_image_of_a_right_one_but_for_light_and_grain() -> None:
    right, left = _draw_one(eye="OD", disc_x=0.66), _draw_one(eye="OS", disc_x=0.34)
    right, left = (image - gaussian_filter(image, 8) for image in (right, left))  # light varies slowly: leave it out
    mirrored = np.corrcoef(right[:, ::-1].ravel(), left.ravel())[0, 1]
    assert mirrored > 0.6
    assert mirrored > np.corrcoef(right.ravel(), left.ravel())[0, 1] + 0.3


@pytest.mark.parametrize("size", [64, 256, 512])
def test_the_same_eye_is_drawn_at_every_size(size: int) -> None:
    at_128 = _draw_one(128)
    resized = np.asarray(Image.fromarray(_draw_one(size).astype(np.uint8)).resize((128, 128), Image.Resampling.BOX))
    assert np.corrcoef(at_128.ravel(), resized.ravel())[0, 1] > 0.85


def test_groups_look_alike_at_zero_appearance_and_apart_at_one() -> None:
    gaps = {}
    for appearance in (0.0, 1.0):
        config = SynthConfig(
            n_train=240, n_val=0, n_test=0, size=48, proportions="balanced", mismatch_rate=0, shortcut_rate=0,
            group_appearance=appearance,
        )  # fmt: skip
        data = synthesize(config, workers=1)
        brightness = data.images.reshape(len(data), -1).mean(axis=1)
        by_race = [brightness[(data.frame["race"] == race).to_numpy()] for race in ("White", "Black")]
        gaps[appearance] = (by_race[0].mean() - by_race[1].mean()) / brightness.std()
    assert abs(gaps[0.0]) < 0.35
    assert gaps[1.0] > 1.2


def test_the_other_site_has_another_camera(synth: SynthData, other_site: SynthData) -> None:
    corners = other_site.images[:, :4, :4].mean()
    assert corners < 8  # a round field
    assert synth.images[:, :8, :8].mean() > 25


def test_markers_differ_from_each_other_and_are_visible_at_64_pixels() -> None:
    blank = np.full((64, 64), 100, dtype=np.uint8)
    stamped = {marker: stamp(blank, marker, np.random.default_rng(4)) for marker in MARKERS}
    assert (blank == 100).all()
    for marker, image in stamped.items():
        changed = image != 100
        assert 60 < changed.sum() < 0.1 * 64 * 64, marker
        assert image[changed].max() > 180, marker
        assert image[changed].min() < 60, marker
    assert len({image.tobytes() for image in stamped.values()}) == len(MARKERS)


def test_a_drawing_process_that_fails_is_reported_and_not_waited_for() -> None:
    config = SynthConfig(n_train=20, n_val=0, n_test=0, size=48)
    cohort = draw_cohort(config)
    eyes, people = draw_findings(config, cohort).to_dict("records"), cohort.to_dict("records")
    drawings = [Drawing(eye, person, i, "") for i, (eye, person) in enumerate(zip(eyes, people, strict=True))]
    drawings[7] = replace(drawings[7], eye={})
    with pytest.raises(KeyError, match="quality"):
        draw_all(config, drawings, 2, None)


def test_drawing_processes_end_when_their_parent_is_killed() -> None:
    code = "from fairvlm_core.synth import *; synthesize(SynthConfig(n_train=9000, n_val=0, n_test=0), workers=2)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until, drawing = time.monotonic() + 60, []
    while len(drawing) < 2 and time.monotonic() < until:
        time.sleep(0.2)
        children = psutil.Process(parent.pid).children(recursive=True)
        drawing = [child for child in children if "LokyProcess" in " ".join(child.cmdline())]
    assert len(drawing) == 2
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs(drawing, timeout=60)
    assert left == []
