"""The map: planted clusters stay separate, the same seed gives the same points, and a finished run has a map."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from fairvlm_core.analysis.pairmap import make_map, make_map_if_possible, map_is_being_made
from fairvlm_core.analysis.projection import project
from fairvlm_core.config import RunConfig
from fairvlm_core.errors import InputError
from fairvlm_core.launch import create_run, execute
from fairvlm_core.runs import Run, RunStore

N, GROUPS = 66, 3


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images in three clusters; notes in three others that cut across them; and the images' clusters."""
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    image_of, text_of = np.arange(N) % GROUPS, np.arange(N) // (N // GROUPS)
    image = centres[image_of] + 0.05 * rng.normal(size=(N, 16))
    text = centres[GROUPS + text_of] + 0.05 * rng.normal(size=(N, 16))
    return image, text, image_of


def neighbours_agree(points: np.ndarray, groups: np.ndarray) -> float:
    """Share of points whose nearest neighbour on the map is of their group."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((groups[distance.argmin(1)] == groups).mean())


@pytest.mark.slow
def test_umap_keeps_planted_clusters_and_is_reproducible(planted) -> None:
    image, text, groups = planted
    found = project(image, text, seed=4)
    assert found.method == "UMAP"
    assert found.image.shape == found.text.shape == (N, 2)
    assert neighbours_agree(found.image, groups) == 1.0
    assert neighbours_agree(found.text, np.arange(N) // (N // GROUPS)) == 1.0
    for points in (found.image, found.text):
        assert np.abs(points).max() == pytest.approx(1.0, abs=1e-6)
        assert np.allclose(points.min(0), -points.max(0), atol=1e-5)
    again = project(image, text, seed=4)
    assert (again.image == found.image).all()
    assert (again.text == found.text).all()
    assert (project(image, text, seed=5).image != found.image).any()


@pytest.mark.slow
def test_above_the_limit_umap_is_fitted_on_a_sample(planted) -> None:
    image, text, groups = planted
    found = project(image, text, seed=4, largest_fit=45)
    assert found.method == "UMAP, fitted on 45 of 66 pairs"
    assert neighbours_agree(found.image, groups) > 0.95


def test_few_pairs_are_projected_to_principal_components() -> None:
    features = np.random.default_rng(1).normal(size=(9, 5))
    found = project(features, features[::-1], seed=0)
    assert found.method == "principal components (fewer than 15 pairs)"
    centred = features - features.mean(0)
    scores = centred @ np.linalg.svd(centred)[2][:2].T
    for axis in range(2):
        assert abs(np.corrcoef(found.image[:, axis], scores[:, axis])[0, 1]) == pytest.approx(1.0, abs=1e-5)
    assert project(np.ones((1, 4)), np.ones((1, 4)), seed=0).image.tolist() == [[0.0, 0.0]]
    assert project(np.ones((4, 3)), np.ones((4, 3)), seed=0).text.tolist() == [[0.0, 0.0]] * 4


def test_the_method_names_a_failure_of_umap(planted, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as if not installed
    found = project(*planted[:2], seed=0)
    assert found.method == "principal components (UMAP cannot run here: ModuleNotFoundError)"
    assert np.isfinite(found.image).all()


def test_bad_features_are_refused() -> None:
    with pytest.raises(InputError, match="3 rows for 4 images"):
        project(np.ones((4, 2)), np.ones((3, 2)), seed=0)
    broken = np.ones((4, 2))
    broken[2, 1] = np.nan
    with pytest.raises(InputError, match="row 2 is not finite"):
        project(np.ones((4, 2)), broken, seed=0)
    with pytest.raises(InputError, match="at least one pair"):
        project(np.ones((0, 2)), np.ones((0, 2)), seed=0)
    with pytest.raises(InputError, match="2 ids for 3 points"):
        project(np.eye(3), np.eye(3), seed=0).to_frame(["a", "b"])


# Of a run


@pytest.fixture
def small_run(tmp_path: Path) -> Run:
    """Ten pairs with embeddings: few enough for principal components."""
    ids = [f"p{i}" for i in range(10)]
    pairs = pd.DataFrame({"pair_id": ids, "patient_id": ids, "split": "train", "label": 0})
    run = RunStore(tmp_path).create(RunConfig.build("clip"), {"folder": ".", "attributes": []}, pairs)
    rng = np.random.default_rng(0)
    run.write_embeddings(rng.normal(size=(10, 4)), rng.normal(size=(10, 4)))
    return run


def test_a_map_is_stored_in_the_run(small_run: Run) -> None:
    assert not map_is_being_made(small_run)
    method = make_map(small_run)
    frame = small_run.projection()
    assert frame["pair_id"].tolist() == small_run.pairs()["pair_id"].tolist()
    assert set(frame["method"]) == {method}
    assert not map_is_being_made(small_run)


def test_one_process_at_a_time_makes_a_map(small_run: Run) -> None:
    with FileLock(small_run.path / ".map.lock"):
        assert map_is_being_made(small_run)
        with pytest.raises(InputError, match="by another process"):
            make_map(small_run)
    assert not map_is_being_made(small_run)
    assert not (small_run.path / "projection.parquet").exists()


def test_without_embeddings_the_map_is_refused_and_the_run_unchanged(small_run: Run) -> None:
    (small_run.path / "embeddings.npz").unlink()
    small_run.set_status(state="finished")
    assert make_map_if_possible(small_run) is False
    assert small_run.status.state == "finished"
    assert "no map: run" in (small_run.path / "log.txt").read_text()


def test_the_command_makes_the_map(small_run: Run) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "fairvlm_core", "map", small_run.id, "--json"]
    workspace = ["--workspace", str(small_run.path.parent.parent)]
    done = subprocess.run([*command, *workspace], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "principal components" in done.stdout
    assert len(small_run.projection()) == 10
    (small_run.path / "embeddings.npz").unlink()
    done = subprocess.run([*command, *workspace], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_run_is_finished_before_its_map_is_made(table, arrays, tmp_path: Path, monkeypatch) -> None:
    states = []

    def seen(run: Run) -> str:
        states.append((run.status.state, (run.path / "report.json").exists()))
        return make_map(run)

    monkeypatch.setattr("fairvlm_core.analysis.pairmap.make_map", seen)
    config = RunConfig.build("clip", {"epochs": 1})
    run = create_run(table, config, RunStore(tmp_path), read_options={})
    execute(run, table=table, arrays=arrays, map_pairs=True)
    assert states == [("finished", True)]
    assert len(run.projection()) == len(table)
    other = create_run(table, config, RunStore(tmp_path), read_options={})
    execute(other, table=table, arrays=arrays)
    assert len(states) == 1
    assert not (other.path / "projection.parquet").exists()


def test_a_map_leaves_the_number_of_threads_so_that_a_run_after_it_equals_one_before(planted, monkeypatch):
    """Numba sets the number of OpenMP threads of the whole process when it first starts its own."""

    class Numba:
        def __init__(self, **_):
            pass

        def fit(self, points):
            torch.set_num_threads(before + 1)
            self.embedding_ = points[:, :2]
            return self

    before = torch.get_num_threads()
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Numba))
    assert project(*planted[:2], seed=0).method == "UMAP"
    assert torch.get_num_threads() == before
