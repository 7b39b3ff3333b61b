"""Queue messages: what goes in comes out, and nothing else is run."""

from __future__ import annotations

import multiprocessing
import pickle
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huey.registry import Message

from backend.serializer import JsonSerializer, MessageRefused, queue_key

KEY = bytes(range(32))


def message(**changes: object) -> Message:
    fields: dict[str, object] = {
        "id": "abc",
        "name": "backend.jobs.reconcile",
        "eta": datetime(2026, 11, 21, 5, 0, 0, 123456),
        "retries": 0,
        "retry_delay": 0,
        "args": ("1-0123abcd",),
        "kwargs": {"at": 1},
        "retry_backoff": 0,
    }
    return Message(**{**fields, **changes})


def test_a_message_comes_back_as_it_was() -> None:
    serializer = JsonSerializer(KEY)
    assert serializer.deserialize(serializer.serialize(message())) == message()


def test_an_eta_keeps_its_zone() -> None:
    serializer = JsonSerializer(KEY)
    at = datetime(2026, 11, 21, tzinfo=UTC)
    assert serializer.deserialize(serializer.serialize(message(eta=at))).eta == at


@pytest.mark.parametrize("place", [0, 70, -2])
def test_a_changed_message_is_refused(place: int) -> None:
    serializer = JsonSerializer(KEY)
    data = bytearray(serializer.serialize(message()))
    data[place] ^= 1
    with pytest.raises(MessageRefused, match="signature"):
        serializer.deserialize(bytes(data))


def test_a_message_of_another_key_is_refused() -> None:
    data = JsonSerializer(bytes(32)).serialize(message())
    with pytest.raises(MessageRefused):
        JsonSerializer(KEY).deserialize(data)


class Dangerous:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a queue message was unpickled",))


@pytest.mark.parametrize("data", [b"", b".", b"no signature", pickle.dumps(Dangerous())])
def test_what_is_not_ours_is_refused_unread(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        JsonSerializer(KEY).deserialize(data)


def test_messages_are_readable_json() -> None:
    assert b'"backend.jobs.reconcile"' in JsonSerializer(KEY).serialize(message())


@pytest.mark.parametrize("value", [{"a": 1}, "text", message(on_complete=message())])
def test_only_plain_messages_are_written(value: object) -> None:
    with pytest.raises(MessageRefused):
        JsonSerializer(KEY).serialize(value)


def test_the_key_is_private_and_stays(tmp_path: Path) -> None:
    key = queue_key(tmp_path / "data")
    assert queue_key(tmp_path / "data") == key
    mode = (tmp_path / "data" / "queue.key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def _put_key(folder: Path, out: multiprocessing.Queue[bytes]) -> None:
    out.put(queue_key(folder))


def test_processes_that_start_together_agree_on_the_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    out: multiprocessing.Queue[bytes] = context.Queue()
    processes = [context.Process(target=_put_key, args=(tmp_path, out)) for _ in range(3)]
    for process in processes:
        process.start()
    keys = {out.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
    assert keys == {queue_key(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["queue.key"]


def test_a_torn_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "queue.key").write_bytes(b"short")
    with pytest.raises(MessageRefused, match="holds 5 bytes, expected 32; delete it"):
        queue_key(tmp_path)
