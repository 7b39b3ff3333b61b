"""Writing small files so that a kill at any moment leaves the old text or the new."""

from __future__ import annotations

import os
from pathlib import Path

from models.files import write_text as write_atomically

__all__ = ["append_line", "write_atomically"]


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
