from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.simulation.report import SimulationReport
from tests.unit.backend.simulation.squares_on_disk import write_squares


@pytest.fixture
def squares(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set, and the environment that a person would set."""
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RAREFIRST_BACKBONE", "tests.unit.models.own_networks:TinyNetwork")
    monkeypatch.setenv("COLUMNS", "120")
    folder = write_squares(tmp_path / "squares", red=40, green=40, blue=8)
    (folder / "red" / "000.png").write_bytes(b"<html>")
    return folder


def _simulate(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_tables_and_files(squares: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = ("--start", "24", "--rounds", "2", "--batch", "3", "--repeats", "2")
    code, shown, said = _simulate(
        str(squares), "--scorers", "tail_mass, entropy", *few, "--out", str(out)
    )
    assert code == 0, said
    lines = shown.splitlines()
    assert any(line.startswith("rare") and "blue 6 of 63 in the pool" in line for line in lines)
    assert "1 image could not be read" in shown
    assert re.search(r"red/000\.png .* a web page", shown)
    # Labels, tail mass, entropy, random.
    (row,) = [line for line in lines if re.match(r"│ +6 │", line)]
    assert re.match(r"│ +6 │ +6\.0 │", row)
    saved = [line for line in lines if re.search(r"50%: 3 of 6 .* tail_mass ", line)]
    assert re.search(r"│ +3 │", saved[0])
    assert "raise --rounds or --batch" in shown  # entropy does not find them
    assert not re.search(r"90%: .* entropy ", shown)
    assert {path.name for path in out.iterdir()} >= {"simulate.json", "simulate.png"}
    assert f"{out}/simulate.json" in shown
    assert "games" in said  # the bar is for people, on the other stream


def test_json(squares: Path, tmp_path: Path) -> None:
    few = ("--start", "24", "--rounds", "1", "--repeats", "1", "--scorers", "random", "--json")
    code, shown, said = _simulate(str(squares), "--tail", "blue, red", *few)
    assert code == 0, said
    report = SimulationReport.model_validate(json.loads(shown))
    assert report.tail == ("blue", "red")
    stored = tmp_path / "data" / "simulate" / "results" / "squares" / "simulate.json"
    assert SimulationReport.model_validate_json(stored.read_bytes()) == report


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tail", "pink"), "tail classes pink, expected some of blue, green, red"),
        (("--scorers", "luck"), "scorers luck; expected some of rarefirst"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(
    squares: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, shown, said = _simulate(str(squares), *arguments)
    assert code == 1
    assert words in said
    assert shown == ""
    assert "Traceback" not in said


def test_a_data_set_that_is_not_there(squares: Path) -> None:
    code, _, said = _simulate(str(squares / "gone"))
    assert code == 1
    assert "does not exist" in said


def test_a_folder_that_cannot_be_made(squares: Path) -> None:
    code, _, said = _simulate(str(squares), "--out", str(squares / "red" / "001.png"))
    assert code == 1
    assert "--out" in said


def test_many_orders_are_shown_one_below_another(squares: Path) -> None:
    names = ("max_score", "entropy", "tail_mass", "diversity", "margin", "random")
    few = ("--start", "24", "--rounds", "7", "--batch", "1", "--repeats", "1")
    code, shown, said = _simulate(str(squares), "--scorers", ",".join(names), *few)
    assert code == 0, said
    found, by_class, saved = re.split(r"Of each rare class|Labels saved", shown)
    header = next(line for line in found.splitlines() if "labels" in line and "┃" in line)
    assert re.findall(r"\d+", header) == ["1", "3", "5", "7"]
    for name in names:
        (row,) = [line for line in found.splitlines() if line.startswith(f"│ {name} ")]
        assert len(re.findall(r"\d\.0", row)) == 4
        assert len(re.findall(f"│ {name} ", by_class)) == 1
    assert re.search(r"90%: 6 of 6 .*tail_mass", saved)


def test_a_share_that_nobody_reaches_takes_one_line(squares: Path) -> None:
    few = ("--start", "24", "--rounds", "1", "--batch", "1", "--repeats", "1")
    code, shown, said = _simulate(str(squares), "--scorers", "tail_mass,entropy", *few)
    assert code == 0, said
    assert len(re.findall("none reached it", shown)) == 3


def test_a_full_disk_is_a_sentence(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/kept.json")

    monkeypatch.setattr("backend.simulation.replay.SimulatedModel.read", full)
    code, _, said = _simulate(str(squares), "--start", "24")
    assert code == 1
    assert "/data/kept.json cannot be written (No space left on device)" in said
    assert "Traceback" not in said
