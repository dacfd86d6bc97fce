"""Images and notes elsewhere: what is declared is read, what is not is refused with how to declare it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fairvlm_core.errors import InputError
from fairvlm_core.pairs import PairTable

TABLE = {"table": "cases.csv", "columns": {"image": "file", "text": "note", "label": "label"}}


@pytest.fixture
def cases(tmp_path):
    """A folder with a table of 40 rows, and its images in another folder."""
    folder, disk = tmp_path / "cases", tmp_path / "disk"
    folder.mkdir()
    disk.mkdir()
    for i in range(40):
        Image.fromarray(np.full((8, 8), 5 * i, np.uint8)).save(disk / f"{i:02d}.png")

    def write(cell: str = "{i:02d}.png", **described) -> None:
        rows = [f"{cell.format(i=i)},Note {i},{i % 2}" for i in range(40)]
        (folder / "cases.csv").write_text("\n".join(["file,note,label", *rows]) + "\n")
        (folder / "dataset.json").write_text(json.dumps(TABLE | described))

    return folder, disk, write


@pytest.mark.parametrize(
    "cell",
    ["{i:02d}.png", "{i:02d}", "old/place/{i:02d}.png", "old\\place\\{i:02d}", "{i:02d}.dcm", "DISK/{i:02d}.png"],
)
def test_images_elsewhere(cases, cell):
    folder, disk, write = cases
    cell = cell.replace("DISK", str(disk))
    write(cell)
    with pytest.raises(InputError, match=r"40 of 40 pairs cannot be used|the path is absolute.*--images FOLDER"):
        PairTable.read(folder)
    tables = [PairTable.read(folder, images=disk)]
    write(cell, images=str(disk))
    tables.append(PairTable.read(folder))
    for table in tables:
        assert (table.root, table.image_root) == (folder, disk)
        assert table.frame["image"].tolist() == [f"{i:02d}.png" for i in range(40)]
        assert table.image(7).getpixel((0, 0)) == (35, 35, 35)
    assert tables[0].fingerprint == tables[1].fingerprint
    told = [any("images are read from" in line for line in map(str, table.report.warnings)) for table in tables]
    assert told == [False, True]


def test_a_link_out_of_the_folder_is_followed_only_where_it_is_declared(cases):
    folder, disk, write = cases
    (folder / "images").symlink_to(disk)
    write("images/{i:02d}.png")
    with pytest.raises(InputError, match=r"row 2, column file: .*symbolic link; declare.* --images FOLDER") as error:
        PairTable.read(folder)
    assert str(disk) not in str(error.value)
    assert PairTable.read(folder, images=disk).image(7).getpixel((0, 0)) == (35, 35, 35)
    # A folder above the one that the link names, and single linked files of other names.
    assert PairTable.read(folder, images=disk.parent).frame["image"][3] == "disk/03.png"
    write(images="images")
    with pytest.raises(InputError, match=r"images: the path leads out .*; declare"):
        PairTable.read(folder)
    assert len(PairTable.read(folder, images=disk)) == 40
    (folder / "images").unlink()
    (folder / "images").mkdir()
    for i in range(40):
        (folder / "images" / f"case-{i}.png").symlink_to(disk / f"{i:02d}.png")
    write("images/case-{i}.png")
    assert PairTable.read(folder, images=disk).frame["image"][5] == "05.png"


def test_a_declared_folder_is_not_left(cases, tmp_path):
    folder, disk, write = cases
    secret = tmp_path / "secret"
    shutil.copytree(disk, secret)
    write("../secret/{i:02d}.png", images=str(disk))
    with pytest.raises(InputError, match="climbs out"):
        PairTable.read(folder)
    write(f"{secret}/{{i:02d}}.png", images=str(disk))
    with pytest.raises(InputError, match="the path is absolute"):
        PairTable.read(folder)
    for path in disk.iterdir():
        path.unlink()
        path.symlink_to(secret / path.name)
    write(images=str(disk))
    with pytest.raises(InputError, match="symbolic link"):
        PairTable.read(folder)
    write(images=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="images: there is no folder"):
        PairTable.read(folder)


def test_files_are_looked_for_only_where_no_path_is_right(cases):
    folder, disk, write = cases
    (folder / "a").mkdir()
    for i in range(40):
        shutil.copy(disk / f"{i:02d}.png", folder / ("a" if i < 30 else ".") / f"{i:02d}.png")
    write()
    with pytest.raises(InputError, match="30 of 40 pairs cannot be used"):
        PairTable.read(folder)
    (folder / "b").mkdir()
    for i in range(30, 40):
        (folder / f"{i:02d}.png").rename(folder / "b" / f"{i:02d}.png")
    assert PairTable.read(folder).frame["image"][[0, 39]].tolist() == ["a/00.png", "b/39.png"]
    # Two files of one name: neither is taken.
    shutil.copy(folder / "a" / "07.png", folder / "b" / "07.png")
    assert [r["row"] for r in PairTable.read(folder).report.refused] == [9]


def test_notes_elsewhere(cases, tmp_path):
    folder, disk, write = cases
    reports = tmp_path / "reports"
    for i in range(40):
        (reports / f"p{i % 3}").mkdir(parents=True, exist_ok=True)
        (reports / f"p{i % 3}" / f"s{i}.txt").write_text(f"Report {i}")
    described = {"notes": str(reports), "columns": {"image": "file", "text": "s{number}", "label": "label"}}
    write(images=str(disk), **described)
    text = (folder / "cases.csv").read_text().replace("note", "number").replace("Note ", "")
    (folder / "cases.csv").write_text(text)
    # A folder of notes elsewhere is the user's word alone; that of images is told.
    with pytest.raises(InputError, match=r"^notes: .*--description FILE"):
        PairTable.read(folder)
    described = tmp_path / "mine.json"
    (folder / "dataset.json").rename(described)
    assert PairTable.read(folder, description=described).frame["text"][:2].tolist() == ["Report 0", "Report 1"]
