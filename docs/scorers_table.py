"""The README's table of scorers, written from the scorers themselves.

.venv/bin/python docs/scorers_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from docs.marked_table import replaced
from models.scorers import SCORERS

README: Final = Path(__file__).resolve().parent.parent / "README.md"
START: Final = "<!-- scorers -->"
END: Final = "<!-- /scorers -->"


def table() -> str:
    """One line a scorer, in the order of ``models/scorers/__init__.py``."""
    lines = ["| scorer | orders by | needs |", "|---|---|---|"]
    for name, scorer in SCORERS.items():
        first = (scorer.__doc__ or "").splitlines()[0].rstrip(".").removesuffix(" [O]")
        lines.append(f"| `{name}` | {first} | {scorer.needs} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The README's text with a table that is current.

    Raises: ValueError: where a marker is missing or stands twice.
    """
    return replaced(text, START, END, table(), file=README.name)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    sys.stdout.write(f"{README}: the table of scorers is current\n")
