"""Writing small files so that a kill at any moment leaves the old text or the new."""

from __future__ import annotations

import os
from pathlib import Path

from models.files import write_text as write_atomically

__all__ = ["append_line", "thin_lines", "write_atomically"]


def append_line(path: Path, line: str) -> None:
    """Add a line durably; half a line that a killed process left behind is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def thin_lines(path: Path, *, most_bytes: int) -> None:
    """Halve the older half of a file of lines that has grown too large, its first line kept.

    Done again and again, what is old becomes sparse and what is new stays whole.
    """
    try:
        if path.stat().st_size <= most_bytes:
            return
    except FileNotFoundError:
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    old = len(lines) // 2
    write_atomically(path, "\n".join([*lines[:old:2], *lines[old:]]) + "\n")
