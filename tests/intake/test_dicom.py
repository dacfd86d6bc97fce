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


def test_without_a_window_stored_bits_are_the_scale(tmp_path):
    write(tmp_path)
    assert np.array_equal(grey(tmp_path), np.floor(RAMP * 255.0 / 4095 + 0.5))
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
