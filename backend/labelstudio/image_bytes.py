"""Whether bytes are an image file, told from their beginning; and data URIs.

Decoding, with its limit on pixels, is the models' business.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from backend.errors import MediaError
from models.image_kinds import kind_of


def check_image(data: bytes, *, may_change: bool = True) -> None:
    """Refuse what is no image file.

    Args:
        data: the whole file.
        may_change: another may come from the same address.

    Raises:
        MediaError: says what was found; retryable where something else came in its place.
    """
    kind = kind_of(data)
    if not kind.format:
        raise MediaError(kind.refusal, retryable=may_change and kind.may_pass)


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
    try:
        raw = unquote_to_bytes(body)
    except UnicodeEncodeError as error:
        raise MediaError("the data URI holds half of a surrogate pair, expected text") from error
    if header.lower().endswith(";base64"):
        packed = b"".join(raw.split()).rstrip(b"=")
        try:  # browsers do not ask for the padding either
            raw = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        except binascii.Error as error:
            raise MediaError(f"the data URI is not valid base64 ({error})") from error
    if len(raw) > max_bytes:
        raise MediaError(f"the data URI is larger than {max_bytes} bytes")
    return raw
