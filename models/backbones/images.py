"""Bytes to an RGB picture, whatever the file holds, or a clear error."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from models.backbones.avif_guard import Unreadable, coded_sizes
from models.backbones.image_guard import is_cut_off, size_before_opening
from models.errors import DamagedImage, ImageError
from models.image_kinds import kind_of

MAX_PIXELS = 100_000_000
# Ours is the cap; Pillow's own only warns, and at another size.
Image.MAX_IMAGE_PIXELS = None
# Damaged EXIF and the like: what matters of it is decided here.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_TILE = 258, (322, 323)
_BAND_PX = 1 << 20  # converted at a time: wide numbers take eight bytes each
_LARGE_PX = 16_000_000
_one_large_at_a_time = threading.Lock()
# Photograph, alpha, gain map and thumbnails together, of the pixels that the file says.
_AVIF_CODED, _AVIF_SMALL_PX = 4, 1_000_000


def open_image(source: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image without decoding it yet, so that a large JPEG can be decoded small.

    Args:
        source: the file's bytes, or where it lies.
        max_pixels: more pixels than this are refused before any is decoded.
    Returns: an image of any mode, the first one of several; give it to ``Backbone.preprocess`` or
        ``as_rgb``.

    Raises:
        ImageError: if it is empty, no image of a kind that is read, or too large.
        DamagedImage: if it is cut off or damaged.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    kind = kind_of(data)
    if not kind.format:
        raise ImageError(kind.refusal)
    declared = size_before_opening(data, kind.format)
    if declared is not None:
        _check_size(declared, max_pixels)
    if is_cut_off(data, kind.format):
        raise DamagedImage(f"the {kind.format} image is cut off; upload it again")
    with _decoding(f"the {kind.format} image"):
        image = Image.open(io.BytesIO(data), formats=[kind.format])
    _check_size(image.size, max_pixels)
    _check_tile(image)
    if kind.format == "AVIF":
        _check_coded(data, image.size, max_pixels)
    return image


def as_rgb(image: Image.Image, *, at_least_px: int | None = None) -> Image.Image:
    """Decode to RGB, upright; transparency becomes white.

    Numbers are taken as they are: colour profiles are not applied. 16-bit grey is scaled, grey of
    no agreed range (32-bit, floating point) is stretched from its lowest to its highest value.

    Args:
        image: as ``open_image`` gives it, or any picture.
        at_least_px: a JPEG not yet decoded may come out smaller, but no side below this.
    Raises: DamagedImage: if the pixels cannot be decoded (a truncated file).
    """
    name = f"the {image.format} image" if image.format else "the image"
    with _room_for(image), _decoding(name):
        if at_least_px is not None and isinstance(image, JpegImageFile):
            # Decoding at 1/2, 1/4 or 1/8 size is several times quicker than decoding all.
            image.draft("RGB", (at_least_px, at_least_px))
        image.load()
        return _to_rgb(_upright(image))


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not width * height:
        raise DamagedImage(f"the image is damaged: its header says {width} x {height} pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, at most {max_pixels:,} in all are read; "
            "make it smaller or raise RAREFIRST_MAX_IMAGE_MEGAPIXELS"
        )


def _check_tile(image: Image.Image) -> None:
    """A TIFF's decoder takes memory for a whole tile, however small the picture in it is."""
    sides = [_tag(image, tag) or 0 for tag in _TIFF_TILE]
    if sides[0] * sides[1] > max(_LARGE_PX, image.width * image.height):
        raise DamagedImage(
            f"the TIFF image is damaged: {image.width} x {image.height} pixels in tiles of "
            f"{sides[0]} x {sides[1]}"
        )


