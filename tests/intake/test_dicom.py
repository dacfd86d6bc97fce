"""DICOM files, written here, against the values they must become."""

from __future__ import annotations

import io
import logging

import numpy as np
import pandas as pd
import pytest

from fairvlm_core import InputError, PairTable
from fairvlm_core.intake import DamagedFile, images, inspect_image, read_image

pydicom = pytest.importorskip("pydicom")
RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
SECRET = "Doe^Jane-Secret"


def write(folder, pixels=RAMP, name="a.dcm", bits=12, coding="MONOCHROME2", syntax=None, **tags):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.PatientName, data.PatientID = SECRET, SECRET
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PhotometricInterpretation = coding
        data["PixelData"] = pydicom.DataElement("PixelData", "OB" if pixels.itemsize == 1 else "OW", pixels.tobytes())
    for tag, value in tags.items():
        setattr(data, tag, value)
    data.save_as(folder / name, enforce_file_format=True)
    return name


def grey(folder, name="a.dcm"):
    image = np.asarray(read_image(folder, name))
    assert image.dtype == np.uint8
    assert np.array_equal(image[..., 0], image[..., 2])
    return image[..., 0].astype(int)


def test_without_a_window_the_largest_value_is_white_whatever_the_stored_bits(tmp_path):
    write(tmp_path)
    assert np.array_equal(grey(tmp_path), np.floor(RAMP * 255.0 / RAMP.max() + 0.5))
    for bits, top in ((12, 4095), (16, 4095), (16, 4096), (14, 4096), (16, 65535)):
        write(tmp_path, np.linspace(0, top, 256).astype(np.uint16).reshape(16, 16), bits=bits, name="b.dcm")
        assert np.abs(grey(tmp_path, "b.dcm").ravel() - np.arange(256)).max() <= 1
    write(tmp_path, np.array([[0, 100]], np.uint8), bits=8, name="c.dcm")
    assert grey(tmp_path, "c.dcm").tolist() == [[0, 100]]
    facts = inspect_image(tmp_path, "a.dcm")
    assert (facts.format, facts.mode, facts.width, facts.height, facts.odd) == (
        "DICOM", "MONOCHROME2", 16, 16, ("16-bit",)
    )  # fmt: skip


def test_a_window_after_the_rescale_by_the_formula_of_the_standard(tmp_path):
    """PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5), clipped to the range."""
    write(tmp_path, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[400, 40], WindowWidth=[1500, 80])
    x = RAMP * 2.0 - 1024
    expected = np.clip((x - 399.5) / 1499 + 0.5, 0, 1) * 255
    assert np.abs(grey(tmp_path) - expected).max() <= 0.51
    assert grey(tmp_path).min() == 0
    assert grey(tmp_path).max() == 255


