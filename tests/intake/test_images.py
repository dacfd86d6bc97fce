"""Every kind of image against the value it must become, computed by hand."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairvlm_core.errors import InputError
from fairvlm_core.intake import DamagedFile, inspect_image, read_image, to_rgb
from fairvlm_core.intake.images import FORMATS


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: object) -> str:
    image.save(folder / name, **options)
    return name


def pixels(folder: Path, name: str = "a.png") -> np.ndarray:
    image = read_image(folder, name)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.bmp", "a.gif", "a.webp", "a.ppm"])
def test_formats_that_keep_every_pixel(tmp_path, name):
    grey = np.arange(80, dtype=np.uint8).reshape(8, 10)
    options = {"lossless": True} if name == "a.webp" else {}
    saved(tmp_path, Image.fromarray(grey), name, **options)
    assert np.array_equal(pixels(tmp_path, name), np.repeat(grey[..., None], 3, axis=2))
    facts = inspect_image(tmp_path, name)
    assert (facts.width, facts.height) == (10, 8)
    assert "wrong extension" not in facts.odd


def test_jpeg_and_a_jpeg_of_several_pictures(tmp_path):
    saved(tmp_path, Image.new("RGB", (10, 8), (40, 40, 40)), "a.jpg")
    assert np.abs(pixels(tmp_path, "a.jpg").astype(int) - 40).max() <= 2
    saved(tmp_path, Image.new("RGB", (10, 8), (40, 40, 40)), "b.jpg", format="MPO", save_all=True,
          append_images=[Image.new("RGB", (10, 8), (200, 0, 0))])  # fmt: skip
    assert np.abs(pixels(tmp_path, "b.jpg").astype(int) - 40).max() <= 2
    assert inspect_image(tmp_path, "b.jpg").odd == ("multi-frame",)


@pytest.mark.parametrize("top", [255, 256, 1023, 1024, 4095, 4096, 16384, 65535])
def test_16_bit_is_scaled_by_its_largest_value(tmp_path, top):
    deep = np.array([[0, top // 3, top]], np.uint16)
    saved(tmp_path, Image.fromarray(deep))
    expected = np.floor(deep * 255.0 / top + 0.5).astype(np.uint8)
    assert np.array_equal(pixels(tmp_path)[..., 1], expected)
    assert inspect_image(tmp_path, "a.png").odd == ("16-bit",)


def test_a_defect_pixel_does_not_darken_a_12_bit_image(tmp_path):
    deep = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    saved(tmp_path, Image.fromarray(deep))
    plain = pixels(tmp_path)[..., 0]
    deep[0, 0] = 65535
    saved(tmp_path, Image.fromarray(deep))
    assert np.median(pixels(tmp_path)[..., 0]) >= np.median(plain) // 2
    dark = np.zeros((64, 64), np.uint16)
    dark[5, 5] = 300  # one bright pixel alone is the image
    saved(tmp_path, Image.fromarray(dark))
    assert pixels(tmp_path).max() == 255


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def colour(*values):
        row = b"\x00" + struct.pack(">3H", *values)
        head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
        (tmp_path / "a.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
        )
        return pixels(tmp_path)[0, 0].tolist()

    assert colour(0x8000, 0x40FF, 0xFFFF) == [0x80, 0x40, 0xFF]
    assert inspect_image(tmp_path, "a.png").odd == ("16-bit",)
    assert colour(4095, 2048, 0) == [255, 136, 0]  # 12-bit values are not black


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([np.nan, 2.0, np.inf], [0, 2, 0]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([-5.0, -5.0, -5.0], [0, 0, 0]),
    ],
)
def test_float(tmp_path, values, expected):
    saved(tmp_path, Image.fromarray(np.array([values], np.float32)), "a.tif")
    assert pixels(tmp_path, "a.tif")[0, :, 0].tolist() == expected
    assert inspect_image(tmp_path, "a.tif").odd == ("float",)


def test_32_bit_integers(tmp_path):
    saved(tmp_path, Image.fromarray(np.array([[-100, 0, 100]], np.int32)), "a.tif")
    assert pixels(tmp_path, "a.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_lies_over_black(tmp_path):
    saved(tmp_path, Image.new("RGBA", (2, 2), (200, 100, 50, 0)))
    assert (pixels(tmp_path) == 0).all()
    saved(tmp_path, Image.new("LA", (2, 2), (200, 51)))
    assert (pixels(tmp_path) == 40).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 210, 220])
    palette.putpixel((1, 0), 1)
    saved(tmp_path, palette, transparency=1)
    assert pixels(tmp_path)[0].tolist() == [[10, 20, 30], [0, 0, 0]]
    assert inspect_image(tmp_path, "a.png").odd == ("alpha", "palette")
    one_colour = Image.new("RGB", (2, 1), (9, 9, 9))
    one_colour.putpixel((0, 0), (255, 0, 0))
    saved(tmp_path, one_colour, transparency=(255, 0, 0))
    assert pixels(tmp_path)[0].tolist() == [[0, 0, 0], [9, 9, 9]]


def test_black_and_white_and_cmyk(tmp_path):
    saved(tmp_path, Image.fromarray(np.array([[True, False]])))
    assert pixels(tmp_path)[0, :, 0].tolist() == [255, 0]
    saved(tmp_path, Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "a.tif")
    assert (pixels(tmp_path, "a.tif") == 0).all()
    saved(tmp_path, Image.new("CMYK", (2, 2), (255, 0, 0, 0)), "a.tif")
    assert pixels(tmp_path, "a.tif")[0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_against_numpy(tmp_path, turn):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(grey)
    exif = image.getexif()
    exif[0x0112] = turn
    saved(tmp_path, image, exif=exif)
    upright = {
        1: grey, 2: grey[:, ::-1], 3: grey[::-1, ::-1], 4: grey[::-1], 5: grey.T, 6: np.rot90(grey, -1),
        7: grey[::-1, ::-1].T, 8: np.rot90(grey),
    }[turn]  # fmt: skip
    assert np.array_equal(pixels(tmp_path)[..., 0], upright)
    facts = inspect_image(tmp_path, "a.png")
    assert (facts.height, facts.width) == upright.shape
    assert facts.odd == (("EXIF orientation",) if turn > 1 else ())


def test_a_damaged_exif_does_not_lose_the_picture(tmp_path):
    image = Image.new("L", (4, 4), 77)
    saved(tmp_path, image, "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert np.abs(pixels(tmp_path, "a.jpg").astype(int) - 77).max() <= 1
    assert said == []


def test_first_frame(tmp_path):
    frames = [Image.new("L", (3, 3), value) for value in (10, 200)]
    for name in ("a.tiff", "a.gif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert (pixels(tmp_path, name) == 10).all()
        assert "multi-frame" in inspect_image(tmp_path, name).odd


def test_the_content_decides_what_a_file_is(tmp_path):
    saved(tmp_path, Image.new("L", (3, 3), 5), "a.jpg", format="PNG")
    facts = inspect_image(tmp_path, "a.jpg")
    assert (facts.format, facts.odd) == ("PNG", ("wrong extension",))
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(DamagedFile, match="no image of a known format"):
        read_image(tmp_path, "b.png")
    assert {"PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM"} <= set(FORMATS)


def test_lab_has_no_defined_conversion(tmp_path):
    saved(tmp_path, Image.new("LAB", (3, 3)), "a.tif")
    for read in (read_image, inspect_image):
        with pytest.raises(DamagedFile, match="colour mode LAB"):
            read(tmp_path, "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.gif", "a.webp", "a.bmp"])
def test_any_damage_is_one_clear_line_or_harmless(tmp_path, name):
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for turn in range(120):
        data = bytearray(whole)
        if turn % 2:
            for _ in range(3):
                data[rng.integers(min(len(data), 400))] ^= 1 << int(rng.integers(8))
        else:
            data = data[: rng.integers(len(data))]
        (tmp_path / name).write_bytes(bytes(data))
        for read in (inspect_image, read_image):
            try:
                read(tmp_path, name)
            except InputError as error:
                refused += 1
                assert "\n" not in str(error)  # noqa: PT017 - an error is one of two right outcomes
    assert refused > 60


def test_arrays_in_npz(tmp_path):
    deep = np.array([[0, 4095], [2048, 0]], np.uint16)
    np.savez(tmp_path / "a.npz", slo_fundus=deep)
    assert pixels(tmp_path, "a.npz")[..., 0].tolist() == [[0, 255], [128, 0]]
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.savez(tmp_path / "a.npz", slo_fundus=np.asfortranarray(colour))
    assert np.array_equal(pixels(tmp_path, "a.npz"), colour)
    for bad, reason in ((np.zeros(5), "shape"), (np.zeros((0, 4)), "shape"), (np.array([["a"]]), "text")):
        np.savez(tmp_path / "a.npz", slo_fundus=bad)
        with pytest.raises(DamagedFile, match=reason):
            read_image(tmp_path, "a.npz")
    np.savez(tmp_path / "a.npz", other=colour)
    with pytest.raises(DamagedFile, match="no member 'slo_fundus'; there are 'other'"):
        inspect_image(tmp_path, "a.npz")


def test_to_rgb_leaves_the_source_alone():
    source = Image.new("L", (2, 2), 3)
    before = source.tobytes()
    assert to_rgb(source, turn=6).mode == "RGB"
    assert (source.mode, source.tobytes()) == ("L", before)
    assert io.BytesIO(before).getvalue() == b"\x03" * 4


def test_a_large_jpeg_is_read_smaller_and_looks_the_same(tmp_path):
    ramp = np.linspace(0, 255, 3000)
    big = np.stack([np.tile(ramp, (2000, 1)), np.tile(ramp[:2000, None], (1, 3000)), np.full((2000, 3000), 90)], -1)
    Image.fromarray(big.astype(np.uint8)).save(tmp_path / "a.jpg", quality=90, exif=_turned(6))
    whole, small = read_image(tmp_path, "a.jpg"), read_image(tmp_path, "a.jpg", 448)
    assert whole.size == (2000, 3000)
    assert small.size == (500, 750)
    difference = np.asarray(whole.resize((100, 150)), int) - np.asarray(small.resize((100, 150)), int)
    assert np.abs(difference).max() <= 3
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFile):
        inspect_image(tmp_path, "cut.jpg")
    assert inspect_image(tmp_path, "a.jpg").width == 2000


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
