"""`fairvlm describe`: public tables by their columns, unknown folders by trying; what is proposed must be readable."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairvlm_core.cli import main
from fairvlm_core.errors import InputError
from fairvlm_core.intake.describe import Proposal, describe_folder, write_description
from fairvlm_core.intake.description import parse_description
from fairvlm_core.pairs import PairTable

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
N = 40


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.name))
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)).save(path)


def read(folder: Path, proposal: Proposal | None = None) -> PairTable:
    return PairTable.read(folder, description=(proposal or describe_folder(folder)).description)


# public sets: the real column names, invented rows -------------------------------------------------------------------
FINDINGS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip


def chexpert(folder: Path) -> None:
    rows = []
    for i in range(N):
        path = f"train/patient{i // 2:05d}/study1/view{i % 2 + 1}_frontal.jpg"
        picture(folder / path)
        cells = {name: "" for name in FINDINGS} | {"Pleural Effusion": ["1.0", "0.0", "", "-1.0"][i // 2 % 4]}
        rows.append({"Path": f"CheXpert-v1.0-small/{path}", "Sex": ("Male", "Female")[i // 2 % 2], "Age": 30 + i,
                     "Frontal/Lateral": "Frontal", "AP/PA": "AP", **cells})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)


def nih(folder: Path) -> None:
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,"
        "Height],OriginalImagePixelSpacing[x,y],"
    )
    lines = [header]
    for i in range(N):
        name = f"{i // 2:08d}_{i % 2:03d}.png"
        picture(folder / f"images_{1 + i // 20:03d}" / "images" / name)
        finding = ("No Finding", "Effusion|Mass")[i // 2 % 2]
        lines.append(f"{name},{finding},{i % 2},{i // 2},{30 + i:03d}Y,{'MF'[i // 4 % 2]},PA,2682,2749,0.143,0.143,")
    (folder / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")


def pad_ufes(folder: Path) -> None:
    rows = []
    for i in range(N):
        name = f"PAT_{i // 2}_{i}_{i}.png"
        picture(folder / "imgs_part_1" / name)
        rows.append({
            "patient_id": f"PAT_{i // 2}", "lesion_id": i, "smoke": "", "age": 30 + i,
            "gender": ["MALE", "FEMALE", ""][i // 2 % 3],
            "fitspatrick": ["2.0", "3.0", ""][i // 2 % 3], "region": "FACE", "diagnostic": ["BCC", "NEV"][i // 2 % 2],
            "itch": ["True", "UNK"][i % 2], "grew": "False", "hurt": "False", "changed": "False", "bleed": "False",
            "elevation": "True", "img_id": name, "biopsed": "True",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)


def odir(folder: Path) -> None:
    rows = []
    for i in range(N // 2):
        eyes = {side: f"{i}_{side.lower()}.jpg" for side in ("Left", "Right")}
        for name in eyes.values():
            picture(folder / "Training Images" / name)
        said = ["normal fundus", "moderate non proliferative retinopathy"]
        rows.append({
            "ID": i, "Patient Age": 40 + i, "Patient Sex": ("Male", "Female")[i % 2], "Left-Fundus": eyes["Left"],
            "Right-Fundus": eyes["Right"], "Left-Diagnostic Keywords": said[i // 2 % 2],
            "Right-Diagnostic Keywords": said[0], **dict.fromkeys("NDGCAHMO", 0),
        })  # fmt: skip
    pd.DataFrame(rows).to_excel(folder / "data.xlsx", index=False)


def ham(folder: Path) -> None:
    rows = []
    for i in range(N):
        picture(folder / f"HAM10000_images_part_{1 + i % 2}" / f"ISIC_{i:07d}.jpg")
        rows.append([f"HAM_{i // 2}", f"ISIC_{i:07d}", ["mel", "nv"][i // 2 % 2], "histo", 30.0 + i, "male", "back"])
    columns = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "HAM10000_metadata", index=False)


def isic(folder: Path) -> None:
    rows = []
    for i in range(N):
        picture(folder / "ISIC-images" / f"ISIC_{i:07d}.jpg")
        rows.append({
            "isic_id": f"ISIC_{i:07d}", "attribution": "Anonymous", "copyright_license": "CC-0", "age_approx": 30 + i,
            "anatom_site_general": "anterior torso", "diagnosis_1": ["Benign", "Malignant", "Indeterminate"][i // 2 % 3],
            "diagnosis_2": "", "diagnosis_3": ["Nevus", "Melanoma, NOS"][i // 2 % 2], "sex": ["male", "female"][i // 2 % 2],
            "patient_id": f"IP_{i // 2}",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)


def fitzpatrick(folder: Path) -> None:
    rows = []
    for i in range(N):
        picture(folder / "data" / f"{i:032x}.jpg")
        kind = ["malignant", "benign", "non-neoplastic"][i % 3]
        rows.append([f"{i:032x}", i % 7 - (i % 7 == 0), 1, "melanoma", "malignant melanoma", kind, "", "http://x"])
    columns = "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url"
    pd.DataFrame(rows, columns=columns.split(",")).to_csv(folder / "fitzpatrick17k.csv", index=False)


def papila(folder: Path) -> None:
    from openpyxl import Workbook

    (folder / "ClinicalData").mkdir()
    names = ["Age", "Gender", "Diagnosis", "dioptre_1", "dioptre_2", "astigmatism", "Phakic/Pseudophakic", "Pneumatic",
             "Perkins", "Pachymetry", "Axial_Length", "VF_MD"]  # fmt: skip
    for eye in ("od", "os"):
        book = Workbook()
        sheet = book.active
        sheet.append(["", *names[:3], "Refractive_Defect", None, None, *names[6:]])
        sheet.append(["ID"])
        sheet.append([None, *names])
        for i in range(2, 2 + N // 2):
            picture(folder / "FundusImages" / f"RET{i:03d}{eye.upper()}.jpg")
            sheet.append([f"#{i:03d}", 50 + i, i % 2, i % 3, 0.75, -1.75, 90, 0, 21, None, 586, 23.64, None])
        book.save(folder / "ClinicalData" / f"patient_data_{eye}.xlsx")


def vinbigdata(folder: Path) -> None:
    rows = []
    for i in range(N):
        picture(folder / "train" / f"{i:032x}.png")
        found = "No finding" if i % 2 else "Cardiomegaly"
        rows += [[f"{i:032x}", found, 14 if i % 2 else 3, f"R{k}", "", "", "", ""] for k in range(3)]
    columns = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "train.csv", index=False)


def covid(folder: Path) -> None:
    rows = []
    for i in range(N):
        picture(folder / "images" / f"{i}.jpg")
        finding = ["Pneumonia/Viral/COVID-19", "No Finding"][i // 2 % 2]
        rows.append([i // 2, 0, "MF"[i // 4 % 2], 40 + i, finding, "Y", f"{i}.jpg", f"Opacity in lobe {i}."])
    columns = ["patientid", "offset", "sex", "age", "finding", "survival", "filename", "clinical_notes"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "metadata.csv", index=False)


def radiography(folder: Path) -> None:
    for kind, written in (("COVID", "COVID"), ("Normal", "NORMAL")):
        rows = []
        for i in range(N // 2):
            for part in ("images", "masks"):
                picture(folder / kind / part / f"{kind}-{i}.png")
            rows.append([f"{written}-{i}", "PNG", "256*256", "https://example.org"])
        table = pd.DataFrame(rows, columns=["FILE NAME", "FORMAT", "SIZE", "URL"])
        table.to_excel(folder / f"{kind}.metadata.xlsx", index=False)


# maker: pairs, patients, positive, attributes, a note
PUBLIC = {
    chexpert: (30, 15, 10, {"sex", "age_band", "view"}, "frontal chest X-ray, pleural effusion"),
    nih: (40, 20, 20, {"sex", "age_band", "view"}, "Finding: No Finding, PA view, 30-year-old man"),
    pad_ufes: (40, 20, 20, {"sex", "age_band", "skin_type"},
               "basal cell carcinoma, on the face, itches, elevated, 30-year-old male"),
    odir: (40, 20, 10, {"sex", "age_band"}, "normal fundus"),
    ham: (40, 20, 20, {"sex", "age_band", "site"}, "melanoma, confirmed by histopathology, on the back, 30-year-old male"),
    isic: (28, 14, 14, {"sex", "age_band", "site"}, "Benign lesion: Nevus, on the anterior torso, 30-year-old male"),
    fitzpatrick: (40, 40, 14, {"skin_type"}, "melanoma, malignant melanoma"),
    papila: (26, 13, 12, {"sex", "age_band"},
             "healthy eye, pressure 21 mmHg, cornea 586 micrometres, axial length 23.64 mm, 53-year-old woman"),
    vinbigdata: (40, 40, 20, set(), "Findings: Cardiomegaly"),
    covid: (40, 20, 20, {"sex", "age_band"}, "Opacity in lobe 0."),
    radiography: (40, 40, 20, set(), "COVID-19 on a chest X-ray"),
}  # fmt: skip


@pytest.mark.parametrize("make", PUBLIC, ids=lambda make: make.__name__)
def test_public_sets_are_known_by_their_columns(make, tmp_path):
    make(tmp_path)
    n, patients, positive, attributes, note = PUBLIC[make]
    proposal = describe_folder(tmp_path)
    assert all(reason.sure for reason in proposal.reasons), proposal.reasons
    table = read(tmp_path, proposal)
    assert (len(table), table.report.n_patients, int(table.labels.sum())) == (n, patients, positive)
    assert set(table.attributes) == attributes
    assert note in set(table.frame["text"])


@pytest.mark.parametrize("make", PUBLIC, ids=lambda make: make.__name__)
def test_the_table_of_a_public_set_is_enough(make, tmp_path):
    make(tmp_path)
    whole = describe_folder(tmp_path).description
    for path in [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg")]:
        path.unlink()
    assert {**describe_folder(tmp_path).description, "images": ""} == {**whole, "images": ""}


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not beside the checkout")
@pytest.mark.parametrize(("name", "n", "positive"), [("derm", 3421, 1000), ("skin", 206, 95), ("cxr", 141, 98)])
def test_real_folders(name, n, positive):
    proposal = describe_folder(SHARED / name)
    table = PairTable.read(SHARED / name, description=proposal.description, check_images=False)
    assert (len(table), int(table.labels.sum())) == (n, positive)
    assert all(reason.sure for reason in proposal.reasons)


# unknown folders -----------------------------------------------------------------------------------------------------
def ward(folder: Path) -> pd.DataFrame:
    """A table nobody knows, with images in a subfolder."""
    frame = pd.DataFrame({
        "Study": [f"S{i:03d}" for i in range(N)],
        "Subject": [f"P{i // 2:02d}" for i in range(N)],
        "Picture": [f"eye_{i:03d}" for i in range(N)],
        "Gender": [("M", "F")[i // 2 % 2] for i in range(N)],
        "AgeAtVisit": [str(40 + i) for i in range(N)],
        "Comment": [f"Visit {i}: cup to disc ratio 0.{i}, rim thin below" for i in range(N)],
        "Glaucoma": [str(i // 2 % 2) for i in range(N)],
    })  # fmt: skip
    for name in frame["Picture"]:
        picture(folder / "scans" / f"{name}.png")
    return frame


def test_an_unknown_folder(tmp_path):
    ward(tmp_path).to_csv(tmp_path / "visits.csv", index=False)
    proposal = describe_folder(tmp_path)
    assert proposal.description == {
        "schema": 1, "name": tmp_path.name, "table": "visits.csv", "images": "scans",
        "columns": {"image": "{Picture}.png", "text": "Comment", "patient_id": "Subject", "label": "Glaucoma"},
        "label_names": ["no glaucoma", "glaucoma"], "prompts": [["no glaucoma"], ["glaucoma"]],
        "attributes": {"sex": {"column": "Gender", "names": {"F": "Female", "M": "Male"}},
                       "age_band": {"column": "AgeAtVisit", "bins": [50, 60, 70]}},
    }  # fmt: skip
    table = read(tmp_path, proposal)
    assert (len(table), table.report.n_patients, int(table.labels.sum())) == (40, 20, 20)
    reasons = {reason.entry: reason for reason in proposal.reasons}
    assert "100% of its first cells are the names of files in scans/, with .png added" in reasons["columns.image"].text
    assert reasons["columns.image"].examples[0] == "scans/eye_000.png"


@pytest.mark.parametrize("form", ["semicolon", "tab", "excel", "parquet", "jsonl"])
def test_formats(tmp_path, form):
    frame = ward(tmp_path)
    write = {
        "semicolon": lambda: frame.to_csv(tmp_path / "a.csv", index=False, sep=";", encoding="utf-8-sig"),
        "tab": lambda: frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t"),
        "excel": lambda: frame.to_excel(tmp_path / "a.xlsx", index=True),
        "parquet": lambda: frame.to_parquet(tmp_path / "a.parquet"),
        "jsonl": lambda: frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True),
    }[form]
    write()
    assert (len(read(tmp_path)), read(tmp_path).attributes) == (40, ("sex", "age_band"))


def test_hugging_face_image_folder(tmp_path):
    for split, n in (("train", 24), ("test", 16)):
        rows = [
            {"file_name": f"{i:04d}.png", "text": f"note {i} of the eye with some words", "label": i % 2}
            for i in range(n)
        ]
        for row in rows:
            picture(tmp_path / split / row["file_name"])
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    proposal = describe_folder(tmp_path)
    assert proposal.description["columns"] == {
        "image": "{folder}/{file_name}", "text": "text", "split": "{folder:train|valid|val|dev|test}", "label": "label",
    }  # fmt: skip
    table = read(tmp_path, proposal)
    assert table.frame["split"].value_counts().to_dict() == {"train": 24, "test": 16, "val": 0}


def test_reports_in_files(tmp_path):
    frame = ward(tmp_path).drop(columns="Comment")
    frame["study_id"] = [str(50000 + i) for i in range(N)]
    for i in range(N):
        place = tmp_path / "files" / f"p{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"s{50000 + i}.txt").write_text(f"FINDINGS: report {i}")
    frame.to_csv(tmp_path / "visits.csv", index=False)
    proposal = describe_folder(tmp_path)
    assert proposal.description["notes"] == ""
    assert proposal.description["columns"]["text"] == "s{study_id}"
    assert read(tmp_path, proposal).frame["text"][3] == "FINDINGS: report 3"
    for i in range(N):  # named like the images
        (tmp_path / "scans" / f"eye_{i:03d}.txt").write_text(f"Of image {i}")
    shutil.rmtree(tmp_path / "files")
    proposal = describe_folder(tmp_path)
    assert read(tmp_path, proposal).frame["text"][3] == "Of image 3"


def test_reports_in_another_table(tmp_path):
    """As the Indiana collection: one table of images, one of reports, and a report for two images."""
    images = [{"uid": i // 2, "filename": f"{i // 2}_IM-{i % 2}.png", "projection": "FL"[i % 2]} for i in range(N)]
    for row in images:
        picture(tmp_path / "images_normalized" / row["filename"])
    reports = pd.DataFrame({"uid": range(N // 2), "Problems": ["normal", "Cardiomegaly;Edema"] * (N // 4)})
    reports["findings"] = [f"The heart is seen in report {i}." for i in range(N // 2)]
    reports["impression"] = [f"No acute disease {i}" for i in range(N // 2)]
    pd.DataFrame(images).to_csv(tmp_path / "projections.csv", index=False)
    reports.to_csv(tmp_path / "reports.csv", index=False)
    proposal = describe_folder(tmp_path)
    assert proposal.description["join"] == [{"table": "reports.csv", "on": "uid"}]
    assert proposal.description["label"] == {"negative": ["normal"]}
    table = read(tmp_path, proposal)
    assert (len(table), int(table.labels.sum()), table.report.n_patients) == (40, 20, 20)
    assert table.frame["text"][2] == "The heart is seen in report 1. No acute disease 1"
    pd.concat([reports, reports[:1]]).to_csv(tmp_path / "reports.csv", index=False)
    with pytest.raises(InputError, match=r"^reports\.csv row 22: its uid is there before"):
        read(tmp_path, proposal)


def test_a_column_for_each_class(tmp_path):
    """As ISIC 2019: classes in one table, patients in another."""
    ids = [f"ISIC_{i:07d}" for i in range(N)]
    for name in ids:
        picture(tmp_path / "input" / f"{name}.jpg")
    classes = ["MEL", "NV", "BCC", "DF"]
    truth = [{"image": name} | {c: float(i // 2 % 4 == k) for k, c in enumerate(classes)} for i, name in enumerate(ids)]
    pd.DataFrame(truth).to_csv(tmp_path / "GroundTruth.csv", index=False)
    sex = pd.DataFrame(
        {"image": ids, "lesion_id": [f"L{i // 2}" for i in range(N)], "sex": ["female", "male"] * (N // 2)}
    )
    sex.to_csv(tmp_path / "Metadata.csv", index=False)
    proposal = describe_folder(tmp_path)
    table = read(tmp_path, proposal)
    assert proposal.description["label"] == {"any_of": ["MEL", "BCC"]}
    assert (int(table.labels.sum()), table.attributes, table.report.n_patients) == (20, ("sex",), 20)
    assert table.frame["text"][:3].tolist() == ["melanoma, female", "melanoma, male", "melanocytic nevus, female"]
    assert table.info.class_prompts == (("melanocytic nevus", "dermatofibroma"), ("melanoma", "basal cell carcinoma"))


def test_rows_of_boxes_grades_and_deep_paths(tmp_path):
    names = [f"case{i}/1.3.{i}/000000.png" for i in range(N)]
    for name in names:
        picture(tmp_path / "archive" / "jpeg" / name)
    pd.DataFrame({"file path": names, "grade of disease": [i % 4 for i in range(N)]}).to_csv(
        tmp_path / "a.csv", index=False
    )
    table = read(tmp_path)
    assert table.frame["image"][7] == f"archive/jpeg/{names[7]}"
    assert (int(table.labels.sum()), table.frame["text"][3]) == (30, "grade of disease 3")
    assert table.info.prompts == ("grade of disease 0", "grade of disease 1")
    boxes = [{"file path": name, "x": k, "Target": int(i % 2 and k)} for i, name in enumerate(names) for k in range(2)]
    pd.DataFrame(boxes).to_csv(tmp_path / "a.csv", index=False)
    proposal = describe_folder(tmp_path)
    assert proposal.description["group_by"] == "file path"
    assert (len(read(tmp_path, proposal)), int(read(tmp_path, proposal).labels.sum())) == (N, N // 2)


def test_a_note_is_composed_where_there_is_none(tmp_path):
    frame = ward(tmp_path).drop(columns=["Comment", "Glaucoma"])
    frame["diagnosis"] = [("melanoma", "nevus", "basal cell carcinoma", "wart")[i // 2 % 4] for i in range(N)]
    frame["body_part"] = ["arm", "leg"] * (N // 2)
    frame.loc[3, "body_part"] = ""
    frame.to_csv(tmp_path / "visits.csv", index=False)
    proposal = describe_folder(tmp_path)
    table = read(tmp_path, proposal)
    assert table.frame["text"][[0, 3]].tolist() == ["melanoma, on the arm, 40-year-old M", "nevus, 43-year-old F"]
    assert proposal.description["label"] == {"positive": ["melanoma", "basal cell carcinoma"]}
    assert table.info.class_prompts == (("nevus", "wart"), ("melanoma", "basal cell carcinoma"))


def test_images_elsewhere_and_images_missing(tmp_path):
    folder, disk = tmp_path / "table", tmp_path / "disk"
    folder.mkdir()
    ward(disk).to_csv(folder / "visits.csv", index=False)
    lost = {reason.entry: reason for reason in describe_folder(folder).reasons}["columns.image"]
    assert not lost.sure
    assert "--images FOLDER" in lost.text
    proposal = describe_folder(folder, disk)
    assert proposal.description["images"] == str(disk)
    assert len(read(folder, proposal)) == N


def test_layouts_that_need_no_description(manifest, rows, tmp_path):
    proposal = describe_folder(manifest(rows))
    assert proposal.description == {"schema": 1, "name": "data"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="folder: no table in 'empty'"):
        describe_folder(tmp_path / "empty")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_command(tmp_path, capsys):
    ward(tmp_path).to_csv(tmp_path / "visits.csv", index=False)
    assert run("describe", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"description", "reasons"}
    assert not (tmp_path / "dataset.json").exists()
    assert run("describe", tmp_path, "--write") == 0
    assert json.loads((tmp_path / "dataset.json").read_text()) == found["description"]
    capsys.readouterr()
    assert run("check", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_pairs"] == N
    write_description(tmp_path, found["description"])
    with pytest.raises(InputError, match=r"dataset\.json: there is one already"):
        write_description(tmp_path, found["description"] | {"name": "other"})
    assert run("describe", tmp_path / "nowhere") == 2


def test_each_guess_is_asked_for_in_the_terminal(tmp_path, capsys, monkeypatch):
    ward(tmp_path).drop(columns=["Study", "Subject", "Gender", "AgeAtVisit"]).to_csv(
        tmp_path / "visits.csv", index=False
    )
    proposal = describe_folder(tmp_path)
    doubtful = [one.entry for one in proposal.reasons if not one.sure]
    assert "columns.patient_id" in doubtful
    typed = "".join("Picture\n" if entry == "columns.patient_id" else "\n" for entry in doubtful)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))  # an empty line keeps a guess
    assert run("describe", tmp_path, "--ask", "--json") == 0
    expected = proposal.description
    expected["columns"]["patient_id"] = "Picture"
    assert json.loads(capsys.readouterr().out)["description"] == expected


def test_unicode_text_as_excel_saves_it(tmp_path):
    frame = ward(tmp_path)
    frame.to_csv(tmp_path / "visits.csv", index=False)
    plain = describe_folder(tmp_path).description
    (tmp_path / "visits.csv").unlink()
    frame.to_csv(tmp_path / "visits.txt", index=False, sep="\t", encoding="utf-16")
    found = describe_folder(tmp_path)
    assert found.description == plain | {"table": "visits.txt"}
    assert len(read(tmp_path, found)) == N


def test_paths_of_another_computer_are_found_by_their_names(tmp_path):
    frame = ward(tmp_path)
    frame["Picture"] = "C:\\Users\\me\\study\\" + frame["Picture"] + ".PNG"
    frame.to_csv(tmp_path / "visits.csv", index=False)
    assert read(tmp_path).frame["image"].iat[3] == "scans/eye_003.png"


def test_a_table_in_another_encoding_is_named(tmp_path):
    ward(tmp_path).assign(Comment="Fußgelenk, unauffällig").to_csv(
        tmp_path / "visits.csv", index=False, sep=";", encoding="latin-1"
    )
    with pytest.raises(InputError, match=r"visits\.csv: not UTF-8; save the file as UTF-8"):
        describe_folder(tmp_path)


def test_a_table_without_a_header_is_told(tmp_path):
    ward(tmp_path).assign(Picture=lambda frame: frame["Picture"] + ".png").to_csv(
        tmp_path / "visits.csv", index=False, header=False
    )
    with pytest.raises(InputError, match="its first row names an image"):
        describe_folder(tmp_path)


def test_a_report_is_a_note_however_often_it_repeats(tmp_path):
    frame = ward(tmp_path)
    kind = np.arange(N) % 2
    frame["report"], frame["label"] = np.where(kind, "No nodule.", "Nodule in the left lung."), kind
    frame.drop(columns="Comment").to_csv(tmp_path / "visits.csv", index=False)
    found = describe_folder(tmp_path).description
    assert (found["columns"]["text"], found["columns"]["label"]) == ("report", "label")


def test_every_proposal_of_a_shuffled_table_is_valid(tmp_path):
    """Columns in any order, with names that say nothing: no crash, and a description that can be parsed."""
    frame = ward(tmp_path)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(frame.columns)
        renamed = frame[order].set_axis([f"c{i}" for i in range(len(order))], axis=1)
        renamed.to_csv(tmp_path / "visits.csv", index=False, quoting=csv.QUOTE_ALL)
        proposal = describe_folder(tmp_path)
        place = f"c{list(order).index('Picture')}"
        assert proposal.description["columns"]["image"] == f"{{{place}}}.png"
        assert proposal.description["columns"]["text"] == f"c{list(order).index('Comment')}"


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx", "jsonl", "parquet"])
def test_damaged_tables_are_one_line(tmp_path, ending):
    """Bytes cut, flipped and random: a proposal or one line, never another error."""
    write = {
        "csv": lambda frame, path: frame.to_csv(path, index=False),
        "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
        "xlsx": lambda frame, path: frame.to_excel(path, index=False),
        "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda frame, path: frame.to_parquet(path),
    }[ending]
    path = tmp_path / f"a.{ending}"
    write(ward(tmp_path), path)
    good = path.read_bytes()
    random = np.random.default_rng(0)
    for trial in range(40):
        data = bytearray(good)
        if trial % 3 == 0:
            data = data[: int(random.integers(1, len(data)))]
        for _ in range(int(random.integers(1, 20))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        path.write_bytes(bytes(data) if trial % 5 else random.bytes(200))
        said = ""
        try:
            parse_description(describe_folder(tmp_path).description, "proposal")
        except InputError as error:
            said = str(error)
        assert "\n" not in said
