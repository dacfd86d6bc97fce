"""Single-frame DICOM images to 8-bit RGB; needs pydicom.

========================== ============================================================================================
what the file holds        what becomes of it
========================== ============================================================================================
modality LUT, rescale      applied
VOI LUT, window            applied, the first where there are several; its range becomes 0 to 255
neither                    unsigned without rescale: divided by the largest value of its stored bits; else minimum to 0
                           and maximum to 255
MONOCHROME1                inverted, so that dense is bright
RGB, YBR                   RGB
========================== ============================================================================================

Of the header only what describes the pixels is read. Patients' names, ids and dates are in no message, and what pydicom
itself would warn of or log is kept back, since it may quote them.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from .files import DamagedFile

_TAGS = [
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "LossyImageCompression",
]  # fmt: skip
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GREY = ("MONOCHROME1", "MONOCHROME2")
# Warnings and pydicom's logger are shared by all threads.
_one_at_a_time = threading.RLock()


@dataclass(frozen=True)
class Dicom:
    """A decoded image: mode RGB, how the file codes its values, and what is unusual ("16-bit", "MONOCHROME1")."""

    image: Image.Image
    coding: str
    odd: tuple[str, ...]


def is_dicom(data: bytes) -> bool:
    """By its content: the mark after a preamble of 128 bytes.

    >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"DICM")
    (True, False)
    """
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes, max_pixels: int) -> Dicom:
    """The image of a DICOM file, by the rules at the top of this module.

    Raises
    ------
    InputError
        pydicom is missing, or the image has more than `max_pixels` pixels.
    DamagedFile
        (an `InputError`) no or several images, a coding that cannot be decoded here, damaged bytes.
    """
    try:
        import pydicom
    except ImportError:
        raise InputError("DICOM images need pydicom: install it with pip install 'fairvlm[dicom]'") from None
    if _DEFLATED in data[:2048]:
        raise DamagedFile("the DICOM file is deflated as a whole; save it uncompressed")
    with _kept_back():
        try:
            header = pydicom.dcmread(io.BytesIO(data), specific_tags=_TAGS)
            coding = str(header.get("PhotometricInterpretation", ""))
            _check(header, coding, max_pixels)
            pixels = _pixels(header)
            grey = _eight_bit(pixels, header) if coding in _GREY else pixels
        except InputError:
            raise
        except Exception as error:
            raise DamagedFile(f"the DICOM file is truncated or damaged ({type(error).__name__})") from None
    if coding == "MONOCHROME1":
        grey = 255 - grey
    if grey.dtype != np.uint8 or grey.shape[2:] not in ((), (3,)):
        raise DamagedFile(f"the DICOM image is {grey.dtype} of shape {grey.shape}; save it with 8 bits a colour")
    odd = [*(["16-bit"] if header.BitsStored > 8 else []), *(["MONOCHROME1"] if coding == "MONOCHROME1" else [])]
    return Dicom(Image.fromarray(np.ascontiguousarray(grey)).convert("RGB"), coding, tuple(odd))


def _check(header: Any, coding: str, max_pixels: int) -> None:
    if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DamagedFile("the DICOM file holds no image")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DamagedFile(f"the DICOM file holds {frames} frames; save the wanted one as an image of its own")
    width, height = int(header.Columns), int(header.Rows)
    if width * height > max_pixels:
        raise InputError(f"the image is {width} x {height}, more than {max_pixels:,} pixels; reduce it")
    if coding not in (*_GREY, "RGB") and not coding.startswith("YBR_"):
        raise DamagedFile("the DICOM image has a colour coding that is not read; save it as MONOCHROME2 or RGB")


def _pixels(header: Any) -> np.ndarray:
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        from pydicom.pixels import get_decoder

        try:
            known = get_decoder(syntax).is_available
        except NotImplementedError:
            known = False
        if not known:
            what = syntax.name if syntax.name != str(syntax) else "an unknown way"
            raise DamagedFile(
                f"the DICOM image is compressed ({what}) and no decoder is installed; save it uncompressed"
            )
    return np.asarray(header.pixel_array)


def _eight_bit(pixels: np.ndarray, header: Any) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(pixels, header)
    if header.get("VOILUTSequence"):
        table = header.VOILUTSequence[0]
        entries, first, depth = (int(value) for value in table.LUTDescriptor)
        low, high = 0.0, 2.0**depth - 1
        table.LUTDescriptor = [
            entries,
            first,
            16,
        ]  # with 8, pydicom 3.0 counts the places in the table in 8 bits as well
        values = apply_voi(values, header)
    elif header.get("WindowWidth") is not None and header.get("WindowCenter") is not None:
        with np.errstate(over="ignore"):
            low, high = apply_windowing(np.array([-1e12, 1e12]), header)
            values = apply_windowing(values, header)
    elif values is pixels and header.PixelRepresentation == 0 and values.dtype.kind == "u":
        low, high = 0.0, 2.0 ** int(header.BitsStored) - 1
    else:
        low, high = float(np.min(values)), float(np.max(values))
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    return np.floor((values.astype(np.float64) - low) * 255.0 / (high - low) + 0.5).clip(0, 255).astype(np.uint8)


@contextmanager
def _kept_back() -> Iterator[None]:
    """pydicom's warnings and log lines may quote values of the header: inside, nobody hears them."""
    logger = logging.getLogger("pydicom")
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was = logger.disabled
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = was
