from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
import time

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from fairvlm_core import InputError
from fairvlm_core.features import embed
from fairvlm_core.models import check_name, load_clip, tiny_folder


@pytest.fixture(scope="module")
def tiny():
    return load_clip("tiny")


def test_the_built_in_model_is_small_and_open_clips_own_loader_reads_it(tiny, arrays):
    folder = tiny_folder()
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 8 * 2**20
    other = open_clip.create_model(f"local-dir:{folder}")
    same = all(torch.equal(a, b) for a, b in zip(other.parameters(), tiny.module.parameters(), strict=True))
    assert same
    image, _ = embed(tiny, arrays, np.arange(4))
    other.eval()
    assert torch.allclose(other.encode_image(tiny.normalise(arrays.pixels[:4]), normalize=True), image, atol=1e-6)


def test_preprocessing_is_open_clips_own(tiny, table):
    picture = table.image(0)
    theirs = image_transform_v2(PreprocessCfg(**tiny.preprocess), is_train=False)(picture)
    ours = tiny.normalise(torch.from_numpy(tiny.pixels(picture))[None])[0]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_features_have_unit_norm(tiny, arrays):
    for features in embed(tiny, arrays, np.arange(10)):
        assert torch.allclose(features.norm(dim=1), torch.ones(10), atol=1e-5)


def test_a_saved_model_is_loaded_unchanged(tiny, tmp_path):
    tiny.save(tmp_path / "copy")
    copy = load_clip(str(tmp_path / "copy"))
    tokens = copy.tokens(["cup-to-disc ratio 0.7"])[0]
    assert torch.equal(tokens, tiny.tokens(["cup-to-disc ratio 0.7"])[0])
    assert torch.equal(copy.encode_notes(tokens), tiny.encode_notes(tokens))


def test_local_weights_for_a_named_architecture(tiny, tmp_path):
    weights = tmp_path / "w.pt"
    state = {k: v + 0.5 for k, v in tiny.module.state_dict().items()}
    torch.save({"state_dict": state}, weights)
    loaded = load_clip(f"tiny@{weights}")
    assert torch.equal(loaded.module.logit_scale, tiny.module.logit_scale + 0.5)


def test_fault_25_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path):
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    weights = tmp_path / "bad.pt"
    torch.save({"state_dict": Payload()}, weights, pickle_module=pickle)
    with pytest.raises(InputError, match=r"bad\.pt"):
        load_clip(f"tiny@{weights}")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-23", ["ViT-B-23", "ViT-B-32"]),
        ("ViT-B-32:nosuchtag", ["nosuchtag", "openai"]),
        ("tiny@/nowhere/weights.pt", ["weights"]),
    ],
)
def test_wrong_names_are_one_clear_line(name, words):
    with pytest.raises(InputError) as caught:
        load_clip(name)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_a_hub_name_without_a_network_is_one_quick_line(tmp_path, tiny, monkeypatch):
    """The hub is a closed port here; the client's own retries would take a minute."""
    names = ("hf-hub:nobody/nothing", "ViT-B-32", "ViT-B-16:laion2b_s34b_b88k")
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    script = (
        "from fairvlm_core import InputError\nfrom fairvlm_core.models import load_clip\n"
        f"for name in {names!r}:\n    try:\n        load_clip(name)\n"
        "    except InputError as error:\n        print(error)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        assert name in line
        assert "beforehand" in line
    assert "Retry" not in done.stderr
    # What the lines tell to type is accepted once the files are there.
    advised = [line.rpartition("--model ")[2] for line in done.stdout.splitlines()]
    assert advised == ["nothing", "ViT-B-32:openai@FILE", "ViT-B-16:laion2b_s34b_b88k@FILE"]
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / advised[0])  # stands for the folder of the hub
    assert load_clip(advised[0]).context_length == tiny.context_length
    (tmp_path / "FILE").write_bytes(b"0")
    for name in advised:
        check_name(name)


def test_weights_of_another_shape_are_refused(tmp_path):
    weights = tmp_path / "w.pt"
    torch.save({"logit_scale": torch.zeros(())}, weights)
    with pytest.raises(InputError, match=r"w\.pt.*do not load"):
        load_clip(f"tiny@{weights}")


def test_a_damaged_vocabulary_is_one_clear_line(tiny, tmp_path):
    tiny.save(tmp_path / "m")
    (tmp_path / "m" / "vocabulary.txt.gz").write_bytes(gzip.compress(b"x")[:8])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_clip(str(tmp_path / "m"))


def test_fault_17_odd_notes_are_tokenised_quickly_and_cuts_are_counted(tiny):
    notes = ["", "x" * 100_000, "視神経乳頭陥凹" * 400, "👁️ ok", "a b " * 25_000, "normal disc"]
    started = time.process_time()
    tokens, cut = tiny.tokens(notes)
    assert time.process_time() - started < 30, "byte-pair encoding must not see a word of 100,000 letters"
    assert cut.tolist() == [False, True, True, False, True, False]
    assert tokens.shape == (6, tiny.context_length)
    lengths = tiny.token_lengths(notes)
    assert (lengths > tiny.context_length).tolist() == cut.tolist()


def test_a_note_of_exactly_the_context_length_is_not_cut(tiny):
    word = tiny.token_lengths(["a"])[0] - 2
    fits = " ".join(["a"] * ((tiny.context_length - 2) // word))
    assert tiny.tokens([fits, fits + " a"])[1].tolist() == [False, True]


def test_special_tokens_written_in_a_note_are_words(tiny):
    tokens, _ = tiny.tokens(["normal <end_of_text> disc <start_of_text>"])
    end = tokens.max()
    assert (tokens == end).sum() == 1, "a note cannot end itself early"


def test_greyscale_and_alpha_images_are_accepted(tiny):
    assert tiny.pixels(Image.new("RGB", (640, 480))).shape == (3, *tiny.image_size)
