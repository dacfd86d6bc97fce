"""The faults that reading a folder must survive; each test is named after its number in the list of faults."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairvlm_core.errors import InputError
from fairvlm_core.pairs import PairTable


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


# 4 -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cell", ["", "  ", "-1", "-1.0", "None", "nan", "NaN", "null", "unknown"])
def test_fault_04_a_missing_attribute_is_a_counted_group(manifest, rows, cell):
    rows[3]["race"] = rows[33]["race"] = cell
    table = PairTable.read(manifest(rows))
    assert list(table.frame["race"].cat.categories) == ["Black", "White", "Unknown"]
    assert np.flatnonzero(table.attribute("race") == "Unknown").tolist() == [3, 33]
    assert table.report.attributes["race"]["unknown"] == 2
    assert table.report.attributes["race"]["by_split"]["test"]["Unknown"]["n"] == 1


def test_fault_04_codes_of_fairvlmed(fairvlmed):
    table = PairTable.read(fairvlmed())
    assert list(table.frame["ethnicity"].cat.categories) == ["Non-Hispanic", "Hispanic", "Unknown"]
    assert list(table.frame["language"].cat.categories) == ["English", "Spanish", "Other", "Unknown"]
    assert table.attribute("race")[:3].tolist() == ["Asian", "Black", "White"]
    assert table.attribute("gender")[:2].tolist() == ["Female", "Male"]
    assert (table.attribute("ethnicity") == "Unknown").sum() == 8
    assert table.report.attributes["language"]["unknown"] == 6


# 6 -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "empty"])
def test_fault_06_a_missing_or_unreadable_image_is_left_out_and_listed(manifest, rows, damage):
    folder = manifest(rows)
    victim = folder / "images" / "p004.png"
    data = victim.read_bytes()
    victim.write_bytes(
        {"missing": b"x", "truncated": data[: len(data) - 20], "text": b"no image", "empty": b""}[damage]
    )
    if damage == "missing":
        victim.unlink()
    table = PairTable.read(folder, max_refused_share=0.05)
    assert len(table) == 39
    assert "p004" not in table.pair_ids
    assert [(r["row"], r["pair_id"]) for r in table.report.refused] == [(6, "p004")]
    assert table.report.n_rows == 40
    assert any("1 of 40 pairs are left out" in line for line in table.report.to_dict()["warnings"])


def test_fault_06_above_the_threshold_the_table_is_refused(manifest, rows):
    folder = manifest(rows)
    for i in (4, 9, 11):
        (folder / "images" / f"p{i:03d}.png").unlink()
    with pytest.raises(InputError, match=r"manifest\.csv: 3 of 40 pairs .*\(row 6: .*row 11: .*row 13: ") as error:
        PairTable.read(folder)
    one_line(error)
    assert len(PairTable.read(folder, max_refused_share=0.1)) == 37


def test_fault_06_an_empty_image_cell(manifest, rows):
    rows[0]["image"] = ""
    table = PairTable.read(manifest(rows))
    assert table.report.refused == [{"row": 2, "pair_id": "p000", "reason": "the image cell is empty"}]


# 7 -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "header"])
def test_fault_07_a_damaged_npz_is_named(fairvlmed, damage):
    folder = fairvlmed(slo_fundus=np.random.default_rng(0).integers(0, 256, (66, 51), np.uint8))
    victim = folder / "Training" / "data_00002.npz"
    data = bytearray(victim.read_bytes())
    if damage == "flipped":
        with zipfile.ZipFile(victim) as archive:
            start = archive.getinfo("slo_fundus.npy").header_offset
        data[start + 1500] ^= 4
    if damage == "header":
        data[:4] = b"XXXX"
    victim.write_bytes({"truncated": bytes(data[:-200]), "empty": b""}.get(damage, bytes(data)))
    table = PairTable.read(folder)
    assert [r["file"] for r in table.report.refused] == ["Training/data_00002.npz"]
    assert len(table) == 23
    with pytest.raises(InputError, match=r"Training/data_00002\.npz") as error:
        PairTable.read(folder, max_refused_share=0)
    one_line(error)


@pytest.mark.slow
def test_fault_07_any_flipped_bit_or_cut_is_an_input_error_or_harmless(fairvlmed):
    folder = fairvlmed()
    victim = folder / "Training" / "data_00001.npz"
    whole = victim.read_bytes()
    sound = np.asarray(PairTable.read(folder).image(1))
    rng = np.random.default_rng(7)
    for turn in range(150):
        data = bytearray(whole)
        if turn % 3:
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        else:
            data = data[: rng.integers(len(data))]
        victim.write_bytes(bytes(data))
        try:
            table = PairTable.read(folder)
        except InputError as error:
            assert "data_00001" in str(error)  # noqa: PT017 - an error is one of two right outcomes
            continue
        if len(table) == 24:
            assert np.array_equal(np.asarray(table.image(1)), sound)
        else:
            assert table.report.refused[0]["file"] == "Training/data_00001.npz"


# 8 -----------------------------------------------------------------------------------------------------------------
class Bomb:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["FAIRVLM_TEST_TRACE"],)


@pytest.mark.parametrize("member", ["slo_fundus", "race", "glaucoma"])
def test_fault_08_pickled_objects_are_refused(fairvlmed, monkeypatch, tmp_path, member):
    trace = tmp_path / "unpickled"
    monkeypatch.setenv("FAIRVLM_TEST_TRACE", str(trace))
    folder = fairvlmed()
    victim = folder / "Training" / "data_00003.npz"
    with np.load(victim) as content:
        members = dict(content)
    hostile = np.empty((), object)
    hostile[()] = Bomb()
    np.savez(victim, **(members | {member: hostile}))
    with pytest.raises(InputError, match=rf"Training/data_00003\.npz: member '{member}' holds pickled") as error:
        PairTable.read(folder)
    one_line(error)
    assert not trace.exists()


def test_fault_08_a_bare_pickle_is_no_npz(fairvlmed, monkeypatch, tmp_path):
    trace = tmp_path / "unpickled"
    monkeypatch.setenv("FAIRVLM_TEST_TRACE", str(trace))
    folder = fairvlmed()
    (folder / "Training" / "data_00003.npz").write_bytes(pickle.dumps(Bomb()))
    assert [r["file"] for r in PairTable.read(folder).report.refused] == ["Training/data_00003.npz"]
    assert not trace.exists()


# 9 -----------------------------------------------------------------------------------------------------------------
def npy_header(shape: str, descr: str = "|u1") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "zeros"),
    [
        ("(60000, 60000)", 100),  # claims far more than it holds
        ("(4294967296, 4294967296)", 0),  # wraps round to nothing in 64 bits
        ("(26000, 26000)", 26000 * 26000),  # really unpacks to 676 MB, from under 1 MB
    ],
)
def test_fault_09_an_npz_bomb_is_refused_before_allocating(fairvlmed, shape, zeros):
    folder = fairvlmed()
    victim = folder / "Test" / "data_00020.npz"
    with np.load(victim) as content:
        members = dict(content)
    members.pop("slo_fundus")
    np.savez(victim, **members)
    with zipfile.ZipFile(victim, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("slo_fundus.npy", "w") as file:
        file.write(npy_header(shape))
        for at in range(0, zeros, 1 << 22):
            file.write(bytes(min(1 << 22, zeros - at)))
    assert victim.stat().st_size < 2_000_000
    tracemalloc.start()
    with pytest.raises(InputError, match=r"Test/data_00020\.npz") as error:
        PairTable.read(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_line(error)
    assert peak < 20_000_000


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8000, 10_000, 14_000, 60_000])
def test_fault_09_a_png_bomb_is_refused_before_allocating(manifest, rows, side):
    folder = manifest(rows)
    (folder / "images" / "p007.png").write_bytes(png_of(side, side))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"manifest\.csv row 9, column image: the image .* pixels") as error:
        PairTable.read(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_line(error)
    assert peak < 20_000_000


# 10 ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"p1,a.png,caf\xe9,1,train\n", "not UTF-8"),
        (b"p1,a.png,no\x00te,1,train\n", "NUL"),
        (b"p1,a.png,note,1\n", "4 cells where the header has 5"),
        (b"p1,a.png,note, more,1,train\n", "6 cells where the header has 5"),
        (b'p1,a.png,"never closed,1,train\n', "quote"),
        (b'p1,a.png,"closed" twice",1,train\n', "quote"),
    ],
)
@pytest.mark.parametrize("multi_line", [False, True])
def test_fault_10_bad_csv_names_the_row(tmp_path, bad, reason, multi_line):
    good = b'p0,a.png,"first line\nsecond line",1,train\n' if multi_line else b"p0,a.png,fine,1,train\n"
    (tmp_path / "manifest.csv").write_bytes(
        b"pair_id,image,text,label,split\n" + good + bad + b"p2,a.png,fine,0,test\n"
    )
    with pytest.raises(InputError, match=rf"^manifest\.csv row 3: .*{reason}") as error:
        PairTable.read(tmp_path, check_images=False)
    one_line(error)


def test_fault_10_text_stays_text_and_a_byte_order_mark_is_no_name(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(
        b"\xef\xbb\xbfpair_id,image,text,label,split,site\r\n"
        b"001,a.png,0123,1,train,NAM\r\n1e5,b.png,1e3,0,train,007\r\nNA,c.png,1.50,0,test,007\r\n"
    )
    table = PairTable.read(tmp_path, check_images=False)
    assert table.pair_ids.tolist() == ["001", "1e5", "NA"]
    assert table.frame["text"].tolist() == ["0123", "1e3", "1.50"]
    assert table.attribute("site").tolist() == ["NAM", "007", "007"]


# 11 ----------------------------------------------------------------------------------------------------------------
def test_fault_11_a_pair_id_given_twice_is_refused(manifest, rows):
    rows[7]["pair_id"] = "p003"
    with pytest.raises(InputError, match=r"row 9, column pair_id: .*'p003' .* row 5") as error:
        PairTable.read(manifest(rows))
    one_line(error)


def test_fault_11_a_column_name_given_twice_is_refused(manifest, rows):
    header = ("pair_id", "image", "text", "label", "split", "race", "race")
    with pytest.raises(InputError, match=r"manifest\.csv row 1: two columns are named 'race'"):
        PairTable.read(manifest(rows, header=header))


def test_fault_11_one_eye_in_two_folders(fairvlmed):
    folder = fairvlmed()
    (folder / "Test" / "data_00001.npz").write_bytes((folder / "Training" / "data_00001.npz").read_bytes())
    with pytest.raises(InputError, match=r"Test/data_00001\.npz.*'data_00001' .*Training/data_00001\.npz"):
        PairTable.read(folder)


# 12 ----------------------------------------------------------------------------------------------------------------
def test_fault_12_a_patient_in_two_splits_is_refused_unless_allowed(manifest, rows):
    rows[35]["patient_id"] = rows[2]["patient_id"]
    folder = manifest(rows)
    with pytest.raises(InputError, match=r"row 4 \(train\) and row 37 \(test\).*allow_shared_patients") as error:
        PairTable.read(folder)
    one_line(error)
    assert PairTable.read(manifest([row for i, row in enumerate(rows) if i != 2])).info.shared_patients == 0
    table = PairTable.read(manifest(rows), allow_shared_patients=True)
    assert table.info.shared_patients == 1
    assert "allow_shared_patients" in table.report.to_dict()["warnings"][0]


# 15 ----------------------------------------------------------------------------------------------------------------
def test_fault_15_unusual_images_come_in_by_defined_rules(manifest, rows):
    folder = manifest(rows)
    images = folder / "images"
    deep = np.linspace(0, 65535, 80).astype(np.uint16).reshape(8, 10)
    Image.fromarray(deep).save(images / "p000.png")
    Image.fromarray((deep / 65535).astype(np.float32)).save(images / "p001.png", "TIFF")
    Image.new("CMYK", (10, 8), (0, 255, 255, 0)).save(images / "p002.png", "JPEG")
    Image.new("RGBA", (10, 8), (200, 100, 0, 128)).save(images / "p003.png")
    Image.new("RGB", (10, 8), (9, 8, 7)).quantize(4).save(images / "p004.png")
    turned = Image.new("L", (10, 8), 90)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(images / "p005.png", "JPEG", exif=exif)
    frames = [Image.new("L", (10, 8), value) for value in (30, 60)]
    frames[0].save(images / "p006.png", "GIF", save_all=True, append_images=frames[1:])
    table = PairTable.read(folder)
    seen = [np.asarray(table.image(i)) for i in range(7)]
    expected = np.round(deep / 257).astype(np.uint8)
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in seen)
    assert np.array_equal(seen[0][..., 0], expected)
    assert np.array_equal(seen[1][..., 2], expected)
    assert np.abs(seen[2].reshape(-1, 3).mean(0) - (255, 0, 0)).max() < 6
    assert seen[3][0, 0].tolist() == [100, 50, 0]
    assert seen[4][0, 0].tolist() == [9, 8, 7]
    assert seen[5].shape == (10, 8, 3)
    assert (seen[6] == 30).all()
    assert table.report.images["odd"] == {
        "16-bit": 1, "CMYK": 1, "EXIF orientation": 1, "alpha": 1, "float": 1, "multi-frame": 1, "palette": 2,
        "wrong extension": 4,
    }  # fmt: skip


# 16 ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    ["../secret.png", "images/../../secret.png", "/etc/secret", "C:\\secret.png", "..\\secret.png", "\\\\host\\secret",
     "images/secret\n.png", "leak/secret.png", "leak.png", "loop/secret.png", "pipe", "images", "/dev/zero",
     "dangling"],
)  # fmt: skip
def test_fault_16_a_path_out_of_the_folder_is_refused_unseen(manifest, rows, path):
    rows[5]["image"] = path
    folder = manifest(rows)
    secret = folder.parent / "secret"
    secret.mkdir()
    (secret / "secret.png").write_bytes((folder / "images" / "p001.png").read_bytes())
    (folder / "leak").symlink_to(secret)
    (folder / "leak.png").symlink_to(secret / "secret.png")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to("/nowhere/secret.png")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match=r"^manifest\.csv row 7, column image: ") as error:
        PairTable.read(folder)
    text = one_line(error)
    assert "secret" not in text
    assert str(folder.parent) not in text


def test_fault_16_a_link_that_stays_inside_is_fine(manifest, rows):
    folder = manifest(rows)
    (folder / "again.png").symlink_to(folder / "images" / "p009.png")
    rows[5]["image"] = "./images//p005.png"
    rows[6]["image"] = "again.png"
    table = PairTable.read(manifest(rows))
    assert table.frame["image"].iloc[5] == "images/p005.png"
    assert table.image(6).getpixel((0, 0)) == (45, 45, 45)


def test_fault_16_a_link_is_also_refused_when_images_were_not_checked(manifest, rows):
    folder = manifest(rows)
    (folder / "images" / "p005.png").unlink()
    (folder / "images" / "p005.png").symlink_to("/etc/hostname")
    table = PairTable.read(folder, check_images=False)
    with pytest.raises(InputError, match="pair 'p005': the path leads out") as error:
        table.image(5)
    assert "hostname" not in one_line(error)


@pytest.mark.parametrize("entry", ["table", "images"])
def test_fault_16_paths_in_a_description_are_held_too(manifest, rows, entry):
    folder = manifest(rows, description={"schema": 1, entry: "../secret"})
    with pytest.raises(InputError, match=f'dataset.json: entry "{entry}": the path climbs out') as error:
        PairTable.read(folder)
    assert "secret" not in one_line(error)


# 17 ----------------------------------------------------------------------------------------------------------------
def test_fault_17_strange_notes_come_in_and_empty_ones_are_counted(manifest, rows):
    strange = [
        "",
        "   \n",
        "word " * 20_000,
        "x" * 100_000,
        "青光眼，视杯扩大。" * 30,
        "👁️‍🗨️🩺 e\u0301",
        'line\nbreak, "quoted"',
    ]
    for row, text in zip(rows, strange, strict=False):
        row["text"] = text
    table = PairTable.read(manifest(rows))
    assert table.frame["text"].tolist()[:5] == strange[2:]
    assert [(r["row"], r["reason"]) for r in table.report.left_out] == [(2, "empty note"), (3, "empty note")]
    assert table.report.refused == []
    assert table.report.notes["longest"] == 100_000
    assert table.report.notes["without_spaces"] == 2


def test_fault_17_truncation_is_counted_and_reported(manifest, rows):
    from fairvlm_core.intake import count_truncated

    rows[0]["text"] = "word " * 500
    table = PairTable.read(manifest(rows))
    calls = []

    def lengths(notes: list[str]) -> np.ndarray:
        calls.extend(notes)
        return np.array([len(note.split()) + 2 for note in notes])

    report = table.report.with_truncation(count_truncated(list(table.frame["text"]), lengths, 77))
    assert report.truncation.n_truncated == 1
    assert report.truncation.longest == 502
    assert len(calls) == len(set(calls)) == 40
    assert any("1 of 40 notes are truncated" in line for line in report.to_dict()["warnings"])
    assert report.to_dict()["truncation"]["context_length"] == 77


# 19 ----------------------------------------------------------------------------------------------------------------
def test_fault_19_formulas_are_neutralised_and_come_back(tmp_path):
    import csv

    import pandas as pd

    from fairvlm_core.intake import read_csv, write_csv

    notes = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'quoted'", "''", "plain", "", "a\nb", '"', '=A,"B"']
    frame = pd.DataFrame({"text": notes, "z": np.linspace(-1, 1, len(notes)), "n": np.arange(len(notes)) - 3})
    path = write_csv(frame, tmp_path / "out.csv")
    raw = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert not any(row["text"].startswith(("=", "+", "-", "@", "\t", "\r")) for row in raw)
    assert raw[0]["z"] == "-1.0"
    back = read_csv(path, dtypes={"z": float, "n": int})
    pd.testing.assert_frame_equal(back, frame)


def test_fault_05_an_empty_table_or_no_label_column(manifest, rows, tmp_path):
    with pytest.raises(InputError, match=r"manifest\.csv: no rows"):
        PairTable.read(manifest([]))
    (tmp_path / "data" / "manifest.csv").write_bytes(b"")
    with pytest.raises(InputError, match=r"manifest\.csv: the file is empty"):
        PairTable.read(tmp_path / "data")
    with pytest.raises(InputError, match=r"manifest\.csv: no column 'label'"):
        PairTable.read(manifest([{k: v for k, v in row.items() if k != "label"} for row in rows]))
    assert Path(tmp_path / "data" / "manifest.csv").exists()
