"""Single-frame DICOM images to 8-bit RGB; needs pydicom.

========================== ============================================================================================
what the file holds        what becomes of it
========================== ============================================================================================
modality LUT, rescale      applied
VOI LUT, window            applied, the first usable one where there are several; its range becomes 0 to 255. A window
                           whose width is below 1, or in which the image would have one shade only, does not count
neither                    unsigned without rescale: 0 stays 0, the largest value becomes 255 (`white_level`), up to 8 bits
                           the largest that the bits allow; else minimum to 0 and maximum to 255, padding aside
MONOCHROME1                inverted, so that dense is bright
RGB, YBR                   RGB
========================== ============================================================================================

Headers are taken as scanners write them: without preamble or transfer syntax (then the encoding is recognised), with
empty fields, or without those that follow from the others. What is missing for good is named.

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
    "VOILUTFunction", "LossyImageCompression", "PixelPaddingValue",
]  # fmt: skip
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GREY = ("MONOCHROME1", "MONOCHROME2")
_FIRST_VRS = (b"UL", b"UI", b"OB", b"CS", b"SH", b"DA", b"TM", b"DT", b"LO", b"SQ")
_RESCALE = ("RescaleSlope", "RescaleIntercept")
# Warnings and pydicom's logger are shared by all threads.
_one_at_a_time = threading.RLock()


@dataclass(frozen=True)
class Dicom:
    """A decoded image: mode RGB, how the file codes its values, and what is unusual ("16-bit", "MONOCHROME1")."""

    image: Image.Image
    coding: str
    odd: tuple[str, ...]


def is_dicom(data: bytes) -> bool:
    """By its content: the mark after a preamble of 128 bytes, or, without preamble, a first element of group 2 or 8.

    >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\\x08\\0\\x16\\0UI\\x1a\\0"), is_dicom(b"\\x89PNG")
    (True, True, False)
    """
    if data[128:132] == b"DICM" or data[:4] == b"DICM":
        return True
    group, element, length = (int.from_bytes(data[at : at + n], "little") for at, n in ((0, 2), (2, 2), (4, 4)))
    return group in (2, 8) and element < 0x200 and (data[4:6] in _FIRST_VRS or (group == 8 and 0 < length < 256))


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
            whole = bytes(128) + data if data[:4] == b"DICM" else data
            header = pydicom.dcmread(io.BytesIO(whole), specific_tags=_TAGS, force=True)
            _complete(header)
            coding = str(header.PhotometricInterpretation)
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
    odd = [
        *(["16-bit"] if header.get("BitsStored", 32) > 8 else []),
        *(["MONOCHROME1"] if coding == "MONOCHROME1" else []),
    ]
    return Dicom(Image.fromarray(np.ascontiguousarray(grey)).convert("RGB"), coding, tuple(odd))


def _complete(header: Any) -> None:
    """Fill in what a header may lack because it follows from the rest, and remove what is empty; in place."""
    if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DamagedFile("the DICOM file holds no image")
    _remove_empty(header)
    if any(name in header for name in _RESCALE):
        header.RescaleSlope, header.RescaleIntercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    _one_window(header)
    _complete_pixel_format(header)
    _complete_transfer_syntax(header)


def _remove_empty(header: Any) -> None:
    """Remove entries without a value, and a slope of 0; a rescale that is no number is refused."""
    for name in _TAGS:
        if name.endswith(("PixelData", "Sequence")) or name not in header:
            continue
        try:
            value = header[name].value
            if name in _RESCALE and value not in (None, ""):
                float(value)
        except (ValueError, TypeError, ArithmeticError):
            if name in _RESCALE:
                raise DamagedFile(f"the DICOM header's {name} is no number; correct it") from None
            value = None
        if value is None or value == "" or value == []:
            del header[name]
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        if name in header and not header[name].value:
            del header[name]
    if float(header.get("RescaleSlope", 1)) == 0:
        del header.RescaleSlope


def _complete_pixel_format(header: Any) -> None:
    """Samples, colours and bits, where they follow from the size of the image and of its data."""
    for name in ("Rows", "Columns"):
        if not header.get(name):
            raise DamagedFile(f"the DICOM header lacks {name}; export the image again")
    if "SamplesPerPixel" not in header:
        header.SamplesPerPixel = 3 if str(header.get("PhotometricInterpretation", "")).startswith(("RGB", "YBR")) else 1
    if "PhotometricInterpretation" not in header:
        header.PhotometricInterpretation = "MONOCHROME2" if header.SamplesPerPixel == 1 else "RGB"
    if header.SamplesPerPixel > 1 and "PlanarConfiguration" not in header:
        header.PlanarConfiguration = 0
    if "PixelData" in header:
        count = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel)
        if "BitsAllocated" not in header:
            header.BitsAllocated = 16 if len(header.PixelData) >= 2 * count else 8
        header.BitsStored = min(int(header.get("BitsStored", 0)) or header.BitsAllocated, header.BitsAllocated)
        header.setdefault("HighBit", header.BitsStored - 1)
        header.setdefault("PixelRepresentation", 0)


def _complete_transfer_syntax(header: Any) -> None:
    """The transfer syntax by which the header itself was read, where the file names none."""
    from pydicom import uid
    from pydicom.dataset import FileMetaDataset

    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        if "PixelData" in header and header["PixelData"].is_undefined_length:
            raise DamagedFile(
                "the DICOM file has compressed pixels and no transfer syntax that says how; export it again"
            )
        header.file_meta.TransferSyntaxUID = (
            uid.ExplicitVRBigEndian
            if not little
            else uid.ImplicitVRLittleEndian
            if implicit
            else uid.ExplicitVRLittleEndian
        )


def _one_window(header: Any) -> None:
    """Keep the first window that can be used, or none; in place. PS3.3 C.11.2.1.2: a linear one is 1 wide or more."""
    least = 1.0 if header.get("VOILUTFunction", "LINEAR") == "LINEAR" else 1e-12
    lists = [
        list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
        for value in (header.get("WindowCenter", []), header.get("WindowWidth", []))
    ]
    for center, width in zip(*lists, strict=False):
        try:
            usable = np.isfinite(float(center)) and np.isfinite(float(width)) and float(width) >= least
        except (TypeError, ValueError):
            continue
        if usable:
            header.WindowCenter, header.WindowWidth = center, width
            return
    for name in ("WindowCenter", "WindowWidth"):
        if name in header:
            del header[name]


def _check(header: Any, coding: str, max_pixels: int) -> None:
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


def white_level(values: np.ndarray) -> float:
    """The value of 16-bit data that becomes white: the largest, or twice the 99.9th percentile of those above 0 if less.

    So images that differ little look alike whatever their bit depth, and a few defect pixels do not darken the rest.

    >>> white_level(np.array([0, 4095])), white_level(np.array([0, 4096]))
    (4095.0, 4096.0)
    """
    high = float(values.max(initial=0))
    above = values[values > 0]
    above = above[:: max(1, above.size // 1_000_000)]
    return min(high, 2.0 * float(np.percentile(above, 99.9))) if above.size >= 1000 else high


def _eight_bit(pixels: np.ndarray, header: Any) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    values = apply_modality_lut(pixels, header)
    if header.get("VOILUTSequence"):
        table = header.VOILUTSequence[0]
        entries, first, depth = (int(value) for value in table.LUTDescriptor)
        # With 8, pydicom 3.0 counts the places in the table in 8 bits as well.
        table.LUTDescriptor = [entries, first, 16]
        return _scaled(apply_voi(values, header), 0.0, 2.0**depth - 1)
    if header.get("WindowWidth") is not None and header.get("WindowCenter") is not None:
        with np.errstate(over="ignore"):
            low, high = apply_windowing(np.array([-1e12, 1e12]), header)
            seen = _scaled(apply_windowing(values, header), low, high)
        if seen.min() < seen.max() or values.min() == values.max():
            return seen
    padding = header.get("PixelPaddingValue")
    inside = values if padding is None else values[pixels != padding]
    inside = inside if inside.size else values
    if values is pixels and pixels.dtype.kind == "u":
        return _scaled(values, 0.0, white_level(inside) if header.BitsStored > 8 else 2.0 ** int(header.BitsStored) - 1)
    return _scaled(values, float(np.min(inside)), float(np.max(inside)))


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
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
