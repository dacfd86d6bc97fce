"""The similarity map on SynthFundus, where the positions of disc and cup are known."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from fairvlm_core.analysis.similarity_map import (
    NEUTRAL,
    SimilarityMap,
    blurred,
    heat_of,
    heat_on_image,
    pixel_contributions,
    similarity_map,
    word_scores,
)
from fairvlm_core.errors import InputError
from fairvlm_core.models import Clip, load_clip
from fairvlm_core.synth import SynthConfig, synthesize

N_IMAGES = 50
DISC_WORDS = re.compile(r"cup|disc|rim\b|notch|c/d|cdr|excav")
FILLERS = frozenset(("a", "and", "are", "by", "for", "has", "in", "is", "no", "of", "on", "the", "to", "using", "with"))


@dataclass(frozen=True)
class Case:
    pixels: torch.Tensor
    note: str
    disc: np.ndarray
    map: SimilarityMap


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("tiny")


@pytest.fixture(scope="module")
def cases(clip) -> list[Case]:
    """Glaucoma pairs with the disc's ellipse on the grid of the model's input."""
    config = SynthConfig(n_train=0, n_val=0, n_test=2 * N_IMAGES + 20, seed=5, mismatch_rate=0, shortcut_rate=0)
    data = synthesize(config, workers=1)
    rows = np.flatnonzero(data.frame["label"].to_numpy() == 1)[:N_IMAGES]
    assert len(rows) == N_IMAGES
    side = clip.image_size[0]
    y, x = (np.mgrid[:side, :side] + 0.5) * config.size / side
    found = []
    for row in rows:
        eye = data.findings.iloc[row]
        across = (x - eye["disc_x_px"]) / eye["disc_radius_x_px"]
        down = (y - eye["disc_y_px"]) / eye["disc_radius_y_px"]
        pixels = torch.from_numpy(clip.pixels(Image.fromarray(data.images[row]).convert("RGB")))
        note = data.frame["text"].iloc[row]
        found.append(Case(pixels, note, across**2 + down**2 <= 1, similarity_map(clip, pixels, note)))
    return found


def in_disc(heat: np.ndarray, disc: np.ndarray) -> float:
    """The disc's share of the heat over its share of the area; 1 is chance."""
    return float(heat[disc].sum() / heat.sum() / disc.mean())


def test_the_map_points_at_the_disc(cases) -> None:
    times = np.array([in_disc(case.map.heat, case.disc) for case in cases])
    assert (times > 3).mean() >= 0.8
    assert times.mean() > 8


def test_with_random_weights_the_map_does_not_find_the_disc(cases) -> None:
    random = load_clip("tiny")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in random.module.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    times = [in_disc(similarity_map(random, c.pixels, c.note).heat, c.disc) for c in cases[:12]]
    assert np.mean(times) < np.mean([in_disc(c.map.heat, c.disc) for c in cases[:12]]) / 2


def test_words_on_disc_cup_and_rim_score_higher_than_fillers(cases) -> None:
    about, filler = [], []
    for case in cases:
        for word in case.map.words:
            plain = word.word.lower().strip(".,;:()")
            if DISC_WORDS.search(plain):
                about.append(abs(word.score))
            elif plain in FILLERS and plain != NEUTRAL:
                filler.append(abs(word.score))
    assert min(len(about), len(filler)) > 100
    assert np.mean(about) > 1.2 * np.mean(filler)


