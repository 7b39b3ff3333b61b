"""Writing small files so that a kill at any moment leaves the old text or the new."""

from __future__ import annotations

import os
from pathlib import Path

from models.files import write_text as write_atomically

__all__ = ["append_line", "make_data_dir", "write_atomically"]


def make_data_dir(path: Path) -> None:
    """Make the data directory, for its owner only: labels, pictures and names lie in it.

    One that is there stays as it is: whoever made it may have meant to share it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


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
