"""Archives of pairs: read in place, split and attributes from the JSON, and nothing hostile gets through."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairvlm_core import InputError, PairTable, RunConfig, fit
from fairvlm_core.cache import run_input
from fairvlm_core.intake.files import open_inside
from fairvlm_core.models import load_clip


def png(value: int, size: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (value % 256, 7, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes, **facts: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content) if info.isreg() else None)


def shard(path: Path, pairs: dict[str, dict], first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, (key, fields) in enumerate(pairs.items()):
            add(tar, f"{key}.png", png(first + i))
            add(tar, f"{key}.txt", f"Note of {key}".encode())
            add(tar, f"{key}.json", json.dumps(fields).encode())
    return path


def pairs(split: str, n: int, start: int = 0) -> dict[str, dict]:
    return {
        f"{start + i:04d}": {
            "label": (start + i) % 2, "split": split, "patient_id": f"p{start + i}", "sex": "FM"[i % 2],
            "age": [40.0, 61.5][i % 2], "extra": {"a": 1}, "seen": None,
        }
        for i in range(n)
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    shard(tmp_path / "data" / "a-0000.tar", pairs("train", 24))
    shard(tmp_path / "data" / "a-0001.tar", pairs("val", 8, 24), 24)
    shard(tmp_path / "data" / "more" / "a-0002.tar", pairs("test", 8, 32), 32)
    return tmp_path / "data"


def test_pairs_come_in_with_their_notes_splits_and_attributes(folder):
    table = PairTable.read(folder)
    assert table.info.layout == "webdataset"
    assert len(table) == 40
    assert table.frame["split"].value_counts().to_dict() == {"train": 24, "val": 8, "test": 8}
    assert table.pair_ids[[0, 39]].tolist() == ["0000", "0039"]
    assert table.frame["text"].iat[25] == "Note of 0025"
    assert table.frame["image"].iat[39] == "more/a-0002.tar/0039.png"
    assert table.attributes == ("sex", "age")
    assert set(table.attribute("age")) == {"40", "61.5"}
    assert "extra" in table.report.columns_left_out
    assert table.report.images["checked"] == 40
    assert table.image(30).getpixel((3, 3)) == (30, 7, 9)
    assert PairTable.read(folder, check_images=False).fingerprint == table.fingerprint


def test_a_run_trains_on_archives(folder, tmp_path):
    table, clip = PairTable.read(folder), load_clip("tiny")
    config = RunConfig.build("robustfair", {"epochs": 1, "batch_size": 12})
    arrays = run_input(table, clip, config, tmp_path / "cache")
    assert np.array_equal(arrays.pixels[5].numpy(), clip.pixels(table.image(5)))
    result = fit(table, config, arrays=arrays, clip=clip)
    assert np.isfinite(result.ledger.losses).all()


def test_splits_from_the_archives_names_and_ids_that_repeat(tmp_path):
    for split in ("train", "val", "test"):
        fields = {f"{i}": {"label": i % 2, "sex": "FM"[i % 2]} for i in range(4)}
        shard(tmp_path / f"{split}-000.tar", fields, {"train": 0, "val": 40, "test": 80}[split])
    table = PairTable.read(tmp_path)
    assert table.frame["split"].value_counts().to_dict() == {"train": 4, "val": 4, "test": 4}
    assert "train-000/2" in set(table.pair_ids)


def test_a_description_gives_other_names(tmp_path):
    shard(tmp_path / "x.tar", {f"{i}": {"glaucoma": "yes" if i % 2 else "no", "eye": "LR"[i % 2]} for i in range(20)})
    (tmp_path / "dataset.json").write_text(
        json.dumps({"columns": {"label": "glaucoma"}, "label": {"positive": ["yes"], "negative": ["no"]}})
    )
    table = PairTable.read(tmp_path)
    assert table.labels.tolist() == [0, 1] * 10
    assert table.attributes == ("eye",)


def test_a_damaged_image_is_left_out_and_a_pair_without_one_listed(folder):
    with tarfile.open(folder / "a-0003.tar", "w") as tar:
        add(tar, "z.txt", b"alone")
        add(tar, "y.png", png(1)[:40])
        add(tar, "y.json", b'{"label": 1, "split": "train", "text": "note"}')
        add(tar, "._x.png", b"what some systems leave")
    table = PairTable.read(folder)
    assert len(table) == 40
    assert [line["pair_id"] for line in table.report.left_out] == ["z"]
    assert [line["pair_id"] for line in table.report.refused] == ["y"]


HOSTILE = {
    "climbs": (lambda tar: add(tar, "../../secret.png", png(1)), "climbs out"),
    "absolute": (lambda tar: add(tar, "/etc/secret.png", png(1)), "absolute"),
    "control": (lambda tar: add(tar, "se\ncret.png", png(1)), "control characters"),
    "symlink": (lambda tar: add(tar, "secret.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a link"),
    "hardlink": (lambda tar: add(tar, "secret.png", b"", type=tarfile.LNKTYPE, linkname="0000.png"), "a link"),
    "device": (lambda tar: add(tar, "secret.png", b"", type=tarfile.CHRTYPE), "device"),
    "fifo": (lambda tar: add(tar, "secret.png", b"", type=tarfile.FIFOTYPE), "device"),
    "twice": (lambda tar: (add(tar, "secret.png", png(1)), add(tar, "./secret.png", png(2))), "twice"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_refuses_the_data_and_its_name_is_not_repeated(folder, kind):
    make, reason = HOSTILE[kind]
    with tarfile.open(folder / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        make(tar)
    with pytest.raises(InputError, match=rf"^b\.tar: member \d: .*{reason}") as caught:
        PairTable.read(folder)
    assert "secret" not in str(caught.value)


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136], block[136:148], block[156:157] = size, b"00000000000\0", kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


NEGATIVE = b"\xff" * 10 + b"\xfc\x00"  # base 256: -1024


@pytest.mark.parametrize(
    "content",
    [
        b"this is no archive" * 100,
        header("a.png", NEGATIVE) + bytes(2048),
        header("a", b"77777777777\0", b"x") + bytes(2048),
        header("a", NEGATIVE, b"L") + bytes(2048),
        header("a.png", b"77777777777\0") + bytes(2048),
    ],
    ids=["no archive", "negative size", "endless extended header", "negative long name", "truncated"],
)
def test_a_damaged_archive_is_one_line_that_names_it(folder, content):
    (folder / "b.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"^b\.tar: "):
        PairTable.read(folder)


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("a.json", b"{", "not readable as JSON"),
        ("a.json", b"[1]", "an object is expected"),
        ("a.json", b'{"label": 1, "note": "\\ud800"}', "half a character"),
        ("a.json", b"[" * 100_000, "not readable as JSON"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.txt", bytes(5 * 2**20), "larger than 4 MiB"),
    ],
)
def test_what_stands_beside_an_image_is_held_to_its_format(folder, member, content, reason):
    with tarfile.open(folder / "b.tar", "w") as tar:
        add(tar, "a.png", png(1))
        add(tar, member, content)
    with pytest.raises(InputError, match=rf"^b\.tar, member 'a\.\w+': .*{reason}"):
        PairTable.read(folder)


def test_a_wrong_label_names_archive_and_pair(folder):
    shard(folder / "b.tar", {"k": {"label": "maybe", "split": "train"}})
    with pytest.raises(InputError, match=r"^b\.tar, pair 'k', label: the label is 'maybe'"):
        PairTable.read(folder)


def test_an_archive_behind_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    outside = shard(tmp_path / "outside.tar", pairs("train", 2))
    (folder / "b.tar").symlink_to(outside)
    with pytest.raises(InputError, match=r"^b\.tar: the path leads out of the data folder"):
        PairTable.read(folder)
    with pytest.raises(InputError, match="symbolic link"):
        open_inside(folder, "b.tar/0000.png")


def test_compressed_archives_are_named_as_such(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"1")
    with pytest.raises(InputError, match="unpack each to a plain"):
        PairTable.read(tmp_path)


def test_a_folder_that_is_named_like_an_archive_stays_a_folder(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "a.png").write_bytes(png(3))
    with open_inside(tmp_path, "x.tar/a.png") as file:
        assert file.read() == png(3)


def test_a_changed_archive_is_read_again(folder):
    with open_inside(folder, "a-0000.tar/0000.png") as file:
        assert file.read() == png(0)
    shard(folder / "new.tar", pairs("train", 24), 100)
    (folder / "new.tar").replace(folder / "a-0000.tar")
    with open_inside(folder, "a-0000.tar/0000.png") as file:
        assert file.read() == png(100)
