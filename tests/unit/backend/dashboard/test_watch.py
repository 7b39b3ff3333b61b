"""`rarefirst status --watch`: what it shows, and that it ends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from backend.cli import app
from backend.cli_watch import watch, watched
from backend.sparklines import sparkline
from backend.status import service_status
from tests.unit.backend.dashboard.kept import Kept


def shown(kept: Kept) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(watched(kept.settings, service_status(kept.settings)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_found_so_far_stands_below_the_status(kept: Kept) -> None:
    text = shown(kept)
    assert "Project 1: squares" in text
    assert "10 of 100 labels, random order 2.0, 9.0 times as many since label 50" in text
    assert "▁▅█" in text


def test_it_looks_again_until_ctrl_c(kept: Kept) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise KeyboardInterrupt
        kept.report(title=f"look {len(waited)}")

    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    watch(kept.settings, None, console=console, wait=wait)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert len(waited) == 3
    assert all(title in text for title in ("squares", "look 1", "look 2"))


def test_how_long_it_takes_still_is_told(kept: Kept) -> None:
    kept.store.note("embed", 0, 100)
    kept.store.note("embed", 50, 100)
    assert "50 of 100, about 0 s left" in shown(kept)


def test_watching_prints_no_json(clean_environment: None) -> None:
    assert CliRunner().invoke(app, ["status", "--watch", "--json"]).exit_code == 2


@pytest.mark.parametrize(
    ("values", "blocks"), [((), ""), ((0, 0), "  "), ((0, 4, 8), " ▄█"), ((1, 1), "██")]
)
def test_sparklines(values: tuple[int, ...], blocks: str) -> None:
    assert sparkline(values) == blocks
    assert len(sparkline(range(1000))) == 40
