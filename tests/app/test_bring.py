"""Bring your data: a bare folder is described, changed, checked, saved and taken to Fine-tune."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from recipes import ROOT
from streamlit.testing.v1 import AppTest

from fairvlm_core.intake.describe import place_in_workspace
from fairvlm_core.pairs import PairTable

DATA = "1_Data.py"
SHARED = ROOT.parent / "shared" / "data"
N = 60


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A folder without a description: a table with semicolons, and images in a subfolder."""
    folder = tmp_path / "ward"
    (folder / "scans").mkdir(parents=True)
    for i in range(N):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "scans" / f"eye_{i:03d}.png")
    frame = pd.DataFrame({
        "Picture": [f"eye_{i:03d}" for i in range(N)],
        "Subject": [f"P{i // 2}" for i in range(N)],
        "Diagnosis": [("melanoma", "nevus", "wart", "unsure")[i // 2 % 4] for i in range(N)],
        "Second reading": ["benign" if i % 4 else "malignant" for i in range(N)],
        "Gender": ["MF"[i // 2 % 2] for i in range(N)],
        "Body part": ["arm", "leg"] * (N // 2),
    })  # fmt: skip
    frame.to_csv(folder / "visits.csv", sep=";", index=False)
    return folder


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, [error.value for error in app.exception]


def opened(open_page, folder: Path, errors: int = 0) -> AppTest:
    app = open_page(DATA)
    app.text_input[0].set_value(str(folder))
    press(app, "Open")
    assert len(app.error) == errors
    return app


def box(app: AppTest, label: str):
    return next(
        one for one in (*app.selectbox, *app.multiselect, *app.text_input, *app.text_area) if one.label == label
    )


def pairs(app: AppTest) -> str:
    return next(metric.value for metric in app.metric if metric.label == "Pairs")


@pytest.mark.usefixtures("empty_workspace")
def test_a_bare_folder_is_proposed_and_taken_to_fine_tune(open_page, ward) -> None:
    app = opened(open_page, ward)
    assert app.query_params["bring"] == str(ward)
    assert (box(app, "Images").value, box(app, "Patients").value) == ("{Picture}.png", "Subject")
    assert (pairs(app), box(app, "Positive").value) == ("46", ["melanoma"])
    assert any("100% of its first cells" in text.value.replace("\\", "") for text in app.markdown)
    press(app, "Save and fine-tune")
    assert app.query_params["folder"] == str(ward)
    assert "Launch" in [button.label for button in app.button]
    saved = json.loads((ward / "dataset.json").read_text())
    assert len(PairTable.read(ward)) == 46
    assert saved["columns"]["image"] == "{Picture}.png"


def test_every_guess_can_be_changed_and_the_check_follows(open_page, ward, empty_workspace) -> None:
    app = opened(open_page, ward)
    assert box(app, "Left out").value == ["unsure"]
    box(app, "Left out").set_value([]).run()
    assert pairs(app) == "60"
    box(app, "Left out").set_value(["unsure"]).run()
    assert pairs(app) == "46"
    gone = next(frame.value for frame in app.dataframe if "reason" in frame.value)
    assert (len(gone), set(gone["reason"])) == (14, {"no label"})
    box(app, "Positive").set_value(["melanoma", "wart"]).run()
    box(app, "Notes").set_value("{Diagnosis}[ of a {Gender}], on the {Body part}").run()
    box(app, "Attributes (groups of patients)").set_value(["sex", "Second reading"]).run()
    box(app, "Name of label 1").set_value("suspicious").run()
    box(app, "Prompts of label 1, one a line").set_value("melanoma\n\nwart\n").run()
    assert not app.error
    app.segmented_control(key="bring.where").set_value("In the workspace").run()
    press(app, "Save and look at the data")
    assert not (ward / "dataset.json").exists()
    path = place_in_workspace(empty_workspace, ward)
    saved = json.loads(path.read_text())
    assert saved["label"] == {"positive": ["melanoma", "wart"], "left_out": ["unsure"]}
    assert (saved["label_names"][1], saved["prompts"][1]) == ("suspicious", ["melanoma", "wart"])
    assert set(saved["attributes"]) == {"sex", "Second reading"}
    table = PairTable.read(ward, description=path)
    assert table.frame["text"][0] == "melanoma of a M, on the arm"
    # The folder is now read by the workspace's description, also from the address and when it is opened again.
    assert pairs(app) == "46"
    assert pairs(open_page(DATA, folder=str(ward))) == "46"
    assert pairs(opened(open_page, ward)) == "46"


@pytest.mark.usefixtures("empty_workspace")
def test_another_label_column_and_a_mistake(open_page, ward) -> None:
    app = opened(open_page, ward)
    box(app, "Label").set_value("Second reading").run()
    assert (app.error, pairs(app), box(app, "Positive").value) == ([], "60", ["malignant"])
    assert box(app, "Name of label 1").value == "malignant"
    box(app, "Positive").set_value([]).run()
    assert any("Choose which values are positive" in caption.value for caption in app.caption)
    box(app, "Notes").set_value("{no such column}").run()
    assert "no column" in app.error[0].value.replace("\\", "")
    assert not app.exception


@pytest.mark.usefixtures("empty_workspace")
def test_images_on_another_disk(open_page, ward, tmp_path) -> None:
    (ward / "scans").rename(tmp_path / "disk")
    app = opened(open_page, ward, errors=1)
    assert any("no such files were found" in text.value.replace("\\", "") for text in app.markdown)
    box(app, "Folder of the images, if they lie elsewhere").set_value(str(tmp_path / "disk")).run()
    assert (pairs(app), app.error) == ("46", [])
    press(app, "Save and fine-tune")
    assert json.loads((ward / "dataset.json").read_text())["images"] == str(tmp_path / "disk")


@pytest.mark.usefixtures("empty_workspace")
def test_a_data_set_that_is_open_is_changed(open_page, data_folder, tmp_path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(data_folder, folder)
    app = open_page(DATA, folder=str(folder))
    press(app, "Change what its columns mean")
    assert app.query_params["bring"] == str(folder)
    assert (pairs(app), box(app, "Label").value) == ("130", "label")
    before = json.loads((folder / "dataset.json").read_text())
    box(app, "Prompts of label 1, one a line").set_value("a large cup\na thin rim").run()
    assert any("will be replaced" in caption.value for caption in app.caption)
    press(app, "Save and look at the data")
    after = json.loads((folder / "dataset.json").read_text())
    assert after == before | {"prompts": [[before["prompts"][0]], ["a large cup", "a thin rim"]]}
    assert pairs(app) == "130"


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not beside the checkout")
@pytest.mark.usefixtures("empty_workspace")
@pytest.mark.parametrize(("name", "n"), [("derm", "3,421"), ("skin", "206"), ("cxr", "141")])
def test_real_folders(open_page, name, n) -> None:
    app = opened(open_page, SHARED / name)
    assert pairs(app) == n
    app.segmented_control(key="bring.where").set_value("In the workspace").run()
    press(app, "Save and fine-tune")
    assert "Launch" in [button.label for button in app.button]
