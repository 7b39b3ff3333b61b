"""A table in a text, between two markers that stay where they are."""

from __future__ import annotations


def replaced(text: str, start: str, end: str, table: str, *, file: str) -> str:
    """The text with this table between the markers.

    Raises: ValueError: where a marker is missing or stands twice; ``file`` says where.
    """
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"expected {start} and {end} once each in {file}")
    before, rest = text.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n{table}\n{end}{after}"
