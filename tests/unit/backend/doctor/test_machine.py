"""Settings, folder, disk, device."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from backend.doctor import machine
from backend.doctor.facts import ServiceFacts
from backend.settings import Settings
from tests.unit.backend.doctor.known import service_facts, severities

Usage = namedtuple("Usage", "total used free")
GIB = 1 << 30


def test_what_is_not_set_is_named(settings: Settings) -> None:
    assert severities(machine.settings(ServiceFacts(settings))) == {}
    bare = settings.model_copy(update={"label_studio_url": "", "label_studio_api_key": ""})
    (found,) = machine.settings(ServiceFacts(bare))
    assert (found.code, found.severity) == ("settings.missing", "error")
    assert "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY" in found.what


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"settings.open": "warning"}),
        ({"host": "127.0.0.1"}, {}),
        ({"host": "::1"}, {}),
        ({"basic_auth_user": "u", "basic_auth_pass": "p"}, {}),
    ],
)
def test_an_open_port_is_a_warning(
    settings: Settings, fields: dict[str, object], expected: dict[str, str]
) -> None:
    facts = ServiceFacts(settings.model_copy(update=fields))
    assert severities(machine.password(facts)) == expected


def test_a_data_directory_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    assert severities(machine.data_dir(ServiceFacts(settings))) == {}
    taken = tmp_path / "file"
    taken.write_text("")
    broken = settings.model_copy(update={"data_dir": taken})
    assert severities(machine.data_dir(ServiceFacts(broken))) == {"data.unwritable": "error"}


@pytest.mark.parametrize(
    ("free", "cached", "expected"),
    [
        (0.1 * GIB, 0, {"disk.full": "error"}),
        (2 * GIB, 0, {"disk.low": "warning"}),
        (4 * GIB, 0, {}),
        (2 * GIB, 2 * GIB, {}),
    ],
)
def test_room_for_what_the_cache_may_still_take(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    cached: int,
    expected: dict[str, str],
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, int(free)))
    folder = settings.data_dir / "images" / "ab"
    folder.mkdir(parents=True)
    with (folder / "cached").open("wb") as file:
        file.truncate(cached)
    assert severities(machine.disk(service_facts(settings))) == expected


@pytest.mark.parametrize(
    ("device", "nodes", "gpus", "expected"),
    [
        ("cpu", True, 1, {}),
        ("auto", False, 0, {}),
        ("auto", True, 1, {}),
        ("auto", True, 0, {"device.unused": "note"}),
        ("cuda", True, 1, {}),
        ("cuda:1", True, 1, {"device.absent": "error"}),
        ("cuda", False, 0, {"device.absent": "error"}),
        ("gpu", True, 1, {"device.unknown": "error"}),
    ],
)
def test_the_device_exists(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str,
    nodes: bool,
    gpus: int,
    expected: dict[str, str],
) -> None:
    monkeypatch.setattr(machine, "_GPU_NODES", (str(tmp_path if nodes else tmp_path / "none"),))
    monkeypatch.setattr(machine, "_gpus", lambda: gpus)
    facts = service_facts(settings, settings={"device": device})
    assert severities(machine.device(facts)) == expected
