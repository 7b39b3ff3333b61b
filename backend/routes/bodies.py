"""Request bodies, up to the limit and not beyond it."""

from __future__ import annotations

from flask import current_app, request

from backend.errors import RequestTooLarge


def body() -> bytes:
    """The whole body of the request.

    A body of known length over the limit is refused by Flask. One sent in chunks is cut off at
    the limit without a word, and would look like broken JSON.

    Raises:
        RequestTooLarge: it is over the limit.
    """
    data: bytes = request.get_data()
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    if request.content_length is None and limit is not None and len(data) >= limit:
        raise RequestTooLarge(
            f"the body is over the limit of {limit // 2**20} MiB; RAREFIRST_MAX_BODY_MB raises it"
        )
    return data