def _check_coded(data: bytes, said: tuple[int, int], max_pixels: int) -> None:
    """An AVIF's decoder takes memory for what is coded, then scales to what the file says."""
    try:
        sizes = coded_sizes(data)
    except Unreadable as error:
        raise DamagedImage(
            f"the AVIF image is damaged or cut off ({error}); upload it again"
        ) from None
    for size in sizes:
        _check_size(size, max_pixels)
    coded = sum(width * height for width, height in sizes)
    if coded > _AVIF_CODED * max(said[0] * said[1], _AVIF_SMALL_PX):
        raise DamagedImage(
            f"the AVIF image is damaged: it says {said[0]} x {said[1]} pixels and holds {coded:,}"
        )


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Whatever a decoder raises about a damaged file is one kind of error."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"there is not enough memory to decode {what}") from error
    except Exception as error:  # among them struct.error, KeyError, RecursionError, SyntaxError
        raise DamagedImage(
            f"{what} is damaged or cut off ({_said(error)}); upload it again"
        ) from error


def _said(error: Exception) -> str:
    """A decoder's words without what differs from file to file, so that reasons can be counted."""
    if isinstance(error, UnidentifiedImageError):
        return "its header cannot be read"
    text = " ".join(str(error).split())
    for marker in (" (", " <", ": "):
        text = text.partition(marker)[0]
    return text[:80] or type(error).__name__


@contextmanager
def _room_for(image: Image.Image) -> Iterator[None]:
    """Decode large images one at a time: several threads do not multiply their memory."""
    at_most = _AVIF_CODED if image.format == "AVIF" else 1
    if image.width * image.height * at_most < _LARGE_PX:
        yield
        return
    with _one_large_at_a_time:
        yield


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera says; where its note cannot be read, as it lies, as browsers do."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF is a format of its own, and as often damaged
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _wide_grey(image)
    if image.mode == "LAB":
        raise ImageError(
            "found an image in Lab colours, expected RGB, grey or CMYK; save it as RGB"
        )
    if image.has_transparency_data:
        above = image.convert("RGBA")
        page = Image.new("RGBA", above.size, "white")
        return Image.alpha_composite(page, above).convert("RGB")
    return image.convert("RGB")


def _wide_grey(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey: Pillow's own conversion clips at 255 instead of scaling."""
    values = np.asarray(image)
    low, high = _range(image, values)
    clear = image.info.get("transparency")
    grey = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, _BAND_PX // max(1, values.shape[1]))
    for top in range(0, len(values), rows):
        band = values[top : top + rows].astype(np.float64)
        scaled = np.nan_to_num((band - low) * (255.0 / (high - low)), nan=0.0)
        grey[top : top + rows] = np.clip(scaled, 0, 255).round()
        if isinstance(clear, int):
            grey[top : top + rows][band == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _range(image: Image.Image, values: NDArray[np.generic]) -> tuple[float, float]:
    """The values that are black and white.

    By the format where it has a scale: then a dark picture stays dark. Else by what is in it:
    within 0..1 (floating point), 0..255 or 0..65535 those, otherwise its own lowest and highest.
    """
    if image.mode.startswith("I;16"):
        return 0.0, float(2 ** _bits(image) - 1)
    if image.format in ("PPM", "PNG"):
        return 0.0, 65535.0 if image.mode == "I" else 1.0
    finite = values[np.isfinite(values)] if image.mode == "F" else values
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    if low >= 0 and high <= 65535:
        if image.mode == "F" and high <= 1:
            return 0.0, 1.0
        return 0.0, 255.0 if high <= 255 else 65535.0
    low = float(finite.min())
    return low, max(high, low + 1.0)


def _bits(image: Image.Image) -> int:
    """Bits of a grey value in a 16-bit image: cameras of microscopes store twelve."""
    bits = _tag(image, _TIFF_BITS)
    return bits if bits is not None and 8 < bits < 16 else 16


def _tag(image: Image.Image, tag: int) -> int | None:
    """A TIFF's tag, None where there is no such tag or number."""
    tags = getattr(image, "tag_v2", None)
    found = tags.get(tag) if tags is not None else None
    value = found[0] if isinstance(found, tuple) and found else found
    return value if isinstance(value, int) else None
