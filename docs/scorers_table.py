"""The README's table of scorers, written from the scorers themselves.

.venv/bin/python docs/scorers_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

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
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"expected {START} and {END} once each in {README.name}")
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    sys.stdout.write(f"{README}: the table of scorers is current\n")