def test_monochrome1_is_the_negative(tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    write(tmp_path, **window)
    write(tmp_path, name="b.dcm", coding="MONOCHROME1", **window)
    assert np.array_equal(grey(tmp_path, "b.dcm"), 255 - grey(tmp_path))
    assert "MONOCHROME1" in inspect_image(tmp_path, "b.dcm").odd


def test_a_voi_lut_signed_values_and_a_flat_image(tmp_path):
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 8], [255 - i // 16 for i in range(4096)]
    lut["LUTData"].VR = "US"
    lut["LUTDescriptor"].VR = "US"
    write(tmp_path, VOILUTSequence=pydicom.Sequence([lut]))
    assert np.array_equal(grey(tmp_path), 255 - RAMP // 16)
    write(tmp_path, (RAMP.astype(np.int16) - 2048), bits=16, name="s.dcm")
    assert np.array_equal(grey(tmp_path, "s.dcm"), np.floor(RAMP * 255.0 / RAMP.max() + 0.5))
    write(tmp_path, np.full((4, 4), -3, np.int16), bits=16, name="f.dcm")
    assert grey(tmp_path, "f.dcm").max() == 0


def test_colour_and_a_compressed_image_with_a_decoder(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    write(tmp_path, colour, bits=8, coding="RGB")
    assert np.array_equal(np.asarray(read_image(tmp_path, "a.dcm")), colour)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.compress(pydicom.uid.RLELossless)
    data.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(np.asarray(read_image(tmp_path, "rle.dcm")), colour)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": None}, "holds no image"),
        ({"NumberOfFrames": 3}, "holds 3 frames"),
        ({"coding": "PALETTE COLOR"}, "colour coding"),
        ({"Rows": 9000, "Columns": 9000}, "more than 50,000,000 pixels"),
        ({"Rows": 64}, "truncated or damaged"),
    ],
)
def test_what_is_not_read_is_one_line_without_a_name(change, words, tmp_path):
    write(tmp_path, **change)
    with pytest.raises(InputError, match=words) as error:
        read_image(tmp_path, "a.dcm")
    assert "\n" not in str(error.value)
    assert "Secret" not in str(error.value)


def test_a_coding_without_a_decoder_and_a_deflated_file(tmp_path, monkeypatch):
    write(tmp_path)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.compress(pydicom.uid.RLELossless)
    data.save_as(tmp_path / "rle.dcm")
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "is_available", property(lambda _: False))
    with pytest.raises(DamagedFile, match=r"compressed \(RLE Lossless\) and no decoder is installed"):
        read_image(tmp_path, "rle.dcm")
    write(tmp_path, name="z.dcm", syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(DamagedFile, match="deflated as a whole"):
        read_image(tmp_path, "z.dcm")


def test_damaged_bytes_never_tell_a_name(tmp_path, caplog, capsys):
    whole = (tmp_path / write(tmp_path, WindowCenter=2000, WindowWidth=1000)).read_bytes()
    random = np.random.default_rng(1)
    caplog.set_level(logging.DEBUG)
    lines = []
    for _ in range(150):
        broken = bytearray(whole[: random.integers(132, len(whole) + 1)])
        for at in random.integers(132, len(broken) + 1, 3):
            broken[min(at, len(broken) - 1)] = random.integers(256)
        (tmp_path / "b.dcm").write_bytes(bytes(broken))
        try:
            read_image(tmp_path, "b.dcm")
        except InputError as error:
            lines.append(str(error))
    assert len(lines) > 20
    assert not any("Secret" in line or "\n" in line for line in lines)
    assert "Secret" not in caplog.text + "".join(capsys.readouterr())


def test_a_table_of_dicom_images_lists_those_that_are_left_out(tmp_path):
    for i in range(10):
        write(tmp_path, name=f"{i}.dcm", **({"NumberOfFrames": 2} if i == 3 else {}))
    frame = pd.DataFrame({"pair_id": [f"p{i}" for i in range(10)], "image": [f"{i}.dcm" for i in range(10)],
                          "text": "a note", "label": [0, 1] * 5, "split": "train"})  # fmt: skip
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    table = PairTable.read(tmp_path, max_refused_share=0.2)
    assert len(table) == 9
    assert "p3" not in set(table.pair_ids)
    assert table.report.images["formats"] == {"DICOM": 9}
    assert "2 frames" in str(table.report.refused)
    assert "Secret" not in str(table.report.to_dict())


def test_without_pydicom_it_is_one_line(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(InputError, match=r"need pydicom: install it with pip install 'fairvlm\[dicom\]'"):
        read_image(tmp_path, "a.dcm")


def test_other_images_are_not_taken_for_dicom(tmp_path):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (3, 2), 7).save(buffer, "PNG")
    (tmp_path / "a.dcm").write_bytes(buffer.getvalue())
    assert images.read_image(tmp_path, "a.dcm").getpixel((0, 0)) == (7, 7, 7)


def loose(folder, name, change, implicit=False, pixels=RAMP, **tags):
    """A file with a header as `change` leaves it, written without checks."""
    path = folder / write(folder, pixels, **tags)
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(folder / name, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return grey(folder, name)


def delete(*names):
    def change(data):
        for name in names:
            del data[name]

    return change


def test_headers_as_scanners_write_them(tmp_path):
    """Each file is read as the same image with a sound header."""
    plain = np.floor(RAMP * 255.0 / RAMP.max() + 0.5).astype(int)

    def without_syntax(data):
        del data.file_meta.TransferSyntaxUID

    for implicit in (False, True):
        assert np.array_equal(loose(tmp_path, "syntax.dcm", without_syntax, implicit), plain)
    sound = (tmp_path / write(tmp_path)).read_bytes()
    body = sound[132:]
    length = int.from_bytes(body[8:12], "little")  # of group 2, from its first element
    for name, data in (("preamble", body), ("mark", sound[128:]), ("meta", body[12 + length :])):
        (tmp_path / f"{name}.dcm").write_bytes(data)
        assert images.is_dicom(data)
        assert np.array_equal(grey(tmp_path, f"{name}.dcm"), plain)
    for tags in (
        {"RescaleSlope": "", "RescaleIntercept": ""}, {"RescaleSlope": None}, {"WindowCenter": 2048, "WindowWidth": 0},
        {"WindowCenter": "", "WindowWidth": ""}, {"WindowCenter": 2048}, {"WindowWidth": 300}, {"RescaleIntercept": ""},
        {"WindowCenter": [], "WindowWidth": []}, {"VOILUTSequence": []}, {"ModalityLUTSequence": []},
        {"WindowCenter": -9000, "WindowWidth": 10}, {"RescaleSlope": 0, "RescaleIntercept": ""}, {"NumberOfFrames": ""},
    ):  # fmt: skip
        write(tmp_path, name="t.dcm", **tags)
        assert np.array_equal(grey(tmp_path, "t.dcm"), plain), tags
    write(tmp_path, name="w.dcm", WindowCenter=[2048, 2040], WindowWidth=[0, 4081], RescaleSlope=1, RescaleIntercept="")
    assert np.abs(grey(tmp_path, "w.dcm") - plain).max() <= 1
    for names in (["SamplesPerPixel"], ["PhotometricInterpretation"], ["PixelRepresentation"], ["HighBit"], ["BitsStored"],
                  ["BitsAllocated", "BitsStored", "HighBit"]):  # fmt: skip
        assert np.array_equal(loose(tmp_path, "d.dcm", delete(*names)), plain), names


def test_padding_is_no_part_of_the_range(tmp_path):
    padded = RAMP.astype(np.int16)
    padded[0, 0] = -2000
    write(tmp_path, padded, bits=16, PixelPaddingValue=-2000)
    assert grey(tmp_path)[0, 0] == 0
    assert np.abs(grey(tmp_path)[1:] - RAMP[1:] * 255.0 / RAMP.max()).max() <= 1.6


def no_number(data):
    data[0x00281053] = pydicom.DataElement(0x00281053, "LO", "one, about")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (delete("Rows"), "the DICOM header lacks Rows; export the image again"),
        (no_number, "RescaleSlope is no number"),
    ],
)  # fmt: skip
def test_what_a_header_lacks_for_good_is_named(change, words, tmp_path):
    with pytest.raises(DamagedFile, match=words) as error:
        loose(tmp_path, "b.dcm", change, syntax=pydicom.uid.ImplicitVRLittleEndian, implicit=True)
    assert "damaged" not in str(error.value)


def test_compressed_pixels_without_a_transfer_syntax(tmp_path):
    data = pydicom.dcmread(tmp_path / write(tmp_path))
    data.compress(pydicom.uid.RLELossless)
    del data.file_meta.TransferSyntaxUID
    data.save_as(tmp_path / "b.dcm", implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(DamagedFile, match="compressed pixels and no transfer syntax"):
        read_image(tmp_path, "b.dcm")
