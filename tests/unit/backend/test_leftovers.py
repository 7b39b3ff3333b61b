"""What killed processes left behind goes once it is old; what is being written stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from backend.files import write_atomically
from backend.leftovers import ABANDONED_S, sweep

_STORE = "projects/1-0123abcd"
LEFT = (
    ".service.json.4711.123456789",
    f"{_STORE}/.publication.json.4711.123456789",
    f"{_STORE}/hints/.changed.4711.123456789",
    f"{_STORE}/versions/.v0003.a1b2c3d_/miner.safetensors",
    f"{_STORE}/versions/.v0002.deleted-1795320192000000000/version.json",
    f"{_STORE}/runs/0a1b/.progress.4711.123456789",
    f"{_STORE}/mirror/tasks.lance/data/.tmpiVz5UI",
    f"{_STORE}/finetunes/0001/.record.json.4711.123456789",
)
KEPT = (
    "service.json",
    ".profile",
    f"{_STORE}/versions/v0003/version.json",
    f"{_STORE}/.lock",
    f"{_STORE}/mirror/.tasks.4711.1",
)


def make(root: Path, name: str, *, age_s: float) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    at = time.time() - age_s
    for touched in (path, path.parent):
        os.utime(touched, (at, at))


@pytest.mark.parametrize("age_s", [ABANDONED_S + 5, -ABANDONED_S - 5], ids=["old", "future"])
def test_what_is_old_goes_and_nothing_else(tmp_path: Path, age_s: float) -> None:
    for name in (*LEFT, *KEPT):
        make(tmp_path, name, age_s=age_s)
    assert sweep(tmp_path) == len(LEFT)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(KEPT)
    assert sweep(tmp_path) == 0


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    for name in LEFT:
        make(tmp_path, name, age_s=1)
    assert sweep(tmp_path) == 0


def test_the_name_that_writing_uses_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, target: Path) -> Path:
        os.utime(self, (0, 0))
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "report.json", "{}")
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    assert sweep(tmp_path) == 1


def test_a_folder_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    assert sweep(tmp_path / "nothing") == 0
