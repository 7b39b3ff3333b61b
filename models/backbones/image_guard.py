"""What must be known of a file before Pillow opens it, or is not told by Pillow.

Pillow opens most files by reading their header, so the size can be judged before any pixel is
decoded. A WebP's canvas is allocated by opening it. A JPEG 2000 file that ends behind its header is
decoded to a black picture.
"""

from __future__ import annotations

import struct

_EOC_WITHIN = 1 << 16  # further boxes, or garbage, may stand behind the end of the picture


def size_before_opening(data: bytes, kind: str) -> tuple[int, int] | None:
    """Width and height that opening would spend memory on; None where opening spends none.

    Args:
        data: the whole file.
        kind: Pillow's name of its format.
    """
    try:
        if kind == "WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        return None  # cut off: the decoder says so
    return None


def is_cut_off(data: bytes, kind: str) -> bool:
    """Whether the end of a file is missing, for the one format whose decoder does not say so.

    The marker that ends a JPEG 2000 codestream (EOC) cannot occur within its data.
    """
    return kind == "JPEG2000" and b"\xff\xd9" not in data[-_EOC_WITHIN:]


def _webp(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
