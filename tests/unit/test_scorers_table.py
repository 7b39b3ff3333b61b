"""The README's table of scorers is that of the code."""

from __future__ import annotations

from docs.scorers_table import README, table, with_table
from models.scorers import SCORERS


def test_the_table_is_current() -> None:
    text = README.read_text()
    assert with_table(text) == text, "run `.venv/bin/python docs/scorers_table.py`"


def test_every_scorer_has_a_line_with_what_it_needs() -> None:
    lines = table().splitlines()[2:]
    assert len(lines) == len(SCORERS)
    for line, (name, scorer) in zip(lines, SCORERS.items(), strict=True):
        cells = [cell.strip() for cell in line.split("|")]
        # A vertical bar in a docstring would tear the table.
        assert len(cells) == 5, line
        assert cells[1] == f"`{name}`"
        assert len(cells[2]) > 20, line
        assert cells[3] == str(scorer.needs)
