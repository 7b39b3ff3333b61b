"""Queue messages as signed JSON.

huey pickles its messages, and its signed serializer unpickles them too: whoever can write to the
queue file could run code in the worker. Here a message is JSON with an HMAC-SHA256 under a key
that only the service's own user can read.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from datetime import datetime
from pathlib import Path

from huey.registry import Message
from huey.serializer import Serializer

from backend.files import make_data_dir

_KEY_BYTES = 32
_PLAIN = ("id", "name", "retries", "retry_delay", "priority", "args", "kwargs", "retry_backoff")


class MessageRefused(ValueError):  # noqa: N818  (says what happened)
    """A queue message that this service did not write."""


def queue_key(data_dir: Path) -> bytes:
    """The key that signs queue messages, made on first use; web and worker read the same.

    The key is written under a temporary name and then linked into place: the link fails where
    another process was quicker, so that both go on with one complete key.
    """
    path = data_dir / "queue.key"
    make_data_dir(data_dir)
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise MessageRefused(
            f"{path} holds {len(key)} bytes, expected {_KEY_BYTES}; delete it and start again"
        )
    return key


class JsonSerializer(Serializer):  # type: ignore[misc]  # huey ships no types
    """huey messages as ``<hex HMAC-SHA256>.<JSON>``; only plain tasks, no chains or results."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest().encode()

    def _serialize(self, data: object) -> bytes:
        if not isinstance(data, Message):
            raise MessageRefused(f"found {type(data).__name__}, expected a huey message")
        fields = data._asdict()
        given = {name for name, value in fields.items() if value is not None}
        unexpected = given - {*_PLAIN, "eta"}
        if unexpected:
            raise MessageRefused(f"messages cannot carry {sorted(unexpected)}")
        plain: dict[str, object] = {name: fields[name] for name in _PLAIN}
        plain["eta"] = data.eta.isoformat() if data.eta is not None else None
        body = json.dumps(plain, separators=(",", ":")).encode()
        return self._sign(body) + b"." + body

    def _deserialize(self, data: bytes) -> Message:
        signature, _, body = bytes(data).partition(b".")
        if not hmac.compare_digest(signature, self._sign(body)):
            raise MessageRefused("the signature of a queue message is wrong; it is not run")
        fields = json.loads(body)
        eta = fields.pop("eta")
        return Message(
            **{**fields, "args": tuple(fields["args"])},
            eta=datetime.fromisoformat(eta) if eta is not None else None,
        )
