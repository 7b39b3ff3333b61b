"""Bytes to an RGB picture, whatever the file holds, or a clear error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from models.errors import ImageError

MAX_PIXELS = 100_000_000
# Ours is the cap; Pillow's own only warns, and at another size.
Image.MAX_IMAGE_PIXELS = None


def open_image(source: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image without decoding it yet, so that a large JPEG can be decoded small.

    Args:
        source: the file's bytes, or where it lies.
        max_pixels: more pixels than this are refused before any is decoded.
    Returns: an image of any mode; give it to ``Backbone.preprocess`` or ``as_rgb``.
    Raises: ImageError: if it is empty, no image, or too large.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    if not data:
        raise ImageError("the file is empty; expected an image such as JPEG or PNG")
    try:
        image = Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{len(data)} bytes that start with {data[:8]!r} are no image that can be read"
        ) from error
    width, height = image.size
    if width * height > max_pixels or not width * height:
        raise ImageError(
            f"the image has {width} x {height} pixels, at most {max_pixels:,} in all are read; "
            "make it smaller or raise RAREFIRST_MAX_IMAGE_MEGAPIXELS"
        )
    return image


def as_rgb(image: Image.Image, *, at_least_px: int | None = None) -> Image.Image:
    """Decode to RGB, upright; transparency becomes white.

    Args:
        image: as ``open_image`` gives it, or any picture.
        at_least_px: a JPEG not yet decoded may come out smaller, but no side below this.
    Raises: ImageError: if the pixels cannot be decoded (a truncated file).
    """
    try:
        if at_least_px is not None and image.format == "JPEG":
            # Decoding at 1/2, 1/4 or 1/8 size is several times quicker than decoding all.
            image.draft("RGB", (at_least_px, at_least_px))
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError) as error:
        raise ImageError(f"the image is damaged or cut off: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        return _wide_grey(image)
    if image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        above = image.convert("RGBA")
        page = Image.new("RGBA", above.size, "white")
        return Image.alpha_composite(page, above).convert("RGB")
    return image.convert("RGB")


def _wide_grey(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey: Pillow's own conversion clips at 255 instead of scaling."""
    values = np.asarray(image, dtype=np.float64)
    values = np.nan_to_num(values)
    top = 255.0 if values.max(initial=0) <= 255 else max(65535.0, float(values.max()))
    if image.mode == "F" and values.max(initial=0) <= 1:
        top = 1.0
    scaled = np.clip(values / top * 255.0, 0, 255).round().astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")
