"""Whether bytes are an image file, told from their beginning; and data URIs.

Servers answer a login page or an error in place of an image with status 200, and name any content
type: only the bytes count. Decoding, with its limit on pixels, is the models' business.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from backend.errors import MediaError

_BEGINNINGS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",  # TIFF, and formats built on it
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
)
_NETPBM = tuple(b"P%d" % kind for kind in range(1, 7))
_BOXED = (b"avif", b"avis", b"heic", b"heix", b"mif1")


def check_image(data: bytes, *, what: str) -> None:
    """Refuse what is no image file.

    Args:
        data: the whole file.
        what: named in the error.

    Raises:
        MediaError: says what was found; not retryable.
    """
    if not data:
        raise MediaError(f"{what} is empty")
    head = data[:64]
    if head.startswith(_BEGINNINGS):
        return
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return
    if head[4:8] == b"ftyp" and head[8:12] in _BOXED:
        return
    if head[:2] in _NETPBM and head[2:3].isspace():
        return
    raise MediaError(f"{what} is {_looks_like(data)}, not an image")


def decode_data_uri(uri: str, *, max_bytes: int) -> bytes:
    """The bytes of ``data:image/png;base64,...``.

    Raises:
        MediaError: not a data URI, not base64, or too large.
    """
    header, comma, body = uri.partition(",")
    if not comma:
        raise MediaError("the data URI has no comma; expected data:image/...;base64,...")
    # Four characters make three bytes, and %XX three characters one: never more than the text.
    if len(body) > max_bytes * 4 // 3 + 4 and "%" not in body:
        raise MediaError(f"the data URI is larger than {max_bytes} bytes")
    raw = unquote_to_bytes(body)
    if header.lower().endswith(";base64"):
        try:
            raw = base64.b64decode(b"".join(raw.split()), validate=True)
        except binascii.Error as error:
            raise MediaError(f"the data URI is not valid base64 ({error})") from error
    if len(raw) > max_bytes:
        raise MediaError(f"the data URI is larger than {max_bytes} bytes")
    return raw


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (is a login needed?)"
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in start):
        return "an SVG drawing"
    if start.startswith((b"<?xml", b"<")):
        return "an XML document"
    if start.startswith((b"{", b"[")):
        return "a JSON document"
    return "of an unknown kind"
