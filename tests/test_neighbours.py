"""Neighbours and better fits: against brute force, and on pairs whose notes were exchanged."""

from __future__ import annotations

import numpy as np
import pytest

from fairvlm_core.analysis.neighbours import better_fits, nearest
from fairvlm_core.errors import InputError


def unit(rng: np.random.Generator, n: int, width: int = 8) -> np.ndarray:
    features = rng.normal(size=(n, width))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_nearest_equals_a_full_sort() -> None:
    features = unit(np.random.default_rng(1), 200)
    for row in (0, 57, 199):
        cosine = features @ features[row]
        expected = [i for i in np.argsort(-cosine) if i != row][:7]
        found = nearest(features, row, k=7)
        assert found.rows.tolist() == expected
        assert np.allclose(found.similarity, cosine[expected], atol=1e-6)


def test_nearest_searches_only_the_given_rows() -> None:
    features = unit(np.random.default_rng(2), 50)
    among = np.arange(50) % 2 == 0
    found = nearest(features, 4, k=100, among=among)
    assert len(found) == 24  # the even rows without row 4, fewer than asked for
    assert set(found.rows) == set(np.flatnonzero(among)) - {4}
    assert (np.diff(found.similarity) <= 0).all()


def test_better_fits_finds_the_exchanged_notes() -> None:
    rng = np.random.default_rng(3)
    images = unit(rng, 60, 32)
    notes = images + 0.05 * rng.normal(size=images.shape)
    notes /= np.linalg.norm(notes, axis=1, keepdims=True)
    notes[[10, 20]] = notes[[20, 10]]
    swapped = better_fits(images, notes, 10)
    assert swapped.best.rows[0] == 20
    cosine = notes @ images[10]
    assert swapped.n_better == int((cosine > cosine[10]).sum())
    assert swapped.n_others == 59
    assert swapped.own == pytest.approx(cosine[10])
    right = better_fits(images, notes, 30)
    assert right.n_better == 0
    assert len(right.best) == 0


def test_an_equal_note_is_not_better() -> None:
    features = np.repeat(unit(np.random.default_rng(4), 5), 4, axis=0).astype(np.float16).astype(np.float32)
    assert better_fits(features, features, 0).n_better == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"row": 5}, "0 to 4"),
        ({"row": -1}, "0 to 4"),
        ({"row": 0, "k": 0}, "1 or more"),
        ({"row": 0, "among": np.ones(4, bool)}, "each of 5 rows"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words) -> None:
    with pytest.raises(InputError, match=words):
        nearest(np.eye(5), **arguments)


def test_features_must_be_numbers_and_match() -> None:
    with pytest.raises(InputError, match="shape"):
        nearest(np.ones(5), 0)
    with pytest.raises(InputError, match="does not match"):
        better_fits(np.eye(5), np.eye(4), 0)
