"""Every threat of docs/SECURITY.md has a test, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "SECURITY.md"
SENDERS = (
    *("Anybody on the network", "Label Studio's server", "Any member of a project"),
    *("Image hosts", "An annotator", "Who can write the data directory", "Other sites"),
)


def rows() -> list[list[str]]:
    """Threat, what protects, and its tests, of every line of the tables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [cells for cells in found if cells[0] != "threat"]


def existing() -> dict[str, list[Path]]:
    """Every test function of the repository, and the files that it stands in."""
    found: dict[str, list[Path]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(path)
    return found


def test_every_threat_has_what_protects_and_a_test_that_exists() -> None:
    known = existing()
    assert len(rows()) > 40
    for cells in rows():
        assert len(cells) == 3, cells
        threat, protects, tested = cells
        assert min(len(threat), len(protects)) > 10, cells
        named = re.findall(r"`(test_\w+)`", tested)
        assert named, f"no test of: {threat}"
        assert [name for name in named if len(known.get(name, [])) != 1] == [], threat


def test_every_security_test_is_named_by_the_page() -> None:
    text = PAGE.read_text()
    here = {name for name, paths in existing().items() if any("security" in p.parts for p in paths)}
    at_length = {name for name in here if name.endswith("_at_length")}  # the same, marked slow
    helpers = {
        "test_the_search_finds_what_it_is_for",
        "test_the_document_lists_every_route_with_its_body",
        "test_the_document_says_what_kind_a_page_is",
        "test_every_schema_is_among_those",
        "test_what_lets_nothing_out_passes",
        "test_the_plugin_searches_this_very_session",
        "test_what_the_document_says_of_a_project_is_taken",
        "test_the_bodies_that_are_bent_are_all_recorded_ones",
        "test_a_whole_picture_in_a_task_is_judged",
    }
    assert helpers <= here
    assert {name for name in here - at_length - helpers if f"`{name}`" not in text} == set()


def test_every_sender_has_a_section() -> None:
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("## ")]
    for sender in SENDERS:
        assert any(line.startswith(f"## {sender}") for line in headings), sender
