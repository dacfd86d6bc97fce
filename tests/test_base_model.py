"""`base`: weights from installed packages, projections in closed form, checkpoints that store what differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from torch.nn import functional as F

from fairvlm_core import InputError, PairTable, RunConfig, base_model, fit
from fairvlm_core.adapt import ProjectedHeadClip, prepare
from fairvlm_core.analysis.vocabulary import known_words, vocabulary_warnings
from fairvlm_core.closed_form import PENALTIES, ProjectionFit
from fairvlm_core.cross_validation import cross_validate, fold_of, fold_table
from fairvlm_core.evaluate import zero_shot
from fairvlm_core.features import embed, pair_arrays
from fairvlm_core.models import choose_model, load_clip

COLOURS = {"melanoma": (90, 40, 30), "nevus": (200, 150, 120)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two kinds of coloured images with notes that name the kind; two pairs a patient."""
    folder, rng, rows = tmp_path_factory.mktemp("lesions"), np.random.default_rng(0), []
    for i in range(120):
        name = ("melanoma", "nevus")[(i // 2) % 2]
        pixels = np.clip(rng.normal(COLOURS[name], 12, (40, 50, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        split = ("train", "train", "train", "train", "val", "test")[(i // 4) % 6]
        place = ("back", "face", "arm")[i % 3]
        rows.append(
            (f"p{i}", f"{i}.png", f"{name} on the {place}", int(name == "melanoma"), split, i // 2, "FM"[i % 2])
        )
    columns = ["pair_id", "image", "text", "label", "split", "patient_id", "sex"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    (folder / "dataset.json").write_text('{"prompts": [["nevus", "nevus on the back"], ["melanoma"]]}')
    return folder


@pytest.fixture(scope="module")
def table(folder):
    return PairTable.read(folder)


@pytest.fixture(scope="module")
def clip():
    return load_clip("base")


@pytest.fixture(scope="module")
def arrays(table, clip):
    return pair_arrays(table, clip)


@pytest.fixture(scope="module")
def result(table, arrays):
    return fit(table, RunConfig.build("clip", {"model": "base", "epochs": 2}), arrays=arrays)


def test_the_image_tower_is_timms_model_with_the_packages_weights(clip):
    """The last part of the features is the mean of timm's own forward pass."""
    tower = clip.module.visual
    images = clip.normalise(torch.randint(0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(0)).byte())
    tower.eval()
    with torch.no_grad():
        last = tower.trunk.forward_features(images).mean((2, 3))
        means = tower._means(images)
    assert means.shape == (2, tower.width)
    torch.testing.assert_close(means[:, -last.shape[1] :], last, rtol=1e-4, atol=1e-5)


def test_a_file_with_other_content_is_refused():
    package, path, _ = base_model._WORDS
    with pytest.raises(InputError, match="SHA-256"):
        base_model._file(package, path, "0" * 64)


@pytest.mark.parametrize("features", [5, 200])  # either of the two systems
def test_the_projection_is_the_weighted_ridge_regression_of_its_penalty(features):
    rng = np.random.default_rng(1)
    x, counts = rng.normal(2.0, 3.0, (90, features)), rng.integers(0, 5, 90).astype(float)
    notes = x[:, :5] @ rng.normal(size=(5, 2)) + rng.normal(size=(90, 2))
    fit = ProjectionFit(x, notes, [str(i) for i in range(90)])
    weights = fit.weights(counts)
    scaled = (x - x.mean(0)) / x.std(0)
    for k in range(6):
        used = counts * (fit.fold != k)
        own = Ridge(alpha=fit.penalty * used.sum()).fit(scaled, notes, sample_weight=used)
        np.testing.assert_allclose(x @ weights[k, :-1] + weights[k, -1] + fit.centre, own.predict(scaled), atol=2e-3)
    assert fit.penalty in PENALTIES


def test_a_training_pairs_own_note_has_no_part_in_its_features():
    rng = np.random.default_rng(2)
    x, notes = rng.normal(size=(60, 200)), rng.normal(size=(60, 4))  # nothing to learn: any fit is to the pair itself
    patients = [str(i // 2) for i in range(60)]
    fit = ProjectionFit(x, notes, patients)
    changed = notes.copy()
    changed[0] += 1.0  # both pairs of patient 0, so that the mean stays
    changed[1] -= 1.0
    again = ProjectionFit(x, changed, patients)
    assert fit.fold[0] == fit.fold[1]
    difference = np.abs(fit.weights() - again.weights()).max((1, 2))
    assert difference[fit.fold[0]] < 1e-6
    assert np.delete(difference, fit.fold[0]).min() > 1e-5


def test_base_learns_what_the_notes_say(result):
    assert result.test.overall.auc > 0.95
    assert result.predictions["probe_score"].notna().all()


def test_head_trains_the_image_side_only(table, arrays):
    train = np.flatnonzero(np.asarray(table.frame["split"], str) == "train")
    patients = np.asarray(table.frame["patient_id"], str)[train]
    ready = prepare(load_clip("base"), arrays, RunConfig(trainable="head"), train, patients)
    assert isinstance(ready.clip, ProjectedHeadClip)
    learning = {name for name, parameter in ready.clip.module.named_parameters() if parameter.requires_grad}
    assert learning == {"logit_scale", "adapter.image_down", "adapter.image_up"}


def test_a_pair_without_weight_has_no_part_in_the_projections(table, arrays):
    train = np.flatnonzero(np.asarray(table.frame["split"], str) == "train")
    patients = np.asarray(table.frame["patient_id"], str)[train]
    changed = replace(arrays, tokens=arrays.tokens.clone())
    changed.tokens[train[0]] = load_clip("base").tokens(["pneumonia of the left lung"])[0][0]
    predicted = []
    for one in (arrays, changed):
        ready = prepare(load_clip("base"), one, RunConfig(trainable="head"), train, patients)
        assert ready.refit is not None
        ready.refit((np.arange(len(train)) > 0).astype(float))
        predicted.append(ready.clip.raw_images(ready.arrays.pixels) - ready.clip.whole.module.text.proj.bias)
    torch.testing.assert_close(predicted[0], predicted[1], rtol=0, atol=1e-3)


def test_a_checkpoint_is_small_and_gives_the_same_features(result, arrays, table, tmp_path):
    result.clip.save(tmp_path / "model")
    size = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*") if file.is_file())
    assert size < 4e6  # the towers' 35 MB stay in their packages
    held_out = np.flatnonzero(np.asarray(table.frame["split"], str) != "train")
    image, _ = embed(load_clip(str(tmp_path / "model")), arrays, held_out)
    np.testing.assert_allclose(image.numpy(), result.image_features[held_out], atol=1e-5)


def test_last_k_trains_stages_of_the_image_tower(table, arrays):
    config = RunConfig.build("clip", {"model": "base", "trainable": "last-k", "last_blocks": 1, "epochs": 1})
    clip = load_clip("base")
    before = {name: value.clone() for name, value in clip.module.visual.trunk.state_dict().items()}
    fit(table, config, arrays=arrays, clip=clip)
    after = clip.module.visual.trunk.state_dict()
    moved = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"6"}


def test_auto_takes_tiny_for_the_built_in_data_only(table):
    assert choose_model(table) == "base"


def test_words_that_a_model_spells_out_are_unknown(clip):
    words = ["melanoma", "glaucoma", "cup"]
    assert known_words(load_clip("tiny"), words) == {"melanoma": False, "glaucoma": True, "cup": True}
    assert known_words(clip, ["melanoma", "cup"]) == {"melanoma": True, "cup": True}


def test_unknown_words_and_prompt_words_are_told(table):
    told = [str(one) for one in vocabulary_warnings(table, load_clip("tiny"))]
    assert len(told) == 1
    assert "melanoma" in told[0]
    assert "such as base" in told[0]
    described = PairTable.from_frame(
        table.frame[["pair_id", "text", "label", "split"]], prompts=("healthy skin", "melanoma")
    )
    assert any("healthy, skin" in str(one) for one in vocabulary_warnings(described, load_clip("base")))


def test_several_prompts_of_a_class_are_averaged(table, clip):
    assert table.info.class_prompts == (("nevus", "nevus on the back"), ("melanoma",))
    image = F.normalize(torch.randn(5, 256, generator=torch.Generator().manual_seed(0)), dim=-1)
    with torch.no_grad():
        one, two, other = clip.encode_notes(clip.tokens(["nevus", "nevus on the back", "melanoma"])[0])
        logits = clip.scale * torch.stack([image @ F.normalize((one + two) / 2, dim=0), image @ other], dim=1)
    score = zero_shot(clip, image, table.info.class_prompts)
    np.testing.assert_allclose(score, logits.double().softmax(1)[:, 1].numpy(), atol=1e-5)


def test_every_pair_is_tested_once_by_a_model_that_did_not_see_its_patient(table, arrays):
    config = RunConfig.build("clip", {"model": "base", "epochs": 1, "folds": 3})
    found = cross_validate(table, config, arrays=arrays, clip_of_fold=lambda: load_clip("base"))
    predictions, fold = found.result.predictions, fold_of(table, 3, config.seed)
    assert list(predictions["pair_id"]) == list(table.pair_ids)
    assert set(predictions["split"]) == {"test"}
    assert np.isfinite(found.result.ledger.losses).all()
    assert [one["n"] for one in found.folds] == np.bincount(fold).tolist()
    for k in range(3):
        frame = fold_table(table, fold, k).frame
        patients = {name: set(part["patient_id"]) for name, part in frame.groupby("split", observed=True)}
        assert not patients["test"] & patients["train"]
        assert not patients["val"] & patients["train"]


def test_more_folds_than_patients_allow_is_one_line(table):
    with pytest.raises(InputError, match="a fold needs at least 2"):
        fold_of(table, 40)
