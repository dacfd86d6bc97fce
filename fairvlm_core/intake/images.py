"""Any image file to RGB, by these rules.

==================== ==================================================================================================
what the file holds  what it becomes
==================== ==================================================================================================
greyscale, 8 bit     the same value in R, G and B
black and white      0 and 255
palette              the palette's colours
transparency         laid over black: the surround of radiographs and fundus images is dark; white would look like a finding
16 bit, integer      as it is up to 255; beyond, 0 stays 0 and the largest value becomes 255 (`dicom.white_level`)
16 bit, colour       the high byte of each colour; where all are below 128, the largest becomes 255
float                as it is if within 0 to 255, times 255 if within 0 to 1, else minimum to 0 and maximum to 255;
                     not-a-number and infinities become 0
CMYK, YCbCr, HSV     Pillow's conversion; colour profiles are not applied
EXIF orientation     applied
several frames       the first one
DICOM                see dicom.py; one frame only
==================== ==================================================================================================

The size is read from the header and checked before anything is decoded. The content decides the format of a file, not
its name.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import (  # naming the plugins registers them, and only them
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ..errors import InputError
from .dicom import decode_dicom, is_dicom, white_level
from .files import DamagedFile, damage, in_threads, open_inside
from .npz import NpzFile

_PLUGINS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,  # several JPEGs in one file ("MPO") come in through it too
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    WebPImagePlugin.WebPImageFile,
    PpmImagePlugin.PpmImageFile,
)
# Pillow can be built without a format (WEBP); then its files are of no known format.
FORMATS = tuple(plugin.format for plugin in _PLUGINS if plugin.format in Image.OPEN)
MAX_PIXELS = 50_000_000
NPZ_IMAGE = "slo_fundus"

_ENDINGS = {
    ".png": ("PNG",), ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".jpe": ("JPEG", "MPO"), ".tif": ("TIFF",),
    ".tiff": ("TIFF",), ".bmp": ("BMP",), ".gif": ("GIF",), ".webp": ("WEBP",), ".ppm": ("PPM",), ".pgm": ("PPM",),
    ".pbm": ("PPM",), ".pnm": ("PPM",),
}  # fmt: skip
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}
# Python's warning filters are shared by all threads: one thread at a time may change them.
_quiet = threading.Lock()


@dataclass(frozen=True)
class ImageFacts:
    """What was seen when an image was checked.

    Attributes
    ----------
    format, mode
        As Pillow names them, e.g. "PNG" and "RGBA"; for an .npz "NPZ" and the array's type; "DICOM" and its coding.
    width, height
        In pixels, after the EXIF orientation.
    digest
        Of the file's bytes (or the array's), to find the same image twice.
    odd
        What is unusual: "multi-frame", "wrong extension", "16-bit", "float", "alpha", "palette", "CMYK",
        "EXIF orientation", "MONOCHROME1".
    """

    format: str
    mode: str
    width: int
    height: int
    digest: str
    odd: tuple[str, ...]


def read_image(root: Path, path: str, side: int | None = None) -> Image.Image:
    """Read an image below a folder as RGB, by the rules at the top of this module.

    Parameters
    ----------
    root, path
        The data folder, and the path below it. For a path ending in ``.npz`` the array ``slo_fundus`` is read: 2-D, or
        3-D with 1 or 3 channels last.
    side
        A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both sides stay at least so many pixels (its own scaling in
        the frequency domain): large originals take a fraction of the time and memory.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, 8 bit a channel.

    Raises
    ------
    InputError
        Refused: a path out of the folder, no regular file, more than 50 million pixels.
    DamagedFile
        (an `InputError`) missing, empty, truncated, or no image of a known format.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> Image.new("LA", (2, 1), (200, 128)).save(Path(folder.name) / "a.png")
    >>> read_image(folder.name, "a.png").getpixel((0, 0))
    (100, 100, 100)
    >>> folder.cleanup()
    """
    if path.lower().endswith(".npz"):
        with NpzFile(root, path) as file:
            _npz_size(file)
            return Image.fromarray(_eight_bit(file.array(NPZ_IMAGE))).convert("RGB")
    data = _bytes(root, path)
    if is_dicom(data):
        return decode_dicom(data, MAX_PIXELS).image
    with damage("the image"):
        image, odd = _open(data)
        if side is not None:
            image.draft(None, (side, side))
        rgb = to_rgb(image, _orientation(image))
        # Pillow reads the high byte of 16-bit colour: of 12-bit values hardly anything.
        top = int(np.asarray(rgb).max()) if "16-bit" in odd and image.mode.startswith("RGB") else 255
        return rgb.point(lambda value: value * 255 / top) if 0 < top < 128 else rgb


def inspect_image(root: Path, path: str) -> ImageFacts:
    """Check that an image can be read, and return its facts. Errors as in `read_image`.

    Image files are decoded from their first byte to their last, a JPEG at an eighth of its size. An .npz is run through
    its checksum without holding its array.
    """
    if path.lower().endswith(".npz"):
        with NpzFile(root, path) as file:
            return inspect_npz(file)
    data = _bytes(root, path)
    if is_dicom(data):
        seen = decode_dicom(data, MAX_PIXELS)
        return ImageFacts("DICOM", seen.coding, *seen.image.size, _digest(data), seen.odd)
    with damage("the image"):
        image, odd = _open(data)
        turn = _orientation(image)
        if turn > 1:
            odd.append("EXIF orientation")
        ending = Path(path).suffix.lower()
        if ending in _ENDINGS and image.format not in _ENDINGS[ending]:
            odd.append("wrong extension")
        width, height = image.size if turn < 5 else image.size[::-1]
        facts = ImageFacts(str(image.format), image.mode, width, height, _digest(data), tuple(sorted(odd)))
        image.draft(None, (1, 1))
        image.load()
        if image.mode not in _KNOWN_MODES:
            raise DamagedFile(f"colour mode {image.mode} has no defined conversion; save it as RGB")
    return facts


def inspect_npz(file: NpzFile) -> ImageFacts:
    """As `inspect_image`, for an .npz that is open already."""
    height, width = _npz_size(file)
    facts = file.verify(NPZ_IMAGE)
    odd = ("float",) if facts.dtype.kind == "f" else ("16-bit",) if facts.dtype.itemsize > 1 else ()
    return ImageFacts("NPZ", facts.dtype.name, width, height, f"{facts.checksum:08x}-{facts.shape}-{facts.dtype}", odd)


def to_rgb(image: Image.Image, turn: int = 1) -> Image.Image:
    """A Pillow image as RGB, by the rules at the top of this module.

    Parameters
    ----------
    image
        Of any mode named there.
    turn
        EXIF orientation, 1 to 8; 1 leaves the image as it is.

    >>> grey = Image.fromarray(np.array([[0, 4095]], np.uint16))
    >>> to_rgb(grey).getpixel((1, 0))
    (255, 255, 255)
    """
    image.load()
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("RGB", "L", "1") and "transparency" in image.info:
        image = image.convert("RGBA")  # one colour stands for "transparent"
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
        ground.alpha_composite(image)
        image = ground.convert("RGB")
    elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bit(np.asarray(image))).convert("RGB")
    elif image.mode != "RGB":
        if image.mode not in _KNOWN_MODES:
            raise DamagedFile(f"colour mode {image.mode} has no defined conversion; save it as RGB")
        image = image.convert("RGB")
    for step in _TURNS.get(turn, ()):
        image = image.transpose(step)
    return image


_KNOWN_MODES = frozenset(
    ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBa", "La", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "I;16L",
     "I;16B", "I;16N")
)  # fmt: skip


def jpeg_address(image: Image.Image, side: int) -> str:
    """A small image as a ``data:`` address (JPEG), its longer side at most `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _bytes(root: Path, path: str) -> bytes:
    try:
        with open_inside(root, path) as file:
            return file.read()
    except OSError as error:
        raise DamagedFile(f"the file cannot be read ({type(error).__name__})") from None


def _open(data: bytes) -> tuple[Image.Image, list[str]]:
    """The image with only its header read, and what is odd about it."""
    odd = []
    with _quiet, warnings.catch_warnings():
        # Pillow only warns between its own limit and twice that limit; MAX_PIXELS is lower and an error.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise DamagedFile("the image is no image of a known format (UnidentifiedImageError)") from None
        except Image.DecompressionBombError:
            raise InputError(f"the image has more than {MAX_PIXELS:,} pixels; reduce it") from None
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"the image is {image.width} x {image.height}, more than {MAX_PIXELS:,} pixels; reduce it")
        frames = _quietly(lambda: int(getattr(image, "n_frames", 1)), 1)
        if frames > 1:
            image.seek(0)
    if frames > 1:
        odd.append("multi-frame")
    if image.mode == "F":
        odd.append("float")
    elif image.mode == "I" or image.mode.startswith("I;16") or any("16" in str(tile[3]) for tile in image.tile):
        odd.append("16-bit")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        odd.append("alpha")
    if image.mode == "P":
        odd.append("palette")
    if image.mode == "CMYK":
        odd.append("CMYK")
    return image, odd


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it is damaged."""
    if image.format == "PNG":
        image.load()  # reading the EXIF of a PNG decodes the image: done here, before other threads must wait
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turn = _quietly(lambda: int(image.getexif().get(0x0112, 1)), 1)
    return turn if turn in _TURNS else 1


def _quietly(read, default: int) -> int:
    """A value from an image's metadata, or the default where they are damaged: the pixels may still be fine."""
    try:
        return read()
    except Exception:
        return default


def _npz_size(file: NpzFile) -> tuple[int, int]:
    facts = file.member(NPZ_IMAGE)
    shape = facts.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)) or 0 in shape:
        raise DamagedFile(f"{NPZ_IMAGE} has shape {shape}; (height, width) or (height, width, 1 or 3) is expected")
    if facts.dtype.kind not in "biuf":
        raise DamagedFile(f"{NPZ_IMAGE} holds text; numbers are expected")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise InputError(f"the image is {shape[1]} x {shape[0]}, more than {MAX_PIXELS:,} pixels; reduce it")
    return shape[0], shape[1]


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Numbers of any kind as uint8, (height, width) or (height, width, 3)."""
    if values.ndim == 3:
        values = values[..., 0] if values.shape[2] == 1 else values
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    finite = np.isfinite(values)
    numbers = np.where(finite, values, 0).astype(np.float64)
    low, high = (numbers[finite].min(), numbers[finite].max()) if finite.any() else (0.0, 0.0)
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        numbers = numbers * (1.0 if high <= 255 else 255.0 / white_level(numbers))
    elif low >= 0 and high <= 1:
        numbers = numbers * 255.0
    elif low < 0 or high > 255:
        numbers = np.where(finite, (numbers - low) * 255.0 / (high - low), 0.0) if high > low else numbers * 0.0
    return np.ascontiguousarray(np.floor(numbers + 0.5).clip(0, 255).astype(np.uint8))


def inspect_many(
    root: Path, paths: list[str], *, progress: Callable[[int, int], None] | None = None
) -> list[ImageFacts | InputError]:
    """Check many images, in threads (the decoders release the interpreter); one result a path, in order.

    A path given twice is checked once. An image that cannot be used gives the error as its result; nothing is raised.
    """

    def check(path: str) -> ImageFacts | InputError:
        try:
            return inspect_image(root, path)
        except InputError as error:
            return error

    distinct = list(dict.fromkeys(paths))
    found = dict(zip(distinct, in_threads(check, distinct, progress), strict=True))
    return [found[path] for path in paths]