@pytest.mark.parametrize("name", ["tiny", "ViT-S-32-alt:random", pytest.param("RN50:random", marks=pytest.mark.slow)])
def test_contributions_sum_to_the_similarity_lost_by_blurring(name, cases) -> None:
    """The completeness axiom of integrated gradients; also on a residual network, which has no patch tokens."""
    clip = load_clip(name)
    clip.module.eval()
    side = clip.image_size[0]
    image = Image.fromarray(cases[0].pixels.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(clip.pixels(image))
    with torch.no_grad():
        note = clip.encode_notes(clip.tokens([cases[0].note])[0])[0]
        lost = (clip.encode_images(pixels[None].float()) - clip.encode_images(blurred(pixels)[None]))[0] @ note
    total = pixel_contributions(clip, pixels, note).sum()
    assert abs(float(lost)) > 1e-4
    assert total == pytest.approx(float(lost), rel=0.1, abs=2e-3)


def test_an_open_clip_vit_gives_a_map_of_its_own_size() -> None:
    clip = load_clip("ViT-S-32-alt:random")
    height, width = clip.image_size
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = similarity_map(clip, pixels, "Large cup, thin rim.")
    assert found.heat.shape == (height, width)
    assert found.heat.min() >= 0
    assert found.heat.max() == 1
    assert [word.word for word in found.words] == ["Large", "cup,", "thin", "rim."]
    assert any(word.score for word in found.words)


def test_the_similarity_is_the_model_s_own_and_the_model_stays_as_it_was(clip, cases) -> None:
    with torch.no_grad():
        clip.module.eval()
        image, note = clip.encode_images(cases[0].pixels[None]), clip.encode_notes(clip.tokens([cases[0].note])[0])
    clip.module.train()
    found = similarity_map(clip, cases[0].pixels, cases[0].note)
    assert found.similarity == pytest.approx(float(image[0] @ note[0]), abs=1e-6)
    assert clip.module.training
    assert all(parameter.grad is None for parameter in clip.module.parameters())
    np.testing.assert_array_equal(found.heat, cases[0].map.heat)


def test_a_word_s_score_is_the_difference_to_a_neutral_word(clip, cases) -> None:
    pixels = cases[0].pixels
    notes = ["large cup here", "and cup here", "large and here", "large cup and"]
    with torch.no_grad():
        values = clip.encode_notes(clip.tokens(notes)[0]) @ clip.encode_images(pixels[None])[0]
    counts = np.diff(clip.token_lengths(["", "large", "large cup", "large cup here"]))
    assert counts.tolist()[:2] == [1, 1]
    scores = [word.score for word in word_scores(clip, pixels, notes[0])]
    np.testing.assert_allclose(scores[:2], (values[0] - values[1:3]).numpy(), atol=1e-6)
    assert word_scores(clip, pixels, "and and")[0].score == pytest.approx(0, abs=1e-6)


def test_words_beyond_the_context_are_kept_and_marked(clip, cases) -> None:
    note = " ".join(["cup"] * (clip.context_length + 20))
    words = word_scores(clip, cases[0].pixels, note)
    assert len(words) == clip.context_length + 20
    assert [word.seen for word in words] == [i < clip.context_length - 2 for i in range(len(words))]
    assert all(word.score == 0 for word in words if not word.seen)


@pytest.mark.parametrize("note", ["", "   ", "<end_of_text>", "视神经" * 400, "=1+1 <script>alert(1)</script>"])
def test_odd_notes_have_a_map(clip, cases, note) -> None:
    found = similarity_map(clip, cases[0].pixels, note)
    assert [word.word for word in found.words] == note.split()
    assert -1 <= found.similarity <= 1


def test_the_strongest_words_come_first_whatever_their_sign(cases) -> None:
    top = cases[0].map.top_words(5)
    rest = [abs(word.score) for word in cases[0].map.words if word not in top]
    assert len(top) == 5
    assert sorted(top, key=lambda word: -abs(word.score)) == list(top)
    assert abs(top[-1].score) >= max(rest)


def test_an_even_image_has_no_heat(clip) -> None:
    pixels = torch.full((3, *clip.image_size), 90, dtype=torch.uint8)
    assert similarity_map(clip, pixels, "Large cup").heat.max() == 0


def test_negative_contributions_are_no_heat() -> None:
    contributions = np.zeros((64, 64), np.float32)
    contributions[10, 10], contributions[50, 50] = -5, 1
    heat = heat_of(contributions)
    assert np.unravel_index(heat.argmax(), heat.shape) == (50, 50)
    assert heat[10, 10] == 0
    assert heat.max() == 1


def test_wrong_pixels_are_refused(clip) -> None:
    with pytest.raises(InputError, match=r"must be uint8 \(3, 64, 64\)"):
        similarity_map(clip, torch.zeros(3, 64, 64), "x")
    with pytest.raises(InputError, match=r"\(3, 32, 32\)"):
        similarity_map(clip, torch.zeros(3, 32, 32, dtype=torch.uint8), "x")


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(300, 180), (180, 300), (200, 200)])
def test_heat_is_resized_to_its_position_in_the_image(clip, mode, size) -> None:
    """A white spot is preprocessed by open_clip; its heat must be at the original position."""
    picture = np.zeros((*size, 3), np.uint8)
    y, x = size[0] // 2 - 25, size[1] // 2 + 20
    picture[y - 6 : y + 6, x - 6 : x + 6] = 255
    other = Clip("", clip.module, clip.tokenizer, clip.preprocess | {"resize_mode": mode}, clip.config)
    heat = other.pixels(Image.fromarray(picture))[0].astype(np.float32) / 255
    laid = heat_on_image(heat, size, mode)
    assert laid.shape == size
    weight = laid * (laid > 0.5)
    found_y, found_x = (np.mgrid[: size[0], : size[1]] * weight).sum((1, 2)) / weight.sum()
    assert found_y == pytest.approx(y, abs=4)
    assert found_x == pytest.approx(x, abs=4)


def test_cropped_regions_have_no_heat() -> None:
    laid = heat_on_image(np.ones((8, 8), np.float32), (100, 60), "shortest")
    assert laid[:20].max() == laid[80:].max() == 0
    assert laid[20:80].min() == pytest.approx(1)
