"""Image files of every kind, made here: whole, odd, hostile and damaged ones."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture() -> Image.Image:
    """Eight by six pixels, another colour in each corner: every turn of it looks different."""
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    pixels[:3, :4], pixels[:3, 4:] = (255, 0, 0), (0, 255, 0)
    pixels[3:, :4], pixels[3:, 4:] = (0, 0, 255), (10, 20, 30)
    return Image.fromarray(pixels)


def noise() -> Image.Image:
    """Forty by 56 pixels without any pattern: a missing part cannot look right by chance."""
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8), "RGB"
    )


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image: Image.Image, orientation: int, kind: str) -> bytes:
    """A file that asks its reader to turn the picture, as cameras do."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, dict[str, object]] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "JPEG": {"quality": 100, "subsampling": 0},
        "MPO": {"quality": 100, "subsampling": 0},
    }
    return saved(image, kind, exif=exif, **options.get(kind, {}))


# PNG by hand: what Pillow does not write ---------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    size: tuple[int, int], *, bits: int, colour: int, rows: bytes, chunks: bytes = b""
) -> bytes:
    """A PNG; ``colour`` is 0 grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha."""
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunks
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# TIFF by hand ------------------------------------------------------------------------------------


def tiff(tags: dict[int, tuple[int, int]], strip: bytes) -> bytes:
    """A little-endian TIFF: tag -> (type, value); strip or tile lies at byte 8."""
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())
    )
    offset = 8 + len(strip)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\x00" + struct.pack("<I", offset) + strip + directory


def tiff_in_tiles(side: int) -> bytes:
    """Sixteen by sixteen grey pixels in one tile of any size."""
    strip = zlib.compress(bytes(256))
    short, long = 3, 4
    return tiff(
        {
            256: (long, 16), 257: (long, 16), 258: (short, 8), 259: (short, 8), 262: (short, 1),
            277: (short, 1), 322: (long, side), 323: (long, side), 324: (long, 8),
            325: (long, len(strip)),
        },
        strip,
    )  # fmt: skip


def tiff_of_numbers(values: np.ndarray, *, bits: int, sample_format: int) -> bytes:
    """Uncompressed grey; ``sample_format`` is 1 unsigned, 2 signed, 3 floating point."""
    height, width = values.shape
    strip = values.tobytes()
    return tiff(
        {
            256: (4, width), 257: (4, height), 258: (3, bits), 259: (3, 1), 262: (3, 1),
            273: (4, 8), 277: (3, 1), 278: (4, height), 279: (4, len(strip)),
            339: (3, sample_format),
        },
        strip,
    )  # fmt: skip


# Files that claim more than they hold ------------------------------------------------------------


def _put(data: bytes, after: bytes, by: int, what: bytes) -> bytes:
    at = data.index(after) + len(after) + by
    return data[:at] + what + data[at + len(what) :]


def _dib(width: int, height: int, bits: int = 24) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)


def too_large() -> dict[str, bytes]:
    """Small files whose header promises far more pixels than are taken."""
    small = Image.new("RGB", (16, 16), "red")
    other = Image.new("RGB", (16, 16), "blue")
    side = b"\xff\x3f\x00"  # 16,384 as WebP writes it
    huge_png = png((30_000, 30_000), bits=8, colour=2, rows=bytes(1000))
    jpeg, gif = saved(small, "JPEG"), saved(small, "GIF")
    jp2 = saved(small, "JPEG2000")
    return {
        "png": huge_png,
        "jpeg": jpeg.replace(b"\x08\x00\x10\x00\x10", b"\x08\xff\xff\xff\xff"),
        "webp lossy": _put(saved(small, "WEBP"), b"VP8 ", 10, b"\xff\x3f\xff\x3f"),
        "webp lossless": _put(
            saved(small, "WEBP", lossless=True), b"VP8L", 5, b"\xff\xff\xff\x0f"
        ),
        "webp animated": _put(
            saved(small, "WEBP", save_all=True, append_images=[other]), b"VP8X", 8, side + side
        ),
        "tiff": tiff({256: (4, 65_535), 257: (4, 65_535), 258: (3, 8), 262: (3, 1), 273: (4, 8),
                      277: (3, 1), 278: (4, 65_535), 279: (4, 16)}, bytes(16)),
        "gif canvas": gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
        "gif frame": _put(gif, b"\x2c\x00\x00\x00\x00", 0, b"\xff\xff\xff\xff"),
        "bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + _dib(30_000, 30_000),
        "netpbm": b"P6\n65535 65535\n255\n",
        "jpeg 2000": _put(jp2, b"ihdr", 0, struct.pack(">II", 30_000, 30_000)),
    }  # fmt: skip


def lying_avif(coded: tuple[int, int], **options: object) -> bytes:
    """An AVIF of any size that says it has 16 by 16 pixels; the decoder scales it to these."""
    data = saved(Image.new("RGB", coded), "AVIF", speed=10, **options)
    said = struct.pack(">II", *coded)
    assert data.count(b"ispe" + bytes(4) + said) == 1
    return _put(data, b"ispe", 4, struct.pack(">II", 16, 16))


def hungry() -> dict[str, bytes]:
    """Files of modest size that a careless reader spends much memory on."""
    unpacked = zlib.compress(bytes(100 << 20), 1)
    small = Image.new("RGB", (16, 16), "red")
    jp2 = saved(small, "JPEG2000")
    grey = {"bits": 8, "colour": 0, "rows": b"\x00\x00"}
    return {
        "png text": png((1, 1), chunks=chunk(b"zTXt", b"a\x00\x00" + unpacked), **grey),  # type: ignore[arg-type]
        "png profile": png((1, 1), chunks=chunk(b"iCCP", b"a\x00\x00" + unpacked), **grey),  # type: ignore[arg-type]
        "png pixels": png((1, 1), bits=8, colour=0, rows=b"")[:33]
        + chunk(b"IDAT", unpacked)
        + chunk(b"IEND", b""),
        "tiff tile": tiff_in_tiles(30_000),
        "avif behind a small ispe": lying_avif((8000, 8000)),
        "jpeg 2000 codestream": _put(jp2, b"\xff\x51", 4, struct.pack(">II", 30_000, 30_000)),
    }
