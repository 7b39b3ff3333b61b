"""The number of a data directory: begun, upgraded, refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.data_format import FORMAT, open_data
from backend.errors import DataFormatRefused
from backend.jobs import Jobs
from backend.serve import serve
from backend.settings import Settings


def number(data_dir: Path) -> int:
    found: int = json.loads((data_dir / "format.json").read_text())["format"]
    return found


def unnumbered(tmp_path: Path) -> Path:
    data_dir = tmp_path / "old"
    (data_dir / "projects").mkdir(parents=True)
    return data_dir


def written_later(tmp_path: Path) -> Path:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "format.json").write_text('{"format": 7, "written_by": "9.9.9", "more": 1}')
    return data_dir


def test_a_fresh_directory_begins_with_todays_number(tmp_path: Path) -> None:
    open_data(tmp_path / "new", create=True)
    assert number(tmp_path / "new") == FORMAT
    before = (tmp_path / "new" / "format.json").stat()
    assert open_data(tmp_path / "new") == FORMAT
    assert (tmp_path / "new" / "format.json").stat().st_mtime_ns == before.st_mtime_ns


def test_looking_makes_no_directory(tmp_path: Path) -> None:
    assert open_data(tmp_path / "none") == FORMAT
    assert not (tmp_path / "none").exists()


def test_one_without_a_number_is_upgraded(tmp_path: Path) -> None:
    data_dir = unnumbered(tmp_path)
    assert open_data(data_dir) == 1
    assert number(data_dir) == FORMAT


def test_steps_come_in_order_and_a_kill_between_them_is_finished(tmp_path: Path) -> None:
    data_dir, done = unnumbered(tmp_path), []
    killed = [True]

    def first(folder: Path) -> None:
        done.append((1, folder))

    def second(folder: Path) -> None:
        done.append((2, folder))
        if killed.pop() if killed else False:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_data(data_dir, to=3, steps={1: first, 2: second})
    assert number(data_dir) == 2
    assert open_data(data_dir, to=3, steps={1: first, 2: second}) == 2
    assert done == [(1, data_dir), (2, data_dir), (2, data_dir)]
    assert number(data_dir) == 3


def test_of_several_processes_one_upgrades(tmp_path: Path) -> None:
    data_dir, done, inside = unnumbered(tmp_path), [], threading.Event()

    def slow(folder: Path) -> None:
        inside.set()
        done.append(folder)

    def begin() -> None:
        open_data(data_dir, to=2, steps={1: slow})

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert done == [data_dir]
    assert number(data_dir) == 2


def test_a_later_one_is_refused_with_a_sentence(tmp_path: Path) -> None:
    data_dir = written_later(tmp_path)
    before = (data_dir / "format.json").read_bytes()
    with pytest.raises(DataFormatRefused) as refused:
        open_data(data_dir, create=True)
    said = str(refused.value)
    assert "has format 7, written by rarefirst 9.9.9" in said
    assert f"reads formats up to {FORMAT}. Start that version or a later one" in said
    assert (data_dir / "format.json").read_bytes() == before
    assert [path.name for path in data_dir.iterdir()] == ["format.json"]


@pytest.mark.parametrize("text", ["", "{", '{"format": "two"}', '{"format": 0}', "\xff", "[]"])
def test_a_number_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path, text: str) -> None:
    data_dir = written_later(tmp_path)
    (data_dir / "format.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataFormatRefused, match="cannot be read, expected"):
        open_data(data_dir)


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        ("web",),
        ("worker",),
        ("status",),
        ("connect", "--project", "1"),
        ("versions", "list", "--project", "1"),
        ("doctor",),
    ],
    ids=lambda words: words[0],
)
def test_every_command_refuses_it_with_exit_code_3(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = written_later(tmp_path)
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(data_dir))
    monkeypatch.setenv("COLUMNS", "240")
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 3, result.output
    assert "has format 7, written by rarefirst 9.9.9" in result.output
    assert [path.name for path in data_dir.iterdir()] == ["format.json"]


@pytest.mark.usefixtures("clean_environment")
def test_nothing_starts_on_it_without_the_command_line_either(tmp_path: Path) -> None:
    """gunicorn started by hand and the official server make a `Jobs`."""
    settings = Settings(data_dir=written_later(tmp_path), port=1, host="127.0.0.1")
    with pytest.raises(DataFormatRefused):
        Jobs(settings)
    with pytest.raises(DataFormatRefused):
        serve(settings.model_copy(update={"port": 0}))


@pytest.mark.usefixtures("clean_environment")
def test_one_that_cannot_be_written_is_not_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = unnumbered(tmp_path)
    (data_dir / "format.lock").mkdir()  # as good as a read-only disk, also for root
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(data_dir))
    monkeypatch.setenv("COLUMNS", "240")
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert "is of an older version and cannot be upgraded: Is a directory" in result.output
